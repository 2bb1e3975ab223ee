"""Shards of tar files in webdataset's layout, read at random through an index of where each image lies."""

import contextlib
import glob
import hashlib
import io
import json
import os
import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int

from cd_exp.errors import InputError
from cd_exp.io.atomic import write_file
from cd_exp.io.download import show_progress
from cd_exp.io.text import shorten_list
from cd_exp.probes.folder import KINDS
from cd_exp.probes.hashing import UNREADABLE, cached_hashes, forget
from cd_exp.probes.image_files import DecodedImages, JoinedIds, NamedIds, read_folder_classes


@dataclass(frozen=True, eq=False)
class TarIndex:
    """Where in a shard its images lie."""

    names: NamedIds
    start: Int[np.ndarray, " members"]
    size: Int[np.ndarray, " members"]


def read_index(shard: Path, cache: str | None) -> TarIndex:
    """The images of a shard of every ending, from memory where the shard is as it was."""
    status = shard.stat()
    state = [os.path.realpath(shard), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    memory = (
        Path(cache) / "tar" / f"{hashlib.sha256(json.dumps(state).encode()).hexdigest()[:32]}.npz" if cache else None
    )
    if memory and memory.is_file():
        try:
            with (
                memory.open("rb") as stream,
                np.load(stream, allow_pickle=False) as kept,
            ):  # a zip: parts have checksums
                names = NamedIds(bytes(kept["names"]).decode("utf-8", "surrogateescape").split("\0"))
                if len(names) == len(kept["start"]) == len(kept["size"]):
                    return TarIndex(names, kept["start"], kept["size"])
        except (OSError, ValueError, KeyError, UnicodeDecodeError, zipfile.BadZipFile):
            pass  # damaged: looked through again
    members = list(_members(shard))
    index = TarIndex(
        NamedIds(name for name, _, _ in members),
        np.array([start for _, start, _ in members], np.int64),
        np.array([size for _, _, size in members], np.int64),
    )
    if memory and members:
        packed = io.BytesIO()
        text = "\0".join(index.names).encode("utf-8", "surrogateescape")
        np.savez(packed, names=np.frombuffer(text, np.uint8), start=index.start, size=index.size)
        with contextlib.suppress(InputError):  # a cache that cannot be written to costs time and nothing else
            write_file(memory, packed.getvalue())
    return index


def is_wanted(index: TarIndex, column: str | None) -> TarIndex:
    """The images of a column; without one, those whose ending is no more than a kind of image."""
    endings = [_ending_of(name) for name in index.names]
    rows = [row for row, ending in enumerate(endings) if (ending == column if column else ending in KINDS)]
    if len(rows) == len(endings):
        return index
    return TarIndex(NamedIds(index.names[row] for row in rows), index.start[rows], index.size[rows])


def describe_other_endings(indices: Sequence[TarIndex], column: str | None) -> str:
    """What images there are of other endings, in words; nothing where there are none."""
    endings = Counter(_ending_of(name) for index in indices for name in index.names)
    others = {end: count for end, count in endings.items() if (end != column if column else end not in KINDS)}
    shown = ", ".join(f".{end} {count}" for end, count in sorted(others.items(), key=lambda pair: -pair[1])[:5])
    return f"images of other columns, left out: {sum(others.values())} ({shown})" if others else ""


def nothing_wanted_error(path: str, paths: Sequence[Path], column: str | None, cache: str | None) -> InputError:
    """The error for shards without an image of the wanted ending, with the endings that are there."""
    seen = Counter(_ending_of(name) for shard in paths[:4] for name in read_index(shard, cache).names)
    there = f"; images there end in {', '.join(sorted(seen))}: choose with probe.column=ENDING" if seen else ""
    wanted = f".{column}" if column else ", ".join(sorted(KINDS))
    return InputError(f"probe.path={path}: no member of {len(paths)} shards ends in {wanted}{there}")


def _members(shard: Path) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of each image of a shard; hidden files, links and all else are skipped."""
    length = shard.stat().st_size
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                file = member.name.rpartition("/")[2]
                if member.isreg() and not file.startswith(".") and file.rpartition(".")[2].lower() in KINDS:
                    if member.offset_data + member.size > length:
                        raise InputError(f"{shard} is cut off within {member.name}; fetch it again")
                    yield member.name, member.offset_data, member.size
    except tarfile.TarError as error:
        with shard.open("rb") as stream:
            packed = stream.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))
        if packed:
            raise InputError(
                f"{shard} is compressed, and cannot be read at random; unpack it to a plain .tar"
            ) from error
        raise InputError(f"{shard} is no tar file, or a damaged one ({error}); fetch it again") from error


def refuse_several(shard: Path, names: Sequence[str]) -> None:
    """Samples of two images would be two images of the probe set, one of them perhaps a mask."""
    samples = Counter(_sample_name(name) for name in names)
    several = next((sample for sample, count in samples.items() if count > 1), None)
    if several is not None:
        endings = sorted({_ending_of(name) for name in names if _sample_name(name) == several})
        raise InputError(
            f"{shard}: sample {several} has {samples[several]} images ({', '.join(endings)}); "
            f"choose one: probe.column={endings[0]}"
        )


def _sample_name(member: str) -> str:
    folder, slash, file = member.rpartition("/")
    return folder + slash + _split_ending(file)[0]


def _ending_of(member: str) -> str:
    return _split_ending(member.rpartition("/")[2])[1].lower()


def _split_ending(file: str) -> tuple[str, str]:
    """Name and ending, which begins at the first dot, but for numbers: `IMG.2023.05.01.jpg` is no `2023.05.01.jpg`."""
    name, _, ending = file.partition(".")
    numbered = re.fullmatch(r"((?:[\d_-]+\.)+)(.*)", ending)
    return (f"{name}.{numbered[1][:-1]}", numbered[2]) if numbered else (name, ending)


@dataclass(frozen=True, eq=False, kw_only=True)
class TarShards(DecodedImages):
    """Images inside tar files, each read from its offset there: `ids` are the shard and the member, `0001/cat.jpg`."""

    paths: tuple[Path, ...]
    shard: Int[np.ndarray, " images"]  # the number of the file
    start: Int[np.ndarray, " images"]  # bytes into it
    size: Int[np.ndarray, " images"]  # bytes

    @cached_property
    def image_classes(self) -> Sequence[str] | None:
        """The folder of each member inside its shard; None where one lies in none."""
        return read_folder_classes(name.partition("/")[2] for name in self.ids)

    def source(self, index: int) -> bytes:
        """The encoded image."""
        return self._read(index)

    def digests(self, rows: Sequence[int]) -> Iterator[str]:
        """The hash of each of these members, in the order asked; remembered by shard."""
        by_row: dict[int, str] = {}
        for number in dict.fromkeys(int(self.shard[row]) for row in rows):
            ours = [row for row in rows if self.shard[row] == number]
            names = [f"{self.start[row]}+{self.size[row]}" for row in ours]
            of_name = dict(zip(names, ours, strict=True))
            digests = cached_hashes(
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
        statuses = (path.stat() for path in self.paths)
        return tuple((status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino) for status in statuses)

    def forget(self) -> None:
        """Compute every digest again next time."""
        for path in self.paths:
            forget(path, self.cache)

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


def tar(*, path: str, column: str | None = None, name: str = "tar", cache: str | None = None) -> TarShards:
    """The images of tar shards, in the order of the shards' names and of the members in each.

    Members of one sample share what comes before the first dot of their names: `000001.jpg`, `000001.cls`,
    `000001.json`. Only images are taken. The headers alone are read to find them, once for each shard.

    Args:
        path: a folder of `*.tar` files, one such file, or a pattern, `train-{0000..0146}.tar` or `train-*.tar`.
        column: which image of a sample, `jpg` or `left.png`, where samples have several.
        name: how the set is called in tables.
        cache: where it is remembered what lies where in a shard, in `tar/`.

    Raises:
        InputError: there is no such file, one is damaged or compressed, or samples have several images.
    """
    paths = list_shards(path)
    whole = []
    with show_progress("looking through the shards", len(paths)) as advance:
        for shard in paths:
            whole.append(read_index(shard, cache))
            advance(1)
    indices = [is_wanted(index, column) for index in whole]
    counts = [len(index.names) for index in indices]
    if not sum(counts):
        raise nothing_wanted_error(path, paths, column, cache)
    for shard, index in zip(paths, indices, strict=True):
        refuse_several(shard, index.names)
    others = describe_other_endings(whole, column)
    return TarShards(
        name=name,
        notes=(f"{path}: {others}; probe.column=ENDING takes another",) if others else (),
        cache=cache,
        paths=tuple(paths),
        ids=JoinedIds([index.names for index in indices], [f"{shard.name.removesuffix('.tar')}/" for shard in paths]),
        shard=np.repeat(np.arange(len(paths), dtype=np.int32), counts),
        start=np.concatenate([index.start for index in indices]),
        size=np.concatenate([index.size for index in indices]),
    )


def list_shards(path: str) -> list[Path]:
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
                f"probe.path={path}: {len(missing)} of {len(listed)} shards are not there: {shorten_list(missing)}"
            )
        return listed
    if Path(path).is_dir():
        shards = sorted(Path(path).glob("*.tar"))
    else:
        shards = [Path(path)] if Path(path).is_file() else sorted(map(Path, glob.glob(path)))  # noqa: PTH207  a path with a pattern
    if not shards:
        raise InputError(f"probe.path={path}: there is no tar file (seen from {Path.cwd()})")
    return shards
