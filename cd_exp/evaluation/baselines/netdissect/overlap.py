"""Network Dissection's two passes: each unit's upper quantile, then the pixels of each concept that it covers.

A unit's histogram is finest around a guess at the quantile, in memory that does not depend on the number of maps. A
mask is what of the upsampled map exceeds the threshold; only pixels with a neighbour above it are computed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cd_exp.records import Segmentation

MANTISSA_BITS = 8  # 256 bins for each doubling of the distance from the centre
OCTAVES_BELOW, OCTAVES_ABOVE = 8, 24  # what lies further out shares the outermost bin
SHIFT = 23 - MANTISSA_BITS
CENTRE_BIN = OCTAVES_BELOW << MANTISSA_BITS
BINS = (OCTAVES_BELOW + OCTAVES_ABOVE) << MANTISSA_BITS
VALUES_AT_ONCE = 1 << 17  # values handled at once: temporaries that stay in the processor's cache
SMALLEST = 2.0**-12  # scale relative to the centre: the centre's bin is then wider than float32's rounding
TINY = 2.0**-100  # a finer scale would have bins that float32 no longer tells apart


@dataclass(frozen=True, eq=False)
class Histogram:
    """What one layer's activations looked like so far. `add_values` changes `counts` and `largest` in place."""

    centre: Float[Tensor, "neurons 1"]
    scale: Float[Tensor, "neurons 1"]
    counts: Int[Tensor, "neurons bin_of"]
    largest: Float[Tensor, " neurons"]


def begin_histogram(
    maps: Float[Tensor, "batch neurons height width"], *, quantile: float, at_once: int = VALUES_AT_ONCE
) -> Histogram:
    """An empty histogram whose bins suit these first maps; they still have to be added."""
    rank = max(1, round(maps[:, 0].numel() * (1 - quantile)))
    centres = [values.kthvalue(rank, dim=1, keepdim=True).values for values in _add_by_unit(maps, at_once)]
    spreads = [
        (values - at).abs_().mean(1, keepdim=True)
        for values, at in zip(_add_by_unit(maps, at_once), centres, strict=True)
    ]
    centre, spread = torch.cat(centres), torch.cat(spreads)
    typical = (spread.mean() + (centre - centre.mean()).abs().mean()) / 1024  # for a unit that is silent at first
    scale = torch.where(spread > 0, spread, typical) / 16
    scale = torch.maximum(scale, centre.abs() * SMALLEST)
    return Histogram(
        centre=centre,
        scale=torch.where(scale > 0, scale.clamp(min=TINY), SMALLEST),
        counts=torch.zeros((len(centre), BINS), dtype=torch.int64, device=maps.device),
        largest=torch.full_like(centre[:, 0], -torch.inf),
    )


def add_values(
    histogram: Histogram, maps: Float[Tensor, "batch neurons height width"], *, at_once: int = VALUES_AT_ONCE
) -> None:
    """Count a batch of maps into the histogram, in place."""
    flat, first = histogram.counts.view(-1), 0
    for values in _add_by_unit(maps, at_once):
        units = slice(first, first + len(values))
        torch.maximum(histogram.largest[units], values.amax(1), out=histogram.largest[units])
        start = BINS * torch.arange(first, first + len(values), device=maps.device)
        bins = start[:, None] + bin_of(values, histogram.centre[units], histogram.scale[units])
        flat.scatter_add_(0, bins.view(-1), torch.ones_like(bins).view(-1))
        first += len(values)


def _add_by_unit(
    maps: Float[Tensor, "batch neurons height width"], at_once: int
) -> Iterator[Float[Tensor, "some values"]]:
    """Each unit's values in a row, for so many units at a time as have `at_once` values."""
    for some in maps.split(max(1, at_once // maps[:, 0].numel()), dim=1):
        yield some.transpose(0, 1).flatten(1).float().contiguous()


def bin_of(
    values: Float[Tensor, "neurons values"], centre: Float[Tensor, "neurons 1"], scale: Float[Tensor, "neurons 1"]
) -> Int[Tensor, "neurons values"]:
    """The bin of each value. Monotone in the value; bin CENTRE_BIN reaches equally far to both sides of the centre."""
    distance = values - centre
    steps = distance.abs().add_(scale).view(torch.int32)
    steps = steps.sub_(scale.view(torch.int32)).bitwise_right_shift_(SHIFT)
    sign = distance.view(torch.int32).bitwise_right_shift_(31)  # -1 below the centre, where two's complement negates
    return steps.bitwise_xor_(sign).sub_(sign).add_(CENTRE_BIN).clamp_(0, BINS - 1)


def find_threshold(histogram: Histogram, *, quantile: float) -> Float[Tensor, " neurons"]:
    """The lowest bin edge with at most the share `quantile` of the unit's values above it."""
    chosen = torch.cat([_find_first_bin(counts, quantile) for counts in histogram.counts.split(64)])
    return torch.where(chosen == BINS - 1, histogram.largest, _upper_bin_edge(chosen, histogram))


def _find_first_bin(counts: Int[Tensor, "neurons bin_of"], quantile: float) -> Int[Tensor, " neurons"]:
    total = counts.sum(1, keepdim=True)
    above = total - counts.cumsum(1)
    return (above > quantile * total.double()).sum(1)


def _upper_bin_edge(chosen: Int[Tensor, " neurons"], histogram: Histogram) -> Float[Tensor, " neurons"]:
    """The largest value of a bin: above the centre the float before the next bin, below it the bin's first."""
    steps = (chosen - CENTRE_BIN).to(torch.int32)
    scale = histogram.scale[:, 0]
    bits = torch.where(steps >= 0, ((steps + 1) << SHIFT) - 1, -steps << SHIFT) + scale.view(torch.int32)
    distance = bits.view(torch.float32) - scale
    return histogram.centre[:, 0] + torch.where(steps >= 0, distance, -distance)


ANCHORS = {
    "centres": lambda pixel, positions, pixels: (pixel + 0.5) * positions / pixels - 0.5,
    "receptive_fields": lambda pixel, positions, pixels: pixel * positions / pixels,
    "corners": lambda pixel, positions, pixels: pixel * (positions - 1) / max(1, pixels - 1),
}
"""Where a pixel lies among the positions of a map.

`centres`: each position covers its share of the pixels and stands in the middle of them (as
`torch.nn.functional.interpolate`). `receptive_fields`: position i stands at pixel i x stride, the centre of the
receptive field of convolutions with odd kernels that pad by half of them, as the code of 2017 anchors its maps.
`corners`: the outermost positions stand on the outermost pixels (`align_corners`).
"""

PIXELS_AT_ONCE = 1 << 18  # pixels computed at once: bounds the memory where many are active


@dataclass(frozen=True, eq=False)
class Annotation:
    """One image's concepts. `indices` holds, per pixel, 1 + the index into `present`; 0 is background.

    No pixel has the same concept in two maps.
    """

    present: Int[Tensor, " present"]
    indices: Int[Tensor, "maps height width"]
    whole: Bool[Tensor, " present"]  # the concepts that hold for every pixel, and are then in no map

    def to(self, device: torch.device) -> "Annotation":
        """The same on a device."""
        return Annotation(self.present.to(device), self.indices.to(device), self.whole.to(device))


def make_annotation(segmentation: Segmentation, *, concepts: int) -> Annotation:
    """The segmentation in terms of the concepts that the image has.

    Args:
        segmentation: label maps, which may overlap, and the concepts of the whole image.
        concepts: how many concepts the probe set has.
    """
    whole = np.zeros(concepts + 1, dtype=bool)  # index 0 is that of -1, none
    whole[[1 + concept for concept in segmentation.whole]] = True
    maps = segmentation.maps + 1
    maps[whole[maps]] = 0
    for later in range(1, len(maps)):
        maps[later][(maps[:later] == maps[later]).any(0)] = 0
    seen = whole | (np.bincount(maps.reshape(-1), minlength=concepts + 1) > 0)
    seen[0] = False
    new_number = np.where(seen, np.cumsum(seen), 0)
    present = np.flatnonzero(seen)
    return Annotation(*map(torch.from_numpy, (present - 1, new_number[maps], whole[present])))


def count_annotated_pixels(annotated: Annotation) -> Int[Tensor, " present"]:
    """The pixels of each concept present."""
    pixels = torch.bincount(annotated.indices.reshape(-1), minlength=len(annotated.present) + 1)[1:]
    return pixels + annotated.whole * annotated.indices.shape[1:].numel()


def count_overlap(
    maps: Float[Tensor, "neurons height width"],
    threshold: Float[Tensor, " neurons"],
    annotated: Annotation,
    *,
    anchors: str = "centres",
    at_once: int = PIXELS_AT_ONCE,
) -> tuple[Int[Tensor, " active"], Int[Tensor, " active"], Int[Tensor, "active present"]]:
    """The active pixels of each unit in one image, and those of them that each concept covers.

    Args:
        maps: activation maps of the image.
        threshold: of each unit; a pixel is active where the upsampled map exceeds it.
        annotated: the concepts present.
        anchors: one of `ANCHORS`.
        at_once: pixels that are computed at once.

    Returns:
        The units with an active position, by number, their active pixels, and their pixels in common with each concept.
    """
    active = (maps.amax((1, 2)) > threshold).nonzero()[:, 0]
    units, columns = len(active), len(annotated.present) + 1
    indices = annotated.indices.flatten(1)
    area, covered = active.new_zeros(units), active.new_zeros(units * columns)
    size = annotated.indices.shape[1:]
    pixels = find_active_pixels(maps[active].float(), threshold[active], size, anchors=anchors, at_once=at_once)
    for unit, pixel in pixels:
        area += torch.bincount(unit, minlength=units)
        covered += torch.bincount((unit * columns + indices[:, pixel]).reshape(-1), minlength=units * columns)
    both = covered.view(units, columns)[:, 1:]
    return active, area, torch.where(annotated.whole, area[:, None], both)


def find_active_pixels(
    maps: Float[Tensor, "neurons height width"],
    threshold: Float[Tensor, " neurons"],
    size: torch.Size,
    *,
    anchors: str = "centres",
    at_once: int = PIXELS_AT_ONCE,
) -> Iterator[tuple[Int[Tensor, " active"], Int[Tensor, " active"]]]:
    """Unit and pixel number of every active pixel, some at a time; pixels count along the rows of an image of `size`.

    A cell is a position with its successors below and to the right; its block are the pixels between them.
    """
    sides = zip(maps.shape[1:], size, strict=True)
    down, along = (make_axis(*side, anchors=anchors, device=maps.device) for side in sides)
    cells = _spread_positions(_spread_positions(maps > threshold[:, None, None], 1), 2).nonzero()
    for unit, top, left in (some.unbind(1) for some in cells.split(max(1, at_once // (down.most * along.most)))):
        below, right = (top + 1).clamp_(max=maps.shape[1] - 1), (left + 1).clamp_(max=maps.shape[2] - 1)
        slope = along.weight[left]
        upper = torch.lerp(maps[unit, top, left][:, None], maps[unit, top, right][:, None], slope)
        lower = torch.lerp(maps[unit, below, left][:, None], maps[unit, below, right][:, None], slope)
        block = torch.lerp(upper[:, None, :], lower[:, None, :], down.weight[top][:, :, None])
        cell, row, column = (block > threshold[unit][:, None, None]).nonzero().unbind(1)
        yield unit[cell], (down.start[top[cell]] + row) * size[1] + along.start[left[cell]] + column


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of the upsampling: the pixels between a position and its successor, and how far along each is.

    `weight` is NaN beyond the last of a position's pixels, and so is what is interpolated there: it exceeds nothing.
    """

    start: Int[Tensor, " positions"]
    weight: Float[Tensor, "positions most"]

    @property
    def most(self) -> int:
        """The most pixels that lie between two positions."""
        return self.weight.shape[1]


def upsample_at(
    maps: Float[Tensor, "neurons height width"], size: torch.Size, *, anchors: str = "centres"
) -> Float[Tensor, "neurons tall wide"]:
    """The whole maps, upsampled bilinearly to `size`."""
    (height, tall), (width, wide) = zip(maps.shape[1:], size, strict=True)
    down = _weights(height, tall, anchors=anchors, device=maps.device)
    along = _weights(width, wide, anchors=anchors, device=maps.device)
    return torch.einsum("ph,nhw,qw->npq", down, maps.float(), along)


def _weights(positions: int, pixels: int, *, anchors: str, device: torch.device) -> Float[Tensor, "pixels positions"]:
    """How much of each position is in each pixel."""
    positions_of_pixels = _locate(positions, pixels, anchors=anchors, device=device)
    return (
        (1 - (positions_of_pixels.clamp(max=positions - 1)[:, None] - torch.arange(positions, device=device)).abs())
        .clamp_(0)
        .float()
    )


def _locate(positions: int, pixels: int, *, anchors: str, device: torch.device | None) -> Float[Tensor, " pixels"]:
    pixel = torch.arange(pixels, dtype=torch.float64, device=device)
    return ANCHORS[anchors](pixel, positions, pixels).clamp_(min=0)


def make_axis(positions: int, pixels: int, *, anchors: str = "centres", device: torch.device | None = None) -> Axis:
    """The pixels' coordinates among the positions by one of `ANCHORS`, and not below 0."""
    located = _locate(positions, pixels, anchors=anchors, device=device)
    first = located.long()
    count = torch.bincount(first, minlength=positions)
    start = count.cumsum(0) - count
    weight = torch.full((positions, int(count.max())), torch.nan, device=device)
    weight[first, torch.arange(pixels, device=device) - start[first]] = (located - first).float()
    return Axis(start, weight)


def _spread_positions(active: Bool[Tensor, "neurons height width"], dim: int) -> Bool[Tensor, "neurons height width"]:
    """Where the position or its successor is active."""
    after = active.narrow(dim, 1, active.shape[dim] - 1)
    spread = active.clone()
    spread.narrow(dim, 0, active.shape[dim] - 1).logical_or_(after)
    return spread
