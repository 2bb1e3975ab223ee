"""What the activations of a layer show of each unit: how they spread, and which units have correlated activations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cd_exp.activation_stats import ActivationStatistics

WEAKER = (0.75, 0.5)  # percentiles that are shown beside them
BESIDE = 3  # images about each of these percentiles
BINS = 24  # bars of the histogram
NEAREST = 6  # units with correlated activations
SIMILAR = 12  # concepts stored as similar to each; with 8 a search for dog on the 1,000 class names finds a tenth fewer
EXCITED = 6  # units of a layer listed with an image
PROJECTED = 64  # numbers that the images are projected to, to find the groups
GROUPS = 2  # that a unit is in


@dataclass(frozen=True)
class Limits:
    """How much is worked on at a time, and from where on pairs are no longer all compared.

    Attributes:
        block: products worked on at a time.
        cached: activations worked on at a time, which stay in the cache of a CPU with their copies.
        products: multiplications spent on comparing all pairs of units.
        exact: units or concepts up to which all pairs are compared; of more, those of a group.
        centred: activations held at a time to compare units: 1 GB.
        group: units of a group on average.
        largest_group: units of a group at most.
    """

    block: int = 2**25
    cached: int = 2**18
    products: float = 2e11
    exact: int = 4096
    centred: int = 2**28
    group: int = 256
    largest_group: int = 2048


@dataclass(frozen=True, eq=False)
class ActivationSpread:
    """How the activations of each unit of one layer spread over the images, which are rows of the activations."""

    weaker: Int[np.ndarray, "neurons percentiles beside"]
    weaker_values: Float[np.ndarray, "neurons percentiles beside"]
    histogram: Int[np.ndarray, "neurons bins"]
    low: Float[np.ndarray, " neurons"]
    high: Float[np.ndarray, " neurons"]


@dataclass(frozen=True, eq=False)
class NearestUnits:
    """The units whose activations correlate most with those of each unit, nearest first."""

    nearest: Int[np.ndarray, "neurons near"]
    correlation: Float[np.ndarray, "neurons near"]
    images: int  # that the correlations rest on
    exact: bool  # whether all pairs were compared


def activation_percentiles(
    activations: Float[Tensor, "images neurons"], *, limits: Limits = Limits()
) -> ActivationSpread:
    """The images about the percentiles of `WEAKER`, the strongest of them first, and the histogram of each unit."""
    size = max(1, limits.cached // max(1, len(activations)))
    starts = range(0, activations.shape[1], size)
    parts = [
        _percentiles_of_block(activations[:, start : start + size].T.float().contiguous().numpy()) for start in starts
    ]
    weaker, weaker_values, histogram, low, high = (np.concatenate(column) for column in zip(*parts, strict=True))
    return ActivationSpread(weaker, weaker_values, histogram, low, high)


def _percentiles_of_block(rows: Float[np.ndarray, "block images"]) -> tuple[np.ndarray, ...]:
    weaker = _count_about_percentiles(rows)
    beside = np.take_along_axis(rows, weaker.reshape(len(rows), -1), axis=1).reshape(weaker.shape)
    low, high = rows.min(axis=1), rows.max(axis=1)
    return weaker, beside, _unit_histogram(rows, low, high), low, high


def _count_about_percentiles(
    rows: Float[np.ndarray, "neurons images"],
) -> Int[np.ndarray, "neurons percentiles beside"]:
    """The images whose rank is about each percentile of `WEAKER`, the strongest of them first."""
    last = rows.shape[1] - 1
    ranks = [
        np.clip(round(share * last) + np.arange(BESIDE // 2, BESIDE // 2 - BESIDE, -1), 0, last) for share in WEAKER
    ]
    order = np.argpartition(rows, np.unique(ranks), axis=1)
    return np.stack([order[:, rank] for rank in ranks], axis=1)


def _unit_histogram(
    rows: Float[np.ndarray, "neurons images"], low: Float[np.ndarray, " neurons"], high: Float[np.ndarray, " neurons"]
) -> Int[np.ndarray, "neurons bins"]:
    """Counts in `BINS` bins of equal width from the smallest to the largest activation of each unit."""
    width = np.where(high > low, high - low, 1)[:, None]
    scaled = (rows - low[:, None]) / width
    scaled *= BINS
    bins = np.minimum(scaled, BINS - 1, out=scaled).astype(np.int64)
    bins += BINS * np.arange(len(rows))[:, None]
    return np.bincount(bins.ravel(), minlength=BINS * len(rows)).reshape(len(rows), BINS)


def nearest_units(activations: Float[Tensor, "images neurons"], *, limits: Limits = Limits()) -> NearestUnits:
    """The other units of the layer whose activations correlate most with each unit's.

    Up to `limits.exact` units, all pairs are compared. Of more, those that share a group, so that the time grows with
    the units and not with their square. Where the activations are too many to be held, evenly spaced images are used.
    """
    images, neurons = activations.shape
    exact, kept = neurons <= limits.exact, min(NEAREST, neurons - 1)
    products = limits.products / neurons**2 if exact else limits.centred
    used = min(images, max(64, int(min(products, limits.centred / neurons))))
    chosen = activations if used == images else activations[torch.linspace(0, images - 1, used).round().long()]
    units = chosen.T.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    for part in units.split(max(1, limits.block // used)):  # in place: a copy would be another 1 GB
        part -= part.mean(dim=1, keepdim=True)
        torch.nn.functional.normalize(part, dim=1, eps=1e-12, out=part)
    compare = _compare_all if exact else _compare_in_groups
    nearest, correlation = compare(units, kept, limits)
    return NearestUnits(nearest.numpy(), correlation.clamp(-1, 1).numpy(), used, exact)


def nearest_concepts(
    texts: Float[Tensor, "concepts dim"], *, limits: Limits = Limits()
) -> Int[np.ndarray, "concepts near"]:
    """The other concepts whose text embeddings are most similar to each one's, nearest first.

    Embeddings are centred over the concepts first: what all have in common (of "a tench", "a hen", ... the template)
    makes every cosine high. Up to `limits.exact` concepts, all pairs are compared; of more, those that share a group.
    """
    concepts = len(texts)
    if concepts < 2:
        return np.empty((concepts, 0), dtype=np.int64)
    rows = torch.nn.functional.normalize(texts.float() - texts.float().mean(dim=0), dim=1, eps=1e-12)
    compare = _compare_all if concepts <= limits.exact else _compare_in_groups
    return compare(rows, min(SIMILAR, concepts - 1), limits)[0].numpy()


def _compare_all(units: Float[Tensor, "neurons images"], kept: int, limits: Limits) -> tuple[Tensor, Tensor]:
    """The units of greatest cosine, with the cosine."""
    size = max(1, limits.block // len(units))
    nearest = []
    for start in range(0, len(units), size):
        products = units[start : start + size] @ units.T
        products[torch.arange(len(products)), torch.arange(start, start + len(products))] = -2.0  # a unit itself
        nearest.append(products.topk(kept, dim=1))
    return torch.cat([part.indices for part in nearest]), torch.cat([part.values for part in nearest])


def _compare_in_groups(units: Float[Tensor, "neurons images"], kept: int, limits: Limits) -> tuple[Tensor, Tensor]:
    """The units of greatest cosine among those that share one of `GROUPS` groups, with the cosine."""
    best = torch.full((len(units), kept), -2.0)  # below every cosine
    nearest = torch.full((len(units), kept), -1)
    for group in _group_units(units, limits.group).T:
        order = group.argsort(stable=True)
        for members in order.split(torch.bincount(group).tolist()):
            for part in members.split(limits.largest_group):
                inside = units[part]
                top = (inside @ inside.T).fill_diagonal_(-2.0).topk(min(kept, len(part)), dim=1)
                others = torch.where(top.values > -2.0, part[top.indices], -1)
                listed = (others[:, :, None] == nearest[part][:, None]).any(dim=2)
                values = torch.cat([best[part], top.values.masked_fill(listed, -2.0)], dim=1)
                best[part], rank = values.topk(kept, dim=1)
                nearest[part] = torch.cat([nearest[part], others.masked_fill(listed, -1)], dim=1).gather(1, rank)
    for unit in (nearest < 0).any(dim=1).nonzero().flatten().tolist():  # its groups are smaller than the list
        following = [other % len(units) for other in range(unit + 1, unit + 2 * kept + 1)]
        absent = [other for other in following if other not in nearest[unit].tolist() and other != unit]
        empty = nearest[unit] < 0
        nearest[unit, empty] = torch.tensor(absent[: int(empty.sum())])
        best[unit] = units[nearest[unit]] @ units[unit]
    return nearest, best


def _group_units(units: Float[Tensor, "neurons images"], size: int) -> Int[Tensor, "neurons groups"]:
    """For each unit the numbers of its `GROUPS` groups: those of the nearest pivots in a random projection.

    The projection has random signs (Achlioptas, J. Comput. Syst. Sci. 66 (2003)). Pivots are units drawn at random,
    moved twice to the mean of the units nearest to them (spherical k-means): one for `size` units.
    """
    generator = torch.Generator().manual_seed(0)
    signs = 2.0 * torch.randint(2, (units.shape[1], PROJECTED), generator=generator) - 1
    sketch = torch.nn.functional.normalize(units @ signs, dim=1, eps=1e-12)
    pivots = sketch[torch.randperm(len(units), generator=generator)[: max(GROUPS, len(units) // size)]]
    for _ in range(2):
        owner = torch.cat([(part @ pivots.T).argmax(dim=1) for part in sketch.split(size)])
        moved = torch.zeros_like(pivots).index_add_(0, owner, sketch)
        pivots = torch.nn.functional.normalize(moved, dim=1, eps=1e-12)
    return torch.cat([(part @ pivots.T).topk(GROUPS, dim=1).indices for part in sketch.split(size)])


def top_units_per_image(
    activations: Float[Tensor, "images neurons"], rows: Sequence[int], *, statistics: ActivationStatistics
) -> tuple[Int[np.ndarray, "chosen kept"], Float[np.ndarray, "chosen kept"]]:
    """The units that each chosen image excites most: activation in standard deviations above the unit's mean.

    Args:
        activations: of one layer.
        rows: the chosen images.
        statistics: of the activations.
    """
    mean, scale = statistics.mean.float(), torch.where(statistics.dead, 0.0, 1 / statistics.deviation).float()
    size = max(1, Limits().cached // activations.shape[1])
    parts = [
        ((activations[part].float() - mean) * scale).topk(min(EXCITED, len(mean)), dim=1)
        for part in torch.as_tensor(rows, dtype=torch.long).split(size)
    ]
    return torch.cat([part.indices for part in parts]).numpy(), torch.cat([part.values for part in parts]).numpy()


def select_shown_images(
    images: Float[Tensor, "images dim"], texts: Float[Tensor, "concepts dim"], *, count: int
) -> tuple[Int[np.ndarray, "concepts count"], Float[np.ndarray, "concepts count"]]:
    """The images that match each text best by CLIP, with the cosine, best first.

    Args:
        images: embeddings, normalised or not.
        texts: embeddings, normalised or not.
        count: how many images of each text.
    """
    images = torch.nn.functional.normalize(images.float(), dim=1)
    words = torch.nn.functional.normalize(texts.float(), dim=1)
    size = max(1, Limits().block // max(1, len(images)))
    parts = [(words[start : start + size] @ images.T).topk(min(count, len(images)), dim=1)
             for start in range(0, len(words), size)]  # fmt: skip
    if not parts:
        return np.empty((0, 0), dtype=np.int64), np.empty((0, 0), dtype=np.float32)
    return np.concatenate([part.indices.numpy() for part in parts]), np.concatenate(
        [part.values.numpy() for part in parts]
    )
