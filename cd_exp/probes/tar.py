"""Shards of tar files in webdataset's layout, read at random through an index."""

import glob
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int

from cd_exp.errors import InputError
from cd_exp.io.download import progress
from cd_exp.io.text import shortened
from cd_exp.probes.fingerprints import UNREADABLE, remembered
from cd_exp.probes.id_lists import Joined
from cd_exp.probes.image_classes import folder_classes
from cd_exp.probes.image_files import Pictures
from cd_exp.probes.tar_index import index_of, nothing, refuse_several, wanted


@dataclass(frozen=True, eq=False, kw_only=True)
class Shards(Pictures):
    """Pictures inside tar files, each read from its place there: `ids` are the shard and the member, `0001/cat.jpg`."""

    paths: tuple[Path, ...]
    shard: Int[np.ndarray, " images"]  # the number of the file
    start: Int[np.ndarray, " images"]  # bytes into it
    size: Int[np.ndarray, " images"]  # bytes

    @cached_property
    def image_classes(self) -> Sequence[str] | None:
        """The folder of each member inside its shard; None where one lies in none."""
        return folder_classes(name.partition("/")[2] for name in self.ids)

    def source(self, index: int) -> bytes:
        """The encoded picture."""
        return self._read(index)

    def digests(self, rows: Sequence[int]) -> Iterator[str]:
        """The hash of each of these members, in the order asked; remembered by shard."""
        by_row: dict[int, str] = {}
        for number in dict.fromkeys(int(self.shard[row]) for row in rows):
            ours = [row for row in rows if self.shard[row] == number]
            names = [f"{self.start[row]}+{self.size[row]}" for row in ours]
            of_name = dict(zip(names, ours, strict=True))
            digests = remembered(
                self.paths[number],
                names,
                self.cache,
                state=lambda name, state=self._states[number]: state,  # type: ignore[misc]
                read=lambda name, rows=of_name: self._digest(rows[name]),  # type: ignore[misc]
            )
            by_row |= zip(ours, digests, strict=True)
        return (by_row[row] for row in rows)

    @cached_property
    def _states(self) -> tuple[tuple[int, ...], ...]:
        found = (path.stat() for path in self.paths)
        return tuple((status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino) for status in found)

    def _digest(self, row: int) -> str:
        try:
            return hashlib.sha256(self._read(row)).hexdigest()
        except OSError:
            return UNREADABLE

    def _read(self, row: int) -> bytes:
        with self.paths[self.shard[row]].open("rb") as file:
            file.seek(int(self.start[row]))
            data = file.read(int(self.size[row]))
        if len(data) < self.size[row]:
            raise OSError(f"{self.paths[self.shard[row]]} ends within {self.ids[row]}")
        return data


def tar(*, path: str, column: str | None = None, name: str = "tar", cache: str | None = None) -> Shards:
    """The pictures of tar shards, in the order of the shards' names and of the members in each.

    Members of one sample share what comes before the first dot of their names: `000001.jpg`, `000001.cls`,
    `000001.json`. Only pictures are taken. The headers alone are read to find them, once for each shard.

    Args:
        path: a folder of `*.tar` files, one such file, or a pattern, `train-{0000..0146}.tar` or `train-*.tar`.
        column: which picture of a sample, `jpg` or `left.png`, where samples have several.
        name: how the set is called in tables.
        cache: where it is remembered what lies where in a shard, in `tar/`.

    Raises:
        InputError: there is no such file, one is damaged or compressed, or samples have several pictures.
    """
    paths = shard_paths(path)
    indices = []
    with progress("looking through the shards", len(paths)) as advance:
        for shard in paths:
            indices.append(wanted(index_of(shard, cache), column))
            advance(1)
    counts = [len(index.names) for index in indices]
    if not sum(counts):
        raise nothing(path, paths, column, cache)
    for shard, index in zip(paths, indices, strict=True):
        refuse_several(shard, index.names)
    return Shards(
        name=name,
        cache=cache,
        paths=tuple(paths),
        ids=Joined([index.names for index in indices], [f"{shard.name.removesuffix('.tar')}/" for shard in paths]),
        shard=np.repeat(np.arange(len(paths), dtype=np.int32), counts),
        start=np.concatenate([index.start for index in indices]),
        size=np.concatenate([index.size for index in indices]),
    )


def shard_paths(path: str) -> list[Path]:
    """The tar files that a folder, a name or a pattern means, sorted by name.

    Raises:
        InputError: there is none, or one that the pattern names is not there.
    """
    braces = re.fullmatch(r"(.*)\{(\d+)\.\.(\d+)\}(.*)", path)
    if braces:
        before, first, last, after = braces.groups()
        listed = [Path(f"{before}{n:0{len(first)}d}{after}") for n in range(int(first), int(last) + 1)]
        missing = [shard.name for shard in listed if not shard.is_file()]
        if missing or not listed:
            raise InputError(
                f"probe.path={path}: {len(missing)} of {len(listed)} shards are not there: {shortened(missing)}"
            )
        return listed
    if Path(path).is_dir():
        found = sorted(Path(path).glob("*.tar"))
    else:
        found = [Path(path)] if Path(path).is_file() else sorted(map(Path, glob.glob(path)))  # noqa: PTH207  a path with a pattern
    if not found:
        raise InputError(f"probe.path={path}: there is no tar file (seen from {Path.cwd()})")
    return found
