"""Rank reorder: how far activations move when they are put in the order of the matches."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cd_exp.errors import InputError
from cd_exp.similarity.match import (
    Activations,
    DenseOrFactored,
    as_top_activations,
    check_at_least,
    concept_slices,
    match_shape,
    take_images,
    take_some,
    take_tile,
)
from cd_exp.similarity.registry import similarity_function

CELLS = 2**24
"""The most images x concepts of one tile: 64 MiB."""

MIN_MEAN = 1e-6
"""A mean match below this counts as this: it is zero up to the rounding of float32, or negative."""


def _images_read(images: int, top_fraction: float, **_: object) -> int:
    """How many images count: the share, rounded down, and at least one."""
    if not 0 < top_fraction <= 1:
        raise InputError(f"top_fraction={top_fraction} is no share of the images; give more than 0 and at most 1")
    return max(1, int(images * top_fraction))


@similarity_function(strongest=_images_read)
def rank_reorder(
    match: DenseOrFactored,
    neurons: Activations,
    *,
    top_fraction: float = 0.05,
    power: float = 3.0,
    scale_power: float = 0.5,
    permutations: int = 5,
    seed: int = 0,
    columns: Int[Tensor, "neurons chosen"] | None = None,
) -> Float[Tensor, "neurons _"]:
    """How much better than chance the matches put a unit's strongest activations in order.

    On unit k's strongest images, with their activations a sorted upwards as s:
    score[k, t] = -(mean_r |a[image of rank r by P] - s[r]|^power / the same for random orders) / mean(P)^scale_power.

    The random orders are drawn from `seed`, the same for every unit, so neither the order nor the number of units
    changes a score. Equal matches are ordered against the concept. Where the activations do not vary (a dead unit, one
    image) every order is as good as chance and the ratio is 1; a mean match that is not positive counts as 1e-6, where
    the published code gives NaN. At least one image is taken, however few there are.

    Args:
        match: concept activations, images x concepts, dense or factored.
        neurons: activations, images x neurons, or each unit's strongest.
        top_fraction: of the images, above 0, at most 1.
        power: of the differences (the paper's p).
        scale_power: of the mean match.
        permutations: random orders to average over.
        seed: of the random orders.
        columns: for each unit the concepts to score, instead of all of them.

    Raises:
        InputError: for activations that are not finite, images that differ, or a setting out of range.

    >>> match = torch.tensor([[0.1, 0.3], [0.2, 0.2], [0.3, 0.1]])  # concept 0 rises as the unit does
    >>> rank_reorder(match, torch.tensor([[1.0], [2.0], [3.0]]), top_fraction=1.0).argmax(dim=1)
    tensor([0])

    Source: CLIP-Dissect (arXiv:2204.10965), section 3 and appendix.
    """
    check_at_least("permutations", permutations, 1)
    match, lists = as_top_activations(match, neurons, _images_read(neurons.shape[0], top_fraction))
    values, chosen = lists.values, lists.indices
    fall = (values[0] - values).T.contiguous()  # from the largest: rises from 0, and differences are the same
    chance = _chance_disorder(fall, power=power, permutations=permutations, seed=seed)
    needed, rows = torch.unique(chosen.T.contiguous(), return_inverse=True)
    match, concepts = take_images(match, needed), match_shape(match)[1]

    def score(matched: Float[Tensor, "top block"], unit: int) -> Float[Tensor, " block"]:
        error = _disorder(matched, fall[unit], power=power)
        ratio = torch.where(chance[unit] > 0, error / chance[unit], 1.0)
        return -ratio / matched.mean(dim=0).clamp(min=MIN_MEAN) ** scale_power

    if columns is not None:
        matches = (take_some(match, rows[unit], columns[unit]) for unit in range(len(rows)))
        return torch.stack([score(matched, unit) for unit, matched in enumerate(matches)])
    scores = values.new_empty(values.shape[1], concepts)
    for block in concept_slices(concepts, min(1024, max(16, CELLS // len(needed)))):
        part = take_tile(match, block)
        for unit in range(len(rows)):
            scores[unit, block] = score(part.index_select(0, rows[unit]), unit)
    return scores


def _chance_disorder(
    fall: Float[Tensor, "neurons images"], *, power: float, permutations: int, seed: int
) -> Float[Tensor, " neurons"]:
    """Mean |a - a reordered|^power over random orders: the same orders for every unit."""
    generator = torch.Generator().manual_seed(seed)
    total = fall.new_zeros(len(fall))
    for _ in range(permutations):
        order = torch.randperm(fall.shape[1], generator=generator).to(fall.device)
        total += (fall.flip(1) - fall.flip(1)[:, order]).abs_().pow_(power).mean(dim=1)
    return total / permutations


def _disorder(
    matched: Float[Tensor, "images block"], fall: Float[Tensor, " images"], *, power: float
) -> Float[Tensor, " block"]:
    """mean_r |a[image of rank r by match] - s[r]|^power with one sort, where two would rank the images.

    A key of 64 bits has the match above and the activation below, so sorting the keys brings the activations along. The
    bits of a float32 sort as integers once those of negative numbers are turned round. `fall` is never negative.
    """
    keys = torch.empty(*matched.T.shape, 2, dtype=torch.int32, device=matched.device)
    bits = matched.T.view(torch.int32)
    torch.bitwise_xor(bits, (bits >> 31) & 0x7FFFFFFF, out=keys[..., 1])
    keys[..., 0] = fall.view(torch.int32)
    carried = _sort_by_match(keys.view(torch.int64)[..., 0]).view(torch.int32).view_as(keys)[..., 0].view(torch.float32)
    return (carried - fall.flip(0)).abs_().pow_(power).mean(dim=1)


def _sort_by_match(keys: Int[Tensor, "block images"]) -> Int[Tensor, "block images"]:
    """Rows sorted. On the CPU by numpy, whose vectorised sort of integers took a quarter of the time of torch's."""
    if keys.device.type != "cpu":
        return keys.sort(dim=1).values
    keys.numpy().sort(axis=1)
    return keys
