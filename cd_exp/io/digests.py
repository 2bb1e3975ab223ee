"""`digests.json` of a folder of results: the SHA-256 of every file in it, and what differs from it later.

A folder below that has its own `digests.json`, as the jobs of a sweep have, stands in the list by that file alone; a
cache of features has checksums of its own and is left out. What this module does not know: who wrote the list. Whoever
can change a file can write the list anew, which only a signature of it shows (`python -m cd_exp.verify --sign`).
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cd_exp.errors import InputError
from cd_exp.io.atomic import write_file

DIGESTS = "digests.json"
SIGNATURE = "digests.json.sig"
SCHEMA = 1
CACHE_TAG = "cd_exp_cache.json"
"""The file that marks a folder as a cache of features."""


@dataclass(frozen=True)
class FileChanges:
    """How a folder differs from its `digests.json`: paths relative to the folder, in order.

    Attributes:
        missing: listed, and not there any more.
        added: there, and not listed.
        changed: other bytes than listed.
    """

    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.added or self.changed)


def write_digests(folder: Path) -> Path:
    """Hash every file of a folder into its `digests.json`; call it once all of them are written.

    2,000 files of 40 kB take .25 s of a processor: they were just written, and lie in memory.
    """
    return _write(folder, dict(_hash_below(folder, folder)))


def update_digests(folder: Path, paths: Iterable[Path]) -> None:
    """Hash anew what a command has just written in a folder; the other entries stay, whatever became of their files.

    Where the folder has no `digests.json`, as of a run of 0.2.0, nothing is done.

    Args:
        folder: of a run or a sweep.
        paths: files and folders that were written or removed, below `folder`.
    """
    if not (folder / DIGESTS).is_file():
        return
    before = digests = read_digests(folder)
    for path in paths:
        name = path.relative_to(folder).as_posix()
        kept = {key: digest for key, digest in digests.items() if key != name and not key.startswith(f"{name}/")}
        digests = kept | dict(_hash_below(folder, path))
    if digests != before:
        _write(folder, digests)


def write_sweep_digests(folder: Path) -> Path:
    """The `digests.json` of a multirun and its jobs; callbacks of Hydra write to a job's log after its end."""
    for path in sorted(folder.rglob(DIGESTS)):
        if path.parent != folder:
            update_digests(path.parent, [path.parent / ".hydra", path.parent / "run.log"])
    return write_digests(folder)


def read_digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file by its path relative to the folder, as `digests.json` has them.

    Raises:
        InputError: there is no such file, or it is not byte by byte as a run writes it.
    """
    path = folder / DIGESTS
    if not path.is_file():
        raise InputError(f"{folder} has no {DIGESTS}, which a run writes last; run it again to have one")
    digests = _parse_digests(path.read_bytes())
    if digests is None:
        raise InputError(f"{path} was changed: it is not as a run writes it; take the one that the run wrote")
    return digests


def _parse_digests(text: bytes) -> dict[str, str] | None:
    """The hashes; None where a single byte is another than `format_digests` gives."""
    try:
        digests = json.loads(text)["files"]
        return digests if format_digests(digests).encode() == text else None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def format_digests(digests: Mapping[str, str]) -> str:
    """The text of `digests.json`.

    >>> print(format_digests({"labels.csv": "ab12"}))
    {
     "schema": 1,
     "algorithm": "sha256",
     "files": {
      "labels.csv": "ab12"
     }
    }
    <BLANKLINE>
    """
    listed = {"schema": SCHEMA, "algorithm": "sha256", "files": dict(sorted(digests.items()))}
    return json.dumps(listed, indent=1) + "\n"


def compare_digests(folder: Path) -> FileChanges:
    """What differs from `digests.json`, every byte read; of a sweep also in the folders of its jobs.

    Raises:
        InputError: there is no `digests.json`.
    """
    path = folder / DIGESTS
    if not path.is_file():
        raise InputError(f"{folder} has no {DIGESTS}, which a run writes last; run it again to have one")
    listed = _parse_digests(path.read_bytes())
    if listed is None:
        return FileChanges(changed=(DIGESTS,))
    present = dict(_hash_below(folder, folder))
    missing = [name for name in listed if name not in present]
    added = [name for name in present if name not in listed]
    changed = [name for name in listed if name in present and listed[name] != present[name]]
    for below in (Path(name).parent for name in present if name.endswith(f"/{DIGESTS}")):
        inner = compare_digests(folder / below)
        for names, inner_names in ((missing, inner.missing), (added, inner.added), (changed, inner.changed)):
            names += [(below / name).as_posix() for name in inner_names]
    return FileChanges(*(tuple(sorted(set(names))) for names in (missing, added, changed)))


def _write(folder: Path, digests: Mapping[str, str]) -> Path:
    """Write the list, and its own hash into that of a sweep around the folder."""
    write_file(folder / DIGESTS, format_digests(digests))
    parent = folder.absolute().parent
    update_digests(parent, [parent / folder.absolute().name])
    return folder / DIGESTS


def _hash_below(root: Path, start: Path) -> Iterator[tuple[str, str]]:
    """The path relative to `root` and the hash of `start`, or of every file below it."""
    if start.is_symlink() or not start.is_dir():
        paths = [start] if start.is_symlink() or start.is_file() else []
    else:
        paths = [*_list_files(root, start)]
    for path in paths:
        if path.parent != root or path.name not in (DIGESTS, SIGNATURE):
            yield path.relative_to(root).as_posix(), _hash_path(path)


def _list_files(root: Path, start: Path) -> Iterator[Path]:
    for above, folders, names in os.walk(start):
        here = Path(above)
        if here != root and DIGESTS in names:
            folders[:], names = [], [DIGESTS]
        folders[:] = sorted(name for name in folders if not (here / name / CACHE_TAG).is_file())
        links = [name for name in folders if (here / name).is_symlink()]
        yield from (here / name for name in [*links, *names] if (here / name).is_symlink() or (here / name).is_file())


def _hash_path(path: Path) -> str:
    """The SHA-256 of a file; of a link that of the path it points to, for what is there is another's."""
    if path.is_symlink():
        return hashlib.sha256(os.fsencode(path.readlink())).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
