"""What a run's pages hold: typed arrays in base64, each distinct text once, and all that is there without images."""

import base64
import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np

from cd_exp.metrics import METRICS
from cd_exp.records import CLIP_DISSECT, FLAGS, Labels, RunResult
from cd_exp.results.labels_csv import FAITHFULNESS, number_columns

INTEGERS = ("u1", "i1", "u2", "i2", "i4")
"""From narrow to wide; the first that holds all values is taken."""


def encode_array(values: Any) -> dict[str, Any]:
    """An array as `{"type", "shape", "data"}`: 32-bit floats, or the narrowest integers that hold the values.

    >>> encode_array([3, -1])
    {'type': 'i1', 'shape': [2], 'data': 'A/8='}
    """
    array = np.asarray(values)
    kind = "f4" if array.dtype.kind == "f" else _narrowest_type(array)
    content = np.ascontiguousarray(array, dtype=f"<{kind}").tobytes()
    return {"type": kind, "shape": list(array.shape), "data": base64.b64encode(content).decode("ascii")}


def decode_array(part: Mapping[str, Any]) -> np.ndarray:
    """The array that `encode_array` wrote.

    >>> decode_array(encode_array([3, -1])).tolist()
    [3, -1]
    """
    content = np.frombuffer(base64.b64decode(part["data"]), dtype=f"<{part['type']}")
    return content.reshape(part["shape"])


def _narrowest_type(array: np.ndarray) -> str:
    if not array.size:
        return "u1"
    low, high = int(array.min()), int(array.max())
    return next(kind for kind in INTEGERS if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)


class NameTable:
    """Each distinct text once; a text is written as its number, -1 where there is none."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """The number of a text, new where it has none yet; -1 for the empty text."""
        return self._numbers.setdefault(text, len(self._numbers)) if text else -1

    def rows(self, rows: Iterable[Iterable[str]], width: int) -> np.ndarray:
        """A row of `width` numbers for each row of texts, cut or filled up with -1."""
        cut = [tuple(islice(row, width)) for row in rows]
        texts = list(chain.from_iterable(cut))
        numbers = {text: self.number(text) for text in dict.fromkeys(texts)}  # each once: a million rows hold few texts
        table = np.full((len(cut), width), -1)
        lengths = np.fromiter(map(len, cut), np.int64, len(cut))
        table[np.arange(width) < lengths[:, None]] = np.fromiter(map(numbers.__getitem__, texts), np.int64, len(texts))
        return table

    @property
    def texts(self) -> list[str]:
        """The texts in the order of their numbers."""
        return list(self._numbers)


def format_script(value: Any) -> str:
    """JSON that is safe inside a `<script>` element, whatever the names hold."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


SCHEMA = 1
TOP = 5
NO_IMAGES = {
    "probe": "",
    "total": 0,
    "index": encode_array([]),
    "ids": [],
    "size": 1,
    "columns": 1,
    "sheets": [],
    "heights": [],
}


@dataclass(frozen=True)
class PageContent:
    """What a run's pages hold: JSON values by name (`run`, `layer-0`, ...) and the sheets of thumbnails."""

    parts: Mapping[str, Any]
    sheets: Mapping[str, bytes]


def describe_labels_only(outcome: RunResult, *, manifest: Mapping[str, Any], title: str) -> PageContent:
    """What can be shown of a run of which only the labels are there: everything but images and activations.

    Args:
        outcome: all labels and figures.
        manifest: how the run was asked for, and with what it was made.
        title: what the pages are called.
    """
    names = NameTable()
    run = describe_content(outcome, {}, manifest, title=title, names=names)
    run |= {"images": NO_IMAGES, "queries": []}
    run["concepts"] = {
        "name": encode_array([]),
        "pictures": encode_array(np.empty((0, 0), int)),
        "cosines": encode_array(np.empty((0, 0))),
        "near": encode_array(np.empty((0, 0), int)),
    }
    parts = {"run": run}
    for number, labels in enumerate(outcome.labels.values()):
        run["layers"][number]["pictures"] = encode_array(np.empty((len(labels.units), 0), int))
        parts[f"layer-{number}"] = describe_labels(labels, names)
        run["layers"][number]["detail"] = f"layer-{number}"
    run["names"] = names.texts
    return PageContent(parts, {})


def describe_content(
    outcome: RunResult,
    about: Mapping[str, str],
    manifest: Mapping[str, Any],
    *,
    title: str,
    names: NameTable,
) -> dict[str, Any]:
    """How the run was made, its figures, and the labels of every method as tables."""
    methods = {CLIP_DISSECT: outcome.labels, **outcome.baselines}
    return {
        "schema": SCHEMA,
        "title": title,
        "about": _format_settings(about, manifest),
        "choices": {key: str(value) for key, value in manifest.get("choices", {}).items()},
        "command": shlex.join(["python", "run.py", *manifest.get("overrides", ())]),
        "figures": [
            {
                "key": metric.key,
                "heading": metric.heading,
                "meaning": metric.meaning + (f"; {metric.direction}" if metric.direction else ""),
                "digits": metric_digits(metric.digits),
                "interval": metric.interval_key,
            }
            for metric in METRICS
        ],
        "metrics": {CLIP_DISSECT: outcome.metrics, **outcome.baseline_metrics},
        "comparisons": list(outcome.comparisons),
        "notes": list(outcome.notes),
        "seconds": dict(outcome.seconds),
        "marks": list(FLAGS),
        "layers": [{"name": layer, "units": len(labels.units)} for layer, labels in outcome.labels.items()],
        "methods": [
            {
                "name": method,
                "layers": {layer: describe_table(labels, names) for layer, labels in by_layer.items()},
            }
            for method, by_layer in methods.items()
        ],
    }


def describe_table(labels: Labels, names: NameTable) -> dict[str, Any]:
    """One method's labels of one layer as columns; `right` is 1, 0, or -1 where it is not known."""
    count = len(labels.units)
    truth = labels.truth or (None,) * count
    numbers = {
        name.replace("rank_of_truth", "rank").replace(FAITHFULNESS, "faithfulness."): values
        for name, values in number_columns(labels).items()
    }
    marks = [sum(1 << FLAGS.index(mark) for mark in table) for table in labels.marks] or [0] * count
    table = {
        "units": encode_array(labels.units),
        "top": encode_array(names.rows(labels.top, TOP)),
        "truth": encode_array(
            names.rows((accepted or () for accepted in truth), max(map(len, filter(None, truth)), default=1))
        ),
        "right": encode_array(labels.verdicts.tolist()),
        "marks": encode_array(marks),
        "numbers": {
            key: encode_array(np.asarray(values, dtype=np.float32))
            for key, values in numbers.items()
            if not np.isnan(values).all()
        },
    }
    if labels.general_label:
        table["general"] = encode_array([names.number(name) for name in labels.general_label])
    if labels.judged_label:
        table["judged_label"] = encode_array([names.number(name) for name in labels.judged_label])
    return table


def describe_labels(labels: Labels, names: NameTable) -> dict[str, Any]:
    """What the page of one unit shows of its labels besides."""
    arrays = {}
    if labels.top_scores is not None:
        arrays["scores"] = encode_array(labels.top_scores)
    if labels.stable_set:
        arrays["stable"] = encode_array(names.rows(labels.stable_set, max(1, *map(len, labels.stable_set))))
    return arrays


def _format_settings(about: Mapping[str, str], manifest: Mapping[str, Any]) -> dict[str, str]:
    """What the run was made with, as a reader would say it; what is not known is left out."""
    choices, config = manifest.get("choices", {}), manifest.get("config", {})
    settings = config.get("similarity") or {}
    words = ", ".join(f"{key}={value}" for key, value in settings.items() if not key.startswith("_"))
    shown = {
        "model": str(choices.get("model", "")),
        "CLIP": str(choices.get("clip", "")),
        "similarity": str(choices.get("similarity", "")) + (f" ({words})" if words else ""),
        "probe set": str(choices.get("probe", "")),
        "concept set": str(choices.get("concepts", "")),
        **about,
        "seed": str(manifest.get("seed", "")),
        "device": str(manifest.get("device", "")),
        "commit": str(manifest.get("commit") or ""),
    }
    return {key: value for key, value in shown.items() if value}


def metric_digits(form: str) -> int:
    """How many digits after the point a format like `.1f` gives.

    >>> metric_digits(".1f")
    1
    """
    return int(form.lstrip("+")[1]) if form.endswith("f") else 0
