"""What the package offers for each group: the targets that its own YAML files name, and nothing else.

Only these are ever called. A configuration of the user's own can set their arguments; the user's own code comes in by
`GROUP=custom`, which names a file and a function.
"""

import importlib
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from cd_exp.errors import InputError, unknown
from cd_exp.settings.schema import directory

CUSTOM = {
    "similarity": "similarity=custom similarity.function=FILE.py:name",
    **{
        group: f"{group}=custom {group}.factory=FILE.py:name"
        for group in ("model", "probe", "concepts", "clip", "baseline", "judge", "logger")
    },
}
"""How the user's own code comes in."""


@cache
def offered() -> Mapping[str, frozenset[str]]:
    """The targets of each group."""
    found: dict[str, set[str]] = {}
    for path in sorted(directory().glob("*/*.yaml")):
        targets = re.findall(r"^_target_: *(cd_exp\.[\w.]+) *$", path.read_text(encoding="utf-8"), re.MULTILINE)
        found.setdefault(path.parent.name, set()).update(targets)
    return {group: frozenset(targets) for group, targets in found.items()}


def target(name: str, *, group: str, where: str) -> Callable[..., Any]:
    """The constructor of that name.

    Args:
        name: as in `cd_exp.similarity.cos`.
        group: the group it is to be of.
        where: the setting, for errors.

    Raises:
        InputError: the group has no such constructor; names the way in for the user's own code.
    """
    known = offered().get(group, frozenset())
    if name not in known:
        way = f"; code of your own: {CUSTOM[group]}" if group in CUSTOM else ""
        raise InputError(f"{unknown('constructor', name, known, where=f'offered for {where}')}{way}")
    module, _, function = name.rpartition(".")
    return getattr(importlib.import_module(module), function)
