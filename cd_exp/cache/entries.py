"""What is stored: the key of an entry, the manifest of what it was made from, and JSON files with a checksum."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cd_exp import __version__
from cd_exp.errors import HIDDEN, hide_user_part, is_secret_name


class Damaged(Exception):
    """A stored file is not what was written: edited, cut off, or no JSON at all. The message says what is wrong."""


def seal_json(values: Mapping[str, Any]) -> str:
    """JSON text of the values with `made_by`, the version of the code, and `checksum`, a hash of everything else."""
    made = {**values, "made_by": __version__}
    return json.dumps({**made, "checksum": _checksum(made)}, indent=1)


def read_sealed_json(path: Path) -> dict[str, Any]:
    """The values of a file that `seal_json` made.

    Raises:
        FileNotFoundError: there is none.
        Damaged: it is none of ours, or was changed since.
    """
    check_file(path)
    data = path.read_bytes()
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:  # not only no JSON: other encodings, numbers and nesting too large
        raise Damaged(f"{path.name} is not readable JSON") from error
    if not isinstance(values, dict):
        raise Damaged(f"{path.name} holds no JSON object")
    checksum = values.pop("checksum", None)
    if checksum != _checksum(values):
        raise Damaged(f"{path.name} does not have its checksum")
    return values


def check_file(path: Path) -> None:
    """Raise `Damaged` where something else than a file has its name: a folder, a broken link, a pipe nobody fills."""
    if os.path.lexists(path) and not path.is_file():
        raise Damaged(f"{path.name} is no file")


def _checksum(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


SCHEMA = 1
"""Raised by one whenever the meaning of stored numbers changes; old entries are then never read."""

MANIFEST = "manifest.json"
ARRAY, ARRAYS = "values.npy", "values.npz"
HASHERS = 8  # threads; hashing leaves the interpreter free
BLOCK = 2**22  # bytes read at a time


def make_key(content: Mapping[str, Any], *, schema: int = SCHEMA) -> str:
    """The key of what `content` describes: a hash of its canonical JSON."""
    text = json.dumps({"schema": schema, **content}, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def hash_file(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Entry:
    """One kind of features to be read or computed. `content` is all that changes the numbers, as plain JSON values."""

    kind: str
    content: Mapping[str, Any]

    def __post_init__(self) -> None:
        """A secret changes no number, and what is stored says what it was made from: secrets stay out of both."""
        object.__setattr__(self, "content", hide_option_secrets(self.content))

    @property
    def key(self) -> str:
        """The content hash that names the entry."""
        return make_key({"kind": self.kind, **self.content})

    @property
    def says(self) -> str:
        """The entry for a reader: its kind and the beginning of its key."""
        return f"{self.kind}/{self.key[:12]}"


def hide_option_secrets(value: Any, *, options: bool = False) -> Any:
    """The content with the secrets among options of user code and in addresses hidden."""
    if isinstance(value, Mapping):
        return {
            key: HIDDEN
            if options and isinstance(inner, str) and is_secret_name(str(key))
            else hide_option_secrets(inner, options=options or key == "options")
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [hide_option_secrets(inner, options=options) for inner in value]
    return hide_user_part(value) if isinstance(value, str) else value


@dataclass(frozen=True)
class Manifest:
    """What is known of a stored entry, checked.

    Attributes:
        kind: of the entry.
        content: what was hashed into the key.
        file: the file of numbers, `values.npy` or `values.npz`.
        shape: of the array; empty for several arrays.
        sha256: of the whole file, or of each run of `shard` rows.
        start: where the rows begin in the file, in bytes.
        shard: rows to a hash; 0 where one hash stands for the file.
        unreadable: indices of the images that are not among the rows.
        facts: whatever else was said.
    """

    kind: str
    content: Mapping[str, Any]
    file: str
    shape: tuple[int, ...]
    sha256: tuple[str, ...]
    start: int
    shard: int
    unreadable: tuple[int, ...]
    facts: Mapping[str, Any]


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the entry in a folder.

    Raises:
        FileNotFoundError: there is none.
        Damaged: it is not as it was written, or describes something else than its folder is named for.
    """
    values = read_sealed_json(folder / MANIFEST)
    hashes = values.get("sha256")
    if isinstance(hashes, list) and not all(isinstance(text, str) for text in hashes):
        raise Damaged(f"{MANIFEST} lacks checksums")
    manifest = Manifest(
        kind=_typed_value(values, "kind", str),
        content=_typed_value(values, "content", dict),
        file=values.get("file", ARRAY),
        shape=tuple(_number_list(values.get("shape", []), "shape")),
        sha256=tuple(hashes) if isinstance(hashes, list) else (_typed_value(values, "sha256", str),),
        start=_number_list([values.get("start", 0)], "start")[0],
        shard=_number_list([values.get("shard", 0)], "shard")[0],
        unreadable=tuple(_number_list(values.get("unreadable", []), "unreadable")),
        facts=values,
    )
    if manifest.file not in (ARRAY, ARRAYS):
        raise Damaged(f"{MANIFEST} names an unknown file")
    rows = manifest.shape[0] if manifest.shape else 0
    expected = -(-rows // manifest.shard) if manifest.shard else 1
    if len(manifest.sha256) != expected:
        raise Damaged(f"{MANIFEST} lacks checksums")
    if make_key({**manifest.content, "kind": manifest.kind}) != folder.name:
        raise Damaged(f"{MANIFEST} describes something else")
    return manifest


def find_damage(folder: Path) -> str:
    """What is wrong with a stored entry, every byte read; an empty string where nothing is."""
    try:
        manifest = read_manifest(folder)
        path = folder / manifest.file
        check_file(path)
        if path.stat().st_size < manifest.start:
            return f"{manifest.file} was cut off"
        if manifest.shard == 0:
            return "" if hash_file(path) == manifest.sha256[0] else f"{manifest.file} does not have its checksum"
        checksums = hash_shards(path, manifest.start, rows=manifest.shape[0], shard=manifest.shard)
        bad = [
            number for number, pair in enumerate(zip(checksums, manifest.sha256, strict=False)) if len(set(pair)) > 1
        ]
        if bad or len(checksums) != len(manifest.sha256):
            return f"shard {bad[0] if bad else len(checksums)} of {manifest.file} does not have its checksum"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except Damaged as error:
        return str(error)
    return ""


def hash_shards(path: Path, start: int, *, rows: int, shard: int, only: Sequence[int] | None = None) -> list[str]:
    """The SHA-256 of each run of `shard` rows of a file whose rows begin at byte `start`; of all or `only` some."""
    # Bytes a row: what is over or missing changes the last hash.
    size = max(0, path.stat().st_size - start) // max(1, rows)
    numbers = range(-(-rows // shard)) if only is None else only

    def of(number: int) -> str:
        begin, last = start + number * shard * size, (number + 1) * shard >= rows
        return _hash_range(path, begin, None if last else shard * size)

    with ThreadPoolExecutor(HASHERS) as pool:
        return list(pool.map(of, numbers))


def _hash_range(path: Path, start: int, length: int | None) -> str:
    """The SHA-256 of part of a file, to its end where `length` is None."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        while block := file.read(BLOCK if length is None else min(BLOCK, length)):
            digest.update(block)
            length = None if length is None else length - len(block)
    return digest.hexdigest()


def _typed_value(values: Mapping[str, Any], key: str, kind: type) -> Any:
    if not isinstance(values.get(key), kind):
        raise Damaged(f"{MANIFEST} lacks {key!r}")
    return values[key]


def _number_list(values: Any, key: str) -> list[int]:
    if not isinstance(values, list) or not all(type(value) is int and value >= 0 for value in values):
        raise Damaged(f"{key!r} in {MANIFEST} holds no counts")
    return values
