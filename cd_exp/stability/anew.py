"""The scores of a resample from sums of terms: the prior over the units is taken anew, from each unit's candidates."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cd_exp.similarity.prior import EPSILON

COVERED = 1e-3
"""A share of a prior below this is no more than the error of interpolated terms."""

FAR = 1e260
"""So many times as likely as a prior a concept fits one unit alone; sums of more leave double precision."""

SAME = 4 * EPSILON
"""Sums that differ by less, as a share of them, differ by the order in which they were added up."""


class LayerPrior(NamedTuple):
    """The weight of the prior of a layer, and which of its units it is over."""

    weight: float
    counted: Bool[Tensor, " neurons"]


class Candidates(NamedTuple):
    """The best concepts of each unit, best first."""

    scores: Float[Tensor, "neurons candidates"]
    columns: Int[Tensor, "neurons candidates"]


def winners(
    sums: Float[Tensor, "neurons draws candidates"],
    candidates: Candidates,
    prior: LayerPrior | None,
    place: Int[Tensor, " concepts"],
) -> Int[Tensor, "resamples neurons"]:
    """The column of each unit's label in every resample.

    The sum of terms is the likelihood L, and score = L - weight * prior, where the prior of a concept is the log of the
    mean of exp L over the units. A unit adds to it what its own L adds where the concept is among its candidates; all
    other units together keep the share that they have with all images. What is equal within the rounding of L goes to
    the higher L, and of equal L to the first name, as in the scores themselves. A function without such a prior differs
    by the sums alone.

    Args:
        sums: of the terms; draw 0 is all images as they are.
        candidates: of each unit.
        prior: of the function.
        place: of each concept in the order of the names.
    """
    columns = candidates.columns
    order = place[columns]
    if prior is None:
        offset = candidates.scores.double() - sums[:, 0]
        best = [_first(sums[:, draw] + offset, sums[:, draw], order) for draw in range(1, sums.shape[1])]
    else:
        usual, rest = _prior_of_all(sums[:, 0].double(), candidates, prior, len(place))
        own = usual[columns]
        best = [_best(sums[:, draw].double(), columns, prior, own, rest, order) for draw in range(1, sums.shape[1])]
    return torch.stack([columns.gather(1, at[:, None])[:, 0] for at in best])


def _prior_of_all(
    likelihood: Float[Tensor, "neurons candidates"], candidates: Candidates, prior: LayerPrior, concepts: int
) -> tuple[Float[Tensor, " concepts"], Float[Tensor, " concepts"]]:
    """The prior of each concept with all images, as the scores have it, and the share of the units not seen here."""
    scores, columns = candidates.scores.flatten(), candidates.columns.flatten()
    highest = scores.new_full((concepts,), -torch.inf).scatter_reduce(0, columns, scores, "amax")
    chosen = scores == highest[columns]  # the unit that a concept fits best: its score is the least rounded
    usual = likelihood.new_zeros(concepts)
    usual[columns[chosen]] = (likelihood.flatten()[chosen] - scores[chosen].double()) / prior.weight
    rest = 1 - _share(likelihood - usual[candidates.columns], candidates.columns, prior, concepts)
    return usual, torch.where(rest > COVERED, rest, 0.0)


def _share(
    above: Float[Tensor, "neurons candidates"],
    columns: Int[Tensor, "neurons candidates"],
    prior: LayerPrior,
    concepts: int,
) -> Float[Tensor, " concepts"]:
    """The mean of exp L over the units, of those whose candidate a concept is, as a share of that of all images.

    Args:
        above: L less the usual prior of the concept.
        columns: of the concepts.
        prior: says which units count.
        concepts: how many there are.
    """
    counted = prior.counted if prior.counted.any() else torch.ones_like(prior.counted)
    factors = above.exp().clamp_(max=FAR)
    if not counted.all():
        factors *= counted[:, None]
    return factors.new_zeros(concepts).index_add_(0, columns.flatten(), factors.flatten()) / counted.sum()


def _best(
    likelihood: Float[Tensor, "neurons candidates"],
    columns: Int[Tensor, "neurons candidates"],
    prior: LayerPrior,
    usual: Float[Tensor, "neurons candidates"],
    rest: Float[Tensor, " concepts"],
    order: Int[Tensor, "neurons candidates"],
) -> Int[Tensor, " neurons"]:
    above = likelihood - usual
    change = (_share(above, columns, prior, len(rest)) + rest).clamp(min=1e-300).log()
    scores = above if prior.weight == 1 else torch.add(likelihood, usual, alpha=-prior.weight)
    scores -= (prior.weight * change)[columns]
    best, at = scores.max(dim=1, keepdim=True)
    tied = scores >= best - EPSILON / 2 * likelihood.gather(1, at).abs()
    several, at = (tied.sum(dim=1) > 1).nonzero().flatten(), at[:, 0]
    if len(several):
        likelier = torch.where(tied[several], likelihood[several], -torch.inf)
        at[several] = _first(likelier, likelihood[several], order[several])
    return at


def _first(
    scores: Float[Tensor, "neurons candidates"],
    sums: Float[Tensor, "neurons candidates"],
    order: Int[Tensor, "neurons candidates"],
) -> Int[Tensor, " neurons"]:
    """The best candidate of each unit; of those equal but for the rounding of their sums, the first in order."""
    best, at = scores.max(dim=1, keepdim=True)
    equal = scores >= best - SAME * sums.gather(1, at).abs()
    several = (equal.sum(dim=1) > 1).nonzero().flatten()
    if len(several):
        at[several, 0] = torch.where(equal[several], order[several], torch.iinfo(order.dtype).max).argmin(dim=1)
    return at[:, 0]
