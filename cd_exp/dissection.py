"""CLIP-Dissect on one page: features, similarity, labels. Built objects in, records out.

Source: CLIP-Dissect (arXiv:2204.10965), section 3.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from jaxtyping import Float
from torch import Tensor

from cd_exp.cache import Store
from cd_exp.clips import Clip
from cd_exp.distributed import gathered, share_by_size
from cd_exp.errors import InputError
from cd_exp.features import Features, Settings, extract, text_embeddings
from cd_exp.features.loading import bar
from cd_exp.labelling import activations, images_needed, label_units, marked, with_names
from cd_exp.marks import few_units
from cd_exp.models import TargetModel
from cd_exp.similarity import concept_activations
from cd_exp.similarity.reads import declaration
from cd_exp.stability import doing, with_stability
from cd_exp.types import Concepts, Labels, Probe, Similarity
from cd_exp.units import Layers, Units, as_units

LONG = 2.0
"""Seconds after which scoring shows a progress bar."""


@dataclass(frozen=True, eq=False)
class Dissection:
    """The labels of every layer, their features, the seconds of each step, and what to know beside them."""

    labels: Mapping[str, Labels]
    features: Features
    texts: Float[Tensor, "concepts dim"]
    seconds: Mapping[str, float]
    notes: Sequence[str] = ()


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
    resamples: int = 0,
    seed: int = 0,
    everything: bool = False,
) -> Dissection:
    """Name the units of a network with words.

    Args:
        model: the target network, from `cd_exp.models`.
        probe: the images to show it, from `cd_exp.probes`.
        concepts: the words to choose from, from `cd_exp.concepts`.
        clip: the CLIP backbone that knows both, from `cd_exp.clips`.
        similarity: one of `cd_exp.similarity`, with settings bound by `functools.partial`.
        layers: module paths or patterns (`layer*`, `fc`, `layer4:max`), or other units; None is the model's own choice.
        store: where features are kept between runs.
        settings: device, precision, batches.
        top: how many concepts to keep for each unit.
        shown: how many of each unit's strongest images a report wants.
        resamples: how often the images are drawn anew to count how stable a label is.
        seed: of these draws.
        everything: whether all activations are read by others besides, whatever the function reads.

    Returns:
        The labels by layer, with the features. Where the model's truth is known, each unit has the rank of its truth.

    Raises:
        InputError: for whatever the caller can mend: an unknown layer, unreadable images, an empty concept set.
    """
    if not concepts.names:
        raise InputError(f"concept set {concepts.name!r} is empty; it needs at least one concept")
    began = time.perf_counter()
    units = Layers() if layers is None else as_units(layers)
    similarity = with_names(similarity, concepts.names)
    needed = None if everything else images_needed(similarity, len(probe), resamples, shown=shown)
    features = extract(model, probe, clip, layers=units, store=store, settings=settings, strongest=needed)
    texts = text_embeddings(clip, concepts, store=store, device=settings.device)
    extracted = time.perf_counter()
    device, _ = settings.resolved()
    match = concept_activations(features.images.to(device), texts.to(device))
    sizes = {layer: features.units(layer) for layer in features.layers}
    truth = {layer: units.truth_of(model, layer, units=size) for layer, size in sizes.items()}
    mine = share_by_size(sizes)  # of several processes each scores some of the layers
    given = {layer: activations(features, layer, similarity, resamples, device) for layer in mine}
    with bar(settings, "scoring of units", sum(sizes[layer] for layer in mine), after=LONG) as step:
        score = partial(label_units, top=top, resamples=resamples, units=sum(sizes.values()), step=step)
        scored = score(similarity, match, given, concepts.names, truth=truth)
    labels = {layer: marked(found, features.statistics(layer), similarity) for layer, found in scored.labels.items()}
    seconds = {"features": extracted - began, "similarity": time.perf_counter() - extracted}
    if resamples and mine:
        labelled = time.perf_counter()
        with bar(settings, doing(similarity, resamples), 100, after=LONG) as step:
            stable = partial(with_stability, resamples=resamples, seed=seed, step=lambda share: step(100 * share))
            labels = stable(labels, scored.candidates, similarity, match, given, concepts.names)
        seconds["stability"] = time.perf_counter() - labelled
    labels = gathered(labels)
    notes = tuple(few_units(sizes, declaration(similarity).least_units))
    return Dissection({layer: labels[layer] for layer in features.layers}, features, texts, seconds, notes)
