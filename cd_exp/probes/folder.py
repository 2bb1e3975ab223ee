"""Any tree of images."""

import errno
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from cd_exp.errors import InputError
from cd_exp.io.text import shorten_list
from cd_exp.probes.image_files import ImageFiles, NamedIds, check_folder_exists

KINDS = {"jpg", "jpeg", "jpe", "jfif", "png", "bmp", "gif", "webp", "avif", "tif", "tiff", "ppm", "pgm", "pbm"}
"""The ends of file names that make an image."""

OTHER_READERS = (".dcm", ".dicom", ".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".npy", ".npz", ".h5", ".hdf5", ".mat")
"""The ends of names of images that Pillow does not read."""

Identity = tuple[int, int]  # a folder's device and its number there


@dataclass
class Tree:
    """What lies below a folder, hidden files and folders left out."""

    images: list[str] = field(default_factory=list)  # relative paths; plain strings, because sets have 50,000 of them
    others: Counter[str] = field(default_factory=Counter)  # files of other kinds, by the end of their name
    masks: Counter[str] = field(default_factory=Counter)  # images that mask others, by their folder
    special: list[str] = field(default_factory=list)  # named pipes, sockets, devices, which reading would wait for
    again: list[str] = field(default_factory=list)  # folders whose images are taken once more, by a link
    circles: list[str] = field(default_factory=list)  # links back to a folder on the way down
    seen: set[Identity] = field(default_factory=set)

    def notes(self, root: Path) -> tuple[str, ...]:
        """What a reader should know: files that were skipped, or read twice."""
        kinds = ", ".join(f"{end} {count}" for end, count in self.others.most_common(8))
        more = ", ..." if len(self.others) > 8 else ""
        counted = (
            (f"files skipped because they are no images: {self.others.total()} ({kinds}{more})", self.others),
            (
                f"masks of other images, skipped: {self.masks.total()} (in {shorten_list(sorted(self.masks))}); "
                "probe.root=FOLDER of theirs takes them",
                self.masks,
            ),
            (f"no ordinary files, skipped: {len(self.special)} ({shorten_list(self.special)})", self.special),
            (f"folders that a link gives twice, their images taken twice: {shorten_list(self.again)}", self.again),
            (
                f"links back to a folder above or to themselves, not followed: {shorten_list(self.circles)}",
                self.circles,
            ),
        )
        return tuple(f"{root}: {text}" for text, present in counted if present)


def folder(*, root: str, name: str = "folder") -> ImageFiles:
    """Every image below a folder, sorted by relative path; hidden files and other kinds of file are skipped.

    Args:
        root: the folder; links to folders are followed.
        name: how the set is called in tables.

    Raises:
        InputError: there is no such folder, no image in it, or a file name that is not UTF-8.
    """
    base = check_folder_exists(root)
    tree = list_image_tree(base)
    if not tree.images:
        passed = f" ({tree.others.total()} other files)" if tree.others else ""
        raise InputError(
            f"probe.root={root} holds no image{passed}; their names end in {', '.join(sorted(KINDS))}"
            f"{way_in(tree.others)}"
        )
    return ImageFiles(name=name, root=base, ids=NamedIds(tree.images), notes=tree.notes(base))


def way_in(names: Iterable[str]) -> str:
    """The way in for DICOM, NIfTI, arrays and their like, for an error; empty where none of the names is of such."""
    kinds = sorted({end for name in names for end in OTHER_READERS if name.lower().endswith(end)})
    return (
        f"; {', '.join(kinds)} are read by code of your own: probe=custom probe.factory=FILE.py:name" if kinds else ""
    )


def list_image_tree(root: Path) -> Tree:
    """What lies below a folder, the images sorted by their relative paths.

    Raises:
        InputError: the name of an image is not UTF-8.
    """
    tree = Tree()
    for path in _walk_folders(str(root), tree):
        end = path.rpartition("/")[2].rpartition(".")
        if end[2].lower() in KINDS:
            tree.images.append(path)
        else:
            kind = ".nii.gz" if path.lower().endswith(".nii.gz") else f".{end[2].lower()}"
            tree.others[kind if end[1] else "no ending"] += 1
    _leave_masks_out(root, tree)
    tree.images.sort()
    for path in tree.images:
        if path.encode("utf-8", "surrogateescape") != path.encode("utf-8", "replace"):
            raise InputError(f"{root} holds a file whose name is not UTF-8: {os.fsencode(path)!r}; rename it")
    return tree


def _walk_folders(root: str, tree: Tree, inside: str = "", above: tuple[Identity, ...] = ()) -> Iterator[str]:
    """Relative paths of all files; special files, repeated folders and circular links are recorded in the tree."""
    status = Path(root, inside).stat()
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        tree.circles.append(inside.rstrip("/"))
        return
    if identity in tree.seen:
        tree.again.append(inside.rstrip("/"))
    tree.seen.add(identity)
    with os.scandir(f"{root}/{inside}") as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if entry.is_symlink() and _is_link_cycle(entry.path):
                tree.circles.append(inside + entry.name)
            elif entry.is_dir():
                yield from _walk_folders(root, tree, f"{inside}{entry.name}/", (*above, identity))
            elif entry.is_file() or not Path(entry.path).exists():  # a dangling link is an unreadable image
                yield inside + entry.name
            else:
                tree.special.append(inside + entry.name)


MASKED = re.compile(
    r"(.+?)(_gt(Fine|Coarse))?_(seg|segmentation|masks?|labels?|labelIds|labelTrainIds|instanceIds|color|gt|parts_\d+)"
)
"""What data sets put behind the name of an image for its masks: ADE20K, Cityscapes, COCO's derivatives."""
PHOTOGRAPHS = (".jpg", ".jpeg")
LOOKED_AT = 5  # images of a folder of masks


def _leave_masks_out(root: Path, tree: Tree) -> None:
    """Take masks out of the images: of the name of another with an ending of masks, or of one in another folder.

    A VOC root has `JPEGImages/1.jpg` and `SegmentationClass/1.png`; a photograph of the same name has colours.
    """
    stems = {path.rpartition("/")[2].rpartition(".")[0].removesuffix("_leftImg8bit") for path in tree.images}
    jpegs = [path for path in tree.images if path.lower().endswith(PHOTOGRAPHS)]
    names = {path.rpartition("/")[2].rpartition(".")[0] for path in jpegs}
    twins: dict[str, list[str]] = {}
    masks = set()
    for path in tree.images:
        folder, _, file = path.rpartition("/")
        stem, _, ending = file.rpartition(".")
        named = MASKED.fullmatch(stem)
        if named and ending.lower() == "png" and named[1] in stems:
            masks.add(path)
        elif ending.lower() in ("png", "bmp") and stem in names:
            twins.setdefault(folder, []).append(path)
    counts = Counter(path.rpartition("/")[0] for path in tree.images)
    for folder, paths in twins.items():
        of_its_own = len(paths) < 0.9 * counts[folder]
        if not of_its_own and not any(map(_has_colours, (root / path for path in paths[:LOOKED_AT]))):
            masks.update(paths)
    tree.images = [path for path in tree.images if path not in masks] if masks else tree.images
    tree.masks.update(path.rpartition("/")[0] or "." for path in masks)


def _has_colours(path: Path) -> bool:
    """Whether an image is in true colour, as its header says; one that can't be read is no mask."""
    try:
        with Image.open(path) as image:
            return image.mode not in ("P", "L", "1", "I", "I;16", "I;16B")
    except (OSError, SyntaxError, ValueError):
        return True


def _is_link_cycle(link: str) -> bool:
    """Whether following the link, or the links behind it, never ends; the system says so after 40."""
    try:
        Path(link).stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False
