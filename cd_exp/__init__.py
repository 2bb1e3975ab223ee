"""CLIP-Dissect: name the neurons of a vision network with words, and measure how right the words are.

from cd_exp import dissect, similarity
labels = dissect(model, probe, concepts, clip, similarity.soft_wpmi, layers=["fc"])
"""

import os
from typing import Any

from cd_exp.version import VERSION

# Before torch loads OpenMP: its threads otherwise spin while they wait, against the processes that decode images. On
# two busy cores 3,072 images of `shapes` took 56 s with spinning threads and 9 s without.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = VERSION
__all__ = ["dissect"]


def __getattr__(name: str) -> Any:
    """`dissect` is imported when it is asked for, because torch comes with it."""
    if name == "dissect":
        from cd_exp.dissection import dissect

        return dissect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
