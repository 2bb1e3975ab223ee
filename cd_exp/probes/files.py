"""The images named by a list file."""

from collections import Counter
from pathlib import Path

from cd_exp.errors import InputError
from cd_exp.io.text import read_lines, shorten_list
from cd_exp.probes.image_files import ImageFiles, NamedIds, check_folder_exists, require_files


def files(*, path: str, root: str | None = None, name: str = "files") -> ImageFiles:
    """The images of a list, one path a line, in its order; a line as it stands is the image's id.

    Blank lines are left out and noted. An image that is listed twice is taken twice, and noted.

    Args:
        path: the list.
        root: the folder its paths start from; by default the list's own.
        name: how the set is called in tables.

    Raises:
        InputError: the list or its folder is not there, lists nothing, or lists files that are not there.
    """
    listed, notes = read_listed_ids(path)
    base = check_folder_exists(root or Path(path).parent)
    require_files(base, listed, listed_in=path)
    return ImageFiles(name=name, root=base, ids=NamedIds(listed), notes=notes)


def read_listed_ids(path: str) -> tuple[list[str], tuple[str, ...]]:
    """The ids that a list names, one a line, and notes of what is odd in it.

    Raises:
        InputError: there is no such file, or it lists nothing.
    """
    lines = read_lines(path, setting="probe.path")
    listed = [line for line in lines if line.strip()]
    if not listed:
        raise InputError(f"{path} lists no image; it must hold one path a line")
    blank = [number for number, line in enumerate(lines, 1) if not line.strip()]
    twice = [line for line, count in Counter(listed).items() if count > 1]
    notes = []
    if blank:
        notes.append(f"{path}: blank lines left out: {len(blank)} ({shorten_list(blank)})")
    if twice:
        notes.append(f"{path}: images listed more than once, and kept: {len(twice)} ({shorten_list(twice)})")
    return listed, tuple(notes)
