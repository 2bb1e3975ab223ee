"""A reduction in the making: each process leaves pieces, each made from some shards, that merge into the whole."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cd_exp.cache.entries import Entry, digest
from cd_exp.io.atomic import TEMPORARY, temporary_file, to_disk

Arrays = Mapping[str, np.ndarray]


class Pieces:
    """The pieces of one entry. The name of each file carries its checksum: it is complete, or it is not there."""

    def __init__(self, folder: Path, entry: Entry, *, remedy: str) -> None:
        self.folder, self.entry, self.remedy = folder, entry, remedy

    def save(self, arrays: Arrays, *, instead_of: Path | None = None) -> Path:
        """Write a piece, then remove the smaller one that it takes the place of.

        A kill between the two leaves both; whoever reads takes the larger.
        """
        with temporary_file(self.folder, remedy=self.remedy) as half:
            with half.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            to_disk(half)
            path = self.folder / f"{os.getpid()}-{digest(half)[:16]}.npz"
            half.replace(path)
        if instead_of is not None and instead_of != path:
            instead_of.unlink(missing_ok=True)
        return path

    def load(self) -> list[tuple[Path, dict[str, np.ndarray]]]:
        """All pieces with their files."""
        return [(path, read_arrays(path)) for path in sorted(self.folder.glob("*.npz"))]

    def mend(self) -> list[str]:
        """Remove what a kill left half-written and what is damaged; says which. Call it under the lock."""
        for path in self.folder.glob(f"{TEMPORARY}*"):
            path.unlink()
        bad = [path for path in self.folder.glob("*.npz") if digest(path)[:16] != path.stem.partition("-")[2]]
        for path in bad:
            path.unlink()
        return [f"a part of {self.entry.says} was damaged; it is made again" for _ in bad]


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file, in memory."""
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)
