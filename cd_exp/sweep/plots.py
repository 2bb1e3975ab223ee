"""The figures of a sweep: accuracy by the axes, the same as a heat map, and units that configurations label
differently.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from string import ascii_letters
from typing import TYPE_CHECKING, Any

import numpy as np

from cd_exp.io.text import cut_text, make_file_name
from cd_exp.results.plots import CONSENSUS, GRID, OTHER, RIGHT, WIDEST, WRONG, line_style, new_plot
from cd_exp.sweep.consensus import Vote, votes_by_layer
from cd_exp.sweep.load import LAST, Job, LayerAcrossJobs, Sweep, common_layers
from cd_exp.sweep.tables import order_jobs, table_layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNITS = 40  # rows, those on which configurations agree least
JOBS = 40  # columns
LETTERS = ascii_letters + "+"


def draw_disagreement(sweep: Sweep, votes: Sequence[Vote], *, title: str) -> "Figure | None":
    """Rows are units, columns configurations. The same letter in a row is the same label, `a` the consensus.

    Colour tells right from wrong labels where the truth is known, and the consensus from other labels where not.

    Args:
        sweep: the jobs.
        votes: of one layer of one model.
        title: what the layer is called.

    Returns:
        None where every configuration agrees on every unit, or there is only one.
    """
    from matplotlib.figure import Figure

    labelled = [job for job in order_jobs(sweep) if any(job.name in vote.labels for vote in votes)]
    differing = [vote for vote in votes if len(set(vote.kinds.values())) > 1]
    if len(labelled) < 2 or not differing:
        return None
    shown = sorted(differing, key=lambda vote: (vote.agreement, vote.unit))[:UNITS]
    shown, jobs = sorted(shown, key=lambda vote: vote.unit), _choose_jobs(labelled)
    words = [cut_text(sweep.describe_job(job) or job.name, WIDEST) for job in jobs]
    width, height = 3.4 + 0.24 * len(jobs), 1.0 + 0.075 * max(map(len, words)) + 0.2 * len(shown)
    figure = Figure(figsize=(max(5.6, width), height), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    _draw_squares(axes, shown, jobs)
    axes.set_xticks(range(len(jobs)), words, rotation=90, fontsize=7, parse_math=False)
    names = [f"{vote.truth or vote.description} · {vote.unit}" for vote in shown]
    axes.set_yticks(range(len(shown)), [cut_text(name, WIDEST) for name in names], fontsize=7, parse_math=False)
    heading = [f"{cut_text(title, WIDEST)}: configurations disagree on {len(differing)} of {len(votes)} units"]
    heading += [f"{len(shown)} with least agreement shown"] if len(shown) < len(differing) else []
    heading += [f"{len(jobs)} of {len(labelled)} configurations shown"] if len(jobs) < len(labelled) else []
    heading += [_sort_key(shown), "same letter in a row: same label; a: the most common"]
    # Over the whole figure: above the squares alone there is too little room where jobs are few.
    figure.suptitle("\n".join(heading), x=0.01, ha="left", fontsize=8, parse_math=False)
    return figure


def _draw_squares(axes: "Axes", votes: Sequence[Vote], jobs: Sequence[Job]) -> None:
    """A coloured square with its letter for each unit and job."""
    from matplotlib.colors import to_rgb

    cells = [[_cell_style(vote, job) for job in jobs] for vote in votes]
    axes.imshow([[to_rgb(colour) for _, colour in row] for row in cells], aspect="auto")
    for row, column in product(range(len(votes)), range(len(jobs))):
        letter, colour = cells[row][column]
        ink = "white" if colour == RIGHT else "black"
        axes.text(column, row, letter, ha="center", va="center", fontsize=7, color=ink)
    axes.set_xticks([column - 0.5 for column in range(1, len(jobs))], minor=True)
    axes.set_yticks([row - 0.5 for row in range(1, len(votes))], minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


def _choose_jobs(jobs: Sequence[Job]) -> list[Job]:
    """At most `JOBS` of them, evenly."""
    step = max(1.0, len(jobs) / JOBS)
    return [jobs[int(number * step)] for number in range(min(JOBS, len(jobs)))]


def _sort_key(votes: Sequence[Vote]) -> str:
    has_truth = any(right is not None for vote in votes for right in vote.right.values())
    return "dark blue: right, sand: wrong" if has_truth else "blue: the consensus, grey: another label"


def _cell_style(vote: Vote, job: Job) -> tuple[str, str]:
    """The letter and the colour of a square; nothing where the job does not have the unit."""
    if job.name not in vote.labels:
        return "", "white"
    kind, right = vote.kinds[job.name], vote.right[job.name]
    letter = LETTERS[min(kind, len(LETTERS) - 1)] if vote.labels[job.name] else "–"
    if right is None:
        return letter, OTHER if kind else CONSENSUS
    return letter, RIGHT if right else WRONG


FAMILIES = ("accuracy", "heat", "disagreement")


def draw_sweep_figures(sweep: Sweep, votes: Sequence[Vote]) -> tuple[Path, ...]:
    """Draw what there is to draw into `figures` of the sweep's folder; drawings of layers no longer there are
    removed.

    `accuracy_LAYER` and, of two axes or more, `heat_LAYER` for each layer with a truth; `disagreement_LAYER` for each
    layer that several configurations label differently.

    Args:
        sweep: the jobs.
        votes: as `consensus.consensus` counts them.

    Returns:
        The files drawn.
    """
    from cd_exp.io.atomic import write_file as write_file
    from cd_exp.results.image_strips import encode_png, render_figure

    folder = sweep.folder / "figures"
    paths: list[Path] = []
    for name, figure in _draw_each(sweep, votes):
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.png"
        write_file(path, encode_png(render_figure(figure)))
        paths.append(path)
    for path in (path for family in FAMILIES for path in folder.glob(f"{family}_*.png")):
        if path not in paths:
            path.unlink()
    return tuple(paths)


def _draw_each(sweep: Sweep, votes: Sequence[Vote]) -> Iterator[tuple[str, "Figure"]]:
    for view in common_layers(sweep) if sweep.axes else ():
        name = make_file_name("last_judged_layer" if view.title == LAST else view.title)
        yield f"accuracy_{name}", plot_sweep_accuracy(sweep, view)
        if len(sweep.axes) > 1:
            yield f"heat_{name}", draw_heat_map(sweep, view)
    groups = votes_by_layer(votes)
    several = len({model for model, _ in groups}) > 1
    for (model, layer), layer_votes in groups.items():
        title = f"{model} {layer}" if several else layer
        figure = draw_disagreement(sweep, layer_votes, title=title)
        if figure is not None:
            name = "_".join(map(make_file_name, (model, layer) if several else (layer,)))
            yield f"disagreement_{name}", figure


def plot_sweep_accuracy(sweep: Sweep, view: LayerAcrossJobs) -> "Figure":
    """A dot with its 95 % interval for each job: a line for each combination of the axes, a colour across."""
    across, rows = table_layout(sweep)
    levels = sweep.levels(across) if len(sweep.axes) > 1 else ()
    names = rows if levels else sweep.levels(across)
    step = 1 / (max(1, len(levels)) + 1)
    figure, axes = new_plot(7.4, 1.1 + len(names) * max(0.3, 0.17 * (len(levels) + 1)) + 0.2 * (len(levels) // 4))
    for job in sweep.finished:
        if job.name in view.metrics:
            value = job.value(across) or ""
            number = levels.index(value) if levels else 0
            row = names.index(sweep.describe_job(job, without=across) if levels else value)
            shift = (number + 1) * step - 0.5 if levels else 0.0
            _interval_of(axes, view.metrics[job.name], row + shift, number)
    axes.set_yticks(range(len(names)), [cut_text(name, WIDEST) for name in names], parse_math=False)
    axes.set(xlim=(-1, 101), ylim=(len(names) - 0.45, -0.55))
    axes.set_xlabel(f"{cut_text(view.title, WIDEST)}: top-1, judged units labelled right, % [95 %]", parse_math=False)
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
    """Top-1 of each combination; grey where there is none, with the word for how the job ended."""
    across, rows = table_layout(sweep)
    columns = sweep.levels(across)
    # Several runs of one combination show as their mean.
    jobs_in_cell: dict[tuple[int, int], list[Job]] = {}
    for job in sweep.jobs:
        if job.value(across) in columns:
            cell = rows.index(sweep.describe_job(job, without=across)), columns.index(job.value(across) or "")
            jobs_in_cell.setdefault(cell, []).append(job)
    values = np.full((len(rows), len(columns)), np.nan)
    for cell, jobs in jobs_in_cell.items():
        judged = [view.metrics[job.name]["top1"] for job in jobs if job.name in view.metrics]
        values[cell] = np.mean(judged) if judged else np.nan
    figure, axes = new_plot(2.6 + 0.85 * len(columns), 1.3 + 0.42 * len(rows))
    low, high = (np.nanmin(values), np.nanmax(values)) if np.isfinite(values).any() else (0, 100)
    axes.imshow(values, vmin=low, vmax=max(high, low + 1), cmap="cividis", aspect="auto")
    axes.set_facecolor(GRID)
    for (row, column), value in np.ndenumerate(values):
        bright = np.isnan(value) or value > (low + high) / 2
        text = (
            view.cell(jobs_in_cell[row, column][0])
            if np.isnan(value) and (row, column) in jobs_in_cell
            else f"{value:.1f}"
        )
        text = "" if text == "nan" else text
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color="black" if bright else "white")
    axes.set_xticks(range(len(columns)), [cut_text(name, 20) for name in columns], parse_math=False)
    for label in axes.get_xticklabels() if max(map(len, columns)) > 9 else ():
        label.set(rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), [cut_text(name, WIDEST) for name in rows], parse_math=False)
    axes.set_title(
        f"{cut_text(view.title, WIDEST)}: top-1 %, {across} across", fontsize=10, loc="left", parse_math=False
    )
    return figure


def _interval_of(axes: "Axes", metrics: Any, height: float, number: int) -> None:
    (colour, marker, _), (low, high) = line_style(number), metrics["ci95"]
    axes.plot([low, high], [height, height], color=colour, linewidth=2.2, solid_capstyle="round", alpha=0.55)
    axes.plot(metrics["top1"], height, marker, color=colour, markersize=6)


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
