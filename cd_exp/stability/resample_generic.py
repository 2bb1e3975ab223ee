"""Resamples one by one, for a function that is no sum over each unit's strongest images."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor

from cd_exp.labels import best
from cd_exp.records import Strongest
from cd_exp.similarity import ConceptMatch, layers_together, reads
from cd_exp.similarity.match import Neurons, take
from cd_exp.similarity.registry import declaration, settings
from cd_exp.stability.resample_terms import Candidates

Scored = Iterator[tuple[str, slice, Tensor]]


def repeated(
    function: Callable[..., Tensor],
    match: ConceptMatch,
    layers: Mapping[str, Neurons],
    place: Int[Tensor, " concepts"],
    candidates: Mapping[str, Candidates],
    counts: Int[Tensor, "resamples images"],
    step: Callable[[float], None],
) -> dict[str, Int[Tensor, "resamples neurons"]]:
    """The column of each unit's label in every resample, from the scores that the function gives there.

    A function that takes `columns` scores each unit's candidates alone.
    """
    if takes_columns(function):
        lists = {layer: neurons for layer, neurons in layers.items() if isinstance(neurons, Strongest)}
        return _of_candidates(function, match, lists, candidates, place, counts, step)
    chosen: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    score = _scorer(function, match, layers)
    for often in counts:
        for layer, _, scores in score(often):
            chosen[layer].append(best(scores, place, k=1)[1][:, 0])
        step(1 / len(counts))
    return {layer: torch.cat(found).view(len(counts), -1) for layer, found in chosen.items()}


def takes_columns(function: Callable[..., Tensor]) -> bool:
    """Whether the function can score some of the concepts, others for each unit, from its strongest images."""
    return "columns" in inspect.signature(function).parameters


def _of_candidates(
    function: Callable[..., Tensor],
    match: ConceptMatch,
    layers: Mapping[str, Strongest],
    candidates: Mapping[str, Candidates],
    place: Int[Tensor, " concepts"],
    counts: Int[Tensor, "resamples images"],
    step: Callable[[float], None],
) -> dict[str, Int[Tensor, "resamples neurons"]]:
    count = reads(function, counts.shape[1]).strongest or counts.shape[1]
    chosen: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    for often in counts:
        for layer, lists in layers.items():
            columns = candidates[layer].columns
            scores = function(match, drawn_again(lists, often, count), columns=columns)
            equal = scores == scores.amax(dim=1, keepdim=True)
            first = torch.where(equal, place[columns], len(place)).argmin(dim=1, keepdim=True)
            chosen[layer].append(columns.gather(1, first)[:, 0])
        step(1 / len(counts))
    return {layer: torch.stack(found) for layer, found in chosen.items()}


def _scorer(
    function: Callable[..., Tensor], match: ConceptMatch, layers: Mapping[str, Neurons]
) -> Callable[[Int[Tensor, " images"]], Scored]:
    """A function of how often each image is drawn; what is taken over all images is taken here."""
    prepare = declaration(function).prepare
    if prepare is not None:
        given = settings(function)
        return partial(_prepared, {layer: prepare(match, neurons, **given) for layer, neurons in layers.items()})
    lists = {layer: neurons for layer, neurons in layers.items() if isinstance(neurons, Strongest)}
    if lists:
        return partial(_lists, function, match, lists)
    whole = {layer: neurons for layer, neurons in layers.items() if isinstance(neurons, Tensor)}
    return partial(_rows, function, match, whole)


def _prepared(ready: Mapping[str, tuple[ConceptMatch, Tensor, Callable[..., Tensor]]], often: Tensor) -> Scored:
    rows = torch.arange(len(often), device=often.device).repeat_interleave(often.long())
    for layer, (match, neurons, rest) in ready.items():
        yield layer, slice(0, neurons.shape[1]), rest(take(match, rows), neurons[rows])


def _rows(function: Callable[..., Tensor], match: ConceptMatch, layers: Mapping[str, Tensor], often: Tensor) -> Scored:
    rows = torch.arange(len(often), device=often.device).repeat_interleave(often.long())
    return layers_together(function, take(match, rows), {layer: neurons[rows] for layer, neurons in layers.items()})


def _lists(
    function: Callable[..., Tensor], match: ConceptMatch, layers: Mapping[str, Strongest], often: Tensor
) -> Scored:
    count = reads(function, len(often)).strongest
    drawn = {layer: drawn_again(lists, often, count or len(often)) for layer, lists in layers.items()}
    return layers_together(function, match, drawn)


def drawn_again(lists: Strongest, often: Int[Tensor, " images"], count: int) -> Strongest:
    """The first `count` draws of each unit, strongest first, an image as often as it was drawn.

    A list that does not hold so many draws has its last image fill up.
    """
    upto = often[lists.indices].long().cumsum(dim=0).T.contiguous()
    draws = torch.arange(count, device=often.device).expand(len(upto), -1).contiguous()
    at = torch.searchsorted(upto, draws, right=True).clamp(max=upto.shape[1] - 1).T
    return Strongest(lists.values.gather(0, at), lists.indices.gather(0, at), lists.images, lists.dead)
