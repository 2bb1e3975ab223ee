"""What is kept of a unit's activations where not all of them are: its strongest images and its statistics.

Every reduction merges exactly: the reduction of two sets of images, merged, is that of their union, bit for bit but for
`total` and `squares`, which are sums in double precision. So images may come in any order, from any process, and after
a kill. Source: Chan, Golub and LeVeque, Amer. Statist. 37 (1983), for what makes running sums safe; the histogram is
ours.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cd_exp.records import TopActivations

BINS = 64
"""Of a histogram, over [-reach, reach); `reach` is the power of two above the largest magnitude of the
unit.
"""

SMALLEST = -100  # exponent of the least reach: what is smaller in magnitude shares the bins beside 0
COLUMNS, ROWS = 2048, 64  # units and images of a tile that stays in the cache of a CPU, in double precision too
NARROW = 512  # the same for a histogram, which looks at all images of a block at once
ELEMENTS = 2**25  # activations at a time where lists are made: bounds the memory of copies and masks
HALF = 5  # BINS / 2 is 2 to this
FIELDS = ("least", "greatest", "total", "squares", "firing")


@dataclass(frozen=True, eq=False)
class ActivationStatistics:
    """Of each unit over so many images. `firing` counts the images with an activation above 0.

    `counts` is None where no histogram was asked for.
    """

    images: int
    least: Float[Tensor, " neurons"]
    greatest: Float[Tensor, " neurons"]
    total: Float[Tensor, " neurons"]
    squares: Float[Tensor, " neurons"]
    firing: Int[Tensor, " neurons"]
    counts: Int[Tensor, "neurons bins"] | None = None

    @property
    def mean(self) -> Float[Tensor, " neurons"]:
        """The mean over the images."""
        return self.total / self.images

    @property
    def deviation(self) -> Float[Tensor, " neurons"]:
        """The standard deviation over the images (of the population, not of a sample)."""
        return (self.squares / self.images - self.mean.square()).clamp_min(0).sqrt()

    @property
    def dead(self) -> Bool[Tensor, " neurons"]:
        """Units that give the same value for every image."""
        return self.least == self.greatest

    @property
    def edges(self) -> Float[Tensor, "neurons edges"]:
        """The bounds of the bins of each unit's histogram, ascending: one more than bins."""
        reach = torch.ldexp(torch.ones_like(self.least), _histogram_exponent(self.least, self.greatest))
        return reach[:, None] * torch.linspace(-1, 1, BINS + 1)


def strongest_images(neurons: Float[Tensor, "images neurons"], k: int) -> TopActivations:
    """The `k` images that excite each unit most, or all where there are fewer; of equal ones the lower number first.

    >>> top = strongest_images(torch.tensor([[1.0], [3.0], [3.0], [2.0]]), 2)
    >>> top.indices.flatten().tolist(), top.values.flatten().tolist()
    ([1, 2], [3.0, 3.0])
    """
    images, units = neurons.shape
    k, size = min(k, images), max(1, ELEMENTS // max(1, images))
    parts = [_top_activations(neurons[:, start : start + size].T.contiguous(), k) for start in range(0, units, size)]
    values, indices = (torch.cat(column).T.contiguous() for column in zip(*parts, strict=True))
    return TopActivations(values, indices, images)


def _top_activations(neurons: Float[Tensor, "neurons images"], k: int) -> tuple[Tensor, Tensor]:
    values, indices = neurons.topk(k, dim=1)
    # topk promises nothing about equal values: where more reach the last one than fit, the first of them are taken.
    last = values[:, -1:] if k else torch.full_like(neurons[:, :1], torch.inf)
    crowded = ((neurons >= last).sum(dim=1) > k).nonzero().flatten()
    if len(crowded):
        rows, limit = neurons[crowded], last[crowded]
        above, equal = rows > limit, rows == limit
        left = k - above.sum(dim=1, keepdim=True)
        chosen = above | (equal & (equal.cumsum(dim=1, dtype=torch.int32) <= left))
        indices[crowded] = chosen.nonzero()[:, 1].view(-1, k)
    indices = indices.sort(dim=1).values
    values, order = neurons.gather(1, indices).sort(dim=1, descending=True, stable=True)
    return values, indices.gather(1, order)


def merge_strongest(lists: Sequence[TopActivations], k: int) -> TopActivations:
    """The `k` strongest images of all, from lists over different images."""
    values = torch.cat([part.values for part in lists])
    indices = torch.cat([part.indices for part in lists])
    by_number = indices.argsort(dim=0)
    values, indices = values.gather(0, by_number), indices.gather(0, by_number)
    values, order = values.sort(dim=0, descending=True, stable=True)
    images = sum(part.images for part in lists)
    return TopActivations(values[:k].contiguous(), indices.gather(0, order)[:k].contiguous(), images)


def activation_statistics(
    neurons: Float[Tensor, "images neurons"], *, histogram: bool = False, width: int = COLUMNS
) -> ActivationStatistics:
    """The statistics of each unit over these images, `width` units at a time.

    >>> statistics = activation_statistics(torch.tensor([[0.0, 1.0], [0.0, 3.0]]))
    >>> statistics.dead.tolist(), statistics.firing.tolist()  # unit 0 never varies, unit 1 is above 0 on both images
    ([True, False], [0, 2])
    """
    parts = [_statistics_in_tiles(part, histogram=histogram) for part in neurons.split(width, dim=1)]
    columns = {name: torch.cat([getattr(part, name) for part in parts]) for name in FIELDS}
    counts = torch.cat([part.counts for part in parts if part.counts is not None]) if histogram else None
    return ActivationStatistics(len(neurons), **columns, counts=counts)


def _statistics_in_tiles(neurons: Tensor, *, histogram: bool) -> ActivationStatistics:
    """In tiles that a CPU keeps near: 0.1 s for 1,024 images x 36,864 units, where whole columns take 0.6."""
    rows = neurons.split(ROWS if neurons.device.type == "cpu" else len(neurons))
    least = torch.stack([part.amin(dim=0) for part in rows]).amin(dim=0)  # `aminmax` takes four times as long
    greatest = torch.stack([part.amax(dim=0) for part in rows]).amax(dim=0)
    total, squares = (torch.zeros_like(least, dtype=torch.float64) for _ in range(2))
    firing = torch.zeros_like(least, dtype=torch.int64)
    for part in rows:
        wide = part.double()
        total += wide.sum(dim=0)
        squares += wide.square_().sum(dim=0)
        firing += (part > 0).sum(dim=0, dtype=torch.int32)
    counts = _count_bins(neurons, _histogram_exponent(least, greatest)) if histogram else None
    return ActivationStatistics(len(neurons), least, greatest, total, squares, firing, counts)


def merge_statistics(parts: Iterable[ActivationStatistics]) -> ActivationStatistics:
    """The statistics over the images of all parts, each over images of its own."""
    return reduce(_merge_two, parts)


def _merge_two(first: ActivationStatistics, other: ActivationStatistics) -> ActivationStatistics:
    least, greatest = torch.minimum(first.least, other.least), torch.maximum(first.greatest, other.greatest)
    counts = None
    if first.counts is not None and other.counts is not None:
        exponent = _histogram_exponent(least, greatest)
        counts = _coarsen_histogram(first, exponent) + _coarsen_histogram(other, exponent)
    return ActivationStatistics(
        images=first.images + other.images,
        least=least,
        greatest=greatest,
        total=first.total + other.total,
        squares=first.squares + other.squares,
        firing=first.firing + other.firing,
        counts=counts,
    )


def _histogram_exponent(least: Tensor, greatest: Tensor) -> Int[Tensor, " neurons"]:
    """The e with every magnitude below 2^e, the least such."""
    return torch.frexp(torch.maximum(least.abs(), greatest.abs())).exponent.clamp_min(SMALLEST)


def _count_bins(neurons: Tensor, exponent: Tensor) -> Int[Tensor, "neurons bins"]:
    """How many images fall into each bin: bin floor(a / 2^e * BINS / 2), from -BINS / 2.

    Scaling by a power of two and rounding down are exact in floating point, so a bin of a doubled reach is exactly two
    bins of the old one, and histograms of different reach add up without error.
    """
    counts = []
    scale = torch.ldexp(torch.ones_like(exponent, dtype=neurons.dtype), HALF - exponent)
    for part, factor in zip(neurons.split(NARROW, dim=1), scale.split(NARROW), strict=True):
        bins = (part * factor).floor_().int()
        bins += torch.arange(part.shape[1], device=part.device, dtype=torch.int32) * BINS + BINS // 2
        counts.append(torch.bincount(bins.flatten(), minlength=part.shape[1] * BINS).view(-1, BINS))
    return torch.cat(counts).int()


def _coarsen_histogram(statistics: ActivationStatistics, exponent: Tensor) -> Int[Tensor, "neurons bins"]:
    """The histogram over a wider reach: signed bin i goes to i >> (how many times the reach doubles)."""
    assert statistics.counts is not None
    doubled = (exponent - _histogram_exponent(statistics.least, statistics.greatest)).clamp_max(31)
    if not doubled.any():
        return statistics.counts
    bins = torch.arange(-BINS // 2, BINS // 2, device=exponent.device)
    target = (bins >> doubled[:, None]) + BINS // 2
    return torch.zeros_like(statistics.counts).scatter_add_(1, target, statistics.counts)


def summarise_dense(neurons: Float[Tensor, "images neurons"], k: int) -> tuple[TopActivations, ActivationStatistics]:
    """The `k` strongest images of each unit, and its statistics with a histogram."""
    return strongest_images(neurons, k), activation_statistics(neurons, histogram=True)


def summarise_sparse(
    values: Float[Tensor, " nonzero"],
    images: Int[Tensor, " nonzero"],
    counts: Int[Tensor, " neurons"],
    k: int,
    *,
    total: int,
) -> tuple[TopActivations, ActivationStatistics] | None:
    """As `summarise_dense` of activations that are mostly zero, without all the zeros.

    Of a unit's images the first m and those of its other nonzero activations are looked at. m is the largest number of
    nonzero activations of a unit, and k more: so there are k zeros among the first m, and no later zero comes before
    them. (Units that are active on 50 of 10,000 images take a tenth of the time.)

    Args:
        values: the activations of each unit after those of the one before.
        images: their images, ascending within a unit.
        counts: how many each unit has.
        k: how many images to list.
        total: how many images there are.

    Returns:
        None where too few activations are zero for this to be faster.

    >>> lists, statistics = summarise_sparse(torch.tensor([2.0]), torch.tensor([90]), torch.tensor([1]), 2, total=100)
    >>> lists.indices.flatten().tolist(), statistics.counts.sum().item()
    ([90, 0], 100)
    """
    first = int(counts.max()) + k
    unit = torch.arange(len(counts)).repeat_interleave(counts)
    column, width = _close_gaps(images.long(), unit, len(counts), first)
    if 2 * width > total:
        return None
    looked_at = torch.zeros(width, len(counts))
    looked_at[column, unit] = values
    number = torch.arange(width, dtype=torch.int32)[:, None].repeat(1, len(counts))
    number[column, unit] = images.int()
    top, counted = summarise_dense(looked_at, k)
    assert counted.counts is not None
    counted.counts[:, BINS // 2] += total - width  # the bin of 0
    return TopActivations(top.values, number.gather(0, top.indices), total), replace(counted, images=total)


def _close_gaps(images: Tensor, unit: Tensor, units: int, first: int) -> tuple[Int[Tensor, " nonzero"], int]:
    """The images with those from `first` on numbered one after the other within each unit, and how many numbers."""
    later = images >= first
    others = torch.bincount(unit[later], minlength=units)
    starts = others.cumsum(0) - others
    column = images.clone()
    column[later] = first + torch.arange(int(later.sum())) - starts[unit[later]]
    return column, first + int(others.max())
