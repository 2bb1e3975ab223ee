"""CLIP-Dissect on one page: features, similarity, labels. Built objects in, records out.

Source: CLIP-Dissect (arXiv:2204.10965), section 3.
"""

import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from operator import itemgetter

import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp import marks
from cd_exp import similarity as similarities
from cd_exp.cache import Store
from cd_exp.clips import Clip
from cd_exp.errors import InputError
from cd_exp.features import Features, Settings, extract, text_embeddings
from cd_exp.labels import label
from cd_exp.metrics import accepted_columns
from cd_exp.models import TargetModel
from cd_exp.reductions import Statistics
from cd_exp.similarity.match import Neurons
from cd_exp.types import Accepted, Concepts, Labels, Match, Probe, Similarity, Strongest
from cd_exp.units import Layers, Units, as_units


@dataclass(frozen=True, eq=False)
class Dissection:
    """The labels of every layer, with the features they came from and the seconds each step took."""

    labels: Mapping[str, Labels]
    features: Features
    texts: Float[Tensor, "concepts dim"]
    seconds: Mapping[str, float]


def dissect(
    model: TargetModel,
    probe: Probe,
    concepts: Concepts,
    clip: Clip,
    similarity: Similarity,
    *,
    layers: Sequence[str] | None = None,
    store: Store | None = None,
    settings: Settings = Settings(),  # noqa: B008  frozen
    top: int = 5,
) -> Mapping[str, Labels]:
    """Name the units of a network with words.

    Args:
        model: the target network, from `cd_exp.models`.
        probe: the images to show it, from `cd_exp.probes`.
        concepts: the words to choose from, from `cd_exp.concepts`.
        clip: the CLIP backbone that knows both, from `cd_exp.clips`.
        similarity: one of `cd_exp.similarity`, with settings bound by `functools.partial`.
        layers: module paths or patterns (`layer*`, `fc`, `layer4:max`); the model's own choice when not given.
        store: where features are kept between runs; `outputs/cache` when not given.
        settings: device, precision, batches.
        top: how many concepts to keep for each unit.

    Returns:
        The labels by layer. Where the model's truth is known, each unit has the rank of its truth.

    Raises:
        InputError: for whatever the caller can mend: an unknown layer, unreadable images, an empty concept set.
    """
    store = store or Store("outputs/cache")
    return dissection(
        model, probe, concepts, clip, similarity, layers=layers, store=store, settings=settings, top=top
    ).labels


def dissection(
    model: TargetModel,
    probe: Probe,
    concepts: Concepts,
    clip: Clip,
    similarity: Similarity,
    *,
    layers: Sequence[str] | Units | None,
    store: Store,
    settings: Settings,
    top: int,
    shown: int = 0,
) -> Dissection:
    """The same as `dissect`, with the features and the times kept, and `shown` images of each unit for a report."""
    if not concepts.names:
        raise InputError(f"concept set {concepts.name!r} is empty; it needs at least one concept")
    began = time.perf_counter()
    units = Layers() if layers is None else as_units(layers)
    wanted = similarities.reads(similarity, len(probe)).strongest
    strongest = None if wanted is None else max(wanted, shown)
    features = extract(model, probe, clip, layers=units, store=store, settings=settings, strongest=strongest)
    texts = text_embeddings(clip, concepts, store=store, device=settings.device)
    extracted = time.perf_counter()
    device, _ = settings.resolved()
    match = similarities.concept_activations(features.images.to(device), texts.to(device))
    truth = {layer: units.truth_of(model, layer, units=features.units(layer)) for layer in features.layers}
    labels = label_units(features, match, _with_names(similarity, concepts.names), truth, concepts.names, top=top)
    labelled = time.perf_counter()
    return Dissection(labels, features, texts, {"features": extracted - began, "similarity": labelled - extracted})


def label_units(
    features: Features,
    match: Match,
    similarity: Similarity,
    truth: Mapping[str, Sequence[Accepted]],
    names: Sequence[str],
    *,
    top: int,
) -> dict[str, Labels]:
    """The labels of all layers, whose units are scored together, with the marks of each unit."""
    device = match.images.device
    given = {layer: _activations(features, layer, similarity, device) for layer in features.layers}
    labels = {}
    pieces = similarities.layers_together(similarity, match, given)
    for layer, blocks in groupby(pieces, key=itemgetter(0)):
        found = label(
            ((part, scores) for _, part, scores in blocks),
            names,
            layer=layer,
            accepted=accepted_columns(truth[layer], names),
            truth=truth[layer],
            k=top,
        )
        labels[layer] = _marked(found, features.statistics(layer), similarity)
    return labels


def _activations(features: Features, layer: str, similarity: Similarity, device: torch.device) -> Neurons:
    """What the similarity function reads of a layer."""
    wanted = similarities.reads(similarity, len(features.images))
    if wanted.strongest is None:
        return features.activations[layer].to(device)
    lists = features.strongest(layer, wanted.strongest)
    dead = features.statistics(layer).dead if similarities.needs_dead(similarity) else None
    return Strongest(lists.values.to(device), lists.indices.to(device), lists.images, dead)


def _marked(labels: Labels, statistics: Statistics, similarity: Similarity) -> Labels:
    """The labels with the marks of their units."""
    counted = statistics.dead.logical_not() if similarities.needs_dead(similarity) else torch.ones_like(statistics.dead)
    ceiling = similarities.ceiling(similarity, max(1, int(counted.sum())))
    firing = (statistics.firing / statistics.images).numpy()
    always = marks.always_on(firing, statistics.least.numpy())
    dead = statistics.dead.numpy()
    second = labels.similarity - (0 if labels.margin is None else labels.margin)
    of_units = marks.marks(dead=dead, always=always, second=second, ceiling=ceiling)
    return replace(labels, marks=of_units)


def _with_names(similarity: Similarity, names: tuple[str, ...]) -> Similarity:
    """Give the concepts' names to a function that asks for them."""
    return partial(similarity, names=names) if "names" in inspect.signature(similarity).parameters else similarity
