import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd_exp.explorer.payload import NameTable, decode_array, encode_array, format_script


@given(st.lists(st.integers(-(2**31), 2**31 - 1)))
def test_integers_come_back(values):
    assert decode_array(encode_array(np.array(values, dtype=np.int64))).tolist() == values


@pytest.mark.parametrize(
    ("values", "kind"),
    [([0, 255], "u1"), ([-1, 127], "i1"), ([256], "u2"), ([-1, 256], "i2"), ([70000], "i4"), ([], "u1")],
)
def test_integers_take_no_more_room_than_they_need(values, kind):
    assert encode_array(np.array(values, dtype=np.int64))["type"] == kind


def test_floats_come_back_with_their_shape_and_what_is_not_known():
    values = np.array([[1.5, np.nan], [-2.25, np.inf]], dtype=np.float32)
    np.testing.assert_array_equal(decode_array(encode_array(values)), values)


def test_names_are_numbered_once_and_rows_filled_up():
    names = NameTable()
    assert names.rows([("a", "b"), ("b",), ()], 3).tolist() == [[0, 1, -1], [1, -1, -1], [-1, -1, -1]]
    assert names.rows([("a", "c", "d")], 2).tolist() == [[0, 2]]
    assert names.texts == ["a", "b", "c"]


@given(st.text() | st.just("</script><!--<script>\u2028"))
def test_no_text_leaves_its_script_element(text):
    written = format_script({"name": text})
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written) == {"name": text}


def test_rows_of_texts_are_numbered_by_their_first_appearance_cut_and_filled():
    names = NameTable()
    assert names.rows([("a", ""), (), ("b", "a", "c")], 2).tolist() == [[0, -1], [-1, -1], [1, 0]]
    assert names.rows(iter([("c",)]), 1).tolist() == [[2]]
    assert names.rows([], 3).shape == (0, 3)
    assert names.texts == ["a", "b", "c"]
