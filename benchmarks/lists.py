"""Each unit's strongest images kept in place of all activations: disk, memory and time as the images grow.

The network costs next to nothing (it gives rows of a table of random numbers, another window of it for every image),
so what is measured is everything else: batches, reductions, checkpoints, `soft_wpmi` on what was kept. Each size runs
in a process of its own. `--only million` is ImageNet's 1.28 million images: it stops after seven minutes and goes on
from there when it is started again, as any run does.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.processes import resident
from cd_exp.cache import Store
from cd_exp.clips import Precomputed
from cd_exp.dissection import RunInputs, dissect_layers
from cd_exp.features import ExtractionSettings
from cd_exp.models import CustomModel
from cd_exp.records import Concepts, Probe
from cd_exp.similarity import soft_wpmi

UNITS, DIM, CONCEPTS, TOP = 36_864, 64, 1_000, 100
IMAGES = (20_000, 40_000, 80_000, 160_000)
MILLION = 1_281_167
PATIENCE = 420  # seconds
NETWORK = """
import numpy as np, torch
from torch import nn

UNITS = {units}

class Window(nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("table", torch.randn(2**20, generator=generator))
        self.last = nn.Identity()

    def forward(self, images):
        number = (images[:, :, 0, 0].long() * torch.tensor([65536, 256, 1])).sum(1)
        starts = number * 7919 % (len(self.table) - UNITS)
        return self.last(torch.stack([self.table[start : start + UNITS] for start in starts.tolist()]))

def pixels(image):
    return torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1)

def wide():
    return Window(), pixels, None
"""


class Numbered(Probe):
    """Images that cost nothing to open and carry their number."""

    name, fingerprint = "numbered", "numbered"

    def __init__(self, count: int) -> None:
        self.ids = _Numbers(count)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Image.Image:
        return Image.new("RGB", (1, 1), (index // 65536, index // 256 % 256, index % 256))


class _Numbers(Sequence[str]):
    """The numbers as text, none of them in memory."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Any) -> Any:
        return (
            [str(i) for i in range(*index.indices(self.count))]
            if isinstance(index, slice)
            else str(range(self.count)[index])
        )


def run(quick: bool = False, only: Sequence[str] = (), runs: int = 5) -> dict[str, Any]:
    """Measure, print a line as soon as it is known, and return what belongs into the record."""
    results: dict[str, Any] = {"quick": quick, "units": UNITS, "top_k": TOP, "concepts": CONCEPTS}
    sizes = {"sizes": [size // (8 if quick else 1) for size in IMAGES], "million": [MILLION // (8 if quick else 1)]}
    for name, counts in sizes.items():
        if name in only or (not only and name == "sizes"):
            results[name] = [_apart(count) for count in counts]
    return results


def _apart(images: int) -> dict[str, float]:
    """One size in a process of its own; its folder is kept where it has to go on later."""
    folder = Path(tempfile.gettempdir()) / f"cd_exp_lists_{images}"
    command = [sys.executable, "-m", "benchmarks.lists", str(images), str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result = {"images": images, **json.loads(done.splitlines()[-1])}
    print("   ".join(f"{key} {value:,.5g}" for key, value in result.items()), flush=True)
    if result["complete"]:
        subprocess.run(["rm", "-r", str(folder)], check=True)
    return result


def measure(images: int, folder: Path) -> dict[str, float]:
    """Extraction with `features.keep=lists`, then `soft_wpmi` on the lists, as a run does them."""
    folder.mkdir(exist_ok=True)
    world(folder, images)
    cache = folder / "cache"
    with _watched(cache) as disk, _time_limit():
        began, cpu = time.perf_counter(), time.process_time()
        try:
            labelled(folder, images, cache)
        except TimeoutError:
            return {"complete": False, "seconds_so_far": time.perf_counter() - began, "peak_mib": _peak()}
        seconds = time.perf_counter() - began
    final = sum(_size(path) for path in cache.rglob("*"))
    dense = 4 * images * UNITS
    return {
        "complete": True,
        "seconds": seconds,
        "cpu_us_an_image": 1e6 * (time.process_time() - cpu) / images,
        "final_disk_mb": final / 1e6,
        "peak_disk_mb": max(disk) / 1e6,
        "dense_mb": dense / 1e6,
        "final_share_of_dense": final / dense,
        "peak_mib": _peak(),
    }


def labelled(folder: Path, images: int, cache: Path) -> Any:
    """What a run does up to its labels."""
    model = CustomModel(name="wide", factory=f"{folder}/network.py:wide", layers=["last"])
    settings = ExtractionSettings(device="cpu", workers=0, batch_size=256, progress=False, keep="lists")
    words = Concepts(tuple(f"word {number}" for number in range(CONCEPTS)), name="some")
    function = partial(soft_wpmi, top_k=TOP)
    recipes = {"model": model, "probe": Numbered(images), "concepts": words, "clip": Precomputed(str(folder))}
    return dissect_layers(RunInputs(**recipes, store=Store(cache), settings=settings), function, top=5, shown=5)


def world(folder: Path, images: int) -> None:
    """The network, and embeddings of images and words."""
    if (folder / "some_text.npy").exists():
        return
    generator = np.random.default_rng(0)
    (folder / "network.py").write_text(NETWORK.format(units=UNITS))
    (folder / "images.txt").write_text("\n".join(map(str, range(images))))
    np.save(folder / "image_embeddings.npy", generator.standard_normal((images, DIM), dtype=np.float32))
    (folder / "some_names.txt").write_text("\n".join(f"word {number}" for number in range(CONCEPTS)))
    np.save(folder / "some_text.npy", generator.standard_normal((CONCEPTS, DIM), dtype=np.float32))


@contextlib.contextmanager
def _watched(cache: Path) -> Iterator[list[int]]:
    """The bytes that the cache takes on the disk, looked at every tenth of a second."""
    seen, ended = [0], threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            seen.append(sum(_size(path) for path in cache.rglob("*")))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    """`TimeoutError` in the block after `PATIENCE`."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _size(path: Path) -> int:
    try:
        return 512 * path.stat().st_blocks if path.is_file() else 0
    except FileNotFoundError:  # renamed meanwhile
        return 0


def _peak() -> float:
    return resident("VmHWM") / 2**20


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    print(json.dumps(measure(int(sys.argv[1]), Path(sys.argv[2]))))
