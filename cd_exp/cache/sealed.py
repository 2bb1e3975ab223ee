"""Small JSON files that are read back by a later run: with a checksum, and the version of the code that made them."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cd_exp.version import VERSION


class Damaged(Exception):
    """A stored file is not what was written: edited, cut off, or no JSON at all. The message says what is wrong."""


def seal(values: Mapping[str, Any]) -> str:
    """JSON text of the values with `made_by`, the version of the code, and `checksum`, a hash of everything else."""
    made = {**values, "made_by": VERSION}
    return json.dumps({**made, "checksum": _checksum(made)}, indent=1)


def read_sealed(path: Path) -> dict[str, Any]:
    """The values of a file that `seal` made.

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
