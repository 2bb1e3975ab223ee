"""The prior of a concept, how well it fits the units of its layer on average, and the order of scores that are equal.

With a weight of 1 no score exceeds log(units): likelihood - log mean exp likelihood is log(units) for a unit so far
above the others that the mean is its own share. The published arithmetic subtracts two numbers of some hundreds in
float32, which leaves its result uncertain by their rounding, and there the scores of many concepts are equal or ordered
by chance. Here the prior is taken and subtracted in double, and scores of a unit that lie within that rounding of its
best are ordered by their likelihood.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cd_exp.errors import InputError
from cd_exp.similarity.match import Activations, concept_slices, find_dead_units

EPSILON = torch.finfo(torch.float32).eps
"""The spacing of float32 above 1; rounding to the nearest moves a number by at most half of it, times its size."""

CELLS = 2**22
"""The most cells that are held in double at a time: 32 MiB."""


def subtract_prior(
    likelihood: Float[Tensor, "neurons concepts"],
    neurons: Activations,
    *,
    weight: float,
    prior: Float[Tensor, " concepts"] | None = None,
    units: str = "all",
    layers: Sequence[int] | None = None,
) -> Float[Tensor, "neurons concepts"]:
    """likelihood - weight * prior, in place, with scores that are equal but for rounding in order of their likelihood.

    Args:
        likelihood: of these units.
        neurons: their activations, or the strongest of them.
        weight: of the prior.
        prior: of each concept, where it comes from elsewhere.
        units: which units the prior is over: `all`, or `alive` to leave out dead ones.
        layers: how many of the units, in order, belong to each layer; by default one layer.

    Raises:
        InputError: another word for `units`.
    """
    counts = prior_mask(neurons, units)
    for part in _split_layers(len(likelihood), layers):
        scores = likelihood[part]
        log_prior = layer_prior(scores, counts[part]) if prior is None else prior.double()
        for columns in concept_slices(scores.shape[1], max(1, CELLS // len(scores))):
            scores[:, columns] = scores[:, columns].double() - weight * log_prior[columns]
        if weight:
            for rows in concept_slices(len(scores), max(1, CELLS // scores.shape[1])):
                order_ties(scores[rows], log_prior[None], weight=weight)
    return likelihood


def prior_mask(neurons: Activations, units: str) -> Bool[Tensor, " neurons"]:
    """Which units the prior is over.

    >>> prior_mask(torch.tensor([[1.0, 0.0], [1.0, 2.0]]), "alive").tolist()  # unit 0 is dead
    [False, True]
    """
    if units not in ("all", "alive"):
        raise InputError(f"prior_units={units!r}: expected all, or alive to leave dead units out")
    unresponsive = find_dead_units(neurons)
    return torch.ones_like(unresponsive) if units == "all" else ~unresponsive


def layer_prior(
    likelihood: Float[Tensor, "neurons concepts"], counts: Bool[Tensor, " neurons"]
) -> Float[Tensor, " concepts"]:
    """Log of the mean likelihood over the units that count, in double, streamed over concepts.

    >>> likelihood = torch.tensor([[0.0, 1.0], [0.0, 3.0]])
    >>> [round(value, 4) for value in layer_prior(likelihood, torch.tensor([True, True])).tolist()]  # log of a mean
    [0.0, 2.4338]
    """
    number = int(counts.sum())
    if not number:  # a layer whose units are all dead has a prior all the same
        counts, number = torch.ones_like(counts), len(counts)
    parts = []
    for columns in concept_slices(likelihood.shape[1], max(1, CELLS // len(likelihood))):
        part = likelihood[:, columns]
        parts.append((part if number == len(part) else part[counts]).double().logsumexp(dim=0))
    return torch.cat(parts) - math.log(number)


def order_ties(
    scores: Float[Tensor, "neurons concepts"], prior: Float[Tensor, "#neurons concepts"], *, weight: float
) -> None:
    """Order, in place, what lies within rounding of each unit's best score by likelihood, the highest first.

    The rounding is `tie_rounding`. Within it a higher likelihood is a higher prior, since
    score = likelihood - weight * prior. The scores get steps of one rounding of the best score, as far as these fit in,
    so that no score moves by more than its own uncertainty (or one digit of float32, where that is more).

    Args:
        scores: of all concepts, or of concepts of each unit's own.
        prior: of these concepts, one row for all units or a row for each.
        weight: of the prior.
    """
    best, rounding = scores.amax(dim=1), tie_rounding(scores, prior, weight=weight)
    tied = scores >= (best - rounding)[:, None]
    rows = (tied.sum(dim=1) > 1).nonzero().flatten()
    if not len(rows):
        return
    order, level = _order_by_prior(prior if len(prior) == 1 else prior[rows])
    order, level = order.expand(len(rows), -1), level.expand(len(rows), -1)
    tied = tied[rows].gather(1, order)
    # A concept opens a step where it is tied and its prior is below that of the last tied one: equal priors share one.
    last = torch.where(tied, level, -1).cummax(dim=1).values
    opens = tied & (level > torch.nn.functional.pad(last[:, :-1], (1, 0), value=-1))
    step = EPSILON * best[rows].abs().clamp(min=1)[:, None]
    lower = torch.minimum((opens.cumsum(dim=1) - 1) * step, rounding[rows][:, None].maximum(step))
    kept = scores[rows].gather(1, order)
    several = opens.sum(dim=1, keepdim=True) > 1
    scores[rows[:, None], order] = torch.where(tied & several, best[rows][:, None] - lower, kept)


def tie_rounding(
    scores: Float[Tensor, "neurons concepts"], prior: Float[Tensor, "#neurons concepts"], *, weight: float
) -> Float[Tensor, " neurons"]:
    """How far below a unit's best score another is the same but for rounding: half of the last digit of the likelihood
    in float32; of several concepts that share the best score exactly, the widest of theirs, whichever comes first.
    """
    best, at = scores.max(dim=1)
    priors = prior.expand(len(scores), -1)
    rounding = EPSILON / 2 * (best.double() + weight * priors.gather(1, at[:, None])[:, 0]).abs()
    shared = ((scores == best[:, None]).sum(dim=1) > 1).nonzero().flatten()
    if len(shared):
        top = best[shared].double()[:, None]
        of_each = (top + weight * priors[shared]).abs().masked_fill_(scores[shared] != best[shared][:, None], 0.0)
        rounding[shared] = EPSILON / 2 * of_each.amax(dim=1)
    return rounding.float()


def _order_by_prior(
    prior: Float[Tensor, "rows concepts"],
) -> tuple[Int[Tensor, "rows concepts"], Int[Tensor, "rows concepts"]]:
    """The concepts from the highest prior to the lowest, and in this order the number of each distinct value."""
    values, order = prior.sort(dim=1, descending=True, stable=True)
    changes = torch.zeros_like(order)
    changes[:, 1:] = values[:, 1:] != values[:, :-1]
    return order, changes.cumsum(dim=1)


def _split_layers(units: int, layers: Sequence[int] | None) -> Iterator[slice]:
    sizes = [units] if layers is None else layers
    if sum(sizes) != units:
        raise ValueError(f"layers of {list(sizes)} units are not the {units} units of the scores")
    start = 0
    for size in sizes:
        yield slice(start, start + size)
        start += size
