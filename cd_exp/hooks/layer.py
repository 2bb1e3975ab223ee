"""One layer of a network: what it is called, and how a run reads it.

A name is a module's path, and where it is not plain, which call, which output and which pooling: `path`, `path@call`
(calls are counted from 1), `path/element` (an index or key of what the module gives), `path:pool`, and together, as in
`blocks.3@2/1:max`.
"""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from cd_exp.errors import InputError, unknown_name_error
from cd_exp.hooks.pooling import POOLS, Pool, Pooling


@runtime_checkable
class Encoding(Protocol):
    """What makes other units of a layer's output: latents, projections."""

    @property
    def key(self) -> Mapping[str, Any]:
        """All that changes what it makes, as plain JSON values."""

    @property
    def class_token(self) -> bool:
        """Whether it reads the class token instead of the positions of the image."""

    def latents(self, positions: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch latents"]:
        """The units of each position."""

    def __call__(self, positions: Float[Tensor, "images positions width"]) -> Float[Tensor, "images latents"]:
        """One number per unit and image."""


@dataclass(frozen=True)
class Layer:
    """One layer as a run reports it.

    Attributes:
        name: as it was asked for: the module's path, with the call, the element and the pooling where they were named.
        module: the module's path.
        pooling: how its output becomes one number per unit and image.
        units: how many numbers an image has.
        call: which call of the module in one forward pass, from 1.
        element: which tensor of a tuple or dictionary, as `1` or `logits`; empty where the module gives one tensor.
        width: of the output where the units are made from it by an encoder; None where they are its own.
        encoding: that encoder.
        grid: rows and columns of the positions, where tokens are known to be the patches of the image row by row.
        behaviour: for a network of the user's own code, what it gave for a few images (`cd_exp.features.layers`).
    """

    name: str
    module: str
    pooling: Pooling
    units: int
    call: int = 1
    element: str = ""
    grid: tuple[int, int] | None = None
    width: int | None = None
    encoding: Encoding | None = None
    behaviour: str = ""

    @property
    def source(self) -> str:
        """What is read, whatever it was called: the module's path with the call and the element that are not plain."""
        call = f"@{self.call}" if self.call > 1 else ""
        return self.module + call + (f"/{self.element}" if self.element else "")

    @property
    def key(self) -> dict[str, Any]:
        """All of the layer that changes its numbers, as plain JSON values."""
        key: dict[str, Any] = {"layer": self.source, "pooling": asdict(self.pooling)}
        if self.encoding is not None:
            key["encoding"] = self.encoding.key
        return {**key, "behaviour": self.behaviour} if self.behaviour else key

    def reduce(self, output: Tensor) -> Float[Tensor, "images neurons"]:
        """One number per unit and image."""
        if self.encoding is None:
            return self.pooling(output)
        return self.encoding(self.pooling.positions(output, class_token=self.encoding.class_token))

    def maps(self, output: Tensor) -> Float[Tensor, "images neurons height width"]:
        """The units at each position, for Network Dissection."""
        pooled = self.pooling.maps(output, grid=self.grid, layer=self.name)
        return pooled if self.encoding is None else self.encoding.latents(pooled.movedim(1, -1)).movedim(-1, 1)

    def plain(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @staticmethod
    def of(plain: Mapping[str, Any]) -> "Layer":
        """From plain JSON values."""
        grid = plain["grid"]
        return Layer(**{**plain, "pooling": Pooling(**plain["pooling"]), "grid": tuple(grid) if grid else None})


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
    """The module's path in the name of a layer.

    >>> get_module("blocks.3@2/1:max")
    'blocks.3'
    """
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
