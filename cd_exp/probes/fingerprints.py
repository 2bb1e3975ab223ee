"""Fingerprints of many files at the price of looking at each file's content once."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from cd_exp.cache import Damaged, digest, read_sealed, seal
from cd_exp.downloads import progress
from cd_exp.errors import InputError
from cd_exp.whole_files import write

READERS = 8  # hashing leaves the interpreter free, and a network disk answers several reads at once


def fingerprint(digests: Iterable[str]) -> str:
    """One hash of many, and of their order."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def file_digests(root: Path, names: Sequence[str], cache: str | None) -> list[str]:
    """The SHA-256 of each file, from memory where nothing about the file has changed.

    What is remembered of a file below `root` is its size, times of change in nanoseconds, and inode. A file that cannot
    be read has the digest `unreadable`: it is reported when its picture is opened.

    Args:
        root: the folder the names start from.
        names: relative paths, in any order.
        cache: where to remember, in `digests/`; None reads every file every time.
    """
    memory = Path(cache) / "digests" / f"{_identity(root)}.json" if cache else None
    known: dict[str, list[int | str]] = _remembered(memory) if memory else {}
    states = [_state(root / name) for name in names]
    stale = [i for i, name in enumerate(names) if not states[i] or known.get(name, [])[:-1] != states[i]]
    with ThreadPoolExecutor(READERS) as pool, progress("reading the probe images", len(stale)) as advance:
        for i, found in zip(stale, pool.map(lambda i: _digest(root / names[i]), stale), strict=True):
            known[names[i]] = [*states[i], found]
            advance(1)
    if memory and stale:
        kept = {name: facts for name, facts in known.items() if facts[-1] != "unreadable"}
        with suppress(InputError):  # a cache that may not be written to: the files are read again next time
            write(memory, seal({"files": kept}))
    return [str(known[name][-1]) for name in names]


def _identity(root: Path) -> str:
    return hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:16]


def _remembered(memory: Path) -> dict[str, list[int | str]]:
    """What is remembered; nothing of it where the file was changed by anybody else, or is of an older version."""
    try:
        return read_sealed(memory)["files"]
    except (FileNotFoundError, Damaged, KeyError):
        return {}


def _state(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _digest(path: Path) -> str:
    try:
        return digest(path)
    except OSError:
        return "unreadable"
