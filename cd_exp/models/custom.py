"""A target network from the user's own code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from cd_exp import plugins
from cd_exp.errors import InputError, fault
from cd_exp.models.content import numbers_of, text_of
from cd_exp.models.recipe import Network, Recipe, read_names
from cd_exp.models.transforms import ImageTransform, adapted
from cd_exp.models.weights import existing, load_weights

_RETURNS = "(nn.Module, transform or None, class names or None)"


@dataclass(frozen=True)
class CustomModel(Recipe):
    """A network from the user's own code.

    `factory` is `FILE.py:function` or `package.module:function`; the function takes `options` as keywords and returns
    (nn.Module, transform from a PIL image to a tensor, class names or None). Since code can compute anything, the key
    covers the sources, the options and the parameters themselves, and what the layers give for the probe's first
    pictures is held against what is stored (`own_code`); the network is therefore always built.
    """

    factory: str = ""

    @property
    def own_code(self) -> bool:
        """No key can cover all that the user's code depends on."""
        return True

    @cached_property
    def _function(self) -> plugins.UserFunction:
        return plugins.load(self.factory, setting="model.factory")

    @cached_property
    def _made(self) -> tuple[nn.Module, ImageTransform, Sequence[str | None] | None, tuple[str, ...]]:
        made = self._called()
        if isinstance(made, nn.Module):
            made = (made, None, None)
        if not (isinstance(made, tuple) and len(made) in (2, 3) and isinstance(made[0], nn.Module)):
            raise InputError(f"model.factory={self.factory} returned {_described(made)}; it must return {_RETURNS}")
        module, transform, classes = (*made, None)[:3]
        if self.weights is not None:
            weights = existing(self.weights, "model.weights")
            load_weights(module, weights, key=self.checkpoint_key, prefix=self.checkpoint_prefix)
        adapted_transform, notes = adapted(transform, module, name=self.name)
        return module, adapted_transform, classes, notes

    def _called(self) -> Any:
        try:
            return self._function(self.options)
        except InputError:
            raise
        except Exception as error:  # the code is the user's: whatever it raises says what does not fit
            raise InputError(f"model.factory={self.factory} failed: {fault(error)}") from error

    @cached_property
    def classes(self) -> tuple[str, ...] | None:
        """The class names, in the order of the final layer's units."""
        if self.class_names is not None:
            return read_names(self.class_names)
        given = self._made[2]
        return None if given is None else tuple(str(name or "") for name in given)

    @cached_property
    def key(self) -> Mapping[str, Any]:
        """All that changes what the network computes and can be hashed, as plain JSON values."""
        module, transform, _, _ = self._made
        return {
            **self._function.key,
            "options": dict(self.options),
            "network": text_of(module),
            "transform": text_of(transform),
            "parameters": numbers_of(module),
        }

    def build(self) -> Network:
        """The network in evaluation mode, on the CPU in float32."""
        module, transform, _, notes = self._made
        module.eval().float().to("cpu").to(memory_format=torch.contiguous_format)  # a run may have moved it since
        return Network(module, transform, self.prefix_tokens, notes)


def _described(made: object) -> str:
    if isinstance(made, tuple):
        return f"a tuple of {', '.join(type(item).__name__ for item in made) or 'nothing'}"
    return f"a {type(made).__name__}"
