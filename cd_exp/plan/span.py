"""A quantity that is only known to lie between two numbers."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """From `low` to `high`, in seconds here.

    >>> Span(1, 2) + Span(3, 5)
    Span(low=4, high=7)
    """

    low: int | float = 0
    high: int | float = 0

    def __add__(self, other: "Span") -> "Span":
        return Span(self.low + other.low, self.high + other.high)

    def times(self, factor: int | float) -> "Span":
        """Both ends multiplied."""
        return Span(self.low * factor, self.high * factor)


def total(spans: Iterable[Span]) -> Span:
    """The sum of all."""
    return sum(spans, Span())
