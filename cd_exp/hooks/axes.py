"""Which axis of an output holds the units, and how many tokens come before the patches.

The axis follows from the layers around the output, from a second input size, or from its shape. A layer of known
structure tells its axis whatever the sizes (a convolution works on axis 1, a linear layer on the last). The number
of prefix tokens belongs to a layer: a patch embedding has none, and CaiT, XCiT and ConViT add the class token late.
"""

import re
import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from cd_exp.errors import InputError
from cd_exp.hooks.hooks import list_tensors

_CLASS = re.compile(r"cls|(cls|class)_?(token|tok|embedding|embed|emb)s?_?\d*")
_OTHER = re.compile(r"(reg|register|dist|distil|distillation)_?(token|tok|embedding|embed|emb)s?_?\d*")

_FEW = 16  # tokens that may come before the patches


@dataclass(frozen=True)
class Prefix:
    """The tokens that a network puts before its patches.

    `count` is None where the network does not say; `unnamed`, that it has learnt something that may be such a token.
    """

    count: int | None
    class_token: bool = False
    unnamed: bool = False


def read_prefix_tokens(network: nn.Module, tokens: int | None) -> Prefix:
    """The prefix tokens of a network: as set, as timm's networks say, or by the names of the tokens it has learnt.

    Args:
        network: the target model.
        tokens: the setting `model.prefix_tokens`.
    """
    learnt = {name.rpartition(".")[2]: value for name, value in network.named_parameters() if value.ndim}
    classes = any(_CLASS.fullmatch(name) for name in learnt)
    others = sum(_count_rows(value) for name, value in learnt.items() if _OTHER.fullmatch(name))
    stating: object = next((module for module in network.modules() if hasattr(module, "num_prefix_tokens")), None)
    count = tokens if tokens is not None else getattr(stating, "num_prefix_tokens", None)
    if count is None:
        unnamed = any(_may_be_token(name, value) for name, value in learnt.items())
        return Prefix(others + classes or None, classes, unnamed)
    stated = getattr(stating, "has_class_token", None) if tokens is None else None
    has_class = classes or not others if stated is None else bool(stated)
    return Prefix(count, bool(count) and has_class)


def _count_rows(value: Tensor) -> int:
    return value.numel() // value.shape[-1]


def _may_be_token(name: str, value: Tensor) -> bool:
    """Whether a parameter of another name has the shape of a few tokens: those of layers are `weight` and `bias`."""
    return name not in ("weight", "bias") and value.ndim in (2, 3) and _count_rows(value) <= _FEW


def prefix_in_layer(
    tokens: int, prefix: Prefix, *, image: tuple[int, int] | None, seen: Collection[tuple[int, int]], layer: str
) -> tuple[Prefix, tuple[int, int] | None]:
    """The prefix tokens that one layer carries, and the grid of its patches where there is one.

    Args:
        tokens: how many tokens the layer gives.
        prefix: of the network.
        image: height and width of the input; None where the input is no image.
        seen: sizes of maps that the network computes, which decide where two grids are possible.
        layer: for the error.

    Raises:
        InputError: the tokens are neither a grid nor a grid and the network's prefix.
    """
    none = Prefix(0)
    plain = grid_shape(tokens, image, seen)
    if prefix.count is None:
        if plain or not (prefix.unnamed or grid_shape(tokens - 1, image, seen)):
            return none, plain
        raise InputError(
            f"layer {layer!r} gives {tokens} tokens, which are no grid over the image, of a network that does not say "
            "how many come before the patches; set model.prefix_tokens to their number (0: none, 1: a class token)"
        )
    rest = grid_shape(tokens - prefix.count, image, seen)
    if prefix.count == 0 or (plain and rest is None):
        return none, plain
    if plain and rest and (plain in seen) != (rest in seen):
        return (none, plain) if plain in seen else (prefix, rest)
    if rest is None or plain is not None:
        both = "both with and without" if plain else "neither with nor without"
        raise InputError(
            f"layer {layer!r} gives {tokens} tokens, a grid over the image {both} {prefix.count} prefix tokens: it is "
            "not known whether its first token is a patch; choose another layer"
        )
    return prefix, rest


def grid_shape(
    count: int, image: tuple[int, int] | None, seen: Collection[tuple[int, int]] = ()
) -> tuple[int, int] | None:
    """Rows and columns of so many positions spread evenly over an image, or None where no such grid exists."""
    if image is None or count < 1:
        return None
    for size in seen:
        if size[0] * size[1] == count and is_grid(*size, image):
            return size
    fitting = [(rows, count // rows) for rows in range(1, count + 1) if count % rows == 0]
    return next((size for size in fitting if is_grid(*size, image)), None)


def is_grid(rows: int, columns: int, image: tuple[int, int]) -> bool:
    """Whether so many rows and columns have the proportions of the image, but for rounding."""
    height, width = image
    expected = rows * width / height
    return rows <= height and columns <= width and abs(columns - expected) < 1


FIRST, LAST = 1, -1
_FIRST = (_ConvNd, _NormBase, nn.GroupNorm, nn.PixelShuffle, nn.PixelUnshuffle, nn.Upsample, nn.LocalResponseNorm)
_POOLS = ("MaxPool", "AvgPool", "LPPool", "Dropout1d", "Dropout2d", "Dropout3d", "ZeroPad", "ReflectionPad")
_ELEMENTWISE = (nn.Identity, nn.Dropout)


class AxisFacts:
    """What forward hooks on every module tell about the tensors that pass: which axis of each holds the units.

    Tensors are known by identity and held weakly, so that watching a network costs no memory.
    """

    def __init__(self) -> None:
        self.axis_by_output: dict[str, int] = {}
        self.maps: set[tuple[int, int]] = set()
        self._known: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self._waiting: dict[int, tuple[weakref.ref[Tensor], list[str]]] = {}

    def ask(self, key: str, tensor: Tensor) -> None:
        """Put the axis of `tensor` under `key` in `output_axes`, now or when a later layer decides it."""
        axis = self.axis(tensor)
        if axis is not None:
            self.axis_by_output[key] = axis
            return
        waiting = self._waiting.get(id(tensor))
        if waiting and waiting[0]() is tensor:
            waiting[1].append(key)
        else:
            self._waiting[id(tensor)] = weakref.ref(tensor), [key]

    def axis(self, tensor: Tensor) -> int | None:
        """`FIRST` or `LAST` where it is known of this tensor."""
        fact = self._known.get(id(tensor))
        return fact[1] if fact and fact[0]() is tensor else None

    def tell(self, tensor: Tensor, axis: int) -> None:
        """Note the axis of a tensor."""
        if tensor.ndim < 3 or self.axis(tensor) is not None:
            return
        self._known[id(tensor)] = weakref.ref(tensor), axis
        waiting = self._waiting.pop(id(tensor), None)
        if waiting and waiting[0]() is tensor:
            self.axis_by_output |= dict.fromkeys(waiting[1], axis)

    @contextmanager
    def watch(self, network: nn.Module) -> Iterator[None]:
        """Listen to every module while the context lasts."""
        inner = [module for module in network.modules() if module is not network]
        inner = [module for module in inner if not isinstance(module, torch.jit.ScriptModule)]
        handles = [module.register_forward_hook(self._hook) for module in inner]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, module: nn.Module, inputs: Sequence[object], output: object) -> None:
        read = next((value for value in inputs if isinstance(value, Tensor)), None)
        outputs = [tensor for tensor in list_tensors(output).values() if tensor.ndim >= 3]
        axis = axis_by_type(module, outputs[0].shape if outputs else ())
        if axis is not None:
            if read is not None:
                self.tell(read, axis)
            for tensor in outputs[:1]:
                self.tell(tensor, axis)
            if isinstance(module, nn.Conv2d) and outputs:
                self.maps.add((outputs[0].shape[2], outputs[0].shape[3]))
        elif read is not None and len(outputs) == 1 and read.shape == outputs[0].shape:
            self._carry(module, read, outputs[0])

    def _carry(self, module: nn.Module, read: Tensor, produced: Tensor) -> None:
        """An output of the input's shape keeps its axes, unless axes of equal size could have been swapped."""
        if read.shape[FIRST] == read.shape[LAST] and not isinstance(module, _ELEMENTWISE) and list(module.children()):
            return
        for source, other in ((read, produced), (produced, read)):
            axis = self.axis(source)
            if axis is not None:
                self.tell(other, axis)


def axis_by_type(module: nn.Module, shape: Sequence[int]) -> int | None:
    """The axis that a layer of known structure works on."""
    if isinstance(module, _FIRST) or type(module).__name__.startswith(("Adaptive", *_POOLS)):
        return FIRST
    if isinstance(module, (nn.Linear, nn.Embedding, nn.MultiheadAttention)):
        return LAST
    width = getattr(module, "normalized_shape", None)
    if type(module) in (nn.LayerNorm, nn.RMSNorm):
        return LAST if len(width or ()) == 1 else FIRST if len(shape) == len(width or ()) + 1 else None
    if isinstance(width, tuple) and len(width) == 1 and len(shape) >= 3:  # a norm that may work on either axis
        fitting = [axis for axis in (FIRST, LAST) if shape[axis] == width[0]]
        return fitting[0] if len(fitting) == 1 else None
    return None


def axis_by_size(shape: Sequence[int], other: Sequence[int]) -> int | None:
    """The only axis whose size is the same for a second input size; axes of size 1 hold no units unless all are.

    Returns:
        The axis, 0 where several were left alone while others changed, None where nothing changed.
    """
    if len(shape) != len(other):
        return 0
    axes = range(1, len(shape))
    if all(shape[axis] == other[axis] for axis in axes):
        return None
    alone = [axis for axis in axes if shape[axis] == other[axis] > 1]
    return alone[0] if len(alone) == 1 and alone[0] in (1, len(shape) - 1) else 0


def axis_by_shape(shape: Sequence[int], image: tuple[int, int] | None, prefix: int | None) -> int | None:
    """The axis that must hold the units because only the others can be positions over the image."""
    if image is None or len(shape) == 5:  # no proportion of an image tells time or depth from the units
        return None
    if len(shape) == 4:
        first, last = is_grid(shape[2], shape[3], image), is_grid(shape[1], shape[2], image)
    else:
        first, last = (any(grid_shape(shape[axis] - count, image) for count in {0, prefix or 0}) for axis in (2, 1))
    if first == last:
        return None
    return 1 if first else len(shape) - 1
