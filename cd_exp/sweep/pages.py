"""The page of a sweep: its jobs, what explains their accuracy, and their labels side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cd_exp.sweep.anova import drop_untestable, explain_axes
from cd_exp.sweep.best_job import compare_with_best_job
from cd_exp.sweep.consensus import Vote, vote_on_units, votes_by_layer
from cd_exp.sweep.load import Sweep, sweep_table

EFFECT = ("levels", "separable", "eta_squared", "df", "f", "p", "p_adjusted")


def write_sweep_page(sweep: Sweep, folder: Path) -> Path | None:
    """Write `folder/explorer/index.html` of a sweep.

    Args:
        sweep: the jobs; those with an explorer of their own can be compared unit by unit, and are linked.
        folder: where the page goes, the sweep's own as a rule.

    Returns:
        The page; None where no job is finished, or none made pages of its own.
    """
    from cd_exp import explorer

    with_pages = [job for job in sweep.finished if (job.folder / "explorer" / "index.html").is_file()]
    if not with_pages:
        explorer.remove_old_pages(folder)
        return None
    runs = {job.name: next(iter(explorer.list_runs(explorer.read_pages(job.folder)).values())) for job in with_pages}
    homes = {
        job.name: _relative_address(job.folder / "explorer" / "index.html", folder / "explorer") for job in with_pages
    }
    words = {job.name: f"{job.name} · {sweep.describe_job(job)}" if sweep.axes else job.name for job in with_pages}
    title = f"Sweep {sweep.folder.resolve().name}"
    return explorer.write_pages(
        folder, explorer.find_page(runs, title=title, homes=homes, words=words, sweep=describe_sweep(sweep, title))
    )


def describe_sweep(sweep: Sweep, title: str) -> dict[str, Any]:
    """The tables of the page, as plain values and packed arrays."""
    from cd_exp.explorer.payload import NameTable

    columns, rows = sweep_table(sweep)
    names = NameTable()
    every_vote = vote_on_units(sweep)
    votes = votes_by_layer(every_vote)
    several = len({model for model, _ in votes}) > 1
    shown = drop_untestable(explain_axes(sweep))
    effects = [
        {"layer": layer, "axis": axis} | {key: part.get(key) for key in EFFECT}
        for layer, analysis in shown.items()
        for axis, part in [*analysis["axes"].items(), ("residual", analysis["residual"])]
    ]
    jobs = [job.name for job in sweep.finished]
    return {
        "title": title,
        "figures": _describe_metrics(),
        "jobs": len(sweep.jobs),
        "finished": len(jobs),
        "axes": list(sweep.axes),
        "columns": columns,
        "rows": rows,
        "explained": effects,
        "comparisons": compare_with_best_job(sweep, every_vote),
        "notes": [*dict.fromkeys(note for analysis in shown.values() for note in analysis["notes"])],
        "layers": [
            {
                "words": f"{model} · {layer}" if several else layer,
                "layer": layer,
                **_encode_votes(analysis, jobs, names),
            }
            for (model, layer), analysis in votes.items()
        ],
        "names": names.texts,
        "votes": {"jobs": jobs, "words": [sweep.describe_job(job) or job.name for job in sweep.finished]},
    }


def _describe_metrics() -> dict[str, dict[str, Any]]:
    from cd_exp.explorer.payload import metric_digits
    from cd_exp.metrics import METRICS

    return {
        metric.key: {"heading": metric.heading, "digits": metric_digits(metric.digits), "meaning": metric.meaning}
        for metric in METRICS
    }


def _encode_votes(votes: Sequence[Vote], jobs: Sequence[str], names: Any) -> dict[str, Any]:
    """One layer: a row for each unit, a column for each job; -1 where a job gives no label or nothing is known."""
    from cd_exp.explorer.payload import encode_array

    codes = {True: 1, False: 0, None: -1}
    return {
        "unit": encode_array([vote.unit for vote in votes]),
        "consensus": encode_array([names.number(vote.description) for vote in votes]),
        "truth": encode_array([names.number(vote.truth) for vote in votes]),
        "agreement": encode_array([float(vote.agreement) for vote in votes]),
        "labels": encode_array([[names.number(vote.labels.get(job, "")) for job in jobs] for vote in votes]),
        "right": encode_array([[codes[vote.right.get(job)] for job in jobs] for vote in votes]),
    }


def _relative_address(page: Path, start: Path) -> str:
    """The page as a relative address, seen from the folder `start`."""
    import os
    from urllib.parse import quote

    return quote(Path(os.path.relpath(page.resolve(), start.resolve())).as_posix())
