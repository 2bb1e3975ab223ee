"""`kill -9` at random moments during extraction: every run after it must end with the same labels and leave no litter.

One job is begun, killed and begun again until so many kills have hit it; whenever it ends by itself its results are
compared with those of a run that nobody killed, and it starts from an empty cache.
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

from cd_exp.cache import digest
from cd_exp.cache.mark import entry_folders
from cd_exp.features.shards import SHARD

ROOT = Path(__file__).parents[1]
COUNT = 5 * SHARD + 300
KILLS = 20
NETWORK = """
import time
import numpy as np, torch
from torch import nn

class Slow:
    def __repr__(self):
        return "Slow()"

    def __call__(self, picture):
        time.sleep(0.0005)
        return torch.from_numpy(np.array(picture.resize((8, 8)), dtype=np.float32)).permute(2, 0, 1) / 255

def tiny():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 6)), Slow(), None
"""


def run(quick: bool = False, only: Sequence[str] = (), runs: int = 5) -> dict[str, Any]:
    """Kill, print a line for each time the job ended by itself, and return what belongs into the record."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world(folder)
        began = time.perf_counter()
        _wait(_begin(folder, "whole"))
        whole, seconds = results(folder, "whole"), time.perf_counter() - began
        found = _killed(folder, whole, kills=3 if quick else KILLS)
    return {"quick": quick, "images": COUNT, "seconds_unkilled": seconds, **found}


def _killed(folder: Path, whole: dict[str, str], *, kills: int) -> dict[str, Any]:
    draw, hit, moments, ended, resumed = random.Random(0), 0, [], 0, 0
    while hit < kills or (folder / "job" / "cache").exists():
        locks = folder / "job" / "cache" / "locks"
        shutil.rmtree(locks, ignore_errors=True)
        before = _shards(folder)
        job = _begin(folder, "job")
        while job.poll() is None and not locks.exists():
            time.sleep(0.002)
        moment = draw.uniform(0, 5)  # seconds; reading, extracting, merging and labelling all fall into it
        if hit < kills:
            try:
                job.wait(moment)
            except subprocess.TimeoutExpired:
                job.send_signal(signal.SIGKILL)
                job.wait()
                hit, moments, resumed = hit + 1, [*moments, round(moment, 2)], resumed + bool(before)
                continue
        _wait(job)
        ended += 1
        same = results(folder, "job") == whole
        litter = [str(path) for path in (folder / "job" / "cache").rglob(".tmp-*")]
        litter += [str(path) for path in (folder / "job" / "cache" / "partial").iterdir()]
        print(f"after {hit} kills: labels and features identical: {same}; left over: {litter or 'nothing'}", flush=True)
        if not same or litter:
            raise SystemExit(1)
        shutil.rmtree(folder / "job")
    print(f"{hit} kills, {ended} runs ended, {resumed} runs began from shards that a killed one left", flush=True)
    return {"kills": hit, "moments_s": moments, "ended": ended, "resumed": resumed, "identical": True, "litter": 0}


def results(folder: Path, name: str) -> dict[str, str]:
    """The content of the labels and of every stored value."""
    stored = {path.name: digest(path / "values.npy") for path in entry_folders(folder / name / "cache")}
    return {"labels": digest(folder / name / "run" / "labels.csv"), **stored}


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
        **{"probe": "folder", "probe.root": folder / "images", "features.workers": 0},
        **{"concepts": "file", "concepts.path": folder / "some_names.txt"},
        **{"clip": "precomputed", "clip.folder": folder},
        **{"logger": "none", "report.html": "false", "report.figures": "false"},
        **{"cache.dir": folder / name / "cache", "hydra.run.dir": folder / name / "run"},
    }
    command = [sys.executable, "run.py", *(f"{key}={value}" for key, value in settings.items())]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _shards(folder: Path) -> int:
    return len(list((folder / "job" / "cache" / "partial").glob("*/[0-9]*.json")))


def _wait(job: subprocess.Popen[bytes]) -> None:
    _, said = job.communicate()
    if job.returncode:
        raise RuntimeError(said.decode())
