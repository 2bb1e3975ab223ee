"""`whitened_wpmi` beside `soft_wpmi` at the size of the paper's runtime: 3,904 units, 20,000 concepts, 10,000 images.

Random embeddings and activations in float32, each function in a process of its own so that its peak of memory is its
own. The units are scored as one layer, which is the most that an eigenproblem of the units can cost here.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from benchmarks.processes import resident
from benchmarks.similarity import DIM, inputs
from cd_exp import similarity
from cd_exp.records import ConceptActivations

IMAGES, CONCEPTS, UNITS = 10_000, 20_000, 3_904
FUNCTIONS: Mapping[str, Mapping[str, Any]] = {
    "soft_wpmi": {},
    "whitened_wpmi": {"prior_weight": 0.85},
    "whitened_wpmi, auto": {"prior_weight": "auto"},
}
"""With their settings; what stands after a comma is no part of the function's name."""


def run(quick: bool = False, only: Sequence[str] = (), runs: int = 5) -> dict[str, Any]:
    """Measure each function once, print a line as soon as it is known, and return what belongs into the record."""
    shrink = 8 if quick else 1
    sizes = [size // shrink for size in (IMAGES, CONCEPTS, UNITS)]
    return {"quick": quick, "dim": DIM, "sizes": sizes, "found": [_apart(name, sizes) for name in only or FUNCTIONS]}


def _apart(name: str, sizes: Sequence[int]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.labeller", name, *map(str, sizes)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result = {"function": name, **json.loads(done.splitlines()[-1])}
    print(
        "   ".join(f"{key} {value:,.5g}" if key != "function" else value for key, value in result.items()), flush=True
    )
    return result


def measured(name: str, images: int, concepts: int, units: int) -> dict[str, float]:
    """Seconds on the clock and of the processor, and peak resident memory in all and beyond the inputs."""
    function = partial(getattr(similarity, name.partition(",")[0]), **FUNCTIONS[name])
    function(similarity.concept_activations(*inputs(500, 200, 8)[:2]), inputs(500, 200, 8)[2])
    image_embeddings, texts, neurons = inputs(images, concepts, units)
    match = ConceptActivations(image_embeddings.div_(DIM**0.5), texts.div_(DIM**0.5))
    before, began, spent = resident("VmRSS"), time.perf_counter(), time.process_time()
    function(match, neurons)
    peak = resident("VmHWM")
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - spent,
        "peak_mib": peak / 2**20,
        "extra_mib": (peak - before) / 2**20,
    }


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], *map(int, sys.argv[2:]))))
