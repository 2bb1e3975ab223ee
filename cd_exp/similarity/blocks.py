"""The scores of a layer piece by piece, for layers whose neurons x concepts would not fit in memory."""

import inspect
import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.similarity.match import ConceptMatch, at_least, checked, runs, shape
from cd_exp.similarity.reads import declaration

RESULT_BYTES = 2**29
"""The most that one piece of a result takes where the caller does not say."""


def blocks(
    function: Callable[..., Tensor],
    match: ConceptMatch,
    neurons: Float[Tensor, "images neurons"],
    *,
    units: int | None = None,
) -> Iterator[tuple[slice, Float[Tensor, "block concepts"]]]:
    """Score a layer some units at a time, with the scores that the whole layer at once would get.

    A function that takes a `prior` gets that of the whole layer: one pass gathers it, a second one scores. A layer that
    fits in one block takes one pass. A function that declares that it needs the whole layer gets it as one block. Every
    other function scores each unit by itself.

    Args:
        function: one of `cd_exp.similarity`, plain or with settings bound by `functools.partial`, or any other of that
            form whose scores of a unit depend on no other unit.
        match: concept activations, images x concepts, dense or factored.
        neurons: activations, images x neurons.
        units: how many a block; as many as make half a gibibyte of scores when not given.

    Yields:
        The units, and their scores, in order.

    Raises:
        InputError: as the function does; a unit is named by its number in the layer.
    """
    size = units if units is not None else max(1, RESULT_BYTES // (4 * max(1, shape(match)[1])))
    at_least("units", size, 1)
    match, neurons = checked(match, neurons)  # of the whole layer, so that a unit is named by its number there
    if declaration(function).whole_layer:
        size = neurons.shape[1]
    settings = {}
    if neurons.shape[1] > size and _takes_prior(function):
        settings["prior"] = _prior(function, match, neurons, size=size)
    for part in runs(neurons.shape[1], size):
        yield part, function(match, neurons[:, part], **settings)


def _takes_prior(function: Callable[..., Tensor]) -> bool:
    """Whether the function has a prior that the caller has not bound already."""
    parameter = inspect.signature(function).parameters.get("prior")
    return parameter is not None and parameter.default is None


def _prior(
    function: Callable[..., Tensor], match: ConceptMatch, neurons: Float[Tensor, "images neurons"], *, size: int
) -> Float[Tensor, " concepts"]:
    """Log of the mean likelihood over all units; with a prior of zero a function returns the likelihood itself."""
    nothing = torch.zeros(shape(match)[1], device=neurons.device)
    total = torch.full_like(nothing, -math.inf)
    for part in runs(neurons.shape[1], size):
        total = torch.logaddexp(total, function(match, neurons[:, part], prior=nothing).logsumexp(dim=0))
    return total - math.log(neurons.shape[1])
