"""Each similarity function against the literal formulation, from embeddings to scores, and the memory each one takes.

The two are timed in turn, so that what else the machine does falls on both; medians are compared.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks import literal
from benchmarks.processes import resident
from cd_exp import similarity
from cd_exp.records import ConceptActivations

DIM = 512


@dataclass(frozen=True)
class Work:
    function: str
    images: int
    concepts: int
    units: int
    at_least: float  # how many times faster than the literal formulation it should be


WORK = (
    Work("soft_wpmi", 10_000, 20_000, 512, 8),
    Work("soft_wpmi", 10_000, 20_000, 2_048, 12),
    Work("wpmi", 10_000, 20_000, 2_048, 4),
    Work("cos", 10_000, 20_000, 512, 20),
    Work("rank_reorder", 10_000, 6_000, 64, 2),
    Work("cos_cubed", 10_000, 20_000, 512, 1.5),
)
MEMORY_BOUND = 2 * 2**30
MEMORY = (100_000, 20_000, 512)
FEWER_CONCEPTS = {"rank_reorder": 400}
"""Sorting 51 billion numbers takes long; the tiles, and so the peak but for the result, are the same with fewer."""
EVERY = ("cos", "cos_cubed", "rank_reorder", "wpmi", "soft_wpmi", "mean_embedding", "whitened_wpmi")


def run(quick: bool = False, only: Sequence[str] = (), runs: int = 5) -> dict[str, Any]:
    """Measure, print a line as soon as it is known, and return what belongs into the record."""
    shrink = 8 if quick else 1
    wanted = [work for work in WORK if not only or work.function in only]
    speed = [_speed(_smaller(work, shrink), runs) for work in wanted]
    images, concepts, units = (size // shrink for size in MEMORY)
    names = [name for name in EVERY if not only or name in only]
    memory = [_memory(name, images, min(concepts, FEWER_CONCEPTS.get(name, concepts)), units) for name in names]
    return {"quick": quick, "dim": DIM, "speed": speed, "memory": memory}


def _smaller(work: Work, shrink: int) -> Work:
    return Work(work.function, work.images // shrink, work.concepts // shrink, work.units // shrink, work.at_least)


def inputs(images: int, concepts: int, units: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random embeddings that match by 0.2 on average, as CLIP's do, and activations after a ReLU.

    Made in place, so that making them leaves no peak of memory.
    """
    torch.manual_seed(0)
    offset = 0.5
    embeddings = (torch.randn(images, DIM).add_(offset), torch.randn(concepts, DIM).add_(offset))
    return *embeddings, torch.randn(images, units).relu_()


def _ours(name: str, images: Tensor, texts: Tensor, neurons: Tensor) -> Tensor:
    return getattr(similarity, name)(similarity.concept_activations(images, texts), neurons)


def _seconds(call: Callable[[], Tensor]) -> tuple[float, Tensor]:
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


def _speed(work: Work, runs: int) -> dict[str, Any]:
    arrays = inputs(work.images, work.concepts, work.units)
    _ours(work.function, *inputs(500, 200, 8))  # libraries load what they load at the first call
    ours, theirs, apart = [], [], 0.0
    for _ in range(runs):
        seconds, mine = _seconds(lambda: _ours(work.function, *arrays))
        ours.append(seconds)
        seconds, other = _seconds(lambda: getattr(literal, work.function)(*arrays))
        theirs.append(seconds)
        apart = (mine - other)[(mine.isfinite() & other.isfinite())].abs().max().item()
        del mine, other
    ratio = median(theirs) / median(ours)
    print(
        f"{work.function:>12} {work.images:>7,} x {work.concepts:>6,} x {work.units:>5,}   "
        f"ours {median(ours):8.3f} s   literal {median(theirs):8.3f} s   {ratio:6.1f} x (at least {work.at_least:g})   "
        f"median of {runs}   greatest difference {apart:.1e}",
        flush=True,
    )
    return {**asdict(work), "ours_s": ours, "literal_s": theirs, "ratio": ratio, "greatest_difference": apart}


def _memory(name: str, images: int, concepts: int, units: int) -> dict[str, Any]:
    sizes = [str(size) for size in (images, concepts, units)]
    command = [sys.executable, "-m", "benchmarks.similarity", name, *sizes]
    extra = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(
        f"{name:>22} {images:>8,} x {concepts:>6,} x {units:>4,}   extra memory {extra / 2**20:7,.0f} MiB "
        f"(under {MEMORY_BOUND / 2**20:,.0f})",
        flush=True,
    )
    return {"function": name, "images": images, "concepts": concepts, "units": units, "extra_bytes": extra}


def extra_memory(name: str, images: int, concepts: int, units: int) -> int:
    """Peak resident memory of a fresh process beyond its inputs, the result included. Linux."""
    function = getattr(similarity, name)
    function(similarity.concept_activations(*inputs(500, 200, 8)[:2]), inputs(500, 200, 8)[2])
    image_embeddings, texts, neurons = inputs(images, concepts, units)
    match = ConceptActivations(image_embeddings.div_(DIM**0.5), texts.div_(DIM**0.5))
    before = resident("VmRSS")
    function(match, neurons)
    return resident("VmHWM") - before


if __name__ == "__main__":
    print(extra_memory(sys.argv[1], *map(int, sys.argv[2:])))
