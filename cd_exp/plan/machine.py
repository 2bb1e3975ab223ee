"""What this machine does in a second, from a sample of a few tenths of a second."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

from cd_exp.plan.span import Span

TRIES = 3


@dataclass(frozen=True)
class Machine:
    """Speeds of a device.

    Attributes:
        operations: floating-point operations a second, of a convolution and of a product of matrices.
        bytes: a second, read and written again.
        call: seconds that a call of the library takes however small its tensors are.
    """

    operations: Span
    bytes: float
    call: float


@cache
def measured(device: torch.device) -> Machine:
    """The speeds of a device, measured once a process."""
    picture, kernel = torch.rand(8, 64, 56, 56, device=device), torch.rand(64, 64, 3, 3, device=device)
    square, small = torch.rand(768, 768, device=device), torch.rand(8, device=device)
    large = torch.rand(2**23, device=device)
    convolved = 2 * picture.numel() * 64 * 9 / _fastest(lambda: torch.conv2d(picture, kernel, padding=1), device)
    multiplied = 2 * 768**3 / _fastest(lambda: square @ square, device)
    moved = 2 * large.nbytes / _fastest(lambda: large + 1, device)
    return Machine(
        Span(min(convolved, multiplied), max(convolved, multiplied)), moved, _fastest(lambda: small + 1, device)
    )


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    taken = []
    for _ in range(TRIES + 1):  # the first also loads what libraries load at the first call
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - began)
    return min(taken[1:])
