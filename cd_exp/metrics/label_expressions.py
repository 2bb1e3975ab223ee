"""What a label predicts: a concept's values, a formula of concepts, or a weighted sum of them.

red                          the concept
red AND NOT circle OR ring   a formula, read from left to right; NOT may also come first
0.61 red + 0.30 circle       a weighted sum, less where a weight is negative
"""

import re
from collections.abc import Callable

import torch
from torch import Tensor

Values = Callable[[str], Tensor | None]
"""A concept's values in [0, 1], one an image; None where nothing is known of it."""

_OPERATORS = re.compile(r" (AND NOT|OR NOT|AND|OR) ")
_TERM = re.compile(r"(-?\d+\.\d{2,}) (.+)")  # two decimals at least: "3 dogs" is a concept
_PLUS = re.compile(r" \+ (?=-?\d+\.\d{2,} )")


def predict_values(label: str, values: Values) -> Tensor | None:
    """The values that a label predicts; None where nothing is known of a concept in it.

    AND is the smaller value, OR the larger, NOT one less the value, which are the logical ones for 0 and 1. In a
    weighted sum, concepts that nothing is known of are left out as long as one is left.

    Args:
        label: as in the description of this module; a concept that is called like a formula comes first.
        values: of a concept.

    >>> values = {"red": torch.tensor([1.0, 1.0, 0.0]), "circle": torch.tensor([1.0, 0.0, 0.0])}
    >>> predict_values("red AND NOT circle", values.get).tolist()
    [0.0, 1.0, 0.0]
    >>> predict_values("0.50 red + 0.25 circle", values.get).tolist()
    [0.75, 0.5, 0.0]
    """
    if not label:
        return None
    column = values(label)
    if column is not None:
        return column
    terms = [_TERM.fullmatch(part) for part in _PLUS.split(label)]
    if all(terms):
        return _parse_sum([(float(term[1]), term[2]) for term in terms if term], values)
    return _parse_formula(label, values)


def list_concepts(label: str) -> tuple[str, ...]:
    """The concepts in a label, taken for a formula or a weighted sum where it is written as one.

    >>> list_concepts("NOT red OR circle"), list_concepts("0.50 red + -0.25 circle"), list_concepts("red")
    (('red', 'circle'), ('red', 'circle'), ('red',))
    """
    terms = [_TERM.fullmatch(part) for part in _PLUS.split(label)]
    if all(terms):
        return tuple(term[2] for term in terms if term)
    return tuple(part.removeprefix("NOT ") for part in _OPERATORS.split(label)[::2])


def _parse_sum(terms: list[tuple[float, str]], values: Values) -> Tensor | None:
    weighted = [(weight, value) for weight, name in terms if (value := values(name)) is not None]
    return (
        sum((weight * value for weight, value in weighted[1:]), weighted[0][0] * weighted[0][1]) if weighted else None
    )


def _parse_formula(label: str, values: Values) -> Tensor | None:
    first, *rest = _OPERATORS.split(label)
    combined = _negate(first, values)
    for operator, name in zip(rest[::2], rest[1::2], strict=True):
        other = values(name)
        if combined is None or other is None:
            return None
        other = 1 - other if operator.endswith("NOT") else other
        combined = torch.minimum(combined, other) if operator.startswith("AND") else torch.maximum(combined, other)
    return combined


def _negate(name: str, values: Values) -> Tensor | None:
    if not name.startswith("NOT "):
        return values(name)
    value = values(name.removeprefix("NOT "))
    return None if value is None else 1 - value
