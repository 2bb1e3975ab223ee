"""A stored run read back from its files: labels, figures and comparisons, as they were when it was written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cd_exp.config.resolved import rename_targets
from cd_exp.errors import InputError
from cd_exp.io.text import make_file_name
from cd_exp.records import CLIP_DISSECT, Labels, Probe, RunResult
from cd_exp.results.labels_csv import AGAIN, read_judged, read_labels_csv


def read_manifest_file(folder: Path) -> dict[str, Any]:
    """The manifest of a finished run; constructors of its configuration have their present names.

    Raises:
        InputError: the folder holds no finished run, or its manifest is none.
    """
    for name in ("metrics.json", "labels.csv"):
        if not (folder / name).is_file():
            raise InputError(
                f"{folder} holds no {name}; give the folder of a finished run, such as outputs/runs/DATE_TIME"
            )
    path = folder / "manifest.json"
    manifest = _read_json(path, dict, {})
    for key, kind in (("config", dict), ("choices", dict), ("baselines", list)):
        _typed_value(kind, manifest.get(key, kind()), path, key)
    _typed_value(dict, manifest.get("config", {}).get("report", {}), path, "config.report")
    return manifest | ({"config": rename_targets(manifest["config"])} if "config" in manifest else {})


def describe_finished_run(folder: Path) -> dict[str, Any]:
    """A finished run as one document: labels, choices, metrics by layer and method, seconds, versions and files.

    Raises:
        InputError: the folder holds no finished run.
    """
    manifest = read_manifest_file(folder)
    kept = ("choices", "overrides", "seed", "device", "versions", "cache", "images")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {
        "folder": str(folder),
        "labels": {
            layer: dict(zip(labels.units.tolist(), labels.descriptions, strict=True))
            for layer, labels in read_labels_csv(folder / "labels.csv").items()
        },
        **_read_json(folder / "metrics.json", dict, {}),
        **{key: manifest[key] for key in kept if key in manifest},
        "files": [name for name in files if not name.startswith("wandb/")],
    }


def read_results(folder: Path, *, probe: Probe, top_images: Mapping[str, np.ndarray]) -> RunResult:
    """The results of a run, read from its files.

    Args:
        folder: of a finished run.
        probe: its images.
        top_images: by layer the images that excite each unit most; empty where they are not known.

    Raises:
        InputError: a file is missing, cannot be read, or is of another run than the others.
    """
    manifest, metrics = read_manifest_file(folder), folder / "metrics.json"
    figures = _read_json(metrics, dict, {})
    baselines = {
        method: read_labels_csv(folder / f"labels_{make_file_name(str(method))}.csv")
        for method in manifest.get("baselines", ())
    }
    labels = read_labels_csv(folder / "labels.csv")
    for layer, values in _typed_value(dict, figures.get("layers", {}), metrics, "layers").items():
        units = _typed_value(dict, values, metrics, layer).get("units")
        if units is not None and units != len(labels[layer].units if layer in labels else ()):
            raise InputError(f"{metrics} tells of {units} units of {layer}, which labels.csv does not list; {AGAIN}")
    methods = read_judged(folder / "judged.csv", {CLIP_DISSECT: labels, **baselines})
    return RunResult(
        labels=methods.pop(CLIP_DISSECT),
        metrics=figures.get("layers", {}),
        seconds=_typed_value(dict, figures.get("seconds", {}), metrics, "seconds"),
        top_images=_match_units(top_images, labels, folder),
        probe=probe,
        baselines=methods,
        baseline_metrics=_typed_value(dict, figures.get("baselines", {}), metrics, "baselines"),
        comparisons=_read_json(folder / "comparisons.json", list, []),
    )


def _match_units(top_images: Mapping[str, np.ndarray], labels: Mapping[str, Labels], folder: Path) -> Mapping[str, Any]:
    for layer, images in top_images.items():
        if layer not in labels or len(images) != len(labels[layer].units):
            raise InputError(f"labels.csv of {folder} does not have the units of {layer} that explorer/ shows; {AGAIN}")
    return top_images


def _read_json(path: Path, kind: type, empty: Any) -> Any:
    """What a JSON file holds; `empty` where there is no such file.

    Raises:
        InputError: it is not JSON, or holds something of another kind.
    """
    if not path.is_file():
        return empty
    try:
        return _typed_value(kind, json.loads(path.read_text(encoding="utf-8")), path, "what it holds")
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not JSON: {error}; {AGAIN}") from error


def _typed_value(kind: type, value: Any, path: Path, what: str) -> Any:
    if not isinstance(value, kind):
        raise InputError(f"{path}: {what} is of type {type(value).__name__}, expected {kind.__name__}; {AGAIN}")
    return value
