"""A sweep of 15 jobs, `experiment=table3_shapes`: the whole process from empty caches, and again on what it stored."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.processes import python

AT_MOST = 240.0  # seconds from empty caches
CACHES = ("empty caches", "features stored")


def run(quick: bool = False, only: Sequence[str] = (), runs: int = 5) -> dict[str, Any]:
    """Measure, print a line as soon as it is known, and return what belongs into the record."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in CACHES}
    made: dict[str, list[int]] = {}
    for _ in range(1 if quick else runs):
        with tempfile.TemporaryDirectory() as folder:
            for name in CACHES:
                times[name].append(_sweep(f"{folder}/cache", f"{folder}/{name}"))
                made[name] = _made(Path(folder, name))
    for name, seconds in times.items():
        wall, cpu = (median(column) for column in zip(*seconds, strict=True))
        goal = f" (under {AT_MOST:g})" if name == "empty caches" else ""
        entries = ", ".join(map(str, made[name]))
        print(f"{name:>16}   {wall:6.1f} s{goal}   {cpu:6.1f} CPU s   median of {len(seconds)}", flush=True)
        print(f"{'':>16}   entries made, job by job: {entries}", flush=True)
    return {"quick": quick, "wall_and_cpu_s": times, "entries_made": made}


def _sweep(cache: str, folder: str) -> tuple[float, float]:
    return python("run.py", "-m", "experiment=table3_shapes", f"cache.dir={cache}", f"hydra.sweep.dir={folder}")


def _made(sweep: Path) -> list[int]:
    jobs = sorted((path for path in sweep.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    return [len(json.loads((job / "manifest.json").read_text())["cache"]["made"]) for job in jobs]
