"""All resamples at once, for a function that is a sum over each unit's strongest images."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cd_exp.records import Strongest
from cd_exp.similarity import ConceptMatch, Terms
from cd_exp.similarity.match import lists_side_by_side, shape, slices
from cd_exp.similarity.prior import prior_mask
from cd_exp.similarity.registry import declaration, settings
from cd_exp.similarity.top_images import Block, top_images
from cd_exp.stability.anew import Candidates, LayerPrior, winners

NODES = 3
"""Ranks at which the term of an image is computed; in between it is interpolated."""

DEVIATIONS = 3.5
"""The ranks for which an image's term is interpolated: as many standard deviations around its place; rarely further."""

LEVEL = 1e-6
"""Terms that differ by less over all ranks do not depend on the rank."""

CELLS = 2**21
"""The most terms that are held at a time: 8 MiB, which a CPU keeps near."""


@dataclass(frozen=True)
class Prior:
    """The prior that a function takes over the units of a layer: its weight, and whether dead units are in it."""

    weight: float
    units: str

    def of(self, neurons: Strongest) -> "LayerPrior":
        """For one layer."""
        return LayerPrior(self.weight, prior_mask(neurons, self.units))


def terms_of(function: Callable[..., Tensor], images: int | None = None) -> Terms | None:
    """What the function sums over the strongest of so many images, with its settings; None where it is no such sum."""
    declared = declaration(function).terms
    if declared is None:
        return None
    taken = inspect.signature(declared).parameters.values()
    names = {item.name for item in taken}
    everything = any(item.kind is item.VAR_KEYWORD for item in taken)
    given = settings(function) | {"images": images}
    return declared(
        **{name: value for name, value in given.items() if name in names or (everything and name != "images")}
    )


def prior_of(function: Callable[..., Tensor]) -> Prior | None:
    """The prior that the function takes over units, with its settings; None where it takes none, or was given one."""
    found = settings(function)
    if "prior" not in found or found["prior"] is not None or not found["prior_weight"]:
        return None
    return Prior(found["prior_weight"], found.get("prior_units", "all"))


def weighted(
    terms: Terms,
    prior: Prior | None,
    match: ConceptMatch,
    layers: Mapping[str, Strongest],
    candidates: Mapping[str, Candidates],
    place: Int[Tensor, " concepts"],
    counts: Int[Tensor, "resamples images"],
    step: Callable[[float], None],
) -> dict[str, Int[Tensor, "resamples neurons"]]:
    """The column of each unit's label in every resample, the tiles of images made once for all layers and resamples."""
    lists = lists_side_by_side([*layers.values()])
    columns = torch.cat([one.columns for one in candidates.values()])
    sums = lists.values.new_zeros(len(columns), len(counts) + 1, columns.shape[1])
    for block in top_images(match, lists, scale=terms.scale, width=shape(match)[1]):
        for units in slices(len(columns), max(1, CELLS // (NODES * len(lists.values) * columns.shape[1]))):
            sums[units] += _sums(terms, block, units, lists.indices[:, units], columns[units], counts)
            step((units.stop - units.start) / len(columns) * len(block.tiles[0][1]) / block.of)
    parts = zip(layers, sums.split([len(one.columns) for one in candidates.values()]), strict=True)
    return {
        layer: winners(part, candidates[layer], None if prior is None else prior.of(layers[layer]), place)
        for layer, part in parts
    }


def _sums(
    terms: Terms,
    block: Block,
    units: slice,
    indices: Int[Tensor, "kept block"],
    columns: Int[Tensor, "block candidates"],
    counts: Int[Tensor, "resamples images"],
) -> Float[Tensor, "block draws candidates"]:
    """Sums of the terms of the block's images, for all images as they are (draw 0) and for each resample."""
    here = block.here[units]
    most = int(here.sum(dim=1).max())
    if not most:
        return torch.zeros((), device=columns.device).expand(len(columns), len(counts) + 1, columns.shape[1])
    # The images of each unit that are in the block, to the front; others fill up, with a weight of zero.
    order = here.int().sort(dim=1, descending=True, stable=True).indices[:, :most]
    inside = here.gather(1, order)
    rows = block.rows[units].gather(1, order) * inside
    tile = block.tiles[0][1]
    cells = tile.flatten().take(rows[:, :, None] * tile.shape[1] + columns[:, None, :])
    weights, nodes = node_weights(terms, _ranks(indices, counts, terms.count))
    weights = weights.gather(2, order[None, :, :, None].expand(len(weights), -1, -1, weights.shape[3]))
    weights = (weights * inside[None, :, :, None]).flatten(2).transpose(0, 1)
    values = terms.term(nodes[order][..., None], cells[:, :, None, :])
    return weights @ values.flatten(1, 2)


def _ranks(
    indices: Int[Tensor, "kept block"], counts: Int[Tensor, "resamples images"], count: int
) -> Int[Tensor, "draws block upto"]:
    """The rank in each draw at which each listed image begins, and where the last one ends; draw 0 takes all once."""
    kept, units = indices.shape
    often = counts[:, indices.T]
    often = torch.cat([often.new_ones(1, units, kept), often])
    upto = often.cumsum(dim=2, dtype=torch.int32).clamp_(max=count)
    return torch.nn.functional.pad(upto, (1, 0))


def node_weights(
    terms: Terms, ranks: Int[Tensor, "draws block upto"]
) -> tuple[Float[Tensor, "draws block kept nodes"], Float[Tensor, "kept nodes"]]:
    """Weights of the term of each listed image at some ranks, whose weighted sum is the sum over the ranks it takes.

    A term that does not depend on the rank is taken once and counted. Another is interpolated over the ranks that the
    image can come to, its place in the list give or take `DEVIATIONS` sqrt(place + 1): between its values at a few of
    them, by polynomials of `terms.position`. The sum of a polynomial over some ranks is that of its powers.
    """
    places = torch.arange(ranks.shape[2] - 1, dtype=torch.float64, device=ranks.device)
    position = _position(terms, places.device)
    if position is None:
        return ranks.diff(dim=2).float()[..., None], places.float()[:, None]
    spread, last = DEVIATIONS * (places + 1).sqrt(), terms.count - 1
    low, high = (places - spread).clamp(0, last), (places + spread).clamp(0, last)
    shares = torch.linspace(0, 1, NODES, dtype=torch.float64, device=ranks.device)
    nodes = low[:, None] + (high - low).clamp(min=1)[:, None] * shares
    powers = torch.arange(NODES, device=ranks.device)
    whole = torch.arange(terms.count, dtype=torch.float64, device=ranks.device)
    upto = torch.nn.functional.pad((position(whole)[:, None] ** powers).cumsum(dim=0), (0, 0, 1, 0))
    basis = torch.linalg.inv(position(nodes)[..., None] ** powers)  # powers x nodes, of each place
    taken = torch.nn.functional.embedding(ranks, upto).diff(dim=2)
    return torch.einsum("dukp,kpn->dukn", taken, basis).float(), nodes.float()


def _position(terms: Terms, device: torch.device) -> Callable[[Tensor], Tensor] | None:
    """`terms.position`, from -1 to 1 over the ranks; None where it does not tell them apart."""
    position = terms.position
    if position is None:
        return None
    first, last = position(torch.tensor([0.0, terms.count], dtype=torch.float64, device=device)).tolist()
    if abs(first - last) < LEVEL:
        return None
    return lambda ranks: (2 * position(ranks) - first - last) / (last - first)
