"""How a layer's activations are stored, shard by shard: as they are, or reduced.

Either way a finished shard survives a kill, processes share the shards, and neither changes a number.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cd_exp import distributed
from cd_exp.activation_stats import BINS, Statistics
from cd_exp.cache import Entry, Store
from cd_exp.features.accumulating import Accumulator, Reduced, merged
from cd_exp.records import Strongest

SHARD = 1024
"""Images; what a kill can lose, and what a process takes at a time."""

CHECKPOINT = 20.0
"""Seconds between two writes of a reduction: its size does not shrink with the shard, so not every shard is written."""


@runtime_checkable  # beartype checks annotations under pytest
class Collector(Protocol):
    """Takes the activations of one layer, a shard at a time."""

    entry: Entry
    on_device: bool
    """Whether rows are handed over on the device they were made on, or on the CPU."""

    def stored(self, *, verify: bool) -> bool:
        """Whether the entry is there, and has all that is wanted of it."""

    def bytes_to_come(self, units: int) -> int:
        """How much more will be written for a layer of so many units."""

    def size(self, units: int) -> int:
        """How much the entry takes for a layer of so many units, once it is there."""

    def mend(self) -> list[str]:
        """Remove what a kill left half-written and what is damaged; says which. Call it under the lock."""

    def finished(self) -> set[int]:
        """The shards that need not be computed again."""

    def add(
        self, number: int, rows: Float[Tensor, "images units"], images: Int[np.ndarray, " images"], bad: Sequence[int]
    ) -> None:
        """Take a shard: its rows, the images they are of, and those of them that could not be read."""

    def close(self) -> None:
        """Write what is not written yet."""

    def publish(self, says: str) -> None:
        """Make the entry of all shards. Call it under the lock, in one process."""


class Dense:
    """Keeps every activation."""

    on_device = False

    def __init__(self, store: Store, entry: Entry, *, images: int) -> None:
        self.store, self.entry = store, entry
        self.making = store.making(entry, rows=images, shard=SHARD)

    def stored(self, *, verify: bool) -> bool:
        """As `Collector`."""
        return self.store.holds(self.entry, verify=verify) is not None

    def bytes_to_come(self, units: int) -> int:
        """As `Collector`."""
        return 4 * units * max(0, self.making.rows - SHARD * len(self.making.finished()))

    def size(self, units: int) -> int:
        """As `Collector`."""
        return 4 * units * self.making.rows

    def mend(self) -> list[str]:
        """As `Collector`."""
        return self.making.mend()

    def finished(self) -> set[int]:
        """As `Collector`."""
        return self.making.finished()

    def add(self, number: int, rows: Tensor, images: np.ndarray, bad: Sequence[int]) -> None:
        """As `Collector`."""
        self.making.save(number, rows.cpu().numpy(), bad)

    def close(self) -> None:
        """As `Collector`."""

    def publish(self, says: str) -> None:
        """As `Collector`."""
        self.store.publish(self.making, says=says)


class Lists:
    """Keeps each unit's `kept` strongest images and its statistics."""

    on_device = True

    def __init__(self, store: Store, entry: Entry, *, images: int, kept: int) -> None:
        self.store, self.entry, self.images, self.kept = store, entry, images, min(kept, images)
        self.pieces = store.pieces(entry)
        self.running = Accumulator(self.kept)
        self.mine: set[int] = set()
        self.unreadable: list[int] = []
        self.written: Path | None = None
        self.time = time.monotonic()

    def stored(self, *, verify: bool) -> bool:
        """As `Collector`; a longer list serves a shorter one."""
        manifest = self.store.holds(self.entry, verify=verify)
        return manifest is not None and manifest.shape[0] >= min(self.kept, manifest.facts["images"])

    def bytes_to_come(self, units: int) -> int:
        """As `Collector`; the pieces of the processes and their merged whole."""
        return (distributed.world()[1] + 1) * self.size(units)

    def size(self, units: int) -> int:
        """As `Collector`."""
        return units * (8 * self.kept + 4 * BINS + 40)

    def mend(self) -> list[str]:
        """As `Collector`; pieces of shorter lists than are wanted now go as well."""
        said = self.pieces.mend()
        for path, arrays in self.pieces.load():
            if len(arrays["values"]) < min(self.kept, int(arrays["images"])):
                path.unlink()
        return said

    def finished(self) -> set[int]:
        """As `Collector`."""
        return {int(number) for piece in self._apart() for number in piece["shards"]}

    def add(self, number: int, rows: Tensor, images: np.ndarray, bad: Sequence[int]) -> None:
        """As `Collector`."""
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
        """As `Collector`."""
        if self.mine and self.running.reduced is not None:
            arrays = {**as_arrays(self.running.reduced), "shards": np.array(sorted(self.mine))}
            arrays["unreadable"] = np.array(self.unreadable, dtype=np.int64)
            self.written = self.pieces.save(arrays, instead_of=self.written)
            self.time = time.monotonic()

    def publish(self, says: str) -> None:
        """As `Collector`."""
        pieces = self._apart()
        missing = set(range(-(-self.images // SHARD))) - {int(n) for piece in pieces for n in piece["shards"]}
        if missing:
            raise ValueError(f"{self.entry.says}: shards {sorted(missing)[:5]} are missing")
        reduced = merged([of_arrays(piece) for piece in pieces], self.kept)
        unreadable = sorted(int(index) for piece in pieces for index in piece["unreadable"])
        facts = {"says": says, "unreadable": unreadable, "images": reduced.statistics.images}
        shape = list(reduced.strongest.values.shape)
        self.store.save_arrays(self.entry, as_arrays(reduced), shape=shape, **facts)
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


def as_arrays(reduced: Reduced) -> dict[str, np.ndarray]:
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


def of_arrays(arrays: dict[str, np.ndarray]) -> Reduced:
    """The reduction that `as_arrays` took apart."""
    images = int(arrays["images"])
    indices = torch.from_numpy(arrays["indices"].astype(np.int64))
    found = Strongest(torch.from_numpy(arrays["values"]), indices, images)
    return Reduced(found, Statistics(images, *(torch.from_numpy(arrays[name]) for name in STATISTICS)))
