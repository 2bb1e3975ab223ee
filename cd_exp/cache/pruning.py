"""What may be removed from a cache: entries, those in the making, and what killed processes left; nothing else."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from cd_exp.cache.entries import ARRAY, ARRAYS, MANIFEST, read_manifest
from cd_exp.cache.making import discard
from cd_exp.cache.mark import entry_folders
from cd_exp.cache.sealed import Damaged
from cd_exp.cache.store import lock
from cd_exp.io.atomic import TEMPORARY

KEY = "[0-9a-f]" * 40


@dataclass(frozen=True)
class Item:
    """Something that can be removed: a folder of ours, the key that locks it, when it was made, and its bytes."""

    folder: Path
    key: str
    made: float
    size: int


def items(root: Path) -> list[Item]:
    """All that can be removed, the newest first."""
    folders = [folder for folder in entry_folders(root) if _is_ours(folder)]
    folders += [folder for folder in root.glob(f"partial/{KEY}") if folder.is_dir() and not folder.is_symlink()]
    folders += [folder for folder in root.glob(f"*/{TEMPORARY}{KEY}-*") if folder.is_dir()]
    found = [Item(folder, _key(folder), folder.stat().st_mtime, size_of(folder)) for folder in folders]
    return sorted(found, key=lambda item: (-item.made, item.folder))


def chosen(found: Sequence[Item], *, days: float | None, keep: int | None) -> list[Item]:
    """Which of the items, the newest first, are older than so many days or beyond so many bytes."""
    before = None if days is None else time.time() - days * 86400
    old, total = [], 0
    for item in found:
        total += item.size
        if (before is not None and item.made <= before) or (keep is not None and total > keep):
            old.append(item)
    return old


def remove(root: Path, item: Item) -> bool:
    """Remove what is ours in a folder, and the folder unless something else lies there; False where it is in use."""
    try:
        with lock(root, item.key, timeout=0.0):
            discard(item.folder)
            return True
    except Timeout:
        return False


def size_of(folder: Path) -> int:
    """The bytes that the files of a folder take on the disk; an array in the making is not as large as it looks."""
    return sum(512 * file.lstat().st_blocks for file in folder.iterdir() if file.is_file())


def _is_ours(folder: Path) -> bool:
    """Whether its manifest is an entry's, or it is a damaged entry: only files of such names, numbers among them."""
    names = {file.name for file in folder.iterdir()}
    try:
        return read_manifest(folder).kind == folder.parent.name
    except (Damaged, OSError):
        return bool(names & {ARRAY, ARRAYS}) and names <= {ARRAY, ARRAYS, MANIFEST}


def _key(folder: Path) -> str:
    found = re.search(KEY, folder.name)
    assert found is not None
    return found.group()
