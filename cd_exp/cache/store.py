"""The cache below one folder: entries a run reads, makes and locks, behind the tag that marks the folder as a cache.

Nothing is ever removed from a folder without the tag.
"""

import errno
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock, Timeout

from cd_exp.cache.entries import (
    ARRAY,
    ARRAYS,
    MANIFEST,
    Damaged,
    Entry,
    Manifest,
    find_damage,
    hash_file,
    make_key,
    read_manifest,
    read_sealed_json,
    seal_json,
)
from cd_exp.cache.partial import Arrays, PartialArray, PartialResults, read_arrays, remove_entry_files
from cd_exp.errors import InputError, ReadOnlyFolder
from cd_exp.io.atomic import TEMPORARY, report_disk_errors, temporary_folder, write_file
from cd_exp.io.digests import CACHE_TAG

MARK = CACHE_TAG
HELP = "Features stored by cd_exp; `python -m cd_exp.cache list` shows them. All of it can be made again."


def write_cache_tag(root: Path) -> None:
    """Put the mark into a folder that is used as a cache; a damaged one is written again."""
    if not is_cache(root):
        write_file(root / MARK, seal_json({"cache": "cd_exp", "about": HELP}))


def is_cache(root: Path) -> bool:
    """Whether the folder has the mark."""
    try:
        return read_sealed_json(root / MARK).get("cache") == "cd_exp"
    except (OSError, Damaged):
        return False


def list_entry_folders(root: Path) -> Iterator[Path]:
    """The folders whose path and name are those of an entry: `KIND/` and forty hexadecimal digits."""
    for folder in sorted(root.glob("*/" + "[0-9a-f]" * 40)):
        if folder.is_dir() and not folder.is_symlink() and folder.parent.name != "partial":
            yield folder


REMEDY = "set cache.dir to a larger one, or make room with `python -m cd_exp.cache prune --keep 10GB`"
Value = TypeVar("Value")


class Store:
    """The cache below one folder. `read` and `made` list the entries this process used, for the manifest of a
    run.

    Reading needs no right to write. Whatever is damaged is left out, said in `reports` and made again. Small arrays
    that a read-only cache lacks live in memory until the run ends.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()
        self.read: list[str] = []
        self.made: list[str] = []
        self.reports: list[str] = []
        self.unsaved: dict[str, tuple[np.ndarray, Manifest]] = {}
        self._swept = False

    def folder(self, entry: Entry) -> Path:
        """Where the entry lies once it is complete."""
        return self.root / entry.kind / entry.key

    def find(self, entry: Entry, *, verify: bool = True) -> np.ndarray | None:
        """The array of an entry, memory-mapped, or None.

        Args:
            entry: which.
            verify: whether to read every byte and compare checksums; not where this run has just done or made it.
        """
        return self._map_array(entry) if self._is_whole(entry, verify=verify) else None

    def obtain(self, entry: Entry, make: Callable[[], tuple[np.ndarray, Mapping[str, Any]]]) -> np.ndarray:
        """The array of an entry, memory-mapped; made where it is not there, by one process of several.

        A cache that may only be read is left as it is, and the array lives in memory.

        Args:
            entry: which.
            make: gives the array, and what else the manifest says of it.
        """
        values = self.unsaved[entry.key][0] if entry.key in self.unsaved else self.find(entry)
        if values is not None:
            return values
        try:
            with self.lock([entry]):
                values = self.find(entry)
                if values is None:
                    made, facts = make()
                    values = self.save(entry, made, **facts)
                return values
        except ReadOnlyFolder:
            self.note_unsaved(entry)
            made, facts = make()
            manifest = Manifest(entry.kind, entry.content, ARRAY, made.shape, (), 0, 0, (), facts)
            self.unsaved[entry.key] = made, manifest
            return made

    def find_arrays(self, entry: Entry, *, verify: bool = True) -> dict[str, np.ndarray] | None:
        """The arrays of an entry that has several, in memory, or None."""
        if not self._is_whole(entry, verify=verify):
            return None
        with self._there(entry):
            return read_arrays(self.folder(entry) / ARRAYS)

    def manifest(self, entry: Entry) -> Manifest:
        """What is known of an entry that is there, on the disk or in memory."""
        if entry.key in self.unsaved:
            return self.unsaved[entry.key][1]
        with self._there(entry):
            return read_manifest(self.folder(entry))

    def holds(self, entry: Entry, *, verify: bool = True) -> Manifest | None:
        """The manifest of an entry that is there, or None; a damaged one is reported."""
        folder = self.folder(entry)
        if not any((folder / name).exists() for name in (MANIFEST, ARRAY, ARRAYS)):
            return None
        wrong = find_damage(folder) if verify else ""
        if not wrong:
            try:
                return read_manifest(folder)
            except (Damaged, FileNotFoundError) as error:
                wrong = str(error)
        self.report(f"cache entry {entry.says} was damaged ({wrong}); it is made again")
        return None

    def save(self, entry: Entry, values: np.ndarray, **facts: Any) -> np.ndarray:
        """Store an array at once, and return it memory-mapped. Call it under the lock."""
        about = {"file": ARRAY, "shape": list(values.shape), "dtype": str(values.dtype), **facts}
        self._save(entry, lambda path: np.save(path, values, allow_pickle=False), about)
        return self._map_array(entry)

    def save_arrays(self, entry: Entry, arrays: Arrays, **facts: Any) -> None:
        """Store several arrays as one entry. Call it under the lock."""
        self._save(entry, lambda path: np.savez(path, allow_pickle=False, **arrays), {"file": ARRAYS, **facts})

    def remember(
        self,
        kind: str,
        content: Mapping[str, Any],
        make: Callable[[], Any],
        parse: Callable[[Any], Value] = lambda value: value,
    ) -> Value:
        """A small JSON value that is slow to find out, such as the layers of a network; made once for its content.

        Args:
            kind: the folder it is kept in.
            content: all that the value depends on.
            make: finds it out.
            parse: makes of the plain value what is returned; KeyError, TypeError or ValueError where a stored one does
                not have the form.
        """
        stored = self.recall(kind, content, parse)
        return parse(self.note(kind, content, make())) if stored is None else stored

    def recall(
        self, kind: str, content: Mapping[str, Any], parse: Callable[[Any], Value] = lambda value: value
    ) -> Value | None:
        """A small JSON value that was noted, or None; a damaged one is reported. Arguments as for `remember`."""
        path = self._small(kind, content)
        try:
            return parse(read_sealed_json(path)["value"])
        except FileNotFoundError:
            return None
        except (Damaged, KeyError, TypeError, ValueError):
            self.report(f"{kind}/{path.name} was damaged, or made by another version; it is made again")
            return None

    def note(self, kind: str, content: Mapping[str, Any], value: Any) -> Any:
        """Keep a small JSON value; returned as it will be read."""
        text = seal_json({"content": dict(content), "value": value})
        with suppress(InputError):  # a cache that may not be written to, or a full disk: checked again next time
            self._begin()
            write_file(self._small(kind, content), text)
        return json.loads(text)["value"]

    def _small(self, kind: str, content: Mapping[str, Any]) -> Path:
        return self.root / kind / f"{make_key({'kind': kind, **content})}.json"

    @contextmanager
    def lock(self, entries: Sequence[Entry]) -> Iterator[None]:
        """Keep other processes from making these entries; whoever comes second finds them made.

        Raises:
            ReadOnlyFolder: nothing may be written in the cache, which lacks them.
        """
        by_key = {entry.key: entry for entry in entries}
        with ExitStack() as stack:
            try:
                self._begin()
                for key in sorted(by_key):
                    stack.enter_context(hold_lock(self.root, key, wanted=by_key[key].says))
            except ReadOnlyFolder as error:
                missing = ", ".join(sorted({entry.kind for entry in entries}))
                raise ReadOnlyFolder(
                    f"the cache {self.root} may only be read, and it lacks what this run needs ({missing}); set "
                    "cache.dir to a folder of your own, or to a copy of it"
                ) from error
            yield

    def open_partial(self, entry: Entry, *, rows: int, shard: int) -> PartialArray:
        """An unfinished array, to be filled shard by shard."""
        return PartialArray(self.root / "partial" / entry.key, entry, rows=rows, shard=shard, remedy=REMEDY)

    def pieces(self, entry: Entry) -> PartialResults:
        """An unfinished reduction, to be filled piece by piece."""
        return PartialResults(self.root / "partial" / entry.key, entry, remedy=REMEDY)

    def publish(self, making: PartialArray, **facts: Any) -> np.ndarray:
        """Move a finished array to its path, and return it memory-mapped. Call it under the lock."""
        making.complete(**facts)
        with report_disk_errors(self.root):
            self._place(making.folder, making.entry)
        return self._map_array(making.entry)

    def drop_partial(self, entry: Entry) -> None:
        """Remove what is there of an entry in the making. Call it under the lock."""
        remove_entry_files(self.root / "partial" / entry.key)

    def drop_damaged(self, entry: Entry) -> None:
        """Remove an entry that `find` did not take. Call it under the lock."""
        remove_entry_files(self.folder(entry))

    def report(self, note: str) -> None:
        """Add a note to the report of the run, once."""
        if note not in self.reports:
            self.reports.append(note)

    def note_unsaved(self, entry: Entry) -> None:
        """Report that something was made for this run alone, because the cache may only be read."""
        self.report(f"the cache {self.root} may only be read: {entry.kind} were made for this run and not stored")

    def _is_whole(self, entry: Entry, *, verify: bool) -> bool:
        if self.holds(entry, verify=verify) is None:
            return False
        name = f"{entry.kind}/{entry.key}"
        if name not in self.read and (verify or name not in self.made):
            self.read.append(name)
        return True

    def _map_array(self, entry: Entry) -> np.ndarray:
        with self._there(entry):
            return np.load(self.folder(entry) / ARRAY, mmap_mode="c")

    @contextmanager
    def _there(self, entry: Entry) -> Iterator[None]:
        """Read an entry that exists; one that is gone since was removed by somebody else."""
        try:
            yield
        except FileNotFoundError as error:
            raise InputError(
                f"cache entry {entry.says} was removed while this run read it, as `python -m cd_exp.cache prune` does; "
                "start the run again, which goes on with what is there"
            ) from error

    def _save(self, entry: Entry, fill: Callable[[Path], None], about: Mapping[str, Any]) -> None:
        self._begin()
        parent = self.root / entry.kind
        for stale in parent.glob(f"{TEMPORARY}{entry.key}-*"):
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        with temporary_folder(parent, entry.key, remedy=REMEDY) as half:
            fill(half / about["file"])
            sums = {"kind": entry.kind, "content": entry.content, "sha256": hash_file(half / about["file"])}
            write_file(half / MANIFEST, seal_json({**sums, **about}))
            self._place(half, entry)

    def _place(self, source: Path, entry: Entry) -> None:
        """Rename a complete folder to the entry's; beside files of others, move in what is ours, the manifest last."""
        folder = self.folder(entry)
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_entry_files(folder)
        try:
            source.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
            for path in sorted(source.iterdir(), key=lambda path: path.name == MANIFEST):
                path.rename(folder / path.name)
            source.rmdir()
        for record in folder.glob("[0-9]*.json"):
            record.unlink()
        self.made.append(f"{entry.kind}/{entry.key}")

    def _begin(self) -> None:
        with report_disk_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            write_cache_tag(self.root)
            if not self._swept:
                self._swept = True
                remove_leftovers(self.root)


LEFT = 3600.0
"""Seconds after which a half-written small file is one that a killed process left: it takes milliseconds to write."""


def remove_leftovers(root: Path) -> None:
    """Remove what killed processes left: small files half-written, and the pieces of entries that were stored since."""
    for path in (*root.glob(f"{TEMPORARY}*"), *root.glob(f"*/{TEMPORARY}*")):
        with suppress(OSError):  # another process of the same run may be quicker
            if path.is_file() and time.time() - path.lstat().st_mtime > LEFT:
                path.unlink()
    for pieces in root.glob("partial/*"):
        with suppress(OSError):
            stored = any(path.parent.name != "partial" for path in root.glob(f"*/{pieces.name}"))
            if stored and time.time() - pieces.stat().st_mtime > LEFT:
                remove_entry_files(pieces)


PATIENCE = 5.0
"""Seconds of waiting for another process after which the run says whom it waits for."""


@contextmanager
def hold_lock(root: Path, key: str, *, wanted: str, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of a key; while another process has it, wait, and after `patience` seconds say which.

    Args:
        root: the cache.
        key: of the entry.
        wanted: the entry, for a reader.
        patience: seconds.
    """
    lock = lock_key(root, key)
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        print(f"{wanted}: waiting for {_describe_holder(root, key)}, which makes it", file=sys.stderr, flush=True)
        lock.acquire()
    holder = _holder_file(root, key)
    about = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    try:
        with suppress(InputError):  # a full disk: the entry itself says so
            write_file(holder, json.dumps(about))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _holder_file(root: Path, key: str) -> Path:
    """The file that says who has the lock: beside it, as one that waits opens the lock; a kill leaves it there."""
    return root / "locks" / f"{key}.holder"


def _describe_holder(root: Path, key: str) -> str:
    try:
        about = json.loads(_holder_file(root, key).read_bytes())
        return f"process {about['pid']} on {about['host']} (since {about['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def lock_key(root: Path, key: str, *, timeout: float = -1.0) -> FileLock:
    """The lock of a key, with the permissions that the umask gives; `filelock.Timeout` after `timeout` seconds."""
    path = root / "locks" / f"{key}.lock"
    with report_disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a lock is a file", str(path))
    return FileLock(path, timeout=timeout, mode=path.stat().st_mode & 0o777)
