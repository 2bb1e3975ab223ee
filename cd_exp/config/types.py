"""What values a setting takes: types with ranges, how one is described in words, and whether a value is one.

A kind is an ordinary annotation, `Annotated[int, Ge(0)]` or `list[str] | None`, with the markers of `annotated_types`
and the two below. What is not described so (a constructor's own records) is the constructor's own business.
"""

import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen

from cd_exp.errors import InputError, unknown_name_error


@dataclass(frozen=True)
class Doc:
    """What a setting means, in a sentence."""

    text: str


@dataclass(frozen=True, init=False)
class OneOf:
    """The only words that a setting takes."""

    words: tuple[str, ...]

    def __init__(self, *words: str) -> None:
        object.__setattr__(self, "words", words)


@dataclass(frozen=True)
class Pattern:
    """A form that the text must have, and the form in words."""

    form: str
    words: str


Whole = Annotated[int, Ge(0)]
Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
Text = Annotated[str, MinLen(1)]
Texts = Annotated[list[Text], MinLen(1)]

PLAIN_WORD = r"(?a)(?!(?i:null|true|false|nan|inf)$)[A-Za-z_][\w./-]*(?<!\s)"
"""What stays a text in a list on the command line without quotes."""

PLAIN = {
    Any: "anything",
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    type(None): "null",
}


def split_annotation(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """The bare type of a kind, and its markers."""
    if get_origin(kind) is Annotated:
        bare, *markers = get_args(kind)
        inner, more = split_annotation(bare)
        return inner, (*more, *markers)
    return kind, ()


def matches_type(value: Any, kind: Any) -> bool:
    """Whether a plain value (of YAML: numbers, text, lists, mappings, null) is of a kind. Numbers must be finite."""
    bare, markers = split_annotation(kind)
    if get_origin(bare) in (Union, types.UnionType):
        return any(matches_type(value, part) for part in get_args(bare)) and (
            value is None or _is_within_range(value, markers)
        )
    return _is_instance(value, bare) and _is_within_range(value, markers)


def _is_instance(value: Any, bare: Any) -> bool:
    origin = get_origin(bare) or bare
    if bare is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if bare is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if bare in (str, bool, type(None)):
        return isinstance(value, bare)
    if origin in (list, tuple, Sequence):
        inner = [kind for kind in get_args(bare) if kind is not ...]
        listed = isinstance(value, (list, tuple))
        return listed and (not inner or all(any(matches_type(item, kind) for kind in inner) for item in value))
    if origin in (dict, Mapping):
        inner = list(get_args(bare)) or [Any, Any]
        return isinstance(value, Mapping) and all(
            matches_type(k, inner[0]) and matches_type(v, inner[1]) for k, v in value.items()
        )
    return True


def _is_within_range(value: Any, markers: Sequence[Any]) -> bool:
    for marker in markers:
        match marker:
            case Ge(ge=low) if value < low:
                return False
            case Gt(gt=low) if value <= low:
                return False
            case Le(le=high) if value > high:
                return False
            case Lt(lt=high) if value >= high:
                return False
            case MinLen(min_length=least) if len(value) < least or (isinstance(value, str) and not value.strip()):
                return False
            case OneOf(words=words) if isinstance(value, str) and value not in words:
                return False
            case Pattern(form=form) if isinstance(value, str) and not re.fullmatch(form, value):
                return False
    return True


def describe_type(kind: Any) -> str:
    """A kind in words, as in `a whole number from 0, or null`."""
    bare, markers = split_annotation(kind)
    options = get_args(bare) if get_origin(bare) in (Union, types.UnionType) else (bare,)
    text = ", or ".join(_describe_one(option, markers) for option in options)
    return text.removesuffix(", or null") + (", or null" if type(None) in options and len(options) > 1 else "")


def _describe_one(option: Any, above: Sequence[Any]) -> str:
    bare, annotations = split_annotation(option)
    markers = [*annotations, *above]
    for marker in markers:
        if isinstance(marker, OneOf) and bare is str:
            return f"one of {', '.join(marker.words)}"
        if isinstance(marker, Pattern) and bare is str:
            return marker.words
    origin = get_origin(bare) or bare
    if origin in (list, tuple, Sequence):
        inner = [kind for kind in get_args(bare) if kind is not ...]
        of = f" of {describe_type(inner[0])}" if inner and inner[0] is not Any else ""
        return f"a list{of}" + (" with at least one entry" if any(isinstance(m, MinLen) for m in markers) else "")
    if origin in (dict, Mapping):
        return "a mapping {key: value}"
    name = PLAIN.get(bare, getattr(bare, "__name__", str(bare)))
    return name + "".join(_describe_bound(marker) for marker in markers)


def _describe_bound(marker: Any) -> str:
    match marker:
        case Ge(ge=low):
            return f" from {low}"
        case Gt(gt=low):
            return f" above {low}"
        case Le(le=high):
            return f" to {high}"
        case Lt(lt=high):
            return f" below {high}"
    return ""


def refuse_value(where: str, value: Any, kind: Any) -> InputError | None:
    """The error for a value that is not of a kind, with the remedy; None where it is.

    Args:
        where: the setting, as in `similarity.top_k`.
        value: what came.
        kind: what it takes.
    """
    if matches_type(value, kind):
        return None
    bare, markers = split_annotation(kind)
    options = get_args(bare) if get_origin(bare) in (Union, types.UnionType) else (bare,)
    lists = any(
        (get_origin(split_annotation(option)[0]) or split_annotation(option)[0]) in (list, tuple, Sequence)
        for option in options
    )
    if lists and isinstance(value, str) and value.strip():
        quoted = value if re.fullmatch(PLAIN_WORD, value) else "'" + value.replace("'", "\\'") + "'"
        return InputError(f"{where}={value} is text, expected {describe_type(kind)}: write {where}=[{quoted}]")
    for option in options:
        words = next((m.words for m in (*split_annotation(option)[1], *markers) if isinstance(m, OneOf)), None)
        if words and isinstance(value, str):
            return unknown_name_error(where, value, words, where="known")
    is_plain = isinstance(value, (int, float, str, bool, list, dict)) or value is None
    came = f"of type {type(value).__name__}" if is_plain and not _has_same_type(value, options) else "out of range"
    shown = "null" if value is None else repr(value) if isinstance(value, str) else str(value)
    if value is None or (isinstance(value, (str, list)) and not value):
        return InputError(f"{where}={shown} is empty, expected {describe_type(kind)}")
    entry = next((held for option in options if (held := _describe_wrong_entry(value, option))), "")
    if entry:
        return InputError(f"{where}={shown} holds {entry}, expected {describe_type(kind)}")
    return InputError(f"{where}={shown} is {came}, expected {describe_type(kind)}")


def _describe_wrong_entry(value: Any, option: Any) -> str:
    """The first entry of a list or mapping that is not of its kind, in words; empty where it is no such thing."""
    bare, _ = split_annotation(option)
    origin, inner = get_origin(bare), [kind for kind in get_args(bare) if kind is not ...]
    if origin in (list, Sequence) and isinstance(value, list) and inner:
        return next(("null" if item is None else repr(item) for item in value if not matches_type(item, inner[0])), "")
    if origin in (dict, Mapping) and isinstance(value, Mapping) and inner:
        kind = describe_type(inner[1])
        wrong = ((key, item) for key, item in value.items() if not matches_type(item, inner[1]))
        return next((f"{item!r} under {key!r} ({kind})" for key, item in wrong), "")
    return ""


def _has_same_type(value: Any, options: Sequence[Any]) -> bool:
    for option in options:
        bare, _ = split_annotation(option)
        wanted = typing.get_origin(bare) or bare
        if wanted is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return True
        if wanted is int and isinstance(value, int) and not isinstance(value, bool):
            return True
        if wanted in (str, bool, list, dict) and isinstance(value, wanted):
            return True
        if wanted in (Sequence, Mapping) and isinstance(value, wanted) and not isinstance(value, str):
            return True
    return False
