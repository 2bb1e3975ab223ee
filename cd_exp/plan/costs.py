"""What a forward pass costs, counted without running it: tensors on torch's `meta` device have no numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from cd_exp.plan.machine import Machine
from cd_exp.plan.span import Span

TOUCHED = 3
"""Times that what an operation gives is moved: it is written, and its inputs are about twice as much."""


@dataclass(frozen=True)
class Cost:
    """Of one batch.

    Attributes:
        operations: floating-point multiplications and additions of products and convolutions.
        bytes: that all operations give together.
        calls: of the library.
        largest: bytes of the largest tensor that one of them gives.
        given: the shape of what comes out, where that is one tensor.
    """

    operations: int
    bytes: int
    calls: int
    largest: int
    given: tuple[int, ...] = ()

    def seconds(self, machine: Machine) -> Span:
        """Of the batch: the operations at the measured speeds, what is moved, and the calls."""
        fixed = TOUCHED * self.bytes / machine.bytes + self.calls * machine.call
        fast, slow = machine.operations.high, machine.operations.low
        return Span(0.7 * self.operations / fast + 0.3 * fixed, 2 * (self.operations / slow + 2 * fixed))


def counted(forward: Callable[[Tensor], object], inputs: Tensor) -> Cost:
    """What a forward pass on the inputs costs."""
    traffic = _Traffic()
    with torch.inference_mode(), FlopCounterMode(display=False) as flops, traffic:
        given = forward(inputs)
    shape = tuple(given.shape) if isinstance(given, Tensor) else ()
    return Cost(flops.get_total_flops(), traffic.bytes, traffic.calls, traffic.largest, shape)


class _Traffic(TorchDispatchMode):
    """Counts calls, and the bytes that they give."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.calls, self.largest = 0, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        if not getattr(func, "is_view", False):
            sizes = [part.numel() * part.element_size() for part in _tensors(given)]
            self.calls += 1
            self.bytes += sum(sizes)
            self.largest = max(self.largest, *sizes, 0)
        return given


def _tensors(given: Any) -> list[Tensor]:
    if isinstance(given, Tensor):
        return [given]
    return [part for part in given if isinstance(part, Tensor)] if isinstance(given, (list, tuple)) else []
