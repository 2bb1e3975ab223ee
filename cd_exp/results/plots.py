"""The figures of a run: accuracy, ranks of the truth, risk and coverage, agreement of methods, units with images.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart; what colour says is also said by words or
marks. Importing this costs no matplotlib.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float
from PIL.Image import Image

from cd_exp.io.atomic import write_file as write_file
from cd_exp.io.text import cut_text
from cd_exp.metrics import label_agreement as agreeing
from cd_exp.metrics.intervals import clopper_pearson_interval
from cd_exp.metrics.selective import risk_coverage as curve
from cd_exp.records import CLIP_DISSECT, Labels, Probe, RunResult
from cd_exp.results.image_strips import encode_png, make_strip, render_figure, render_vectors
from cd_exp.results.summary import MetricsRow, ShownUnit, choose_units, metrics_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", ":", "-.")
MARKERS = "osD^vP*"
GRID = "#e4e4e4"
RIGHT, WRONG, CONSENSUS, OTHER = "#0072B2", "#F3D9B1", "#8FB8DE", "#F1F1F1"
"""Squares of labels: with a truth right and wrong ones, without it the most common label and the others."""

WIDEST = 34  # characters of a name that a figure has room for
TALLEST = 100  # inches, either way: a figure of a thousand rows is still an image


def line_style(number: int) -> tuple[str, str, str]:
    """The colour, marker and dash of the n-th of several lines: all colours before the next marker and dash."""
    turn = number // len(COLOURS)
    return COLOURS[number % len(COLOURS)], MARKERS[turn % len(MARKERS)], DASHES[turn % len(DASHES)]


def new_plot(width: float, height: float) -> tuple["Figure", "Axes"]:
    """A figure of `width` x `height` inches with one plot, not registered with pyplot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(min(width, TALLEST), min(height, TALLEST)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    return figure, axes


BINS = 10
"""Of the reliability diagram."""


def plot_ranks(curves: Mapping[str, Float[np.ndarray, " judged"]]) -> "Figure":
    """The share of units whose truth is among the k best concepts: top-1 at the left edge, top-5 at 5."""
    figure, axes = new_plot(6.4, 3.8)
    largest = max(10.0, *(float(ranks.max()) for ranks in curves.values()))
    for number, (layer, ranks) in enumerate(curves.items()):
        steps = np.unique([1.0, *ranks, largest])
        share = 100 * np.searchsorted(np.sort(ranks), steps, side="right") / len(ranks)
        colour, _, dash = line_style(number)
        axes.step(steps, share, where="post", color=colour, linestyle=dash, linewidth=2, label=cut_text(layer, WIDEST))
    axes.set(
        xscale="log",
        xlim=(1, largest),
        ylim=(0, 101),
        xlabel="k, of all concepts",
        ylabel="units with their truth in the best k, %",
    )
    axes.set_xticks([k for k in (1, 5, 10, 100, 1000, 10000) if k <= largest])
    axes.xaxis.set_major_formatter("{x:g}")
    _finish_plot(axes, legend="lower right")
    return figure


def list_known_ranks(labels: Labels) -> Float[np.ndarray, " judged"]:
    """The ranks of the units that have one."""
    return np.empty(0) if labels.ranks is None else labels.ranks[~np.isnan(labels.ranks)]


def plot_risk_coverage(
    curves: Mapping[str, tuple[Float[np.ndarray, " judged"], Bool[np.ndarray, " judged"]]],
) -> "Figure":
    """Of the most stable labels the share that is wrong, against how many of the units they are."""
    figure, axes = new_plot(6.4, 3.8)
    for number, (layer, (stability, right)) in enumerate(curves.items()):
        coverage, risk = curve(stability, right)
        colour, _, dash = line_style(number)
        axes.step(
            coverage, risk, where="post", color=colour, linestyle=dash, linewidth=2, label=cut_text(layer, WIDEST)
        )
    axes.axhline(20, color="#8a8f98", linewidth=0.8)
    axes.set(xlim=(0, 100), ylim=(0, 101), xlabel="coverage: units, the most stable first, %", ylabel="wrong labels, %")
    _finish_plot(axes, legend="upper left")
    return figure


def list_known_stability(
    labels: Labels,
) -> tuple[Float[np.ndarray, " judged"], Bool[np.ndarray, " judged"]] | None:
    """Stability and verdict of the units that have both; None where no unit has."""
    if labels.ranks is None or labels.stability is None:
        return None
    has_both = ~np.isnan(labels.ranks) & ~np.isnan(labels.stability)
    return (labels.stability[has_both], labels.ranks[has_both] == 1) if has_both.any() else None


def reliability(
    curves: Mapping[str, tuple[Float[np.ndarray, " judged"], Bool[np.ndarray, " judged"]]],
) -> "Figure":
    """The share of labels that are right against the probability they were given, in ten bins; on the line is right.

    Bars are Clopper-Pearson intervals of 95 %; a larger dot has more units.
    """
    figure, axes = new_plot(4.6, 4.4)
    axes.plot([0, 1], [0, 1], color="#8a8f98", linewidth=0.8)
    for number, (layer, (stated, right)) in enumerate(curves.items()):
        colour = line_style(number)[0]
        bins = np.minimum((stated * BINS).astype(int), BINS - 1)
        for part in (bins == at for at in np.unique(bins)):
            low, high = (end / 100 for end in clopper_pearson_interval(right[part]))
            axes.plot([stated[part].mean()] * 2, [low, high], color=colour, linewidth=1)
            size = 12 + 80 * part.mean()
            axes.scatter([stated[part].mean()], [right[part].mean()], s=size, color=colour, zorder=3)
        axes.scatter([], [], s=30, color=colour, label=f"{cut_text(layer, WIDEST)}, {len(right)} units")
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="probability that the label is right", ylabel="share of labels right")
    _finish_plot(axes, legend="upper left")
    return figure


def known_p_right(
    labels: Labels,
) -> tuple[Float[np.ndarray, " judged"], Bool[np.ndarray, " judged"]] | None:
    """Probability and verdict of the units that have both; None where no unit has."""
    if labels.ranks is None or labels.p_right is None:
        return None
    known = ~np.isnan(labels.ranks) & ~np.isnan(labels.p_right)
    return (labels.p_right[known], labels.ranks[known] == 1) if known.any() else None


def _finish_plot(axes: "Axes", *, legend: Literal["lower right", "upper left"]) -> None:
    axes.minorticks_off()
    axes.grid(color=GRID, linewidth=0.8)
    for text in axes.legend(frameon=False, loc=legend).get_texts():
        text.set_parse_math(False)


DPI = 150
COLUMNS = 3
# In pixels, as all lengths here.
SIZE = 108  # of an image
GAP = 39  # between cards
WORDS = 51  # height of the two lines above the images
GREY = "#5b6168"
MARKS = {True: ("✓ ", "#00694e"), False: ("✗ ", "#a33c00"), None: ("", "#1c1e21")}


def draw_grid(probe: Probe, shown: Sequence[ShownUnit]) -> PIL.Image.Image:
    """A card for each unit: label, unit and truth above the images that excite it most, the strongest first."""
    from matplotlib.figure import Figure

    pictures = max(3, *(len(unit.images) for unit in shown))  # fewer leave no room for the words
    width, height = pictures * (SIZE + 4) + GAP, SIZE + WORDS + GAP
    across, down = min(COLUMNS, len(shown)) * width + GAP, -(-len(shown) // COLUMNS) * height + GAP
    corners = [(GAP + n % COLUMNS * width, GAP + n // COLUMNS * height) for n in range(len(shown))]
    figure = Figure(figsize=(across / DPI, down / DPI), dpi=DPI)
    for unit, (left, top) in zip(shown, corners, strict=True):
        _draw_words(figure, unit, left=left / across, top=1 - top / down, below=25 / down, room=width - GAP)
    canvas = render_figure(figure)  # words alone: drawn by matplotlib, the images take ten times as long
    for unit, (left, top) in zip(shown, corners, strict=True):
        if unit.images:
            canvas.paste(make_strip(probe, unit.images, SIZE, gap=4), (left, top + WORDS))
    return canvas


def _draw_words(figure: "Figure", unit: ShownUnit, *, left: float, top: float, below: float, room: int) -> None:
    mark, colour = MARKS[unit.right]
    label = mark + (unit.description or "(none)")
    about = " · ".join(
        filter(None, (f"{unit.layer} {unit.unit}", unit.certainty_text, unit.truth and f"truth: {unit.truth}"))
    )
    colour = GREY if unit.is_unsure and unit.right is None else colour
    heading, below_it = cut_text(label, _text_room(9.0, room)), cut_text(about, _text_room(7.5, room))
    figure.text(left, top, heading, fontsize=9, va="top", color=colour, weight="bold", parse_math=False)
    figure.text(left, top - below, below_it, fontsize=7.5, va="top", color=GREY, parse_math=False)


def _text_room(size: float, width: int) -> int:
    """How many characters go into so many pixels: a letter is about 0.62 of its size wide."""
    return int(width / (0.62 * size * DPI / 72))


PANELS = 4  # layers of the agreement figure
CARDS = 120  # of units: more are looked at in the explorer, not in one image


def draw_figures(
    folder: Path,
    outcome: RunResult,
    *,
    units: int = 24,
    images: int = 5,
    method: str = CLIP_DISSECT,
    title: str = "",
    vector: bool = False,
) -> tuple[Path, ...]:
    """Draw what there is to draw into `folder/figures`: `accuracy`, `ranks`, `risk_coverage`, `reliability`,
    `agreement`, `units`.

    Args:
        folder: the run folder.
        outcome: the results of the run.
        units: how many units are shown with their top images, up to `CARDS`.
        images: how many top images of each.
        method: what our own labels are called beside those of a baseline.
        title: above each figure: what was run.
        vector: whether each is a PDF and an SVG too, but for `units`, which is images.

    Returns:
        The files drawn. Without truth there is no accuracy, no ranks and no risk; without stability no risk; without a
        baseline no agreement.
    """
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    paths = []
    for name, drawn in _draw_each(outcome, units, images, method):
        if isinstance(drawn, Image):
            files = {"png": encode_png(drawn)}
        else:
            if title:
                drawn.suptitle(
                    "\n".join(filter(None, (cut_text(title, 80), drawn.get_suptitle()))), fontsize=9, parse_math=False
                )
            files = {"png": encode_png(render_figure(drawn)), **(render_vectors(drawn) if vector else {})}
        for kind, content in files.items():
            path = folder / "figures" / f"{name}.{kind}"
            write_file(path, content)
            paths.append(path)
    return tuple(paths)


def _draw_each(outcome: RunResult, units: int, images: int, method: str) -> Iterator[tuple[str, "Image | Figure"]]:
    if judged := [row for row in metrics_rows(outcome, method) if "top1" in row.metrics]:
        yield "accuracy", plot_accuracy(judged)
    if curves := {layer: ranks for layer, labels in outcome.labels.items() if len(ranks := list_known_ranks(labels))}:
        yield "ranks", plot_ranks(curves)
    if believed := {layer: pair for layer, labels in outcome.labels.items() if (pair := list_known_stability(labels))}:
        yield "risk_coverage", plot_risk_coverage(believed)
    if stated := {layer: pair for layer, labels in outcome.labels.items() if (pair := known_p_right(labels))}:
        yield "reliability", reliability(stated)
    several = [layer for layer in outcome.labels if any(layer in layers for layers in outcome.baselines.values())]
    if several:
        yield "agreement", plot_agreement(outcome, several[-PANELS:], method)
    if shown := choose_units(outcome, min(units, CARDS), images=images):
        yield "units", draw_grid(outcome.probe, shown)


def plot_accuracy(judged: Sequence[MetricsRow]) -> "Figure":
    """A dot with its 95 % interval for each layer and method; the numbers stand at the right."""
    methods = list(dict.fromkeys(row.method for row in judged))
    layers = list(dict.fromkeys(row.layer for row in judged))
    # A heading, where there is one, takes a line of its own.
    lines = [(layer, row) for layer in layers for row in [None, *judged] if row is None or row.layer == layer]
    if len(methods) == 1:
        lines = [(layer, row) for layer, row in lines if row is not None]
    figure, axes = new_plot(7.2, 0.9 + 0.3 * len(lines))
    for height, (layer, row) in enumerate(lines):
        if row is None:
            heading: dict[str, Any] = {"weight": "bold", "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1}}
            axes.text(-1, height, cut_text(layer, WIDEST), va="center", parse_math=False, **heading)
        else:
            _interval_of(axes, row, height, line_style(methods.index(row.method))[0])
    names = [cut_text(row.method if len(methods) > 1 else row.layer, WIDEST) for _, row in lines if row is not None]
    axes.set_yticks([height for height, (_, row) in enumerate(lines) if row is not None], names, parse_math=False)
    axes.set(xlim=(-1, 101), ylim=(len(lines) - 0.4, -0.6), xlabel="top-1: judged units labelled right, % [95 %]")
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure


def _interval_of(axes: "Axes", row: MetricsRow, height: int, colour: str) -> None:
    value, (low, high) = row.metrics["top1"], row.metrics["ci95"]
    axes.plot([low, high], [height, height], color=colour, linewidth=2.4, solid_capstyle="round", alpha=0.55)
    axes.plot(value, height, "o", color=colour, markersize=7)
    text = f"{value:.1f}   n = {row.metrics['judged']}"
    axes.text(1.01, height, text, va="center", fontsize=9, transform=axes.get_yaxis_transform())


def plot_agreement(outcome: RunResult, layers: Sequence[str], method: str = CLIP_DISSECT) -> "Figure":
    """For each layer, the share of units to which two methods give identical labels (`metrics.agreement`)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(4.4, 0.8 + 3.0 * len(layers)), 3.6), dpi=150, layout="constrained")
    for axes, layer in zip(figure.subplots(1, len(layers), squeeze=False)[0], layers, strict=True):
        methods = {method: outcome.labels[layer]}
        methods |= {name: by_layer[layer] for name, by_layer in outcome.baselines.items() if layer in by_layer}
        _draw_heat(axes, list(methods), _agreement_shares(list(methods.values())))
        axes.set_title(cut_text(layer, WIDEST), fontsize=10, parse_math=False)
    figure.suptitle("Units with identical labels by two methods, %", fontsize=10)
    return figure


def _agreement_shares(methods: Sequence[Labels]) -> Float[np.ndarray, "methods methods"]:
    """NaN on the diagonal, and where two methods list no unit in common."""
    shares = [[None if a is b else agreeing(a, b) for b in methods] for a in methods]
    return np.array(shares, dtype=float)


def _draw_heat(axes: "Axes", names: Sequence[str], values: Float[np.ndarray, "methods methods"]) -> None:
    axes.imshow(values, vmin=0, vmax=100, cmap="cividis")
    axes.set_facecolor("#eeeeee")
    labels = [cut_text(name, 18) for name in names]
    axes.set_xticks(range(len(names)), labels, fontsize=8, rotation=30, ha="right", parse_math=False)
    axes.set_yticks(range(len(names)), labels, fontsize=8, parse_math=False)
    axes.tick_params(length=0)
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", color="black" if value > 55 else "white")
