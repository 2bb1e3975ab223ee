"""Network Dissection's own cost, apart from the network's: units x images a second, and the memory it takes.

Layers are shaped as in ResNet-50 at 224 px, annotations as in Broden (112 x 112, four maps, a whole-image concept).
Each layer is measured in two processes, one with eight times the images of the other: the peak should not grow.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.processes import resident
from cd_exp.evaluation.baselines.netdissect import netdissect
from cd_exp.records import Probe, Segmentation

LAYERS = {"layer1": (256, 56), "layer2": (512, 28), "layer3": (1024, 14), "layer4": (2048, 7), "fc": (1000, 1)}
CONCEPTS, CATEGORIES = 1200, ("color", "object", "part", "material", "scene", "texture")
BATCH = 32
FEW, MANY = 64, 512


def run(quick: bool = False, only: Sequence[str] = (), runs: int = 5) -> dict[str, Any]:
    """Measure, print a line as soon as it is known, and return what belongs into the record."""
    few, many = (FEW, MANY) if not quick else (32, 64)
    return {"quick": quick, "layers": [_layer(name, few, many, runs) for name in LAYERS if not only or name in only]}


def _layer(name: str, few: int, many: int, runs: int) -> dict[str, Any]:
    small, large = _apart(name, few, runs), _apart(name, many, runs)
    result = {
        "layer": name,
        "units": LAYERS[name][0],
        "images": many,
        "units_images_per_second": round(LAYERS[name][0] * many / large["seconds"]),
        "units_images_per_cpu_second": round(LAYERS[name][0] * many / large["cpu_seconds"]),
        "peak_mib": {few: small["peak_mib"], many: large["peak_mib"]},
    }
    print(json.dumps(result), flush=True)
    return result


def _apart(name: str, images: int, runs: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.netdissect", name, str(images), str(runs)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(name: str, images: int, runs: int) -> dict[str, float]:
    """Medians for both passes over one layer, its maps made beforehand."""
    units, size = LAYERS[name]
    batches = [maps(units, size, seed) for seed in range(2)]

    def passes() -> Iterator[tuple[range, dict[str, torch.Tensor]]]:
        for start in range(0, images, BATCH):
            yield range(start, start + BATCH), {name: batches[start // BATCH % 2]}

    times = []
    for _ in range(runs):
        began = time.perf_counter(), time.process_time()
        netdissect(passes, Synthetic())  # type: ignore[arg-type]
        times.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    seconds, cpu_seconds = (median(column) for column in zip(*times, strict=True))
    peak = resident("VmHWM") / 2**20
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mib": round(peak)}


class Synthetic(Probe):
    """Images that carry blocks of concepts, as many as Broden's do; images are never asked for."""

    concepts = tuple(f"concept {number}" for number in range(CONCEPTS))
    categories = tuple(CATEGORIES[number % len(CATEGORIES)] for number in range(CONCEPTS))
    name, ids, fingerprint, has_masks = "synthetic", (), "synthetic", True

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(index)

    def __len__(self) -> int:
        return MANY

    def segmentation(self, index: int) -> Segmentation:
        random = np.random.default_rng(index)
        blocks = random.integers(-1, CONCEPTS // 6, size=(4, 4, 4)) * 6 + np.arange(4)[:, None, None]
        drawn = np.where(blocks < 0, -1, blocks).repeat(28, axis=1).repeat(28, axis=2)
        return Segmentation(drawn, whole=(4 + 6 * int(random.integers(CONCEPTS // 6)),))


def maps(units: int, size: int, seed: int) -> torch.Tensor:
    """Smooth and rectified, as activations are."""
    side = max(1, size // 4)
    noise = torch.randn(BATCH, units, side, side, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, size=(size, size), mode="bilinear").sub_(0.5).relu_()


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
