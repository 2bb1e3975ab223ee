"""Unfinished entries: arrays whose shards are written where they belong, and reductions whose pieces merge.

`partial/KEY/values.npy` has its final size from the first shard on (a sparse file: no disk is taken before it is
written). Beside it lies a small record for each finished shard, with its checksum; a shard without one is computed
again.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from cd_exp.cache.entries import (
    ARRAY,
    BLOCK,
    MANIFEST,
    Damaged,
    Entry,
    hash_file,
    hash_shards,
    read_sealed_json,
    seal_json,
)
from cd_exp.io.atomic import TEMPORARY, report_disk_errors, sync_to_disk, temporary_file, write_file

START = 4096
"""Bytes before the rows: a page, so that a shard of 1,024 rows of 4-byte numbers is pages of its own. Processes on
several machines then never write into one page of a network disk, whose caches know only whole pages."""

OLD_SHARD = 1024
"""Rows of a shard whose record does not say it, of versions up to 0.2.0."""

RECORD = "[0-9]" * 6 + ".json"
OURS = re.compile(
    r"values\.np[yz]|manifest\.json|\d{6}\.json|\d+-[0-9a-f]{16}\.np[yz]|" + re.escape(TEMPORARY) + "[0-9a-f]{32}"
)
"""The names of files in an entry's folder, complete or in the making."""


class PartialArray:
    """A two-dimensional array of `rows` rows below `folder`, made `shard` rows at a time by one process or
    several.
    """

    def __init__(self, folder: Path, entry: Entry, *, rows: int, shard: int, remedy: str) -> None:
        self.folder, self.entry, self.rows, self.shard, self.remedy = folder, entry, rows, shard, remedy
        self.path = folder / ARRAY

    @property
    def shards(self) -> int:
        """How many shards there are in all; the last may have fewer rows."""
        return -(-self.rows // self.shard)

    def finished_shards(self) -> set[int]:
        """The numbers of the shards that have a record."""
        return {int(path.stem) for path in self.folder.glob(RECORD)}

    def find_shard_size(self) -> int | None:
        """The rows of a shard as the process that began the array chose them; None where there is no record."""
        for number in sorted(self.finished_shards()):
            try:
                return int(self._record(number).get("shard", OLD_SHARD))
            except Damaged:
                continue
        return None

    def mend(self) -> list[str]:
        """Remove what a kill left half-written, and records of damaged rows; says which. Call it under the lock."""
        for path in self.folder.glob(f"{TEMPORARY}*"):
            path.unlink()
        notes, intact = [], {}
        for number in sorted(self.finished_shards()):
            try:
                record = self._record(number)
                intact[number] = record["sha256"]
            except (Damaged, KeyError) as error:
                notes.append(self._drop(number, str(error)))
            else:
                if record.get("shard", OLD_SHARD) != self.shard:
                    notes.append(self._drop(number, f"it has other rows than shards of {self.shard}"))
                    del intact[number]
        if intact and self.path.is_file():
            checksums = hash_shards(self.path, START, rows=self.rows, shard=self.shard, only=list(intact))
            bad = [number for number, now in zip(intact, checksums, strict=True) if now != intact[number]]
            notes += [self._drop(number, "its rows do not have their checksum") for number in bad]
        elif intact:
            notes += [self._drop(number, f"{ARRAY} is missing") for number in intact]
        return notes

    def save(self, number: int, values: np.ndarray, unreadable: Sequence[int] = ()) -> None:
        """Write one shard and, when its rows are on the disk, its record.

        Args:
            number: of the shard.
            values: its rows; those of unreadable images may hold anything.
            unreadable: their indices into all rows.
        """
        rows = np.ascontiguousarray(values)
        data = rows.data.cast("B")
        with report_disk_errors(self.folder, remedy=self.remedy):
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._open_file(rows) as file:
                begin = START + number * self.shard * rows[0].nbytes
                while len(data):
                    written = os.pwrite(file, data, begin)
                    data, begin = data[written:], begin + written
                os.fsync(file)
        record: dict[str, Any] = {"sha256": hashlib.sha256(rows.data).hexdigest(), "unreadable": list(unreadable)}
        record["shard"] = self.shard
        write_file(self.folder / f"{number:06d}.json", seal_json(record))

    def complete(self, **facts: Any) -> None:
        """Leave out the unreadable rows and write the manifest; the folder then only has to be renamed.

        Raises:
            ValueError: a shard is missing.
        """
        missing = sorted(set(range(self.shards)) - self.finished_shards())
        if missing:
            raise ValueError(f"{self.entry.says}: shards {missing[:5]} of {self.shards} are missing")
        records = [self._record(number) for number in range(self.shards)]
        hashes = [record["sha256"] for record in records]
        unreadable = sorted(index for record in records for index in record["unreadable"])
        rows = self.rows - len(unreadable)
        first = np.load(self.path, mmap_mode="r")
        shape, kind = (rows, *first.shape[1:]), first.dtype
        if unreadable:
            with report_disk_errors(self.folder, remedy=self.remedy):
                moved = self._close_up(unreadable, first[0].nbytes, _npy_header(shape, kind))
            changed = range(moved, -(-rows // self.shard))
            hashes[moved:] = hash_shards(self.path, START, rows=rows, shard=self.shard, only=changed)
        about = {"kind": self.entry.kind, "content": self.entry.content, "shape": shape, "dtype": str(kind)}
        layout = {"file": ARRAY, "start": START, "shard": self.shard, "sha256": hashes, "unreadable": unreadable}
        write_file(self.folder / MANIFEST, seal_json({**about, **layout, **facts}), durable=True)

    def _record(self, number: int) -> dict[str, Any]:
        return read_sealed_json(self.folder / f"{number:06d}.json")

    def _drop(self, number: int, reason: str) -> str:
        (self.folder / f"{number:06d}.json").unlink()
        return f"shard {number} of {self.entry.says} was damaged ({reason}); it is made again"

    @contextmanager
    def _open_file(self, rows: np.ndarray) -> Iterator[int]:
        """The file, made where missing; several processes may make it at once, for all write the same header."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            header = _npy_header((self.rows, *rows.shape[1:]), rows.dtype)
            size = START + self.rows * rows[0].nbytes
            if os.pread(file, START, 0) != header:
                os.pwrite(file, header, 0)
            if os.fstat(file).st_size != size:
                os.ftruncate(file, size)
            yield file
        finally:
            os.close(file)

    def _close_up(self, unreadable: Sequence[int], size: int, header: bytes) -> int:
        """Move later rows over the unreadable ones, within the file; gives the first shard that changes.

        Done once, when the entry is made: rows left out while reading would copy the array in every run.
        """
        bounds = [*unreadable, self.rows]
        with self.path.open("r+b") as file:
            target = START + unreadable[0] * size
            for before, after in pairwise(bounds):
                source, length = START + (before + 1) * size, (after - before - 1) * size
                while length:
                    file.seek(source)
                    block = file.read(min(BLOCK, length))
                    file.seek(target)
                    file.write(block)
                    source, target, length = source + len(block), target + len(block), length - len(block)
            file.truncate(target)
            file.seek(0)
            file.write(header)
        return unreadable[0] // self.shard


def remove_entry_files(folder: Path) -> None:
    """Remove what is ours of an entry or of one in the making; files of others stay, and the folder with them."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if OURS.fullmatch(path.name):
            if path.is_symlink() or not path.is_dir():
                path.unlink()
            elif not any(path.iterdir()):
                path.rmdir()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _npy_header(shape: Sequence[int], dtype: np.dtype) -> bytes:
    """The header of an npy file, filled up to `START` bytes."""
    about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": tuple(shape)}
    text = repr(about).encode("latin1")
    length = START - len(np.lib.format.magic(1, 0)) - 2
    return np.lib.format.magic(1, 0) + length.to_bytes(2, "little") + text.ljust(length - 1) + b"\n"


Arrays = Mapping[str, np.ndarray]


class PartialResults:
    """The pieces of one entry. The name of each file carries its checksum: it is complete, or it is not there."""

    def __init__(self, folder: Path, entry: Entry, *, remedy: str) -> None:
        self.folder, self.entry, self.remedy = folder, entry, remedy

    def save(self, arrays: Arrays, *, instead_of: Path | None = None) -> Path:
        """Write a piece, then remove the smaller one that it replaces.

        A kill between the two leaves both; whoever reads takes the larger.
        """
        with temporary_file(self.folder, remedy=self.remedy) as half:
            with half.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            sync_to_disk(half)
            path = self.folder / f"{os.getpid()}-{hash_file(half)[:16]}.npz"
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
        bad = [path for path in self.folder.glob("*.npz") if hash_file(path)[:16] != path.stem.partition("-")[2]]
        for path in bad:
            path.unlink()
        return [f"a part of {self.entry.says} was damaged; it is made again" for _ in bad]


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file, in memory."""
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)
