"""Features on disk under content-addressed keys: stored once, shared by every run, never reused for anything else.

An entry is a folder named by the hash of everything that changes its numbers; it holds `values.npy` (opened memory-
mapped) and `manifest.json`, which says in words what was hashed. Long entries are made shard by shard: a finished shard
survives a kill, and the next run continues from it. Nothing appears under its final name before it is whole.

    python -m cd_exp.cache list | verify | prune   [--dir DIR]
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from cd_exp.whole_files import temporary_file, temporary_folder, write

REMEDY = "set cache.dir to a larger one, or run `python -m cd_exp.cache prune`"
SCHEMA = 1
"""Raised by one whenever the meaning of stored numbers changes; old entries are then never found."""


def key_of(content: Mapping[str, Any]) -> str:
    """The key of what `content` describes: a hash of its canonical JSON."""
    text = json.dumps({"schema": SCHEMA, **content}, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Entry:
    """One kind of features to be found or made. `content` is all that changes the numbers, as plain JSON values."""

    kind: str
    content: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The content hash that names the entry."""
        return key_of({"kind": self.kind, **self.content})


class Store:
    """The cache below one folder. `read` and `made` list the entries this process used, for the manifest of a run."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()
        self.read: list[str] = []
        self.made: list[str] = []
        self.reports: list[str] = []

    def folder(self, entry: Entry) -> Path:
        """Where the entry lies once it is whole."""
        return self.root / entry.kind / entry.key

    def find(self, entry: Entry) -> np.ndarray | None:
        """The values of an entry, memory-mapped and checked, or None; a damaged entry is reported and set aside."""
        folder = self.folder(entry)
        if not folder.exists():
            return None
        fault = check(folder)
        if fault:
            self.reports.append(f"cache entry {entry.kind}/{entry.key[:12]} was damaged ({fault}); it is made again")
            shutil.rmtree(folder, ignore_errors=True)
            return None
        self.read.append(f"{entry.kind}/{entry.key}")
        return np.load(folder / "values.npy", mmap_mode="c")

    def manifest(self, entry: Entry) -> dict[str, Any]:
        """What is known of a whole entry."""
        return json.loads((self.folder(entry) / "manifest.json").read_text())

    def save(self, entry: Entry, values: np.ndarray, **facts: Any) -> np.ndarray:
        """Store a whole entry at once, and return it memory-mapped."""
        return self._publish(entry, lambda file: np.save(file, values, allow_pickle=False), facts)

    def remember(self, kind: str, content: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        """A small JSON value that is slow to find out, such as the layers of a network; made once for its content."""
        path = self.root / kind / f"{key_of({'kind': kind, **content})}.json"
        try:
            return json.loads(path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            value = json.loads(json.dumps(make()))
            write(path, json.dumps(value))
            return value

    @contextmanager
    def locked(self, entries: Sequence[Entry]) -> Iterator[None]:
        """Keep other processes from making these entries; whoever comes second finds them made."""
        (self.root / "locks").mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            for key in sorted({entry.key for entry in entries}):
                stack.enter_context(FileLock(self.root / "locks" / f"{key}.lock"))
            yield

    def shards(self, entry: Entry) -> dict[int, Path]:
        """The finished shards of an entry in the making; the damaged ones are removed."""
        found = {}
        for path in sorted((self.root / "partial" / entry.key).glob("*.npy")):
            number, checksum = path.stem.split("-")
            if digest(path)[:16] == checksum:
                found[int(number)] = path
            else:
                self.reports.append(f"shard {number} of {entry.kind}/{entry.key[:12]} was damaged; it is made again")
                path.unlink()
        return found

    def save_shard(self, entry: Entry, number: int, values: np.ndarray) -> None:
        """Store one shard; its name carries its checksum, so it is either whole or not there."""
        folder = self.root / "partial" / entry.key
        with temporary_file(folder, remedy=REMEDY) as path:
            with path.open("wb") as file:
                np.save(file, values, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            path.replace(folder / f"{number:06d}-{digest(path)[:16]}.npy")

    def merge(self, entry: Entry, *, rows: int, **facts: Any) -> np.ndarray:
        """Join the shards of an entry in their order into a whole one of so many rows, and return it memory-mapped."""
        paths = [path for _, path in sorted(self.shards(entry).items())]
        first = np.load(paths[0], mmap_mode="c")

        def fill(path: Path) -> None:
            target = np.lib.format.open_memmap(path, mode="w+", dtype=first.dtype, shape=(rows, *first.shape[1:]))
            row = 0
            for shard in paths:
                part = np.load(shard, mmap_mode="c")  # one at a time: a process may hold some thousand files at most
                target[row : row + len(part)] = part
                row += len(part)
            if row != rows:
                raise ValueError(f"{entry.kind}/{entry.key}: {len(paths)} shards make {row} rows, not {rows}")
            target.flush()

        values = self._publish(entry, fill, facts)
        shutil.rmtree(self.root / "partial" / entry.key)
        return values

    def sweep_partial(self, entry: Entry) -> None:
        """Remove what a kill left half-written, and the shards of an entry that is whole; call it under the lock."""
        if self.folder(entry).exists():
            shutil.rmtree(self.root / "partial" / entry.key, ignore_errors=True)
        for path in (self.root / "partial" / entry.key).glob(".tmp-*"):
            path.unlink()

    def _publish(self, entry: Entry, fill: Callable[[Path], None], facts: Mapping[str, Any]) -> np.ndarray:
        folder = self.folder(entry)
        folder.parent.mkdir(parents=True, exist_ok=True)
        for stale in folder.parent.glob(f".tmp-{entry.key}-*"):
            shutil.rmtree(stale)
        with temporary_folder(folder.parent, entry.key, remedy=REMEDY) as half:
            fill(half / "values.npy")
            values = np.load(half / "values.npy", mmap_mode="c")
            manifest = {
                "kind": entry.kind,
                "content": entry.content,
                "shape": values.shape,
                "dtype": str(values.dtype),
                "sha256": digest(half / "values.npy"),
                **facts,
            }
            (half / "manifest.json").write_text(json.dumps(manifest, indent=1))
            shutil.rmtree(folder, ignore_errors=True)
            half.replace(folder)
        self.made.append(f"{entry.kind}/{entry.key}")
        return np.load(folder / "values.npy", mmap_mode="c")


def check(folder: Path) -> str:
    """What is wrong with a stored entry, or an empty string."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        if digest(folder / "values.npy") != manifest["sha256"]:
            return "values.npy does not have its checksum"
        if key_of({"kind": manifest["kind"], **manifest["content"]}) != folder.name:
            return "its manifest describes something else"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (json.JSONDecodeError, KeyError):
        return "manifest.json is not readable"
    return ""
