"""The tables of results in a terminal, 80 columns wide or more, and as plain text where it is no terminal."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from cd_exp.io.text import as_terminal_text
from cd_exp.metrics import Metric
from cd_exp.records import CLIP_DISSECT, RunResult
from cd_exp.results.summary import (
    MetricsRow,
    format_cell,
    format_truth,
    is_label_right,
    method_differences,
    metric_columns,
    metrics_rows,
    spread_evenly,
)

EXAMPLES = 6
FILES = ("labels.csv", "metrics.json", "report.html", "explorer", "figures")


def show_results(console: Console, outcome: RunResult, folder: Path, *, method: str = CLIP_DISSECT) -> None:
    """Print the results by layer and method, the paired tests, some labels to read, and where the files are.

    Args:
        console: what to print on.
        outcome: what the run found.
        folder: the run folder, named at the end.
        method: what our own labels are called beside those of a baseline.
    """
    for table in _result_tables(console, outcome, method):
        console.print(table)
    for note in outcome.notes:
        console.print(as_terminal_text(f"note: {note}", style="yellow"))
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in outcome.seconds.items())
    console.print(as_terminal_text(f"time: {seconds}", style="dim"))
    names = ", ".join(name for name in FILES if (folder / name).exists())
    # Never wrapped: a path broken over two lines cannot be copied.
    console.print(
        as_terminal_text("files: ").append_text(as_terminal_text(folder, "bold")).append(f"  {names}", style="dim"),
        soft_wrap=True,
    )


def _result_tables(console: Console, outcome: RunResult, method: str) -> Iterator[Table]:
    if outcome.labels:
        yield print_examples(outcome)
    found = metrics_rows(outcome, method)
    several = {layer for layer in (row.layer for row in found) if sum(row.layer == layer for row in found) > 1}
    if alone := [row for row in found if row.layer not in several]:
        yield from _layer_table(console, alone)
    for layer in dict.fromkeys(row.layer for row in found if row.layer in several):
        yield print_by_method([row for row in found if row.layer == layer])
    if method_differences(outcome):
        yield print_comparisons(outcome)


def _layer_table(console: Console, found: Sequence[MetricsRow]) -> Iterator[Table]:
    """One table with every interval where the terminal is wide enough; or else as many narrow ones as it takes."""
    shown, unbounded = metric_columns(found), console.options.update_width(1000)

    def fits(table: Table) -> bool:
        return Measurement.get(console, unbounded, table).maximum <= console.width

    if fits(whole := print_by_layer(found, shown, interval=True)):
        yield whole
        return
    first = 0
    for last in range(1, len(shown) + 1):
        if last == len(shown) or not fits(print_by_layer(found, shown[first : last + 1], interval=False)):
            yield print_by_layer(found, shown[first:last], interval=False)
            first = last


def print_by_layer(found: Sequence[MetricsRow], shown: Sequence[Metric], *, interval: bool) -> Table:
    """A row for each layer; `interval` for every figure, or for top-1 alone to be narrow."""
    table = _make_table("layer", *(metric.short + (" [95 %]" if metric.key == "top1" else "") for metric in shown))
    for row in found:
        cells = (format_cell(row, metric, interval=interval or metric.key == "top1") for metric in shown)
        table.add_row(as_terminal_text(row.layer, style="bold"), *map(as_terminal_text, cells))
    return table


def print_by_method(found: Sequence[MetricsRow]) -> Table:
    """One layer that several methods label: a column for each, a row for each figure with its interval."""
    table = _make_table(f"{found[0].layer} [95 %]", *(row.method for row in found), wrap=True)
    for metric in metric_columns(found):
        table.add_row(
            as_terminal_text(metric.heading + metric.arrow),
            *(as_terminal_text(format_cell(row, metric, interval=True)) for row in found),
        )
    return table


def print_comparisons(outcome: RunResult) -> Table:
    """A row for each paired test: the first method less the second on the units in common; p, and p by Holm."""
    table = _make_table("layer", "methods", "metric", "difference [95 %]", "p", "Holm", "n", right_from=3)
    before = None
    for test in method_differences(outcome):
        pair = (test.layer, f"{test.first} − {test.second}")
        cells = (test.metric, f"{test.difference} {test.interval}".strip(), test.p, test.adjusted, test.units)
        table.add_row(*map(as_terminal_text, ("", "") if pair == before else pair), *map(as_terminal_text, cells))
        before = pair
    return table


def print_examples(outcome: RunResult) -> Table:
    """A few units of the last layers, so that words are seen before any file is opened."""
    found = list(_example_rows(outcome))
    known = any(cells[-1] for _, *cells in found)
    table = _make_table("layer", "unit", "label", *(["truth"] if known else []), right_from=9)
    for verdict, layer, unit, description, name in found:
        style, mark = {True: ("green", " ✓"), False: ("red", " ✗"), None: ("", "")}[verdict]
        texts = [
            as_terminal_text(layer),
            as_terminal_text(unit),
            as_terminal_text(description + mark, style=style),
            as_terminal_text(name),
        ]
        table.add_row(*texts[: len(table.columns)])
    return table


def _example_rows(outcome: RunResult) -> Iterator[tuple[bool | None, str, str, str, str]]:
    layers = list(outcome.labels.values())[-2:]
    for labels in layers:
        for row in spread_evenly(len(labels.units), EXAMPLES // len(layers)):
            description = labels.descriptions[row] or "(none)"
            names = ", ".join(format_truth(labels, row))
            yield is_label_right(labels, row), labels.layer, str(labels.units[row]), description, names


def _make_table(*headings: str, right_from: int = 1, wrap: bool = False) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for number, heading in enumerate(headings):
        figure = number >= right_from
        align = "right" if figure else "left"
        table.add_column(as_terminal_text(heading), justify=align, no_wrap=figure and not wrap, overflow="fold")  # type: ignore[arg-type]
    return table
