"""soft_wpmi: wpmi whose strongest images belong to the set with a probability that falls with their rank.

The sum of log(1 + p_r (S - 1)) over a unit's images is taken by a polynomial in S for ranks where it is exact enough.
"""

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.polynomial import Chebyshev, Polynomial
from torch import Tensor

from cd_exp.errors import InputError
from cd_exp.records import TopActivations
from cd_exp.similarity.match import (
    Activations,
    DenseOrFactored,
    as_top_activations,
    check_at_least,
    concept_slices,
    match_shape,
    take_images,
)
from cd_exp.similarity.prior import subtract_prior
from cd_exp.similarity.registry import RankSum, similarity_function
from cd_exp.similarity.top_images import (
    BLOCK_BYTES,
    UNITS_AT_A_TIME,
    Bags,
    Block,
    ConceptTiles,
    add_image_sums,
    choose_tile_width,
    number_images,
    top_image_blocks,
)

LIMITS = (8e-4, 0.016, 0.07, 0.175, 0.33, 0.53)
"""Up to which x the polynomial of degree 1, 2, ... is within `ERROR` of log(1 + x)."""

ERROR = 2e-7
"""About what rounding to float32 does to a factor near 1."""


def soft_likelihood(
    match: DenseOrFactored,
    lists: TopActivations,
    *,
    scale: float,
    base: Float[Tensor, " ranks"],
    slope: Float[Tensor, " ranks"],
    width: int | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Float[Tensor, "neurons concepts"]:
    """sum over ranks r of log(base[r] + slope[r] * S[image of rank r, concept]).

    Args:
        match: checked.
        lists: each unit's strongest images, as many as there are ranks or all.
        scale: of the softmax over concepts.
        base: of each rank, above 0, best rank first; ranks beyond the number of images are left out.
        slope: of each rank, not negative.
        width: concepts per tile; by default what suits the number of units.
        block_bytes: how much a block of images x concepts takes at most.
    """
    images, concepts = match_shape(match)
    base, slope = base[:images].double().cpu(), slope[:images].double().cpu()
    likelihood = lists.values.new_zeros(lists.shape[1], concepts)
    for block in top_image_blocks(match, lists, scale=scale, width=width, block_bytes=block_bytes):
        _add_logs(likelihood, block, slope / base)
    return likelihood.add_(base.log().sum().item())


def _add_logs(likelihood: Float[Tensor, "neurons concepts"], block: Block, ratio: Float[Tensor, " ranks"]) -> None:
    """Add log(1 + ratio * S) of the images of one block, in place."""
    greatest = torch.stack([tile.max() for _, tile in block.tiles]).max().item()
    degrees = np.searchsorted(LIMITS, ratio.numpy() * greatest).tolist()
    orders = [Bags.of(block, weights.to(likelihood)) for weights in _membership_weights(ratio, degrees)]
    large = [rank for rank, degree in enumerate(degrees) if degree == len(LIMITS)]
    power = torch.empty_like(block.tiles[0][1]).flatten()
    for columns, tile in block.tiles:
        scores = likelihood[:, columns]
        for rank in large:
            units = block.here[:, rank].nonzero().flatten()
            factors = tile.index_select(0, block.rows[units, rank]).mul_(ratio[rank].item())
            scores.index_add_(0, units, factors.log1p_())
        raised = tile
        for order, bags in enumerate(orders):
            if order:
                raised = torch.mul(raised, tile, out=power[: tile.numel()].view_as(tile))
            scores += bags.sums(raised)


def _membership_weights(ratio: Float[Tensor, " ranks"], degrees: list[int]) -> list[Float[Tensor, " ranks"]]:
    """Of S, S^2, ... in the polynomial of each rank; 0 where it has no such term."""
    weights = torch.zeros(len(LIMITS), len(ratio), dtype=torch.float64)
    for rank, degree in enumerate(degrees):
        if degree < len(LIMITS):
            weights[: degree + 1, rank] = _log_polynomial(degree + 1)
    weights *= ratio ** torch.arange(1, len(LIMITS) + 1)[:, None]
    return [terms for terms in weights if terms.any()]


@cache
def _log_polynomial(degree: int) -> Float[Tensor, " degree"]:
    """c_1, c_2, ... of log(1 + x) = c_1 x + c_2 x^2 + ... for 0 <= x <= LIMITS[degree - 1]."""
    domain = [0, LIMITS[degree - 1]]
    quotient = Chebyshev.interpolate(lambda x: np.log1p(x) / x, degree - 1, domain=domain)
    return torch.from_numpy(quotient.convert(kind=Polynomial).coef)


def _soft_wpmi_terms(
    *, top_k: int, scale: float, first_membership: float, last_membership: float, min_probability: float, **_: object
) -> RankSum:
    def term(ranks: Tensor, cells: Tensor) -> Tensor:
        member = first_membership - ranks / top_k * (first_membership - last_membership)
        return torch.addcmul(1 - member + min_probability, member, cells).log_()

    def position(ranks: Tensor) -> Tensor:  # the term itself where S is 0; log(exp(position) + S) is smooth in it
        return term(ranks, torch.zeros_like(ranks))

    return RankSum(top_k, scale, term, position)


def soft_wpmi_likelihoods(
    match: DenseOrFactored,
    lists: TopActivations,
    *,
    top_k: int,
    scale: float,
    first_membership: float,
    last_membership: float,
    min_probability: float,
    width: int | None = None,
    at_once: int = UNITS_AT_A_TIME,
    **_: object,
) -> Iterator[tuple[slice, Float[Tensor, "neurons block"]]]:
    """The sum over ranks of `soft_wpmi` for all units, `width` concepts after others, each overwritten by the next;
    images are looked up for `at_once` units in one call.

    As `soft_likelihood` but for rounding: there the images go in blocks, here the concepts.
    """
    member, base = _membership_and_base(top_k, first_membership, last_membership, min_probability)
    base, ratio = base[: lists.images], (member / base)[: lists.images]
    needed, rows = number_images(lists, at_once=at_once)
    width = width or choose_tile_width(len(needed), len(rows))
    tiles = ConceptTiles.of(take_images(match, needed), scale=scale, width=width)
    degrees = np.searchsorted(LIMITS, ratio.numpy() * tiles.greatest).tolist()
    orders = [weights.to(tiles.total) for weights in _membership_weights(ratio, degrees)]
    buffer = tiles.total.new_empty(len(rows) * width)
    for columns, tile in tiles:
        sums = buffer[: len(rows) * tile.shape[1]].view(len(rows), -1).zero_()
        for rank, degree in enumerate(degrees):
            if degree == len(LIMITS):
                _add_rank_logs(sums, tile, rows[:, rank], ratio[rank].item(), at_once)
        raised = tile
        for order, weights in enumerate(orders):
            raised = raised * tile if order else tile
            add_image_sums(sums, raised, rows, weights, at_once=at_once)
        yield columns, sums.add_(base.log().sum().item())


def _add_rank_logs(sums: Tensor, tile: Tensor, rows: Int[Tensor, " neurons"], ratio: float, at_once: int) -> None:
    """Add log(1 + ratio * S) of one image of each unit, in place."""
    for units in concept_slices(len(sums), at_once):
        sums[units] += tile.index_select(0, rows[units]).mul_(ratio).log1p_()


def _membership_and_base(
    top_k: int, first: float, last: float, min_probability: float
) -> tuple[Float[Tensor, " ranks"], Float[Tensor, " ranks"]]:
    """p_r, and 1 - p_r + min_probability, checked."""
    member = membership_probabilities(top_k, first, last)
    check_at_least("min_probability", min_probability, 1e-30)
    return member, 1 - member + min_probability


@similarity_function(
    strongest=lambda images, top_k, **_: top_k, terms=_soft_wpmi_terms, likelihoods=soft_wpmi_likelihoods
)
def soft_wpmi(
    match: DenseOrFactored,
    neurons: Activations,
    *,
    top_k: int = 100,
    scale: float = 10.0,
    prior_weight: float = 1.0,
    first_membership: float = 0.998,
    last_membership: float = 0.97,
    min_probability: float = 1e-7,
    prior_units: str = "all",
    prior: Float[Tensor, " concepts"] | None = None,
    layers: Sequence[int] | None = None,
) -> Float[Tensor, "neurons concepts"]:
    """As `wpmi`, but each of the strongest images belongs to the set only with a probability that falls with its rank.

    score[k, t] = sum_r log(1 + p_r (S[i_r, t] - 1) + min_probability) - prior_weight * prior[t], where S is the softmax
    over concepts of scale * P, i_r the image of rank r for unit k, and p_r falls linearly from `first_membership` at
    rank 0 towards `last_membership` at rank `top_k`, exclusive. prior[t] is the log of the mean over units of exp of
    the first term: one unit alone scores 0 everywhere.

    The prior depends on the units of the call: pass all units of a layer together (`score_blocks` does that piece by
    piece), or the layer's own prior. With fewer than `top_k` images all of them count, with the p_r of their rank. A
    dead unit takes any `top_k` images.

    Args:
        match: concept activations, images x concepts, dense or factored.
        neurons: activations, images x neurons, or each unit's strongest.
        top_k: images that count.
        scale: of the softmax over concepts (the paper's a).
        prior_weight: of the prior (the paper's lambda).
        first_membership: probability that the strongest image belongs to the set, from 0 to 1.
        last_membership: the same at rank `top_k`.
        min_probability: keeps the logarithm finite, above 0.
        prior_units: `all`, or `alive` to leave units out of the prior that give the same value for every image.
        prior: of each concept, instead of that of these units.
        layers: how many of the units, in order, belong to each layer, where several are scored together.

    Raises:
        InputError: for activations that are not finite, images that differ, or a setting out of range.

    >>> match = torch.tensor([[0.3, 0.1], [0.1, 0.3]])  # image 0 shows concept 0, image 1 concept 1
    >>> soft_wpmi(match, torch.eye(2), top_k=1).argmax(dim=1)
    tensor([0, 1])

    Source: CLIP-Dissect (arXiv:2204.10965), section 3 and appendix.
    """
    member, base = _membership_and_base(top_k, first_membership, last_membership, min_probability)
    match, lists = as_top_activations(match, neurons, top_k)
    likelihood = soft_likelihood(match, lists, scale=scale, base=base, slope=member)
    return subtract_prior(likelihood, neurons, weight=prior_weight, prior=prior, units=prior_units, layers=layers)


def membership_probabilities(top_k: int, first: float, last: float) -> Float[Tensor, " ranks"]:
    """p_r = first - r / top_k * (first - last), for r = 0 ... top_k - 1.

    >>> membership_probabilities(4, 0.998, 0.97).tolist()
    [0.998, 0.991, 0.984, 0.977]
    """
    check_at_least("top_k", top_k, 1)
    if not (0 <= first <= 1 and 0 <= last <= 1):
        raise InputError(f"first_membership={first} and last_membership={last} are probabilities; give 0 to 1")
    return first - torch.arange(top_k, dtype=torch.float64) / top_k * (first - last)
