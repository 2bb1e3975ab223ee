"""Reading the layers of a network: which ones are meant, what they give, and the hooks that pool them."""

from cd_exp.hooks.hooks import hooked, mapped, pooled
from cd_exp.hooks.inspect_layers import Looked, decide, in_order, look
from cd_exp.hooks.layer import Layer
from cd_exp.hooks.layer_patterns import Wanted, module_of, resolve

__all__ = [
    "Layer",
    "Looked",
    "Wanted",
    "decide",
    "hooked",
    "in_order",
    "look",
    "mapped",
    "module_of",
    "pooled",
    "resolve",
]
