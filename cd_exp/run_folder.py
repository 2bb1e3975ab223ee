"""The folder of a run: its own, made when everything was checked, and as it was before where the run is refused."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cd_exp.errors import InputError

BEGUN = (".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "run.log")
"""What Hydra writes when a run begins."""


@contextmanager
def own(folder: Path, *, setting: str, timed: bool) -> Iterator[Path]:
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
    new = [place for place in folder.absolute().parents if not place.exists()]
    if timed or not folder.exists():
        new.insert(0, folder)
    place = _reserved(folder, setting=setting, timed=timed, new=new)
    with _held(place, setting=setting), _as_before(place, [place if path == folder else path for path in new]):
        yield place


@contextmanager
def _as_before(place: Path, new: list[Path]) -> Iterator[None]:
    files = {name: _content(place / name) for name in BEGUN}
    times = {path: path.stat().st_mtime_ns for path in (place / ".hydra", place) if path.exists()}
    made = [*([] if (place / ".hydra").exists() else [place / ".hydra"]), *new]
    results, recorded = _changed(place / "metrics.json"), (place / "wandb").exists()
    try:
        yield
    except BaseException as error:
        refused = isinstance(error, InputError) or not isinstance(error, Exception)
        if refused and results == _changed(place / "metrics.json"):
            if not recorded:
                shutil.rmtree(place / "wandb", ignore_errors=True)  # of this run alone
            _restore(place, files, made)
            for path, time in times.items():
                if path.exists():
                    os.utime(path, ns=(time, time))
        raise


def _reserved(folder: Path, *, setting: str, timed: bool, new: list[Path]) -> Path:
    number = 1
    while True:
        place = folder if number == 1 else folder.with_name(f"{folder.name}_{number}")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.mkdir(exist_ok=not timed)
        except FileExistsError:
            number += 1
        except OSError as error:
            _remove_empty(new)
            raise InputError(f"{setting}={folder} cannot be made: {error.strerror}; give another folder") from error
        else:
            return place.absolute()


@contextmanager
def _held(folder: Path, *, setting: str) -> Iterator[None]:
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


def _content(path: Path) -> tuple[bytes, int] | None:
    return (path.read_bytes(), path.stat().st_mtime_ns) if path.is_file() else None


def _changed(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


def _restore(folder: Path, files: dict[str, tuple[bytes, int] | None], made: list[Path]) -> None:
    for name, before in files.items():
        path = folder / name
        if before is None:
            path.unlink(missing_ok=True)
        elif _content(path) != before:
            path.write_bytes(before[0])
            os.utime(path, ns=(before[1], before[1]))
    _remove_empty(made)


def _remove_empty(folders: list[Path]) -> None:
    for place in folders:
        try:
            place.rmdir()
        except OSError:  # something is in it, or it was not made
            continue
