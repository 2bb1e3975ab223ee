"""`python -m cd_exp.reproduce RUN [--trust] [--out DIR] [--json]`: run again from the manifest, and compare.

Everything is computed anew, with a cache of its own. The answer is "same, bit for bit", or the first stage that
differs: images, weights, words, features, scores, labels. Whatever follows from that stage may differ too.
"""

import csv
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cd_exp.errors import InputError, OneLineParser
from cd_exp.io.digests import DIGESTS, compare_digests, write_digests
from cd_exp.io.text import escape_for_terminal, make_file_name

if TYPE_CHECKING:
    from cd_exp.experiment import Experiment

STAGES = ("images", "weights", "words", "features", "scores", "labels")
LIBRARIES = ("timm", "open_clip", "transformers", "torch", "torchvision")
"""Keys of fingerprints that hold the version of a library, which is compared beside them."""
SETTING = "--out"


@dataclass(frozen=True)
class Reproduction:
    """What running again gave.

    Attributes:
        folder: the run.
        out: the new run; None where the images, weights or words differ, and nothing was computed.
        stage: the first that differs, of `STAGES`; empty where all are the same, bit for bit.
        details: what of the stage differs: layers, files, or which fingerprint.
        versions: what differs in libraries, machine and code, by name: then and now.
        unknown: stages that the run recorded nothing of, as runs of 0.2.0.
        notes: what else to know.
    """

    folder: str
    out: str | None
    stage: str
    details: tuple[str, ...] = ()
    versions: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether every stage is the same, bit for bit."""
        return not self.stage


def reproduce_run(folder: Path, *, out: Path | None = None, trust: bool = False) -> Reproduction:
    """Run a finished run again from its manifest, and say what differs first.

    Args:
        folder: of the run.
        out: the new folder, which must not exist or be empty; `RUN_again` beside the run where it is None.
        trust: whether code that the folder names may run.

    Raises:
        InputError: no finished run, code without trust, or images, weights or words that are not there.
    """
    from cd_exp.config.resolved import restore_config
    from cd_exp.experiment import Experiment, read_fingerprints
    from cd_exp.plugins import explain_errors, find_code, refuse_untrusted
    from cd_exp.results.load_run import read_manifest_file
    from cd_exp.results.run_folder import open_run_folder

    manifest = read_manifest_file(folder)
    if not manifest.get("config"):
        raise InputError(f"{folder} has no manifest.json that tells its settings; run it again yourself")
    target, is_new = _check_out(folder, out), out is None or not out.exists()
    code = find_code(manifest["config"])
    notes = [*refuse_untrusted(code, folder=folder, trust=trust, stored=manifest.get("code") or {}), *_changes(folder)]
    with open_run_folder(target, setting=SETTING, timed=out is None) as path:
        try:
            with explain_errors():
                config = restore_config(_set_up(manifest["config"], path / "cache"))
                parts = Experiment.build(config, manifest.get("choices", {}))
                fingerprints = _as_json(read_fingerprints(parts))
                stage, details = compare_inputs(manifest["fingerprints"], fingerprints)
                if not stage:
                    _run_again(parts, manifest, path)
        finally:
            shutil.rmtree(path / "cache", ignore_errors=True)
        if stage:
            if is_new:
                path.rmdir()
            return Reproduction(str(folder), None, stage, details, _versions_now(manifest, parts), notes=tuple(notes))
    again = read_manifest_file(path)
    stage, details, unknown = compare_results(folder, manifest, path, again)
    versions = differing_versions(manifest, again)
    return Reproduction(str(folder), str(path), stage, details, versions, unknown, tuple(notes))


def _check_out(folder: Path, out: Path | None) -> Path:
    """The new folder, which replaces nothing."""
    if out is None:
        resolved = folder.resolve()
        return resolved.with_name(f"{resolved.name}_again")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out} is there already and not empty; give the name of a new folder")
    return out


def _changes(folder: Path) -> list[str]:
    """A note where files of the run were changed after it was written."""
    if not (folder / DIGESTS).is_file():
        return []
    changes = compare_digests(folder)
    names = [*changes.missing, *changes.added, *changes.changed]
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return [f"files of {folder} that were changed after it was written: {len(names)} ({shown})"] if names else []


def _set_up(stored: Mapping[str, Any], cache: Path) -> dict[str, Any]:
    """The settings of the run, with an empty cache, no tracker and no pages."""
    before = stored.get("cache", {}).get("dir")
    config = {
        # a probe set remembers in the cache what it has read of its files
        name: {**part, "cache": str(cache)}
        if isinstance(part, dict) and before and part.get("cache") == before
        else part
        for name, part in stored.items()
    }
    report = {**stored.get("report", {}), "html": False, "figures": False, "explorer": "none"}
    return config | {"cache": {"dir": str(cache)}, "logger": None, "plan": False, "report": report}


def _run_again(parts: "Experiment", manifest: Mapping[str, Any], path: Path) -> None:
    from cd_exp.config.compose import RunRequest
    from cd_exp.experiment import dissect_experiment, evaluate_run, write_run

    request = RunRequest(manifest.get("choices", {}), manifest.get("overrides", ()))
    data = dissect_experiment(parts)
    write_run(parts, data, evaluate_run(parts, data), request, folder=path)
    shutil.rmtree(path / "cache", ignore_errors=True)
    write_digests(path)


def _as_json(value: Any) -> Any:
    """A value as it is read back from a manifest."""
    from cd_exp.results.run_folder import format_json

    return json.loads(format_json(value, "manifest.json"))


def without_libraries(value: Any) -> Any:
    """A fingerprint without versions of libraries.

    >>> without_libraries({"timm": "1.0.31", "weights": "31650f", "options": {"layers": [1]}})
    {'weights': '31650f', 'options': {'layers': [1]}}
    """
    if isinstance(value, Mapping):
        return {key: without_libraries(inner) for key, inner in value.items() if key not in LIBRARIES}
    return [without_libraries(inner) for inner in value] if isinstance(value, list) else value


def compare_inputs(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The first of images, weights and words whose fingerprints differ, and which of them do.

    >>> compare_inputs({"images": "a", "model": 1, "concepts": 3}, {"images": "a", "model": 2, "concepts": 4})
    ('weights', ('model',))
    """
    for stage, names in (("images", ("images",)), ("weights", ("model", "units", "clip")), ("words", ("concepts",))):
        differing = [name for name in names if without_libraries(then.get(name)) != without_libraries(now.get(name))]
        if differing:
            return stage, tuple(differing)
    return "", ()


def compare_results(
    folder: Path, then: Mapping[str, Any], out: Path, now: Mapping[str, Any]
) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """The first of features, scores and labels that differs, what of it does, and stages that were not recorded."""
    if then["images"] != now["images"]:
        return "images", ("which could be read",), ()
    recorded = then.get("digests", {})
    unknown = tuple(stage for stage in ("features", "scores") if stage not in recorded)
    for stage in ("features", "scores"):
        hashes, others = recorded.get(stage, {}), now["digests"][stage]
        differing = [name for name in hashes if hashes[name] != others.get(name)]
        if differing:
            return stage, tuple(differing), unknown
    files = [name for name in _list_files(then) if (folder / name).is_file()]
    differing = [name for name in files if not _are_equal(folder / name, out / name, whole="schema" in then)]
    return ("labels" if differing else ""), tuple(differing), unknown


def _list_files(manifest: Mapping[str, Any]) -> list[str]:
    labels = [f"labels_{make_file_name(str(method))}.csv" for method in manifest.get("baselines", ())]
    return ["labels.csv", *labels, "judged.csv", "metrics.json", "comparisons.json", *manifest.get("files", ())]


def _are_equal(then: Path, now: Path, *, whole: bool) -> bool:
    """Whether two files hold the same, but for seconds and what people were asked later.

    Of a run of 0.2.0 only what both have is compared: columns and keys were added since.
    """
    if not now.is_file():
        return False
    if then.suffix == ".json":
        before, after = (json.loads(path.read_text(encoding="utf-8")) for path in (then, now))
        for value in (before, after):
            if isinstance(value, dict):
                value.pop("seconds", None)
        return bool(before == after if whole else _is_within(before, after))
    if then.name.startswith("labels"):
        return _read_columns(then, whole=whole, other=now) == _read_columns(now, whole=whole, other=then)
    return then.read_bytes() == now.read_bytes()


def _read_columns(path: Path, *, whole: bool, other: Path) -> list[list[str]]:
    rows, header = _read_table(path), _read_table(other)[0]
    kept = [index for index, name in enumerate(rows[0]) if not name.startswith("human_") and (whole or name in header)]
    return [[row[index] for index in kept] for row in rows]


def _read_table(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def _is_within(before: Any, after: Any) -> bool:
    """Whether all that an earlier version wrote stands in what is written now."""
    if isinstance(before, dict) and isinstance(after, dict):
        return all(key in after and _is_within(value, after[key]) for key, value in before.items())
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(map(_is_within, before, after))
    return bool(before == after)


def differing_versions(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs in libraries, Python, machine, device, threads and commit, by name: then and now.

    >>> differing_versions({"versions": {"torch": "2.14.0"}}, {"versions": {"torch": "2.15.0"}, "device": "cpu"})
    {'torch': ('2.14.0', '2.15.0')}
    """
    names = ("python", "machine", "threads", "device", "commit")
    before, after = ({**part.get("versions", {}), **{key: part.get(key) for key in names}} for part in (then, now))
    shared = [name for name in before if before[name] is not None and name in after]
    return {name: (before[name], after[name]) for name in shared if before[name] != after[name]}


def _versions_now(manifest: Mapping[str, Any], parts: "Experiment") -> dict[str, tuple[Any, Any]]:
    """The same where nothing was run."""
    from cd_exp.experiment import describe_environment

    now = describe_environment(parts.options.settings, device=str(parts.settings.resolve_device()[0]))
    return differing_versions(manifest, now)


def show_reproduction(result: Reproduction) -> None:
    """A line for what differs, one for each version that does, and notes."""
    if result.same:
        print(f"same, bit for bit: {', '.join(stage for stage in STAGES if stage not in result.unknown)}")
    else:
        print(escape_for_terminal(f"first stage that differs: {result.stage} ({', '.join(result.details)})"))
    for name, (then, now) in result.versions.items():
        print(escape_for_terminal(f"version differs: {name} {then} -> {now}"))
    if result.unknown:
        print(f"note: the run recorded nothing of its {' and '.join(result.unknown)}, which a newer version does")
    for note in result.notes:
        print(escape_for_terminal(f"note: {note}"))
    print(escape_for_terminal(f"folder: {result.out}") if result.out else "nothing was computed: the inputs differ")


def main(arguments: list[str] | None = None) -> int:
    """Run the run named on the command line again.

    Returns:
        The exit status: 0 the same, 1 something differs, 2 for what the user can mend.
    """
    parser = OneLineParser(
        prog="python -m cd_exp.reproduce",
        description="Run a finished run again from its manifest, with an empty cache, and say whether images, weights, "
        "words, features, scores and labels are the same, bit for bit, or which of them is the first that differs.",
        epilog="Exit status: 0 the same, 1 something differs, 2 it cannot be run again.",
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the new folder; RUN_again where not given")
    parser.add_argument("--trust", action="store_true", help="let the code run that the run folder names")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)
    try:
        result = reproduce_run(options.folder, out=options.out, trust=options.trust)
    except InputError as error:
        message = " ".join(str(error).split())
        if options.json:
            print(json.dumps({"error": message}))
        else:
            print(f"error: {escape_for_terminal(message)}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({"same": result.same, **asdict(result)}, indent=1))
    else:
        show_reproduction(result)
    return 0 if result.same else 1


if __name__ == "__main__":
    sys.exit(main())
