import csv
import doctest
import io
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from cd_exp.io import text as names
from cd_exp.io.text import (
    as_terminal_text,
    cut_text,
    escape_for_terminal,
    format_csv,
    join_names,
    make_file_name,
    split_names,
)

ANY = st.text(st.characters(codec="utf-8"))  # with NUL, carriage returns, escapes, separators, every script
TRICKY = ANY | st.text("; \\\r\n\"',=[]/e")


def test_the_examples_in_the_docstrings():
    assert doctest.testmod(names).failed == 0


@given(st.lists(TRICKY))
def test_names_in_one_cell_come_apart_into_the_same_names(some):
    assert split_names(join_names(some)) == tuple(some)


def test_ordinary_names_are_joined_as_they_stand():
    assert join_names(["tabby, tabby cat", "egyptian cat"]) == "tabby, tabby cat; egyptian cat"
    assert join_names([]) == ""


@given(st.lists(st.lists(TRICKY, min_size=1), min_size=1))
def test_every_cell_comes_back_from_a_csv_file(rows):
    assert list(csv.reader(io.StringIO(format_csv(rows), newline=""))) == rows


@given(st.lists(st.lists(st.text("abc ,\"'é\n"), min_size=2), min_size=1))
def test_ordinary_cells_are_written_as_the_csv_module_writes_them(rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    assert format_csv(rows) == text.getvalue()


def test_numbers_and_nothing_in_a_csv_file():
    assert format_csv([["a", 1, 0.5, None]]) == "a,1,0.5,\n"
    assert format_csv([[""]]) == '""\n'


@given(st.text())
def test_nothing_steers_the_terminal(name):
    shown = escape_for_terminal(name + "\ud800")
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert "\u202e" not in shown
    shown.encode()


def test_readable_names_are_shown_as_they_stand():
    for name in ("château", "猫", "👩\u200d🔬", "می\u200cخواهم", "[/foo]", "a\u00a0b"):
        assert escape_for_terminal(name) == name


@pytest.mark.parametrize("name", ["[/foo]", "[red]", "[link=x]y[/link]", ":cat:", "\x1b[31mred"])
def test_brackets_are_no_markup(name):
    console = Console(file=io.StringIO(), width=80)
    table = Table()
    table.add_column(as_terminal_text(name))
    table.add_row(as_terminal_text(name, "bold"))
    console.print(table)
    assert console.file.getvalue().count(escape_for_terminal(name)) == 2


@given(st.lists(st.text(), unique=True))
def test_different_names_give_different_files_that_any_system_takes(some):
    files = [make_file_name(name) for name in some]
    assert len(set(files)) == len(some)
    for file in files:
        assert 0 < len(file.encode()) <= 210
        assert not re.search(r'[/\\<>:"|?*\x00-\x1f]', file)
        assert file not in (".", "..")


@pytest.mark.parametrize("name", ["CON", "nul.txt", "..", ".", "", ".hidden", "a/b", "x" * 300, "a ", "a."])
def test_reserved_names_and_long_ones_get_a_digest(name):
    assert make_file_name(name) != name
    assert re.search(r"-[0-9a-f]{8}$", make_file_name(name))


def test_a_name_that_looks_like_anothers_file_is_not_taken_for_it():
    assert make_file_name(make_file_name("a:b")) != make_file_name("a:b")


def test_cutting():
    assert cut_text("abc", 3) == "abc"
    assert cut_text("abcd", 3) == "ab…"
    assert cut_text("a\x1b", 9) == "a\\x1b"
