"""Arrays and names in the form that the pages read: typed arrays in base64, and each distinct text once."""

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

INTEGERS = ("u1", "i1", "u2", "i2", "i4")
"""From narrow to wide; the first that holds all values is taken."""


def packed(values: Any) -> dict[str, Any]:
    """An array as `{"type", "shape", "data"}`: 32-bit floats, or the narrowest integers that hold the values.

    >>> packed([3, -1])
    {'type': 'i1', 'shape': [2], 'data': 'A/8='}
    """
    array = np.asarray(values)
    kind = "f4" if array.dtype.kind == "f" else _narrowest(array)
    content = np.ascontiguousarray(array, dtype=f"<{kind}").tobytes()
    return {"type": kind, "shape": list(array.shape), "data": base64.b64encode(content).decode("ascii")}


def unpacked(part: Mapping[str, Any]) -> np.ndarray:
    """The array that `packed` wrote.

    >>> unpacked(packed([3, -1])).tolist()
    [3, -1]
    """
    content = np.frombuffer(base64.b64decode(part["data"]), dtype=f"<{part['type']}")
    return content.reshape(part["shape"])


def _narrowest(array: np.ndarray) -> str:
    if not array.size:
        return "u1"
    low, high = int(array.min()), int(array.max())
    return next(kind for kind in INTEGERS if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)


class Names:
    """Each distinct text once; a text is written as its number, -1 where there is none."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """The number of a text, new where it has none yet; -1 for the empty text."""
        return self._numbers.setdefault(text, len(self._numbers)) if text else -1

    def rows(self, rows: Iterable[Iterable[str]], width: int) -> np.ndarray:
        """A row of `width` numbers for each row of texts, cut or filled up with -1."""
        found = [[self.number(text) for text, _ in zip(row, range(width), strict=False)] for row in rows]
        filled = [row + [-1] * (width - len(row)) for row in found]
        return np.array(filled, dtype=np.int64).reshape(len(filled), width)

    @property
    def texts(self) -> list[str]:
        """The texts in the order of their numbers."""
        return list(self._numbers)


def as_script(value: Any) -> str:
    """JSON that is safe inside a `<script>` element, whatever the names hold."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
