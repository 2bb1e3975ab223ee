"""CLIP-Dissect: name the neurons of a vision network with words, and measure how right the words are.

from cd_exp import dissect
result = dissect(net, images="photos/", words=["cat", "dog"], clip="vit_b_16", layers=["layer4"])
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cd_exp.api import dissect
    from cd_exp.features import ExtractionSettings

# Before torch loads OpenMP: its threads otherwise spin while they wait, against the processes that decode images. On
# two busy cores 3,072 images of `shapes` took 56 s with spinning threads and 9 s without.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.2.0"
__all__ = ["ExtractionSettings", "dissect"]


_OFFERED = {
    "dissect": ("cd_exp.api", "dissect"),
    "ExtractionSettings": ("cd_exp.features", "ExtractionSettings"),
    "Settings": ("cd_exp.features", "ExtractionSettings"),  # its name in 0.2.0
}


def __getattr__(name: str) -> Any:
    """What the library offers is imported when it is asked for, because torch comes with it."""
    if name not in _OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _OFFERED[name]
    return getattr(import_module(module), attribute)
