"""The rows of `sweep.csv`, and which layers of a sweep can be compared."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cd_exp.io.text import csv_text
from cd_exp.results.run_folder import flat
from cd_exp.sweep.jobs import Job, Sweep

LAST = "last judged layer"


@dataclass(frozen=True, eq=False)
class View:
    """One layer across the jobs: the metrics of those that judged it, by the job's name."""

    title: str
    metrics: Mapping[str, Mapping[str, Any]]

    def cell(self, job: Job, *, line: str = " ") -> str:
        """Top-1 with its interval, or how a job without one ended; empty for a job that has no such layer."""
        if job.name not in self.metrics:
            return "" if job.layers else job.status
        from cd_exp.metrics import BY_KEY  # brings torch with it

        return BY_KEY["top1"].text(self.metrics[job.name]).replace(" [", f"{line}[")


def views(sweep: Sweep) -> tuple[View, ...]:
    """Every layer with a truth; where models differ so that none is common to all, each job's last such layer."""
    judged = {job.name: {layer: row for layer, row in job.layers.items() if "top1" in row} for job in sweep.finished}
    judged = {name: layers for name, layers in judged.items() if layers}
    if not judged:
        return ()
    everywhere = dict.fromkeys(layer for layers in judged.values() for layer in layers)
    if not any(all(layer in layers for layers in judged.values()) for layer in everywhere):
        return (View(LAST, {name: list(layers.values())[-1] for name, layers in judged.items()}),)
    return tuple(
        View(layer, {name: layers[layer] for name, layers in judged.items() if layer in layers}) for layer in everywhere
    )


def table(sweep: Sweep) -> tuple[list[str], list[list[Any]]]:
    """The header and the rows of `sweep.csv`: one a job and layer, one for a job without results; None where empty."""
    rows = [row for job in sweep.jobs for row in _rows(sweep, job)]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return columns, [[row.get(key) for key in columns] for row in rows]


def as_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The text of a CSV file; None is an empty cell."""
    return csv_text([columns, *rows])


def _rows(sweep: Sweep, job: Job) -> Iterator[dict[str, Any]]:
    about = {"job": job.name, **{axis: job.value(axis) for axis in sweep.axes}}
    about |= {"status": job.status, "reason": job.reason or None}
    layers = dict.fromkeys([*job.layers, *(layer for method in job.baselines.values() for layer in method)])
    for layer in layers or [None]:
        row = about | {"layer": layer} | (flat(job.layers.get(layer, {})) if layer else {})
        for method, by_layer in job.baselines.items():
            row |= flat({method: by_layer[layer]}) if layer and layer in by_layer else {}
        yield row
