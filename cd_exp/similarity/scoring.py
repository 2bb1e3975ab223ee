"""The scores of layers piece by piece: all layers in one pass over the images, and none larger than fits in memory."""

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.records import TopActivations
from cd_exp.similarity.match import (
    Activations,
    DenseOrFactored,
    as_top_activations,
    check_at_least,
    check_shapes,
    concept_slices,
    join_layers,
    match_shape,
    select_units,
)
from cd_exp.similarity.prior import prior_mask
from cd_exp.similarity.registry import BoundSimilarity, bind

RESULT_BYTES = 2**29
"""The most that one piece of a result takes where the caller does not say, and the activations of layers together."""


def score_layers(
    function: Callable[..., Tensor], match: DenseOrFactored, layers: Mapping[str, Activations]
) -> Iterator[tuple[str, slice, Float[Tensor, "block concepts"]]]:
    """The scores of several layers, each as if it were scored by itself, with the tiles of images made once for all.

    As many layers go together as fit in half a gibibyte of scores; a larger one is cut by `score_blocks`.

    Args:
        function: one of `cd_exp.similarity`, plain or with settings bound by `functools.partial`, or another of that
            form. One that declares nothing, or that it needs whole layers, gets them one by one.
        match: concept activations, images x concepts, dense or factored.
        layers: the activations of each layer, or the strongest of each unit.

    Yields:
        A layer, some of its units, and their scores, in order.

    >>> from cd_exp.similarity import cos
    >>> layers = {"layer4": torch.rand(3, 4), "fc": torch.rand(3, 2)}
    >>> [(layer, tuple(scores.shape)) for layer, _, scores in score_layers(cos, torch.eye(3), layers)]
    [('layer4', (4, 3)), ('fc', (2, 3))]

    Raises:
        InputError: as the function does; a unit is named by its number in its layer.
    """
    function = bind(function)
    fitting = {layer: _read_block(function, match, neurons) for layer, neurons in layers.items()}
    # What says nothing of itself may take a prior over its units: whoever calls soft_wpmi does.
    takes_layers = "layers" in function.parameters
    alone = function.spec.whole_layer or not (function.is_declared or takes_layers)
    for group in _group_layers(fitting, concepts=match_shape(match)[1], alone=alone):
        if len(group) == 1:
            for units, scores in score_blocks(function, match, fitting[group[0]]):
                yield group[0], units, scores
            continue
        sizes = [fitting[layer].shape[1] for layer in group]
        sizes_of_layers = {"layers": sizes} if takes_layers else {}
        scores = function(match, join_layers([fitting[layer] for layer in group]), **sizes_of_layers)
        for layer, part in zip(group, scores.split(sizes), strict=True):
            yield layer, slice(0, len(part)), part


def _group_layers(layers: Mapping[str, Activations], *, concepts: int, alone: bool) -> Iterator[list[str]]:
    """Layers whose scores, and whose activations where these are read, take at most `RESULT_BYTES` together."""
    group: list[str] = []
    taken = 0
    for layer, neurons in layers.items():
        values = neurons.values if isinstance(neurons, TopActivations) else neurons
        size = 4 * max(values.numel(), concepts * values.shape[1])
        if group and (alone or taken + size > RESULT_BYTES):
            yield group
            group, taken = [], 0
        group.append(layer)
        taken += size
    if group:
        yield group


def score_blocks(
    function: Callable[..., Tensor], match: DenseOrFactored, neurons: Activations, *, units: int | None = None
) -> Iterator[tuple[slice, Float[Tensor, "block concepts"]]]:
    """Score a layer some units at a time, with the scores that the whole layer at once would get.

    A function that takes a `prior` gets that of the whole layer: one pass gathers it, a second one scores. A layer that
    fits in one block takes one pass. A function that declares that it needs the whole layer gets it as one block. Every
    other function scores each unit by itself.

    Args:
        function: one of `cd_exp.similarity`, plain or with settings bound by `functools.partial`, or any other of that
            form whose scores of a unit depend on no other unit.
        match: concept activations, images x concepts, dense or factored.
        neurons: activations, images x neurons, or each unit's strongest where the function reads no more.
        units: how many per block; by default as many as make half a gibibyte of scores.

    Yields:
        The units, and their scores, in order.

    >>> from cd_exp.similarity import cos
    >>> match, neurons = torch.eye(3), torch.rand(3, 5)
    >>> pieces = [scores for _, scores in score_blocks(cos, match, neurons, units=2)]
    >>> torch.allclose(torch.cat(pieces), cos(match, neurons))
    True

    Raises:
        InputError: as the function does; a unit is named by its number in the layer.
    """
    function = bind(function)
    size = units if units is not None else max(1, RESULT_BYTES // (4 * max(1, match_shape(match)[1])))
    check_at_least("units", size, 1)
    neurons = _read_block(function, match, neurons)
    if function.spec.whole_layer:
        size = neurons.shape[1]
    arguments = {}
    if neurons.shape[1] > size and function.takes_prior:
        arguments["prior"] = _prior(function, match, neurons, size=size)
    for part in concept_slices(neurons.shape[1], size):
        yield part, function(match, select_units(neurons, part), **arguments)


def _read_block(function: BoundSimilarity, match: DenseOrFactored, neurons: Activations) -> Activations:
    """What the function reads, checked for the whole layer so that a unit is named by its number there."""
    strongest = function.inputs(neurons.shape[0]).strongest
    if strongest is None:
        return check_shapes(match, neurons)[1]
    return as_top_activations(match, neurons, strongest)[1]


def _prior(
    function: BoundSimilarity, match: DenseOrFactored, neurons: Activations, *, size: int
) -> Float[Tensor, " concepts"]:
    """Log of the mean likelihood over all units; with a prior of zero a function returns the likelihood itself."""
    counts = prior_mask(neurons, function.settings.get("prior_units", "all"))
    counts = counts if counts.any() else torch.ones_like(counts)
    nothing = torch.zeros(match_shape(match)[1], device=counts.device)
    total = torch.full_like(nothing, -math.inf, dtype=torch.float64)
    for part in concept_slices(neurons.shape[1], size):
        if counts[part].any():
            likelihood = function(match, select_units(neurons, part), prior=nothing)[counts[part]]
            for columns in concept_slices(len(nothing), max(1, 2**22 // len(likelihood))):
                chunk = likelihood[:, columns].double().logsumexp(dim=0)
                total[columns] = torch.logaddexp(total[columns], chunk)
    return total - math.log(int(counts.sum()))
