"""Nested values under one name each."""

from collections.abc import Mapping, Sequence
from typing import Any

SEPARATOR = "/"


def flat(values: Mapping[str, Any], *, separator: str = SEPARATOR, drop: Sequence[str] = ()) -> dict[str, Any]:
    """Nested mappings as one, keys joined by `separator`; an interval becomes `KEY_low` and `KEY_high`.

    >>> flat({"layers": {"fc": {"top1": 40.0, "ci95": [30.0, 50.0]}}}, drop=["layers"])
    {'fc/top1': 40.0, 'fc/ci95_low': 30.0, 'fc/ci95_high': 50.0}

    Args:
        values: to any depth.
        separator: between the keys.
        drop: outermost keys that are left out of the names.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            inner = flat(value, separator=separator)
            found |= inner if key in drop else {f"{key}{separator}{name}": item for name, item in inner.items()}
        elif str(key).endswith("ci95"):
            found |= {f"{key}_low": value[0], f"{key}_high": value[1]}
        else:
            found[str(key)] = value
    return found
