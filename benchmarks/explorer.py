"""The explorer's part of a run of a wide layer: what it collects and writes, in CPU seconds, and its peak of memory.

Activations that a network could have given: 64 directions shared by the units, noise, and zero where below a threshold.
Each size runs in a process of its own.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.processes import resident
from cd_exp import explorer
from cd_exp.cache import Store
from cd_exp.clips import shapes_clip
from cd_exp.dissection import RunData
from cd_exp.features import ExtractionSettings, Features
from cd_exp.models import shapes_model
from cd_exp.records import Concepts, Labels, Probe, RunResult

UNITS = (4_096, 36_864, 200_000)
IMAGES, CONCEPTS, DIM = 1_000, 1_000, 64
AT_MOST = {36_864: 4.0, 200_000: 40.0}  # CPU seconds


def run(quick: bool = False, only: Sequence[str] = (), runs: int = 3) -> dict[str, Any]:
    """Measure, print a line as soon as it is known, and return what belongs into the record."""
    rows = []
    for units in UNITS:
        if only and str(units) not in only:
            continue
        for _ in range(1 if quick else runs):
            command = [sys.executable, "-m", "benchmarks.explorer", str(units // (8 if quick else 1))]
            row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            print("   ".join(f"{key} {value:,.5g}" for key, value in row.items()), f"  at most {AT_MOST.get(units)}")
            rows.append(row)
    return {"quick": quick, "rows": rows}


class Grey(Probe):
    """Images that cost nothing to open."""

    name, fingerprint = "grey", "grey"

    def __init__(self, count: int) -> None:
        self.ids = [str(index) for index in range(count)]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Image.Image:
        return Image.new("RGB", (64, 64), (index % 256, index // 256 % 256, 7))


def measure(units: int) -> dict[str, float]:
    """The seconds of one size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        activations = draw_activations(units)
        np.save(folder / "activations.npy", activations.numpy())
        del activations
        run_data, outcome = make_run(folder, units)
        began = time.process_time()
        content = explorer.collect_pages(run_data, outcome, manifest={}, title="wide")
        collected = time.process_time()
        explorer.write_pages(folder, explorer.find_page({"wide": content}, title="wide"))
        seconds = time.process_time() - began
        written = sum(path.stat().st_size for path in (folder / "explorer").rglob("*.*"))
    peak = resident("VmHWM") / 2**20
    return {"units": units, "cpu_s": seconds, "collect_s": collected - began, "mb": written / 1e6, "peak_mib": peak}


def draw_activations(units: int) -> torch.Tensor:
    """In place, a row at a time: the whole is what the memory is compared with."""
    generator = torch.Generator().manual_seed(0)
    directions, scale = torch.randn(64, units, generator=generator), torch.rand(64, generator=generator)
    values = torch.empty(IMAGES, units)
    for row in values:
        row.copy_(torch.randn(64, generator=generator) * scale @ directions / 4)
        row.add_(torch.randn(units, generator=generator), alpha=0.5).sub_(0.5).relu_()
    return values


def make_run(folder: Path, units: int) -> tuple[RunData, RunResult]:
    """What the explorer reads of a run, its labels drawn at random."""
    random = np.random.default_rng(0)
    names = tuple(f"word {number}" for number in range(CONCEPTS))
    columns = random.integers(0, CONCEPTS, (units, 5))
    scores = -np.sort(-random.random((units, 5)), axis=1)
    labels = Labels(
        layer="wide",
        units=np.arange(units),
        top=tuple(tuple(names[column] for column in row) for row in columns.tolist()),
        similarity=scores[:, 0],
        top_scores=scores,
        margin=scores[:, 0] - scores[:, 1],
    )
    activations = torch.from_numpy(np.load(folder / "activations.npy", mmap_mode="c"))
    features = Features(
        {"wide": activations}, torch.from_numpy(random.standard_normal((IMAGES, DIM))), range(IMAGES), ()
    )
    run_data = RunData(
        model=shapes_model(layers=["wide"], final="wide"),
        probe=Grey(IMAGES),
        concepts=Concepts(names, name="made"),
        clip=shapes_clip(),
        features=features,
        texts=torch.from_numpy(random.standard_normal((CONCEPTS, DIM))),
        labels={"wide": labels},
        seconds={},
        store=Store(folder / "cache"),
        settings=ExtractionSettings(),
    )
    top = features.strongest("wide", 5).indices.T.numpy()
    outcome = RunResult(
        labels={"wide": labels},
        top_images={"wide": top},
        probe=run_data.probe,
        metrics={"wide": {"units": units}},
        baselines={},
        baseline_metrics={},
        notes=(),
        seconds={},
    )
    return run_data, outcome


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
