"""A second similarity function on cached features: `experiment=real_photos`, the whole process from start to exit.

Takes turns with the same run without a tracker and with no report, so that the rest can be told from what they cost.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.processes import ROOT, python

REAL = ROOT / "../shared/real"
AT_MOST = 8.0  # seconds
VARIANTS = {
    "whole": (),
    "logger=none": ("logger=none",),
    "logger=none, no report": ("logger=none", "report.html=false", "report.figures=false"),
    "import torch": None,
}


def run(quick: bool = False, only: Sequence[str] = (), runs: int = 5) -> dict[str, Any]:
    """Measure, print a line as soon as it is known, and return what belongs into the record."""
    if not REAL.is_dir():
        print(f"skipped: no real photos at {REAL}", flush=True)
        return {"skipped": f"no {REAL.name} photos"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = os.environ.get("CD_EXP_CACHE", f"{name}/cache")
        _job(folder, cache, "similarity=soft_wpmi", "logger=none")  # makes the features where they are not there
        times: dict[str, list[tuple[float, float]]] = {
            variant: [] for variant in VARIANTS if not only or variant in only
        }
        for _ in range(1 if quick else runs):
            for variant, seconds in times.items():
                changes = VARIANTS[variant]
                if changes is None:
                    seconds.append(python("-c", "import torch"))
                else:
                    seconds.append(_job(folder, cache, "similarity=cos", *changes))
    for variant, seconds in times.items():
        wall, cpu = (median(column) for column in zip(*seconds, strict=True))
        goal = f" (under {AT_MOST:g})" if variant == "whole" else ""
        print(f"{variant:>24}   {wall:6.2f} s{goal}   {cpu:6.2f} CPU s   median of {len(seconds)}", flush=True)
    return {"quick": quick, "wall_and_cpu_s": times}


def _job(folder: Path, cache: str, *changes: str) -> tuple[float, float]:
    settings = ("experiment=real_photos", f"data_dir={REAL}", f"cache.dir={cache}", f"hydra.run.dir={folder}/run")
    return python("run.py", *settings, *changes)
