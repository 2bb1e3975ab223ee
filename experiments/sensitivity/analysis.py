"""How much labels hang on the settings: accuracy, and the share of labels that change, against each of them.

One setting is varied at a time, the others stay as the run had them; labels are compared with the run's own.

python -m experiments.sensitivity.analysis RUN [RUN ...] [--layers layer4 fc] [--out sensitivity.pdf]
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from cd_exp import similarity as similarities
from cd_exp.errors import InputError
from cd_exp.evaluation.evaluate import accepted_columns
from cd_exp.labels import label_layer
from cd_exp.metrics.intervals import clopper_pearson_interval
from cd_exp.records import Accepted, ConceptActivations
from cd_exp.results.plots import COLOURS, GRID, MARKERS
from experiments.against_published import say
from experiments.reopening import Run, reopen

SCALES = (3.0, 10.0, 30.0, 100.0)
TOP_KS = (10, 30, 100, 200, 400)
PRIOR_WEIGHTS = (0.0, 0.5, 1.0)
IMAGES = (1.0, 0.5, 0.25, 0.1)  # shares of the probe set
CONCEPTS = (1.0, 0.5, 0.2)  # shares of the words; the truth is always among them
SEED = 0
HEADINGS = {"scale": "scale", "top_k": "top_k", "prior_weight": "prior weight", "images": "images", "concepts": "words"}
PRINTED = {"font.size": 7, "axes.linewidth": 0.5, "legend.frameon": False, "pdf.fonttype": 42, "svg.hashsalt": "same"}
"""Fonts as text in a PDF that a column of two takes as it is."""


@dataclass(frozen=True)
class Point:
    """What one value of one setting gives on one layer of a network."""

    model: str
    layer: str
    setting: str
    value: float
    right: Bool[np.ndarray, " judged"]
    changed: Bool[np.ndarray, " units"]


def points(
    run: Run, layer: str, *, scales: Sequence[float] = SCALES, top_ks: Sequence[int] = TOP_KS
) -> Iterator[Point]:
    """Every setting varied by itself."""
    neurons, match, names = run.activations(layer), run.match(), run.parts.concepts.names
    truth = run.data.labels[layer].truth
    first = run.data.labels[layer].descriptions

    def point(setting: str, value: float, rows: Tensor | None, columns: Sequence[int] | None, **changed: Any) -> Point:
        images = match.images if rows is None else match.images[rows]
        texts = match.texts if columns is None else match.texts[list(columns)]
        words = names if columns is None else tuple(names[column] for column in columns)
        units = neurons if rows is None else neurons[rows]
        return _point(
            run, layer, setting, value, ConceptActivations(images, texts), units, words, truth, first, changed
        )

    for scale in scales:
        yield point("scale", scale, None, None, scale=scale)
    for top_k in (k for k in top_ks if k <= len(neurons)):
        yield point("top_k", top_k, None, None, top_k=top_k)
    for weight in PRIOR_WEIGHTS:
        yield point("prior_weight", weight, None, None, prior_weight=weight)
    generator = torch.Generator().manual_seed(SEED)
    for share in IMAGES:
        rows = torch.randperm(len(neurons), generator=generator)[: round(share * len(neurons))].sort().values
        yield point("images", len(rows), rows, None)
    named = {column for columns in accepted_columns(truth, names) if columns is not None for column in columns.tolist()}
    others = [column for column in torch.randperm(len(names), generator=generator).tolist() if column not in named]
    for count in sorted({max(len(named), round(share * len(names))) for share in CONCEPTS}, reverse=True):
        yield point("concepts", count, None, sorted([*named, *others[: count - len(named)]]))


def _point(
    run: Run,
    layer: str,
    setting: str,
    value: float,
    match: ConceptActivations,
    neurons: Tensor,
    names: Sequence[str],
    truth: Sequence[Accepted],
    first: Sequence[str],
    changed: dict[str, Any],
) -> Point:
    scores = similarities.score_blocks(partial(run.parts.similarity, **changed), match, neurons)
    columns = accepted_columns(truth, names) if truth else ()
    labels = label_layer(scores, names, layer=layer, accepted=columns, truth=truth, k=1)
    ranks = np.full(0, np.nan) if labels.ranks is None else labels.ranks
    other = np.array([a != b for a, b in zip(first, labels.descriptions, strict=True)])
    return Point(run.parts.model.name, layer, setting, value, ranks[~np.isnan(ranks)] == 1, other)


def markdown(table_points: Sequence[Point]) -> str:
    """A row for each point, with its intervals."""
    lines = ["| network | layer | setting | value | top-1 % [95 %] | n | labels changed % [95 %] | n |"]
    lines.append("| --- " * 8 + "|")
    for point in table_points:
        right = _share(point.right) if len(point.right) else "not known"
        own = (point.model, point.layer, point.setting, f"{point.value:g}", right, len(point.right) or "")
        lines.append(f"| {' | '.join(map(str, own))} | {_share(point.changed)} | {len(point.changed)} |")
    return "\n".join(lines)


def _share(hits: Bool[np.ndarray, " units"]) -> str:
    low, high = clopper_pearson_interval(hits)
    return f"{100 * hits.mean():.1f} [{low:.1f}, {high:.1f}]"


def draw(drawn_points: Sequence[Point], path: Path) -> None:
    """Accuracy above, labels changed below, a column for each setting, a line for each layer of each network."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    settings = tuple(dict.fromkeys(point.setting for point in drawn_points))
    lines = tuple(dict.fromkeys((point.model, point.layer) for point in drawn_points))
    with mpl.rc_context(PRINTED):
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        axes = figure.subplots(2, len(settings), squeeze=False, sharey=True)
        for number, line in enumerate(lines):
            for column, setting in enumerate(settings):
                here = [
                    point for point in drawn_points if (point.model, point.layer, point.setting) == (*line, setting)
                ]
                for row, field in enumerate(("right", "changed")):
                    _curve(axes[row, column], here, field, label=" ".join(line), number=number)
        for column, setting in enumerate(settings):
            axes[1, column].set_xlabel(HEADINGS[setting])
            axes[0, column].tick_params(labelbottom=False)
            for axis in axes[:, column]:
                axis.set_ylim(-4, 104)
                axis.grid(visible=True, linewidth=0.3, color=GRID)
                if setting != "prior_weight":
                    axis.set_xscale("log")
                    axis.minorticks_off()
                    values = [point.value for point in drawn_points if point.setting == setting]
                    subs = (1,) if max(values) > 100 * min(values) else (1, 2, 5)  # no more labels than there is room
                    axis.xaxis.set_major_locator(LogLocator(subs=subs))
                    axis.xaxis.set_major_formatter("{x:g}")
        axes[0, 0].set_ylabel("top-1 %")
        axes[1, 0].set_ylabel("labels changed %")
        figure.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(lines))
        figure.savefig(path, dpi=200)


def _curve(axis: Any, points: Sequence[Point], field: str, *, label: str, number: int) -> None:
    """Shares with their intervals against the values, as far as the truth is known."""
    shown = [(point.value, getattr(point, field)) for point in points if len(getattr(point, field))]
    if shown:
        values, hits = zip(*sorted(shown, key=itemgetter(0)), strict=True)
        shares = np.array([100 * hit.mean() for hit in hits])
        errors = np.abs(np.array([clopper_pearson_interval(hit) for hit in hits]).T - shares)
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        looks: dict[str, Any] = {"markersize": 3, "linewidth": 1, "capsize": 1.5}
        axis.errorbar(values, shares, yerr=errors, color=colour, marker=marker, label=label, **looks)


def main(
    arguments: list[str] | None = None, *, scales: Sequence[float] = SCALES, top_ks: Sequence[int] = TOP_KS
) -> str:
    parser = argparse.ArgumentParser(description="Accuracy and labels changed against each setting.")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of runs with soft_wpmi")
    parser.add_argument("--layers", nargs="+", help="the layers; those of the run where not given")
    parser.add_argument("--out", type=Path, nargs="+", default=[], help="figures: .pdf, .svg or .png")
    asked = parser.parse_args(arguments)
    all_points: list[Point] = []
    for folder in asked.runs:
        run = reopen(folder)
        if run.parts.similarity.function is not similarities.soft_wpmi:
            raise InputError(f"{folder} is no run with similarity=soft_wpmi, whose settings are varied here")
        for layer in asked.layers or run.data.labels:
            all_points += points(run, layer, scales=scales, top_ks=top_ks)
    for path in asked.out:
        draw(all_points, path)
    return markdown(all_points)


if __name__ == "__main__":
    say(main)
