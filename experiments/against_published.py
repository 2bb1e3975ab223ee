"""Ours beside the published: what run folders hold, row by row, against the numbers of an `expected.json`.

An `expected.json` holds `source` and `metrics_rows`; each row says which job it is about (`where`: axes and values,
also
`layer` and `method`) and what was published (`read_value_range`, keys as in `metrics.json`). A row may name its own
`source`, a `tolerance` where the same inputs were used, so that the numbers themselves must agree and not only the
intervals, and in `caveats` why a published number is not one to reach.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cd_exp.errors import InputError
from cd_exp.metrics.metrics import METRICS, Metric, select_metrics
from cd_exp.records import CLIP_DISSECT
from cd_exp.sweep import Job, read_sweep


@dataclass(frozen=True)
class Number:
    """One number: ours with its 95 % interval, and what was published, as far as there is either."""

    ours: float
    interval: tuple[float, float] | None = None
    published: float | None = None
    tolerance: float | None = None
    caveat: str = ""  # why the published number is not one to reach

    @property
    def holds(self) -> bool | None:
        """Whether the published number lies within the tolerance, or else within our interval; None: cannot be said."""
        if self.published is None or self.caveat:
            return None
        if self.tolerance is not None:
            return abs(self.ours - self.published) <= self.tolerance
        return None if self.interval is None else self.interval[0] <= self.published <= self.interval[1]


@dataclass(frozen=True)
class Row:
    """The numbers of one method on one layer of one job."""

    coordinates: Mapping[str, str]
    numbers: Mapping[str, Number]
    source: str = ""  # where it was published
    metrics: Mapping[str, Any] = field(default_factory=dict)  # as `metrics.json` has them


def jobs(folders: Sequence[Path]) -> tuple[Job, ...]:
    """The finished jobs in the folders, each a run or a sweep.

    Raises:
        InputError: a folder that holds no finished job.
    """
    finished: list[Job] = []
    for folder in folders:
        whole = folder.resolve()
        within = read_sweep(whole.parent).jobs if (whole / "metrics.json").exists() else read_sweep(whole).jobs
        ended = [job for job in within if job.status == "ok" and whole in (job.folder, *job.folder.parents)]
        if not ended:
            raise InputError(f"{folder} holds no finished run; give the folder of a run or of a sweep")
        finished += ended
    return tuple(finished)


def rows(finished: Sequence[Job], *, axes: Sequence[str], expected: Mapping) -> Iterator[Row]:
    """One row a job, layer and method that has a figure."""
    for job in finished:
        methods = {CLIP_DISSECT: job.layers, **job.baselines}
        for method, layers in methods.items():
            for layer, values in layers.items():
                coordinates = {axis: job.value(axis) or "?" for axis in axes} | {"layer": layer, "method": method}
                published_values = published(expected, job, coordinates)
                numbers = {
                    figure.key: _number(figure, values, published_values) for figure in METRICS if figure.key in values
                }
                compared = "judged" in values or any(key.startswith("faithfulness") for key in numbers)
                if compared:  # what is said of every layer, such as its distinct labels, has nothing published
                    yield Row(
                        coordinates,
                        numbers,
                        published_values.get("source", expected["source"] if published_values else ""),
                        values,
                    )


def published(expected: Mapping[str, Any], job: Job, coordinates: Mapping[str, str]) -> Mapping[str, Any]:
    """The one row of `expected` that is about this job, layer and method; empty where there is none."""
    for row in expected["rows"]:
        if all(coordinates.get(axis, job.value(axis)) == str(value) for axis, value in row["where"].items()):
            return row
    return {}


def _number(figure: Metric, values: Mapping[str, Any], published_values: Mapping[str, Any]) -> Number:
    bounds = values.get(figure.interval_key)
    return Number(
        ours=values[figure.key],
        interval=(bounds[0], bounds[1]) if bounds else None,
        published=published_values.get("values", {}).get(figure.key),
        tolerance=published_values.get("tolerance"),
        caveat=published_values.get("caveats", {}).get(figure.key, ""),
    )


def markdown(table_rows: Sequence[Row]) -> str:
    """The rows as a table: ours [95 % interval], published, and whether the one holds the other."""
    figures = select_metrics([row.metrics for row in table_rows])
    # A column in which all rows are alike says nothing, as long as another one is left.
    keys = [key for key in table_rows[0].coordinates if len({row.coordinates.get(key) for row in table_rows}) > 1] or [
        "layer"
    ]
    lines = [[*keys, *(figure.heading for figure in figures)], ["---"] * (len(keys) + len(figures))]
    for row in table_rows:
        cells = (_cell(figure, row) for figure in figures)
        lines.append([*(row.coordinates.get(key, "") for key in keys), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(figure: Metric, row: Row) -> str:
    number = row.numbers.get(figure.key)
    text = figure.text(row.metrics)
    if number is None or number.published is None:
        return text
    says = {True: "holds", False: "does not hold", None: "no interval"}[number.holds]
    return f"{text}; published {number.published:g}: {number.caveat or says}"


def verdict(table_rows: Sequence[Row]) -> str:
    """How many published numbers ours hold."""
    verdicts = [number.holds for row in table_rows for number in row.numbers.values() if number.holds is not None]
    if not verdicts:
        return "No published number is about these runs."
    hold = f"{sum(verdicts)} of {len(verdicts)} published numbers hold"
    return f"{hold} (within our 95 % interval, or the stated tolerance)."


def table(claim: Path, *, axes: Sequence[str], arguments: Sequence[str] | None = None) -> str:
    """What a claim's `table.py` prints: its rows, the verdict, and where the published numbers come from.

    Args:
        claim: the folder with `expected.json`.
        axes: the settings that tell the rows apart.
        arguments: the folders; those of the command line when not given.
    """
    parser = argparse.ArgumentParser(description=f"Ours beside the published, for {claim.name}.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folders of runs or sweeps")
    folders = parser.parse_args(arguments).folders
    expected = json.loads((claim / "expected.json").read_text(encoding="utf-8"))
    table_rows = list(rows(jobs(folders), axes=axes, expected=expected))
    if not table_rows:
        raise InputError(f"the runs in {', '.join(map(str, folders))} have no figure of labels with a known truth")
    sources = dict.fromkeys(row.source for row in table_rows if row.source)
    return "\n".join([markdown(table_rows), "", verdict(table_rows), *(f"Published: {source}" for source in sources)])


def published_values(claim: Path) -> str:
    """The published numbers of an analysis, a line each, from its `expected.json`."""
    expected = json.loads((claim / "expected.json").read_text(encoding="utf-8"))
    lines = [f"- {row['what']}: {row['value']}" for row in expected["values"]]
    return "\n".join([f"Published ({expected['of']}; {expected['source']}):", *lines])


def say(main: Callable[[], str]) -> None:
    """Print what a script found; what its user can mend is one line and exit status 2."""
    try:
        print(main())
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
