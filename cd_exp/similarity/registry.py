"""What a similarity function declares where it is defined: its inputs, its ceiling, and how it is resampled.

A function in a file of its own name is discovered by `find_by_file_name`, so that a new one needs no line elsewhere.
"""

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
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
    likelihoods: Callable[..., Iterator[tuple[slice, Tensor]]] | None = None


def similarity_function(
    *,
    strongest: Callable[..., int] | None = None,
    whole_layer: bool = False,
    terms: Callable[..., RankSum] | None = None,
    prepare: Callable[..., tuple[Any, Tensor, Callable[..., Tensor]]] | None = None,
    least_units: int = 1,
    choose: Callable[..., Any] | None = None,
    likelihoods: Callable[..., Iterator[tuple[slice, Tensor]]] | None = None,
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
        likelihoods: `(match, lists, **settings) -> (concepts, Float["neurons block"]), ...`, for a function of the form
            likelihood - prior_weight * prior: the likelihood of all units for some concepts after others, so that the
            labels of a large layer take one pass (`score_best`). A block may be overwritten by the next.

    >>> @similarity_function(strongest=lambda images, *, top_k=10: top_k)
    ... def mine(match, neurons, *, top_k=10): ...
    >>> bind(mine).inputs(1000).strongest
    10
    """

    def mark(function: F) -> F:
        vars(function)["declaration"] = SimilaritySpec(
            strongest, whole_layer, terms, prepare, least_units, choose, likelihoods
        )
        return function

    return mark


@dataclass(frozen=True, eq=False)
class BoundSimilarity:
    """A similarity function with its settings, called as the function is: `(match, neurons, **more)`.

    It knows what it reads, its ceiling and its terms. `bind` makes one of any function of that form.

    Attributes:
        function: as it was defined.
        bound: the settings that differ from its defaults, or that have none.

    >>> import torch
    >>> from cd_exp.similarity import cos, soft_wpmi
    >>> few = bind(soft_wpmi, top_k=28)
    >>> few.name, few.settings["top_k"], few.defaults["top_k"], few.inputs(1000).strongest
    ('soft_wpmi', 28, 100, 28)
    >>> few(torch.eye(3), torch.rand(3, 2)).shape, bind(cos).inputs(1000).everything
    (torch.Size([2, 3]), True)
    """

    function: Callable[..., Any]
    bound: Mapping[str, Any]

    def __call__(self, match: Any, neurons: Any, **more: Any) -> Tensor:
        """The scores, neurons x concepts; `more` settings go over those that are bound."""
        scores: Tensor = self.function(match, neurons, **{**self.bound, **more})
        return scores

    @cached_property
    def parameters(self) -> Mapping[str, Parameter]:
        """The parameters of the function."""
        return signature(self.function).parameters

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """The function's own settings: those of its parameters that have a default."""
        return {name: item.default for name, item in self.parameters.items() if item.default is not item.empty}

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings it is called with."""
        return {**self.defaults, **self.bound}

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def is_declared(self) -> bool:
        """Whether the function says anything of itself."""
        return hasattr(self.function, "declaration")

    @property
    def spec(self) -> SimilaritySpec:
        """What the function declares."""
        return getattr(self.function, "declaration", SimilaritySpec())

    @property
    def takes_prior(self) -> bool:
        """Whether the function takes a prior over its units and none is bound."""
        return "prior" in self.settings and self.settings["prior"] is None

    @property
    def needs_dead(self) -> bool:
        """Whether the function leaves dead units out of the prior."""
        return self.settings.get("prior_units") == "alive"

    def inputs(self, images: int) -> Inputs:
        """What the function reads of a layer's activations on `images` images."""
        strongest = self.spec.strongest
        if strongest is None:
            return Inputs(strongest=None, everything=True)
        return Inputs(strongest=min(images, strongest(images, **self.settings)), everything=False)

    def terms(self, images: int | None = None) -> RankSum | None:
        """What the function sums over the strongest of so many images; None where it is no such sum."""
        if self.spec.terms is None:
            return None
        parameters = signature(self.spec.terms).parameters
        takes_all = any(item.kind is item.VAR_KEYWORD for item in parameters.values())
        settings = {name: value for name, value in self.settings.items() if takes_all or name in parameters}
        return self.spec.terms(**settings, **({"images": images} if "images" in parameters else {}))

    def likelihoods(self, match: Any, lists: Any) -> Iterator[tuple[slice, Tensor]] | None:
        """The likelihood of all units, some concepts after others; None where the function does not declare it, or its
        prior is given.
        """
        if self.spec.likelihoods is None or not self.takes_prior:
            return None
        return self.spec.likelihoods(match, lists, **self.settings)

    def ceiling(self, units: int) -> float | None:
        """What no score exceeds under a prior of weight 1 over so many units, log(units); None where there is no limit.

        >>> from cd_exp.similarity import cos, soft_wpmi
        >>> round(bind(soft_wpmi).ceiling(512), 3), bind(cos).ceiling(512)
        (6.238, None)
        """
        return math.log(units) if self.takes_prior and self.settings.get("prior_weight") == 1 else None

    def settle(self, match: Any, neurons: Any) -> "tuple[BoundSimilarity, Any]":
        """The function with what it chooses for this layer bound, and the choice; None where it chooses nothing."""
        choice = None if self.spec.choose is None else self.spec.choose(match, neurons, **self.settings)
        return (self, None) if choice is None else (bind(self, **choice.settings), choice)


def bind(function: Callable[..., Any], **settings: Any) -> BoundSimilarity:
    """A function of the form `(match, neurons, **settings)` with settings bound, besides those bound before.

    Args:
        function: plain, with settings bound by `functools.partial`, or a `BoundSimilarity`.
        **settings: to bind.

    >>> from cd_exp.similarity import soft_wpmi
    >>> bind(partial(soft_wpmi, top_k=28), scale=3).bound
    {'top_k': 28, 'scale': 3}
    """
    if isinstance(function, BoundSimilarity):
        return BoundSimilarity(function.function, {**function.bound, **settings}) if settings else function
    if isinstance(function, partial) and not function.args:
        return bind(function.func, **{**function.keywords, **settings})
    return BoundSimilarity(function, settings)


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
