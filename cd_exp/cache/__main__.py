"""`python -m cd_exp.cache list | verify | prune`: list, check and shrink the cache.

Only entries, unfinished ones, and what killed processes left can be removed; files of others stay.
"""

import argparse
import math
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout
from rich.console import Console
from rich.table import Table

from cd_exp.cache.entries import ARRAY, ARRAYS, MANIFEST, Damaged, find_damage, read_manifest, read_sealed_json
from cd_exp.cache.partial import remove_entry_files
from cd_exp.cache.store import MARK, is_cache, list_entry_folders, lock_key
from cd_exp.errors import InputError, OneLineParser, as_refusal
from cd_exp.io.atomic import TEMPORARY
from cd_exp.io.command import print_json, report_error
from cd_exp.io.text import as_terminal_text, escape_for_terminal

KEY = "[0-9a-f]" * 40


@dataclass(frozen=True)
class RemovableItem:
    """Something that can be removed: a folder of ours, the key that locks it, when it was made, and its bytes."""

    folder: Path
    key: str
    made: float
    size: int


def list_removable(root: Path) -> list[RemovableItem]:
    """All that can be removed, the newest first."""
    folders = [folder for folder in list_entry_folders(root) if _is_ours(folder)]
    folders += [folder for folder in root.glob(f"partial/{KEY}") if folder.is_dir() and not folder.is_symlink()]
    folders += [folder for folder in root.glob(f"*/{TEMPORARY}{KEY}-*") if folder.is_dir()]
    items = [
        RemovableItem(folder, _read_key(folder), folder.stat().st_mtime, folder_size(folder)) for folder in folders
    ]
    return sorted(items, key=lambda item: (-item.made, item.folder))


def select_items(items: Sequence[RemovableItem], *, days: float | None, keep: int | None) -> list[RemovableItem]:
    """Which of the items, the newest first, are older than so many days or beyond so many bytes."""
    before = None if days is None else time.time() - days * 86400
    old, total = [], 0
    for item in items:
        total += item.size
        if (before is not None and item.made <= before) or (keep is not None and total > keep):
            old.append(item)
    return old


def remove_item(root: Path, item: RemovableItem) -> bool:
    """Remove what is ours in a folder, and the folder unless something else lies there; False where it is in use."""
    try:
        with lock_key(root, item.key, timeout=0.0):
            remove_entry_files(item.folder)
            return True
    except Timeout:
        return False


def folder_size(folder: Path) -> int:
    """The bytes that the files of a folder take on the disk; an array in the making is not as large as it looks."""
    return sum(512 * file.lstat().st_blocks for file in folder.iterdir() if file.is_file())


def _is_ours(folder: Path) -> bool:
    """Whether its manifest is an entry's, or it is a damaged entry: only files of such names, numbers among them."""
    names = {file.name for file in folder.iterdir()}
    try:
        return read_manifest(folder).kind == folder.parent.name
    except (Damaged, OSError):
        return bool(names & {ARRAY, ARRAYS}) and names <= {ARRAY, ARRAYS, MANIFEST}


def _read_key(folder: Path) -> str:
    match = re.search(KEY, folder.name)
    assert match is not None
    return match.group()


UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def main(words: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 1 for a damaged entry, or for `prune` without `--yes`, 2 for what
        can be mended.
    """
    parser = OneLineParser(prog="python -m cd_exp.cache", description=__doc__)
    parser.add_argument("command", choices=["list", "verify", "prune"])
    parser.add_argument("--dir", type=Path, default=Path(os.environ.get("CD_EXP_CACHE", "outputs/cache")))
    parser.add_argument("--days", type=_parse_days, help="prune: remove what was made longer ago than so many days")
    parser.add_argument("--keep", type=_parse_bytes, help="prune: keep the newest entries up to so much, as in 20GB")
    parser.add_argument("--yes", action="store_true", help="prune: do not ask")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(words)
    try:
        if not options.dir.is_dir() or not is_cache(options.dir):
            missing = f"it has no {MARK}" if options.dir.is_dir() else "there is no such folder"
            raise InputError(f"{options.dir} is no cache of cd_exp: {missing}; give its folder with --dir")
        if options.command == "prune":
            asked = {"days": options.days, "keep": options.keep, "yes": options.yes}
            return prune_cache(options.dir, **asked, as_json=options.json)
        show = list_entries if options.command == "list" else verify_cache
        return show(options.dir, as_json=options.json)
    except (InputError, OSError) as error:
        return report_error(as_refusal(error), as_json=options.json)


def list_entries(root: Path, *, as_json: bool = False) -> int:
    """List what is stored, with what each entry was made from and by which version."""
    entries = [_describe_entry(folder) for folder in list_entry_folders(root)]
    if as_json:
        print_json({"folder": root, "entries": entries})
        return 0
    table = Table()
    for heading in ("kind", "key", "shape", "MB", "version", "made from"):
        table.add_column(heading)
    for entry in entries:
        shape, size = " x ".join(map(str, entry["shape"])), f"{entry['bytes'] / 1e6:.1f}"
        says = f"damaged: {entry['damaged']}" if "damaged" in entry else entry["made_from"]
        cells = (entry["kind"], entry["key"][:12], shape, size, entry["version"], says)
        table.add_row(*map(as_terminal_text, cells))
    Console().print(table)
    return 0


def _describe_entry(folder: Path) -> dict[str, Any]:
    about = {"kind": folder.parent.name, "key": folder.name, "bytes": folder_size(folder)}
    try:
        manifest = read_manifest(folder)
    except (Damaged, OSError) as error:
        return {**about, "shape": [], "version": "", "made_from": "", "damaged": _first_line(error)}
    facts = manifest.facts
    shape = list(manifest.shape)
    return {**about, "shape": shape, "version": facts.get("made_by", ""), "made_from": facts.get("says", "")}


def verify_cache(root: Path, *, as_json: bool = False) -> int:
    """Read every entry and every small file, and name the damaged ones."""
    folders, small = list(list_entry_folders(root)), sorted(root.glob("*/*.json"))
    faults = {path: _describe_entry_fault(path) for path in folders} | {
        path: _describe_json_fault(path) for path in small
    }
    damaged = {path: wrong for path, wrong in faults.items() if wrong}
    if as_json:
        faulty = [{"path": path, "fault": wrong} for path, wrong in damaged.items()]
        print_json({"folder": root, "entries": len(folders), "small_files": len(small), "damaged": faulty})
        return 1 if damaged else 0
    for path, wrong in damaged.items():
        print(escape_for_terminal(f"{path}: {wrong}"))
    print(f"{len(folders)} entries and {len(small)} small files, {len(damaged)} damaged")
    return 1 if damaged else 0


def prune_cache(root: Path, *, days: float | None, keep: int | None, yes: bool, as_json: bool = False) -> int:
    """Remove entries, unfinished ones too, that are old or beyond a size; what is in use, or not ours, stays."""
    if days is None and keep is None:
        raise InputError("say what to remove: --days 30 for what is older, --keep 20GB for all but the newest")
    removable = list_removable(root)
    old = select_items(removable, days=days, keep=keep)
    if not as_json:
        print(f"{_describe_sizes(old)} of {_describe_sizes(removable)} in {escape_for_terminal(root)}")
    if old and not yes:
        if as_json or not sys.stdin.isatty():
            raise InputError("Nothing removed yet: add --yes")
        if input("Remove them? [y/N] ").strip().lower() not in ("y", "yes"):
            print("Nothing removed")
            return 1
    removed = [item for item in old if remove_item(root, item)]
    if as_json:
        sizes = {"removable": removable, "selected": old, "removed": removed}
        counts = {name: {"entries": len(items), "bytes": sum(i.size for i in items)} for name, items in sizes.items()}
        print_json({"folder": root, **counts})
        return 0
    if not old:
        return 0
    print(
        f"removed {_describe_sizes(removed)}"
        + (f"; {len(old) - len(removed)} in use" if len(removed) < len(old) else "")
    )
    return 0


def _describe_sizes(some: Sequence[RemovableItem]) -> str:
    return f"{len(some)} entries ({sum(item.size for item in some) / 1e6:.1f} MB)"


def _describe_entry_fault(folder: Path) -> str:
    try:
        return find_damage(folder)
    except OSError as error:
        return _first_line(error)


def _describe_json_fault(path: Path) -> str:
    try:
        read_sealed_json(path)
    except (Damaged, OSError) as error:
        return _first_line(error)
    return ""


def _first_line(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{Path(error.filename).name} is missing"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _parse_days(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise argparse.ArgumentTypeError(f"{text} is no number of days, 0 or more")
    return value


def _parse_bytes(text: str) -> int:
    number = text.strip().upper().rstrip("KMGTB")
    unit = text.strip().upper().removeprefix(number)
    try:
        value = float(number) * UNITS[unit if unit.endswith("B") or not unit else f"{unit}B"]
        if not math.isfinite(value) or value < 0:
            raise ValueError
    except (ValueError, KeyError):
        raise argparse.ArgumentTypeError(f"{text!r} is no size, such as 500MB or 20GB") from None
    return int(value)


if __name__ == "__main__":
    sys.exit(main())
