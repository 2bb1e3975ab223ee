"""How long scoring and stability take, from the functions themselves on random numbers of the run's own sizes.

Scores of all images and units, but of few concepts, are taken twice: what the concepts between the two cost, the others
cost too. Stability is taken of few units.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from cd_exp import reductions
from cd_exp.labelling import Scored, images_needed, label_units
from cd_exp.plan.span import Span
from cd_exp.similarity import concept_activations, reads
from cd_exp.similarity.match import Neurons
from cd_exp.stability import terms_of, with_stability
from cd_exp.stability.repeated import takes_columns
from cd_exp.types import Match, Similarity, Strongest

IMAGES, UNITS, CELLS = 50_000, 20_000, 2**26
"""The most that a sample has; what is more is taken to cost as much again."""

FEW = 64, 512
"""Units whose lists are made, and whose labels are resampled, in a sample."""

ENOUGH = 0.4
"""Seconds of a sample that can be trusted."""


@dataclass(frozen=True)
class Sizes:
    """Of a run: units by layer, and the length of the embeddings."""

    images: int
    layers: Mapping[str, int]
    dim: int

    @property
    def units(self) -> int:
        """Of all layers."""
        return sum(self.layers.values())


def scoring(
    similarity: Similarity, names: Sequence[str], sizes: Sizes, *, resamples: int, listed: bool, device: torch.device
) -> tuple[Span, Span]:
    """Seconds of similarity and of stability.

    Args:
        similarity: with its settings bound.
        names: of the concepts.
        sizes: of the run.
        resamples: of stability.
        listed: whether all layers come as lists of their strongest images already.
        device: where scores are computed.
    """
    label = partial(_labelled, similarity, resamples=resamples)
    scores = _scores(label, similarity, names, sizes, resamples, device)
    made = Span() if listed else _lists(similarity, sizes, resamples, device)
    if not resamples:
        return scores + made, Span()
    if terms_of(similarity) is None and not takes_columns(similarity):
        return scores + made, Span(0.2 * resamples * scores.low, 1.2 * resamples * scores.high)
    return scores + made, _stability(label, similarity, names, sizes, resamples, device)


def _scores(
    label: Callable[..., Scored], similarity: Similarity, names: Sequence[str], sizes: Sizes, resamples: int,
    device: torch.device,
) -> Span:  # fmt: skip
    given, more = _sample(similarity, sizes, UNITS, resamples, device)
    concepts, earlier = min(1024, len(names)), (0, 0.0)
    label(_match(given.shape[0], min(64, concepts), sizes.dim, device), given, names)  # libraries load what they load
    while True:
        match = _match(given.shape[0], concepts, sizes.dim, device)
        taken = _seconds(lambda match=match: label(match, given, names))  # type: ignore[misc]
        if taken > ENOUGH or concepts == len(names):
            break
        earlier, concepts = (concepts, taken), min(2 * concepts, len(names))
    each = max((taken - earlier[1]) / (concepts - earlier[0]), 0.3 * taken / concepts)
    low, high = sorted((taken + each * (len(names) - concepts), taken * len(names) / concepts))
    return Span(0.5 * low, 1.8 * more * high + 0.3)


def _lists(similarity: Similarity, sizes: Sizes, resamples: int, device: torch.device) -> Span:
    """Of looking through all activations for lists and statistics."""
    images, few = min(sizes.images, IMAGES), min(sizes.units, FEW[0])
    sample = torch.randn(images, few, device=device).relu_()
    wanted = images_needed(similarity, images, resamples, shown=0)

    def work() -> None:
        reductions.statistics(sample)
        if wanted is not None:
            reductions.strongest(sample, wanted)

    work()
    whole = _seconds(work) * (sizes.units / few) * (sizes.images / images)
    return Span(0.4 * whole, 2 * whole)


def _stability(
    label: Callable[..., Scored], similarity: Similarity, names: Sequence[str], sizes: Sizes, resamples: int,
    device: torch.device,
) -> Span:  # fmt: skip
    given, more = _sample(similarity, sizes, FEW[1], resamples, device)
    concepts = min(2048, len(names))
    match = _match(given.shape[0], concepts, sizes.dim, device)
    found = label(match, given, names)
    parts: list[Any] = [found.labels, found.candidates, similarity, match, {"sample": given}, names[:concepts]]
    with_stability(*parts, resamples=2, seed=0)
    whole = _seconds(lambda: with_stability(*parts, resamples=resamples, seed=0))
    return Span(0.4 * whole, 1.8 * more * whole + 0.5)


def _labelled(
    similarity: Similarity, match: Match, neurons: Neurons, names: Sequence[str], *, resamples: int
) -> Scored:
    layers = {"sample": neurons}
    return label_units(similarity, match, layers, names[: len(match.texts)], truth={"sample": ()}, top=5,
                       resamples=resamples)  # fmt: skip


def _sample(
    similarity: Similarity, sizes: Sizes, most: int, resamples: int, device: torch.device
) -> tuple[Neurons, float]:
    """Random activations, or lists of random images, as the function reads them; and how much more there is in all."""
    images = min(sizes.images, IMAGES)
    wanted = images_needed(similarity, images, resamples, shown=0)
    units = max(1, min(sizes.units, most, CELLS // (wanted or images)))
    more = (sizes.units / units) * (sizes.images / images)
    if wanted is None or reads(similarity, images).strongest is None:
        return torch.randn(images, units, device=device).relu_(), more
    values = torch.rand(wanted, units, device=device).sort(dim=0, descending=True).values
    starts = torch.randint(images, (units,), device=device)
    step = max(1, images // wanted)
    indices = (starts + step * torch.arange(wanted, device=device)[:, None]) % images
    return Strongest(values, indices, images, torch.zeros(units, dtype=torch.bool, device=device)), more


def _match(images: int, concepts: int, dim: int, device: torch.device) -> Match:
    """Embeddings that match by a fifth on average, as those of CLIP do."""
    shown, texts = (torch.randn(rows, dim, device=device).add_(0.5) for rows in (images, concepts))
    return concept_activations(shown, texts)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    given = work()
    del given
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def bytes_of_scores(sizes: Sizes, concepts: int, *, most: int) -> int:
    """Memory of the scores that are held at a time."""
    return min(most, 4 * sizes.units * concepts)
