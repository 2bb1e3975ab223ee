"""Weighted pointwise mutual information."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.records import TopActivations
from cd_exp.similarity.match import (
    Activations,
    DenseOrFactored,
    as_top_activations,
    check_at_least,
    match_shape,
    take_images,
)
from cd_exp.similarity.prior import subtract_prior
from cd_exp.similarity.registry import RankSum, similarity_function
from cd_exp.similarity.top_images import (
    BLOCK_BYTES,
    UNITS_AT_A_TIME,
    Bags,
    ConceptTiles,
    add_image_sums,
    choose_tile_width,
    number_images,
    top_image_blocks,
)


def _wpmi_terms(*, top_k: int, scale: float, min_probability: float, **_: object) -> RankSum:
    return RankSum(top_k, scale, lambda ranks, cells: cells.add(min_probability).log_(), position=None)


def wpmi_likelihoods(
    match: DenseOrFactored,
    lists: TopActivations,
    *,
    scale: float,
    min_probability: float,
    width: int | None = None,
    at_once: int = UNITS_AT_A_TIME,
    **_: object,
) -> Iterator[tuple[slice, Float[Tensor, "neurons block"]]]:
    """The sum over images of `wpmi` for all units, `width` concepts after others; images are looked up for `at_once`
    units in one call.
    """
    check_at_least("min_probability", min_probability, 1e-30)
    needed, rows = number_images(lists, at_once=at_once)
    width = width or choose_tile_width(len(needed), len(rows))
    for columns, tile in ConceptTiles.of(take_images(match, needed), scale=scale, width=width):
        sums = tile.new_zeros(len(rows), tile.shape[1])
        logs, ones = tile.add_(min_probability).log_(), tile.new_ones(rows.shape[1])
        add_image_sums(sums, logs, rows, ones, at_once=at_once)
        yield columns, sums


def sum_log_probabilities(
    match: DenseOrFactored,
    lists: TopActivations,
    *,
    scale: float,
    min_probability: float,
    width: int | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Float[Tensor, "neurons concepts"]:
    """sum over a unit's images of log(S + min_probability), block by block of images.

    Args:
        match: checked.
        lists: each unit's strongest images, all of which count.
        scale: of the softmax over concepts.
        min_probability: keeps the logarithm finite.
        width: concepts per tile; by default what suits the number of units.
        block_bytes: how much a block of images x concepts takes at most.
    """
    likelihood = lists.values.new_zeros(lists.shape[1], match_shape(match)[1])
    for block in top_image_blocks(match, lists, scale=scale, width=width, block_bytes=block_bytes):
        bags = Bags.of(block, torch.ones_like(lists.values[:, 0]))
        for columns, tile in block.tiles:
            likelihood[:, columns] += bags.sums(tile.add_(min_probability).log_())
    return likelihood


@similarity_function(strongest=lambda images, top_k, **_: top_k, terms=_wpmi_terms, likelihoods=wpmi_likelihoods)
def wpmi(
    match: DenseOrFactored,
    neurons: Activations,
    *,
    top_k: int = 28,
    scale: float = 2.0,
    prior_weight: float = 0.6,
    min_probability: float = 1e-7,
    prior_units: str = "all",
    prior: Float[Tensor, " concepts"] | None = None,
    layers: Sequence[int] | None = None,
) -> Float[Tensor, "neurons concepts"]:
    """How likely the concept is in the images a unit responds to most, against how likely it is for units in general.

    score[k, t] = sum_B log(S[i, t] + min_probability) - prior_weight * prior[t], where S is the softmax over concepts
    of scale * P, B the `top_k` strongest images of unit k, and prior[t] the log of the mean over units of exp of
    the first term.

    The prior depends on the units of the call: pass all units of a layer together (`score_blocks` does that piece by
    piece), or the layer's own prior. With fewer than `top_k` images all of them count. A dead unit takes any `top_k`
    images.

    Args:
        match: concept activations, images x concepts, dense or factored.
        neurons: activations, images x neurons, or each unit's strongest.
        top_k: images that count.
        scale: of the softmax over concepts (the paper's a).
        prior_weight: of the prior (the paper's lambda).
        min_probability: keeps the logarithm finite, above 0.
        prior_units: `all`, or `alive` to leave units out of the prior that give the same value for every image.
        prior: of each concept, instead of that of these units.
        layers: how many of the units, in order, belong to each layer, where several are scored together.

    Raises:
        InputError: for activations that are not finite, images that differ, or a setting out of range.

    >>> match = torch.tensor([[0.3, 0.1], [0.1, 0.3]])  # image 0 shows concept 0, image 1 concept 1
    >>> wpmi(match, torch.eye(2), top_k=1).argmax(dim=1)
    tensor([0, 1])

    Source: CLIP-Dissect (arXiv:2204.10965), section 3 and appendix.
    """
    check_at_least("top_k", top_k, 1)
    check_at_least("min_probability", min_probability, 1e-30)
    match, lists = as_top_activations(match, neurons, top_k)
    likelihood = sum_log_probabilities(match, lists, scale=scale, min_probability=min_probability)
    return subtract_prior(likelihood, neurons, weight=prior_weight, prior=prior, units=prior_units, layers=layers)
