"""The scores of layers piece by piece: all layers in one pass over the images, and none larger than fits in memory."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cd_exp.labels import BestConcepts, best_concepts, order_concepts
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
from cd_exp.similarity.prior import EPSILON, order_ties, prior_mask, tie_rounding
from cd_exp.similarity.registry import BoundSimilarity, bind

RESULT_BYTES = 2**29
"""The most that one piece of a result takes where the caller does not say, and the activations of layers together."""

KEPT = 16
"""Concepts of a unit that are kept while all are gone through; its labels and their ties are nearly always among them:
of 20,000 units and 20,000 concepts, of all.
"""

ROWS = 2048
"""Units at a time where the likelihood of a few concepts is gone through: 1 MB."""


@dataclass(frozen=True)
class BlockSizes:
    """How much is held at a time while layers are scored: see `RESULT_BYTES`, `KEPT` and `ROWS`.

    Attributes:
        result_bytes: of a piece of the scores, and of the activations of layers that are scored together.
        kept: concepts of each unit of a large layer.
        rows: units whose likelihoods are compared with what is kept.
    """

    result_bytes: int = RESULT_BYTES
    kept: int = KEPT
    rows: int = ROWS

    def units(self, concepts: int) -> int:
        """How many units have scores that fit one piece."""
        return max(1, self.result_bytes // (4 * max(1, concepts)))


BLOCK_SIZES = BlockSizes()


def score_layers(
    function: Callable[..., Tensor],
    match: DenseOrFactored,
    layers: Mapping[str, Activations],
    *,
    sizes: BlockSizes = BLOCK_SIZES,
) -> Iterator[tuple[str, slice, Float[Tensor, "block concepts"]]]:
    """The scores of several layers, each as if it were scored by itself, with the tiles of images made once for all.

    As many layers go together as fit in half a gibibyte of scores; a larger one is cut by `score_blocks`.

    Args:
        function: one of `cd_exp.similarity`, plain or with settings bound by `functools.partial`, or another of that
            form. One that declares nothing, or that it needs whole layers, gets them one by one.
        match: concept activations, images x concepts, dense or factored.
        layers: the activations of each layer, or the strongest of each unit.
        sizes: how much is held at a time.

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
    concepts = match_shape(match)[1]
    for group in _group_layers(fitting, concepts=concepts, alone=alone, limit=sizes.result_bytes):
        if len(group) == 1:
            for units, scores in score_blocks(function, match, fitting[group[0]], units=sizes.units(concepts)):
                yield group[0], units, scores
            continue
        counts = [fitting[layer].shape[1] for layer in group]
        counts_of_layers = {"layers": counts} if takes_layers else {}
        scores = function(match, join_layers([fitting[layer] for layer in group]), **counts_of_layers)
        for layer, part in zip(group, scores.split(counts), strict=True):
            yield layer, slice(0, len(part)), part


def _group_layers(layers: Mapping[str, Activations], *, concepts: int, alone: bool, limit: int) -> Iterator[list[str]]:
    """Layers whose scores, and whose activations where these are read, take at most `limit` bytes together."""
    group: list[str] = []
    taken = 0
    for layer, neurons in layers.items():
        values = neurons.values if isinstance(neurons, TopActivations) else neurons
        size = 4 * max(values.numel(), concepts * values.shape[1])
        if group and (alone or taken + size > limit):
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
    size = units if units is not None else BLOCK_SIZES.units(match_shape(match)[1])
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


def score_best(
    function: Callable[..., Tensor],
    match: DenseOrFactored,
    layers: Mapping[str, Activations],
    *,
    top: int,
    position: Int[Tensor, " concepts"],
    step: Callable[[float], None] = lambda units: None,
    sizes: BlockSizes = BLOCK_SIZES,
) -> Iterator[tuple[str, slice, Float[Tensor, "block concepts"] | BestConcepts]]:
    """As `score_layers`, but of a large layer each unit's best concepts alone, with the same scores but for rounding.

    A layer that is larger than a block of scores takes one pass where the function declares its likelihoods: all units
    for some concepts, then for the next, so that the prior of a concept is known when its scores are wanted. Of 20,000
    units and 20,000 concepts a quarter of the time of a pass for the prior and another for the scores.

    Args:
        function: one of `cd_exp.similarity`, plain or with settings bound.
        match: concept activations, images x concepts, dense or factored.
        layers: the activations of each layer, or the strongest of each unit.
        top: how many concepts of each unit of a large layer.
        position: of each concept in the order that decides among equal scores.
        step: called with the number of further units of a large layer that have been gone through.
        sizes: how much is held at a time, and with it which layers are large.

    >>> from cd_exp.similarity import soft_wpmi
    >>> layers, position = {"fc": torch.rand(3, 4)}, torch.arange(3)
    >>> [(layer, units) for layer, units, _ in score_best(soft_wpmi, torch.eye(3), layers, top=2, position=position)]
    [('fc', slice(0, 4, None))]

    Raises:
        InputError: as the function does.
    """
    function = bind(function)
    cells = sizes.result_bytes // (4 * match_shape(match)[1])
    declared = function.spec.likelihoods is not None and function.takes_prior
    for large, names in groupby(layers, key=lambda layer: declared and layers[layer].shape[1] > cells):
        group = {layer: layers[layer] for layer in names}
        if not large:
            yield from score_layers(function, match, group, sizes=sizes)
            continue
        for layer, neurons in group.items():
            lists = _read_block(function, match, neurons)
            for units, best in _best_blocks(function, match, lists, top=top, position=position, step=step, sizes=sizes):
                yield layer, units, best


def _best_blocks(
    function: BoundSimilarity,
    match: DenseOrFactored,
    neurons: Activations,
    *,
    top: int,
    position: Int[Tensor, " concepts"],
    step: Callable[[float], None],
    sizes: BlockSizes,
) -> Iterator[tuple[slice, BestConcepts]]:
    """The best concepts of a layer: of those kept where these are proven to hold them, of all scores otherwise."""
    top = min(top, match_shape(match)[1])
    kept, prior = _keep_best(function, match, neurons, count=max(sizes.kept, top), rows=sizes.rows, step=step)
    position, weight = position.to(prior.device), function.settings["prior_weight"]
    for units in concept_slices(len(kept.values), sizes.rows):
        values, columns = kept.values[units], kept.columns[units].long()
        last = values.amin(dim=1)
        proven = torch.ones_like(last, dtype=torch.bool)
        if weight:
            of_each = prior[columns]
            proven = last < values.amax(dim=1) - tie_rounding(values, of_each, weight=weight)
            order_ties(values, of_each, weight=weight)
        best = order_concepts(values, columns, position, k=top)
        proven = (proven & (last < best.values[:, -1])) | (values.shape[1] == len(prior))
        again = (~proven).nonzero().flatten()
        for part in again.split(sizes.units(len(prior))) if len(again) else ():
            scores = function(match, select_units(neurons, part + units.start), prior=prior)
            best.values[part], best.columns[part] = best_concepts(scores, position, k=top)
        yield units, best


def _keep_best(
    function: BoundSimilarity,
    match: DenseOrFactored,
    neurons: Activations,
    *,
    count: int,
    rows: int,
    step: Callable[[float], None],
) -> tuple[BestConcepts, Float[Tensor, " concepts"]]:
    """The `count` highest scores of each unit, in no order, and the prior of each concept, `rows` units at a time.

    Likelihoods less the prior in single precision tell which units may have a better concept among the next ones; for
    these alone the score is taken as `subtract_prior` takes it.
    """
    units, concepts = neurons.shape[1], match_shape(match)[1]
    mask = prior_mask(neurons, function.settings["prior_units"])
    mask = mask if mask.any() else torch.ones_like(mask)
    prior = torch.empty(concepts, dtype=torch.float64, device=mask.device)
    values = torch.full((units, min(count, concepts)), -math.inf, device=mask.device)
    columns = torch.zeros(values.shape, dtype=torch.int32, device=mask.device)
    tiles = function.likelihoods(match, neurons)
    assert tiles is not None, "the function declares its likelihoods"
    for tile, likelihood in tiles:
        prior[tile] = _tile_prior(likelihood, mask, rows)
        weighted = function.settings["prior_weight"] * prior[tile]
        for part in concept_slices(units, rows):
            _merge_best(values[part], columns[part], likelihood[part], weighted, first=tile.start)
        step(units * likelihood.shape[1] / concepts)
    if prior.isnan().any():
        raise ValueError("a likelihood is NaN: a similarity function defines every score")
    return BestConcepts(values, columns), prior


def _merge_best(
    values: Float[Tensor, "block kept"],
    columns: Int[Tensor, "block kept"],
    likelihood: Float[Tensor, "block tile"],
    weighted: Float[Tensor, " tile"],
    *,
    first: int,
) -> None:
    """Keep the highest of the scores that are kept and those of some further concepts, in place."""
    highest = (likelihood - weighted.float()).amax(dim=1)
    off = EPSILON * (weighted.abs().max().float() + highest.abs())  # by rounding, at most half of this
    better = (highest >= values.amin(dim=1) - off).nonzero().flatten()
    if not len(better):
        return
    scores = (likelihood[better].double() - weighted).float()
    numbers = torch.arange(first, first + scores.shape[1], dtype=torch.int32, device=columns.device)
    every = torch.cat([values[better], scores], dim=1)
    best, chosen = every.topk(values.shape[1], dim=1)
    values[better] = best
    columns[better] = torch.cat([columns[better], numbers.expand(len(better), -1)], dim=1).gather(1, chosen)


def _tile_prior(
    likelihood: Float[Tensor, "neurons block"], mask: Bool[Tensor, " neurons"], rows: int
) -> Float[Tensor, " block"]:
    """Log of the mean likelihood over the units that count: in single precision within `rows` units and in double over
    these, which is good to 1e-6, a twentieth of the rounding of the likelihoods (and takes a third of the time).
    """
    parts = list(zip(likelihood.split(rows), mask.split(rows), strict=True))
    some = [part if counts.all() else part[counts] for part, counts in parts if counts.any()]
    peak = torch.stack([part.amax(dim=0) for part in some]).amax(dim=0)
    total = torch.zeros_like(peak, dtype=torch.float64)
    for part in some:
        total += (part - peak).exp_().sum(dim=0)
    return total.log_() + peak - math.log(int(mask.sum()))
