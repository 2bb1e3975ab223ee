"""How much labels hang on the settings: accuracy, and the share of labels that change, against each of them.

One setting is varied at a time, the others stay as the run had them; labels are compared with the run's own.

python -m experiments.sensitivity.analysis RUN [RUN ...] [--out sensitivity.png]
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from cd_exp import similarity as similarities
from cd_exp.errors import InputError
from cd_exp.evaluate import accepted_columns
from cd_exp.labels import label
from cd_exp.metrics.intervals import proportion
from cd_exp.types import Accepted, Match
from experiments.against_published import say
from experiments.reopening import Run, reopen

SCALES = (3.0, 10.0, 30.0, 100.0)
TOP_KS = (10, 30, 100, 200, 400)
PRIOR_WEIGHTS = (0.0, 0.5, 1.0)
IMAGES = (1.0, 0.5, 0.25, 0.1)  # shares of the probe set
CONCEPTS = (1.0, 0.5, 0.2)  # shares of the words; the truth is always among them
SEED = 0


@dataclass(frozen=True)
class Point:
    """What one value of one setting gives on one layer."""

    layer: str
    setting: str
    value: float
    right: Bool[np.ndarray, " judged"]
    changed: Bool[np.ndarray, " units"]


def points(run: Run, layer: str) -> Iterator[Point]:
    """Every setting varied by itself."""
    neurons, match, names = run.activations(layer), run.match(), run.parts.concepts.names
    truth = run.found.labels[layer].truth
    first = run.found.labels[layer].descriptions

    def point(setting: str, value: float, rows: Tensor | None, columns: Sequence[int] | None, **changed: Any) -> Point:
        images = match.images if rows is None else match.images[rows]
        texts = match.texts if columns is None else match.texts[list(columns)]
        words = names if columns is None else tuple(names[column] for column in columns)
        units = neurons if rows is None else neurons[rows]
        return _point(run, layer, setting, value, Match(images, texts), units, words, truth, first, changed)

    for scale in SCALES:
        yield point("scale", scale, None, None, scale=scale)
    for top_k in (k for k in TOP_KS if k <= len(neurons)):
        yield point("top_k", top_k, None, None, top_k=top_k)
    for weight in PRIOR_WEIGHTS:
        yield point("prior_weight", weight, None, None, prior_weight=weight)
    generator = torch.Generator().manual_seed(SEED)
    for share in IMAGES:
        rows = torch.randperm(len(neurons), generator=generator)[: round(share * len(neurons))].sort().values
        yield point("images", len(rows), rows, None)
    named = {column for columns in accepted_columns(truth, names) if columns is not None for column in columns.tolist()}
    for share in CONCEPTS:
        others = [column for column in torch.randperm(len(names), generator=generator).tolist() if column not in named]
        kept = sorted([*named, *others[: max(0, round(share * len(names)) - len(named))]])
        yield point("concepts", len(kept), None, kept)


def _point(
    run: Run,
    layer: str,
    setting: str,
    value: float,
    match: Match,
    neurons: Tensor,
    names: Sequence[str],
    truth: Sequence[Accepted],
    first: Sequence[str],
    changed: dict[str, Any],
) -> Point:
    scores = similarities.blocks(partial(run.parts.similarity, **changed), match, neurons)
    columns = accepted_columns(truth, names) if truth else ()
    found = label(scores, names, layer=layer, accepted=columns, truth=truth, k=1)
    ranks = np.full(0, np.nan) if found.ranks is None else found.ranks
    other = np.array([a != b for a, b in zip(first, found.descriptions, strict=True)])
    return Point(layer, setting, value, ranks[~np.isnan(ranks)] == 1, other)


def markdown(found: Sequence[Point]) -> str:
    """A row for each point, with its intervals."""
    lines = ["| layer | setting | value | top-1 % [95 %] | n | labels changed % [95 %] | n |", "| --- " * 7 + "|"]
    for point in found:
        right = _share(point.right) if len(point.right) else "not known"
        cells = (point.layer, point.setting, f"{point.value:g}", right, len(point.right), _share(point.changed))
        lines.append(f"| {' | '.join(map(str, cells))} | {len(point.changed)} |")
    return "\n".join(lines)


def _share(hits: Bool[np.ndarray, " units"]) -> str:
    low, high = proportion(hits)
    return f"{100 * hits.mean():.1f} [{low:.1f}, {high:.1f}]"


def draw(found: Sequence[Point], path: Path) -> None:
    """One row for accuracy, one for labels changed, a column for each setting, a line for each layer."""
    from matplotlib.figure import Figure

    settings = tuple(dict.fromkeys(point.setting for point in found))
    figure = Figure(figsize=(2.4 * len(settings), 4.6), layout="constrained")
    axes = figure.subplots(2, len(settings), squeeze=False, sharey="row")
    for column, setting in enumerate(settings):
        for layer in dict.fromkeys(point.layer for point in found):
            here = [point for point in found if (point.setting, point.layer) == (setting, layer)]
            for row, field in enumerate(("right", "changed")):
                shown = [(point.value, getattr(point, field)) for point in here if len(getattr(point, field))]
                if not shown:
                    continue
                values, hits = zip(*shown, strict=True)
                shares = np.array([100 * hit.mean() for hit in hits])
                bounds = np.array([proportion(hit) for hit in hits]).T
                errors = np.abs(bounds - shares)
                axes[row, column].errorbar(
                    values, shares, yerr=errors, marker="o", markersize=3, capsize=2, label=layer
                )
        axes[1, column].set_xlabel(setting)
        if setting != "prior_weight":
            axes[1, column].set_xscale("log")
            axes[0, column].set_xscale("log")
    axes[0, 0].set_ylabel("top-1 %")
    axes[1, 0].set_ylabel("labels changed %")
    axes[0, 0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def main(arguments: list[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description="Accuracy and labels changed against each setting.")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of runs with soft_wpmi")
    parser.add_argument("--layers", nargs="+", help="the layers; those of the run where not given")
    parser.add_argument("--out", type=Path, help="a figure")
    asked = parser.parse_args(arguments)
    found: list[Point] = []
    for folder in asked.runs:
        run = reopen(folder)
        if getattr(run.parts.similarity, "func", run.parts.similarity) is not similarities.soft_wpmi:
            raise InputError(f"{folder} is no run with similarity=soft_wpmi, whose settings are varied here")
        for layer in asked.layers or run.found.labels:
            found += points(run, layer)
    if asked.out:
        draw(found, asked.out)
    return markdown(found)


if __name__ == "__main__":
    say(main)
