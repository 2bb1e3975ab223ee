"""The mark that tells a cache from any other folder. Nothing is ever removed from a folder without it."""

from collections.abc import Iterator
from pathlib import Path

from cd_exp.cache.sealed import Damaged, read_sealed, seal
from cd_exp.io.atomic import write

MARK = "cd_exp_cache.json"
HELP = "Features stored by cd_exp; `python -m cd_exp.cache list` shows them. All of it can be made again."


def mark(root: Path) -> None:
    """Put the mark into a folder that is used as a cache; one that was damaged is written anew."""
    if not is_cache(root):
        write(root / MARK, seal({"cache": "cd_exp", "about": HELP}))


def is_cache(root: Path) -> bool:
    """Whether the folder has the mark."""
    try:
        return read_sealed(root / MARK).get("cache") == "cd_exp"
    except (OSError, Damaged):
        return False


def entry_folders(root: Path) -> Iterator[Path]:
    """The folders that have the place and the name of an entry: `KIND/` and forty hexadecimal digits."""
    for folder in sorted(root.glob("*/" + "[0-9a-f]" * 40)):
        if folder.is_dir() and not folder.is_symlink() and folder.parent.name != "partial":
            yield folder
