"""The labels of all methods judged, compared and collected on the same units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cd_exp.baselines import Labelled, Method, labelled
from cd_exp.evaluate import TextEncoder, compare_all, judge, sentence_encoder
from cd_exp.faithfulness import Judge
from cd_exp.features import text_embeddings, text_notes
from cd_exp.judging import Judged, judged
from cd_exp.labels import notes as notes_of_marks
from cd_exp.metrics import summarise
from cd_exp.probes import pixel_notes
from cd_exp.records import OURS, Concepts, Judgement, Labels, Outcome, has_pictures
from cd_exp.run_data import RunData


@dataclass(frozen=True, eq=False)
class Judging:
    """Who scores the labels, and how our own are made: they are chosen anew on a part of the images for it."""

    judge: Judge
    ours: Method


def collect(
    run: RunData,
    methods: Mapping[str, Method],
    *,
    images: int,
    judging: Judging | None = None,
) -> Outcome:
    """Judge our labels and those of the other methods by the same metrics, and compare them on the same units.

    Args:
        run: our labels with the features they came from.
        methods: the other methods, each labels by itself.
        images: how many top images to keep for each unit.
        judging: scores all labels on images that they were not chosen on; None leaves that out.
    """
    others = {name: labelled(method, run) for name, method in methods.items()}
    units = {layer: len(labels.units) for layer, labels in run.labels.items()}
    by_method: dict[str, Mapping[str, Labels]] = {OURS: run.labels}
    by_method |= {name: other.labels for name, other in others.items()}
    scored = judged(judging.judge, run, {OURS: judging.ours, **methods}, by_method) if judging else Judged(by_method)
    by_method = dict(scored.methods)
    judgements = _judgements(run, by_method)
    by_method = {
        name: {layer: _with_verdicts(labels, judgements[name][layer]) for layer, labels in by_layer.items()}
        for name, by_layer in by_method.items()
    }
    judgements |= {name: _unjudged(by_layer) for name, by_layer in scored.references.items()}
    metrics = {
        method: {
            layer: summarise(judgement, total_units=units[layer], seed=run.seed) for layer, judgement in by.items()
        }
        for method, by in judgements.items()
    }
    pictured = run.labels if has_pictures(run.probe) else ()  # without pictures there is nothing to show
    shown = {layer: top_images(run, layer, images) for layer in pictured}
    return Outcome(
        labels=by_method[OURS],
        metrics=metrics.pop(OURS),
        seconds=run.seconds,
        top_images=shown,
        probe=run.probe,
        baselines={name: by_method[name] for name in others},
        baseline_metrics=metrics,
        comparisons=list(compare_all(by_method, judgements, seed=run.seed)),
        notes=[*notes(run, others), *_absent(run, judgements), *scored.notes],
        files={name: text for other in others.values() for name, text in other.files.items()},
    )


def _judgements(run: RunData, methods: Mapping[str, Mapping[str, Labels]]) -> dict[str, dict[str, Judgement]]:
    encode, sentences = text_encoder(run), sentence_encoder()

    def held_against(labels: Labels, truth: Sequence[Any] | None) -> Judgement:
        return judge(labels, truth, judgeable=run.concepts.names, clip_text=encode, sentences=sentences)

    return {
        method: {layer: held_against(labels, run.labels[layer].truth or None) for layer, labels in by_layer.items()}
        for method, by_layer in methods.items()
    }


def _with_verdicts(labels: Labels, judgement: Judgement) -> Labels:
    """The labels with what the judgement says of each: every reader of a run takes it from here."""
    if judgement.units is None or judgement.top1 is None:
        return replace(labels, right=np.full(len(labels.units), -1))
    known = dict(zip(judgement.units.tolist(), judgement.top1.tolist(), strict=True))
    return replace(labels, right=np.array([int(known.get(unit, -1)) for unit in labels.units.tolist()]))


def _unjudged(by_layer: Mapping[str, Labels]) -> dict[str, Judgement]:
    """Floor and ceiling have scores, and are held against no truth."""
    return {
        layer: Judgement(labelled=labels.units, faithfulness=labels.faithfulness) for layer, labels in by_layer.items()
    }


def _absent(run: RunData, judgements: Mapping[str, Mapping[str, Judgement]]) -> list[str]:
    """A note where finished embeddings lack names that the cosine between label and truth needs."""
    every = [judgement for by_layer in judgements.values() for judgement in by_layer.values()]
    lacking = any(j.named is not None and len(j.named) and j.clip_cosine is None for j in every)
    return [f"clip {run.clip.name} has no text of some true names: their CLIP cosine is absent"] if lacking else []


def top_images(run: RunData, layer: str, count: int) -> np.ndarray:
    """Indices into the probe of the images that excite each unit most."""
    best = run.features.strongest(layer, count).indices.T.numpy()
    return np.asarray(run.features.kept)[best]


def notes(run: RunData, others: Mapping[str, Labelled]) -> list[str]:
    """What a reader of the numbers should know."""
    said = [*run.probe.notes, *pixel_notes(run.probe), *run.concepts.notes, *run.store.reports]
    said += text_notes(run.clip, run.concepts, store=run.store)
    said += [note for other in others.values() for note in other.notes]
    if run.features.skipped:
        said.append(f"{len(run.features.skipped)} unreadable images were left out, first {run.features.skipped[0]}")
    return [*said, *run.notes, *notes_of_marks(run.labels)]


def text_encoder(run: RunData) -> TextEncoder:
    """CLIP's text tower for any names: those of the concept set are there already, others are embedded and kept."""
    known = dict(zip(run.concepts.names, run.texts, strict=True))

    def encode(names: Sequence[str]) -> Tensor:
        missing = tuple(name for name in names if name not in known)
        if missing:
            more = Concepts(missing, run.concepts.templates, name="truth")
            texts = text_embeddings(run.clip, more, store=run.store, device=run.settings.device)
            known.update(zip(missing, texts, strict=True))
        return torch.stack([known[name] for name in names])

    return encode
