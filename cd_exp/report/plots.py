"""The figures of a run: accuracy, ranks of the truth, risk and coverage, agreement of methods, units with images."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from PIL.Image import Image

from cd_exp.drawing import GRID, WIDEST, plot, style
from cd_exp.io.atomic import write as write_file
from cd_exp.io.text import cut
from cd_exp.metrics import agreement as agreeing
from cd_exp.pictures import png, rendered, vectors
from cd_exp.records import OURS, Labels, Outcome
from cd_exp.report.curves import known_ranks, known_stability, ranks, risk_coverage
from cd_exp.report.grid import grid
from cd_exp.report.summary import Row, chosen, rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = 4  # layers of the agreement figure
CARDS = 120  # of units: more are looked at in the explorer, not in one picture


def figures(
    folder: Path,
    outcome: Outcome,
    *,
    units: int = 24,
    images: int = 5,
    method: str = OURS,
    title: str = "",
    vector: bool = False,
) -> tuple[Path, ...]:
    """Draw what there is to draw into `folder/figures`: `accuracy`, `ranks`, `risk_coverage`, `agreement`, `units`.

    Args:
        folder: the run folder.
        outcome: what the run found.
        units: how many units are shown with their top images, up to `CARDS`.
        images: how many top images of each.
        method: what our own labels are called beside those of a baseline.
        title: above each figure: what was run.
        vector: whether each is a PDF and an SVG too, but for `units`, which is pictures.

    Returns:
        The files drawn. Without truth there is no accuracy, no ranks and no risk; without stability no risk; without a
        baseline no agreement.
    """
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    paths = []
    for name, drawn in _drawn(outcome, units, images, method):
        if isinstance(drawn, Image):
            files = {"png": png(drawn)}
        else:
            if title:
                drawn.suptitle(
                    "\n".join(filter(None, (cut(title, 80), drawn.get_suptitle()))), fontsize=9, parse_math=False
                )
            files = {"png": png(rendered(drawn)), **(vectors(drawn) if vector else {})}
        for kind, content in files.items():
            path = folder / "figures" / f"{name}.{kind}"
            write_file(path, content)
            paths.append(path)
    return tuple(paths)


def _drawn(outcome: Outcome, units: int, images: int, method: str) -> Iterator[tuple[str, "Image | Figure"]]:
    if judged := [row for row in rows(outcome, method) if "top1" in row.metrics]:
        yield "accuracy", accuracy(judged)
    if curves := {layer: found for layer, labels in outcome.labels.items() if len(found := known_ranks(labels))}:
        yield "ranks", ranks(curves)
    if believed := {layer: pair for layer, labels in outcome.labels.items() if (pair := known_stability(labels))}:
        yield "risk_coverage", risk_coverage(believed)
    several = [layer for layer in outcome.labels if any(layer in layers for layers in outcome.baselines.values())]
    if several:
        yield "agreement", agreement(outcome, several[-PANELS:], method)
    if shown := chosen(outcome, min(units, CARDS), images=images):
        yield "units", grid(outcome.probe, shown)


def accuracy(judged: Sequence[Row]) -> "Figure":
    """A dot with its 95 % interval for each layer and method; the numbers stand at the right."""
    methods = list(dict.fromkeys(row.method for row in judged))
    layers = list(dict.fromkeys(row.layer for row in judged))
    # A heading, where there is one, takes a line of its own.
    lines = [(layer, row) for layer in layers for row in [None, *judged] if row is None or row.layer == layer]
    if len(methods) == 1:
        lines = [(layer, row) for layer, row in lines if row is not None]
    figure, axes = plot(7.2, 0.9 + 0.3 * len(lines))
    for height, (layer, row) in enumerate(lines):
        if row is None:
            heading: dict[str, Any] = {"weight": "bold", "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1}}
            axes.text(-1, height, cut(layer, WIDEST), va="center", parse_math=False, **heading)
        else:
            _interval(axes, row, height, style(methods.index(row.method))[0])
    names = [cut(row.method if len(methods) > 1 else row.layer, WIDEST) for _, row in lines if row is not None]
    axes.set_yticks([height for height, (_, row) in enumerate(lines) if row is not None], names, parse_math=False)
    axes.set(xlim=(-1, 101), ylim=(len(lines) - 0.4, -0.6), xlabel="top-1: judged units labelled right, % [95 %]")
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure


def _interval(axes: "Axes", row: Row, height: int, colour: str) -> None:
    value, (low, high) = row.metrics["top1"], row.metrics["ci95"]
    axes.plot([low, high], [height, height], color=colour, linewidth=2.4, solid_capstyle="round", alpha=0.55)
    axes.plot(value, height, "o", color=colour, markersize=7)
    text = f"{value:.1f}   n = {row.metrics['judged']}"
    axes.text(1.01, height, text, va="center", fontsize=9, transform=axes.get_yaxis_transform())


def agreement(outcome: Outcome, layers: Sequence[str], method: str = OURS) -> "Figure":
    """For each layer, the share of units to which two methods give the same name (`metrics.agreement`)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(4.4, 0.8 + 3.0 * len(layers)), 3.6), dpi=150, layout="constrained")
    for axes, layer in zip(figure.subplots(1, len(layers), squeeze=False)[0], layers, strict=True):
        methods = {method: outcome.labels[layer]}
        methods |= {name: found[layer] for name, found in outcome.baselines.items() if layer in found}
        _heat(axes, list(methods), _shares(list(methods.values())))
        axes.set_title(cut(layer, WIDEST), fontsize=10, parse_math=False)
    figure.suptitle("Units to which two methods give the same name, %", fontsize=10)
    return figure


def _shares(methods: Sequence[Labels]) -> Float[np.ndarray, "methods methods"]:
    """NaN on the diagonal, and where two methods list no unit in common."""
    found = [[None if a is b else agreeing(a, b) for b in methods] for a in methods]
    return np.array(found, dtype=float)


def _heat(axes: "Axes", names: Sequence[str], values: Float[np.ndarray, "methods methods"]) -> None:
    axes.imshow(values, vmin=0, vmax=100, cmap="cividis")
    axes.set_facecolor("#eeeeee")
    labels = [cut(name, 18) for name in names]
    axes.set_xticks(range(len(names)), labels, fontsize=8, rotation=30, ha="right", parse_math=False)
    axes.set_yticks(range(len(names)), labels, fontsize=8, parse_math=False)
    axes.tick_params(length=0)
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", color="black" if value > 55 else "white")
