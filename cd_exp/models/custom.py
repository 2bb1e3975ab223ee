"""Networks from the user's own code or already loaded, with a hash of code and numbers as their key."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from cd_exp import plugins
from cd_exp.concepts import read_names
from cd_exp.errors import InputError
from cd_exp.models.base import Recipe
from cd_exp.models.checkpoints import check_weights_file, load_weights
from cd_exp.models.transforms import ImageTransform, adapt_transform
from cd_exp.plugins import hash_code
from cd_exp.records import Network


def hash_numbers(module: nn.Module) -> str:
    """SHA-256 of the parameters and buffers.

    Raises:
        InputError: a lazy layer has none yet.
    """
    numbers = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if nn.parameter.is_lazy(value):
            raise InputError(f"{name} has no size yet; show the network one image in model.factory (a lazy layer)")
        if isinstance(value, Tensor) and not value.is_quantized:
            numbers.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            numbers.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        else:  # quantised weights and what is no tensor
            numbers.update(f"{name} {value}".encode())
    return numbers.hexdigest()


def open_network(network: object, *, setting: str) -> nn.Module:
    """The network itself, whose layers can be read: that within torch.compile's wrapper.

    Args:
        network: what was given.
        setting: what gave it, for the error.

    Raises:
        InputError: TorchScript, an exported program or tensors of another library (torchao): their layers cannot be
            read from outside.
    """
    plain = getattr(network, "_orig_mod", network)
    kind = None
    if isinstance(plain, (torch.jit.ScriptModule, torch.jit.ScriptFunction)):
        kind = "a TorchScript network"
    elif type(plain).__name__ == "ExportedProgram" or (isinstance(plain, torch.fx.GraphModule) and _is_exported(plain)):
        kind = "an exported program"
    elif isinstance(plain, nn.Module):
        strange = {type(value.data) for value in (*plain.parameters(), *plain.buffers())} - {Tensor, nn.Parameter}
        strange -= {nn.parameter.UninitializedParameter, nn.parameter.UninitializedBuffer}
        kind = f"a network of {next(iter(strange)).__name__} (quantised?)" if strange else None
    if kind is not None:
        raise InputError(
            f"{setting} is {kind}, whose layers cannot be read from outside; give the nn.Module that it was made from, "
            "or record its activations for units=matrix"
        )
    return plain  # type: ignore[return-value]


def _is_exported(network: torch.fx.GraphModule) -> bool:
    """Whether a graph is that of an exported program, which cannot be put into evaluation mode."""
    try:
        network.train(network.training)
    except NotImplementedError:
        return True
    return False


def describe_module(thing: object) -> str:
    """The `repr` of an object without memory addresses, which differ between processes."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(thing))


@dataclass(frozen=True, eq=False, kw_only=True)
class LoadedModel(Recipe):
    """A network in memory.

    Since code can compute anything, the key covers the sources of its classes, what it shows of itself and the
    parameters, and what the layers give for the probe's first images is compared with what is stored (`own_code`).

    Attributes:
        module: the network.
        transform: from an image to its input; None for the preprocessing of its timm architecture, or ImageNet's.
    """

    module: nn.Module
    transform: object = None

    @property
    def own_code(self) -> bool:
        """No key can cover all that the network depends on."""
        return True

    @cached_property
    def _adapted(self) -> tuple[ImageTransform, tuple[str, ...]]:
        return adapt_transform(self.transform, self.module, name=self.name)

    @cached_property
    def key(self) -> Mapping[str, Any]:
        """All that changes what the network computes and can be hashed, as plain JSON values."""
        steps = [self.transform, *getattr(self.transform, "transforms", ())]
        made_of = [*(type(module) for module in self.module.modules()), *map(_hash_definition, steps)]
        return {
            "sources": dict(sorted(hash_code(dict.fromkeys(made_of)).items())),
            "network": describe_module(self.module),
            "transform": describe_module(self._adapted[0]),
            "parameters": hash_numbers(self.module),
        }

    def build(self) -> Network:
        """The network in evaluation mode, on the CPU in float32."""
        transform, notes = self._adapted
        self.module.eval().float().to("cpu").to(memory_format=torch.contiguous_format)
        return Network(self.module, transform, self.prefix_tokens, notes)


def _hash_definition(step: object) -> object:
    """What defines a step of a transform: a function is its own definition."""
    return step if hasattr(step, "__qualname__") else type(step)


@contextmanager
def restore_after(module: nn.Module) -> Iterator[None]:
    """Restore mode, device and type of every part of a network at the end of the block: it is the caller's."""
    modes = [(part, part.training, dict(part._buffers)) for part in module.modules()]
    owned = [*module.parameters(), *(parameter.grad for parameter in module.parameters() if parameter.grad is not None)]
    numbers = [(tensor, tensor.data) for tensor in owned]
    try:
        yield
    finally:
        for part, training, buffers in modes:
            part.training = training
            part._buffers.update(buffers)
        for tensor, before in numbers:  # the very numbers: float64 does not survive a way through float32
            tensor.data = before


_RETURNS = "(nn.Module, transform or None, class names or None)"


@dataclass(frozen=True)
class CustomModel(Recipe):
    """A network from the user's own code.

    `factory` is `FILE.py:function` or `package.module:function`; the function takes `options` as keywords and returns
    (nn.Module, transform from a PIL image to a tensor, class names or None). Since code can compute anything, the key
    covers the sources, the options and the parameters themselves, and what the layers give for the probe's first
    images is compared with what is stored (`own_code`); the network is therefore always built.
    """

    factory: str = ""

    @property
    def own_code(self) -> bool:
        """No key can cover all that the user's code depends on."""
        return True

    @cached_property
    def _function(self) -> plugins.UserFunction:
        return plugins.load_function(self.factory, setting="model.factory")

    @cached_property
    def _made(self) -> tuple[nn.Module, ImageTransform, Sequence[str | None] | None, tuple[str, ...]]:
        made = self._function(self.options)
        if isinstance(made, nn.Module):
            made = (made, None, None)
        if not (isinstance(made, tuple) and len(made) in (2, 3) and isinstance(made[0], nn.Module)):
            raise InputError(
                f"model.factory={self.factory} returned {_describe_return(made)}; it must return {_RETURNS}"
            )
        module, transform, classes = (*made, None)[:3]
        module = open_network(module, setting=f"what model.factory={self.factory} returned")
        left_out: tuple[str, ...] = ()
        if self.weights is not None:
            weights = check_weights_file(self.weights, "model.weights")
            left_out = load_weights(module, weights, key=self.checkpoint_key, prefix=self.checkpoint_prefix)
        adapted_transform, notes = adapt_transform(transform, module, name=self.name)
        return module, adapted_transform, classes, (*left_out, *notes)

    @cached_property
    def classes(self) -> tuple[str, ...] | None:
        """The class names, in the order of the final layer's units."""
        if self.class_names is not None:
            return read_names(self.class_names)
        names = self._made[2]
        return None if names is None else tuple(str(name or "") for name in names)

    @cached_property
    def key(self) -> Mapping[str, Any]:
        """All that changes what the network computes and can be hashed, as plain JSON values."""
        module, transform, _, _ = self._made
        return {
            **self._function.key,
            "options": dict(self.options),
            "network": describe_module(module),
            "transform": describe_module(transform),
            "parameters": hash_numbers(module),
        }

    def build(self) -> Network:
        """The network in evaluation mode, on the CPU in float32."""
        module, transform, _, notes = self._made
        module.eval().float().to("cpu").to(memory_format=torch.contiguous_format)  # a run may have moved it since
        return Network(module, transform, self.prefix_tokens, notes)


def _describe_return(made: object) -> str:
    if isinstance(made, tuple):
        return f"a tuple of {', '.join(type(item).__name__ for item in made) or 'nothing'}"
    return f"a {type(made).__name__}"
