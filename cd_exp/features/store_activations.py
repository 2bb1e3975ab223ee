"""How a layer's activations are stored, shard by shard: as they are, or reduced to top images and statistics.

Either way a finished shard survives a kill, processes share the shards, and neither changes a number.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cd_exp import distributed
from cd_exp.activation_stats import (
    BINS,
    COLUMNS,
    ActivationStatistics,
    activation_statistics,
    merge_statistics,
    merge_strongest,
    strongest_images,
)
from cd_exp.cache import Entry, Store
from cd_exp.records import TopActivations


@dataclass(frozen=True, eq=False)
class LayerSummary:
    """What is kept of a layer: `strongest_images` with indices into the probe, and the statistics."""

    strongest: TopActivations
    statistics: ActivationStatistics


def merge_summaries(parts: Sequence[LayerSummary], k: int) -> LayerSummary:
    """The reduction of all images, from those of parts of them."""
    lists = merge_strongest([part.strongest for part in parts], k)
    return LayerSummary(lists, merge_statistics(part.statistics for part in parts))


class Accumulator:
    """Takes blocks of images in ascending order; memory does not grow with their number.

    Once a unit's list is full, an image is looked at again only where it exceeds the last of the list: one comparison
    an activation. What exceeds waits until it is as much as the lists hold, and is then sorted in at once. (On one
    core, 36,864 units and the 20,000th image: 1 ns an activation, where `topk` of every block takes 10.)
    """

    def __init__(self, k: int) -> None:
        self.k = k
        self.lists: TopActivations | None = None
        self.counted: ActivationStatistics | None = None
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
        counted = activation_statistics(rows, histogram=True)
        self.counted = counted if self.counted is None else merge_statistics([self.counted, counted])
        if self.lists is None or len(self.lists.values) < self.k:
            best = strongest_images(rows, self.k)
            best = TopActivations(best.values, images[best.indices], len(rows))
            self.lists = best if self.lists is None else merge_strongest([self.lists, best], self.k)
        else:
            self._wait(rows, images, self.lists.values[-1])
            if sum(len(values) for values, _, _ in self.waiting) > self.lists.values.numel():
                self._sort_in()

    @property
    def reduced(self) -> LayerSummary | None:
        """What is known of the images so far; None before the first."""
        if self.lists is None or self.counted is None:
            return None
        self._sort_in()
        lists = TopActivations(self.lists.values, self.lists.indices, self.counted.images)
        return LayerSummary(lists, self.counted)

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
                span, many = slice(int(start[low]), int(start[part.stop - 1] + count[part.stop - 1])), count[part]
                unit = torch.arange(len(many), device=counts.device).repeat_interleave(many)
                slot = torch.arange(len(unit), device=counts.device) - (many.cumsum(0) - many)[unit] + filled[unit]
                row[unit, slot], numbers[unit, slot] = value[span], image[span]
                filled += many
            ordered, order = row.sort(dim=1, descending=True, stable=True)
            values.append(ordered[:, :kept])
            indices.append(numbers.gather(1, order[:, :kept]))
        listed, of_images = (torch.cat(column).T.contiguous() for column in (values, indices))
        self.lists = TopActivations(listed, of_images, self.lists.images)
        self.waiting.clear()


SHARD = 1024
"""Images; what a kill can lose, and what a process takes at a time, as far as the processes are few."""

SMALLEST_SHARD = 32
LARGEST_SHARE = 1.1
"""Times the mean share of images, of the process that has most."""


def choose_shard(images: int, processes: int, *, most: int = SHARD) -> int:
    """Images in a shard, so that no process has more than `LARGEST_SHARE` of the mean: 64 processes share 49,000 images
    as 3 shards of 256 each, where 48 shards of 1,024 would leave 16 of them idle.

    >>> choose_shard(49_000, 64), choose_shard(49_000, 1)
    (256, 1024)
    """
    shard = most
    while processes > 1 and shard > SMALLEST_SHARD:
        largest = shard * math.ceil(math.ceil(images / shard) / processes)
        if largest <= LARGEST_SHARE * images / processes:
            break
        shard //= 2
    return shard


CHECKPOINT = 20.0
"""Seconds between two writes of a reduction: its size does not shrink with the shard, so not every shard is written."""


@runtime_checkable  # beartype checks annotations under pytest
class ActivationWriter(Protocol):
    """Takes the activations of one layer, a shard at a time."""

    entry: Entry
    on_device: bool
    """Whether rows are handed over on the device they were made on, or on the CPU."""
    shard: int
    """Images in a shard."""

    def find_shard_size(self) -> int | None:
        """The images of a shard of what was begun and not finished; None where nothing was."""

    def is_stored(self, *, verify: bool) -> bool:
        """Whether the entry is there, and has all that is wanted of it."""

    def bytes_to_come(self, units: int) -> int:
        """How much more will be written for a layer of so many units."""

    def size(self, units: int) -> int:
        """How much the entry takes for a layer of so many units, once it is there."""

    def mend(self) -> list[str]:
        """Remove what a kill left half-written and what is damaged; says which. Call it under the lock."""

    def finished_shards(self) -> set[int]:
        """The shards that need not be computed again."""

    def add(
        self, number: int, rows: Float[Tensor, "images units"], images: Int[np.ndarray, " images"], bad: Sequence[int]
    ) -> None:
        """Take a shard: its rows, the images they are of, and those of them that could not be read."""

    def close(self) -> None:
        """Write what is not written yet."""

    def publish(self, says: str) -> None:
        """Make the entry of all shards. Call it under the lock, in one process."""


class DenseWriter:
    """Keeps every activation."""

    on_device = False

    def __init__(self, store: Store, entry: Entry, *, images: int, shard: int = SHARD) -> None:
        self.store, self.entry = store, entry
        self.making = store.open_partial(entry, rows=images, shard=shard)

    @property
    def shard(self) -> int:
        """As `ActivationWriter`."""
        return self.making.shard

    @shard.setter
    def shard(self, images: int) -> None:
        self.making.shard = images

    def find_shard_size(self) -> int | None:
        """As `ActivationWriter`."""
        return self.making.find_shard_size()

    def is_stored(self, *, verify: bool) -> bool:
        """As `ActivationWriter`."""
        return self.store.holds(self.entry, verify=verify) is not None

    def bytes_to_come(self, units: int) -> int:
        """As `ActivationWriter`."""
        return 4 * units * max(0, self.making.rows - self.shard * len(self.making.finished_shards()))

    def size(self, units: int) -> int:
        """As `ActivationWriter`."""
        return 4 * units * self.making.rows

    def mend(self) -> list[str]:
        """As `ActivationWriter`."""
        return self.making.mend()

    def finished_shards(self) -> set[int]:
        """As `ActivationWriter`."""
        return self.making.finished_shards()

    def add(self, number: int, rows: Tensor, images: np.ndarray, bad: Sequence[int]) -> None:
        """As `ActivationWriter`."""
        self.making.save(number, rows.cpu().numpy(), bad)

    def close(self) -> None:
        """As `ActivationWriter`."""

    def publish(self, says: str) -> None:
        """As `ActivationWriter`."""
        self.store.publish(self.making, says=says)


class TopKWriter:
    """Keeps each unit's `kept` strongest images and its statistics."""

    on_device = True

    def __init__(self, store: Store, entry: Entry, *, images: int, kept: int, shard: int = SHARD) -> None:
        self.store, self.entry, self.images, self.kept = store, entry, images, min(kept, images)
        self.pieces, self.shard = store.pieces(entry), shard
        self.running = Accumulator(self.kept)
        self.mine: set[int] = set()
        self.unreadable: list[int] = []
        self.written: Path | None = None
        self.time = time.monotonic()

    def is_stored(self, *, verify: bool) -> bool:
        """As `ActivationWriter`; a longer list serves a shorter one."""
        manifest = self.store.holds(self.entry, verify=verify)
        return manifest is not None and manifest.shape[0] >= min(self.kept, manifest.facts["images"])

    def bytes_to_come(self, units: int) -> int:
        """As `ActivationWriter`; the pieces of the processes and their merged whole."""
        return (distributed.get_rank_and_size()[1] + 1) * self.size(units)

    def size(self, units: int) -> int:
        """As `ActivationWriter`."""
        return units * (8 * self.kept + 4 * BINS + 40)

    def find_shard_size(self) -> int | None:
        """As `ActivationWriter`."""
        return next((int(piece.get("shard", SHARD)) for _, piece in self.pieces.load()), None)

    def mend(self) -> list[str]:
        """As `ActivationWriter`; pieces of shorter lists or other shards than are wanted now go as well."""
        notes = self.pieces.mend()
        for path, arrays in self.pieces.load():
            short = len(arrays["values"]) < min(self.kept, int(arrays["images"]))
            if short or arrays.get("shard", SHARD) != self.shard:
                path.unlink()
        return notes

    def finished_shards(self) -> set[int]:
        """As `ActivationWriter`."""
        return {int(number) for piece in self._apart() for number in piece["shards"]}

    def add(self, number: int, rows: Tensor, images: np.ndarray, bad: Sequence[int]) -> None:
        """As `ActivationWriter`."""
        if bad:
            good = ~np.isin(images, bad)
            rows, images = rows[torch.from_numpy(good).to(rows.device)], images[good]
        if len(rows):
            self.running.add(rows, torch.from_numpy(images).to(rows.device))
        self.mine.add(number)
        self.unreadable += bad
        if time.monotonic() - self.time > CHECKPOINT:
            self.close()

    def close(self) -> None:
        """As `ActivationWriter`."""
        if self.mine and self.running.reduced is not None:
            arrays = {**summary_to_arrays(self.running.reduced), "shards": np.array(sorted(self.mine))}
            arrays |= {"unreadable": np.array(self.unreadable, dtype=np.int64), "shard": np.array(self.shard)}
            self.written = self.pieces.save(arrays, instead_of=self.written)
            self.time = time.monotonic()

    def publish(self, says: str) -> None:
        """As `ActivationWriter`."""
        pieces = self._apart()
        missing = set(range(-(-self.images // self.shard))) - {int(n) for piece in pieces for n in piece["shards"]}
        if missing:
            raise ValueError(f"{self.entry.says}: shards {sorted(missing)[:5]} are missing")
        reduced = merge_summaries([summary_from_arrays(piece) for piece in pieces], self.kept)
        unreadable = sorted(int(index) for piece in pieces for index in piece["unreadable"])
        facts = {"says": says, "unreadable": unreadable, "images": reduced.statistics.images}
        shape = list(reduced.strongest.values.shape)
        self.store.save_arrays(self.entry, summary_to_arrays(reduced), shape=shape, **facts)
        self.store.drop_partial(self.entry)

    def _apart(self) -> list[dict[str, np.ndarray]]:
        """Pieces without a shard in common: a killed process may leave one beside the larger one that replaces it."""
        chosen: list[dict[str, np.ndarray]] = []
        covered: set[int] = set()
        for _, piece in sorted(self.pieces.load(), key=lambda pair: -len(pair[1]["shards"])):
            if covered.isdisjoint(piece["shards"].tolist()):
                chosen.append(piece)
                covered |= set(piece["shards"].tolist())
        return chosen


def summary_to_arrays(reduced: LayerSummary) -> dict[str, np.ndarray]:
    """The arrays of a reduction, for a file; image numbers take four bytes where they fit."""
    images, counts = reduced.strongest.indices.cpu().numpy(), reduced.statistics
    small = np.int32 if images.size == 0 or images.max() < 2**31 else np.int64
    return {
        "values": reduced.strongest.values.cpu().numpy(),
        "indices": images.astype(small),
        "images": np.array(counts.images),
        **{name: getattr(counts, name).cpu().numpy() for name in STATISTICS},
    }


STATISTICS = ("least", "greatest", "total", "squares", "firing", "counts")


def summary_from_arrays(arrays: dict[str, np.ndarray]) -> LayerSummary:
    """The reduction that `summary_to_arrays` took apart."""
    images = int(arrays["images"])
    indices = torch.from_numpy(arrays["indices"].astype(np.int64))
    strongest = TopActivations(torch.from_numpy(arrays["values"]), indices, images)
    return LayerSummary(
        strongest, ActivationStatistics(images, *(torch.from_numpy(arrays[name]) for name in STATISTICS))
    )
