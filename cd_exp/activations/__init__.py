"""Reading the layers of a network: which ones are meant, what they give, and the hooks that pool them."""

from cd_exp.activations.layer import Layer
from cd_exp.activations.looking import Looked, decide, look
from cd_exp.activations.ordering import in_order
from cd_exp.activations.running import hooked, mapped, pooled
from cd_exp.activations.selection import Wanted, module_of, resolve

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
