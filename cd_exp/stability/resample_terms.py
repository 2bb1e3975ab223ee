"""Labels of resamples for functions that sum terms over the strongest images: no resample scores anything again."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cd_exp.records import TopActivations
from cd_exp.similarity import DenseOrFactored, RankSum
from cd_exp.similarity.match import concept_slices, join_lists, match_shape
from cd_exp.similarity.prior import EPSILON, prior_mask
from cd_exp.similarity.registry import bind
from cd_exp.similarity.top_images import BLOCK_BYTES, Block, top_image_blocks

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


def best_candidates(
    sums: Float[Tensor, "neurons draws candidates"],
    candidates: Candidates,
    prior: LayerPrior | None,
    alphabetical: Int[Tensor, " concepts"],
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
        alphabetical: rank of each concept in alphabetical order.
    """
    columns = candidates.columns
    order = alphabetical[columns]
    if prior is None:
        offset = candidates.scores.double() - sums[:, 0]
        best = [_first_of_equals(sums[:, draw] + offset, sums[:, draw], order) for draw in range(1, sums.shape[1])]
    else:
        usual, rest = _prior_with_all_images(sums[:, 0].double(), candidates, prior, len(alphabetical))
        candidate_prior = usual[columns]
        best = [
            _best_per_resample(sums[:, draw].double(), columns, prior, candidate_prior, rest, order)
            for draw in range(1, sums.shape[1])
        ]
    return torch.stack([columns.gather(1, at[:, None])[:, 0] for at in best])


def _prior_with_all_images(
    likelihood: Float[Tensor, "neurons candidates"], candidates: Candidates, prior: LayerPrior, concepts: int
) -> tuple[Float[Tensor, " concepts"], Float[Tensor, " concepts"]]:
    """The prior of each concept with all images, as the scores have it, and the share of the units not seen here."""
    scores, columns = candidates.scores.flatten(), candidates.columns.flatten()
    highest = scores.new_full((concepts,), -torch.inf).scatter_reduce(0, columns, scores, "amax")
    chosen = scores == highest[columns]  # the unit that a concept fits best: its score is the least rounded
    usual = likelihood.new_zeros(concepts)
    usual[columns[chosen]] = (likelihood.flatten()[chosen] - scores[chosen].double()) / prior.weight
    rest = 1 - _likelihood_share(likelihood - usual[candidates.columns], candidates.columns, prior, concepts)
    return usual, torch.where(rest > COVERED, rest, 0.0)


def _likelihood_share(
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


def _best_per_resample(
    likelihood: Float[Tensor, "neurons candidates"],
    columns: Int[Tensor, "neurons candidates"],
    prior: LayerPrior,
    usual: Float[Tensor, "neurons candidates"],
    rest: Float[Tensor, " concepts"],
    order: Int[Tensor, "neurons candidates"],
) -> Int[Tensor, " neurons"]:
    above = likelihood - usual
    change = (_likelihood_share(above, columns, prior, len(rest)) + rest).clamp(min=1e-300).log()
    scores = above if prior.weight == 1 else torch.add(likelihood, usual, alpha=-prior.weight)
    scores -= (prior.weight * change)[columns]
    best, at = scores.max(dim=1, keepdim=True)
    tied = scores >= best - EPSILON / 2 * likelihood.gather(1, at).abs()
    several, at = (tied.sum(dim=1) > 1).nonzero().flatten(), at[:, 0]
    if len(several):
        likelier = torch.where(tied[several], likelihood[several], -torch.inf)
        at[several] = _first_of_equals(likelier, likelihood[several], order[several])
    return at


def _first_of_equals(
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


NODES = 3
"""Ranks at which the term of an image is computed; in between it is interpolated."""

DEVIATIONS = 3.5
"""The ranks for which an image's term is interpolated: as many standard deviations around its expected rank; rarely
further.
"""

LEVEL = 1e-6
"""Terms that differ by less over all ranks do not depend on the rank."""

CELLS = 2**21
"""The most terms that are held at a time: 8 MiB, which a CPU keeps near."""


@dataclass(frozen=True)
class PriorSpec:
    """The prior that a function takes over the units of a layer: its weight, and whether dead units are in it."""

    weight: float
    units: str

    def of(self, neurons: TopActivations) -> "LayerPrior":
        """For one layer."""
        return LayerPrior(self.weight, prior_mask(neurons, self.units))


def prior_read(function: Callable[..., Tensor]) -> PriorSpec | None:
    """The prior that the function takes over units, with its settings; None where it takes none, or where the caller
    bound one.
    """
    similarity = bind(function)
    settings = similarity.settings
    if not similarity.takes_prior or not settings["prior_weight"]:
        return None
    return PriorSpec(settings["prior_weight"], settings.get("prior_units", "all"))


def resample_terms(
    terms: RankSum,
    prior: PriorSpec | None,
    match: DenseOrFactored,
    layers: Mapping[str, TopActivations],
    candidates: Mapping[str, Candidates],
    alphabetical: Int[Tensor, " concepts"],
    counts: Int[Tensor, "resamples images"],
    step: Callable[[float], None],
    *,
    block_bytes: int = BLOCK_BYTES,
    cells: int = CELLS,
) -> dict[str, Int[Tensor, "resamples neurons"]]:
    """The column of each unit's label in every resample, the tiles of images made once for all layers and resamples.

    Blocks of images take `block_bytes` at most, and `cells` terms are held at a time.
    """
    lists = join_lists([*layers.values()])
    columns = torch.cat([layer_candidates.columns for layer_candidates in candidates.values()])
    sums = lists.values.new_zeros(len(columns), len(counts) + 1, columns.shape[1])
    concepts, size = match_shape(match)[1], max(1, cells // (NODES * len(lists.values) * columns.shape[1]))
    for block in top_image_blocks(match, lists, scale=terms.scale, width=concepts, block_bytes=block_bytes):
        for units in concept_slices(len(columns), size):
            sums[units] += _sum_terms(terms, block, units, lists.indices[:, units], columns[units], counts)
            step((units.stop - units.start) / len(columns) * len(block.tiles[0][1]) / block.of)
    parts = zip(
        layers, sums.split([len(layer_candidates.columns) for layer_candidates in candidates.values()]), strict=True
    )
    return {
        layer: best_candidates(
            part, candidates[layer], None if prior is None else prior.of(layers[layer]), alphabetical
        )
        for layer, part in parts
    }


def _sum_terms(
    terms: RankSum,
    block: Block,
    units: slice,
    indices: Int[Tensor, "kept block"],
    columns: Int[Tensor, "block candidates"],
    counts: Int[Tensor, "resamples images"],
) -> Float[Tensor, "block draws candidates"]:
    """Sums of the terms of the block's images, for all images as they are (draw 0) and for each resample."""
    in_block = block.here[units]
    most = int(in_block.sum(dim=1).max())
    if not most:
        return torch.zeros((), device=columns.device).expand(len(columns), len(counts) + 1, columns.shape[1])
    # The images of each unit that are in the block, to the front; others fill up, with a weight of zero.
    order = in_block.int().sort(dim=1, descending=True, stable=True).indices[:, :most]
    inside = in_block.gather(1, order)
    rows = block.rows[units].gather(1, order) * inside
    tile = block.tiles[0][1]
    cells = tile.flatten().take(rows[:, :, None] * tile.shape[1] + columns[:, None, :])
    weights, nodes = interpolation_weights(terms, _ranks_per_draw(indices, counts, terms.count))
    weights = weights.gather(2, order[None, :, :, None].expand(len(weights), -1, -1, weights.shape[3]))
    weights = (weights * inside[None, :, :, None]).flatten(2).transpose(0, 1)
    values = terms.term(nodes[order][..., None], cells[:, :, None, :])
    return weights @ values.flatten(1, 2)


def _ranks_per_draw(
    indices: Int[Tensor, "kept block"], counts: Int[Tensor, "resamples images"], count: int
) -> Int[Tensor, "draws block upto"]:
    """The rank in each draw at which each listed image begins, and where the last one ends; draw 0 takes all once."""
    kept, units = indices.shape
    often = counts[:, indices.T]
    often = torch.cat([often.new_ones(1, units, kept), often])
    upto = often.cumsum(dim=2, dtype=torch.int32).clamp_(max=count)
    return torch.nn.functional.pad(upto, (1, 0))


def interpolation_weights(
    terms: RankSum, ranks: Int[Tensor, "draws block upto"]
) -> tuple[Float[Tensor, "draws block kept nodes"], Float[Tensor, "kept nodes"]]:
    """Weights of the term of each listed image at some ranks, whose weighted sum is the sum over the ranks it takes.

    A term that does not depend on the rank is taken once and counted. Another is interpolated over the ranks that the
    image can come to, its position in the list plus or minus `DEVIATIONS` sqrt(position + 1): between its values at
    a few of them, by polynomials of `terms.position`. The sum of a polynomial over some ranks is that of its powers.
    """
    positions = torch.arange(ranks.shape[2] - 1, dtype=torch.float64, device=ranks.device)
    position = _term_positions(terms, positions.device)
    if position is None:
        return ranks.diff(dim=2).float()[..., None], positions.float()[:, None]
    spread, last = DEVIATIONS * (positions + 1).sqrt(), terms.count - 1
    # Below the last rank as far as the image there needs: of two strongest images, one at position 15 can be the first.
    lowest = max(0.0, last - DEVIATIONS * math.sqrt(last + 1))
    low, high = (positions - spread).clamp(0, lowest), (positions + spread).clamp(0, last)
    shares = torch.linspace(0, 1, NODES, dtype=torch.float64, device=ranks.device)
    nodes = low[:, None] + (high - low).clamp(min=1)[:, None] * shares
    powers = torch.arange(NODES, device=ranks.device)
    whole = torch.arange(terms.count, dtype=torch.float64, device=ranks.device)
    upto = torch.nn.functional.pad((position(whole)[:, None] ** powers).cumsum(dim=0), (0, 0, 1, 0))
    basis = torch.linalg.inv(position(nodes)[..., None] ** powers)  # powers x nodes, of each position
    taken = torch.nn.functional.embedding(ranks, upto).diff(dim=2)
    return torch.einsum("dukp,kpn->dukn", taken, basis).float(), nodes.float()


def _term_positions(terms: RankSum, device: torch.device) -> Callable[[Tensor], Tensor] | None:
    """`terms.position`, from -1 to 1 over the ranks; None where it does not tell them apart."""
    position = terms.position
    if position is None:
        return None
    first, last = position(torch.tensor([0.0, terms.count], dtype=torch.float64, device=device)).tolist()
    if abs(first - last) < LEVEL:
        return None
    return lambda ranks: (2 * position(ranks) - first - last) / (last - first)
