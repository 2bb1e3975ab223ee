"""Labels of all methods compared with the truth and with each other, on the same units.

It is decided here once which units have a known truth and which labels are right; every table reads it from here.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cd_exp.dissection import RunData
from cd_exp.errors import InputError, MissingTexts
from cd_exp.evaluation.baselines import Method, MethodResult, run_method
from cd_exp.evaluation.judges import Judge
from cd_exp.evaluation.judges.run_judge import JudgeResult, run_judge
from cd_exp.features import note_long_prompts, text_embeddings
from cd_exp.labels import note_flags as notes_of_marks
from cd_exp.metrics import adjust_p_values, compare_methods, describe_ranking, label_agreement, summarise
from cd_exp.metrics.intervals import clopper_pearson_interval
from cd_exp.metrics.metrics import rowwise_cosines
from cd_exp.metrics.name_matching import (
    NameMatcher,
    accepted_columns,
    are_same_as_published,
    find_in_names,
    matcher_for,
)
from cd_exp.probes import note_pixels
from cd_exp.records import CLIP_DISSECT, Accepted, Concepts, Labels, RunResult, UnitResults, has_images

__all__ = ["TextEncoder", "accepted_columns", "compare_methods_by_layer", "judge_labels", "load_sentence_encoder"]

TextEncoder = Callable[[Sequence[str]], Tensor | np.ndarray]
"""`names -> Float["names dim"]`, normalised or not."""

SENTENCES = "sentence-transformers/all-mpnet-base-v2"
_TOP = 5


def judge_labels(
    labels: Labels,
    truth: Sequence[Accepted] | None = None,
    *,
    judgeable: Collection[str] | None = None,
    clip_text: TextEncoder | None = None,
    sentences: TextEncoder | None = None,
) -> UnitResults:
    """One method's labels of one layer against the truth, as far as anything is known of its units.

    Labels with ranks are right where the rank is 1, and within five where it is at most 5: that is by concept, not by
    name, so of two classes called the same only the unit's own one counts. Labels without are compared by name. By the
    published rule a label is right where it also is so letter for letter (`are_same_as_published`).

    A unit is judged when its truth is known, some concept names it (labels with ranks), and `judgeable` holds one of
    its names. A judged unit without a label is wrong. Units that a published file leaves out are not judged.

    Args:
        labels: of any method.
        truth: the names that are right, by unit number; `labels.truth` where absent.
        judgeable: restricts judging to units whose true name is in this vocabulary, as Broden's scenes for a network of
            Places365 classes. Compared by the documented rule.
        clip_text: CLIP's text tower, for the cosine between label and truth.
        sentences: a sentence encoder, as of `load_sentence_encoder`, for the same.
    """
    right = _truth_names(labels, truth)
    has_truth = np.array([accepted is not None for accepted in right], dtype=bool)
    always = _is_always_known(labels)
    if not has_truth.any():
        return UnitResults(**always)
    judged = has_truth if judgeable is None else has_truth & np.array(find_in_names(right, judgeable))
    if labels.ranks is not None:
        judged = judged & ~np.isnan(labels.ranks)
    rows = np.flatnonzero(judged)
    rank = None if labels.ranks is None else labels.ranks[rows]
    top1 = _is_right(labels, right, rows, within=1) if rank is None else rank == 1
    names = labels.descriptions  # computed each time it is read
    named = np.array([row for row in np.flatnonzero(has_truth) if names[row]], dtype=np.int64)
    matcher, true = NameMatcher.of(names), matcher_for(right)
    pairs = [(matcher.plain(names[row]), true.plain(right[row][0])) for row in named]
    return UnitResults(
        **always,
        units=labels.units[rows],
        top1=top1,
        top1_published=top1 & _is_right_as_published(labels, right, rows),
        top5=_is_within_five(labels, right, rows, rank),
        rank=rank,
        similarity=labels.similarity[rows] if np.isfinite(labels.similarity[rows]).any() else None,
        stability=None if labels.stability is None else labels.stability[rows],
        named=labels.units[named],
        clip_cosine=_compare_texts(pairs, clip_text),
        sentence_cosine=_compare_texts(pairs, sentences),
    )


def _is_always_known(labels: Labels) -> dict[str, Any]:
    """What needs no truth."""
    names = ("p_right", "general_right", "general_bits", "graded", "faithfulness", "candidates")
    return {
        "labelled": labels.units,
        "layer_stability": labels.stability,
        "dead": _has_flag(labels, "dead"),
        "always_on": _has_flag(labels, "always_on"),
        "names": np.array(labels.descriptions, dtype=np.str_),
        "floor": labels.floor,
        **{name: getattr(labels, name) for name in names},
    }


def _has_flag(labels: Labels, flag: str) -> Bool[np.ndarray, " neurons"] | None:
    """Which units have a flag; None for a method whose units were not looked at."""
    return np.array([flag in unit for unit in labels.marks], dtype=bool) if labels.marks else None


def compare_methods_by_layer(
    methods: Mapping[str, Mapping[str, Labels]],
    judgements: Mapping[str, Mapping[str, UnitResults]],
    *,
    seed: int,
) -> list[dict[str, Any]]:
    """One row for each layer and pair of methods: paired tests on the units in common, and how often they agree.

    Every p has the one adjusted for all tests of these rows beside it (`metrics.adjusted`).
    """
    rows = []
    for first, second in combinations(methods, 2):
        for layer in methods[first]:
            if layer not in methods[second]:
                continue
            row: dict[str, Any] = {"layer": layer, "first": first, "second": second}
            same = label_agreement(methods[first][layer], methods[second][layer])
            row |= {} if same is None else {"agreement": same}
            row |= compare_methods(judgements[first][layer], judgements[second][layer], seed=seed)
            rows.append(row)
    return adjust_p_values(rows)


def load_sentence_encoder(model: str = SENTENCES, *, device: str = "cpu") -> TextEncoder | None:
    """A sentence encoder of sentence-transformers, loaded (9 s) when it is first called; never downloaded.

    Args:
        model: its name on the Hugging Face hub, looked for among what was downloaded before, or a local folder.
        device: where it runs.

    Returns:
        None where sentence-transformers is not installed, or the named model was never downloaded.

    Raises:
        InputError: where `model` is written as a folder that does not exist.
    """
    if find_spec("sentence_transformers") is None:
        return None
    if not Path(model).expanduser().is_dir():
        if model.startswith((".", "~", "/")):
            raise InputError(
                f"sentence encoder {model!r} is no folder; give one, or a model name such as {SENTENCES!r}"
            )
        if not _is_downloaded(model):
            return None

    @cache
    def load():
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(Path(model).expanduser()), device=device, local_files_only=True)

    def encode(names: Sequence[str]) -> Float[np.ndarray, "names dim"]:
        return load().encode(list(names), show_progress_bar=False)

    return encode


def _is_downloaded(model: str) -> bool:
    from huggingface_hub import constants

    name = model if "/" in model else f"sentence-transformers/{model}"
    if not (Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}").is_dir():
        return False
    from huggingface_hub import try_to_load_from_cache  # half a second

    return isinstance(try_to_load_from_cache(name, "modules.json"), str)


def _truth_names(labels: Labels, truth: Sequence[Accepted] | None) -> tuple[Accepted, ...]:
    """The right names of each labelled unit, in the order of the labels."""
    if truth is None:
        return labels.truth or (None,) * len(labels.units)
    return tuple(truth[unit] for unit in labels.units)


def _is_right(
    labels: Labels, truth: Sequence[Accepted], rows: np.ndarray, *, within: int
) -> Bool[np.ndarray, " run_judge"]:
    """Whether one of the first `within` labels of each unit is the same as one of its names."""
    listed, true = NameMatcher.of(name for top in labels.top for name in top), matcher_for(truth)
    wanted = [frozenset().union(*map(true.normal_forms, truth[row] or ())) for row in rows]
    forms = [frozenset().union(*map(listed.normal_forms, labels.top[row][:within])) for row in rows]
    return np.array([not a.isdisjoint(b) for a, b in zip(wanted, forms, strict=True)], dtype=bool)


def _is_right_as_published(
    labels: Labels, truth: Sequence[Accepted], rows: np.ndarray
) -> Bool[np.ndarray, " run_judge"]:
    names = labels.descriptions
    right = [
        bool(names[row]) and any(are_same_as_published(names[row], name) for name in truth[row] or ()) for row in rows
    ]
    return np.array(right, dtype=bool)


def _is_within_five(
    labels: Labels, truth: Sequence[Accepted], rows: np.ndarray, rank: Float[np.ndarray, " run_judge"] | None
) -> Bool[np.ndarray, " run_judge"] | None:
    """None for a method that never gives five labels: its single label is no top 5."""
    if rank is not None:
        return rank <= _TOP
    if not any(len(names) >= _TOP for names in labels.top):
        return None
    return _is_right(labels, truth, rows, within=_TOP)


def _compare_texts(pairs: Sequence[tuple[str, str]], encode: TextEncoder | None) -> Float[np.ndarray, " named"] | None:
    """The cosine between label and truth, each distinct text encoded once."""
    if encode is None or not pairs:
        return None
    row_of_text = {text: row for row, text in enumerate(dict.fromkeys(text for pair in pairs for text in pair))}
    try:
        vectors = torch.as_tensor(encode(tuple(row_of_text))).cpu().double().numpy()
    except MissingTexts:  # finished embeddings need not hold the truth's names
        return None
    labelled, wanted = (vectors[[row_of_text[text] for text in side]] for side in zip(*pairs, strict=True))
    return rowwise_cosines(labelled, wanted)


@dataclass(frozen=True, eq=False)
class MethodResults:
    """Who scores the labels, and how our own are made: they are chosen again on a part of the images for it."""

    judge: Judge
    ours: Method


def evaluate_methods(
    run: RunData,
    methods: Mapping[str, Method],
    *,
    images: int,
    judging: MethodResults | None = None,
) -> RunResult:
    """Judge our labels and those of the other methods by the same metrics, and compare them on the same units.

    Args:
        run: our labels with the features they came from.
        methods: the other methods, each labels by itself.
        images: how many top images to keep for each unit.
        judging: scores all labels on images that they were not chosen on; None leaves that out.
    """
    others = {name: run_method(method, run) for name, method in methods.items()}
    by_method: dict[str, Mapping[str, Labels]] = {CLIP_DISSECT: run.labels}
    by_method |= {name: other.labels for name, other in others.items()}
    by_method = {name: _grade_labels(by_layer, run) for name, by_layer in by_method.items()}
    scored = (
        run_judge(judging.judge, run, {CLIP_DISSECT: judging.ours, **methods}, by_method)
        if judging
        else JudgeResult(by_method)
    )
    by_method = dict(scored.methods)
    judgements = _judge_methods(run, by_method)
    by_method = {
        name: {layer: _with_verdicts(labels, judgements[name][layer]) for layer, labels in by_layer.items()}
        for name, by_layer in by_method.items()
    }
    judgements |= {name: _note_unjudged(by_layer) for name, by_layer in scored.references.items()}
    metrics = _measure_layers(run, judgements)
    comparisons = list(compare_methods_by_layer(by_method, judgements, seed=run.seed))
    score = judging.judge.ranks_by if judging else ""
    ranks = describe_ranking(comparisons, f"faithfulness.{score}") if score else []
    with_images = run.labels if has_images(run.probe) else ()  # where only ids are known there is nothing to show
    return RunResult(
        labels=by_method[CLIP_DISSECT],
        metrics=metrics.pop(CLIP_DISSECT),
        seconds=run.seconds,
        top_images={layer: list_top_images(run, layer, images) for layer in with_images},
        probe=run.probe,
        baselines={name: by_method[name] for name in others},
        baseline_metrics=metrics,
        comparisons=comparisons,
        notes=[*collect_notes(run, others), *_notes_on_truth(run, judgements), *scored.notes, *ranks],
        files={name: text for other in others.values() for name, text in other.files.items()},
    )


def _measure_layers(
    run: RunData, judgements: Mapping[str, Mapping[str, UnitResults]]
) -> dict[str, dict[str, dict[str, Any]]]:
    """The metrics of every layer by method; those of our labels have the prior that was chosen besides."""
    metrics = {
        method: {
            layer: summarise(judgement, total_units=len(run.labels[layer].units), seed=run.seed)
            for layer, judgement in by_layer.items()
        }
        for method, by_layer in judgements.items()
    }
    for layer, layer_metrics in metrics[CLIP_DISSECT].items():
        layer_metrics |= _prior_metrics(run, layer)
    return metrics


def _prior_metrics(run: RunData, layer: str) -> dict[str, float]:
    """The prior that was chosen for a layer and how clear that was; nothing where none was."""
    choice = run.priors.get(layer)
    if choice is None:
        return {}
    return {
        "prior_weight": choice.weight,
        "prior_information": choice.information[choice.weight],
        "prior_margin": choice.margin,
        "prior_agreement": choice.agreement[choice.weight],
    }


def _grade_labels(by_layer: Mapping[str, Labels], run: RunData) -> dict[str, Labels]:
    """The labels with their nearness to the truth in the run's hierarchy, NaN where one is not in it."""
    if run.taxonomy is None:
        return dict(by_layer)
    graded = {}
    for layer, labels in by_layer.items():
        own = run.labels.get(layer)
        truth = {} if own is None else dict(zip(own.units.tolist(), own.truth, strict=False))
        values = [
            run.taxonomy.grade(name, truth.get(unit) or ())
            for unit, name in zip(labels.units.tolist(), labels.descriptions, strict=True)
        ]
        graded[layer] = replace(labels, graded=np.array([np.nan if value is None else value for value in values]))
    return graded


def _judge_methods(run: RunData, methods: Mapping[str, Mapping[str, Labels]]) -> dict[str, dict[str, UnitResults]]:
    encode, sentences = make_text_encoder(run), load_sentence_encoder()

    def held_against(labels: Labels, truth: Sequence[Any] | None) -> UnitResults:
        return judge_labels(labels, truth, judgeable=run.concepts.names, clip_text=encode, sentences=sentences)

    return {
        method: {layer: held_against(labels, run.labels[layer].truth or None) for layer, labels in by_layer.items()}
        for method, by_layer in methods.items()
    }


def _with_verdicts(labels: Labels, judgement: UnitResults) -> Labels:
    """The labels with what the judgement says of each: every reader of a run takes it from here."""
    if judgement.units is None or judgement.top1 is None:
        return replace(labels, right=np.full(len(labels.units), -1))
    verdicts = dict(zip(judgement.units.tolist(), judgement.top1.tolist(), strict=True))
    return replace(labels, right=np.array([int(verdicts.get(unit, -1)) for unit in labels.units.tolist()]))


def _note_unjudged(by_layer: Mapping[str, Labels]) -> dict[str, UnitResults]:
    """References have scores, and are compared with no truth."""
    return {layer: judge_labels(replace(labels, truth=(), ranks=None)) for layer, labels in by_layer.items()}


def _notes_on_truth(run: RunData, judgements: Mapping[str, Mapping[str, UnitResults]]) -> list[str]:
    """Where finished embeddings lack names that the cosine between label and truth needs, and where probabilities
    contradict the truth.
    """
    every = [judgement for by_layer in judgements.values() for judgement in by_layer.values()]
    lacking = any(j.named is not None and len(j.named) and j.clip_cosine is None for j in every)
    absent = [f"clip {run.clip.name} has no text of some true names: their CLIP cosine is absent"] if lacking else []
    return [*absent, *note_far_probabilities(run.labels, judgements[CLIP_DISSECT])]


FAR = 0.1
"""Further than this outside the interval of the share right, a mean probability misleads whoever reads it."""


def note_far_probabilities(by_layer: Mapping[str, Labels], judgements: Mapping[str, UnitResults]) -> list[str]:
    """A note on each layer whose known truth contradicts the probabilities that its labels are right."""
    notes = []
    for layer, labels in by_layer.items():
        units, right = judgements[layer].units, judgements[layer].top1
        if labels.p_right is None or units is None or right is None or not len(right):
            continue
        chances = labels.p_right[np.isin(labels.units, units) & np.isfinite(labels.p_right)]
        low, high = (bound / 100 for bound in clopper_pearson_interval(right))
        if not len(chances) or low - FAR <= (mean := chances.mean()) <= high + FAR:
            continue
        notes.append(
            f"p_right of {layer} is {mean:.2f} in the mean, and {right.mean():.2f} of the {len(right)} "
            f"units with a known truth are right: its constants are those of another network. "
            f"Fit your own: python -m cd_exp.calibrate RUN --layer {layer} --out FILE"
        )
    return notes


def list_top_images(run: RunData, layer: str, count: int) -> np.ndarray:
    """Indices into the probe of the images that excite each unit most."""
    best = run.features.strongest(layer, count).indices.T.numpy()
    return np.asarray(run.features.kept)[best]


def collect_notes(run: RunData, others: Mapping[str, MethodResult]) -> list[str]:
    """What a reader of the numbers should know."""
    notes = [*run.probe.notes, *note_pixels(run.probe), *run.concepts.notes]
    notes += [*getattr(run.model, "list_notes", ()), *run.store.reports]
    notes += note_long_prompts(run.clip, run.concepts, store=run.store)
    notes += [note for other in others.values() for note in other.notes]
    if run.clip.name == "shapes" and has_images(run.probe) and run.probe.renderer is None:
        notes.append(
            "clip shapes knows nothing but the rendered scenes of probe=shapes; for photographs: clip=vit_b_16"
        )
    if run.features.skipped:
        notes.append(f"{len(run.features.skipped)} unreadable images were left out, first {run.features.skipped[0]}")
    return [*notes, *run.notes, *notes_of_marks(run.labels)]


def make_text_encoder(run: RunData) -> TextEncoder:
    """CLIP's text tower for any names: those of the concept set are there already, others are embedded and kept."""
    vectors = dict(zip(run.concepts.names, run.texts, strict=True))

    def encode(names: Sequence[str]) -> Tensor:
        missing = tuple(name for name in names if name not in vectors)
        if missing:
            more = Concepts(missing, run.concepts.templates, name="truth")
            texts = text_embeddings(run.clip, more, store=run.store, device=run.settings.device)
            vectors.update(zip(missing, texts, strict=True))
        return torch.stack([vectors[name] for name in names])

    return encode
