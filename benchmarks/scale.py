"""What `docs/scale.md` plans with, measured at small scale by the same code: seconds, bytes and memory as sizes grow.

Each size is measured in a process of its own, so that its peak of memory is its own. A cost that stays the same over
the sizes is what lets it be multiplied.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.processes import resident
from cd_exp import similarity
from cd_exp.cache import Store, hash_file
from cd_exp.clips import Precomputed
from cd_exp.features import ExtractionSettings, extract
from cd_exp.features.store_activations import SHARD
from cd_exp.labels import label_layer
from cd_exp.models import CustomModel
from cd_exp.records import ConceptActivations, Probe
from cd_exp.similarity.scoring import RESULT_BYTES

UNITS, DIM = 2048, 512
IMAGES = (8, 16, 32)  # shards
CONCEPTS = (250_000, 500_000, 1_000_000)
NETWORK = f"""
import numpy as np, torch
from torch import nn

def pixels(picture):
    return torch.from_numpy(np.array(picture.resize((4, 4)), dtype=np.float32)).permute(2, 0, 1)

def wide():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, {UNITS})), pixels, None
"""


def run(quick: bool = False, only: Sequence[str] = (), runs: int = 5) -> dict[str, Any]:
    """Measure, print a line as soon as it is known, and return what belongs into the record."""
    shrink = 4 if quick else 1
    results: dict[str, Any] = {"quick": quick, "units": UNITS, "dim": DIM}
    sizes = {
        "extraction": [size * SHARD for size in IMAGES],
        "concepts": list(CONCEPTS),
        "sharded": [IMAGES[-1] * SHARD],
    }
    for name in sizes:
        if not only or name in only:
            results[name] = [_apart(name, size // shrink, shrink) for size in sizes[name]]
    return results


def _apart(name: str, size: int, shrink: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.scale", name, str(size), str(shrink)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result = {"size": size, **json.loads(done.splitlines()[-1])}
    print(f"{name:>10} " + "   ".join(f"{key} {value:,.5g}" for key, value in result.items()), flush=True)
    return result


def extraction(images: int, shrink: int = 1) -> dict[str, float]:
    """Everything but the networks and the images: batches, pooling, shards and their checksums."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "network.py").write_text(NETWORK)
        (folder / "images.txt").write_text("\n".join(map(str, range(images))))
        np.save(folder / "image_embeddings.npy", np.ones((images, 8), dtype=np.float32))
        model = CustomModel(name="wide", factory=f"{folder}/network.py:wide", layers=["1"])
        settings = ExtractionSettings(device="cpu", workers=0, batch_size=256, progress=False, keep="dense")
        clip, store = Precomputed(str(folder)), Store(folder / "cache")
        began = time.perf_counter()
        extract(model, Grey(images), clip, layers=["1"], store=store, settings=settings)
        ended = time.perf_counter()
        values = next((folder / "cache").glob("activations/*/values.npy"))
        hashed = time.perf_counter()
        hash_file(values)
        return {
            "us_per_image": 1e6 * (ended - began) / images,
            "bytes_per_image": values.stat().st_size / images,
            "peak_mib": _peak(),
            "hashed_mb_per_s": values.stat().st_size / (time.perf_counter() - hashed) / 1e6,
        }


class Grey(Probe):
    """Images that cost nothing to open."""

    name, fingerprint = "grey", "grey"

    def __init__(self, count: int) -> None:
        self.ids = [str(index) for index in range(count)]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Image.Image:
        return Image.new("RGB", (4, 4), (index % 256, index // 256 % 256, 7))


def concepts(count: int, shrink: int = 1, top: int = 10) -> dict[str, float]:
    """`soft_wpmi` against many concepts, block by block and in two passes, of which each unit's best five are kept.

    No two units share an image: the most work there can be. The layer is always two blocks of units as
    `score_blocks` cuts them, so the more concepts, the fewer units, and images x concepts stays the same.
    """
    generator = torch.Generator().manual_seed(0)
    block = RESULT_BYTES // (4 * count * shrink**2)
    images = 2 * block * top
    match = ConceptActivations(_directions(images, generator), _directions(count, generator))
    neurons = torch.zeros(images, 2 * block)
    own = torch.arange(images)
    neurons[own, own // top] = 1 + torch.rand(images, generator=generator)
    names = [f"concept {number}" for number in range(count)]
    held, began = _peak(), time.perf_counter()
    label_layer(
        similarity.score_blocks(partial(similarity.soft_wpmi, top_k=top), match, neurons, units=block),
        names,
        layer="layer",
    )
    seconds = time.perf_counter() - began
    return {
        "units": 2 * block,
        "images": images,
        "seconds": seconds,
        "ns_per_image_and_concept": 1e9 * seconds / (images * count),
        "texts_mib": match.texts.nbytes / 2**20,
        "extra_peak_mib": _peak() - held,
    }


def _directions(count: int, generator: torch.Generator) -> Tensor:
    """Random unit rows, normalised in place: memory that is freed again would hide a later peak."""
    rows = torch.randn(count, DIM, generator=generator)
    return rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True))


def sharded(images: int, shrink: int = 1, units: int = 64, count: int = 2_000, top: int = 100) -> dict[str, float]:
    """The same scores from what shards give one by one as from all images at once: `soft_wpmi` and `cos`.

    A unit's best images of all are among its best of each shard, so for `soft_wpmi` running lists of the `top` best are
    enough, and for `cos` running sums.
    """
    generator = torch.Generator().manual_seed(0)
    match = ConceptActivations(_directions(images, generator), _directions(count, generator))
    neurons = torch.randn(images, units, generator=generator)
    began = time.perf_counter()
    used = _listed(neurons, top).unique()
    listed = time.perf_counter()
    summed = _cos_by_sums(match, neurons)
    added = time.perf_counter()
    part = similarity.soft_wpmi(ConceptActivations(match.images[used], match.texts), neurons[used], top_k=top)
    return {
        "images_used": len(used),
        "soft_wpmi_difference": _difference(part, similarity.soft_wpmi(match, neurons, top_k=top)),
        "cos_difference": _difference(summed, similarity.cos(match, neurons)),
        "lists_ns_per_activation": 1e9 * (listed - began) / (images * units),
        "sums_gflop_per_s": 2e-9 * DIM * (images * (DIM + units) + count * (DIM + units)) / (added - listed),
    }


def _listed(neurons: Tensor, top: int) -> Tensor:
    """The `top` most exciting images of each unit, from those of each shard."""
    kept, values = torch.empty(0, neurons.shape[1], dtype=torch.long), neurons[:0]
    for start in range(0, len(neurons), SHARD):
        best = neurons[start : start + SHARD].topk(top, dim=0)
        values, kept = torch.cat([values, best.values]), torch.cat([kept, best.indices + start])
        values, order = values.topk(top, dim=0)
        kept = kept.gather(0, order)
    return kept


def _cos_by_sums(match: ConceptActivations, neurons: Tensor) -> Tensor:
    """`cos` from sums over shards, added up in float64."""
    units = neurons.shape[1]
    gram, products = torch.zeros(DIM, DIM, dtype=torch.float64), torch.zeros(units, DIM, dtype=torch.float64)
    squares = torch.zeros(units, dtype=torch.float64)
    for start in range(0, len(neurons), SHARD):
        shown, fired = match.images[start : start + SHARD], neurons[start : start + SHARD]
        gram += shown.T @ shown
        products += fired.T @ shown
        squares += fired.square().sum(dim=0)
    texts = match.texts.double()
    lengths = (texts @ gram).mul_(texts).sum(dim=1).sqrt()
    return products @ texts.T / lengths / squares.sqrt()[:, None]


def _difference(one: Tensor, other: Tensor) -> float:
    return (one - other).abs().max().item()


def _peak() -> float:
    return resident("VmHWM") / 2**20


PARTS: dict[str, Callable[..., dict[str, float]]] = {
    "extraction": extraction,
    "concepts": concepts,
    "sharded": sharded,
}

if __name__ == "__main__":
    print(json.dumps(PARTS[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]))))
