"""The result of a referee as files and in the terminal: `referee.csv`, `referee.json`, `index.html`."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from cd_exp.io.atomic import report_disk_errors
from cd_exp.io.atomic import write_file as write_file
from cd_exp.io.text import as_terminal_text, format_csv
from cd_exp.metrics.metrics import BY_KEY, METRICS, Metric, Statistic, format_interval, select_metrics
from cd_exp.referee.referee import BELIEFS, HUMAN, Refereed
from cd_exp.results.run_folder import format_json

MEAN_WITHOUT_INTERVAL = Statistic(lambda values: float(values.mean()))
FILES = ("referee.csv", "referee.json", "index.html")
NARROW = (
    *("top1", "faithfulness.whitened", "faithfulness.whitened_over_floor", "faithfulness.which_unit"),
    *("faithfulness.auprc", "faithfulness.activation_rate", "shared_label", "stability_mean", "p_right_mean"),
)
"""The columns of the terminal, as far as something has them; the files have all."""


UNBOUNDED = 10_000
"""A width that no table reaches: what it would take is compared with the terminal's."""


def write(result: Refereed, out: Path) -> tuple[Path, ...]:
    """Write the three files into a folder, each whole or not at all."""
    with report_disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        texts = (format_csv(table_rows(result)), format_json(as_plain(result), "referee.json"), page(result))
        for name, text in zip(FILES, texts, strict=True):
            write_file(out / name, text)
    return tuple(out / name for name in FILES)


def as_plain(result: Refereed) -> dict[str, Any]:
    """The content of `referee.json`."""
    return {
        "about": result.about,
        "references": result.references,
        "layers": result.metrics,
        "comparisons": result.comparisons,
        "sentences": result.sentences,
        "published": [vars(one) | {"verdict": one.verdict} for one in result.agreements],
        "notes": result.notes,
    }


def columns(result: Refereed) -> tuple[Metric, ...]:
    """The metrics that some labeller has; those of `BELIEFS` and of a human study are not of `METRICS`."""
    rows = [metrics for by in result.metrics.values() for metrics in by.values()]
    keys = dict.fromkeys(key for row in rows for key in row if key in BELIEFS.values() or key.startswith(HUMAN))
    others = [_mean_of(key) for key in keys if key not in BY_KEY]
    return (*select_metrics(rows), *others)


def _mean_of(key: str) -> Metric:
    heading = key.replace("_", " ")
    return Metric(key, (), MEAN_WITHOUT_INTERVAL, True, heading, heading, "mean over units, from the run", ".3f")


def table_rows(result: Refereed) -> Iterator[Sequence[str]]:
    """The lines of `referee.csv`: one per layer and labeller, each metric with the ends of its interval."""
    metrics = columns(result)
    head = ["layer", "labeller", "kind", "units"]
    for metric in metrics:
        ends = [f"{metric.interval_key}_low", f"{metric.interval_key}_high"] if metric.interval else []
        head += [metric.key, *ends]
    yield head
    for layer, by in result.metrics.items():
        for name, values in by.items():
            kind = "reference" if name in result.references else "labeller"
            row = [layer, name, kind, str(values["units"])]
            for metric in metrics:
                row.append(_number(values.get(metric.key)))
                if metric.interval:
                    row += [_number(end) for end in values.get(metric.interval_key, (None, None))]
            yield row


def _number(value: Any) -> str:
    return "" if value is None else format(value, ".6g") if isinstance(value, float) else str(value)


def show(result: Refereed, out: Path, console: Console) -> None:
    """Print a table per layer, which differ, and what published scores say.

    Where a table is wider than the terminal, its intervals are in the files alone.
    """
    for layer, by in result.metrics.items():
        table = _terminal_table(result, layer, by, intervals=True)
        if console.measure(table, options=console.options.update(width=UNBOUNDED)).maximum > console.width:
            table = _terminal_table(result, layer, by, intervals=False)
        console.print(table)
    for sentence in result.sentences:
        console.print(as_terminal_text(sentence))
    for one in result.agreements:
        console.print(as_terminal_text(agreement_text(one)))
    for note in result.notes:
        console.print(as_terminal_text(f"note: {note}", style="yellow"))
    console.print(as_terminal_text("files: ").append_text(as_terminal_text(out, "bold")), soft_wrap=True)


def _terminal_table(result: Refereed, layer: str, by: Mapping[str, Mapping[str, Any]], *, intervals: bool) -> Table:
    """One layer, with the metrics of `NARROW`."""
    shown = (metric for metric in columns(result) if metric.key in NARROW or metric.key.startswith(HUMAN))
    metrics = [metric for metric in shown if any(metric.key in values for values in by.values())]
    table = Table(box=box.SIMPLE_HEAD if intervals else None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(
        as_terminal_text(f"{layer} [95 %]" if intervals else layer), overflow="fold", no_wrap=not intervals
    )
    rows = {name: [metric.text(values, interval=intervals) for metric in metrics] for name, values in by.items()}
    for column, metric in enumerate(metrics):
        # Of a narrow table a heading is folded and a number is not.
        width = None if intervals else max(5, *(len(cells[column]) for cells in rows.values()))
        table.add_column(as_terminal_text(metric.short + metric.arrow), justify="right", overflow="fold", width=width)
    for name, cells in rows.items():
        style = "dim" if name in result.references else "bold"
        table.add_row(as_terminal_text(name, style=style), *map(as_terminal_text, cells))
    return table


def agreement_text(one: Any) -> str:
    """One sentence of published scores beside ours.

    >>> from cd_exp.referee.published_scores import Agreement
    >>> agreement_text(Agreement("fc", "a", "", "spearman", 0.6, (0.45, 0.73), 50, 0.9))[:66]
    'fc: published and our scores of a correlate with +0.600 [+0.450, +'
    """
    if one.statistic == "winner":
        what = f"the winner of {one.first} and {one.second} agrees in {100 * one.value:.1f} % "
        what += format_interval([100 * end for end in one.interval], ".1f")
    else:
        bounds = format_interval(one.interval, "+.3f")
        what = f"published and our scores of {one.first} correlate with {one.value:+.3f} {bounds} (Spearman)"
    return f"{one.layer}: {what} of {one.units} units ({100 * one.known:.0f} % of labels known): {one.verdict}"


STYLE = """
:root { --paper: #fff; --ink: #1c1e21; --soft: #5b6168; --line: #dcdfe3; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181b; --ink: #e7e9ec; --soft: #a3a9b1; --line: #363b42; } }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
       font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2rem; } .soft { color: var(--soft); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
td.n, th.n { text-align: right; } tr.reference { color: var(--soft); }
"""


def page(result: Refereed) -> str:
    """`index.html`: one file, which fetches nothing and runs nothing."""
    parts = [f"<p class=soft>{escape(text)}</p>" for text in result.notes]
    for layer, by in result.metrics.items():
        parts.append(f"<h2>{escape(layer)}</h2>" + _layer_table(result, list(by.items())))
    if result.comparisons:
        parts.append("<h2>Which labellers differ</h2>")
        parts += [f"<p>{escape(sentence)}</p>" for sentence in result.sentences]
        parts.append(_comparisons(result))
    if result.agreements:
        parts.append("<h2>Published scores beside ours</h2>")
        parts += [f"<p>{escape(agreement_text(one))}</p>" for one in result.agreements]
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<title>Labellers side by side</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>Labellers side by side</h1>\n"
        f"<p class=soft>{escape(str(result.about.get('model', '')))}, {escape(str(result.about.get('probe', '')))}, "
        f"{result.about.get('images', 0)} images. In brackets the 95 % interval over units.</p>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _layer_table(result: Refereed, rows: Sequence[tuple[str, Any]]) -> str:
    metrics = [metric for metric in columns(result) if any(metric.key in values for _, values in rows)]
    heads = ""
    for metric in metrics:
        title, heading = escape(metric.meaning, quote=True), escape(metric.heading + metric.arrow)
        heads += f'<th scope="col" class="n" title="{title}">{heading}</th>'
    lines = []
    for name, values in rows:
        kind = ' class="reference"' if name in result.references else ""
        cells = "".join(f'<td class="n">{escape(metric.text(values))}</td>' for metric in metrics)
        lines.append(f'<tr{kind}><th scope="row">{escape(name)}</th>{cells}</tr>')
    head = f'<thead><tr><th scope="col">labeller</th>{heads}</tr></thead>'
    return f'<div class="scroll" tabindex="0"><table>{head}<tbody>{"".join(lines)}</tbody></table></div>'


def _comparisons(result: Refereed) -> str:
    """A row for each test: difference with interval, p with Holm's, and what could have been seen."""
    names = ("layer", "first", "second", "metric", "difference [95 %]", "p", "p, Holm", "least detectable", "units")
    lines = []
    for row in result.comparisons:
        for metric in METRICS:
            key = metric.key
            if f"{key}_difference" not in row:
                continue
            digits = "+" + metric.digits.lstrip("+")
            bounds = row.get(f"{key}_difference_ci95")
            text = format(row[f"{key}_difference"], digits) + (f" {format_interval(bounds, digits)}" if bounds else "")
            least = row.get(f"{key}_least_detectable")
            cells = [
                row["layer"], row["first"], row["second"], metric.heading, text, f"{row[f'{key}_p']:.2g}",
                f"{row[f'{key}_p_adjusted']:.2g}", "" if least is None else format(least, metric.digits.lstrip("+")),
                str(row[f"{key}_n"]),
            ]  # fmt: skip
            lines.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{table}</div>'
