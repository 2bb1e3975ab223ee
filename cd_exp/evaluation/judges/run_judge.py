"""Labels chosen on one part of the images and scored on the other: ours, those of every method, floor and ceiling."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from cd_exp.dissection import RunData, bind_names, label_units
from cd_exp.errors import InputError
from cd_exp.evaluation.baselines import Method, run_method
from cd_exp.evaluation.judges import HeldOut, Judge, LabelsToScore, Scores, held_out_split
from cd_exp.features import Features
from cd_exp.features.features import read_activations
from cd_exp.features.other_passes import unit_activations
from cd_exp.models import untrained_model
from cd_exp.probes.wrappers import Subset
from cd_exp.records import CLIP_DISSECT, Labels, Similarity
from cd_exp.similarity import concept_activations

FLOOR, SHUFFLED, CEILING, UNTRAINED = "random_labels", "shuffled_labels", "true_labels", "untrained"
REFERENCES = (FLOOR, SHUFFLED, CEILING, UNTRAINED)
"""Beside every method: labels drawn from the words that the judge knows; our labels shuffled among the units of their
layer; the true labels where these are known; and our labels of the same network before it was trained."""


@dataclass(frozen=True, eq=False)
class JudgeResult:
    """The labels of every method with their scores, and those of the references."""

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
        device, _ = run.settings.resolve_device()
        match = concept_activations(run.features.images.to(device), run.texts.to(device))
        similarity = bind_names(self.similarity, run.concepts.names)
        activations = {
            layer: read_activations(run.features, layer, similarity, 0, device) for layer in run.features.layers
        }
        truth = {layer: labels.truth for layer, labels in run.labels.items()}
        return dict(label_units(similarity, match, activations, run.concepts.names, truth=truth, top=self.top).labels)


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
        (method, layer): LabelsToScore(
            layer, layer_labels.units, _chosen_labels(layer_labels, chosen[method].get(layer))
        )
        for method, by_layer in labels.items()
        for layer, layer_labels in by_layer.items()
    }
    drawn = draw_references(judge, held, labels[CLIP_DISSECT], seed=run.seed)
    scored = score_with_floors(judge, held, asked | drawn, seed=run.seed)
    beside = label_references(drawn, scored, of=CLIP_DISSECT)
    if judge.untrained:
        beside[UNTRAINED] = _label_untrained(judge, run, held, methods[CLIP_DISSECT])
    circular = {CLIP_DISSECT, *(name for name, method in methods.items() if method.uses_clip)}
    marked = circular if judge.circular(run.clip) else set()
    with_scores = {
        method: {
            layer: _add_scores(layer_labels, asked[method, layer], scored[method, layer], circular=method in marked)
            for layer, layer_labels in by_layer.items()
        }
        for method, by_layer in labels.items()
    }
    return JudgeResult(with_scores, beside, (*_note_unscored(judge, asked, scored, held), *_favours(marked, methods)))


@dataclass(frozen=True, eq=False)
class WithFloor:
    """The scores of the labels of some units, and the same labels shuffled among these units with their scores."""

    scores: Scores
    shuffled: LabelsToScore
    floor: Scores


def score_with_floors(
    judge: Judge, held: HeldOut, asked: Mapping[tuple[str, str], LabelsToScore], *, seed: int
) -> dict[tuple[str, str], WithFloor]:
    """The scores of labels, each beside the score that its unit gets with another unit's label.

    Args:
        judge: tells where a concept is.
        held: what it has.
        asked: labels by method and layer.
        seed: of the shuffling, which is the same for methods that label the same units.
    """
    shuffled = {key: replace(one, labels=shuffle(one.labels, seed=seed)) for key, one in asked.items()}
    scores = judge(held, [*asked.values(), *shuffled.values()])
    pairs = zip(asked, scores[: len(asked)], scores[len(asked) :], strict=True)
    return {key: WithFloor(own, shuffled[key], floor) for key, own, floor in pairs}


def shuffle(labels: Sequence[str], *, seed: int) -> tuple[str, ...]:
    """The labels in a random order in which no unit keeps its place; a unit without a label stays without.

    So a label that many units have is as frequent as before, and the units lose what was theirs.

    >>> shuffle(["red", "", "blue"], seed=0)
    ('blue', '', 'red')
    """
    rows = np.flatnonzero(np.array(labels, dtype=np.str_) != "")
    order = np.random.default_rng([seed, 1]).permutation(rows)
    mixed = list(labels)
    for row, other in zip(order, np.roll(order, 1), strict=True):
        mixed[row] = labels[other]
    return tuple(mixed)


def select_images(features: Features, rows: np.ndarray) -> Features:
    """The features of some of the images."""
    positions = torch.as_tensor(rows)
    return Features(
        {layer: features.activations[layer][positions] for layer in features.layers},
        features.images[positions],
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


def _chosen_labels(full: Labels, part: Labels | None) -> tuple[str, ...]:
    """The label of each unit from the larger part of the images: what the method explains, else its best concept."""
    if part is None:
        return ("",) * len(full.units)
    names = dict(zip(part.units.tolist(), part.judged_label or part.descriptions, strict=True))
    return tuple(names.get(unit, "") for unit in full.units.tolist())


def draw_references(
    judge: Judge, held: HeldOut, ours: Mapping[str, Labels], *, seed: int
) -> dict[tuple[str, str], LabelsToScore]:
    """Random labels for all units, and the true label of each unit whose truth the judge knows."""
    truths = dict.fromkeys(name for labels in ours.values() for names in labels.truth for name in names or ())
    is_known = judge.known(held, [*held.concepts.names, *truths])
    words = [name for name in held.concepts.names if is_known[name]]
    random = np.random.default_rng(seed)
    to_score = {}
    for layer, labels in ours.items():
        if words:
            drawn = random.integers(0, len(words), len(labels.units))
            to_score[FLOOR, layer] = LabelsToScore(layer, labels.units, tuple(words[number] for number in drawn))
        true_names = {
            unit: next((name for name in names or () if is_known[name]), None)
            for unit, names in zip(labels.units.tolist(), labels.truth, strict=False)
        }
        right = {unit: name for unit, name in true_names.items() if name is not None}
        if right:
            to_score[CEILING, layer] = LabelsToScore(layer, np.array(list(right)), tuple(right.values()))
    return to_score


def label_references(
    drawn: Mapping[tuple[str, str], LabelsToScore], scored: Mapping[tuple[str, str], WithFloor], *, of: str
) -> dict[str, dict[str, Labels]]:
    """The references with their scores, by name and layer; `shuffled_labels` are those of one method, the floor of all.

    Args:
        drawn: random and true labels.
        scored: by method and layer; what is drawn is among them.
        of: the method whose labels are shuffled.
    """
    references: dict[str, dict[str, Labels]] = {}
    for name, layer in drawn:
        own = scored[name, layer].scores
        references.setdefault(name, {})[layer] = _reference(drawn[name, layer], own, scored[of, layer])
    shuffled = {layer: own.shuffled for (name, layer), own in scored.items() if name == of}
    references[SHUFFLED] = {layer: _reference(one, scored[of, layer].floor) for layer, one in shuffled.items()}
    return {name: references[name] for name in REFERENCES if name in references}


def _reference(one: LabelsToScore, scores: Scores, ours: WithFloor | None = None) -> Labels:
    """Labels of a reference with their scores, and the floor of ours on the same units."""
    floor: Scores = {}
    if ours is not None:
        rows = np.searchsorted(ours.shuffled.units, one.units)
        floor = {name: values[rows] for name, values in ours.floor.items()}
    return Labels(
        layer=one.layer,
        units=one.units,
        top=tuple((label,) if label else () for label in one.labels),
        similarity=np.full(len(one.units), np.nan),
        judged_label=tuple(one.labels),
        faithfulness=scores,
        floor=floor,
    )


def _label_untrained(judge: Judge, run: RunData, held: HeldOut, ours: Method) -> dict[str, Labels]:
    """Our labels of the same network with random weights, scored against what that network does.

    Nothing is to be named there, so a score that stays as high says nothing of what training has made.
    """
    model = untrained_model(run.model, seed=run.seed)
    indices = np.asarray(run.features.kept)
    probe = run.probe if len(indices) == len(run.probe) else Subset(run.probe, indices)
    activations = unit_activations(
        model, probe, like=run.probe, units=run.units, store=run.store, settings=run.settings
    )
    features = replace(run.features, activations=dict(activations), reduced={})
    blank = {layer: replace(labels, truth=(), ranks=None) for layer, labels in run.labels.items()}
    record = replace(run, model=model, features=features, labels=blank)
    other = replace(held, model=model, features=features)
    labels = run_method(ours, label_from_part(record, other)).labels
    asked = {(UNTRAINED, layer): LabelsToScore(layer, own.units, own.descriptions) for layer, own in labels.items()}
    scored = score_with_floors(judge, other, asked, seed=run.seed)
    return {
        layer: replace(own, judged_label=own.descriptions, faithfulness=scored[UNTRAINED, layer].scores,
                       floor=scored[UNTRAINED, layer].floor)
        for layer, own in labels.items()
    }  # fmt: skip


def _add_scores(labels: Labels, asked: LabelsToScore, scored: WithFloor, *, circular: bool) -> Labels:
    marks = labels.marks
    if circular:
        marks = tuple(mark | {"circular"} for mark in marks or (frozenset[str](),) * len(labels.units))
    return replace(
        labels, judged_label=tuple(asked.labels), faithfulness=scored.scores, floor=scored.floor, marks=marks
    )


def _favours(circular: Collection[str], methods: Collection[str]) -> list[str]:
    """A note where the judge asks the CLIP that chose some of the labels and not the others."""
    others = [name for name in methods if name not in circular]
    if not circular or not others:
        return []
    chosen = [name for name in methods if name in circular]
    return [
        f"the judge asks the CLIP that chose the labels of {', '.join(chosen)}, and not those of {', '.join(others)}: "
        "it favours the former"
    ]


def _note_unscored(
    judge: Judge,
    asked: Mapping[tuple[str, str], LabelsToScore],
    scored: Mapping[tuple[str, str], WithFloor],
    held: HeldOut,
) -> tuple[str, ...]:
    notes = [
        f"Faithfulness: labels chosen on {len(held.chosen_on):,} images, "
        f"scored on {len(held.scored_on):,} held-out images"
    ]
    if note := judge.note:
        notes.append(note)
    for (method, layer), request in asked.items():
        values = list(scored[method, layer].scores.values())
        unknown = len(request.labels) - int((~np.isnan(values)).any(axis=0).sum()) if values else len(request.labels)
        if unknown:
            notes.append(
                f"{layer}, {method}: {unknown} of {len(request.labels)} labels are unknown to the judge and were "
                "not scored"
            )
    return tuple(notes)
