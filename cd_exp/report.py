"""`python -m cd_exp.report FOLDER... [--out DIR]`: the pages of stored runs and sweeps, made again from their
folders.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cd_exp import explorer, results
from cd_exp.errors import InputError
from cd_exp.experiment import Parts
from cd_exp.explorer.thumbnails import Pictures, top_images
from cd_exp.io.atomic import disk
from cd_exp.records import Outcome
from cd_exp.results.load_run import manifest_of, outcome_of
from cd_exp.sweep import gather_pages, read


def remake(folders: Sequence[Path], *, out: Path | None = None, queries: Sequence[str] = ()) -> list[Path]:
    """Make the pages of a run, of a sweep with its jobs, or one page that compares several runs, from stored files.

    Args:
        folders: of runs, or of one sweep.
        out: where the pages go; the run's or sweep's own folder where it is None.
        queries: free words to look for in the units of one run.

    Returns:
        The pages.

    Raises:
        InputError: a folder holds no finished run, or several runs have nowhere to go.
    """
    if len(folders) > 1:
        if out is None:
            raise InputError(f"{len(folders)} runs make one page of comparison: say where with --out DIR")
        if queries:
            raise InputError("--query looks into one run; give one FOLDER")
        return [compared(folders, out)]
    (folder,) = folders
    sweep = read(folder) if folder.is_dir() and not (folder / "metrics.json").is_file() else None
    if sweep is None or not sweep.jobs:
        return of_run(folder, out=out or folder, queries=queries)
    if queries:
        raise InputError(f"--query looks into one run, and {folder} is a sweep; give the folder of one of its jobs")
    pages = [page for job in sweep.finished for page in of_run(job.folder, out=job.folder)] if out is None else []
    with _pages_in(out or folder, of=folder):
        made = gather_pages(sweep, out or folder)
    return [*pages, *([made] if made else [])]


def of_run(folder: Path, *, out: Path, queries: Sequence[str] = ()) -> list[Path]:
    """`report.html`, `figures/` and `explorer/` of one run."""
    manifest = manifest_of(folder)
    content, outcome = stored(folder, manifest)
    if queries:
        content = asked(folder, manifest, outcome, queries)
    settings: Mapping[str, Any] = manifest.get("config", {}).get("report", {})
    shown = {key: settings[key] for key in ("units", "images") if isinstance(settings.get(key), int)}
    title = content.parts["run"]["title"]
    vector = settings.get("vector") is True
    with _pages_in(out, of=folder):
        explored = explorer.write(out, explorer.page_of({folder.resolve().name: content}, title=title))
        results.figures(out, outcome, **shown, title=title, vector=vector)
        page = results.page(out, outcome, manifest=manifest, title=folder.resolve().name, **shown)
    return [page, explored]


@contextmanager
def _pages_in(out: Path, *, of: Path | None) -> Iterator[None]:
    """Make the folder of pages, which is none of another run: its own pages, read back later, would be replaced.

    Raises:
        InputError: it is, or it cannot be made.
    """
    own = of is not None and out.resolve() == of.resolve()
    if not own and any((out / name).is_file() for name in ("metrics.json", "multirun.yaml")):
        raise InputError(f"--out {out} is the folder of a run or sweep, whose pages would be replaced; give another")
    with disk(out):
        out.mkdir(parents=True, exist_ok=True)
        yield


def stored(folder: Path, manifest: Mapping[str, Any]) -> tuple[explorer.Content, Outcome]:
    """What the explorer of a run holds, with what the run found; without an explorer, its labels alone."""
    kept = None
    if (folder / "explorer" / "index.html").is_file():
        kept = next(iter(explorer.runs_of(explorer.read(folder)).values()))
    outcome = outcome_of(folder, probe=Pictures(kept), top_images=top_images(kept) if kept else {})
    if kept is not None:
        return kept, outcome
    choices = (manifest.get("choices", {}).get(group) for group in ("model", "probe", "clip", "similarity"))
    title = " · ".join(dict.fromkeys(filter(None, choices))) or folder.resolve().name
    return explorer.labels_alone(outcome, manifest=manifest, title=title), outcome


def compared(folders: Sequence[Path], out: Path) -> Path:
    """One page of several runs, each named by as much of its folder as tells them apart."""
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < len(resolved):
        raise InputError("the same folder is given twice; a run is compared with others")
    length = next(n for n in range(1, 99) if len({folder.parts[-n:] for folder in resolved}) == len(resolved))
    runs = {"/".join(folder.parts[-length:]): stored(folder, manifest_of(folder))[0] for folder in resolved}
    with _pages_in(out, of=None):
        return explorer.write(out, explorer.page_of(runs, title="Runs compared"))


def asked(folder: Path, manifest: Mapping[str, Any], outcome: Outcome, queries: Sequence[str]) -> explorer.Content:
    """The same run with words asked for, from the features in the cache."""
    from cd_exp.experiment import dissected

    if not manifest.get("config"):
        raise InputError(f"{folder} has no manifest.json that tells its settings, which --query needs; run it again")
    parts = Parts.build(OmegaConf.create(dict(manifest["config"])), manifest.get("choices", {}))
    run = dissected(parts)
    words = explorer.ask(run, parts.similarity, list(dict.fromkeys(queries)))
    title = next(iter(explorer.runs_of(explorer.read(folder)).values())).parts["run"]["title"]
    return explorer.collect(run, outcome, manifest=manifest, title=title, asked=words, maps=parts.options.maps)
