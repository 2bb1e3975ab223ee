"""Labels chosen on one part of the images and scored on the other: ours, those of every method, floor and ceiling."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from cd_exp.dissection import RunData, bind_names, label_units, read_activations
from cd_exp.errors import InputError
from cd_exp.evaluation.baselines import Method, run_method
from cd_exp.evaluation.judges import HeldOut, Judge, LabelsToScore, Scores, held_out_split, is_circular
from cd_exp.features import Features
from cd_exp.records import CLIP_DISSECT, Labels, Similarity
from cd_exp.similarity import concept_activations

FLOOR, CEILING = "random_labels", "true_labels"
"""Beside every method: labels drawn from the words that the judge knows, and the true labels where these are known."""


@dataclass(frozen=True, eq=False)
class JudgeResult:
    """The labels of every method with their scores; `references` are the floor and the ceiling."""

    methods: Mapping[str, Mapping[str, Labels]]
    references: Mapping[str, Mapping[str, Labels]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class OwnLabels(Method):
    """Our own labels as a method like any other: made by the function that makes a run's, of what a run has."""

    similarity: Similarity
    top: int = 5

    def __call__(self, run: RunData) -> dict[str, Labels]:
        """The labels of every layer from the features of the record."""
        device, _ = run.settings.resolved()
        match = concept_activations(run.features.images.to(device), run.texts.to(device))
        similarity = bind_names(self.similarity, run.concepts.names)
        given = {layer: read_activations(run.features, layer, similarity, 0, device) for layer in run.features.layers}
        truth = {layer: labels.truth for layer, labels in run.labels.items()}
        return dict(label_units(similarity, match, given, run.concepts.names, truth=truth, top=self.top).labels)


def run_judge(
    judge: Judge,
    run: RunData,
    methods: Mapping[str, Method],
    labels: Mapping[str, Mapping[str, Labels]],
) -> JudgeResult:
    """Let every method choose labels again on the larger part of the images, and score these on the other.

    Args:
        judge: tells where a concept is.
        run: what the run has.
        methods: all that label, ours among them, under the names of `labels`.
        labels: of each method from all images; they come back with `judged_label` and `faithfulness`.

    Raises:
        InputError: as the judge does, or where the activations themselves were not kept.
    """
    held = hold_out_images(judge, run)
    part = label_from_part(run, held)
    part = replace(part, labels=run_method(methods[CLIP_DISSECT], part).labels)
    chosen = {
        name: part.labels if name == CLIP_DISSECT else run_method(method, part).labels
        for name, method in methods.items()
    }
    asked = {
        (method, layer): LabelsToScore(layer, own.units, _chosen_labels(own, chosen[method].get(layer)))
        for method, by_layer in labels.items()
        for layer, own in by_layer.items()
    }
    references = _make_references(judge, held, labels[CLIP_DISSECT], seed=run.seed)
    asked |= references
    scores = dict(zip(asked, judge(held, list(asked.values())), strict=True))
    circular = {CLIP_DISSECT, *(name for name, method in methods.items() if method.uses_clip)}
    marked = circular if is_circular(judge, run.clip) else set()
    found = {
        method: {
            layer: _add_scores(own, asked[method, layer], scores[method, layer], circular=method in marked)
            for layer, own in by_layer.items()
        }
        for method, by_layer in labels.items()
    }
    return JudgeResult(found, _label_references(references, scores), _note_unscored(asked, scores, held))


def select_images(features: Features, rows: np.ndarray) -> Features:
    """The features of some of the images."""
    places = torch.as_tensor(rows)
    return Features(
        {layer: features.activations[layer][places] for layer in features.layers},
        features.images[places],
        np.asarray(features.kept)[rows].tolist(),
        features.skipped,
    )


def label_from_part(run: RunData, held: HeldOut) -> RunData:
    """What a method has that chooses labels for the judge: the larger part of the images."""
    return replace(run, features=select_images(run.features, held.chosen_on))


def hold_out_images(judge: Judge, run: RunData) -> HeldOut:
    """What the judge has, the images divided by their content."""
    if not 0 < judge.held_out < 1:
        raise InputError(f"judge.held_out={judge.held_out} must lie between 0 and 1; it is the share of images (0.2)")
    chosen_on, scored_on = held_out_split(
        run.probe, run.features.kept, store=run.store, seed=run.seed, share=judge.held_out
    )
    return HeldOut.of(run, chosen_on=chosen_on, scored_on=scored_on)


def _chosen_labels(own: Labels, part: Labels | None) -> tuple[str, ...]:
    """The label of each unit from the larger part of the images: what the method explains, else its best concept."""
    if part is None:
        return ("",) * len(own.units)
    names = dict(zip(part.units.tolist(), part.judged_label or part.descriptions, strict=True))
    return tuple(names.get(unit, "") for unit in own.units.tolist())


def _make_references(
    judge: Judge, held: HeldOut, ours: Mapping[str, Labels], *, seed: int
) -> dict[tuple[str, str], LabelsToScore]:
    """Random labels for all units, and the true label of each unit whose truth the judge knows."""
    truths = dict.fromkeys(name for labels in ours.values() for names in labels.truth for name in names or ())
    known = judge.known(held, [*held.concepts.names, *truths])
    words = [name for name in held.concepts.names if known[name]]
    random = np.random.default_rng(seed)
    found = {}
    for layer, labels in ours.items():
        if words:
            drawn = random.integers(0, len(words), len(labels.units))
            found[FLOOR, layer] = LabelsToScore(layer, labels.units, tuple(words[number] for number in drawn))
        told = {
            unit: next((name for name in names or () if known[name]), None)
            for unit, names in zip(labels.units.tolist(), labels.truth, strict=False)
        }
        right = {unit: name for unit, name in told.items() if name is not None}
        if right:
            found[CEILING, layer] = LabelsToScore(layer, np.array(list(right)), tuple(right.values()))
    return found


def _label_references(
    references: Mapping[tuple[str, str], LabelsToScore], scores: Mapping[tuple[str, str], Scores]
) -> dict[str, dict[str, Labels]]:
    found: dict[str, dict[str, Labels]] = {}
    for (name, layer), one in references.items():
        found.setdefault(name, {})[layer] = Labels(
            layer=layer,
            units=one.units,
            top=tuple((label,) for label in one.labels),
            similarity=np.full(len(one.units), np.nan),
            judged_label=tuple(one.labels),
            faithfulness=scores[name, layer],
        )
    return found


def _add_scores(own: Labels, asked: LabelsToScore, scores: Scores, *, circular: bool) -> Labels:
    marks = own.marks
    if circular:
        marks = tuple(mark | {"circular"} for mark in marks or (frozenset[str](),) * len(own.units))
    return replace(own, judged_label=tuple(asked.labels), faithfulness=scores, marks=marks)


def _note_unscored(
    asked: Mapping[tuple[str, str], LabelsToScore], scores: Mapping[tuple[str, str], Scores], held: HeldOut
) -> tuple[str, ...]:
    said = [
        f"Faithfulness: labels chosen on {len(held.chosen_on):,} images, "
        f"scored on {len(held.scored_on):,} held-out images"
    ]
    for (method, layer), one in asked.items():
        values = list(scores[method, layer].values())
        unknown = len(one.labels) - int((~np.isnan(values)).any(axis=0).sum()) if values else len(one.labels)
        if unknown and method not in (FLOOR, CEILING):
            said.append(
                f"{layer}, {method}: {unknown} of {len(one.labels)} labels are unknown to the judge and were not scored"
            )
    return tuple(said)
