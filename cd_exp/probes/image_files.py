"""The record behind every probe set that is a tree of picture files, and the choice of a part of a set."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL.Image import Image

from cd_exp.errors import InputError
from cd_exp.names import shortened
from cd_exp.probes.fingerprints import file_digests, fingerprint
from cd_exp.probes.pictures import rgb


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """A probe set of picture files: `ids` are their paths below `root`."""

    name: str
    root: Path
    ids: tuple[str, ...]
    cache: str | None = None  # where digests of unchanged files are remembered
    notes: tuple[str, ...] = ()  # what a reader should know of how the set was read

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the files' content and order; reads every file that is not remembered."""
        return fingerprint(file_digests(self.root, self.ids, self.cache))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Image:
        """The picture as RGB; raises OSError where it cannot be read."""
        path = self.root / self.ids[index]
        return rgb(path, where=str(path))


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


def chosen(count: int, *, limit: int | None, seed: int | None) -> list[int]:
    """Which images of a set to take, in their order.

    Args:
        count: how many there are.
        limit: how many to take at most; None takes all.
        seed: None takes the first ones, a number draws them at random.

    Raises:
        InputError: the limit leaves no image.
    """
    if limit is not None and limit < 1:
        raise InputError(f"probe.limit={limit} leaves no image; give a number of images, or null for all")
    if limit is None or limit >= count:
        return list(range(count))
    if seed is None:
        return list(range(limit))
    return sorted(np.random.default_rng(seed).choice(count, limit, replace=False).tolist())
