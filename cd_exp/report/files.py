"""The files of a run folder, in the form that other tools read. Each is written whole or not at all."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cd_exp.io.atomic import write as write_file
from cd_exp.io.text import file_name
from cd_exp.records import OURS, Outcome
from cd_exp.report.labels_csv import as_csv, judged_csv

DRAWN = ("accuracy", "ranks", "risk_coverage", "agreement", "units")


def write(folder: Path, outcome: Outcome, *, manifest: Mapping[str, Any]) -> tuple[Path, ...]:
    """Write the manifest, labels of all methods, `judged.csv`, `comparisons.json` and, last, `metrics.json`.

    `metrics.json` comes last, so a folder that has one is complete. Labels of a method that compares with ours have the
    same columns in a file of their own. What an earlier run left in the folder goes, its figures and page
    too, which would stand beside other labels. Files of other names stay.

    Args:
        folder: the run folder; made where missing.
        outcome: what the run found.
        manifest: what it was found with: settings, fingerprints, versions.

    Returns:
        The files, in the order written.

    Raises:
        ValueError: a metric is NaN, infinite or None. A key that does not apply is left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "manifest.json": as_json(manifest, "manifest.json"),
        "labels.csv": as_csv(outcome.labels),
        **{f"labels_{file_name(name)}.csv": as_csv(layers) for name, layers in outcome.baselines.items()},
    }
    if judged := judged_csv({OURS: outcome.labels, **outcome.baselines}):
        texts["judged.csv"] = judged
    if outcome.comparisons:
        texts["comparisons.json"] = as_json(outcome.comparisons, "comparisons.json")
    texts |= outcome.files
    texts["metrics.json"] = as_json(metrics(outcome), "metrics.json", allow_none=False)
    for name in _earlier(folder):
        (folder / name).unlink(missing_ok=True)
    if (folder / "figures").is_dir() and not any((folder / "figures").iterdir()):
        (folder / "figures").rmdir()
    for name, text in texts.items():
        write_file(folder / name, text)
    return tuple(folder / name for name in texts)


def _earlier(folder: Path) -> Iterator[str]:
    """The names of what an earlier run left, as its manifest tells; `metrics.json` first, for it says complete."""
    path = folder / "manifest.json"
    if not path.is_file():
        return
    found = json.loads(path.read_text())
    yield from ("metrics.json", "manifest.json", "labels.csv", "judged.csv", "comparisons.json", "report.html")
    yield from (f"labels_{file_name(method)}.csv" for method in found.get("baselines", ()))
    yield from (f"figures/{name}.{kind}" for name in DRAWN for kind in ("png", "pdf", "svg"))
    yield from found.get("files", ())  # of its baselines


def metrics(outcome: Outcome) -> dict[str, Any]:
    """The content of `metrics.json`; without a baseline that key is absent."""
    baselines = {"baselines": outcome.baseline_metrics} if outcome.baseline_metrics else {}
    return {"layers": outcome.metrics, **baselines, "seconds": outcome.seconds}


def as_json(value: Any, where: str, *, allow_none: bool = True) -> str:
    """JSON text of plain values, numpy's and paths; an error names the key of a value that JSON cannot hold."""
    return json.dumps(_plain(value, where, allow_none), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any, where: str, allow_none: bool) -> Any:
    """`value` in the types of the json module."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}: {key}", allow_none) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist(), where, allow_none)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item, where, allow_none) for item in value]
    if isinstance(value, Path):
        return str(value)
    if (value is None and not allow_none) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{where} is {value}; leave out a key that does not apply")
    return value
