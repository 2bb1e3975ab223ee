"""The images named by a list file."""

from collections import Counter
from pathlib import Path

from cd_exp.errors import InputError
from cd_exp.lines import read_lines
from cd_exp.names import shortened
from cd_exp.probes.image_files import ImageFiles, chosen, existing_folder, require


def files(
    *,
    path: str,
    root: str | None = None,
    name: str = "files",
    limit: int | None = None,
    seed: int | None = None,
    cache: str | None = None,
) -> ImageFiles:
    """The images of a list, one path a line, in its order; a line as it stands is the image's id.

    Blank lines are left out and noted. An image that is listed twice is taken twice, and noted.

    Args:
        path: the list.
        root: the folder its paths start from; by default the list's own.
        name: how the set is called in tables.
        limit: take at most so many images.
        seed: draw these at random instead of taking the first.
        cache: where digests of unchanged files are remembered.

    Raises:
        InputError: the list or its folder is not there, lists nothing, or lists files that are not there.
    """
    lines = read_lines(path, setting="probe.path")
    place = existing_folder(root or Path(path).parent)
    listed = [line for line in lines if line.strip()]
    if not listed:
        raise InputError(f"{path} lists no image; it must hold one path a line")
    ids = tuple(listed[i] for i in chosen(len(listed), limit=limit, seed=seed))
    require(place, ids, listed_in=path)
    blank = [number for number, line in enumerate(lines, 1) if not line.strip()]
    twice = [line for line, count in Counter(listed).items() if count > 1]
    notes = []
    if blank:
        notes.append(f"{path}: blank lines left out: {len(blank)} ({shortened(blank)})")
    if twice:
        notes.append(f"{path}: images listed more than once, and kept: {len(twice)} ({shortened(twice)})")
    return ImageFiles(name, place, ids, cache, tuple(notes))
