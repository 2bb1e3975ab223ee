"""The figures of a sweep: accuracy by the axes, the same as a heat map, and units that configurations label
differently.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cd_exp.io.text import cut_text, make_file_name
from cd_exp.results.plots import (
    CAPTIONS,
    COLUMN,
    CONSENSUS,
    DPI,
    GRID,
    OTHER,
    PAGE,
    RIGHT,
    TALLEST,
    WIDEST,
    WRONG,
    CaptionedFigure,
    encode_figure,
    format_captions,
    line_style,
    new_plot,
    printed_sizes,
)
from cd_exp.sweep.consensus import Vote, votes_by_layer
from cd_exp.sweep.load import LAST, Job, LayerAcrossJobs, Sweep, common_layers
from cd_exp.sweep.tables import table_layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNITS = 40  # rows, those on which configurations agree least


def draw_disagreement(votes: Sequence[Vote]) -> "Figure | None":
    """A bar for each unit on which configurations differ: a piece for each label, as long as the share of the
    configurations that give it, the commonest first.

    Colour tells right from wrong labels where the truth is known, and the consensus from other labels where not.

    Args:
        votes: of one layer of one model.

    Returns:
        None where every configuration agrees on every unit, or there is only one.
    """
    from matplotlib.figure import Figure

    differing = [vote for vote in votes if len(set(vote.kinds.values())) > 1]
    if not differing:
        return None
    shown = sorted(sorted(differing, key=lambda vote: (vote.agreement, vote.unit))[:UNITS], key=lambda vote: vote.unit)
    height = min(0.5 + 0.17 * len(shown), TALLEST)
    figure = Figure(figsize=(PAGE, height), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    for row, vote in enumerate(shown):
        _draw_labels(axes, vote, row)
    names = [f"{vote.truth} · {vote.unit}" if vote.truth else f"unit {vote.unit}" for vote in shown]
    axes.set_yticks(range(len(shown)), [cut_text(name, 26) for name in names], parse_math=False)
    axes.set(xlim=(0, 100), ylim=(len(shown) - 0.45, -0.55), xlabel="configurations that give the label, %")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def _draw_labels(axes: "Axes", vote: Vote, row: int) -> None:
    """The pieces of one bar, with the label in each that has room for it."""
    kinds: dict[int, list[str]] = {}
    for job in vote.labels:
        kinds.setdefault(vote.kinds[job], []).append(job)
    left = 0.0
    for kind, jobs in sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0])):
        width = 100 * len(jobs) / len(vote.labels)
        label, right = vote.labels[jobs[0]], vote.right[jobs[0]]
        colour = (OTHER if kind else CONSENSUS) if right is None else RIGHT if right else WRONG
        axes.barh(row, width, left=left, height=0.86, color=colour, edgecolor="white", linewidth=0.8)
        words = cut_text(label or "(none)", max(1, int(0.72 * width)))  # 72 letters across the whole bar
        ink = "white" if colour == RIGHT else "black"
        axes.text(left + 0.6, row, words, va="center", fontsize=6, color=ink, parse_math=False, clip_on=True)
        left += width


FAMILIES = ("accuracy", "heat", "disagreement")


def draw_sweep_figures(sweep: Sweep, votes: Sequence[Vote]) -> tuple[Path, ...]:
    """Draw what there is to draw into `figures` of the sweep's folder, with `captions.md`; drawings of layers no longer
    there are removed.

    `accuracy_LAYER` and, of two axes or more, `heat_LAYER` for each layer with a truth; `disagreement_LAYER` for each
    layer that several configurations label differently. PDF and SVG too where the jobs have `report.vector=true`.

    Args:
        sweep: the jobs.
        votes: as `consensus.consensus` counts them.

    Returns:
        The drawings as PNG files.
    """
    from cd_exp.io.atomic import write_file as write_file

    folder = sweep.folder / "figures"
    vector = any(job.value("report.vector") == "true" for job in sweep.jobs)
    files: dict[str, bytes] = {}
    captions: dict[str, str] = {}
    with printed_sizes():
        for figure in _draw_each(sweep, votes):
            files |= {f"{figure.name}.{kind}": part for kind, part in encode_figure(figure, vector=vector).items()}
            captions[figure.name] = figure.caption
    remove_figures(sweep.folder, keep=files)
    if not files:
        return ()
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        write_file(folder / name, content)
    write_file(folder / CAPTIONS, format_captions(" · ".join(sweep.axes) or "the sweep", captions))
    return tuple(folder / name for name in files if name.endswith(".png"))


KINDS = ("png", "pdf", "svg")


def remove_figures(sweep_folder: Path, *, keep: Collection[str] = ()) -> tuple[()]:
    """Remove the figures of a sweep, which of other jobs would stand beside its numbers, but those to keep by name."""
    folder = sweep_folder / "figures"
    for path in (path for family in FAMILIES for kind in KINDS for path in folder.glob(f"{family}_*.{kind}")):
        if path.name not in keep:
            path.unlink()
    if not keep:
        (folder / CAPTIONS).unlink(missing_ok=True)
    return ()


def _draw_each(sweep: Sweep, votes: Sequence[Vote]) -> Iterator[CaptionedFigure]:
    for view in common_layers(sweep) if sweep.axes else ():
        name = make_file_name("last_judged_layer" if view.title == LAST else view.title)
        counts = _describe_counts(view)
        yield CaptionedFigure(
            f"accuracy_{name}",
            plot_sweep_accuracy(sweep, view),
            f"{view.title}: share of units whose label is right, of those with known ground truth ({counts}), by"
            f" {' and '.join(sweep.axes)}. Lines are exact (Clopper-Pearson) intervals of 95 % over units.",
        )
        if len(sweep.axes) > 1:
            across, _ = table_layout(sweep)
            down = " · ".join(axis for axis in sweep.axes if axis != across)
            yield CaptionedFigure(
                f"heat_{name}",
                draw_heat_map(sweep, view),
                f"{view.title}: top-1 accuracy in per cent ({counts}); columns: {across}, rows: {down}. In brackets the"
                " exact (Clopper-Pearson) interval of 95 %; of several runs of one combination the mean.",
            )
    groups = votes_by_layer(votes)
    several = len({model for model, _ in groups}) > 1
    for (model, layer), layer_votes in groups.items():
        figure = draw_disagreement(layer_votes)
        if figure is not None:
            name = "_".join(map(make_file_name, (model, layer) if several else (layer,)))
            yield CaptionedFigure(
                f"disagreement_{name}",
                figure,
                _describe_disagreement(layer_votes, f"{model} {layer}" if several else layer),
            )


def _describe_counts(view: LayerAcrossJobs) -> str:
    """How many units were judged, as in `n = 100` or `n = 28 to 100`."""
    counts = sorted({metrics["judged"] for metrics in view.metrics.values()})
    return f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"


def _describe_disagreement(votes: Sequence[Vote], layer: str) -> str:
    differing = sum(len(set(vote.kinds.values())) > 1 for vote in votes)
    fewer = f" The {UNITS} with least agreement are shown." if differing > UNITS else ""
    has_truth = any(right is not None for vote in votes for right in vote.right.values())
    colours = "Dark blue: right, sand: wrong" if has_truth else "Blue: the commonest label, grey: another"
    unknown = "; light blue and grey: truth unknown, the commonest label and others" if has_truth else ""
    named = "Each row is named by its truth and its number" if has_truth else "Each row is a unit"
    return (
        f"{layer}: configurations give different labels to {differing} of {len(votes)} units.{fewer} {named}; a piece"
        f" is a label, as long as the share of the configurations that give it. {colours}{unknown}."
    )


def plot_sweep_accuracy(sweep: Sweep, view: LayerAcrossJobs) -> "Figure":
    """A dot with its 95 % interval for each job: a line for each combination of the axes, a colour across."""
    across, rows = table_layout(sweep)
    levels = sweep.levels(across) if len(sweep.axes) > 1 else ()
    names = rows if levels else sweep.levels(across)
    step = 1 / (max(1, len(levels)) + 1)
    figure, axes = new_plot(PAGE, 0.8 + len(names) * max(0.2, 0.11 * (len(levels) + 1)) + 0.14 * (len(levels) // 4))
    for job in sweep.finished:
        if job.name in view.metrics:
            value = job.value(across) or ""
            number = levels.index(value) if levels else 0
            row = names.index(sweep.describe_job(job, without=across) if levels else value)
            shift = (number + 1) * step - 0.5 if levels else 0.0
            _interval_of(axes, view.metrics[job.name], row + shift, number)
    axes.set_yticks(range(len(names)), [cut_text(name, WIDEST) for name in names], parse_math=False)
    axes.set(xlim=(-1, 101), ylim=(len(names) - 0.45, -0.55))
    words = f"{cut_text(view.title, WIDEST)}: top-1, judged units labelled right, % [95 %], {_describe_counts(view)}"
    axes.set_xlabel(words, parse_math=False)
    down = " · ".join(axis for axis in sweep.axes if axis != across) or across
    axes.set_ylabel(cut_text(down, WIDEST), parse_math=False)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for between in range(1, len(names) if levels else 0):
        axes.axhline(between - 0.5, color=GRID, linewidth=0.8)
    if levels:
        _add_legend(axes, across, levels)
    return figure


def draw_heat_map(sweep: Sweep, view: LayerAcrossJobs) -> "Figure":
    """Top-1 of each combination with its interval, coloured from 0 to 100 % in every figure; grey where there is none,
    with the word for how the job ended.
    """
    across, rows = table_layout(sweep)
    columns = sweep.levels(across)
    jobs_in_cell: dict[tuple[int, int], list[Job]] = {}
    for job in sweep.jobs:
        if job.value(across) in columns:
            cell = rows.index(sweep.describe_job(job, without=across)), columns.index(job.value(across) or "")
            jobs_in_cell.setdefault(cell, []).append(job)
    values = np.full((len(rows), len(columns)), np.nan)
    for cell, jobs in jobs_in_cell.items():
        judged = [view.metrics[job.name]["top1"] for job in jobs if job.name in view.metrics]
        values[cell] = np.mean(judged) if judged else np.nan
    width = max(COLUMN, min(TALLEST, 1.9 + 0.8 * len(columns)))
    figure, axes = new_plot(PAGE if COLUMN < width < PAGE else width, 0.8 + 0.36 * len(rows))
    image = axes.imshow(values, vmin=0, vmax=100, cmap="cividis", aspect="auto")
    axes.set_facecolor(GRID)
    for (row, column), jobs in jobs_in_cell.items():
        ink = "black" if np.isnan(values[row, column]) or values[row, column] > 55 else "white"
        text = _describe_cell(view, jobs, values[row, column])
        axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color=ink, linespacing=1.1)
    bar = figure.colorbar(image, ax=axes, pad=0.02, fraction=0.05)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    bar.set_label(f"top-1 %, {_describe_counts(view)}")
    axes.set_xticks(range(len(columns)), [cut_text(name, 20) for name in columns], parse_math=False)
    for label in axes.get_xticklabels() if max(map(len, columns)) > 9 else ():
        label.set(rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), [cut_text(name, WIDEST) for name in rows], parse_math=False)
    axes.set_xlabel(cut_text(across, WIDEST), parse_math=False)
    down = " · ".join(axis for axis in sweep.axes if axis != across)
    axes.set_ylabel(cut_text(down, WIDEST), parse_math=False)
    return figure


def _describe_cell(view: LayerAcrossJobs, jobs: Sequence[Job], mean: float) -> str:
    """Top-1 above its interval; of several runs their mean above their number; of none how the job ended."""
    judged = [job for job in jobs if job.name in view.metrics]
    if not judged:
        return view.cell(jobs[0])
    return view.cell(judged[0], line="\n") if len(judged) == 1 else f"{mean:.1f}\n{len(judged)} runs"


def _interval_of(axes: "Axes", metrics: Any, height: float, number: int) -> None:
    (colour, marker, _), (low, high) = line_style(number), metrics["ci95"]
    axes.plot([low, high], [height, height], color=colour, linewidth=1.8, solid_capstyle="round", alpha=0.55)
    axes.plot(metrics["top1"], height, marker, color=colour, markersize=4.5)


def _add_legend(axes: "Axes", across: str, levels: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="")
        for colour, marker, _ in map(line_style, range(len(levels)))
    ]
    names, anchor = [cut_text(level, 20) for level in levels], (0, 1)
    columns = max(1, min(6, 60 // (6 + max(map(len, names)))))
    legend = axes.legend(handles, names, loc="lower left", bbox_to_anchor=anchor, ncols=columns, frameon=False)
    legend.set_title(cut_text(across, WIDEST))
    legend.set_alignment("left")
    for text in (legend.get_title(), *legend.get_texts()):
        text.set_parse_math(False)
