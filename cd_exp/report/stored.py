"""A stored run read back from its files: labels, figures and comparisons, as they were when it was written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cd_exp.errors import InputError
from cd_exp.names import file_name
from cd_exp.report.labels_csv import read_csv
from cd_exp.types import Outcome, Probe


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest of a finished run.

    Raises:
        InputError: the folder holds no finished run.
    """
    for name in ("metrics.json", "labels.csv"):
        if not (folder / name).is_file():
            raise InputError(
                f"{folder} holds no {name}; give the folder of a finished run, such as outputs/runs/DATE_TIME"
            )
    return _json(folder / "manifest.json") or {}


def outcome_of(folder: Path, *, probe: Probe, top_images: Mapping[str, np.ndarray]) -> Outcome:
    """What the run found, from its files.

    Args:
        folder: of a finished run.
        probe: its images.
        top_images: by layer the images that excite each unit most; empty where they are not known.

    Raises:
        InputError: a file is missing, or cannot be read.
    """
    manifest, metrics = manifest_of(folder), _json(folder / "metrics.json") or {}
    baselines = {
        method: read_csv(folder / f"labels_{file_name(method)}.csv") for method in manifest.get("baselines", ())
    }
    return Outcome(
        labels=read_csv(folder / "labels.csv"),
        metrics=metrics.get("layers", {}),
        seconds=metrics.get("seconds", {}),
        top_images=top_images,
        probe=probe,
        baselines=baselines,
        baseline_metrics=metrics.get("baselines", {}),
        comparisons=_json(folder / "comparisons.json") or [],
    )


def _json(path: Path) -> Any:
    """None where there is no such file.

    Raises:
        InputError: it is not JSON.
    """
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
