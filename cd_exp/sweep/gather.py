"""From the folder of a multirun to its table, files, figures, page and one W&B run that sums it up."""

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cd_exp.errors import InputError
from cd_exp.io.digests import update_digests
from cd_exp.io.text import flatten_dict
from cd_exp.sweep.anova import drop_untestable, explain_axes
from cd_exp.sweep.consensus import Vote, compare_with_best_job, vote_on_units, votes_by_layer
from cd_exp.sweep.load import Sweep, common_layers, read_sweep, sweep_table

if TYPE_CHECKING:
    from rich.console import Console

    from cd_exp.results.wandb import Wandb

FILES = ("sweep.csv", "consensus.csv", "comparisons.json", "anova.json")
EFFECT = ("df", "separable", "ss", "eta_squared", "f", "p", "p_adjusted")
LOGGED = "summary.json"
"""In the sweep's `wandb` folder: what was summed up last, so that gathering the same jobs again makes no second run."""


def log_sweep(
    sweep: Sweep, *, explained: Mapping[str, Any], compared: Sequence[Mapping[str, Any]], figures: Sequence[Path]
) -> str | None:
    """Log the tables and figures of a sweep whose jobs were logged to W&B, in the mode that they used.

    Args:
        sweep: the jobs; its files are written already.
        explained: as `variance.explained` finds it.
        compared: the best job against the others, as `compare_with_best_job` finds it.
        figures: the files drawn.

    Returns:
        Where the run is; None where the jobs were not logged, or these very results were summed up before.

    Raises:
        InputError: online without a key, or where the server does not answer in time.
    """
    from cd_exp.results.wandb import RunInfo

    logger = _find_logger(sweep)
    if logger is None or logger.mode == "disabled":
        return None
    paths = [path for name in FILES if (path := sweep.folder / name).is_file()]
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()
    note = sweep.folder / "wandb" / LOGGED
    if note.is_file() and digest in note.read_text(encoding="utf-8"):
        return None
    about = {"axes": list(sweep.axes), "jobs": len(sweep.jobs), "finished": len(sweep.finished)}
    group = sweep.folder.resolve().name
    filed = RunInfo(config=about, group=group, job_type="summary", name=f"summary of {len(sweep.jobs)} jobs")
    with replace(logger, system_metrics=False).run(folder=sweep.folder, about=filed) as run:
        address = run.url or f"wandb sync {sweep.folder}/*/wandb/offline-run-* {sweep.folder}/wandb/offline-run-*"
        _log_tables(run, sweep, explained, compared, figures, paths)
    from cd_exp.io.atomic import write_file

    write_file(note, json.dumps({"of": digest, "run": address}, indent=1))
    return address


def _find_logger(sweep: Sweep) -> "Wandb | None":
    """The tracker of the first finished job that had one."""
    from omegaconf import OmegaConf

    from cd_exp.config.construct import build
    from cd_exp.results.wandb import Wandb

    for job in sweep.finished:
        about = job.config.get("logger")
        if isinstance(about, Mapping) and about.get("_target_") == "cd_exp.results.wandb.Wandb":
            built = build(OmegaConf.create(dict(about)), group="logger")
            assert isinstance(built, Wandb)
            return built
    return None


def _log_tables(
    run: Any,
    sweep: Sweep,
    explained: Mapping[str, Any],
    compared: Sequence[Mapping[str, Any]],
    figures: Sequence[Path],
    paths: Sequence[Path],
) -> None:
    import wandb

    from cd_exp.metrics import METRICS

    columns, rows = sweep_table(sweep)
    effects = [
        [layer, axis, *(part.get(key) for key in EFFECT)]
        for layer, analysis in explained.items()
        for axis, part in analysis["axes"].items()
    ]
    logged: dict[str, Any] = {"sweep": wandb.Table(columns=[*columns], data=rows)}
    if effects:
        logged["anova"] = wandb.Table(columns=["layer", "axis", *EFFECT], data=effects)
    if compared:
        flat = [flatten_dict(row) for row in compared]
        keys = list(dict.fromkeys(key for row in flat for key in row))
        logged["comparisons"] = wandb.Table(columns=[*keys], data=[[row.get(key) for key in keys] for row in flat])
    run.log(logged | {f"figures/{path.stem}": wandb.Image(str(path)) for path in figures})
    for view, figure in product(common_layers(sweep), METRICS):
        best = figure.best(row[figure.key] for row in view.metrics.values() if figure.key in row)
        if best is not None:
            run.summary[f"{view.title}/best_{figure.key}"] = best
    artifact = wandb.Artifact(f"sweep-{run.id}", type="sweep")
    for path in paths:
        artifact.add_file(str(path))
    run.log_artifact(artifact)


def gather_sweep(folder: Path, *, console: "Console | None" = None, draw: bool = True) -> Sweep | None:
    """Gather the jobs of a multirun, finished or not; again whenever jobs were added, with the same bytes for the same.

    Writes `sweep.csv` (one row per job and layer), `consensus.csv`, `anova.json` and `figures/`, prints tables, and
    logs one W&B run in the group of the jobs where they were logged. What no longer applies is removed.

    Args:
        folder: `hydra.sweep.dir` of the multirun.
        console: where the tables go; by default standard output.
        draw: make `figures/` too; False for `report.when=never`.

    Returns:
        The sweep, or None where the folder holds no jobs; nothing is written then.
    """
    sweep = read_sweep(folder)
    if not sweep.jobs:
        return None
    from rich.console import Console

    from cd_exp.results.run_folder import format_json
    from cd_exp.sweep import anova, consensus, load, plots, tables

    console = Console() if console is None else console
    _write_or_remove(folder / "sweep.csv", load.format_rows(*load.sweep_table(sweep)))
    votes = consensus.vote_on_units(sweep)
    _write_or_remove(folder / "consensus.csv", load.format_rows(*consensus.consensus_table(votes)) if votes else None)
    compared = consensus.compare_with_best_job(sweep, votes)
    _write_or_remove(folder / "comparisons.json", format_json(compared, "comparisons.json") if compared else None)
    explained = anova.explain_axes(sweep)
    _write_or_remove(folder / "anova.json", format_json(explained, "anova.json") if explained else None)
    drawn = plots.draw_sweep_figures(sweep, votes) if draw else plots.remove_figures(sweep.folder)
    agreed = [
        (*key, consensus.consensus_accuracy(layer_votes))
        for key, layer_votes in consensus.votes_by_layer(votes).items()
    ]
    page = write_sweep_page(sweep, folder)  # None where no job has pages, as of `report.when=never`
    tables.show_sweep(console, sweep, explained=explained, agreed=agreed, compared=compared)
    try:
        record_place = log_sweep(sweep, explained=explained, compared=compared, figures=drawn)
        message = f"W&B: {record_place}" if record_place else ""
    except InputError as error:  # the tables are made; a tracker out of reach takes nothing from them
        message = f"W&B summary not made: {error}"
    if page:
        console.print(f"page: {page}", markup=False, highlight=False, soft_wrap=True)
    elif not draw:
        remake = f"python -m cd_exp.report {shlex.quote(str(folder))}"
        console.print(f"pages and figures: {remake}", markup=False, highlight=False, soft_wrap=True)
    if message:
        console.print(message, markup=False, highlight=False, soft_wrap=True)
    if command := resume_command(folder):
        console.print(f"finish with: {command}", markup=False, highlight=False, soft_wrap=True)
    written = [folder / name for name in (*FILES, "figures", "explorer", "wandb")]
    update_digests(folder, [*written, *(job.folder for job in sweep.jobs)])
    return sweep


def resume_command(folder: Path) -> str:
    """The command that runs the jobs that are missing or failed; empty where there are none, or that is not known."""
    from cd_exp.sweep.multirun import missing_jobs

    try:
        missing = missing_jobs(folder)
    except InputError:  # without a multirun.yaml nothing tells what was to run
        return ""
    return f"python -m cd_exp.sweep {shlex.quote(str(folder))} --resume" if missing else ""


def _write_or_remove(path: Path, text: str | None) -> None:
    """Write the file whole or not at all; without text, there is to be none."""
    from cd_exp.io.atomic import write_file as write_file

    if text is None:
        path.unlink(missing_ok=True)
    else:
        write_file(path, text)


COLUMNS_OF_EFFECT = ("levels", "separable", "eta_squared", "df", "f", "p", "p_adjusted")


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
        {"layer": layer, "axis": axis} | {key: part.get(key) for key in COLUMNS_OF_EFFECT}
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
