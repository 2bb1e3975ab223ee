"""No function holds images x concepts: the peak of a fresh process stays below that matrix."""

import subprocess
import sys

import pytest

IMAGES, CONCEPTS, UNITS = 12_000, 8_000, 16
MATRIX = 4 * IMAGES * CONCEPTS  # 366 MiB

CODE = f"""
import resource, sys, torch
from pathlib import Path
from cd_exp import similarity
from cd_exp.similarity import top_images as softmax
from cd_exp.records import ConceptActivations
softmax.BLOCK_BYTES = 2**25
def inputs(images, concepts):
    embeddings = (torch.randn(count, 16).div_(4) for count in (images, concepts))
    return ConceptActivations(*embeddings), torch.randn(images, {UNITS})
functions = [getattr(similarity, name) for name in sys.argv[1:]]
for function in functions:
    function(*inputs(100, 50))
world = inputs({IMAGES}, {CONCEPTS})
before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
for function in functions:
    function(*world)
# not ru_maxrss, which a child inherits from the process that started it
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(peak.split()[1]) * 1024 - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_stays_below_the_matrix():
    names = ("cos", "cos_cubed", "soft_wpmi", "mean_embedding", "whitened_wpmi")
    process = subprocess.run([sys.executable, "-c", CODE, *names], check=True, capture_output=True, text=True)
    assert int(process.stdout) < 0.4 * MATRIX  # 72 to 85 MB; with a buffer for each block up to 255
