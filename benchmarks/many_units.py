"""A run of very many units: `units=matrix`, CSR on disk, 10,000 images, 20,000 words, `soft_wpmi`, the whole command.

Units are drawn at random, each active on half a per cent of the images, as latents of an autoencoder are.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from benchmarks.processes import ROOT

UNITS = (20_000, 100_000, 1_000_000)
IMAGES, WORDS, DIM, ACTIVE = 10_000, 20_000, 512, 0.005
AT_MOST = {1_000_000: (3600.0, 4.0)}  # seconds, GB


def run(quick: bool = False, only: Sequence[str] = (), runs: int = 1) -> dict[str, Any]:
    """Measure, print a line as soon as it is known, and return what belongs into the record."""
    rows = []
    for units in UNITS:
        if (only and str(units) not in only) or (quick and units > UNITS[0]):
            continue
        with tempfile.TemporaryDirectory() as name:
            write_world(Path(name), units // (8 if quick else 1))
            rows.append(measure(Path(name), units))
        seconds, cpu, peak = (rows[-1][key] for key in ("wall_s", "cpu_s", "peak_gb"))
        print(f"{units:>9} units   {seconds:8.1f} s   {cpu:8.1f} CPU s   {peak:.2f} GB   at most {AT_MOST.get(units)}")
    return {"quick": quick, "rows": rows}


def write_world(folder: Path, units: int) -> None:
    """Embeddings, words, ids and the activations, as a run reads them."""
    random = np.random.default_rng(0)
    for name, count in (("image_embeddings", IMAGES), ("words_text", WORDS)):
        np.save(folder / f"{name}.npy", random.standard_normal((count, DIM), np.float32))
    names = [f"word{number}" for number in range(WORDS)]
    (folder / "words_names.txt").write_text("\n".join(names) + "\n")
    (folder / "images.txt").write_text("".join(f"{number}\n" for number in range(IMAGES)))
    (folder / "acts").mkdir()
    (folder / "acts" / "images.txt").write_text((folder / "images.txt").read_text())
    active = random.binomial(units, ACTIVE, IMAGES)
    indices = np.concatenate([np.sort(random.integers(0, units, count, np.int32)) for count in active])
    values = random.random(len(indices), np.float32)
    matrix = sparse.csr_array((values, indices, np.concatenate([[0], np.cumsum(active)])), shape=(IMAGES, units))
    matrix.sum_duplicates()
    sparse.save_npz(folder / "acts" / "latents.npz", matrix, compressed=False)


def measure(folder: Path, units: int) -> dict[str, float]:
    """Wall and CPU seconds of the command, and the largest of its resident memory."""
    settings = {
        "units": "matrix", "units.path": folder / "acts", "probe": "ids", "probe.path": folder / "images.txt",
        "clip": "precomputed", "clip.folder": folder, "concepts": "file", "concepts.path": folder / "words_names.txt",
        "similarity": "soft_wpmi", "stability.resamples": 0, "logger": "none", "cache.dir": folder / "cache",
        "hydra.run.dir": folder / "run", "features.progress": "false", "features.keep": "lists",
    }  # fmt: skip
    command = [sys.executable, "run.py", *(f"{key}={value}" for key, value in settings.items())]
    began, before = time.perf_counter(), sum(os.times()[2:4])
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    cpu = sum(os.times()[2:4]) - before
    return {"units": units, "wall_s": time.perf_counter() - began, "cpu_s": cpu, "peak_gb": peak}
