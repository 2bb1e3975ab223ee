"""`python -m cd_exp.report FOLDER... [--out DIR]`: the pages of stored runs and sweeps, made again.

They are made from the files of the run folders alone; only `--query` and `--maps` build the run again.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from cd_exp import explorer, results
from cd_exp.config.resolved import restore_config
from cd_exp.errors import InputError, OneLineParser, as_refusal
from cd_exp.evaluation.evaluate import compare_methods_by_layer, list_top_images
from cd_exp.experiment import Experiment, load_run_features, title_of
from cd_exp.explorer.thumbnails import StoredThumbnails, read_top_images
from cd_exp.io.atomic import report_disk_errors
from cd_exp.io.command import print_json, report_error
from cd_exp.io.digests import update_digests
from cd_exp.io.text import escape_for_terminal
from cd_exp.plugins import find_code, refuse_untrusted
from cd_exp.records import CLIP_DISSECT, RunResult, UnitResults, has_images
from cd_exp.results.load_run import describe_finished_run, read_manifest_file, read_results
from cd_exp.sweep import read_sweep, write_sweep_page
from cd_exp.sweep.consensus import vote_on_units
from cd_exp.sweep.load import describe_finished_sweep
from cd_exp.sweep.plots import draw_sweep_figures

BEST_UNITS = 5  # units per layer that the terminal names for a phrase; the page has more


def rebuild_pages(
    folders: Sequence[Path],
    *,
    out: Path | None = None,
    queries: Sequence[str] = (),
    maps: bool = False,
    trust: bool = False,
) -> list[Path]:
    """Make the pages of a run, of a sweep with its jobs, or one page that compares several runs, from stored files.

    Args:
        folders: of runs, or of one sweep.
        out: where the pages go; the run's or sweep's own folder where it is None.
        queries: free words to look for in the units of one run.
        maps: whether the page shows where in its strongest images a unit is active, whatever the run's settings say.
        trust: whether code that the run folder names may run, which queries, maps and runs without pages need.

    Returns:
        The pages.

    Raises:
        InputError: a folder holds no finished run, or several runs have nowhere to go.
    """
    if len(folders) > 1:
        if out is None:
            raise InputError(f"{len(folders)} runs make one page of comparison: say where with --out DIR")
        if queries or maps:
            raise InputError(f"{'--query' if queries else '--maps'} looks into one run; give one FOLDER")
        return [compare_pages(folders, out)]
    (folder,) = folders
    sweep = read_sweep(folder) if folder.is_dir() and not (folder / "metrics.json").is_file() else None
    if sweep is None or not sweep.jobs:
        return rebuild_run(folder, out=out or folder, queries=queries, maps=maps, trust=trust)
    if queries or maps:
        flag = "--query" if queries else "--maps"
        raise InputError(f"{flag} looks into one run, and {folder} is a sweep; give the folder of one of its jobs")
    jobs = sweep.finished if out is None else []
    pages = [page for job in jobs for page in rebuild_run(job.folder, out=job.folder, trust=trust)]
    with _list_pages(out or folder, of=folder):
        made = write_sweep_page(sweep, out or folder)
        if out is None:
            draw_sweep_figures(sweep, vote_on_units(sweep))
        update_digests(out or folder, [(out or folder) / name for name in ("explorer", "figures")])
    return [*pages, *([made] if made else [])]


def rebuild_run(
    folder: Path, *, out: Path, queries: Sequence[str] = (), maps: bool = False, trust: bool = False
) -> list[Path]:
    """`report.html`, `figures/` and `explorer/` of one run."""
    manifest = read_manifest_file(folder)
    content, outcome = read_stored_pages(folder, manifest)
    if not (queries or maps or content.sheets):
        content, outcome = collect_from_cache(folder, manifest, trust=trust) or (content, outcome)
    if queries or maps:
        content = query_pages(folder, manifest, outcome, queries, maps=maps, trust=trust)
    settings: Mapping[str, Any] = manifest.get("config", {}).get("report", {})
    shown = {key: settings[key] for key in ("units", "images") if isinstance(settings.get(key), int)}
    title = content.parts["run"]["title"]
    vector = settings.get("vector") is True
    with _list_pages(out, of=folder):
        explored = explorer.write_pages(out, explorer.find_page({folder.resolve().name: content}, title=title))
        results.draw_figures(out, outcome, **shown, title=title, vector=vector)
        page = results.write_report(out, outcome, manifest=manifest, title=folder.resolve().name)
        update_digests(out, [page, out / "figures", out / "explorer"])
    return [page, explored]


@contextmanager
def _list_pages(out: Path, *, of: Path | None) -> Iterator[None]:
    """Make the folder of pages, which is none of another run: its own pages, read back later, would be replaced.

    Raises:
        InputError: it is, or it cannot be made.
    """
    replaces_run = of is not None and out.resolve() == of.resolve()
    if not replaces_run and any((out / name).is_file() for name in ("metrics.json", "multirun.yaml")):
        raise InputError(f"--out {out} is the folder of a run or sweep, whose pages would be replaced; give another")
    with report_disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        yield


def read_stored_pages(folder: Path, manifest: Mapping[str, Any]) -> tuple[explorer.PageContent, RunResult]:
    """What the explorer of a run holds, with the run's results; without an explorer, its labels alone."""
    kept = None
    if (folder / "explorer" / "index.html").is_file():
        kept = next(iter(explorer.list_runs(explorer.read_pages(folder)).values()))
    outcome = read_results(folder, probe=StoredThumbnails(kept), top_images=read_top_images(kept) if kept else {})
    if kept is not None:
        return kept, outcome
    choices = (manifest.get("choices", {}).get(group) for group in ("model", "probe", "clip", "similarity"))
    title = " · ".join(dict.fromkeys(filter(None, choices))) or folder.resolve().name
    return explorer.describe_labels_only(outcome, manifest=manifest, title=title), outcome


def collect_from_cache(
    folder: Path, manifest: Mapping[str, Any], *, trust: bool
) -> tuple[explorer.PageContent, RunResult] | None:
    """The pages of a run that made none (`report.when=never`), from the images and the features in the cache.

    None, after a note, where they are not there any more, or where code of the user's own would have to run.
    """
    config = manifest.get("config", {})
    if "when" not in config.get("report", {}) or config["report"].get("explorer") == "none":
        return None
    try:
        refuse_untrusted(find_code(config), folder=folder, trust=trust, stored=manifest.get("code") or {})
        parts = Experiment.build(restore_config(config), manifest.get("choices", {}))
        run = load_run_features(replace(parts, settings=replace(parts.settings, only_stored=True)))
    except InputError as error:
        print(f"note: the pages of {folder} have labels and no images: {escape_for_terminal(error)}", file=sys.stderr)
        return None
    stored = read_results(folder, probe=parts.probe, top_images={})
    if not has_images(parts.probe):
        return None
    images = {layer: list_top_images(run, layer, parts.options.images) for layer in stored.labels}
    outcome = replace(stored, top_images=images)
    title = title_of(manifest["choices"])
    return explorer.collect_pages(run, outcome, manifest=manifest, title=title, maps=parts.options.maps), outcome


def compare_pages(folders: Sequence[Path], out: Path) -> Path:
    """One page of several runs, each named by as much of its folder as tells them apart."""
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < len(resolved):
        raise InputError("the same folder occurs twice; a run is compared with others")
    length = next(n for n in range(1, 99) if len({folder.parts[-n:] for folder in resolved}) == len(resolved))
    stored = {
        "/".join(folder.parts[-length:]): read_stored_pages(folder, read_manifest_file(folder)) for folder in resolved
    }
    runs = {name: content for name, (content, _) in stored.items()}
    tests = compare_runs({name: outcome for name, (_, outcome) in stored.items()})
    with _list_pages(out, of=None):
        return explorer.write_pages(out, explorer.find_page(runs, title="Runs compared", comparisons=tests))


def compare_runs(outcomes: Mapping[str, RunResult]) -> list[dict[str, Any]]:
    """Paired tests of every two methods of these runs, each named `RUN/METHOD`, on the units that both label."""
    methods = {
        f"{name}/{method}": labels
        for name, outcome in outcomes.items()
        for method, labels in {CLIP_DISSECT: outcome.labels, **outcome.baselines}.items()
    }
    judged = {
        method: {
            layer: UnitResults(units=table.units[is_judged], top1=table.verdicts[is_judged] == 1)
            for layer, table in layers.items()
            for is_judged in [table.verdicts >= 0]
        }
        for method, layers in methods.items()
    }
    return compare_methods_by_layer(methods, judged, seed=0)


def query_pages(
    folder: Path,
    manifest: Mapping[str, Any],
    outcome: RunResult,
    queries: Sequence[str],
    *,
    maps: bool = False,
    trust: bool = False,
) -> explorer.PageContent:
    """The same run with words asked for, or with maps of its strongest images, from the features in the cache."""
    from cd_exp.experiment import dissect_experiment

    if not manifest.get("config"):
        raise InputError(
            f"{folder} has no manifest.json that tells its settings, which --query and --maps need; run it again"
        )
    code = find_code(manifest["config"])
    for note in refuse_untrusted(code, folder=folder, trust=trust, stored=manifest.get("code") or {}):
        print(f"note: {escape_for_terminal(note)}", file=sys.stderr)
    parts = Experiment.build(restore_config(manifest["config"]), manifest.get("choices", {}))
    run = dissect_experiment(parts)
    words = explorer.run_text_query(run, parts.similarity, list(dict.fromkeys(queries))) if queries else []
    for query in words:
        print_query(query, outcome)
    shown = maps or parts.options.maps
    title = next(iter(explorer.list_runs(explorer.read_pages(folder)).values())).parts["run"]["title"]
    return explorer.collect_pages(run, outcome, manifest=manifest, title=title, asked=words, maps=shown)


def print_query(query: explorer.TextQuery, outcome: RunResult) -> None:
    """A table of the units that match a phrase best: its rank among all concepts, and the label that each has."""
    from rich.console import Console

    results.show_query(Console(), query.words, [
        (layer, int(outcome.labels[layer].units[row]), int(rank), outcome.labels[layer].descriptions[row])
        for layer, rows in query.units.items()
        for row, rank in list(zip(rows, query.ranks[layer], strict=True))[:BEST_UNITS]
    ])  # fmt: skip


def _make_parser() -> OneLineParser:
    parser = OneLineParser(
        prog="python -m cd_exp.report",
        description="Make report.html, figures/ and explorer/ of a stored run again; of a sweep, the pages of its jobs "
        "and one of them all; of several runs, one page that compares them.",
    )
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="FOLDER", help="of a run, of a sweep, or several of runs"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the pages go; needed for several runs")
    parser.add_argument(
        "--query",
        action="append",
        default=[],
        metavar="WORDS",
        help="free words to look for: the images with the highest CLIP score for them, and the units that match them; "
        "features come from the cache, and what is missing there is computed",
    )
    parser.add_argument(
        "--maps",
        action="store_true",
        help="show where in its strongest images each unit is active; where that was not kept with the features, by "
        "one pass of the network over these images",
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="let --query, --maps, and pages of a run that made none, run the code that the run folder names",
    )
    parser.add_argument("--list", action="store_true", help="say what the folders hold; no page is made")
    parser.add_argument("--json", action="store_true", help="print the pages and what the runs hold as JSON")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Make the pages of the folders named on the command line.

    Returns:
        The exit status: 0, or 2 for what the user can mend.
    """
    options = _make_parser().parse_args(arguments)
    try:
        asked = {"queries": options.query, "maps": options.maps, "trust": options.trust}
        with redirect_stdout(sys.stderr if options.json else sys.stdout):
            pages = [] if options.list else rebuild_pages(options.folders, out=options.out, **asked)
        if options.json:
            print_json({"pages": pages, "runs": [_describe(folder) for folder in options.folders]})
        elif options.list:
            print("\n".join(escape_for_terminal(line) for folder in options.folders for line in _list_lines(folder)))
        else:
            print("\n".join(map(str, pages)))
    except (InputError, OSError) as error:
        return report_error(as_refusal(error), as_json=options.json)
    return 0


def _list_lines(folder: Path) -> Iterator[str]:
    """A line for each layer of a run, or of the jobs of a sweep."""
    held = _describe(folder)
    for run in held.get("jobs", [held]):
        for layer, metrics in run["layers"].items():
            right = f", top-1 {metrics['top1']:.1f} % of {metrics['judged']}" if "top1" in metrics else ""
            yield f"{run['folder']}: {layer}, {metrics.get('units')} units{right}"


def _describe(folder: Path) -> dict[str, Any]:
    """A run or a sweep as one document."""
    sweep = None if (folder / "metrics.json").is_file() else read_sweep(folder)
    return describe_finished_sweep(sweep) if sweep and sweep.jobs else describe_finished_run(folder)


if __name__ == "__main__":
    sys.exit(main())
