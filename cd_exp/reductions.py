"""What is kept of a unit's activations where not all of them are: its strongest images and its statistics.

Every reduction merges exactly: the reduction of two sets of images, merged, is that of their union, bit for bit but for
`total` and `squares`, which are sums in double precision. So images may come in any order, from any process, and after
a kill. Source: Chan, Golub and LeVeque, Amer. Statist. 37 (1983), for what makes running sums safe; the histogram is
ours.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cd_exp.types import Strongest

BINS = 64
"""Of a histogram, over [-reach, reach); `reach` is the power of two above the largest magnitude of the unit."""

SMALLEST = -100  # exponent of the least reach: what is smaller in magnitude shares the bins beside 0
COLUMNS = 4096  # units at a time: bounds the memory of masks and of positions


@dataclass(frozen=True, eq=False)
class Statistics:
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
        reach = torch.ldexp(torch.ones_like(self.least), _exponent(self.least, self.greatest))
        return reach[:, None] * torch.linspace(-1, 1, BINS + 1)


def strongest(neurons: Float[Tensor, "images neurons"], k: int) -> Strongest:
    """The `k` images that excite each unit most, or all where there are fewer; of equal ones the lower number first.

    >>> found = strongest(torch.tensor([[1.0], [3.0], [3.0], [2.0]]), 2)
    >>> found.indices.flatten().tolist(), found.values.flatten().tolist()
    ([1, 2], [3.0, 3.0])
    """
    images, units = neurons.shape
    k = min(k, images)
    parts = [_strongest(neurons[:, start : start + COLUMNS], k) for start in range(0, units, COLUMNS)]
    values = torch.cat([part[0] for part in parts], dim=1)
    return Strongest(values, torch.cat([part[1] for part in parts], dim=1), images)


def _strongest(neurons: Tensor, k: int) -> tuple[Tensor, Tensor]:
    values, indices = neurons.topk(k, dim=0)
    # topk promises nothing about equal values: where more reach the last one than fit, the first of them are taken.
    last = values[-1] if k else torch.full_like(neurons[0], torch.inf)
    crowded = ((neurons >= last).sum(dim=0) > k).nonzero().flatten()
    if len(crowded):
        columns, limit = neurons[:, crowded], last[crowded]
        above, equal = columns > limit, columns == limit
        chosen = above | (equal & (equal.cumsum(dim=0, dtype=torch.int32) <= k - above.sum(dim=0)))
        indices[:, crowded] = chosen.T.nonzero()[:, 1].view(-1, k).T
    indices = indices.sort(dim=0).values
    values, order = neurons.gather(0, indices).sort(dim=0, descending=True, stable=True)
    return values, indices.gather(0, order)


def merge_strongest(lists: Sequence[Strongest], k: int) -> Strongest:
    """The `k` strongest images of all, from lists over different images."""
    values = torch.cat([one.values for one in lists])
    indices = torch.cat([one.indices for one in lists])
    by_number = indices.argsort(dim=0)
    values, indices = values.gather(0, by_number), indices.gather(0, by_number)
    values, order = values.sort(dim=0, descending=True, stable=True)
    images = sum(one.images for one in lists)
    return Strongest(values[:k].contiguous(), indices.gather(0, order)[:k].contiguous(), images)


def statistics(neurons: Float[Tensor, "images neurons"], *, histogram: bool = False) -> Statistics:
    """The statistics of each unit over the images given."""
    least, greatest = neurons.aminmax(dim=0)
    wide = neurons.double()
    return Statistics(
        images=len(neurons),
        least=least,
        greatest=greatest,
        total=wide.sum(dim=0),
        squares=wide.square_().sum(dim=0),
        firing=(neurons > 0).sum(dim=0),
        counts=_counts(neurons, _exponent(least, greatest)) if histogram else None,
    )


def merge_statistics(parts: Iterable[Statistics]) -> Statistics:
    """The statistics over the images of all parts, each over images of its own."""
    return reduce(_merged, parts)


def _merged(one: Statistics, other: Statistics) -> Statistics:
    least, greatest = torch.minimum(one.least, other.least), torch.maximum(one.greatest, other.greatest)
    counts = None
    if one.counts is not None and other.counts is not None:
        exponent = _exponent(least, greatest)
        counts = _coarser(one, exponent) + _coarser(other, exponent)
    return Statistics(
        images=one.images + other.images,
        least=least,
        greatest=greatest,
        total=one.total + other.total,
        squares=one.squares + other.squares,
        firing=one.firing + other.firing,
        counts=counts,
    )


def _exponent(least: Tensor, greatest: Tensor) -> Int[Tensor, " neurons"]:
    """The e with every magnitude below 2^e, the least such."""
    return torch.frexp(torch.maximum(least.abs(), greatest.abs())).exponent.clamp_min(SMALLEST)


def _counts(neurons: Tensor, exponent: Tensor) -> Int[Tensor, "neurons bins"]:
    """How many images fall into each bin: bin floor(a / 2^e * BINS / 2), from -BINS / 2.

    Scaling by a power of two and rounding down are exact in floating point, so a bin of a doubled reach is exactly two
    bins of the old one, and histograms of different reach add up without error.
    """
    found = []
    for start in range(0, neurons.shape[1], COLUMNS):
        part, scale = neurons[:, start : start + COLUMNS], -exponent[start : start + COLUMNS]
        bins = torch.ldexp(part, scale).mul_(BINS // 2).floor_().long().add_(BINS // 2)
        bins += torch.arange(part.shape[1], device=part.device) * BINS
        found.append(torch.bincount(bins.flatten(), minlength=part.shape[1] * BINS).view(-1, BINS))
    return torch.cat(found).int()


def _coarser(one: Statistics, exponent: Tensor) -> Int[Tensor, "neurons bins"]:
    """The histogram over a wider reach: signed bin i goes to i >> (how many times the reach doubles)."""
    assert one.counts is not None
    doubled = (exponent - _exponent(one.least, one.greatest)).clamp_max(31)
    bins = torch.arange(-BINS // 2, BINS // 2, device=exponent.device)
    target = (bins >> doubled[:, None]) + BINS // 2
    return torch.zeros_like(one.counts).scatter_add_(1, target, one.counts)
