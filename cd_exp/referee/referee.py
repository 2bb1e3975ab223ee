"""Labellers of the same units side by side: runs, files of labels and published tables under the same judges.

Every labeller is scored on the images that the first run held out: a run's labels for it are those that it chose on
the other images (`judged_label`), a file's are as they are. Each stands beside its floor, and two are compared by a
paired test with Holm's adjustment over all pairs and layers of a metric, or it is said that they cannot be ranked.
"""

import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from cd_exp.config.resolved import restore_config
from cd_exp.dissection import RunData
from cd_exp.errors import InputError, unknown_name_error
from cd_exp.evaluation.baselines.published import read_published_labels
from cd_exp.evaluation.evaluate import judge_labels
from cd_exp.evaluation.judges import AnnotationsJudge, HeldOut, ImagesJudge, Judge, LabelsToScore, WhitenedJudge
from cd_exp.evaluation.judges.run_judge import (
    WithFloor,
    draw_references,
    hold_out_images,
    label_references,
    score_with_floors,
)
from cd_exp.experiment import Experiment
from cd_exp.features import extract, text_embeddings
from cd_exp.io.text import escape_for_terminal, make_file_name
from cd_exp.metrics import BY_KEY, adjust_p_values, compare_methods, describe_ranking, label_agreement, summarise
from cd_exp.plugins import find_code, refuse_untrusted
from cd_exp.records import CLIP_DISSECT, Labels, UnitResults
from cd_exp.referee.published_scores import Agreement, ScoreTable, lay_beside, read_score_table
from cd_exp.results.labels_csv import read_labels_csv
from cd_exp.results.load_run import read_manifest_file

SAME = ("model", "units", "images")
"""The fingerprints in which runs have to agree, for their units and images to be the same."""


COMPARED = ("top1", *(f"faithfulness.{name}" for name in ("whitened", "which_unit", "auprc", "activation_rate")))
"""The metrics by which labellers are compared two by two."""
BELIEFS = {"stability": "stability_mean", "p_right": "p_right_mean"}
HUMAN = "human_"
"""The columns of a run's labels whose means stand in the table, and what they are called there."""


@dataclass(frozen=True, eq=False)
class Refereed:
    """The result of a referee.

    Attributes:
        metrics: by layer and labeller, as `metrics.json` has them; references after the labellers.
        references: which of the labellers are references.
        comparisons: a row for each layer and two labellers, as `comparisons.json` has them.
        sentences: which labellers differ, and which cannot be ranked.
        agreements: published scores beside ours.
        notes: for a reader of the numbers.
        about: of what the judges were made.
    """

    metrics: Mapping[str, Mapping[str, Mapping[str, Any]]]
    references: tuple[str, ...]
    comparisons: Sequence[Mapping[str, Any]]
    sentences: Sequence[str] = ()
    agreements: Sequence[Agreement] = ()
    notes: Sequence[str] = ()
    about: Mapping[str, Any] = field(default_factory=dict)


def referee(
    runs: Sequence[Path],
    files: Sequence[Path] = (),
    published: Sequence[Path] = (),
    *,
    layer: str | None = None,
    trust: bool = False,
) -> Refereed:
    """Put labellers of the same units in one table.

    Args:
        runs: folders of finished runs on the same units and images. The first one's features, which are read from the
            cache, and its CLIP are what the judges have.
        files: labels of others for these units, in any layout of `cd_exp.evaluation.baselines.published`.
        published: tables of per-unit scores published for these units.
        layer: of files and tables that name none, and then the only one that is looked at.
        trust: whether code that the first run's folder names may run.

    Raises:
        InputError: runs that are not on the same units and images, features that the cache no longer has, a file of
            other units.
    """
    if not runs:
        raise InputError("the judges need a run: give the folder of a finished one, whose features are in the cache")
    run, judges = reopen(runs[0], trust=trust)
    for other in runs[1:]:
        _same_units(runs[0], other)
    tables = [read_score_table(path) for path in published]
    own = list_label_files(runs)
    labels = {name: read_labels_csv(path) for name, path in own.items()} | read_label_files(files, run, layer=layer)
    labels |= _labels_from_tables(tables, run, taken=labels)
    if layer is not None:
        if layer not in run.labels:
            raise unknown_name_error("layer", layer, run.labels, where=f"in {runs[0]}")
        run = replace(run, labels={layer: run.labels[layer]})
        labels = {name: {layer: by[layer]} for name, by in labels.items() if layer in by}
    scored, beside, notes = _score_labellers(run, judges, labels)
    metrics, comparisons = _metrics(run, scored, beside)
    for name, path in own.items():
        for of_layer, means in read_beliefs(path).items():
            if of_layer in metrics:
                metrics[of_layer][name] = means | metrics[of_layer][name]
    scores = dict.fromkeys(one.ranks_by for one in judges if one.ranks_by)
    sentences = [text for score in scores for text in describe_ranking(comparisons, f"faithfulness.{score}")]
    return Refereed(
        metrics=metrics,
        references=tuple(beside),
        comparisons=comparisons,
        sentences=sentences,
        agreements=_beside(tables, scored, seed=run.seed),
        notes=[*notes, *_chosen_on_all(labels)],
        about=_about(runs, files, published, run, judges),
    )


def reopen(folder: Path, *, trust: bool = False) -> tuple[RunData, list[Judge]]:
    """What a finished run has, its features from the cache; and the judges that can score its units.

    Args:
        folder: of the run.
        trust: whether code that it names may run.

    Raises:
        InputError: no finished run, code without trust, or features that are no longer stored.
    """
    manifest = read_manifest_file(folder)
    if not manifest.get("config"):
        raise InputError(f"{folder} has no manifest.json that tells its settings; run it again")
    config = {**manifest["config"], "baseline": None, "logger": {"_target_": "cd_exp.results.wandb.NoLogger"}}
    for note in refuse_untrusted(find_code(config), folder=folder, trust=trust, stored=manifest.get("code") or {}):
        print(f"note: {escape_for_terminal(note)}", file=sys.stderr)
    parts = Experiment.build(restore_config(config), manifest.get("choices", {}))
    settings = replace(parts.settings, only_stored=True)
    features = extract(parts.model, parts.probe, parts.clip, layers=parts.units, store=parts.store, settings=settings)
    texts = text_embeddings(parts.clip, parts.concepts, store=parts.store, device=settings.device)
    labels = read_labels_csv(folder / "labels.csv")
    run = RunData.of(parts, features=features, texts=texts, labels=labels, seconds={})
    share = parts.judge.held_out if parts.judge else WhitenedJudge().held_out
    judges: list[Judge] = [WhitenedJudge(held_out=share)]
    try:
        AnnotationsJudge().check(parts.probe)
        judges.append(AnnotationsJudge(held_out=share))
    except InputError:
        pass  # a probe without masks and classes
    if isinstance(parts.judge, ImagesJudge):
        judges.append(parts.judge)
    return run, judges


def _same_units(first: Path, other: Path) -> None:
    """Refuse a run of other units or images."""
    prints = [read_manifest_file(folder).get("fingerprints", {}) for folder in (first, other)]
    unlike = [key for key in SAME if prints[0].get(key) != prints[1].get(key)]
    if unlike:
        raise InputError(
            f"{other} and {first} are not of the same {' and '.join(unlike)}; compared are labels of the same units "
            "on the same images"
        )


def list_label_files(runs: Sequence[Path]) -> dict[str, Path]:
    """The file of every method of each run; called as in the run where there is one, else with the run's folder."""
    paths: dict[str, Path] = {}
    for folder in runs:
        resolved, length = folder.resolve(), 1
        while len({run.resolve().parts[-length:] for run in runs}) < len({run.resolve() for run in runs}):
            length += 1
        name = "/".join(resolved.parts[-length:])
        methods = {CLIP_DISSECT: "labels.csv"}
        methods |= {
            method: f"labels_{make_file_name(method)}.csv" for method in read_manifest_file(folder).get("baselines", ())
        }
        for method, file in methods.items():
            called = method if len(runs) == 1 else name if method == CLIP_DISSECT else f"{name} {method}"
            paths[called] = folder / file
    return paths


def read_beliefs(path: Path) -> dict[str, dict[str, float]]:
    """By layer, the means of what a run's file says of its labels: stability, probability to be right, human ratings.

    Args:
        path: a `labels.csv` of a run.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    means: dict[str, dict[str, float]] = {}
    for column in rows[0] if rows else ():
        if column not in BELIEFS and not column.startswith(HUMAN):
            continue
        for layer in dict.fromkeys(row["layer"] for row in rows):
            values = [float(row[column]) for row in rows if row["layer"] == layer and row[column]]
            if values:
                means.setdefault(layer, {})[BELIEFS.get(column, column)] = float(np.mean(values))
    return means


def read_label_files(files: Sequence[Path], run: RunData, *, layer: str | None) -> dict[str, dict[str, Labels]]:
    """The labels of each file, called as the file."""
    units = {name: len(labels.units) for name, labels in run.labels.items()}
    labels_of: dict[str, dict[str, Labels]] = {}
    for path in files:
        read = read_published_labels(path, layer=layer, units=units)
        fitting = {name: labels for name, labels in read.items() if name in units}
        if not fitting:
            raise InputError(f"{path} labels {', '.join(read)} and no layer of the run, {', '.join(units)}")
        labels_of[path.stem] = fitting
    return labels_of


def _labels_from_tables(
    tables: Sequence[ScoreTable], run: RunData, *, taken: Mapping[str, Any]
) -> dict[str, dict[str, Labels]]:
    labels_of: dict[str, dict[str, Labels]] = {}
    for table in tables:
        if table.layer not in run.labels:
            raise InputError(f"the table {table.method} is of {table.layer}, and the run has {', '.join(run.labels)}")
        if table.units[-1] >= len(run.labels[table.layer].units):
            raise InputError(
                f"the table {table.method} has unit {table.units[-1]} of {table.layer}, which has "
                f"{len(run.labels[table.layer].units)} units in the run"
            )
        if table.method in taken:
            raise InputError(f"{table.method} is the name of a labeller and of a published table; rename the file")
        labels_of.setdefault(table.method, {})[table.layer] = table.as_labels()
    return labels_of


def _as_labels_to_score(labels: Labels) -> LabelsToScore:
    return LabelsToScore(labels.layer, labels.units, labels.judged_label or labels.descriptions)


def _score_labellers(
    run: RunData, judges: Sequence[Judge], labels: Mapping[str, Mapping[str, Labels]]
) -> tuple[dict[str, dict[str, Labels]], dict[str, dict[str, Labels]], list[str]]:
    """The labels of all labellers and of the references with the scores of all judges, and what the judges know."""
    asked = {(name, layer): _as_labels_to_score(own) for name, by in labels.items() for layer, own in by.items()}
    held = hold_out_images(judges[0], run)
    drawn = draw_references(judges[0], held, run.labels, seed=run.seed)
    scored: dict[tuple[str, str], WithFloor] = {}
    for one in judges:
        for key, judged in score_with_floors(one, held, asked | drawn, seed=run.seed).items():
            earlier = scored.get(key, WithFloor({}, judged.shuffled, {}))
            scored[key] = WithFloor(
                {**earlier.scores, **judged.scores}, judged.shuffled, {**earlier.floor, **judged.floor}
            )
    with_scores = {
        name: {
            layer: replace(own, judged_label=tuple(asked[name, layer].labels), faithfulness=scored[name, layer].scores,
                           floor=scored[name, layer].floor)
            for layer, own in by.items()
        }
        for name, by in labels.items()
    }  # fmt: skip
    beside = label_references(drawn, scored, of=next(iter(labels)))
    return with_scores, beside, _notes(asked, scored, held)


def _notes(
    asked: Mapping[tuple[str, str], LabelsToScore], scored: Mapping[tuple[str, str], WithFloor], held: HeldOut
) -> list[str]:
    notes = [
        f"Scored on {len(held.scored_on)} images that the runs did not choose their labels on; whitening is learned on "
        f"the {len(held.chosen_on)} others.",
        f"The judge asks {held.clip.name}: circular for labels that it chose (of a similarity function or "
        "linear_explanations), which it favours over those of masks, people or another CLIP.",
    ]
    for (name, layer), one in asked.items():
        unknown = int(np.isnan(scored[name, layer].scores["whitened"]).sum())
        if unknown:
            notes.append(f"{unknown} of {len(one.labels)} labels of {name}, {layer}, are not known to the judge.")
    return notes


def _metrics(
    run: RunData, labels: Mapping[str, Mapping[str, Labels]], beside: Mapping[str, Mapping[str, Labels]]
) -> tuple[dict[str, dict[str, dict[str, Any]]], list[dict[str, Any]]]:
    """The metrics of every labeller and reference by layer, and the comparisons of labellers."""
    names = run.concepts.names
    results = {
        name: {layer: judge_labels(own, run.labels[layer].truth or None, judgeable=names) for layer, own in by.items()}
        for name, by in labels.items()
    }
    comparisons = compare_labellers(labels, results, seed=run.seed)
    results |= {name: {layer: judge_labels(own) for layer, own in by.items()} for name, by in beside.items()}
    metrics: dict[str, dict[str, dict[str, Any]]] = {}
    for name, by in results.items():
        for layer, result in by.items():
            units = len(run.labels[layer].units)
            metrics.setdefault(layer, {})[name] = summarise(result, total_units=units, seed=run.seed)
    return metrics, comparisons


def compare_labellers(
    labels: Mapping[str, Mapping[str, Labels]], results: Mapping[str, Mapping[str, UnitResults]], *, seed: int
) -> list[dict[str, Any]]:
    """One row for each layer and two labellers: paired tests, Holm's p over all rows of a metric, what could be seen.

    A p by sign flips is at least 2 / (draws + 1), which Holm multiplies by the number of tests: there are as many draws
    as leave a clear difference clear.
    """
    pairs = [
        (layer, first, second)
        for first, second in combinations(labels, 2)
        for layer in labels[first]
        if layer in labels[second]
    ]
    figures, rows = [BY_KEY[key] for key in COMPARED], []
    for layer, first, second in pairs:
        row: dict[str, Any] = {"layer": layer, "first": first, "second": second}
        same = label_agreement(labels[first][layer], labels[second][layer])
        row |= {} if same is None else {"agreement": same}
        of_layer = results[first][layer], results[second][layer]
        rows.append(row | compare_methods(*of_layer, seed=seed, resamples=max(9999, 80 * len(pairs)), figures=figures))
    return adjust_p_values(rows, by_metric=True)


def _beside(tables: Sequence[ScoreTable], labels: Mapping[str, Mapping[str, Labels]], *, seed: int) -> list[Agreement]:
    """The published scores of each layer beside the whitened ones of the same explanations."""
    agreements: list[Agreement] = []
    for layer in dict.fromkeys(table.layer for table in tables):
        same = [table for table in tables if table.layer == layer]
        ours = {table.method: labels[table.method][layer].faithfulness["whitened"] for table in same}
        agreements += lay_beside(same, ours, seed=seed)
    return agreements


def _chosen_on_all(labels: Mapping[str, Mapping[str, Labels]]) -> list[str]:
    """A note on runs whose labels were chosen on the very images that score them."""
    unheld = [
        name
        for name, by in labels.items()
        if any(own.ranks is not None and not own.judged_label for own in by.values())
    ]
    if not unheld:
        return []
    return [
        f"{', '.join(unheld)}: run without a judge, so the labels were chosen on all images, the scored ones among "
        "them; run with judge=whitened for labels chosen on the others."
    ]


def _about(
    runs: Sequence[Path], files: Sequence[Path], published: Sequence[Path], run: RunData, judges: Sequence[Judge]
) -> dict[str, Any]:
    return {
        "runs": [folder.name for folder in runs],
        "files": [path.name for path in files],
        "published": [f"{path.parent.name}/{path.name}" for path in published],
        "model": run.model.name, "probe": run.probe.name, "clip": run.clip.name, "images": len(run.features.kept),
        "seed": run.seed, "judges": [type(one).__name__ for one in judges],
    }  # fmt: skip
