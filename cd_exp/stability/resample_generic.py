"""Resamples one by one, for a function that is no sum over each unit's strongest images."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor

from cd_exp.labels import best_concepts
from cd_exp.records import TopActivations
from cd_exp.similarity import DenseOrFactored, bind, score_layers
from cd_exp.similarity.match import Activations, take_images
from cd_exp.stability.resample_terms import Candidates

Scored = Iterator[tuple[str, slice, Tensor]]


def resample_scores(
    function: Callable[..., Tensor],
    match: DenseOrFactored,
    layers: Mapping[str, Activations],
    alphabetical: Int[Tensor, " concepts"],
    candidates: Mapping[str, Candidates],
    counts: Int[Tensor, "resamples images"],
    step: Callable[[float], None],
) -> dict[str, Int[Tensor, "resamples neurons"]]:
    """The column of each unit's label in every resample, from the scores that the function gives there.

    A function that takes `columns` scores each unit's candidates alone.
    """
    if scores_some_concepts(function):
        lists = {layer: neurons for layer, neurons in layers.items() if isinstance(neurons, TopActivations)}
        return _score_candidates(function, match, lists, candidates, alphabetical, counts, step)
    chosen: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    score = _make_scorer(function, match, layers)
    for often in counts:
        for layer, _, scores in score(often):
            chosen[layer].append(best_concepts(scores, alphabetical, k=1)[1][:, 0])
        step(1 / len(counts))
    return {layer: torch.cat(columns).view(len(counts), -1) for layer, columns in chosen.items()}


def scores_some_concepts(function: Callable[..., Tensor]) -> bool:
    """Whether the function can score some of the concepts, others for each unit, from its strongest images."""
    return "columns" in bind(function).parameters


def _score_candidates(
    function: Callable[..., Tensor],
    match: DenseOrFactored,
    layers: Mapping[str, TopActivations],
    candidates: Mapping[str, Candidates],
    alphabetical: Int[Tensor, " concepts"],
    counts: Int[Tensor, "resamples images"],
    step: Callable[[float], None],
) -> dict[str, Int[Tensor, "resamples neurons"]]:
    count = bind(function).inputs(counts.shape[1]).strongest or counts.shape[1]
    chosen: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    for often in counts:
        for layer, lists in layers.items():
            columns = candidates[layer].columns
            scores = function(match, repeat_drawn(lists, often, count), columns=columns)
            equal = scores == scores.amax(dim=1, keepdim=True)
            first = torch.where(equal, alphabetical[columns], len(alphabetical)).argmin(dim=1, keepdim=True)
            chosen[layer].append(columns.gather(1, first)[:, 0])
        step(1 / len(counts))
    return {layer: torch.stack(best) for layer, best in chosen.items()}


def _make_scorer(
    function: Callable[..., Tensor], match: DenseOrFactored, layers: Mapping[str, Activations]
) -> Callable[[Int[Tensor, " images"]], Scored]:
    """A function of how often each image is drawn; what is taken over all images is taken here."""
    prepare, settings = bind(function).spec.prepare, bind(function).settings
    if prepare is not None:
        return partial(
            _rescore_prepared, {layer: prepare(match, neurons, **settings) for layer, neurons in layers.items()}
        )
    lists = {layer: neurons for layer, neurons in layers.items() if isinstance(neurons, TopActivations)}
    if lists:
        return partial(_rescore_lists, function, match, lists)
    whole = {layer: neurons for layer, neurons in layers.items() if isinstance(neurons, Tensor)}
    return partial(_rescore_rows, function, match, whole)


def _rescore_prepared(
    ready: Mapping[str, tuple[DenseOrFactored, Tensor, Callable[..., Tensor]]], often: Tensor
) -> Scored:
    rows = torch.arange(len(often), device=often.device).repeat_interleave(often.long())
    for layer, (match, neurons, rest) in ready.items():
        yield layer, slice(0, neurons.shape[1]), rest(take_images(match, rows), neurons[rows])


def _rescore_rows(
    function: Callable[..., Tensor], match: DenseOrFactored, layers: Mapping[str, Tensor], often: Tensor
) -> Scored:
    rows = torch.arange(len(often), device=often.device).repeat_interleave(often.long())
    return score_layers(function, take_images(match, rows), {layer: neurons[rows] for layer, neurons in layers.items()})


def _rescore_lists(
    function: Callable[..., Tensor], match: DenseOrFactored, layers: Mapping[str, TopActivations], often: Tensor
) -> Scored:
    count = bind(function).inputs(len(often)).strongest
    drawn = {layer: repeat_drawn(lists, often, count or len(often)) for layer, lists in layers.items()}
    return score_layers(function, match, drawn)


def repeat_drawn(lists: TopActivations, often: Int[Tensor, " images"], count: int) -> TopActivations:
    """The first `count` draws of each unit, strongest first, an image as often as it was drawn.

    A list that does not hold so many draws has its last image fill up.
    """
    upto = often[lists.indices].long().cumsum(dim=0).T.contiguous()
    draws = torch.arange(count, device=often.device).expand(len(upto), -1).contiguous()
    at = torch.searchsorted(upto, draws, right=True).clamp(max=upto.shape[1] - 1).T
    return TopActivations(lists.values.gather(0, at), lists.indices.gather(0, at), lists.images, lists.dead)
