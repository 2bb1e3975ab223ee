"""What a layer is called: a module's path, and where it is not plain, which call, which output and which pooling.

`path`, `path@call` (calls are counted from 1), `path/element` (an index or key of what the module gives), `path:pool`,
and together, as in `blocks.3@2/1:max`.
"""

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from cd_exp.errors import InputError, unknown_name_error
from cd_exp.hooks.pooling import POOLS, Pool

_SYNTAX = re.compile(r"(?P<path>[^@/:]+)(@(?P<call>[^/:]*))?(/(?P<element>[^:]*))?(:(?P<pool>.*))?", re.DOTALL)


@dataclass(frozen=True)
class LayerRequest:
    """One layer that was asked for; `call` and `element` are None where they were left open."""

    name: str
    module: str
    pool: Pool = "auto"
    call: int | None = None
    element: str | None = None


def resolve_patterns(network: nn.Module, patterns: Sequence[str], *, name: str) -> list[LayerRequest]:
    """The layers that the patterns mean, in the order of the network, each reported once.

    A module registered under two names is reported under the first of them that a pattern matches.

    Args:
        network: the target model.
        patterns: layers; `*` matches within one level of the path (`layer*`, `blocks.*.mlp.act`).
        name: of the network, for errors.

    Raises:
        InputError: a pattern that matches no module (the nearest module is named), or that is not written as a layer.
    """
    modules = {path: module for path, module in network.named_modules(remove_duplicate=False) if path}
    order = {path: position for position, path in enumerate(modules)}
    requests: dict[tuple[int, str], LayerRequest] = {}
    for pattern in patterns:
        asked = _parse_pattern(pattern)
        matching = [path for path in modules if _match_modules(path, asked.module)]
        if not matching:
            raise unknown_name_error("layer", asked.module, modules, where=f"in {name}")
        suffix = pattern[len(asked.module) :]
        for path in matching:
            wanted = LayerRequest(path + suffix, path, asked.pool, asked.call, asked.element)
            key = (id(modules[path]), suffix)
            if key not in requests or order[path] < order[requests[key].module]:
                requests[key] = wanted
    return sorted(requests.values(), key=lambda wanted: (order[wanted.module], wanted.name))


def get_module(layer: str) -> str:
    """The module's path in the name of a layer."""
    return re.split("[@/:]", layer, maxsplit=1)[0]


def _parse_pattern(pattern: str) -> LayerRequest:
    parts = _SYNTAX.fullmatch(pattern)
    if parts is None:
        raise InputError(f"layer {pattern!r}: write PATH, PATH@CALL, PATH/ELEMENT or PATH:POOL, as in blocks.3@2/1:max")
    call, element, pool = parts["call"], parts["element"], parts["pool"]
    if call is not None and not (call.isdecimal() and int(call) > 0):
        raise InputError(f"layer {pattern!r}: {call!r} is no call; calls are counted from 1, as in {parts['path']}@1")
    if element == "":
        raise InputError(f"layer {pattern!r} ends in '/'; name an element, as in {parts['path']}/0")
    if pool is not None and pool not in POOLS:
        raise unknown_name_error("pooling", pool, POOLS)
    return LayerRequest(pattern, parts["path"], pool or "auto", int(call) if call else None, element)


def _match_modules(module: str, pattern: str) -> bool:
    parts, wanted = module.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))
