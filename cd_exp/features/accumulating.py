"""The strongest images and the statistics of every unit, accumulated over blocks of images in one process."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cd_exp.reductions import Statistics, merge_statistics, merge_strongest, statistics, strongest
from cd_exp.types import Strongest


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
            chosen, units = (rows > self.lists.values[-1]).nonzero(as_tuple=True)
            self.waiting.append((rows[chosen, units], images[chosen], units))
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

    def _sort_in(self) -> None:
        """Sort what waits into the lists; entries stand in ascending order of images among equals, and stay so."""
        if not self.waiting or self.lists is None:
            return
        kept, units = self.lists.values.shape
        places = torch.arange(units, device=self.lists.values.device).expand(kept, units)
        listed = (self.lists.values.flatten(), self.lists.indices.flatten(), places.flatten())
        values, images, owners = (torch.cat(column) for column in zip(listed, *self.waiting, strict=True))
        order = values.argsort(descending=True, stable=True)
        order = order[owners[order].argsort(stable=True)]
        counts = torch.bincount(owners, minlength=units)
        rank = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        order = order[rank < kept].view(units, kept).T
        self.lists = Strongest(values[order], images[order], self.lists.images)
        self.waiting.clear()
