"""Many names in little memory: the ids of a probe set of a million images."""

import operator
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import SupportsIndex, overload

import numpy as np
from jaxtyping import Int


class _Names(Sequence[str]):
    """Equal to any sequence of the same names, and given as a tuple where a part is asked for."""

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
        place = operator.index(index)  # of any kind of integer, numpy's included
        if not -len(self) <= place < len(self):
            raise IndexError(index)
        return self.name(place % len(self))

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


class Names(_Names):
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


class Numbered(_Names):
    """Names that are a number between two texts, `train/00042`, made when they are asked for."""

    def __init__(self, before: str, count: int, behind: str = "") -> None:
        self._before, self._count, self._behind = before, count, behind

    def name(self, index: int) -> str:
        """The name at an index from 0."""
        return f"{self._before}{index:05d}{self._behind}"

    def __len__(self) -> int:
        return self._count


class Chosen(_Names):
    """Some names of a sequence, in the order of their indices."""

    def __init__(self, names: Sequence[str], rows: Int[np.ndarray, " chosen"]) -> None:
        self._all, self._rows = names, rows

    def name(self, index: int) -> str:
        """The name at an index from 0."""
        return self._all[int(self._rows[index])]

    def __len__(self) -> int:
        return len(self._rows)


class Joined(_Names):
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
