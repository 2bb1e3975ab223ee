"""A target network that a program holds already, as a recipe like any other."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from cd_exp.models.content import numbers_of, text_of
from cd_exp.models.recipe import Network, Recipe
from cd_exp.models.transforms import ImageTransform, adapted
from cd_exp.plugins import code_of


@dataclass(frozen=True, eq=False, kw_only=True)
class InHand(Recipe):
    """A network in memory.

    Since code can compute anything, the key covers the sources of its classes, what it shows of itself and the
    parameters, and what the layers give for the probe's first pictures is held against what is stored (`own_code`).

    Attributes:
        module: the network.
        transform: from a picture to its input; None for the preprocessing of its timm architecture, or ImageNet's.
    """

    module: nn.Module
    transform: object = None

    @property
    def own_code(self) -> bool:
        """No key can cover all that the network depends on."""
        return True

    @cached_property
    def _adapted(self) -> tuple[ImageTransform, tuple[str, ...]]:
        return adapted(self.transform, self.module, name=self.name)

    @cached_property
    def key(self) -> Mapping[str, Any]:
        """All that changes what the network computes and can be hashed, as plain JSON values."""
        steps = [self.transform, *getattr(self.transform, "transforms", ())]
        made_of = [*(type(module) for module in self.module.modules()), *map(_definition, steps)]
        return {
            "sources": dict(sorted(code_of(dict.fromkeys(made_of)).items())),
            "network": text_of(self.module),
            "transform": text_of(self._adapted[0]),
            "parameters": numbers_of(self.module),
        }

    def build(self) -> Network:
        """The network in evaluation mode, on the CPU in float32."""
        transform, notes = self._adapted
        self.module.eval().float().to("cpu").to(memory_format=torch.contiguous_format)
        return Network(self.module, transform, self.prefix_tokens, notes)


def _definition(step: object) -> object:
    """What defines a step of a transform: a function is its own definition."""
    return step if hasattr(step, "__qualname__") else type(step)


@contextmanager
def left_as_it_was(module: nn.Module) -> Iterator[None]:
    """Restore mode, device and type of every part of a network at the end of the block: it is the caller's."""
    modes = [(part, part.training, dict(part._buffers)) for part in module.modules()]
    owned = [*module.parameters(), *(one.grad for one in module.parameters() if one.grad is not None)]
    numbers = [(tensor, tensor.data) for tensor in owned]
    try:
        yield
    finally:
        for part, training, buffers in modes:
            part.training = training
            part._buffers.update(buffers)
        for tensor, before in numbers:  # the very numbers: float64 does not survive a way through float32
            tensor.data = before
