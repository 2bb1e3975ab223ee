"""What a similarity function declares where it is defined: its inputs, its ceiling, and how it is resampled.

A function in a file of its own name is discovered by `find_by_file_name`, so that a new one needs no line elsewhere.
"""

import inspect
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from inspect import Parameter, signature
from pkgutil import iter_modules
from typing import Any, TypeVar

from torch import Tensor

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Inputs:
    """What a function reads of the activations: each unit's strongest images, so many of them, or everything."""

    strongest: int | None
    everything: bool


@dataclass(frozen=True)
class RankSum:
    """Scores that are, but for a number for each concept of the layer, a sum over a unit's strongest images.

    score[k, t] = sum over ranks r of `term(r, S[image of rank r, t])` + a number for t.

    Attributes:
        count: how many ranks.
        scale: S is the softmax over concepts of scale * P; None: S is P itself.
        term: of the rank, from 0, and of S; both broadcast, and the rank need not be whole.
        position: a rising function of the rank in which the term is nearly linear, whatever S; None where the term does
            not depend on the rank.
    """

    count: int
    scale: float | None
    term: Callable[[Tensor, Tensor], Tensor]
    position: Callable[[Tensor], Tensor] | None


@dataclass(frozen=True)
class SimilaritySpec:
    """What a function says of itself; one that says nothing reads everything and scores each unit by itself."""

    strongest: Callable[..., int] | None = None
    whole_layer: bool = False
    terms: Callable[..., RankSum] | None = None
    prepare: Callable[..., tuple[Any, Tensor, Callable[..., Tensor]]] | None = None
    least_units: int = 1
    choose: Callable[..., Any] | None = None


def similarity_function(
    *,
    strongest: Callable[..., int] | None = None,
    whole_layer: bool = False,
    terms: Callable[..., RankSum] | None = None,
    prepare: Callable[..., tuple[Any, Tensor, Callable[..., Tensor]]] | None = None,
    least_units: int = 1,
    choose: Callable[..., Any] | None = None,
) -> Callable[[F], F]:
    """Declare a similarity function.

    Args:
        strongest: `(images, **settings) -> int`, how many of each unit's strongest images it reads; by default all.
        whole_layer: whether the score of a unit depends on the other units, so that no layer can be cut.
        terms: `(**settings) -> RankSum`, for a function that is a sum over the strongest images: makes resampling
            cheap. A parameter `images` gets their number.
        prepare: `(match, neurons, **settings) -> match, neurons, function`, for a function that takes means or a prior
            over all images: these are taken once, and `function(match, neurons)` is what is left to do for a resample
            of the rows of both.
        least_units: in a layer of fewer units its labels should be compared with those of another function, which a run
            says.
        choose: `(match, neurons, **settings) -> choice`, for a setting that is chosen a layer at a time from the layer
            itself: `choice.settings` is what it binds. None where nothing is to be chosen.

    >>> @similarity_function(strongest=lambda images, *, top_k=10: top_k)
    ... def mine(match, neurons, *, top_k=10): ...
    >>> inputs_of(mine, 1000).strongest
    10
    """

    def mark(function: F) -> F:
        vars(function)["declaration"] = SimilaritySpec(strongest, whole_layer, terms, prepare, least_units, choose)
        return function

    return mark


def is_declared(function: Callable[..., Any]) -> bool:
    """Whether the function says anything of itself."""
    return hasattr(_unwrap_partial(function), "declaration")


def spec_of(function: Callable[..., Any]) -> SimilaritySpec:
    """What the function declares, also where settings were bound to it by `functools.partial`."""
    return getattr(_unwrap_partial(function), "declaration", SimilaritySpec())


def inputs_of(function: Callable[..., Any], images: int) -> Inputs:
    """What the function, with the settings bound to it, reads of a layer's activations on `images` images.

    >>> from cd_exp.similarity import cos, wpmi
    >>> inputs_of(partial(wpmi, top_k=28), 1000).strongest, inputs_of(cos, 1000).everything
    (28, True)
    """
    strongest = spec_of(function).strongest
    if strongest is None:
        return Inputs(strongest=None, everything=True)
    return Inputs(strongest=min(images, strongest(images, **bound_settings(function))), everything=False)


def score_ceiling(function: Callable[..., Any], units: int) -> float | None:
    """What no score exceeds under a prior of weight 1 over so many units, log(units); None where there is no limit.

    >>> from cd_exp.similarity import cos, soft_wpmi
    >>> round(score_ceiling(soft_wpmi, 512), 3), score_ceiling(cos, 512)
    (6.238, None)
    """
    settings = bound_settings(function)
    if "prior" not in settings or settings["prior"] is not None or settings.get("prior_weight") != 1:
        return None
    return math.log(units)


def settle(function: Callable[..., Any], match: Any, neurons: Any) -> tuple[Callable[..., Any], Any]:
    """The function with what it chooses for this layer bound, and the choice; None where it chooses nothing.

    >>> import torch
    >>> from cd_exp.similarity import soft_wpmi
    >>> settle(soft_wpmi, torch.eye(3), torch.rand(3, 2))[1] is None
    True
    """
    choose = spec_of(function).choose
    choice = None if choose is None else choose(match, neurons, **bound_settings(function))
    return (function, None) if choice is None else (partial(function, **choice.settings), choice)


def needs_dead(function: Callable[..., Any]) -> bool:
    """Whether the function leaves dead units out of the prior.

    >>> from cd_exp.similarity import soft_wpmi
    >>> needs_dead(soft_wpmi), needs_dead(partial(soft_wpmi, prior_units="alive"))
    (False, True)
    """
    return bound_settings(function).get("prior_units") == "alive"


def bound_settings(function: Callable[..., Any]) -> dict[str, Any]:
    """The keyword settings of a function: its defaults, and over them what `functools.partial` bound."""
    parameters = inspect.signature(function).parameters.values()
    return {item.name: item.default for item in parameters if item.default is not item.empty}


def default_settings(function: Callable[..., Any]) -> dict[str, Any]:
    """The keyword settings of a function that nothing was bound to."""
    return bound_settings(_unwrap_partial(function))


def _unwrap_partial(function: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(function, partial):
        function = function.func
    return function


PACKAGE = __name__.rpartition(".")[0]


def find_by_file_name() -> dict[str, Callable[..., Any]]:
    """The functions of this folder whose form is `(match, neurons, *, settings with defaults)`."""
    functions = {}
    for module in [module.name for module in iter_modules(sys.modules[PACKAGE].__path__)]:
        function = getattr(import_module(f"{PACKAGE}.{module}"), module, None)
        if callable(function):
            names, defaults = zip(*((p.name, p.default) for p in signature(function).parameters.values()), strict=True)
            if names[:2] == ("match", "neurons") and Parameter.empty not in defaults[2:]:
                functions[module] = function
    return functions
