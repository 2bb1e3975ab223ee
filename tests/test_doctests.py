"""The examples in docstrings run and say what they give."""

import doctest
import sys
from importlib import import_module
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cd_exp"
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text()
)


def test_there_are_examples():
    for name in ("similarity.cos", "similarity.soft_wpmi", "labels", "pooling"):
        assert f"cd_exp.{name}" in MODULES


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    import_module(name)
    found = doctest.testmod(sys.modules[name])  # not an attribute: some functions bear the name of their module
    assert found.attempted
    assert not found.failed
