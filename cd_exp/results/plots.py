"""The figures of a run: accuracy, confidence by layer, ranks of the truth, risk and coverage, units with images.

Each is as wide as a column or the page of a paper and has no title: what it shows stands in `figures/captions.md`.
Colours are those of Okabe and Ito, which colour-blind readers can tell apart; what colour says is also said by words or
marks. Importing this costs no matplotlib.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
from jaxtyping import Bool, Float
from PIL.Image import Image

from cd_exp.io.atomic import write_file as write_file
from cd_exp.io.text import cut_text
from cd_exp.metrics import BY_KEY
from cd_exp.metrics import label_agreement as agreeing
from cd_exp.metrics.intervals import clopper_pearson_interval
from cd_exp.metrics.selective import risk_coverage as curve
from cd_exp.metrics.selective import risk_coverage_band
from cd_exp.records import CLIP_DISSECT, Labels, Probe, RunResult
from cd_exp.results.image_strips import encode_png, make_strip, render_figure, render_vectors
from cd_exp.results.summary import MetricsRow, ShownUnit, choose_units, metrics_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.ImageFont import FreeTypeFont

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", ":", "-.")
MARKERS = "osD^vP*"
GRID = "#e4e4e4"
RIGHT, WRONG, CONSENSUS, OTHER = "#0072B2", "#F3D9B1", "#8FB8DE", "#F1F1F1"
"""Squares of labels: with a truth right and wrong ones, without it the most common label and the others."""

WIDEST = 34  # characters of a name that a figure has room for
TALLEST = 100  # inches, either way: a figure of a thousand rows is still an image
COLUMN, PAGE = 3.3, 6.8  # inches: a column and the whole width of a paper with two columns
DPI = 200  # dots per inch of PNG files; for print there are PDF files
PRINTED = {
    "font.size": 8, "axes.labelsize": 8, "axes.titlesize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7,
    "legend.fontsize": 7, "legend.title_fontsize": 7,
}  # fmt: skip
"""Sizes of letters in points, which are those on paper: figures are as wide as they are printed."""


def printed_sizes() -> AbstractContextManager[None]:
    """Within the block, letters have the sizes of `PRINTED`."""
    from matplotlib import rc_context

    return rc_context(PRINTED)  # type: ignore[arg-type]


@dataclass(frozen=True)
class CaptionedFigure:
    """A figure of `figures/`: its name without an ending, what is drawn, and the words below it."""

    name: str
    drawn: "Image | Figure"
    caption: str
    vectors: "Figure | None" = None
    """The same with vectors, where `drawn` is made of pixels."""


def line_style(number: int) -> tuple[str, str, str]:
    """The colour, marker and dash of the n-th of several lines: all colours before the next marker and dash."""
    turn = number // len(COLOURS)
    return COLOURS[number % len(COLOURS)], MARKERS[turn % len(MARKERS)], DASHES[turn % len(DASHES)]


def new_plot(width: float, height: float) -> tuple["Figure", "Axes"]:
    """A figure of `width` x `height` inches with one plot, not registered with pyplot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(min(width, TALLEST), min(height, TALLEST)), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    return figure, axes


BINS = 10
"""Of the reliability diagram."""


def plot_ranks(curves: Mapping[str, Float[np.ndarray, " judged"]]) -> "Figure":
    """The share of units whose truth is among the k best concepts: top-1 at the left edge, top-5 at 5."""
    figure, axes = new_plot(COLUMN, 2.5)
    largest = max(10.0, *(float(ranks.max()) for ranks in curves.values()))
    for number, (layer, ranks) in enumerate(curves.items()):
        steps = np.unique([1.0, *ranks, largest])
        share = 100 * np.searchsorted(np.sort(ranks), steps, side="right") / len(ranks)
        colour, _, dash = line_style(number)
        label = f"{cut_text(layer, WIDEST)}, n = {len(ranks)}"
        axes.step(steps, share, where="post", color=colour, linestyle=dash, label=label)
    axes.set(
        xscale="log",
        xlim=(1, largest),
        ylim=(0, 101),
        xlabel="k, of all concepts",
        ylabel="units with their truth in the best k, %",
    )
    axes.set_xticks([k for k in (1, 5, 10, 100, 1000, 10000) if k <= largest])
    axes.xaxis.set_major_formatter("{x:g}")
    _finish_plot(axes)
    return figure


def list_known_ranks(labels: Labels) -> Float[np.ndarray, " judged"]:
    """The ranks of the units that have one."""
    return np.empty(0) if labels.ranks is None else labels.ranks[~np.isnan(labels.ranks)]


def plot_risk_coverage(
    curves: Mapping[str, tuple[Float[np.ndarray, " judged"], Bool[np.ndarray, " judged"]]],
) -> "Figure":
    """Of the most stable labels the share that is wrong, against how many of the units they are, with its 95 % band."""
    figure, axes = new_plot(COLUMN, 2.5)
    for number, (layer, (stability, right)) in enumerate(curves.items()):
        coverage, risk = curve(stability, right)
        low, high = risk_coverage_band(stability, right)
        colour, _, dash = line_style(number)
        axes.fill_between(coverage, low, high, step="post", color=colour, alpha=0.15, linewidth=0)
        label = f"{cut_text(layer, WIDEST)}, n = {len(right)}"
        axes.step(coverage, risk, where="post", color=colour, linestyle=dash, label=label)
    axes.axhline(20, color="#8a8f98", linewidth=0.8)
    axes.set(xlim=(0, 100), ylim=(0, 101), xlabel="coverage: units, the most stable first, %", ylabel="wrong labels, %")
    _finish_plot(axes)
    return figure


def plot_confidence(outcome: RunResult) -> "Figure":
    """Stability of the labels of each layer, and where there is one the probability that they are right: the median,
    the middle half and the middle 90 % of units, and the share from .8 on.
    """
    from matplotlib.figure import Figure

    measures = [key for key in CONFIDENCE if any(_known_values(labels, key).size for labels in outcome.labels.values())]
    height = min(0.6 + 0.22 * len(outcome.labels), TALLEST)
    figure = Figure(figsize=(PAGE if len(measures) > 1 else COLUMN, height), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, len(measures), squeeze=False, sharey=True)[0]
    for axes, key in zip(panels, measures, strict=True):
        words, share = CONFIDENCE[key]
        for row, (layer, labels) in enumerate(outcome.labels.items()):
            if (values := _known_values(labels, key)).size:
                _draw_spread(axes, values, row, BY_KEY[share].text(outcome.metrics.get(layer, {}), interval=False))
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
        axes.set(xlim=(-0.02, 1.02), ylim=(len(outcome.labels) - 0.5, -0.5), xlabel=words)
        axes.text(1.03, 1.01, "≥ .8", fontsize=7, color=GREY, transform=axes.transAxes)
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
    names = [cut_text(layer, WIDEST) for layer in outcome.labels]
    panels[0].set_yticks(range(len(names)), names, parse_math=False)
    return figure


CONFIDENCE = {
    "stability": ("stability of the label", "stable_share"),
    "p_right": ("probability that the label is right", "p_right_share"),
}
"""What is known of how far labels can be trusted, in words, and the metric of how many units reach .8."""


def _known_values(labels: Labels, key: str) -> Float[np.ndarray, " known"]:
    values = getattr(labels, key)
    return np.empty(0) if values is None else values[~np.isnan(values)]


def _draw_spread(axes: "Axes", values: Float[np.ndarray, " known"], row: int, share: str) -> None:
    least, low, middle, high, most = np.percentile(values, [5, 25, 50, 75, 95])
    axes.plot([least, most], [row, row], color=COLOURS[0], linewidth=0.9)
    axes.plot([low, high], [row, row], color=COLOURS[0], linewidth=4.5, solid_capstyle="butt", alpha=0.55)
    axes.plot(middle, row, "o", color=COLOURS[0], markersize=4)
    axes.text(1.03, row, share, va="center", fontsize=7, transform=axes.get_yaxis_transform())


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
    figure, axes = new_plot(COLUMN, 3.1)
    axes.plot([0, 1], [0, 1], color="#8a8f98", linewidth=0.8)
    for number, (layer, (stated, right)) in enumerate(curves.items()):
        colour = line_style(number)[0]
        bins = np.minimum((stated * BINS).astype(int), BINS - 1)
        for part in (bins == at for at in np.unique(bins)):
            low, high = (end / 100 for end in clopper_pearson_interval(right[part]))
            axes.plot([stated[part].mean()] * 2, [low, high], color=colour, linewidth=1)
            size = 6 + 40 * part.mean()
            axes.scatter([stated[part].mean()], [right[part].mean()], s=size, color=colour, zorder=3)
        axes.scatter([], [], s=15, color=colour, label=f"{cut_text(layer, WIDEST)}, n = {len(right)}")
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="probability that the label is right", ylabel="share of labels right")
    _finish_plot(axes)
    return figure


def known_p_right(
    labels: Labels,
) -> tuple[Float[np.ndarray, " judged"], Bool[np.ndarray, " judged"]] | None:
    """Probability and verdict of the units that have both; None where no unit has."""
    if labels.ranks is None or labels.p_right is None:
        return None
    has_both = ~np.isnan(labels.ranks) & ~np.isnan(labels.p_right)
    return (labels.p_right[has_both], labels.ranks[has_both] == 1) if has_both.any() else None


def _finish_plot(axes: "Axes") -> None:
    """Grid lines, and the legend above the plot, where it hides no line."""
    axes.minorticks_off()
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    names = axes.get_legend_handles_labels()[1]
    columns = max(1, 46 // (6 + max(map(len, names))))
    legend = axes.legend(
        frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2, handlelength=1.5
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


COLUMNS = 3
# In pixels, as all lengths here.
SIZE = 79  # side of an image
GAP = 29  # between cards
WORDS = 48  # height of the two lines above the images
LINE = 21  # height of the label of another method below them
GREY = "#5b6168"
MARKS = {True: ("✓ ", "#00694e"), False: ("✗ ", "#a33c00"), None: ("", "#1c1e21")}


def draw_grid(probe: Probe, shown: Sequence[ShownUnit]) -> PIL.Image.Image:
    """A card for each unit: its label, and the truth where it is another, above the images that excite it most, the
    strongest first, and below them its label by every other method; green with a tick is right, orange with a cross
    wrong.
    """
    (across, down), room, corners = _lay_out_grid(shown)
    canvas = PIL.Image.new("RGB", (across, down), "white")
    pen = PIL.ImageDraw.Draw(canvas)  # matplotlib takes .35 s more for the same words, and longer yet for the images
    for unit, (left, top) in zip(shown, corners, strict=True):
        for text, below, size, colour in _card_words(unit, room):
            pen.text((left, top + below), text, fill=colour, font=_load_font(size))
        if unit.images:
            canvas.paste(make_strip(probe, unit.images, SIZE, gap=3), (left, top + WORDS))
    return canvas


def draw_vector_grid(probe: Probe, shown: Sequence[ShownUnit]) -> "Figure":
    """The same as a figure whose words stay words in a PDF, with the images in twice the resolution."""
    from matplotlib.figure import Figure

    (across, down), room, corners = _lay_out_grid(shown)
    figure = Figure(figsize=(across / DPI, down / DPI), dpi=DPI)
    for unit, (left, top) in zip(shown, corners, strict=True):
        for text, below, size, colour in _card_words(unit, room):
            style: dict[str, Any] = {"weight": "bold"} if size == HEADING else {}
            style |= {"fontsize": size, "va": "top", "color": colour, "parse_math": False}
            figure.text(left / across, 1 - (top + below) / down, text, **style)
        if unit.images:
            width = len(unit.images) * (SIZE + 3) - 3
            axes = figure.add_axes((left / across, 1 - (top + WORDS + SIZE) / down, width / across, SIZE / down))
            strip = make_strip(probe, unit.images, 2 * SIZE, gap=6)
            axes.imshow(np.asarray(strip), aspect="auto", interpolation="none")
            axes.set_axis_off()
    return figure


def _lay_out_grid(shown: Sequence[ShownUnit]) -> tuple[tuple[int, int], int, list[tuple[int, int]]]:
    """How wide and high all cards are, the width of one, and the corner of each from the left and the top."""
    images = max(3, *(len(unit.images) for unit in shown))  # fewer leave no room for the words
    others = max(len(unit.others) for unit in shown)
    width, height = images * (SIZE + 3) + GAP, WORDS + SIZE + others * LINE + GAP
    columns = max(1, min(COLUMNS, len(shown), int(PAGE * DPI) // width))
    corners = [(GAP + n % columns * width, GAP + n // columns * height) for n in range(len(shown))]
    return (columns * width + GAP, -(-len(shown) // columns) * height + GAP), width - GAP, corners


def _card_words(unit: ShownUnit, room: int) -> Iterator[tuple[str, int, float, str]]:
    """Each line of a card: its text, how far below the top, the size of its letters in points, and its colour."""
    mark, colour = MARKS[unit.right]
    truth = "" if unit.right else unit.truth and f"truth: {unit.truth}"  # a right label is the truth
    about = (f"{unit.layer} {unit.unit}", truth, unit.certainty_text)
    colour = GREY if unit.is_unsure and unit.right is None else colour
    yield cut_text(mark + (unit.description or "(none)"), _text_room(HEADING, room)), 0, HEADING, colour
    yield cut_text(" · ".join(filter(None, about)), _text_room(SMALL, room)), 26, SMALL, GREY
    for number, (method, label, right) in enumerate(unit.others):
        mark, colour = MARKS[right]
        text = cut_text(f"{mark}{method}: {label or '(none)'}", _text_room(SMALL, room))
        yield text, WORDS + SIZE + 4 + number * LINE, SMALL, colour


HEADING, SMALL = 8.0, 6.0  # points


@cache
def _load_font(size: float) -> "FreeTypeFont":
    """The letters that matplotlib brings with it, bold for headings."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if size == HEADING else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(get_data_path(), "fonts", "ttf", name), round(size * DPI / 72))


def _text_room(size: float, width: int) -> int:
    """How many characters go into so many pixels: a letter of words is about 0.55 of its size wide."""
    return int(width / (0.55 * size * DPI / 72))


PANELS = 4  # layers of the agreement figure
CARDS = 120  # units in one image: more are looked at in the explorer


def draw_figures(
    folder: Path,
    outcome: RunResult,
    *,
    units: int = 24,
    images: int = 5,
    method: str = CLIP_DISSECT,
    title: str = "",
    vector: bool = False,
    most: int = CARDS,
) -> tuple[Path, ...]:
    """Draw what there is to draw into `folder/figures`: `accuracy`, `confidence`, `ranks`, `risk_coverage`,
    `reliability`, `agreement`, `units`; and `captions.md` with the words below each.

    Args:
        folder: the run folder.
        outcome: the results of the run.
        units: how many units are shown with their top images, up to `most`.
        images: how many top images of each.
        method: what our own labels are called beside those of a baseline.
        title: what was run, for the captions.
        vector: whether each is a PDF and an SVG too.
        most: units in one image.

    Returns:
        The files written. Without truth there is no accuracy, no ranks and no risk; without stability no confidence
        and no risk; of fewer than three methods no agreement, which is a number of the comparison.
    """
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    files: dict[str, bytes] = {}
    captions: dict[str, str] = {}
    with printed_sizes():
        for figure in _draw_each(outcome, min(units, most), images, method, vector=vector):
            for kind, content in encode_figure(figure, vector=vector).items():
                files[f"{figure.name}.{kind}"] = content
            captions[figure.name] = figure.caption
    if captions:
        files[CAPTIONS] = format_captions(title, captions).encode()
    for name, content in files.items():
        write_file(folder / "figures" / name, content)
    return tuple(folder / "figures" / name for name in files)


CAPTIONS = "captions.md"


def format_captions(title: str, captions: Mapping[str, str]) -> str:
    """The text of `captions.md`: a paragraph for each figure, which begins with its name.

    >>> print(format_captions("resnet18", {"ranks": "Ranks of the truth."}), end="")
    # Figures of resnet18
    <BLANKLINE>
    **ranks**: Ranks of the truth.
    """
    return "\n\n".join([f"# Figures of {title}", *(f"**{name}**: {text}" for name, text in captions.items())]) + "\n"


def read_captions(folder: Path) -> dict[str, str]:
    """By the name of a figure its caption, as `format_captions` wrote them; nothing without the file."""
    path = folder / "figures" / CAPTIONS
    paragraphs = path.read_text(encoding="utf-8").split("\n\n")[1:] if path.is_file() else []
    return dict(part.strip().removeprefix("**").split("**: ", 1) for part in paragraphs)


def encode_figure(figure: CaptionedFigure, *, vector: bool) -> dict[str, bytes]:
    """The bytes of a figure by the ending of the file."""
    if isinstance(figure.drawn, Image):
        vectors = render_vectors(figure.vectors) if figure.vectors else {}
        return {"png": encode_png(figure.drawn), **vectors}
    return {"png": encode_png(render_figure(figure.drawn)), **(render_vectors(figure.drawn) if vector else {})}


def _draw_each(outcome: RunResult, units: int, images: int, method: str, *, vector: bool) -> Iterator[CaptionedFigure]:
    if judged := [row for row in metrics_rows(outcome, method) if "top1" in row.metrics]:
        yield CaptionedFigure("accuracy", plot_accuracy(judged), ACCURACY)
    if any(_known_values(labels, key).size for labels in outcome.labels.values() for key in CONFIDENCE):
        yield CaptionedFigure("confidence", plot_confidence(outcome), SPREAD)
    if curves := {layer: ranks for layer, labels in outcome.labels.items() if len(ranks := list_known_ranks(labels))}:
        yield CaptionedFigure("ranks", plot_ranks(curves), RANKS)
    if believed := {layer: pair for layer, labels in outcome.labels.items() if (pair := list_known_stability(labels))}:
        yield CaptionedFigure("risk_coverage", plot_risk_coverage(believed), RISK)
    if stated := {layer: pair for layer, labels in outcome.labels.items() if (pair := known_p_right(labels))}:
        yield CaptionedFigure("reliability", reliability(stated), RELIABILITY)
    several = [layer for layer in outcome.labels if _count_methods(outcome, layer) > 2]
    if several:
        yield CaptionedFigure("agreement", plot_agreement(outcome, several[-PANELS:], method), AGREEMENT)
    if shown := choose_units(outcome, units, images=images):
        grid = draw_vector_grid(outcome.probe, shown) if vector else None
        yield CaptionedFigure("units", draw_grid(outcome.probe, shown), UNITS, grid)


def _count_methods(outcome: RunResult, layer: str) -> int:
    return 1 + sum(layer in layers for layers in outcome.baselines.values())


ACCURACY = (
    "Share of units whose label is right, of the n units with known ground truth, by layer and method. Lines are exact"
    " (Clopper-Pearson) intervals of 95 % over units."
)
SPREAD = (
    "How far the labels of each layer can be trusted: stability (the share of bootstrap resamples of the images that"
    " give the same label) and, where it is known, the probability that the label is right. Dot: median over units;"
    " bar: the middle half of the units; line: the middle 90 %. At the right the share of units from .8 on."
)
RANKS = "Share of units whose ground truth is among the k best of all concepts; at k = 1 it is top-1, at 5 top-5."
RISK = (
    "Risk-coverage curve: the share of wrong labels among the most stable ones, by how many of the units these are. The"
    " band is the exact (Clopper-Pearson) interval of 95 % at each coverage; the grey line is 80 % right."
)
RELIABILITY = (
    "Share of labels that are right by the probability they were given, in ten bins. Lines are exact (Clopper-Pearson)"
    " intervals of 95 %, a larger dot has more units, and on the diagonal the probabilities are right."
)
AGREEMENT = "Share of units to which two methods give identical labels, in per cent, on the units that both label."
UNITS = (
    "Units with the images that excite them most, the strongest first; of each layer those whose labels are most"
    " certain. Green with a tick: the label is right, orange with a cross: wrong, black or grey: the ground truth is"
    " unknown (grey: unsure, below .5). Below the images the label of every other method."
)


def plot_accuracy(judged: Sequence[MetricsRow]) -> "Figure":
    """A dot with its 95 % interval for each layer and method; the numbers stand at the right."""
    methods = list(dict.fromkeys(row.method for row in judged))
    layers = list(dict.fromkeys(row.layer for row in judged))
    # A heading, where there is one, takes a line of its own.
    lines = [(layer, row) for layer in layers for row in [None, *judged] if row is None or row.layer == layer]
    if len(methods) == 1:
        lines = [(layer, row) for layer, row in lines if row is not None]
    figure, axes = new_plot(PAGE, 0.6 + 0.2 * len(lines))
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
    axes.plot([low, high], [height, height], color=colour, linewidth=2, solid_capstyle="round", alpha=0.55)
    axes.plot(value, height, "o", color=colour, markersize=5)
    text = f"{BY_KEY['top1'].text(row.metrics)}   n = {row.metrics['judged']}"
    axes.text(1.01, height, text, va="center", fontsize=7, transform=axes.get_yaxis_transform())


def plot_agreement(outcome: RunResult, layers: Sequence[str], method: str = CLIP_DISSECT) -> "Figure":
    """For each layer, the share of units to which two methods give identical labels (`metrics.agreement`)."""
    from matplotlib.figure import Figure

    width = COLUMN if len(layers) == 1 else PAGE
    figure = Figure(figsize=(width, 0.7 + (width - 0.6) / max(2, len(layers))), dpi=DPI, layout="constrained")
    for axes, layer in zip(figure.subplots(1, len(layers), squeeze=False)[0], layers, strict=True):
        methods = {method: outcome.labels[layer]}
        methods |= {name: by_layer[layer] for name, by_layer in outcome.baselines.items() if layer in by_layer}
        _draw_heat(axes, list(methods), _agreement_shares(list(methods.values())))
        axes.set_title(cut_text(layer, WIDEST), parse_math=False)
    return figure


def _agreement_shares(methods: Sequence[Labels]) -> Float[np.ndarray, "methods methods"]:
    """NaN on the diagonal, and where two methods list no unit in common."""
    shares = [[None if a is b else agreeing(a, b) for b in methods] for a in methods]
    return np.array(shares, dtype=float)


def _draw_heat(axes: "Axes", names: Sequence[str], values: Float[np.ndarray, "methods methods"]) -> None:
    axes.imshow(values, vmin=0, vmax=100, cmap="cividis")
    axes.set_facecolor("#eeeeee")
    labels = [cut_text(name, 18) for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=30, ha="right", parse_math=False)
    axes.set_yticks(range(len(names)), labels, parse_math=False)
    axes.tick_params(length=0)
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", color="black" if value > 55 else "white")
