"""What a network in memory is made of, for the key of what it computes."""

import hashlib
import re

import torch
from torch import Tensor, nn

from cd_exp.errors import InputError


def numbers_of(module: nn.Module) -> str:
    """SHA-256 of the parameters and buffers.

    Raises:
        InputError: a lazy layer has none yet.
    """
    numbers = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if nn.parameter.is_lazy(value):
            raise InputError(f"{name} has no size yet; show the network one picture in model.factory (a lazy layer)")
        if isinstance(value, Tensor) and not value.is_quantized:
            numbers.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            numbers.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        else:  # quantised weights and what is no tensor
            numbers.update(f"{name} {value}".encode())
    return numbers.hexdigest()


def text_of(thing: object) -> str:
    """The `repr` of an object without memory addresses, which differ between processes."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(thing))
