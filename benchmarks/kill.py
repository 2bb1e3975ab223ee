"""SIGKILL, SIGTERM and SIGINT at random moments of a run: the next one ends with the same labels and leaves no litter.

One job is begun, stopped and begun again until so many signals have hit it; whenever it ends by itself its results are
compared with those of a run that nobody stopped, and it starts from an empty cache. `--only SIGTERM` is one of them.
After each signal no process of the job may be left five seconds later; what can be answered is answered in one line.
"""

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.processes import processes_of
from cd_exp.cache import hash_file
from cd_exp.cache.store import list_entry_folders
from cd_exp.features.store_activations import SHARD

ROOT = Path(__file__).parents[1]
COUNT = 5 * SHARD + 300
TIMES = 20
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
ALL_GONE = 5.0  # seconds
NETWORK = """
import time
import numpy as np, torch
from torch import nn

class Slow:
    def __repr__(self):
        return "Slow()"

    def __call__(self, image):
        time.sleep(0.0005)
        return torch.from_numpy(np.array(image.resize((8, 8)), dtype=np.float32)).permute(2, 0, 1) / 255

def tiny():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 6)), Slow(), None
"""


def run(quick: bool = False, only: Sequence[str] = (), runs: int = 5) -> dict[str, Any]:
    """Stop, print a line for each time the job ended by itself, and return what belongs into the record."""
    facts: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world(folder)
        began = time.perf_counter()
        _wait(_begin(folder, "whole"))
        whole, seconds = results(folder, "whole"), time.perf_counter() - began
        for number in SIGNALS:
            if not only or number.name in only:
                facts[number.name] = _stopped(folder, whole, number, times=3 if quick else TIMES)
    return {"quick": quick, "images": COUNT, "seconds_unstopped": seconds, **facts}


def _stopped(folder: Path, whole: dict[str, str], number: signal.Signals, *, times: int) -> dict[str, Any]:
    draw, ended, resumed, slowest = random.Random(0), 0, 0, 0.0
    moments: list[float] = []
    while len(moments) < times or (folder / "job" / "cache").exists():
        locks = folder / "job" / "cache" / "locks"
        shutil.rmtree(locks, ignore_errors=True)
        before = _shards(folder)
        job = _begin(folder, "job")
        while job.poll() is None and not locks.exists():
            time.sleep(0.002)
        moment = draw.uniform(0, 5)  # seconds; reading, extracting and labelling all fall into it
        if len(moments) < times:
            try:
                job.wait(moment)
            except subprocess.TimeoutExpired:
                took = _stop(job, number)
                if took is not None:
                    slowest, resumed = max(slowest, took), resumed + bool(before)
                    moments.append(round(moment, 2))
                    continue
        _wait(job)
        ended += 1
        same = results(folder, "job") == whole
        litter = [str(path) for path in (folder / "job" / "cache").rglob(".tmp-*")]
        litter += [str(path) for path in (folder / "job" / "cache" / "partial").iterdir()]
        said = f"labels and features identical: {same}; left over: {litter or 'nothing'}"
        print(f"{number.name}: after {len(moments)} times: {said}", flush=True)
        if not same or litter:
            raise SystemExit(1)
        shutil.rmtree(folder / "job")
    print(
        f"{number.name}: {times} times, no process left after {slowest:.1f} s at most; {ended} runs ended, {resumed} "
        "began from shards that a stopped one left",
        flush=True,
    )
    kept = {"moments_s": moments, "ended": ended, "resumed": resumed, "slowest_s": slowest}
    return {"times": times, **kept, "identical": True, "litter": 0, "processes_left": 0}


def _stop(job: subprocess.Popen[bytes], number: signal.Signals) -> float | None:
    """Send the signal to the job alone; the seconds until no process of its session is left, None where it was done."""
    began = time.perf_counter()
    job.send_signal(number)
    _, said = job.communicate(timeout=ALL_GONE)
    while left := processes_of(job.pid):
        if time.perf_counter() - began > ALL_GONE:
            raise RuntimeError(f"{ALL_GONE:g} s after {number.name} {len(left)} processes are left: {left}")
        time.sleep(0.02)
    lines = said.decode().splitlines()
    if job.returncode == 0:
        return None
    expected = -number if number == signal.SIGKILL else 128 + number
    if job.returncode != expected or (number != signal.SIGKILL and len(lines) != 1):
        raise RuntimeError(f"{number.name}: exit {job.returncode}, expected {expected}; said {lines}")
    return time.perf_counter() - began


def results(folder: Path, name: str) -> dict[str, str]:
    """The content of the labels and of every stored value."""
    stored = {path.name: hash_file(path / "values.npy") for path in list_entry_folders(folder / name / "cache")}
    return {"labels": hash_file(folder / name / "run" / "labels.csv"), **stored}


def world(folder: Path) -> None:
    """Noise images, a small network, made-up embeddings and words."""
    generator = np.random.default_rng(0)
    (folder / "images").mkdir()
    for index, picture in enumerate(generator.integers(0, 255, (COUNT, 8, 8, 3), dtype=np.uint8)):
        Image.fromarray(picture).save(folder / "images" / f"{index:05d}.bmp")
    (folder / "images.txt").write_text("\n".join(f"{index:05d}.bmp" for index in range(COUNT)))
    np.save(folder / "image_embeddings.npy", generator.normal(size=(COUNT, 8)).astype(np.float32))
    (folder / "some_names.txt").write_text("\n".join(f"word {number}" for number in range(50)))
    np.save(folder / "some_text.npy", generator.normal(size=(50, 8)).astype(np.float32))
    (folder / "network.py").write_text(NETWORK)


def _begin(folder: Path, name: str) -> subprocess.Popen[bytes]:
    settings = {
        **{"model": "custom", "model.factory": f"{folder}/network.py:tiny", "model.layers": "['1','3']"},
        **{"probe": "folder", "probe.root": folder / "images", "features.workers": 1},
        **{"concepts": "file", "concepts.path": folder / "some_names.txt"},
        **{"clip": "precomputed", "clip.folder": folder},
        **{"logger": "none", "report.html": "false", "report.figures": "false"},
        **{"cache.dir": folder / name / "cache", "hydra.run.dir": folder / name / "run"},
    }
    command = [sys.executable, "run.py", *(f"{key}={value}" for key, value in settings.items())]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def _shards(folder: Path) -> int:
    return len(list((folder / "job" / "cache" / "partial").glob("*/[0-9]*.json")))


def _wait(job: subprocess.Popen[bytes]) -> None:
    _, said = job.communicate() if job.returncode is None else (b"", b"")
    if job.returncode:
        raise RuntimeError(said.decode())
