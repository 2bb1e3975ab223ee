"""CLIP-Dissect on one page: what goes in, features, similarity, labels, and the one record of what a run has.

Methods and judges read the record whole. What this module does not know: configuration, judges, files.

Source: CLIP-Dissect (arXiv:2204.10965), section 3.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache, partial
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.activation_stats import ActivationStatistics
from cd_exp.cache import Store
from cd_exp.calibration import Fitted, belief_of, p_right
from cd_exp.clips import Clip
from cd_exp.concepts import place_classes
from cd_exp.distributed import gather_from_all, share_by_size
from cd_exp.errors import InputError
from cd_exp.features import ExtractionSettings, Features, extract, text_embeddings
from cd_exp.features.dataloader import progress_bar
from cd_exp.features.features import (
    count_cut_ties,
    count_images_needed,
    is_tied,
    order_by_content,
    read_activations,
)
from cd_exp.hierarchy import BackedOff, Hedging, Hierarchy, Taxonomy, build_hedging
from cd_exp.labels import (
    BestConcepts,
    alphabetical_order,
    best_concepts,
    is_always_on,
    label_layer,
    many_images,
    note_few_units,
)
from cd_exp.labels import flag_units as marks_of_marks
from cd_exp.metrics import accepted_columns
from cd_exp.models import TargetModel
from cd_exp.records import Accepted, ConceptActivations, Concepts, Labels, Probe, Similarity, TopActivations
from cd_exp.similarity import BoundSimilarity, PriorChoice, bind, concept_activations, score_best, score_layers
from cd_exp.similarity.match import Activations
from cd_exp.similarity.scoring import BLOCK_SIZES, BlockSizes
from cd_exp.similarity.whitened_wpmi import prior_notes
from cd_exp.stability import Candidates, count_candidates, describe_duration, with_stability
from cd_exp.units import Layers, Units

R = TypeVar("R")


@dataclass(frozen=True, eq=False, kw_only=True)
class RunInputs:
    """What goes into a run; nothing heavy is loaded yet.

    Attributes:
        model: the target network's recipe.
        units: what is labelled; by default the model's own layers.
        probe: the images.
        concepts: the words to choose from.
        clip: the CLIP backbone's recipe.
        store: the cache.
        settings: device, precision, batches.
        seed: random seed of every draw.
    """

    model: TargetModel
    units: Units = Layers()  # noqa: RUF009  frozen
    probe: Probe
    concepts: Concepts
    clip: Clip
    store: Store
    settings: ExtractionSettings
    seed: int = 0

    @classmethod
    def of(cls: type[R], record: "RunInputs", **more: Any) -> R:
        """All that another record has and this kind of record knows, with what is added or replaced by name."""
        taken = {entry.name for entry in fields(cls)}  # type: ignore[arg-type]  # every kind of record is a dataclass
        names = taken & {entry.name for entry in fields(record)}
        return cls(**{name: getattr(record, name) for name in names - more.keys()}, **more)


@dataclass(frozen=True, eq=False, kw_only=True)
class RunData(RunInputs):
    """What a run has: its inputs, features and labels.

    Attributes:
        features: the activations of every layer, the image embeddings, and which images were used.
        texts: the embeddings of the concepts.
        labels: ours, by layer; they hold the truth where it is known.
        seconds: of each step.
        notes: what to know beside the labels.
        priors: of each layer, where `similarity.prior_weight=auto` chose it.
        taxonomy: the hierarchy of the concepts, where general labels were wanted.
    """

    features: Features
    texts: Float[Tensor, "concepts dim"]
    labels: Mapping[str, Labels]
    seconds: Mapping[str, float]
    notes: Sequence[str] = ()
    priors: Mapping[str, PriorChoice] = field(default_factory=dict)
    taxonomy: Taxonomy | None = None


@dataclass(frozen=True, eq=False)
class LayerScores:
    """The labels of every layer, and the candidate concepts of resamples."""

    labels: Mapping[str, Labels]
    candidates: Mapping[str, Candidates]


def bind_names(function: Similarity, names: Sequence[str]) -> BoundSimilarity:
    """Give the concepts' names to a function that asks for them."""
    similarity = bind(function)
    return bind(similarity, names=names) if "names" in similarity.parameters else similarity


@dataclass(frozen=True, eq=False)
class LayerGroup:
    """Layers that one function scores with the same settings."""

    function: BoundSimilarity
    layers: dict[str, Activations]


def layers_by_choice(
    similarity: BoundSimilarity, match: ConceptActivations, layers: Mapping[str, Activations]
) -> tuple[list[LayerGroup], dict[str, PriorChoice]]:
    """Layers grouped by what the function chooses for them, and the choices.

    A function that chooses nothing has one group; one that chooses a setting a layer at a time
    (`similarity_function(choose=...)`) as many as it chose values.
    """
    groups: dict[str, LayerGroup] = {}
    choices: dict[str, PriorChoice] = {}
    for layer, neurons in layers.items():
        function, choice = similarity.settle(match, neurons)
        if choice is not None:
            choices[layer] = choice
        value = "" if choice is None else repr(choice.settings)
        groups.setdefault(value, LayerGroup(function, {})).layers[layer] = neurons
    return list(groups.values()), choices


def label_units(
    similarity: Similarity,
    match: ConceptActivations,
    layers: Mapping[str, Activations],
    names: Sequence[str],
    *,
    truth: Mapping[str, Sequence[Accepted]],
    top: int,
    resamples: int = 0,
    units: int | None = None,
    hedging: Hedging | None = None,
    step: Callable[[float], None] = lambda units: None,
    sizes: BlockSizes = BLOCK_SIZES,
) -> LayerScores:
    """The labels of all layers, whose units are scored together, and the candidates of resamples to come.

    Args:
        similarity: with its settings bound.
        match: concept activations of all images.
        layers: what the function reads of each layer.
        names: of the concepts.
        truth: the accepted names of each unit, by layer.
        top: how many concepts to keep for each unit.
        resamples: to come.
        units: of all layers of the run, where other processes score the others.
        hedging: gives each unit a general label besides.
        step: called with the number of further units that have their labels.
        sizes: how much is held at a time.
    """
    labels, candidates = {}, {}
    units = sum(neurons.shape[1] for neurons in layers.values()) if units is None else units
    number = count_candidates(similarity, units, resamples) if resamples else 0
    score: Callable[..., Iterator[tuple[str, slice, Tensor | BestConcepts]]] = partial(score_layers, sizes=sizes)
    if not (number or hedging or any(any(accepted) for accepted in truth.values())):  # nobody reads more than the best
        score = partial(score_best, top=max(top, 2), position=alphabetical_order(names), step=step, sizes=sizes)
    for layer, blocks in groupby(score(similarity, match, layers), key=itemgetter(0)):
        kept: list[Candidates] = []
        general: list[BackedOff] = []
        back_off = partial(hedging.back_off, function=similarity) if hedging else None
        watched = _keep_general(_keep_candidates(blocks, kept, number, step, names), general, back_off)
        accepted = accepted_columns(truth[layer], names) if any(truth[layer]) else (None,) * len(truth[layer])
        labels[layer] = label_layer(watched, names, layer=layer, accepted=accepted, truth=truth[layer], k=top)
        if hedging:
            labels[layer] = hedging.labels(labels[layer], general, similarity, accepted)
        if kept:
            candidates[layer] = Candidates(*(torch.cat(parts) for parts in zip(*kept, strict=True)))
    return LayerScores(labels, candidates)


def _keep_candidates(
    blocks: Iterator[tuple[str, slice, Tensor | BestConcepts]],
    kept: list[Candidates],
    number: int,
    step: Callable[[float], None],
    names: Sequence[str],
) -> Iterator[tuple[slice, Tensor | BestConcepts]]:
    """Yield the scores unchanged, and keep each unit's `number` best as candidates."""
    for _, part, scores in blocks:
        if number and isinstance(scores, Tensor):
            kept.append(_best_candidates(scores, number, names))
        yield part, scores
        if isinstance(scores, Tensor):  # the best of a large layer are counted while they are looked for
            step(len(scores))


def _keep_general(
    blocks: Iterator[tuple[slice, Tensor | BestConcepts]],
    general: list[BackedOff],
    back_off: Callable[[Tensor], BackedOff] | None,
) -> Iterator[tuple[slice, Tensor | BestConcepts]]:
    """Yield the scores unchanged, and keep the general labels that follow from them."""
    for part, scores in blocks:
        if back_off is not None and isinstance(scores, Tensor):
            general.append(back_off(scores))
        yield part, scores


def with_belief(labels: Labels, function: Similarity, fitted: Fitted | None) -> Labels:
    """The labels with the probability that each is right, where there are constants for the function."""
    belief = belief_of(function, fitted)
    if belief is None or labels.stability is None or labels.margin is None:
        return labels
    return replace(labels, p_right=p_right(labels.stability, labels.margin, belief))


def _best_candidates(scores: Float[Tensor, "block concepts"], number: int, names: Sequence[str]) -> Candidates:
    """Each unit's best concepts; its label is among them, however many share the best score."""
    number = min(number, scores.shape[1])
    values, columns = scores.topk(number, dim=1)
    level = values[:, 0] == values[:, -1]
    if number < len(names) and level.any():
        alphabetical = alphabetical_order(names).to(scores.device)
        values[level], columns[level] = best_concepts(scores[level], alphabetical, k=number)
    return Candidates(values, columns)


def flag_labels(
    labels: Labels,
    statistics: ActivationStatistics,
    similarity: BoundSimilarity,
    activations: Activations | None = None,
) -> Labels:
    """The labels with the marks of their units."""
    dead, least = statistics.dead.numpy(), statistics.least.numpy()
    alive = len(dead) - int(dead.sum())
    counted = alive if similarity.needs_dead and alive else len(dead)  # the prior of a layer of dead units is over all
    flags = marks_of_marks(
        dead=dead,
        always=is_always_on((statistics.firing / statistics.images).numpy(), least),
        second=labels.similarity - (0 if labels.margin is None else labels.margin),
        ceiling=similarity.ceiling(counted),
        few=is_tied(activations, similarity.inputs(activations.images).strongest or activations.images).cpu().numpy()
        if isinstance(activations, TopActivations)
        else None,
    )
    return replace(labels, marks=flags)


LONG = 2.0
"""Seconds after which scoring shows a progress bar."""


def dissect_layers(
    inputs: RunInputs,
    similarity: Similarity,
    *,
    top: int,
    shown: int = 0,
    resamples: int = 0,
    everything: bool = False,
    hierarchy: Hierarchy | None = None,
    calibration: Fitted | None = None,
) -> RunData:
    """Name the units of a network with words.

    Args:
        inputs: network and units, images, concepts, CLIP, cache, settings and seed.
        similarity: one of `cd_exp.similarity`, with settings bound by `functools.partial`.
        top: how many concepts to keep for each unit.
        shown: how many of each unit's strongest images a report wants.
        resamples: bootstrap resamples of the images, over which the stability of a label is counted.
        everything: whether all activations are read by others besides, whatever the function reads.
        hierarchy: of the concepts, for general labels.
        calibration: constants of the user's own for the probability that a label is right.

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
    similarity = bind_names(similarity, concepts.names)
    needed = None if everything else count_images_needed(similarity, len(inputs.probe), resamples, shown=shown)
    features, texts, match = _extract(inputs, needed)
    extracted = time.perf_counter()
    hedging = build_hedging(hierarchy, concepts.names) if hierarchy else None
    sizes = {layer: features.units(layer) for layer in features.layers}
    truth, class_notes = _name_truth(inputs, sizes)
    activations = _read_layers(inputs, features, share_by_size(sizes), similarity, resamples)
    seconds = {"features": extracted - began}
    groups, priors = layers_by_choice(similarity, match, activations)
    seconds |= {"prior": time.perf_counter() - extracted} if priors else {}
    chosen = time.perf_counter()
    score = partial(label_units, match=match, names=concepts.names, truth=truth, top=top, resamples=resamples)
    scored = _score_groups(groups, partial(score, units=sum(sizes.values()), hedging=hedging), settings)
    labels = _flag_all(scored, features, similarity, activations)
    seconds["similarity"] = time.perf_counter() - chosen
    if resamples and labels:
        labelled = time.perf_counter()
        stability = partial(with_stability, match=match, names=concepts.names, resamples=resamples, seed=inputs.seed)
        with progress_bar(settings, describe_duration(similarity, resamples), 100, after=LONG) as step:
            labels = _add_stability(labels, groups, scored, stability, calibration, step)
        seconds["stability"] = time.perf_counter() - labelled
    notes = [*_notes_on_function(similarity, sizes, features), *class_notes]
    data = RunData.of(inputs, features=features, texts=texts, labels=labels, seconds=seconds, notes=notes)
    return _complete(data, priors, hedging)


def load_features(
    inputs: RunInputs, similarity: Similarity, *, shown: int, resamples: int, everything: bool
) -> RunData:
    """The features that `dissect_layers` reads with the same arguments, without labels: for pages of a stored run."""
    needed = None if everything else count_images_needed(similarity, len(inputs.probe), resamples, shown=shown)
    features, texts, _ = _extract(inputs, needed)
    return RunData.of(inputs, features=features, texts=texts, labels={}, seconds={})


def _name_truth(inputs: RunInputs, sizes: Mapping[str, int]) -> tuple[dict[str, Sequence[Accepted]], Sequence[str]]:
    """The accepted names of each unit by layer, and notes on a final layer whose classes are not as it says."""
    truth = {layer: inputs.units.truth_of(inputs.model, layer, units=size) for layer, size in sizes.items()}
    classes, notes = place_classes(inputs.model, sizes) if isinstance(inputs.units, Layers) else ({}, ())
    return {**truth, **classes}, notes


def _extract(
    inputs: RunInputs, strongest: int | None
) -> tuple[Features, Float[Tensor, "concepts dim"], ConceptActivations]:
    """Activations and image embeddings, text embeddings, and the match of images and concepts, on the run's device."""
    recipes, settings = (inputs.model, inputs.probe, inputs.clip), inputs.settings
    features = extract(*recipes, layers=inputs.units, store=inputs.store, settings=settings, strongest=strongest)
    texts = text_embeddings(inputs.clip, inputs.concepts, store=inputs.store, device=settings.device)
    device, _ = settings.resolve_device()
    return features, texts, concept_activations(features.images.to(device), texts.to(device))


def _score_groups(
    groups: Sequence[LayerGroup], score: Callable[..., LayerScores], settings: ExtractionSettings
) -> list[LayerScores]:
    """The labels of each group, with a progress bar over all their units."""
    units = sum(activations.shape[1] for group in groups for activations in group.layers.values())
    with progress_bar(settings, "scoring of units", units, after=LONG) as step:
        return [score(group.function, layers=group.layers, step=step) for group in groups]


def _add_stability(
    labels: Mapping[str, Labels],
    groups: Sequence[LayerGroup],
    scored: Sequence[LayerScores],
    stability: Callable[..., dict[str, Labels]],
    calibration: Fitted | None,
    step: Callable[[float], None],
) -> dict[str, Labels]:
    """The labels with their stability and the probability that each is right; `step` gets per cent of all work."""
    believed = dict(labels)
    for group, layer_scores in zip(groups, scored, strict=True):
        per_cent = 100 * len(group.layers) / len(labels)
        stable = stability(
            {layer: labels[layer] for layer in group.layers},
            candidates=layer_scores.candidates,
            function=group.function,
            layers=group.layers,
            step=lambda share, per_cent=per_cent: step(per_cent * share),
        )
        believed |= {layer: with_belief(each, group.function, calibration) for layer, each in stable.items()}
    return believed


def _read_layers(
    inputs: RunInputs, features: Features, layers: Sequence[str], similarity: BoundSimilarity, resamples: int
) -> dict[str, Activations]:
    """What the function and its resamples read of each layer, on the device of the run.

    Each of several processes reads, and then scores, some of the layers.
    """
    order = cache(lambda: order_by_content(inputs.probe, features.kept))  # only where units are tied
    device, _ = inputs.settings.resolve_device()
    read = partial(read_activations, features, similarity=similarity, resamples=resamples, device=device, order=order)
    return {layer: read(layer) for layer in layers}


def _complete(data: RunData, priors: Mapping[str, PriorChoice], hedging: Hedging | None) -> RunData:
    """The data with the labels and priors of all processes, layers in their order, and what was chosen for them."""
    labels, priors = gather_from_all(data.labels), gather_from_all(priors)
    priors = {layer: priors[layer] for layer in data.features.layers if layer in priors}
    return replace(
        data,
        labels={layer: labels[layer] for layer in data.features.layers},
        notes=(*data.notes, *(prior_notes(priors) if priors else ()), *(hedging.notes() if hedging else [])),
        priors=priors,
        taxonomy=hedging.taxonomy if hedging else None,
    )


def _flag_all(
    scored: Sequence[LayerScores],
    features: Features,
    similarity: BoundSimilarity,
    activations: Mapping[str, Activations],
) -> dict[str, Labels]:
    """The labels of all groups with the flags of their units."""
    return {
        layer: flag_labels(labels, features.statistics(layer), similarity, activations[layer])
        for part in scored
        for layer, labels in part.labels.items()
    }


def _notes_on_function(similarity: BoundSimilarity, sizes: Mapping[str, int], features: Features) -> Iterator[str]:
    """What the function says of layers and images of these numbers, and of what was kept of them."""
    images = len(features.images)
    yield from note_few_units(sizes, similarity.spec.least_units)
    yield from many_images(similarity.settings.get("top_k"), images)
    for layer, units in count_cut_ties(features, similarity.inputs(images).strongest or images).items():
        yield (
            f"{units} of {sizes[layer]} units of {layer}: images as strong as the last one that is read were left out "
            "by their order in the probe set (features.keep=lists); features.keep=dense goes by their content"
        )
