"""The run folder: made when everything was checked, its files written whole, and as it was where the run is refused."""

import fcntl
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cd_exp.errors import InputError
from cd_exp.io.atomic import write_file as write_file
from cd_exp.io.digests import DIGESTS, SIGNATURE
from cd_exp.io.text import make_file_name
from cd_exp.records import CLIP_DISSECT, RunResult
from cd_exp.results.labels_csv import format_labels, judged_csv

DRAWN = ("accuracy", "confidence", "ranks", "risk_coverage", "reliability", "agreement", "units")


def write_run_files(folder: Path, outcome: RunResult, *, manifest: Mapping[str, Any]) -> tuple[Path, ...]:
    """Write the manifest, labels of all methods, `judged.csv`, `comparisons.json` and, last, `metrics.json`.

    `metrics.json` comes last, so a folder that has one is complete. Labels of a method that compares with ours have the
    same columns in a file of their own. What an earlier run left in the folder goes, its figures and page
    too, which would stand beside other labels. Files of other names stay.

    Args:
        folder: the run folder; made where missing.
        outcome: the results of the run.
        manifest: what it was made with: settings, fingerprints, versions.

    Returns:
        The files, in the order written.

    Raises:
        ValueError: a metric is NaN, infinite or None. A key that does not apply is left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "manifest.json": format_json(manifest, "manifest.json"),
        "labels.csv": format_labels(outcome.labels),
        **{f"labels_{make_file_name(name)}.csv": format_labels(layers) for name, layers in outcome.baselines.items()},
    }
    if judged := judged_csv({CLIP_DISSECT: outcome.labels, **outcome.baselines}):
        texts["judged.csv"] = judged
    if outcome.comparisons:
        texts["comparisons.json"] = format_json(outcome.comparisons, "comparisons.json")
    texts |= outcome.files
    texts["metrics.json"] = format_json(metrics_dict(outcome), "metrics.json", allow_none=False)
    for name in _list_earlier_files(folder):
        (folder / name).unlink(missing_ok=True)
    if (folder / "figures").is_dir() and not any((folder / "figures").iterdir()):
        (folder / "figures").rmdir()
    for name, text in texts.items():
        write_file(folder / name, text)
    return tuple(folder / name for name in texts)


def _list_earlier_files(folder: Path) -> Iterator[str]:
    """The names of what an earlier run left, as its manifest tells; `metrics.json` first, for it says complete."""
    path = folder / "manifest.json"
    if not path.is_file():
        return
    earlier = json.loads(path.read_text())
    yield from ("metrics.json", DIGESTS, SIGNATURE, "manifest.json", "labels.csv", "judged.csv", "comparisons.json")
    yield "report.html"
    yield from (f"labels_{make_file_name(method)}.csv" for method in earlier.get("baselines", ()))
    yield from (f"figures/{name}.{kind}" for name in DRAWN for kind in ("png", "pdf", "svg"))
    yield "figures/captions.md"
    yield from earlier.get("files", ())  # those of its baselines


def metrics_dict(outcome: RunResult) -> dict[str, Any]:
    """The content of `metrics.json`; without a baseline that key is absent."""
    baselines = {"baselines": outcome.baseline_metrics} if outcome.baseline_metrics else {}
    return {"layers": outcome.metrics, **baselines, "seconds": outcome.seconds}


def format_json(value: Any, where: str, *, allow_none: bool = True) -> str:
    """JSON text of plain values, numpy's and paths; an error names the key of a value that JSON cannot hold."""
    return json.dumps(_plain_value(value, where, allow_none), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain_value(value: Any, where: str, allow_none: bool) -> Any:
    """`value` in the types of the json module."""
    if isinstance(value, Mapping):
        return {str(key): _plain_value(item, f"{where}: {key}", allow_none) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain_value(value.tolist(), where, allow_none)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain_value(item, where, allow_none) for item in value]
    if isinstance(value, Path):
        return str(value)
    if (value is None and not allow_none) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{where} is {value}; leave out a key that does not apply")
    return value


BEGUN = (".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "run.log")
"""What Hydra writes when a run begins."""


@contextmanager
def open_run_folder(folder: Path, *, setting: str, timed: bool) -> Iterator[Path]:
    """The folder of a run, made and kept for it alone while the block lasts.

    Where the block is left by a refusal or a signal the folder is as it was: what Hydra wrote at the beginning goes, or
    is again what it was, and so do folders that were made and are empty. A bug's traces stay.

    Args:
        folder: as configured.
        setting: that configures it, for errors.
        timed: whether the name is made from the time: then two runs begun at once get a folder each, the second one
            `NAME_2`. A name that the user chose may be that of an earlier run.

    Raises:
        InputError: the folder cannot be made, or another run is at work in it.
    """
    new = [run_path for run_path in folder.absolute().parents if not run_path.exists()]
    if timed or not folder.exists():
        new.insert(0, folder)
    run_path = _reserve_folder(folder, setting=setting, timed=timed, new=new)
    with (
        _hold_folder(run_path, setting=setting),
        _restore_on_refusal(run_path, [run_path if path == folder else path for path in new]),
    ):
        yield run_path


@contextmanager
def _restore_on_refusal(folder: Path, new: list[Path]) -> Iterator[None]:
    files = {name: _folder_content(folder / name) for name in BEGUN}
    times = {path: path.stat().st_mtime_ns for path in (folder / ".hydra", folder) if path.exists()}
    made = [*([] if (folder / ".hydra").exists() else [folder / ".hydra"]), *new]
    results, recorded = _is_changed(folder / "metrics.json"), (folder / "wandb").exists()
    try:
        yield
    except BaseException as error:
        refused = isinstance(error, InputError) or not isinstance(error, Exception)
        if refused and results == _is_changed(folder / "metrics.json"):
            if not recorded:
                shutil.rmtree(folder / "wandb", ignore_errors=True)  # holds this run alone
            _restore_folder(folder, files, made)
            for path, time in times.items():
                if path.exists():
                    os.utime(path, ns=(time, time))
        raise


def _reserve_folder(folder: Path, *, setting: str, timed: bool, new: list[Path]) -> Path:
    number = 1
    while True:
        reserved = folder if number == 1 else folder.with_name(f"{folder.name}_{number}")
        try:
            reserved.parent.mkdir(parents=True, exist_ok=True)
            reserved.mkdir(exist_ok=not timed)
        except FileExistsError:
            number += 1
        except OSError as error:
            _remove_empty(new)
            raise InputError(f"{setting}={folder} cannot be made: {error.strerror}; give another folder") from error
        else:
            return reserved.absolute()


@contextmanager
def _hold_folder(folder: Path, *, setting: str) -> Iterator[None]:
    """Keep other runs out of a folder while this one is at work in it.

    Raises:
        InputError: another run is.
    """
    handle = os.open(folder, os.O_RDONLY)  # a lock on the folder itself leaves no file in it
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another run is at work in {folder}; give this one its own {setting}") from error
        except OSError:  # some network disks know no locks
            pass
        yield
    finally:
        os.close(handle)


def _folder_content(path: Path) -> tuple[bytes, int] | None:
    return (path.read_bytes(), path.stat().st_mtime_ns) if path.is_file() else None


def _is_changed(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


def _restore_folder(folder: Path, files: dict[str, tuple[bytes, int] | None], made: list[Path]) -> None:
    for name, before in files.items():
        path = folder / name
        if before is None:
            path.unlink(missing_ok=True)
        elif _folder_content(path) != before:
            path.write_bytes(before[0])
            os.utime(path, ns=(before[1], before[1]))
    _remove_empty(made)


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:  # something is in it, or it was not made
            continue
