"""CLIP-Dissect on one page: features, similarity, labels. Built objects in, records out.

Source: CLIP-Dissect (arXiv:2204.10965), section 3.
"""

import time
from functools import partial

from cd_exp.distributed import gathered, share_by_size
from cd_exp.errors import InputError
from cd_exp.features import extract, text_embeddings
from cd_exp.features.dataloader import bar
from cd_exp.labelling import activations, images_needed, label_units, marked, with_names
from cd_exp.labels import few_units
from cd_exp.records import Similarity
from cd_exp.run_data import RunData, RunInputs
from cd_exp.similarity import concept_activations
from cd_exp.similarity.registry import declaration
from cd_exp.stability import doing, with_stability

LONG = 2.0
"""Seconds after which scoring shows a progress bar."""


def dissection(
    inputs: RunInputs,
    similarity: Similarity,
    *,
    top: int,
    shown: int = 0,
    resamples: int = 0,
    everything: bool = False,
) -> RunData:
    """Name the units of a network with words.

    Args:
        inputs: network and units, images, concepts, CLIP, cache, settings and seed.
        similarity: one of `cd_exp.similarity`, with settings bound by `functools.partial`.
        top: how many concepts to keep for each unit.
        shown: how many of each unit's strongest images a report wants.
        resamples: how often the images are drawn anew to count how stable a label is.
        everything: whether all activations are read by others besides, whatever the function reads.

    Returns:
        The inputs with their features and labels. Where the model's truth is known, each unit has the rank of its
        truth.

    Raises:
        InputError: for whatever the caller can mend: an unknown layer, unreadable images, an empty concept set.
    """
    concepts, settings = inputs.concepts, inputs.settings
    if not concepts.names:
        raise InputError(f"concept set {concepts.name!r} is empty; it needs at least one concept")
    began = time.perf_counter()
    similarity = with_names(similarity, concepts.names)
    needed = None if everything else images_needed(similarity, len(inputs.probe), resamples, shown=shown)
    recipes = inputs.model, inputs.probe, inputs.clip
    features = extract(*recipes, layers=inputs.units, store=inputs.store, settings=settings, strongest=needed)
    texts = text_embeddings(inputs.clip, concepts, store=inputs.store, device=settings.device)
    extracted = time.perf_counter()
    device, _ = settings.resolved()
    match = concept_activations(features.images.to(device), texts.to(device))
    sizes = {layer: features.units(layer) for layer in features.layers}
    truth = {layer: inputs.units.truth_of(inputs.model, layer, units=size) for layer, size in sizes.items()}
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
            stable = partial(with_stability, resamples=resamples, seed=inputs.seed)
            parts = labels, scored.candidates, similarity, match, given, concepts.names
            labels = stable(*parts, step=lambda share: step(100 * share))
        seconds["stability"] = time.perf_counter() - labelled
    labels = gathered(labels)
    notes = tuple(few_units(sizes, declaration(similarity).least_units))
    ordered = {layer: labels[layer] for layer in features.layers}
    return RunData.of(inputs, features=features, texts=texts, labels=ordered, seconds=seconds, notes=notes)
