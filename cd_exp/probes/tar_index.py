"""Where the pictures of a tar shard lie in it."""

import contextlib
import hashlib
import io
import json
import os
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from cd_exp.errors import InputError
from cd_exp.io.atomic import write
from cd_exp.probes.folder import KINDS
from cd_exp.probes.id_lists import Names


@dataclass(frozen=True, eq=False)
class Index:
    """Where in a shard its pictures lie."""

    names: Names
    start: Int[np.ndarray, " members"]
    size: Int[np.ndarray, " members"]


def index_of(shard: Path, cache: str | None) -> Index:
    """The pictures of a shard of every ending, from memory where the shard is as it was."""
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
                names = Names(bytes(kept["names"]).decode("utf-8", "surrogateescape").split("\0"))
                if len(names) == len(kept["start"]) == len(kept["size"]):
                    return Index(names, kept["start"], kept["size"])
        except (OSError, ValueError, KeyError, UnicodeDecodeError, zipfile.BadZipFile):
            pass  # damaged: looked through again
    found = list(_members(shard))
    index = Index(
        Names(name for name, _, _ in found),
        np.array([start for _, start, _ in found], np.int64),
        np.array([size for _, _, size in found], np.int64),
    )
    if memory and found:
        packed = io.BytesIO()
        text = "\0".join(index.names).encode("utf-8", "surrogateescape")
        np.savez(packed, names=np.frombuffer(text, np.uint8), start=index.start, size=index.size)
        with contextlib.suppress(InputError):  # a cache that cannot be written to costs time and nothing else
            write(memory, packed.getvalue())
    return index


def wanted(index: Index, column: str | None) -> Index:
    """The pictures of a column; without one, those whose ending is no more than a kind of picture."""
    endings = [_ending(name) for name in index.names]
    rows = [row for row, ending in enumerate(endings) if (ending == column if column else ending in KINDS)]
    if len(rows) == len(endings):
        return index
    return Index(Names(index.names[row] for row in rows), index.start[rows], index.size[rows])


def nothing(path: str, paths: Sequence[Path], column: str | None, cache: str | None) -> InputError:
    """The error for shards without a picture of the wanted ending, with the endings that are there."""
    seen = Counter(_ending(name) for shard in paths[:4] for name in index_of(shard, cache).names)
    there = f"; pictures there end in {', '.join(sorted(seen))}: choose with probe.column=ENDING" if seen else ""
    wanted = f".{column}" if column else ", ".join(sorted(KINDS))
    return InputError(f"probe.path={path}: no member of {len(paths)} shards ends in {wanted}{there}")


def _members(shard: Path) -> Iterator[tuple[str, int, int]]:
    """Name, place and size of each picture of a shard; hidden files, links and all else are passed over."""
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
    """Samples of two pictures would be two images of the probe set, one of them perhaps a mask."""
    samples = Counter(_sample(name) for name in names)
    several = next((sample for sample, count in samples.items() if count > 1), None)
    if several is not None:
        endings = sorted({_ending(name) for name in names if _sample(name) == several})
        raise InputError(
            f"{shard}: sample {several} has {samples[several]} pictures ({', '.join(endings)}); "
            f"choose one: probe.column={endings[0]}"
        )


def _sample(member: str) -> str:
    folder, slash, file = member.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _ending(member: str) -> str:
    return member.rpartition("/")[2].partition(".")[2].lower()
