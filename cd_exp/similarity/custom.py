"""A similarity function of the user's own."""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from cd_exp.errors import InputError
from cd_exp.plugins import check_options, door, load_function
from cd_exp.records import Similarity
from cd_exp.similarity.match import Activations, DenseOrFactored, match_shape


def custom(*, function: str, options: Mapping[str, Any] | None = None) -> Similarity:
    """The function itself, with its options bound: `(match, neurons, **options) -> neurons x concepts`.

    `match` has the embeddings, `match.images @ match.texts.T` is the match of every image and concept. A layer too
    large for one piece is scored some units at a time: a unit's scores must not depend on the other units, unless the
    function takes a `prior`, as `cd_exp.similarity.soft_wpmi` does. No call has units of two layers, unless it says by
    `cd_exp.similarity.similarity_function` what it reads. One that takes `names` gets the concepts'.

    Args:
        function: `FILE.py:name` or `package.module:name`.
        options: keywords.

    Raises:
        InputError: there is no such function, it takes no such option, or returns something else.

    >>> match, neurons = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([[1.0], [0.0]])
    >>> custom(function="cd_exp.similarity:cos")(match, neurons).argmax(dim=1).tolist()
    [0]
    """
    user_function, bound = load_function(function, setting="similarity.function"), dict(options or {})
    taken = list(inspect.signature(user_function.function).parameters)
    bound_names = {"names": None} if "names" in taken[2:] and "names" not in bound else {}
    check_options(
        functools.partial(user_function.function, *[None] * len(taken[:2]), **bound_names),
        bound,
        setting=user_function.setting,
    )
    return functools.partial(
        check_function(user_function.function, source=f"similarity.function={function}", bound=bound), **bound
    )


def check_function(function: Callable[..., Any], *, source: str, bound: Collection[str] = ()) -> Similarity:
    """The function, whose scores are looked at whenever it gives some.

    Args:
        function: the user's.
        source: what named it, for errors.
        bound: keywords that it will be called with.

    Raises:
        InputError: it does not take the arguments of a similarity function; when called, that it gives something else.
    """
    taken = list(inspect.signature(function).parameters.values())
    positional = [
        parameter
        for parameter in taken
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    if len(positional) < 2 and not any(parameter.kind is parameter.VAR_POSITIONAL for parameter in taken):
        raise InputError(f"{source} takes {len(taken)} arguments, expected (match, neurons)")
    for parameter in [*positional[2:], *(parameter for parameter in taken if parameter.kind is parameter.KEYWORD_ONLY)]:
        if parameter.default is parameter.empty and parameter.name not in {
            *bound,
            "names",
        }:  # a run gives the words' names
            raise InputError(f"{source} needs {parameter.name}, which no run gives: bind it with functools.partial")

    @functools.wraps(function)
    def score(match: Any, neurons: Any, **settings: Any) -> Tensor:
        before = _changes_inputs(match, neurons)
        with door(f"{source} failed"):
            scores = function(match, neurons, **settings)
        if _changes_inputs(match, neurons) != before:
            raise InputError(f"{source} changes its arguments, which others read too; work on neurons.clone()")
        return _check_scores(scores, (neurons.shape[1], match_shape(match)[1]), source=source)

    return score


def _changes_inputs(match: DenseOrFactored, neurons: Activations) -> list[int]:
    """How often each tensor was changed in place, as torch counts it."""
    tensors = [match] if isinstance(match, Tensor) else [match.images, match.texts]
    tensors += [neurons] if isinstance(neurons, Tensor) else [neurons.values, neurons.indices]
    return [tensor._version for tensor in tensors if not tensor.is_inference()]


def _check_scores(scores: Any, wanted: tuple[int, int], *, source: str) -> Tensor:
    came = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
    if came != wanted:
        raise InputError(f"{source} returned {came}, expected a tensor of neurons x concepts, {wanted}")
    if scores.is_complex() or scores.layout != torch.strided:
        kind = f"{scores.dtype}, {scores.layout}".replace("torch.", "")
        raise InputError(f"{source} returned scores of {kind}, expected a dense tensor of real numbers")
    scores = scores.detach().float()
    broken = (~torch.isfinite(scores.amax(dim=1))).nonzero().flatten()  # NaN wherever one is; -inf rules a concept out
    if len(broken):
        raise InputError(
            f"{source} gives unit {int(broken[0])} a best score of {scores[broken[0]].max().item()}, as it does "
            f"{len(broken)} of {len(scores)} units it was called with; expected a number for each unit and concept"
        )
    return scores
