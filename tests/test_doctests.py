"""The examples in docstrings run and say what they give."""

import doctest
import inspect
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
    for name in ("similarity.cos", "similarity.soft_wpmi", "labels", "hooks.pooling"):
        assert f"cd_exp.{name}" in MODULES


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    import_module(name)
    outcome = doctest.testmod(sys.modules[name])  # not an attribute: some functions bear the name of their module
    assert outcome.attempted
    assert not outcome.failed


def _public():
    """The functions that a user may call: what the packages export, and what the two files define."""
    for package in ("similarity", "metrics"):
        module = import_module(f"cd_exp.{package}")
        yield from (getattr(module, name) for name in module.__all__)
    for name in ("labels", "hooks.pooling"):
        module = import_module(f"cd_exp.{name}")
        yield from (thing for key, thing in vars(module).items() if not key.startswith("_") and _of(thing, module))


def _of(thing, module):
    return getattr(thing, "__module__", None) == module.__name__


def test_every_function_that_a_user_may_call_has_an_example():
    functions = [thing for thing in _public() if inspect.isfunction(thing)]
    assert len(functions) > 25
    assert [function.__qualname__ for function in functions if ">>> " not in (function.__doc__ or "")] == []
