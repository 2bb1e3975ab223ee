"""Which axis of an output holds the units: by the layers around it, by a second input size, by its shape.

A layer of known structure tells its axis whatever the sizes (a convolution works on axis 1, a linear layer on the
last), and a tensor that such a layer reads or gives is told with it: the sum at the end of a residual block is what
the norm of the next block reads. Where that says nothing, the axes that follow the size of the input are positions. A
shape alone decides only where it cannot be a coincidence.
"""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from cd_exp.activations.running import tensors_in
from cd_exp.activations.tokens import grid_of, is_grid

FIRST, LAST = 1, -1
_FIRST = (_ConvNd, _NormBase, nn.GroupNorm, nn.PixelShuffle, nn.PixelUnshuffle, nn.Upsample, nn.LocalResponseNorm)
_POOLS = ("MaxPool", "AvgPool", "LPPool", "Dropout1d", "Dropout2d", "Dropout3d", "ZeroPad", "ReflectionPad")
_ELEMENTWISE = (nn.Identity, nn.Dropout)


class AxisFacts:
    """What forward hooks on every module tell about the tensors that pass: which axis of each holds the units.

    Tensors are known by identity and held weakly, so that watching a network costs no memory.
    """

    def __init__(self) -> None:
        self.found: dict[str, int] = {}
        self.maps: set[tuple[int, int]] = set()
        self._known: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self._waiting: dict[int, tuple[weakref.ref[Tensor], list[str]]] = {}

    def ask(self, key: str, tensor: Tensor) -> None:
        """Put the axis of `tensor` under `key` in `found`, now or when a later layer tells it."""
        axis = self.axis(tensor)
        if axis is not None:
            self.found[key] = axis
            return
        waiting = self._waiting.get(id(tensor))
        if waiting and waiting[0]() is tensor:
            waiting[1].append(key)
        else:
            self._waiting[id(tensor)] = weakref.ref(tensor), [key]

    def axis(self, tensor: Tensor) -> int | None:
        """`FIRST` or `LAST` where it is known of this tensor."""
        known = self._known.get(id(tensor))
        return known[1] if known and known[0]() is tensor else None

    def tell(self, tensor: Tensor, axis: int) -> None:
        """Note the axis of a tensor."""
        if tensor.ndim < 3 or self.axis(tensor) is not None:
            return
        self._known[id(tensor)] = weakref.ref(tensor), axis
        waiting = self._waiting.pop(id(tensor), None)
        if waiting and waiting[0]() is tensor:
            self.found |= dict.fromkeys(waiting[1], axis)

    @contextmanager
    def watching(self, network: nn.Module) -> Iterator[None]:
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
        given = [tensor for tensor in tensors_in(output).values() if tensor.ndim >= 3]
        axis = axis_by_type(module, given[0].shape if given else ())
        if axis is not None:
            if read is not None:
                self.tell(read, axis)
            for tensor in given[:1]:
                self.tell(tensor, axis)
            if isinstance(module, nn.Conv2d) and given:
                self.maps.add((given[0].shape[2], given[0].shape[3]))
        elif read is not None and len(given) == 1 and read.shape == given[0].shape:
            self._carry(module, read, given[0])

    def _carry(self, module: nn.Module, read: Tensor, given: Tensor) -> None:
        """An output of the input's shape keeps its axes, unless axes of equal size could have been swapped."""
        if read.shape[FIRST] == read.shape[LAST] and not isinstance(module, _ELEMENTWISE) and list(module.children()):
            return
        for one, other in ((read, given), (given, read)):
            axis = self.axis(one)
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
    if image is None:
        return None
    if len(shape) == 4:
        first, last = is_grid(shape[2], shape[3], image), is_grid(shape[1], shape[2], image)
    else:
        first, last = (any(grid_of(shape[axis] - count, image) for count in {0, prefix or 0}) for axis in (2, 1))
    if first == last:
        return None
    return 1 if first else len(shape) - 1
