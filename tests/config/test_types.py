"""What a setting takes: kinds, their words, and the refusal of everything else."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import pytest
from annotated_types import Ge, Le, Lt, MinLen
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from cd_exp.config.types import (
    Count,
    OneOf,
    Pattern,
    Positive,
    Share,
    Text,
    Texts,
    Whole,
    describe_type,
    matches_type,
    refuse_value,
)

MODE = Annotated[str, OneOf("offline", "online")]
DEVICE = Annotated[str, Pattern(r"cpu|cuda(:\d+)?", "cpu or cuda:N")]


@pytest.mark.parametrize(
    ("kind", "good", "bad", "words"),
    [
        (Whole, [0, 7], [-1, 1.0, "1", True, None, [1]], "a whole number from 0"),
        (Count | None, [1, None], [0, "x"], "a whole number from 1, or null"),
        (
            Annotated[Annotated[int, Ge(0), Le(9)] | None, "doc"],
            [0, 9, None],
            [10, -1],
            "a whole number from 0 to 9, or null",
        ),
        (Share, [0, 1, 0.5], [-0.1, 1.1, math.nan, math.inf, True, "0.5"], "a number from 0 to 1"),
        (Annotated[float, Lt(1)], [0.5, -3], [1, 1.0], "a number below 1"),
        (Positive, [1e-9, 3], [0, -1, math.nan, math.inf], "a number above 0"),
        (float, [0, -1.5], [math.nan, -math.inf, "1"], "a number"),
        (bool, [True, False], [0, 1, "true", None], "true or false"),
        (Text, ["x", " x "], ["", "  ", 3, None], "text"),
        (Texts, [["a"], ("a", "b")], [[], "abc", ["a", 1], [""], None], "a list of text with at least one entry"),
        (Sequence[float] | None, [[0, 1.5], None, []], ["ab", [math.nan]], "a list of a number, or null"),
        (Mapping[str, int], [{}, {"a": 1}], [{"a": "b"}, {1: 1}, [1]], "a mapping {key: value}"),
        (Annotated[Mapping[str, str], MinLen(1)], [{"a": "b"}], [{}], "a mapping {key: value}"),
        (MODE, ["offline"], ["off", "", None, 3], "one of offline, online"),
        (Whole | Annotated[str, OneOf("all")], [3, "all"], [-1, "al"], "a whole number from 0, or one of all"),
        (DEVICE, ["cpu", "cuda", "cuda:3"], ["gpu", "cuda:x", "cpu "], "cpu or cuda:N"),
        (Any, [None, 3, "x", object()], [], "anything"),
    ],
)
def test_a_kind_takes_what_it_says(kind, good, bad, words):
    assert all(matches_type(value, kind) for value in good)
    assert not any(matches_type(value, kind) for value in bad)
    assert describe_type(kind) == words
    for value in good:
        assert refuse_value("x.y", value, kind) is None
    for value in bad:
        assert str(refuse_value("x.y", value, kind)).startswith("x.y")


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ("fc", Texts, "x=fc is text, expected a list of text with at least one entry: write x=[fc]"),
        (0, Count, "x=0 is out of range, expected a whole number from 1"),
        (2.5, Count, "x=2.5 is of type float, expected a whole number from 1"),
        (True, Count, "x=True is of type bool, expected a whole number from 1"),
        (None, Count, "x=null is empty, expected a whole number from 1"),
        ([], Texts, "x=[] is empty, expected a list of text with at least one entry"),
        ("", Text, "x='' is empty, expected text"),
        ("onlin", MODE, "x 'onlin' is not known; did you mean 'online'?"),
        (math.nan, Positive, "x=nan is out of range, expected a number above 0"),
    ],
)
def test_a_refusal_says_what_came_what_is_taken_and_the_remedy(value, kind, message):
    assert str(refuse_value("x", value, kind)) == message


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_any_value_is_taken_or_refused_in_words(value):
    for kind in (Whole, Count | None, Share, Texts, MODE, Mapping[str, Any], bool):
        wrong = refuse_value("x", value, kind)
        assert (wrong is None) == matches_type(value, kind)
        assert (
            wrong is None
            or describe_type(kind) in str(wrong)
            or "did you mean" in str(wrong)
            or "choose from" in str(wrong)
        )


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (list[str], "cat", "x=cat is text, expected a list of text: write x=[cat]"),
        (list[str], "null", "x=null is text, expected a list of text: write x=['null']"),
        (list[str], "1e-3", "x=1e-3 is text, expected a list of text: write x=['1e-3']"),
        (list[str], "sea lion, fox", "x=sea lion, fox is text, expected a list of text: write x=['sea lion, fox']"),
        (list[str], ["cat", None], "x=['cat', None] holds null, expected a list of text"),
        (list[str] | None, [1], "x=[1] holds 1, expected a list of text, or null"),
        (Mapping[str, str], {"a": 1}, "x={'a': 1} holds 1 under 'a' (text), expected a mapping {key: value}"),
    ],
)
def test_a_list_or_mapping_is_refused_by_the_entry_that_is_wrong(kind, value, message):
    assert str(refuse_value("x", value, kind)) == message


@pytest.mark.parametrize(
    "word", ["cat", "null", "True", "1e-3", "nan", "sea lion, fox", "it's", "caf\u00e9", "[a]", "-x"]
)
def test_the_list_that_is_told_is_read_as_that_text(word):
    remedy = str(refuse_value("x", word, list[str])).rpartition("write ")[2]
    assert OverridesParser.create().parse_override(remedy).value() == [word]
