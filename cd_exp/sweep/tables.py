"""What a gathered sweep says in a terminal: the results by axes, what explains them, the consensus, what went wrong."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cd_exp.io.text import as_terminal_text
from cd_exp.sweep.anova import drop_untestable
from cd_exp.sweep.consensus import SELECTED
from cd_exp.sweep.load import FAILED, OK, Job, LayerAcrossJobs, Sweep, common_layers

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from cd_exp.metrics import Metric

NARROW = 12  # letters to a line of what a row is called, where the table needs the room
FILES = ("sweep.csv", "consensus.csv", "comparisons.json", "anova.json", "figures")
COMPARED = 20  # lines of the best job against others; all are in comparisons.json
STYLES = {OK: "", FAILED: "red"}
Agreed = tuple[str, str, Mapping[str, Any]]
"""Model, layer and its row of `consensus_accuracy`."""


def show_sweep(
    console: "Console",
    sweep: Sweep,
    *,
    explained: Mapping[str, Any],
    agreed: Sequence[tuple[str, str, Mapping[str, Any]]],
    compared: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Print a sweep.

    Args:
        console: what to print on.
        sweep: the jobs.
        explained: as `variance.explained` finds it.
        agreed: the consensus, layer by layer.
        compared: the best job against the others, as `compare_with_best_job` finds it.
    """
    seen = common_layers(sweep)
    for view in seen:
        _show_layer(console, sweep, view)
    if not seen:
        console.print(job_table(sweep, None))
    shown = drop_untestable(explained)
    for title, analysis in shown.items():
        console.print(variance_table(title, analysis))
    for note in dict.fromkeys(note for analysis in shown.values() for note in analysis["notes"]):
        console.print(_as_text(f"note: {note}", "dim"))
    if len(sweep.finished) > 1 and agreed:
        console.print(show_consensus(agreed))
    if compared:
        console.print(best_job_table(sweep, compared))
        console.print(_as_text(f"p: McNemar's test, Holm: adjusted for all {len(compared)} tests; {SELECTED}", "dim"))
    for job in sweep.troubled:
        words = ", ".join(f"{key}={value}" for key, value in job.overrides.items())
        console.print(
            _as_text(f"job {job.name} {job.status} ({words}): {job.reason}", STYLES.get(job.status, "yellow"))
        )
    console.print(_as_text(f"{len(sweep.finished)} of {len(sweep.jobs)} jobs finished", "bold"))
    names = ", ".join(name for name in FILES if (sweep.folder / name).exists())
    # Never wrapped: a path broken over two lines cannot be copied.
    console.print(_as_text(f"files: {sweep.folder}  {names}"), soft_wrap=True)


def table_layout(sweep: Sweep) -> tuple[str, tuple[str, ...]]:
    """The axis of the columns and the values of the rows: `similarity` goes across, or else the last axis."""
    across = "similarity" if "similarity" in sweep.axes else sweep.axes[-1]
    return across, tuple(dict.fromkeys(sweep.describe_job(job, without=across) for job in order_jobs(sweep)))


def order_jobs(sweep: Sweep) -> list[Job]:
    """The jobs by their values of the axes, the first axis slowest."""
    levels = {axis: sweep.levels(axis) for axis in sweep.axes}

    def level_numbers(job: Job) -> list[int]:
        values = ((levels[axis], job.value(axis)) for axis in sweep.axes)
        return [len(axis_levels) if value is None else axis_levels.index(value) for axis_levels, value in values]

    return sorted(sweep.jobs, key=level_numbers)


def pivot_table(sweep: Sweep, view: LayerAcrossJobs) -> "Table":
    """A cell for each combination: top-1 above its interval, or how the job ended."""
    across, rows = table_layout(sweep)
    down = " · ".join(axis for axis in sweep.axes if axis != across)
    table = _make_table(down, *sweep.levels(across), left=1, gap=0)
    for row in rows:
        cells = []
        for column in sweep.levels(across):
            jobs = [job for job in sweep.jobs if job.value(across) == column]
            of_row = [job for job in jobs if sweep.describe_job(job, without=across) == row]
            # Jobs of one combination stand below each other.
            cells.append(
                _as_text("\n", "").join(_as_text(view.cell(job, line="\n"), _job_style(job)) for job in of_row)
            )
        table.add_row(_as_text(row, "bold"), *cells)
    return table


def job_table(sweep: Sweep, view: LayerAcrossJobs | None, figures: "Sequence[Metric]" = ()) -> "Table":
    """A line for each job with its values of the axes; without a view, what is known where nothing is judged."""
    right = len(sweep.axes) + 1
    if view is None:
        title = ["status", "layers", "units"]
    else:
        title = [f"{view.title}: top-1 % [95 %]", *(figure.short for figure in figures)]
    table = _make_table("job", *sweep.axes, *title, left=right)
    for job in order_jobs(sweep):
        values = [job.name, *((job.value(axis) or "?") for axis in sweep.axes)]
        if view is None:
            units = ", ".join(str(row.get("units", "")) for row in job.layers.values())
            values += [job.status, ", ".join(job.layers), units]
        else:
            metrics = view.metrics.get(job.name, {})
            values += [view.cell(job), *(figure.text(metrics, interval=False) for figure in figures)]
        table.add_row(*(_as_text(value, _job_style(job)) for value in values))
    return table


def _fit_table(console: "Console", sweep: Sweep, view: LayerAcrossJobs) -> "Table":
    """`plain` with as many figures beside top-1 as the terminal has room for; all of them are in
    `sweep.csv`.
    """
    from rich.measure import Measurement

    from cd_exp.metrics.metrics import select_metrics

    figures = [figure for figure in select_metrics(list(view.metrics.values())) if figure.key != "top1"]
    figures.sort(key=lambda figure: {"top5": 0, "judged": 1}.get(figure.key, 2))  # the narrowest tables have these
    unbounded = console.options.update(width=10 * console.width)

    def width(count: int) -> int:
        return Measurement.get(console, unbounded, job_table(sweep, view, figures[:count])).maximum

    fitting = bisect_right(range(1, len(figures) + 1), console.width, key=width)
    return job_table(sweep, view, figures[:fitting])


def variance_table(title: str, analysis: Mapping[str, Any]) -> "Table":
    """A line for each axis: its share of the variance of the accuracy, and the F test where there is one."""
    table = _make_table(f"{title}: axis", "levels", "variance explained (η²) %", "df", "F", "p", "Holm", left=1)
    residual = analysis["residual"]
    for name, part in [*analysis["axes"].items(), ("residual", residual)]:
        cells = [str(part.get("levels", "")), _format_number(part, "eta_squared", "{:.1f}", 100), str(part["df"])]
        tests = [
            _format_number(part, "f", "{:.2f}"),
            _format_number(part, "p", "{:.2g}"),
            _format_number(part, "p_adjusted", "{:.2g}"),
        ]
        table.add_row(*map(_as_text, [name, *cells, *tests]))
    return table


def best_job_table(sweep: Sweep, compared: Sequence[Mapping[str, Any]]) -> "Table":
    """A line for each other job: top-1 of the best job minus its own, on the same units."""
    from cd_exp.results.summary import describe_differences

    words = {job.name: f"{job.name} ({sweep.describe_job(job)})" for job in sweep.jobs}
    table = _make_table("best job minus other", "layer", "top-1 difference [95 %]", "p", "Holm", "n", left=2)
    before = None
    for row, difference in zip(compared[:COMPARED], describe_differences(compared[:COMPARED]), strict=True):
        if (row["layer"], row["first"]) != before:
            table.add_row(_as_text(words[row["first"]], "bold"), _as_text(row["layer"]))
        before = (row["layer"], row["first"])
        cells = (f"{difference.difference} {difference.interval}".strip(), difference.p, difference.adjusted)
        table.add_row(_as_text(f"− {words[row['second']]}"), "", *map(_as_text, (*cells, difference.units)))
    return table


def show_consensus(agreed: Sequence[Agreed]) -> "Table":
    """A line for each layer: the accuracy of the consensus labels, and how far the configurations agree."""
    several = len({model for model, _, _ in agreed}) > 1
    judged = any("top1" in accuracy for _, _, accuracy in agreed)
    heads = ["top-1 % [95 %]", "judged"] if judged else []
    table = _make_table("consensus: layer", *heads, "agreement %", "units", left=1)
    for model, layer, accuracy in agreed:
        cells = [f"{model} {layer}" if several else layer]
        if judged:
            bounds = accuracy.get("ci95")
            interval = f" [{bounds[0]:.1f}, {bounds[1]:.1f}]" if bounds else ""
            cells += [_format_number(accuracy, "top1", "{:.1f}") + interval, str(accuracy.get("judged", ""))]
        table.add_row(*map(_as_text, [*cells, _format_number(accuracy, "agreement", "{:.1f}"), str(accuracy["units"])]))
    return table


def _show_layer(console: "Console", sweep: Sweep, view: LayerAcrossJobs) -> None:
    """The pivot where two axes or more vary and it fits into the terminal; or else a line for each job."""
    from rich.measure import Measurement

    if len(sweep.axes) > 1:
        table = pivot_table(sweep, view)
        unbounded = console.options.update(width=10 * console.width)  # a width is never measured as more than there is
        across, rows = table_layout(sweep)
        folds = max(0, max(map(len, rows)) - NARROW)  # the words of the rows may go over several lines
        if Measurement.get(console, unbounded, table).maximum - folds <= console.width:
            console.print(_as_text(f"{view.title}: top-1 % [95 %], {across} across", "bold"))
            console.print(table)
            return
    console.print(_fit_table(console, sweep, view))


def _format_number(values: Mapping[str, Any], key: str, form: str, factor: int = 1) -> str:
    return form.format(factor * values[key]) if key in values else ""


def _job_style(job: Job) -> str:
    return STYLES.get(job.status, "yellow")


def _as_text(text: str, style: str = "") -> "Text":
    """Text as it is, never read as markup; a cell may have several lines."""
    from rich.text import Text

    return Text("\n", style=style).join(as_terminal_text(line, style) for line in text.split("\n"))


def _make_table(*headings: str, left: int, gap: int = 1) -> "Table":
    """`left` columns of words, then columns of figures, a space and `gap` more apart."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, gap, 0, 0))
    for number, heading in enumerate(headings):
        figures = number >= left
        table.add_column(_as_text(heading), justify="right" if figures else "left", no_wrap=figures, overflow="fold")
    return table
