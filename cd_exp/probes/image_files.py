"""The record behind every probe set that is a tree of picture files, and what all sets of pictures have in common."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from PIL.Image import Image

from cd_exp.errors import InputError
from cd_exp.io.text import shortened
from cd_exp.probes.fingerprints import file_digests, fingerprint
from cd_exp.probes.image_classes import folder_classes
from cd_exp.probes.pictures import AS_PUBLISHED, Reading, Values, rgb, values
from cd_exp.records import Probe


@dataclass(frozen=True, eq=False, kw_only=True)
class Pictures(Probe):
    """Images that are encoded pictures: files, or members of archives and tables."""

    name: str
    ids: Sequence[str]
    cache: str | None = None  # where digests of unchanged files are remembered
    reading: Reading = AS_PUBLISHED  # how pictures become 8-bit RGB
    notes: tuple[str, ...] = ()  # what a reader should know of how the set was read

    @abstractmethod
    def source(self, index: int) -> Path | bytes:
        """The encoded picture; raises OSError where it cannot be read."""

    @abstractmethod
    def digests(self, rows: Sequence[int]) -> Iterator[str]:
        """The hash of each of these images' content."""

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the images' content and order; reads everything that is not remembered."""
        return self.fingerprint_of(range(len(self)))

    def fingerprint_of(self, rows: Sequence[int]) -> str:
        """The fingerprint of a set of these images alone."""
        return fingerprint(self.digests(rows), *self.reading.key())

    def values(self, index: int) -> Values:
        """What numbers the picture holds before it becomes 8-bit RGB; raises OSError where it cannot be read."""
        return values(self.source(index), where=self.where(index))

    def where(self, index: int) -> str:
        """What names the image in an error."""
        return f"{self.name} {self.ids[index]}"

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Image:
        """The picture as RGB; raises OSError where it cannot be read."""
        return rgb(self.source(index), where=self.where(index), reading=self.reading)


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageFiles(Pictures):
    """A probe set of picture files: `ids` are their paths below `root`."""

    root: Path = field()

    @cached_property
    def image_classes(self) -> Sequence[str] | None:
        """The folder of each picture; None where one lies in none."""
        return folder_classes(self.ids)

    def source(self, index: int) -> Path:
        """The file."""
        return self.root / self.ids[index]

    def digests(self, rows: Sequence[int]) -> Iterator[str]:
        """The hash of each of these files."""
        whole = rows == range(len(self))  # a list of a million names is not made anew
        return file_digests(self.root, self.ids if whole else [self.ids[row] for row in rows], self.cache)

    def where(self, index: int) -> str:
        """The path."""
        return str(self.source(index))


def existing_folder(root: str | Path, *, setting: str = "probe.root") -> Path:
    """The folder, which must be one."""
    if not Path(root).is_dir():
        raise InputError(f"{setting}={root}: there is no such folder (seen from {Path.cwd()})")
    return Path(root)


def require(root: Path, ids: Sequence[str], *, listed_in: str) -> None:
    """Raises InputError that counts and names the files which are not there, all at once."""
    missing = [name for name in ids if not (root / name).is_file()]
    if missing:
        where = f"{len(missing)} of {len(ids)} images of {listed_in} are not below {root}"
        raise InputError(f"{where}: {shortened(missing)}; probe.root must be the folder the paths start from")
