"""The strongest images and the statistics of every unit, accumulated over blocks of images in one process."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cd_exp.activation_stats import COLUMNS, Statistics, merge_statistics, merge_strongest, statistics, strongest
from cd_exp.records import Strongest


@dataclass(frozen=True, eq=False)
class Reduced:
    """What is kept of a layer: `strongest` with indices into the probe, and the statistics."""

    strongest: Strongest
    statistics: Statistics


def merged(parts: Sequence[Reduced], k: int) -> Reduced:
    """The reduction of all images, from those of parts of them."""
    lists = merge_strongest([part.strongest for part in parts], k)
    return Reduced(lists, merge_statistics(part.statistics for part in parts))


class Accumulator:
    """Takes blocks of images in ascending order; memory does not grow with their number.

    Once a unit's list is full, an image is looked at again only where it exceeds the last of the list: one comparison
    an activation. What exceeds waits until it is as much as the lists hold, and is then sorted in at once. (On one
    core, 36,864 units and the 20,000th image: 1 ns an activation, where `topk` of every block takes 10.)
    """

    def __init__(self, k: int) -> None:
        self.k = k
        self.lists: Strongest | None = None
        self.counted: Statistics | None = None
        self.waiting: list[tuple[Tensor, Tensor, Tensor]] = []
        self.last = -1  # image

    def add(self, rows: Float[Tensor, "images neurons"], images: Int[Tensor, " images"]) -> None:
        """Take a block.

        Args:
            rows: activations, finite.
            images: their numbers, ascending and above those of earlier blocks: so of two equal activations the earlier
                one has the lower number, and the later never enters a full list.
        """
        assert int(images[0]) > self.last, "blocks come in ascending order"
        self.last = int(images[-1])
        found = statistics(rows, histogram=True)
        self.counted = found if self.counted is None else merge_statistics([self.counted, found])
        if self.lists is None or len(self.lists.values) < self.k:
            best = strongest(rows, self.k)
            best = Strongest(best.values, images[best.indices], len(rows))
            self.lists = best if self.lists is None else merge_strongest([self.lists, best], self.k)
        else:
            self._wait(rows, images, self.lists.values[-1])
            if sum(len(values) for values, _, _ in self.waiting) > self.lists.values.numel():
                self._sort_in()

    @property
    def reduced(self) -> Reduced | None:
        """What is known of the images so far; None before the first."""
        if self.lists is None or self.counted is None:
            return None
        self._sort_in()
        lists = Strongest(self.lists.values, self.lists.indices, self.counted.images)
        return Reduced(lists, self.counted)

    def _wait(self, rows: Tensor, images: Tensor, last: Tensor) -> None:
        """Put aside what exceeds the last of each list, unit by unit: values, image numbers, and how many a unit."""
        units, chosen = (rows > last).T.contiguous().nonzero(as_tuple=True)
        counts = torch.bincount(units, minlength=rows.shape[1])
        self.waiting.append((rows[chosen, units], images[chosen], counts))

    def _sort_in(self) -> None:
        """Sort what waits into the lists.

        Equal values stay in the order they stand in, and that is by image number: those of the list first, then block
        by block as they came.
        """
        if not self.waiting or self.lists is None:
            return
        kept, units = self.lists.values.shape
        counts = torch.stack([count for _, _, count in self.waiting])
        starts = [count.cumsum(0) - count for count in counts]
        values, indices = [], []
        for low in range(0, units, COLUMNS):
            part = slice(low, min(low + COLUMNS, units))
            width = kept + int(counts[:, part].sum(dim=0).max())
            row = torch.full((part.stop - low, width), -torch.inf, device=counts.device)
            numbers = torch.zeros(row.shape, dtype=torch.int64, device=counts.device)
            row[:, :kept], numbers[:, :kept] = self.lists.values[:, part].T, self.lists.indices[:, part].T
            filled = torch.full((part.stop - low,), kept, device=counts.device)
            for (value, image, count), start in zip(self.waiting, starts, strict=True):
                here, many = slice(int(start[low]), int(start[part.stop - 1] + count[part.stop - 1])), count[part]
                unit = torch.arange(len(many), device=counts.device).repeat_interleave(many)
                place = torch.arange(len(unit), device=counts.device) - (many.cumsum(0) - many)[unit] + filled[unit]
                row[unit, place], numbers[unit, place] = value[here], image[here]
                filled += many
            ordered, order = row.sort(dim=1, descending=True, stable=True)
            values.append(ordered[:, :kept])
            indices.append(numbers.gather(1, order[:, :kept]))
        listed, of_images = (torch.cat(column).T.contiguous() for column in (values, indices))
        self.lists = Strongest(listed, of_images, self.lists.images)
        self.waiting.clear()
