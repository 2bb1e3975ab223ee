"""Labels with their stability: the resamples drawn, scored in one of two ways, and counted."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from cd_exp.activation_stats import strongest
from cd_exp.labels import alphabetical
from cd_exp.records import Labels, Strongest
from cd_exp.similarity import ConceptMatch, reads
from cd_exp.similarity.match import Neurons, shape
from cd_exp.stability.resample_generic import repeated, takes_columns
from cd_exp.stability.resample_terms import Candidates, prior_of, terms_of, weighted

Step = Callable[[float], None]

CANDIDATES = 64, 256
"""How many concepts of each unit, those with the best scores, resamples choose from where a function has terms."""

FEW = 32
"""The same where a function scores some concepts of each unit, resample by resample."""

CELLS = 2**26
"""The most sums that are held: 256 MiB, unless that left fewer candidates than the least."""


def reach(count: int) -> int:
    """How many of each unit's strongest images resamples read, where scoring reads `count` of them.

    Some images are not drawn, so others move up: about count +- sqrt(count) images hold `count` draws. Of a list that
    is shorter, a resample that runs out of images has fewer.
    """
    return count + 4 * math.isqrt(count) + 8


def candidates_kept(function: Callable[..., Tensor], units: int, resamples: int) -> int:
    """How many concepts of each unit resamples choose from, where all layers have so many units; 0 is any concept."""
    if not resamples or (terms_of(function) is None and not takes_columns(function)):
        return 0
    if takes_columns(function):
        return FEW
    least, most = CANDIDATES
    return max(least, min(most, CELLS // (units * (resamples + 1))))


def doing(function: Callable[..., Tensor], resamples: int) -> str:
    """What to say while it goes on: how long it takes, where that is more than ten times as long as scoring."""
    if terms_of(function) is not None or resamples <= 10:
        return "stability"
    times = resamples // 2 if takes_columns(function) else resamples
    return f"stability (up to {times} times scoring; stability.resamples=0 for none)"


def draws(images: int, resamples: int, *, seed: int) -> Int[Tensor, "resamples images"]:
    """How often each image is drawn in each resample."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.empty(resamples, images, dtype=torch.int16)
    for row in counts:
        row[:] = torch.bincount(torch.randint(images, (images,), generator=generator), minlength=images)
    return counts


def with_stability(
    labels: Mapping[str, Labels],
    candidates: Mapping[str, Candidates],
    function: Callable[..., Tensor],
    match: ConceptMatch,
    layers: Mapping[str, Neurons],
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
        layers: what the function reads of each layer; lists as long as `reach` says.
        names: of the concepts.
        resamples: how many.
        seed: of the draws; the same for every function.
        step: told of what is done, as a share of it all.
    """
    device = match.images.device if not isinstance(match, Tensor) else match.device
    counts = draws(shape(match)[0], resamples, seed=seed).to(device)
    place = alphabetical(names).to(device)
    terms = terms_of(function, len(counts[0]))
    if terms is None:
        chosen = repeated(function, match, _as_read(function, layers), place, candidates, counts, step)
    else:
        chosen = weighted(
            terms, prior_of(function), match, _lists(layers, reach(terms.count)), candidates, place, counts, step
        )
    return {layer: _counted(found, chosen[layer], names) for layer, found in labels.items()}


def _as_read(function: Callable[..., Tensor], layers: Mapping[str, Neurons]) -> Mapping[str, Neurons]:
    """Lists where the function reads the strongest images."""
    images = next(iter(layers.values())).shape[0]
    count = reads(function, images).strongest
    return layers if count is None else _lists(layers, min(images, reach(count)))


def _lists(layers: Mapping[str, Neurons], count: int) -> dict[str, Strongest]:
    """The strongest images of each unit, of the same number in every layer."""
    kept = min(len(one.values) if isinstance(one, Strongest) else count for one in layers.values())
    found = {}
    for layer, neurons in layers.items():
        lists = neurons if isinstance(neurons, Strongest) else strongest(neurons, kept)
        found[layer] = replace(lists, values=lists.values[:kept], indices=lists.indices[:kept])
    return found


def _counted(labels: Labels, columns: Int[Tensor, "resamples neurons"], names: Sequence[str]) -> Labels:
    """Shares and sets from the column that each resample gives each unit."""
    shares, sets = [], []
    for label, given in zip(labels.descriptions, columns.T.tolist(), strict=True):
        votes = Counter(names[column] for column in given)
        shares.append(votes[label] / len(given))
        ordered = sorted(votes, key=lambda name: (-votes[name], name))
        reached = np.cumsum([votes[name] for name in ordered])
        sets.append(tuple(ordered[: 1 + int(np.searchsorted(reached, 0.9 * len(given)))]))
    return replace(labels, stability=np.array(shares), stable_set=tuple(sets))
