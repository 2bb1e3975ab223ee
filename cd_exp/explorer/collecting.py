"""From a run to what the pages hold: plain values, typed arrays and sheets of thumbnails."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cd_exp.baselines import RunRecord
from cd_exp.dissection import Dissection
from cd_exp.evaluate import judge
from cd_exp.explorer.encoding import Names, packed
from cd_exp.explorer.evidence import Evidence, evidence, excited, shown_for
from cd_exp.explorer.sheets import Sheets, thumbnails
from cd_exp.metrics import FIGURES
from cd_exp.types import MARKS, Labels, Outcome

SCHEMA = 1
OURS = "clip_dissect"
TOP = 5
OF_A_CONCEPT = 8  # images that CLIP thinks show it
MOST = 12_000  # distinct images: with more, fewer of each unit and concept are kept
FEWER = ((10, 3, 8), (10, 1, 4), (6, 1, 2), (4, 0, 0), (3, 0, 0), (2, 0, 0), (1, 0, 0))
"""Images kept of a unit, about each percentile, and of a concept: the first row with at most `MOST` distinct ones."""


@dataclass(frozen=True)
class Content:
    """What a run's pages hold: JSON values by name (`run`, `layer-0`, ...) and the sheets of thumbnails."""

    parts: Mapping[str, Any]
    sheets: Mapping[str, bytes]


def collect(run: RunRecord, found: Dissection, outcome: Outcome, *, manifest: Mapping[str, Any], title: str) -> Content:
    """What the explorer shows of a run.

    Args:
        run: what the run has.
        found: the features, with our labels.
        outcome: all labels, judged and compared.
        manifest: how the run was asked for, and with what it was made.
        title: what the pages are called.
    """
    names = Names()
    shown = {layer: evidence(values) for layer, values in found.features.activations.items()}
    used = _concepts_used(run, outcome)
    texts = found.texts[[column for _, column in used]]
    pictures, cosines = shown_for(found.features.images, texts, count=OF_A_CONCEPT)
    most = _kept(shown, pictures)
    rows = _distinct(shown, pictures, most)
    kept = np.asarray(found.features.kept)
    probe_images = kept[rows]
    sheets = thumbnails(run.probe, probe_images.tolist(), store=run.store)
    judged = _judged(run, outcome)
    parts: dict[str, Any] = {
        "run": {
            "schema": SCHEMA,
            "title": title,
            **_about(run, outcome, manifest),
            "marks": list(MARKS),
            "layers": [
                {
                    "name": layer,
                    "units": len(labels.units),
                    "detail": f"layer-{number}",
                    "pictures": packed(_places(rows, shown[layer].strongest[:, : most[0]])),
                }
                for number, (layer, labels) in enumerate(outcome.labels.items())
            ],
            "methods": [
                {"name": method, "layers": {layer: table(labels, judged[method][layer], names)
                                            for layer, labels in by_layer.items()}}
                for method, by_layer in {OURS: outcome.labels, **outcome.baselines}.items()
            ],
            "images": _images(run, probe_images, sheets),
            "concepts": {
                "name": packed([names.number(name) for name, _ in used]),
                "pictures": packed(_places(rows, pictures[:, : most[2]])),
                "cosines": packed(cosines[:, : most[2]]),
            },
        }
    }  # fmt: skip
    for number, (layer, labels) in enumerate(outcome.labels.items()):
        detail = _detail(shown[layer], labels, rows, most, names)
        units, above = excited(found.features.activations[layer], rows.tolist())
        parts[f"layer-{number}"] = detail | {"excited": packed(units), "above": packed(above)}
    parts["run"]["names"] = names.texts
    return Content(parts, sheets.files)


def table(labels: Labels, right: Mapping[int, bool], names: Names) -> dict[str, Any]:
    """One method's labels of one layer as columns; `right` is 1, 0, or -1 where it is not known."""
    count = len(labels.units)
    truth = labels.truth or (None,) * count
    numbers = {"similarity": labels.similarity, "rank": labels.ranks, "margin": labels.margin}
    numbers |= {"stability": labels.stability}
    numbers |= {f"faithfulness.{name}": values for name, values in labels.faithfulness.items()}
    known = {
        key: packed(np.asarray(values, dtype=np.float32))
        for key, values in numbers.items()
        if values is not None and not np.isnan(values).all()
    }
    marks = [sum(1 << MARKS.index(mark) for mark in found) for found in labels.marks] or [0] * count
    judged_label = {"judged_label": packed([names.number(name) for name in labels.judged_label])}
    return {
        "units": packed(labels.units),
        "top": packed(names.rows(labels.top, TOP)),
        "truth": packed(
            names.rows((accepted or () for accepted in truth), max(map(len, filter(None, truth)), default=1))
        ),
        "right": packed([int(right[unit]) if unit in right else -1 for unit in labels.units.tolist()]),
        "marks": packed(marks),
        "numbers": known,
        **(judged_label if labels.judged_label else {}),
    }


def _detail(shown: Evidence, labels: Labels, rows: np.ndarray, most: Sequence[int], names: Names) -> dict[str, Any]:
    """What the page of one unit needs besides; loaded for the layer that is looked at."""
    found = {
        "values": packed(shown.values[:, : most[0]]),
        "weaker": packed(_places(rows, shown.weaker[:, :, : most[1]])),
        "weaker_values": packed(shown.weaker_values[:, :, : most[1]]),
        "histogram": packed(shown.histogram),
        "low": packed(shown.low),
        "high": packed(shown.high),
        "nearest": packed(shown.nearest),
        "correlation": packed(shown.correlation),
        "compared_on": shown.compared_on,
    }
    if labels.top_scores is not None:
        found["scores"] = packed(labels.top_scores)
    if labels.stable_set:
        found["stable"] = packed(names.rows(labels.stable_set, max(1, *map(len, labels.stable_set))))
    return found


def _about(run: RunRecord, outcome: Outcome, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a reader wants to know first, and the exact command."""
    choices, config = manifest.get("choices", {}), manifest.get("config", {})
    settings = config.get("similarity") or {}
    words = ", ".join(f"{key}={value}" for key, value in settings.items() if not key.startswith("_"))
    figures = [
        {"key": metric.key, "heading": metric.heading, "meaning": metric.meaning, "digits": _digits(metric.digits)}
        for metric in FIGURES
    ]
    used = manifest.get("images", {}).get("used", len(run.probe))
    about = {
        "model": run.model.name,
        "CLIP": run.clip.name,
        "similarity": str(choices.get("similarity", "")) + (f" ({words})" if words else ""),
        "probe set": f"{run.probe.name}, {used:,} images",
        "concept set": f"{run.concepts.name}, {len(run.concepts.names):,} concepts",
        "seed": str(manifest.get("seed", "")),
        "device": str(manifest.get("device", "")),
        "commit": str(manifest.get("commit") or ""),
    }
    return {
        "about": {key: value for key, value in about.items() if value},
        "choices": {key: str(value) for key, value in choices.items()},
        "command": shlex.join(["python", "run.py", *manifest.get("overrides", ())]),
        "figures": figures,
        "metrics": {OURS: outcome.metrics, **outcome.baseline_metrics},
        "comparisons": list(outcome.comparisons),
        "notes": list(outcome.notes),
        "seconds": dict(outcome.seconds),
    }


def _digits(form: str) -> int:
    return int(form.lstrip("+")[1]) if form.endswith("f") else 0


def _judged(run: RunRecord, outcome: Outcome) -> dict[str, dict[str, dict[int, bool]]]:
    """By method and layer, whether the label of each judged unit is right."""
    found: dict[str, dict[str, dict[int, bool]]] = {}
    for method, by_layer in {OURS: outcome.labels, **outcome.baselines}.items():
        found[method] = {}
        for layer, labels in by_layer.items():
            truth = outcome.labels[layer].truth if layer in outcome.labels else ()
            judgement = judge(labels, truth or None, judgeable=run.concepts.names)
            found[method][layer] = {}
            if judgement.units is not None and judgement.top1 is not None:
                found[method][layer] = dict(zip(judgement.units.tolist(), judgement.top1.tolist(), strict=True))
    return found


def _concepts_used(run: RunRecord, outcome: Outcome) -> list[tuple[str, int]]:
    """The concepts that some unit has among its best or as its truth, with their columns, in the order of the set."""
    used: set[str] = set()
    for by_layer in (outcome.labels, *outcome.baselines.values()):
        for labels in by_layer.values():
            used.update(name for top in labels.top for name in top[:TOP])
            used.update(name for accepted in labels.truth for name in accepted or ())
    columns = {name: column for column, name in reversed(list(enumerate(run.concepts.names)))}
    return [(name, column) for name, column in sorted(columns.items(), key=lambda item: item[1]) if name in used]


def _images(run: RunRecord, probe_images: np.ndarray, sheets: Sheets) -> dict[str, Any]:
    return {
        "probe": run.probe.name,
        "total": len(run.probe),
        "index": packed(probe_images),
        "ids": [str(run.probe.ids[index]) for index in probe_images],
        "size": sheets.size,
        "columns": sheets.columns,
        "rows": sheets.rows,
        "sheets": list(sheets.files),
    }


def _kept(shown: Mapping[str, Evidence], pictures: np.ndarray) -> tuple[int, int, int]:
    return next((most for most in FEWER if len(_distinct(shown, pictures, most)) <= MOST), FEWER[-1])


def _distinct(shown: Mapping[str, Evidence], pictures: np.ndarray, most: Sequence[int]) -> np.ndarray:
    """The images to be shown, ascending."""
    lists = [pictures[:, : most[2]].ravel()]
    lists += [part.strongest[:, : most[0]].ravel() for part in shown.values()]
    lists += [part.weaker[:, :, : most[1]].ravel() for part in shown.values()]
    return np.unique(np.concatenate(lists).astype(np.int64))


def _places(rows: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Where each image stands among the shown ones."""
    return np.searchsorted(rows, images)
