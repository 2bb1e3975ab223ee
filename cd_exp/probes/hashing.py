"""Fingerprints of many images; the content of an unchanged file is read only once."""

import hashlib
import json
import os
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path

from cd_exp.cache import hash_file
from cd_exp.io.download import show_progress

READERS = 8  # hashing leaves the interpreter free, and a network disk answers several reads at once
BATCH = 2048  # files between two looks into the memory
UNREADABLE = "unreadable"
WAIT = 30.0  # seconds for another process that writes to the same memory
State = tuple[int, ...]


def fingerprint_images(digests: Iterable[str], *more: str) -> str:
    """One hash of many and of their order, and of whatever else changes the images."""
    made = hashlib.sha256()
    for number, line in enumerate(digests):
        made.update(f"\n{line}".encode() if number else line.encode())
    for line in more:
        made.update(f"\n\n{line}".encode())
    return made.hexdigest()


def hash_files(root: Path, names: Sequence[str], cache: str | None) -> Iterator[str]:
    """The SHA-256 of each file in order, from memory where nothing about the file has changed.

    What is remembered of a file below `root` is its size, times of change in nanoseconds, and inode. A file that cannot
    be read, a named pipe or a device has the digest `unreadable`: it is reported when its image is opened.

    Args:
        root: the folder the names start from.
        names: relative paths, in any order.
        cache: where to remember, in `digests/`; None reads every file every time.
    """
    return cached_hashes(
        root, names, cache, state=lambda name: _file_state(root / name), read=lambda name: _hash_one(root / name)
    )


def cached_hashes(
    root: Path,
    names: Sequence[str],
    cache: str | None,
    *,
    state: Callable[[str], State],
    read: Callable[[str], str],
    size: int = BATCH,
) -> Iterator[str]:
    """The digest of each name in order, batch by batch: from memory where its state is as it was, else read.

    A batch that was read is remembered at once, so that a killed run does not read it again.

    Args:
        root: the file or folder that the names belong to; it names the memory.
        names: what there is to digest.
        cache: where to remember; None remembers nothing.
        state: what changes when the content does; an empty one is never remembered.
        read: the digest itself; called in several threads.
        size: names in a batch.
    """
    memory = _memory(root, cache)
    left = iter(names)
    with ThreadPoolExecutor(READERS) as pool, show_progress("reading the probe images", len(names)) as advance:
        while batch := list(islice(left, size)):
            states = {name: state(name) for name in batch}
            remembered = _read_hashes(memory, states) if memory else {}
            new = [name for name in states if name not in remembered]
            hashed = dict(zip(new, pool.map(read, new), strict=True))
            if memory and hashed:
                _write_hashes(memory, {name: (states[name], hashed[name]) for name in new})
            advance(len(batch))
            yield from ((remembered.get(name) or hashed[name]) for name in batch)


def forget(root: Path, cache: str | None) -> None:
    """Remember nothing of a folder or shard any more: a file in it was not what its size and times said."""
    memory = _memory(root, cache)
    if memory is not None:
        with suppress(OSError):  # a memory that cannot be written to
            memory.unlink(missing_ok=True)


def _memory(root: Path, cache: str | None) -> Path | None:
    return Path(cache) / "digests" / f"{_file_identity(root)}.sqlite" if cache else None


def _file_identity(root: Path) -> str:
    return hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:16]


def _read_hashes(memory: Path, states: dict[str, State]) -> dict[str, str]:
    """What is remembered of these names in this state; a row that was tampered with is as if it were not there."""
    if not memory.is_file():
        return {}
    hashes = {}
    try:
        with closing(sqlite3.connect(f"file:{memory}?mode=ro", uri=True, timeout=WAIT)) as table:
            for name, state in states.items():
                row = table.execute("SELECT digest, proof FROM files WHERE name = ?", (_cache_key(name),)).fetchone()
                if row and state and row[1] == _hash_proof(name, state, row[0]):
                    hashes[name] = str(row[0])
    except sqlite3.Error:  # damaged, of another kind, or locked for long: read the files, and write it again
        return {}
    return hashes


def _write_hashes(memory: Path, new: dict[str, tuple[State, str]]) -> None:
    """Keep what was read; a memory that cannot be written to costs time and nothing else."""
    rows = [(_cache_key(n), d, _hash_proof(n, s, d)) for n, (s, d) in new.items() if s and d != UNREADABLE]
    for _ in range(2):
        try:
            memory.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(memory, timeout=WAIT)) as table, table:
                table.execute(
                    "CREATE TABLE IF NOT EXISTS files (name BLOB PRIMARY KEY, digest TEXT, proof TEXT) WITHOUT ROWID"
                )
                table.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows)
            return
        except sqlite3.OperationalError:  # read-only, full or locked
            return
        except (sqlite3.DatabaseError, ValueError):  # not a memory of ours, or a damaged one
            memory.unlink(missing_ok=True)
        except OSError:
            return


def _cache_key(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _hash_proof(name: str, state: State, digest: object) -> str:
    """Binds a digest to its name and state."""
    return hashlib.sha256(json.dumps([name, state, digest]).encode()).hexdigest()[:16]


def _file_state(path: Path) -> State:
    try:
        status = path.stat()
    except OSError:
        return ()
    if not stat.S_ISREG(status.st_mode):
        return ()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _hash_one(path: Path) -> str:
    try:
        return hash_file(path) if path.is_file() else UNREADABLE  # reading a named pipe would wait for ever
    except OSError:
        return UNREADABLE
