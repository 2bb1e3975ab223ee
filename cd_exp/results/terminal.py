"""The tables of results in a terminal, 80 columns wide or more, and as plain text where it is no terminal."""

import logging
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from cd_exp.io.text import as_terminal_text, escape_for_terminal
from cd_exp.metrics import BY_KEY, Metric
from cd_exp.records import CLIP_DISSECT, RunResult
from cd_exp.results.summary import (
    MetricsRow,
    certainty,
    certainty_name,
    format_cell,
    format_truth,
    is_label_right,
    method_differences,
    metric_columns,
    metrics_rows,
    sample_by_certainty,
)

LOG = logging.getLogger(__name__)
EXAMPLES = 12
FILES = ("labels.csv", "metrics.json", "report.html", "explorer", "figures")


def show_results(console: Console, outcome: RunResult, folder: Path, *, method: str = CLIP_DISSECT) -> None:
    """Print some labels, the results by layer and method with a legend, the paired tests, and where the files are.

    Args:
        console: what to print on.
        outcome: the results of the run.
        folder: the run folder, named at the end.
        method: what our own labels are called beside those of a baseline.
    """
    for table in _result_tables(console, outcome, method):
        console.print(table)
    for note in outcome.notes:
        LOG.info("note: %s", escape_for_terminal(note))
        console.print(as_terminal_text(f"note: {note}", style="yellow"))
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in outcome.seconds.items())
    console.print(as_terminal_text(f"time: {seconds}", style="dim"))
    names = ", ".join(name for name in FILES if (folder / name).exists())
    # Never wrapped: a path broken over two lines cannot be copied.
    console.print(
        as_terminal_text("files: ").append_text(as_terminal_text(folder, "bold")).append(f"  {names}", style="dim"),
        soft_wrap=True,
    )


def show_job(console: Console, outcome: RunResult, name: str) -> None:
    """Print one line about a job of a sweep: its top-1, or where no truth is known its mean stability, by layer.

    Its notes go to the log of the job; the tables of a run are in its files.
    """
    cells = []
    for layer, metrics in outcome.metrics.items():
        key = next((key for key in ("top1", "stability_mean") if key in metrics), None)
        if key is not None:
            cells.append(f"{layer} {BY_KEY[key].heading} {BY_KEY[key].text(metrics, interval=False)}")
    for note in outcome.notes:
        LOG.info("note: %s", escape_for_terminal(note))
    seconds = f"{outcome.seconds['total']:.1f} s" if "total" in outcome.seconds else ""
    line = " · ".join(filter(None, [*cells, seconds]))
    console.print(as_terminal_text(f"job {name}", "bold").append_text(as_terminal_text(f"  {line}")), soft_wrap=True)


def _result_tables(console: Console, outcome: RunResult, method: str) -> Iterator[Table]:
    if outcome.labels:
        yield print_examples(outcome)
    rows = metrics_rows(outcome, method)
    several = {layer for layer in (row.layer for row in rows) if sum(row.layer == layer for row in rows) > 1}
    if alone := [row for row in rows if row.layer not in several]:
        yield from _layer_tables(console, alone)
    for layer in dict.fromkeys(row.layer for row in rows if row.layer in several):
        yield print_by_method([row for row in rows if row.layer == layer])
    if rows:
        yield print_legend(metric_columns(rows))
    if method_differences(outcome):
        yield from print_comparisons(outcome)
        yield print_tests(outcome)


def _layer_tables(console: Console, rows: Sequence[MetricsRow]) -> Iterator[Table]:
    """One table with every interval where the terminal is wide enough, else with that of top-1 alone, else with none;
    layers that still find no room stand in a further table, with the metrics and the intervals that fit there.
    """
    shown, unbounded = metric_columns(rows), console.options.update_width(1000)

    def fits(table: Table) -> bool:
        return Measurement.get(console, unbounded, table).maximum <= console.width

    for intervals in (tuple(metric.key for metric in shown), ("top1",), ()):
        if fits(whole := print_by_layer(rows, shown, intervals=intervals)):
            yield whole
            return
    first = 0
    for last in range(1, len(rows) + 1):
        if last == len(rows) or not fits(print_by_layer(rows[first : last + 1], shown, intervals=())):
            some = rows[first:last]
            yield from (
                _layer_tables(console, some) if len(some) < len(rows) else [print_by_layer(some, shown, intervals=())]
            )
            first = last


def print_by_layer(rows: Sequence[MetricsRow], shown: Sequence[Metric], *, intervals: Sequence[str]) -> Table:
    """A column for each layer, a row for each metric; `intervals` holds the keys of those with their interval."""
    bounded = any(metric.key in intervals and metric.interval_key in row.metrics for metric in shown for row in rows)
    table = _make_table("layer" + (" [95 %]" if bounded else ""), *(row.layer for row in rows))
    for metric in shown:
        cells = (format_cell(row, metric, interval=metric.key in intervals) for row in rows)
        table.add_row(as_terminal_text(metric.heading + metric.arrow), *map(as_terminal_text, cells))
    return table


def print_legend(shown: Sequence[Metric]) -> Table:
    """What each heading of the tables above means."""
    table = _make_legend()
    for metric in shown:
        if metric.meaning != metric.heading:
            table.add_row(*map(as_terminal_text, (metric.heading, metric.meaning)))
    return table


def print_by_method(rows: Sequence[MetricsRow]) -> Table:
    """One layer that several methods label: a column for each, a row for each figure with its interval."""
    table = _make_table(f"{rows[0].layer} [95 %]", *(row.method for row in rows), wrap=True)
    for metric in metric_columns(rows):
        table.add_row(
            as_terminal_text(metric.heading + metric.arrow),
            *(as_terminal_text(format_cell(row, metric, interval=True)) for row in rows),
        )
    return table


def print_comparisons(outcome: RunResult) -> Iterator[Table]:
    """A table for each two methods of a layer: the first less the second on the units in common; p, and p by Holm."""
    by_pair = groupby(method_differences(outcome), key=lambda test: (test.layer, test.first, test.second))
    for (layer, first, second), tests in by_pair:
        title = f"{layer}: {first} − {second}"
        table = _make_table("metric", "difference [95 %]", "p", "Holm", "n", right_from=1)
        table.title, table.title_justify = as_terminal_text(title, style="bold"), "left"
        for test in tests:
            cells = (test.metric, f"{test.difference} {test.interval}".strip(), test.p, test.adjusted, test.units)
            table.add_row(*map(as_terminal_text, cells))
        yield table


def print_tests(outcome: RunResult) -> Table:
    """The name of the test behind each p of the comparisons, and how p is adjusted."""
    table = _make_legend()
    for metric, test in dict.fromkeys(
        (difference.metric, difference.test) for difference in method_differences(outcome)
    ):
        if test:
            table.add_row(*map(as_terminal_text, (metric, test)))
    table.add_row("Holm", "p adjusted by Holm for all tests of the run")
    return table


def print_examples(outcome: RunResult) -> Table:
    """The most and the least certain units of the last layers, so that words are seen before any file is opened."""
    layers = list(outcome.labels.values())[-2:]
    examples = [(labels, row) for labels in layers for row in sample_by_certainty(labels, EXAMPLES // len(layers))]
    measures = dict.fromkeys(name for labels in layers for name in [certainty_name(labels)] if name)
    has_truth = any(format_truth(labels, row) for labels, row in examples)
    title = as_terminal_text(f"most and least certain units, by {' or '.join(measures)}") if measures else None
    table = _make_table(
        "layer", "unit", "label", *(["truth"] if has_truth else []), *measures, right_from=3 + has_truth
    )
    for labels, row in examples:
        style, mark = {True: ("green", " ✓"), False: ("red", " ✗"), None: ("", "")}[is_label_right(labels, row)]
        texts = [
            as_terminal_text(labels.layer),
            as_terminal_text(str(labels.units[row])),
            as_terminal_text((labels.descriptions[row] or "(none)") + mark, style=style),
            *([as_terminal_text(", ".join(format_truth(labels, row)))] if has_truth else []),
        ]
        values, name = certainty(labels), certainty_name(labels)
        cells = ("" if values is None or measure != name else format(values[row], ".2f") for measure in measures)
        table.add_row(*texts, *map(as_terminal_text, cells))
    table.title = title
    table.title_justify = "left"
    return table


def show_query(console: Console, words: str, units: Sequence[tuple[str, int, int, str]]) -> None:
    """Print the units that match a phrase best.

    Args:
        console: what to print on.
        words: the phrase.
        units: layer, unit, rank of the phrase among all concepts, and label, the best of each layer first.
    """
    table = _make_table("layer", "unit", "rank of the phrase", "label of the unit", right_from=1)
    table.columns[-1].justify = "left"
    table.title, table.title_justify = as_terminal_text(f"units matching {words!r} best"), "left"
    for layer, unit, rank, label in units:
        table.add_row(*map(as_terminal_text, (layer, str(unit), f"{rank:,}", label or "(none)")))
    console.print(table)


def _make_table(*headings: str, right_from: int = 1, wrap: bool = False) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for number, heading in enumerate(headings):
        figure = number >= right_from
        align = "right" if figure else "left"
        table.add_column(as_terminal_text(heading), justify=align, no_wrap=figure and not wrap, overflow="fold")  # type: ignore[arg-type]
    return table


def _make_legend() -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), style="dim")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table
