"""Similarity functions found by the names of their files, so that a new one needs no line elsewhere."""

import sys
from collections.abc import Callable
from importlib import import_module
from inspect import Parameter, signature
from pkgutil import iter_modules
from typing import Any

PACKAGE = __name__.rpartition(".")[0]


def named_as_their_file() -> dict[str, Callable[..., Any]]:
    """The functions of this folder whose form is `(match, neurons, *, settings with defaults)`."""
    found = {}
    for module in [module.name for module in iter_modules(sys.modules[PACKAGE].__path__)]:
        function = getattr(import_module(f"{PACKAGE}.{module}"), module, None)
        if callable(function):
            names, defaults = zip(*((p.name, p.default) for p in signature(function).parameters.values()), strict=True)
            if names[:2] == ("match", "neurons") and Parameter.empty not in defaults[2:]:
                found[module] = function
    return found
