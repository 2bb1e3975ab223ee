"""Labels with their stability: the resamples drawn, scored in one of two ways, and counted.

A sum over each unit's strongest images is computed again from its terms (`resample_terms`); any other function is
asked for each resample.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from cd_exp.activation_stats import strongest_images
from cd_exp.labels import alphabetical_order, best_concepts
from cd_exp.records import Labels, TopActivations
from cd_exp.similarity import DenseOrFactored, bind, score_layers
from cd_exp.similarity.match import Activations, match_shape, take_images
from cd_exp.stability.resample_terms import Candidates, prior_read, resample_terms

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


Step = Callable[[float], None]

CANDIDATES = 64, 256
"""How many concepts of each unit, those with the best scores, resamples choose from where a function has terms."""

FEW = 32
"""The same where a function scores some concepts of each unit, resample by resample."""

CELLS = 2**26
"""The most sums that are held: 256 MiB, unless that left fewer candidates than the least."""


def images_reached(count: int) -> int:
    """How many of each unit's strongest images resamples read, where scoring reads `count` of them.

    Some images are not drawn, so others move up: about count +- sqrt(count) images hold `count` draws. Of a list that
    is shorter, a resample that runs out of images has fewer.

    >>> images_reached(100)  # 100 + 4 * 10 + 8
    148
    """
    return count + 4 * math.isqrt(count) + 8


def count_candidates(function: Callable[..., Tensor], units: int, resamples: int) -> int:
    """How many concepts of each unit resamples choose from, where all layers have so many units; 0 is any concept."""
    if not resamples or (bind(function).terms() is None and not scores_some_concepts(function)):
        return 0
    if scores_some_concepts(function):
        return FEW
    least, most = CANDIDATES
    return max(least, min(most, CELLS // (units * (resamples + 1))))


def describe_duration(function: Callable[..., Tensor], resamples: int) -> str:
    """What to say while it goes on: how long it takes, where that is more than ten times as long as scoring."""
    if bind(function).terms() is not None or resamples <= 10:
        return "stability"
    times = resamples // 2 if scores_some_concepts(function) else resamples
    return f"stability (up to {times} times scoring; stability.resamples=0 for none)"


def draw_resamples(images: int, resamples: int, *, seed: int) -> Int[Tensor, "resamples images"]:
    """How often each image is drawn in each resample.

    >>> counts = draw_resamples(5, 3, seed=0)
    >>> counts.sum(dim=1).tolist()  # each resample draws as many images as there are
    [5, 5, 5]
    """
    generator = torch.Generator().manual_seed(seed)
    counts = torch.empty(resamples, images, dtype=torch.int16)
    for row in counts:
        row[:] = torch.bincount(torch.randint(images, (images,), generator=generator), minlength=images)
    return counts


def with_stability(
    labels: Mapping[str, Labels],
    candidates: Mapping[str, Candidates],
    function: Callable[..., Tensor],
    match: DenseOrFactored,
    layers: Mapping[str, Activations],
    names: Sequence[str],
    *,
    resamples: int,
    seed: int,
    step: Step = lambda share: None,
) -> dict[str, Labels]:
    """The labels with the share of resamples that give each, and the labels that make up 90 % of them.

    Args:
        labels: of each layer.
        candidates: of each layer, what resamples choose from (functions with terms).
        function: the similarity function, with its settings bound.
        match: concept activations of all images.
        layers: what the function reads of each layer; lists as long as `images_reached` says.
        names: of the concepts.
        resamples: how many.
        seed: of the draws; the same for every function.
        step: called with the share of all work that is done.
    """
    device = match.images.device if not isinstance(match, Tensor) else match.device
    counts = draw_resamples(match_shape(match)[0], resamples, seed=seed).to(device)
    alphabetical = alphabetical_order(names).to(device)
    terms = bind(function).terms(len(counts[0]))
    if terms is None:
        chosen = resample_scores(function, match, _as_inputs(function, layers), alphabetical, candidates, counts, step)
    else:
        chosen = resample_terms(
            terms,
            prior_read(function),
            match,
            _equal_length_lists(layers, images_reached(terms.count)),
            candidates,
            alphabetical,
            counts,
            step,
        )
    return {layer: _count_labels(layer_labels, chosen[layer], names) for layer, layer_labels in labels.items()}


def _as_inputs(function: Callable[..., Tensor], layers: Mapping[str, Activations]) -> Mapping[str, Activations]:
    """Lists where the function reads the strongest images."""
    images = next(iter(layers.values())).shape[0]
    count = bind(function).inputs(images).strongest
    return layers if count is None else _equal_length_lists(layers, min(images, images_reached(count)))


def _equal_length_lists(layers: Mapping[str, Activations], count: int) -> dict[str, TopActivations]:
    """The strongest images of each unit, of the same number in every layer."""
    kept = min(
        len(activations.values) if isinstance(activations, TopActivations) else count for activations in layers.values()
    )
    cut = {}
    for layer, neurons in layers.items():
        lists = neurons if isinstance(neurons, TopActivations) else strongest_images(neurons, kept)
        cut[layer] = replace(lists, values=lists.values[:kept], indices=lists.indices[:kept])
    return cut


def _count_labels(labels: Labels, columns: Int[Tensor, "resamples neurons"], names: Sequence[str]) -> Labels:
    """Shares and sets from the column that each resample gives each unit."""
    shares, sets = [], []
    for label, resampled in zip(labels.descriptions, columns.T.tolist(), strict=True):
        votes = Counter(names[column] for column in resampled)
        shares.append(votes[label] / len(resampled))
        ordered = sorted(votes, key=lambda name: (-votes[name], name))
        reached = np.cumsum([votes[name] for name in ordered])
        sets.append(tuple(ordered[: 1 + int(np.searchsorted(reached, 0.9 * len(resampled)))]))
    return replace(labels, stability=np.array(shares), stable_set=tuple(sets))
