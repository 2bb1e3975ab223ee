"""Folders as a multirun leaves them, with made-up results."""

import csv
import json
import random
from pathlib import Path

NAMES = ["red circle", "blue square, azure square", "leaf", "stripe", "green ring", "dotted star"]
DEFAULTS = {
    "probe": "shapes",
    "concepts": "shapes",
    "clip": "shapes",
    "similarity": "soft_wpmi",
    "baseline": None,
    "logger": "none",
    "model": "shapes",
    "experiment": None,
}


def begun(sweep: Path, number: int, *overrides: str, **choices: str | None) -> Path:
    """A job as Hydra begins it."""
    folder = sweep / str(number)
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {json.dumps(text)}\n" for text in overrides) or "[]")
    config = composed(overrides)
    (folder / ".hydra" / "config.yaml").write_text(json.dumps(config))
    chosen = {**DEFAULTS, **parse_overrides(overrides), **choices, "hydra/launcher": "basic"}
    (folder / ".hydra" / "hydra.yaml").write_text(json.dumps({"hydra": {"runtime": {"choices": chosen}}}))
    return folder


def failed(
    sweep: Path, number: int, *overrides: str, error="no such file: a.jpg", kind="InputError", **choices
) -> Path:
    folder = begun(sweep, number, *overrides, **choices)
    (folder / "error.json").write_text(json.dumps({"error": error, "kind": kind, "overrides": [*overrides]}))
    return folder


def finished(
    sweep: Path,
    number: int,
    *overrides: str,
    accuracy: float = 50.0,
    layers: tuple[str, ...] = ("fc",),
    judged: bool = True,
    units: int = 24,
    names=NAMES,
    logger=None,
    **choices,
) -> Path:
    """A job with `labels.csv`, `metrics.json` and `manifest.json`, `plot_accuracy` per cent of its units labelled
    right.
    """
    folder = begun(sweep, number, *overrides, **choices)
    chosen = {**DEFAULTS, **parse_overrides(overrides), **choices}
    draw = random.Random(f"{number} {overrides}")
    rows, metrics = [], {}
    for layer in layers:
        right = set(draw.sample(range(units), round(units * accuracy / 100)))
        for unit in range(units):
            truth = names[unit % len(names)]
            said = truth if unit in right or not judged else draw.choice([n for n in names if n != truth])
            rank = (1 if unit in right else draw.randint(2, 50)) if judged else ""
            rows.append([layer, unit, said, 0.25, f"{said}; other", truth if judged else "", rank])
        share = 100 * len(right) / units
        ends = [max(0.0, share - 14.5), min(100.0, share + 13.25)]
        metrics[layer] = {"units": units}
        if judged:
            metrics[layer] |= {"judged": units, "top1": share, "ci95": ends, "top5": min(100.0, share + 9)}
    with (folder / "labels.csv").open("w", newline="") as file:
        header = ["layer", "unit", "description", "similarity", "top5", "truth", "rank_of_truth"]
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    config = composed(overrides) | {"logger": logger or {"_target_": "cd_exp.results.wandb.NoLogger"}}
    manifest = {
        "config": config,
        "choices": chosen,
        "overrides": [*overrides],
        "fingerprints": {"model": {"architecture": chosen["model"]}, "clip": {}, "images": "3f", "concepts": "a1"},
        "cache": {"read": [], "made": []},
        "seed": 0,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "metrics.json").write_text(json.dumps({"layers": metrics, "seconds": {"total": draw.random()}}))
    return folder


def parse_overrides(overrides) -> dict[str, str]:
    """The overrides of config groups."""
    pairs = (text.lstrip("+").split("=", 1) for text in overrides)
    return {key: value for key, value in pairs if key in DEFAULTS}


def composed(overrides) -> dict:
    config: dict = {"seed": 0, "similarity": {"top_k": 100}}
    for text in overrides:
        key, value = text.lstrip("+").split("=", 1)
        if key not in DEFAULTS:
            *path, last = key.split(".")
            node = config
            for part in path:
                node = node.setdefault(part, {})
            node[last] = int(value) if value.isdigit() else value
    return config


def table3(sweep: Path, *, bad: bool = True) -> Path:
    """Five similarity functions by three probe sets; where `bad`, one failed and one was stopped midway."""
    functions = ["cos", "cos_cubed", "rank_reorder", "wpmi", "soft_wpmi"]
    for number in range(15):
        function, probe = functions[number % 5], ["shapes", "cifar10", "cifar10+shapes"][number // 5]
        overrides = (f"similarity={function}", f"probe={probe}")
        if bad and number == 7:
            failed(sweep, number, *overrides, error="probe.root=/nowhere: there is no such folder")
        elif bad and number == 9:
            begun(sweep, number, *overrides)
        else:
            finished(
                sweep, number, *overrides, accuracy=15 + 14 * (number % 5) + 5 * (number // 5), layers=("act", "fc")
            )
    return sweep
