"""The page of a sweep: its jobs, what explains their accuracy, and their labels side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cd_exp.sweep.anova import explained, tested
from cd_exp.sweep.consensus import Vote, by_layer, consensus
from cd_exp.sweep.load import Sweep, table

EFFECT = ("levels", "separable", "eta_squared", "df", "f", "p", "p_adjusted")


def gather_pages(sweep: Sweep, folder: Path) -> Path | None:
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
        explorer.clear(folder)
        return None
    runs = {job.name: next(iter(explorer.runs_of(explorer.read(job.folder)).values())) for job in with_pages}
    homes = {job.name: _address(job.folder / "explorer" / "index.html", folder / "explorer") for job in with_pages}
    words = {job.name: f"{job.name} · {sweep.place(job)}" if sweep.axes else job.name for job in with_pages}
    title = f"Sweep {sweep.folder.resolve().name}"
    return explorer.write(
        folder, explorer.page_of(runs, title=title, homes=homes, words=words, sweep=described(sweep, title))
    )


def described(sweep: Sweep, title: str) -> dict[str, Any]:
    """The tables of the page, as plain values and packed arrays."""
    from cd_exp.explorer.payload import Names, digits_of
    from cd_exp.metrics import FIGURES

    columns, rows = table(sweep)
    names = Names()
    votes = by_layer(consensus(sweep))
    several = len({model for model, _ in votes}) > 1
    shown = tested(explained(sweep))
    effects = [
        {"layer": layer, "axis": axis} | {key: part.get(key) for key in EFFECT}
        for layer, found in shown.items()
        for axis, part in [*found["axes"].items(), ("residual", found["residual"])]
    ]
    jobs = [job.name for job in sweep.finished]
    known = {figure.key: {"heading": figure.heading, "digits": digits_of(figure.digits)} for figure in FIGURES}
    return {
        "title": title,
        "figures": known,
        "jobs": len(sweep.jobs),
        "finished": len(jobs),
        "axes": list(sweep.axes),
        "columns": columns,
        "rows": rows,
        "explained": effects,
        "notes": [*dict.fromkeys(note for found in shown.values() for note in found["notes"])],
        "layers": [
            {"words": f"{model} · {layer}" if several else layer, "layer": layer, **_votes(found, jobs, names)}
            for (model, layer), found in votes.items()
        ],
        "names": names.texts,
        "votes": {"jobs": jobs, "words": [sweep.place(job) or job.name for job in sweep.finished]},
    }


def _votes(votes: Sequence[Vote], jobs: Sequence[str], names: Any) -> dict[str, Any]:
    """One layer: a row for each unit, a column for each job; -1 where a job gives no label or nothing is known."""
    from cd_exp.explorer.payload import packed

    known = {True: 1, False: 0, None: -1}
    return {
        "unit": packed([vote.unit for vote in votes]),
        "consensus": packed([names.number(vote.description) for vote in votes]),
        "truth": packed([names.number(vote.truth) for vote in votes]),
        "agreement": packed([float(vote.agreement) for vote in votes]),
        "labels": packed([[names.number(vote.labels.get(job, "")) for job in jobs] for vote in votes]),
        "right": packed([[known[vote.right.get(job)] for job in jobs] for vote in votes]),
    }


def _address(page: Path, start: Path) -> str:
    """The page as a relative address, seen from the folder `start`."""
    import os
    from urllib.parse import quote

    return quote(Path(os.path.relpath(page.resolve(), start.resolve())).as_posix())
