"""Small finished runs of the built-in data set, each made once a session and copied for a test that changes it."""

import shlex
from pathlib import Path

import pytest

from cd_exp.cli import entry

SMALL = "probe.size=60 similarity.top_k=5 features.progress=false features.workers=0 stability.resamples=3"
QUIET = "logger=none report.figures=false"


def run_small(folder: Path, *words: str) -> Path:
    """A run, or with `-m` a sweep, in this process; `~KEY` leaves out what small runs set otherwise."""
    kept = [*shlex.split(f"{SMALL} {QUIET}"), f"cache.dir={folder.parent}/cache"]
    replaced = {word.lstrip("~").partition("=")[0] for word in words}
    chosen = [text for text in kept if text.partition("=")[0] not in replaced]
    setting = "hydra.sweep.dir" if "-m" in words else "hydra.run.dir"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "sys.argv", ["run.py", *chosen, *(word for word in words if word[0] != "~"), f"{setting}={folder}"]
        )
        entry.main()
    return folder
