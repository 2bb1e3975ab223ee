"""Probe sets of image files, also as a list names them: their ids, their classes by folder, and their content hash."""

import hashlib
import operator
import re
import unicodedata
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, SupportsIndex, overload

import numpy as np
from jaxtyping import Int
from PIL.Image import Image

from cd_exp.concepts.imagenet import names_by_wordnet_id
from cd_exp.errors import InputError
from cd_exp.io.text import read_lines, shorten_list
from cd_exp.probes.decoding import AS_PUBLISHED, DecodeOptions, Values, decode_rgb, read_value_range
from cd_exp.probes.hashing import UNREADABLE, fingerprint_images, forget, hash_files
from cd_exp.records import Probe


class _Names(Sequence[str]):
    """Equal to any sequence of the same names, and a slice of them is a tuple."""

    @abstractmethod
    def name(self, index: int) -> str:
        """The name at an index from 0."""

    @overload
    def __getitem__(self, index: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(self.name(i) for i in range(*index.indices(len(self))))
        position = operator.index(index)  # any kind of integer, numpy's included
        if not -len(self) <= position < len(self):
            raise IndexError(index)
        return self.name(position % len(self))

    def __iter__(self) -> Iterator[str]:
        return (self.name(i) for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Sequence)
            and len(self) == len(other)
            and all(a == b for a, b in zip(self, other, strict=True))
        )

    __hash__ = None  # type: ignore[assignment]  # as of a list

    def __repr__(self) -> str:
        return f"<{len(self)} names, the first {self[:3]}>"


class NamedIds(_Names):
    """Names one after the other in one block of bytes.

    1.28 million paths of 40 characters take 61 MB instead of 127 as strings in a tuple, and forked workers share them:
    a string is written to, its count of references, by whoever reads it.
    """

    def __init__(self, names: Iterable[str]) -> None:
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        self._text = b"".join(encoded)
        self._ends = np.fromiter(accumulate(map(len, encoded)), np.int64, len(encoded))

    def name(self, index: int) -> str:
        """The name at an index from 0."""
        start = self._ends[index - 1] if index else 0
        return self._text[start : self._ends[index]].decode("utf-8", "surrogateescape")

    def __len__(self) -> int:
        return len(self._ends)


class NumberedIds(_Names):
    """Names that are a number between two texts, `train/00042`, made when they are asked for."""

    def __init__(self, before: str, count: int, behind: str = "") -> None:
        self._before, self._count, self._behind = before, count, behind

    def name(self, index: int) -> str:
        """The name at an index from 0."""
        return f"{self._before}{index:05d}{self._behind}"

    def __len__(self) -> int:
        return self._count


class SelectedIds(_Names):
    """Some names of a sequence, in the order of their indices."""

    def __init__(self, names: Sequence[str], rows: Int[np.ndarray, " chosen"]) -> None:
        self._all, self._rows = names, rows

    def name(self, index: int) -> str:
        """The name at an index from 0."""
        return self._all[int(self._rows[index])]

    def __len__(self) -> int:
        return len(self._rows)


class JoinedIds(_Names):
    """Several sequences one after the other, each name behind its sequence's prefix."""

    def __init__(self, parts: Sequence[Sequence[str]], prefixes: Sequence[str]) -> None:
        self._parts, self._prefixes = parts, prefixes
        self._ends = np.cumsum([len(part) for part in parts])

    def name(self, index: int) -> str:
        """The name at an index from 0."""
        part = int(np.searchsorted(self._ends, index, side="right"))
        start = int(self._ends[part - 1]) if part else 0
        return self._prefixes[part] + self._parts[part][index - start]

    def __len__(self) -> int:
        return int(self._ends[-1])


WORDNET = re.compile(r"n\d{8}")


def read_folder_classes(paths: Iterable[str]) -> list[str] | None:
    """The name of the folder that each image lies in, as trees of class folders have it; None where one lies in none.

    Where all are WordNet's numbers, as ImageNet's folders are called, they are replaced by the names of the classes.

    >>> read_folder_classes(["train/dog/1.png", "train/grey_wolf/2.png"])
    ['dog', 'grey_wolf']
    """
    folders = [path.replace("\\", "/").rpartition("/")[0].rpartition("/")[2] for path in paths]
    if not folders or not all(folders):
        return None
    names = {folder: folder for folder in folders}  # a million images share a thousand strings
    if all(WORDNET.fullmatch(folder) for folder in names):
        names_of_ids = names_by_wordnet_id()
        names = {folder: names_of_ids.get(folder, folder) for folder in names}
    return [names[folder] for folder in folders]


def names_of(dataset: Any) -> list[str] | None:
    """The names of the classes that a data set's items count: its own `classes`, or those of the set that it wraps.

    None where it has none, and where a `target_transform` makes other numbers of them.
    """
    if getattr(dataset, "target_transform", None) is not None:
        return None
    names = getattr(dataset, "classes", None)
    if names is None and hasattr(dataset, "features"):  # a Hugging Face set: one column has named numbers
        named = [
            kind.names for kind in dataset.features.values() if hasattr(kind, "names") and hasattr(kind, "int2str")
        ]
        names = named[0] if len(named) == 1 else None
    if names is not None:
        return [str(name) for name in names]
    inner = [dataset.dataset] if hasattr(dataset, "dataset") else getattr(dataset, "datasets", None) or []
    each = [names_of(member) for member in inner]
    return each[0] if each and all(names == each[0] for names in each) else None


def of_items(targets: Sequence[Any], dataset: Any) -> list[str] | None:
    """The class of each image by what stands beside it in its item: a name, or the number of one.

    Args:
        targets: of each item, None where it has none.
        dataset: what gave the items, for the names.
    """
    if targets and all(target is None for target in targets):  # images alone: what the set says of them
        targets = list(getattr(dataset, "targets", None) or ())
    if not targets or any(target is None for target in targets):
        return None
    if all(isinstance(target, str) for target in targets):
        return list(targets)
    numbers, names = [_whole(target) for target in targets], names_of(dataset)
    if names is None or any(number is None for number in numbers):
        return None
    if any(not -1 <= (number or 0) < len(names) for number in numbers):
        return None
    return ["" if number is None or number < 0 else names[number] for number in numbers]


def _whole(target: Any) -> int | None:
    """A whole number of any library; None for all else."""
    try:
        return operator.index(target)
    except TypeError:
        return None


@dataclass(frozen=True, eq=False, kw_only=True)
class DecodedImages(Probe):
    """Images in encoded form: files, or members of archives and tables."""

    name: str
    ids: Sequence[str]
    cache: str | None = None  # where digests of unchanged files are remembered
    reading: DecodeOptions = AS_PUBLISHED  # how images become 8-bit RGB
    notes: tuple[str, ...] = ()  # what a reader should know of how the set was read

    @abstractmethod
    def source(self, index: int) -> Path | bytes:
        """The encoded image; raises OSError where it cannot be read."""

    @abstractmethod
    def digests(self, rows: Sequence[int]) -> Iterator[str]:
        """The hash of each of these images' content."""

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the images' content and order; reads everything that is not remembered."""
        return self.fingerprint_of(range(len(self)))

    def fingerprint_of(self, rows: Sequence[int]) -> str:
        """The fingerprint of a set of these images alone; from then on no other content of them is decoded."""
        return fingerprint_images(self._note_digests(rows), *self.reading.key())

    def _note_digests(self, rows: Sequence[int]) -> Iterator[str]:
        """The digests, each also kept for `_fingerprinted`."""
        for row, line in zip(rows, self.digests(rows), strict=True):
            self._fingerprinted[row] = _short(line)
            yield line

    def order_keys(self, rows: Sequence[int]) -> Sequence[str]:
        """The beginnings of the digests, which the fingerprint has taken already."""
        hashes = self._fingerprinted[list(rows)]
        return [f"{value:016x}" for value in hashes.tolist()] if hashes.all() else list(self.digests(rows))

    @cached_property
    def _fingerprinted(self) -> Int[np.ndarray, " images"]:
        """The beginning of each image's digest, 0 before it was taken: 10 MB for 1.28 million images."""
        return np.zeros(len(self), np.int64)

    def _content(self, index: int) -> Path | bytes:
        """The encoded image, which has to be what was fingerprinted: features are stored under that.

        A file that is replaced or away for a moment would otherwise give features, or a gap, that later runs read.

        Raises:
            OSError: it can't be read, and could not be when it was fingerprinted.
            InputError: it is another one by now.
        """
        source, before = self.source(index), int(self._fingerprinted[index])
        if not before:
            return source
        try:
            if isinstance(source, Path) and source.exists() and not source.is_file():
                raise OSError("it is no ordinary file")  # a named pipe would be waited for
            content = source if isinstance(source, bytes) else source.read_bytes()
        except OSError as error:
            if before == _short(UNREADABLE):
                raise OSError(f"{self.where(index)} cannot be read as an image: {error}") from error
            raise self._changed_error(
                index, f"could be read when the run began, and not now ({error.strerror or error})"
            ) from error
        if _short(hashlib.sha256(content).hexdigest()) != before:
            raise self._changed_error(index, "is not what it was when the run began")
        return content

    def _changed_error(self, index: int, what: str) -> InputError:
        self.forget()
        return InputError(
            f"{self.where(index)} {what}; nothing of it was stored: run again once nobody writes to these files"
        )

    def forget(self) -> None:
        """Compute every digest again next time, where they are remembered."""

    def values(self, index: int) -> Values:
        """What numbers the image holds before it becomes 8-bit RGB; raises OSError where it cannot be read."""
        return read_value_range(self.source(index), where=self.where(index))

    def where(self, index: int) -> str:
        """What names the image in an error."""
        return f"{self.name} {self.ids[index]}"

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Image:
        """The image as RGB; raises OSError where it cannot be read."""
        return decode_rgb(self._content(index), where=self.where(index), reading=self.reading)


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageFiles(DecodedImages):
    """A probe set of image files: `ids` are their paths below `root`."""

    root: Path = field()

    @cached_property
    def image_classes(self) -> Sequence[str] | None:
        """The folder of each image; None where one lies in none."""
        return read_folder_classes(self.ids)

    def source(self, index: int) -> Path:
        """The file."""
        return self.root / self.ids[index]

    def digests(self, rows: Sequence[int]) -> Iterator[str]:
        """The hash of each of these files."""
        whole = rows == range(len(self))  # a list of a million names is not copied
        return hash_files(self.root, self.ids if whole else [self.ids[row] for row in rows], self.cache)

    def forget(self) -> None:
        """Compute every digest again next time."""
        forget(self.root, self.cache)

    def where(self, index: int) -> str:
        """The path."""
        return str(self.source(index))


def _short(line: str) -> int:
    """A digest in eight bytes, never 0."""
    return 1 if line == UNREADABLE else 2 + int(line[:15], 16)


def check_folder_exists(root: str | Path, *, setting: str = "probe.root") -> Path:
    """The folder, which must be one."""
    if not Path(root).is_dir():
        raise InputError(f"{setting}={root}: there is no such folder (seen from {Path.cwd()})")
    return Path(root)


def require_files(root: Path, ids: Sequence[str], *, listed_in: str) -> None:
    """Raises InputError that counts and names the files which are not there, all at once."""
    missing = [name for name in ids if not (root / name).is_file()]
    if missing:
        where = f"{len(missing)} of {len(ids)} images of {listed_in} are not below {root}"
        other = next((form for form in _other_forms(missing[0]) if (root / form).is_file()), None)
        if other is not None:
            raise InputError(
                f"{where}: {shorten_list(missing)}; {missing[0]!a} lies there as {other!a}: write the lines so"
            )
        raise InputError(f"{where}: {shorten_list(missing)}; probe.root must be the folder the paths start from")


def _other_forms(name: str) -> Iterator[str]:
    """How a line may have been meant: without blanks or quotes, with slashes, or its accents encoded otherwise."""
    bare = name.strip().strip("\"'").replace("\\", "/")
    yield from (unicodedata.normalize(form, bare) for form in ("NFC", "NFD"))
    yield from (bare.rpartition(mark)[0] for mark in ("\t", ",", " "))  # a class or a number stands behind the path


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
