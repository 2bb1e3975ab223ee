"""CONTRIBUTING answers where things are: every answer is imported."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
NAMES = sorted(set(re.findall(r"`(cd_exp(?:\.\w+)+)`", TEXT)))
PATHS = sorted({path for path in re.findall(r"`((?:cd_exp|conf|tests)/[\w/.]*)`", TEXT) if "NAME" not in path})


@pytest.mark.parametrize("name", NAMES)
def test_what_contributing_names_is_there(name):
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            thing = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        break
    for attribute in parts[length:]:
        thing = getattr(thing, attribute)
    assert thing is not None


@pytest.mark.parametrize("path", PATHS)
def test_the_files_that_contributing_names_are_there(path):
    assert (ROOT / path).exists()


def test_every_question_has_an_answer_in_code():
    rows = [line for line in TEXT.splitlines() if line.startswith("| Where")]
    assert len(rows) >= 10
    assert all("cd_exp" in row.split("|")[2] for row in rows)
