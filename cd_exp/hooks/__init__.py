"""Reading the layers of a network: which ones are meant, what they give, and the hooks that pool them."""

from cd_exp.hooks.hooks import hook_layers, pool_layers, read_layer_maps
from cd_exp.hooks.inspect_layers import LayerOutputs, are_tokens_in_order, decide_layers, inspect_layers
from cd_exp.hooks.layer import Layer, LayerRequest, get_module, resolve_patterns

__all__ = [
    "Layer",
    "LayerOutputs",
    "LayerRequest",
    "are_tokens_in_order",
    "decide_layers",
    "get_module",
    "hook_layers",
    "inspect_layers",
    "pool_layers",
    "read_layer_maps",
    "resolve_patterns",
]
