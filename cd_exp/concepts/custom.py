"""A concept set from the user's own code."""

from collections.abc import Mapping, Sequence
from typing import Any

from cd_exp.concepts.prompts import Templates
from cd_exp.concepts.vocabularies import words
from cd_exp.errors import InputError
from cd_exp.plugins import load
from cd_exp.records import Concepts


def custom(
    *, factory: str, options: Mapping[str, Any] | None = None, name: str = "custom", templates: Templates = None
) -> Concepts:
    """The names that a function of the user's own lists.

    Args:
        factory: `FILE.py:function` or `package.module:function`.
        options: its keywords.
        name: how the set is called in tables.
        templates: prompts.

    Raises:
        InputError: there is no such function, or it returns no list of names.
    """
    made = load(factory, setting="concepts.factory")(options or {})
    if isinstance(made, str) or not isinstance(made, Sequence):
        raise InputError(f"concepts.factory={factory} returned {type(made).__name__}, expected a list of names")
    other = next((entry for entry in made if not isinstance(entry, str)), None)
    if other is not None:
        raise InputError(f"concepts.factory={factory} returned a list with {other!r}, expected a list of names")
    if not any(entry.strip() for entry in made):
        raise InputError(f"concepts.factory={factory} returned no name; at least one is needed")
    return words(names=list(made), name=name, templates=templates)
