"""How images reach the networks: decoded once by worker processes, through every transform, in fixed batches."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from cd_exp import distributed
from cd_exp.errors import InputError
from cd_exp.names import for_terminal
from cd_exp.types import Probe

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Settings:
    """How features are computed. Only `precision` changes numbers, and only it is part of the key.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `float32`, `bfloat16` or `float16` (autocast); `auto` is bfloat16 on CUDA, float32 on the CPU.
        batch_size: None starts at 256 on CUDA and halves while it does not fit; 32 on the CPU.
        workers: processes that decode images; None takes one a core, up to 8.
        on_error: `error` refuses unreadable images after naming them, `skip` leaves them out and records them.
        progress: whether to draw a bar.
    """

    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    on_error: str = "error"
    progress: bool = True

    def resolved(self) -> tuple[torch.device, torch.dtype]:
        """The device and the type that numbers are computed in."""
        device = torch.device(distributed.device(self.device))
        if device.type == "cuda" and not torch.cuda.is_available():
            raise InputError(f"device={self.device}: no CUDA device is available; set device=cpu")
        names = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
        names["auto"] = torch.bfloat16 if device.type == "cuda" else torch.float32
        if self.precision not in names:
            raise InputError(f"precision={self.precision!r} is none of {', '.join(names)}")
        return device, names[self.precision]


BATCH = 32  # images, on the CPU


def load(
    probe: Probe,
    transforms: Sequence["Callable[[Image], Tensor]"],
    batches: Sequence[list[int]],
    settings: Settings,
    device: torch.device,
) -> Iterator[tuple[list[int], list[Tensor], list[bool]]]:
    """(indices, inputs for each transform on the device, which were readable) for each batch, in order."""
    workers = min(os.cpu_count() or 1, 8) if settings.workers is None else settings.workers
    halves = [halved(transform) for transform in transforms]
    loader = torch.utils.data.DataLoader(
        _Decoded(probe, [first for first, _ in halves]),
        batch_sampler=batches,
        num_workers=workers,
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,  # loky's own cannot start any
        collate_fn=_collate,
        pin_memory=device.type == "cuda",
        prefetch_factor=4 if workers else None,
    )
    for indices, (inputs, readable) in zip(batches, loader, strict=True):
        moved = [rest(value.to(device, non_blocking=True)) for (_, rest), value in zip(halves, inputs, strict=True)]
        yield indices, [value.contiguous(memory_format=torch.channels_last) for value in moved], readable


def halved(
    transform: "Callable[[Image], Tensor]",
) -> "tuple[Callable[[Image], Tensor], Callable[[Tensor], Tensor]]":
    """A transform as a part for each picture and a part for the batch, with the same numbers.

    A transform that ends by turning the picture into numbers and normalising them, as those of timm and open_clip do,
    hands over bytes: a quarter of what moves between processes and to the device, and no layout is changed twice.
    Any other transform is left whole.
    """
    whole, steps = (transform, nn.Identity()), list(getattr(transform, "transforms", ()))
    if len(steps) < 2:
        return whole
    from torchvision import transforms

    if not isinstance(steps[-2], transforms.ToTensor) or type(steps[-1]) is not transforms.Normalize:
        return whole
    first = transforms.Compose([*steps[:-2], _bytes])
    numbers = (steps[-1].mean, steps[-1].std)
    mean, std = (torch.as_tensor(value, dtype=torch.float32).view(-1, 1, 1) for value in numbers)

    def rest(batch: Tensor) -> Tensor:
        values = batch.permute(0, 3, 1, 2).to(torch.float32).div_(255)
        return values.sub_(mean.to(values.device)).div_(std.to(values.device))

    pictured = _noise()
    try:
        same = torch.equal(rest(first(pictured)[None])[0], transform(pictured))
    except (TypeError, ValueError, RuntimeError):  # a step of the user's own that does something else
        return whole
    return (first, rest) if same else whole


def in_batches(indices: list[int], size: int) -> list[list[int]]:
    """The indices cut into batches, the last one smaller where they do not divide."""
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def placed(module: nn.Module, device: torch.device) -> nn.Module:
    """The network on its device, channels-last: faster there and on the CPU, and the same numbers."""
    return module.to(device).to(memory_format=torch.channels_last)


def example(transform: "Callable[[Image], Tensor]") -> Tensor:
    """What a transform makes of a grey picture: the shape a network expects."""
    from PIL import Image

    return transform(Image.new("RGB", (64, 64), (127, 127, 127)))


@contextmanager
def bar(settings: Settings, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, of the main process only."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = settings.progress and distributed.is_main()
    with Progress(*columns, console=Console(stderr=True), disable=not shown, transient=True) as progress:
        task = progress.add_task(for_terminal(what), total=total)
        yield lambda count: progress.advance(task, count)


def _bytes(picture: "Image") -> Tensor:
    return torch.from_numpy(np.array(picture))


def _noise() -> "Image":
    from PIL import Image

    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (288, 300, 3), dtype=np.uint8))


class _Decoded(torch.utils.data.Dataset[tuple[list[Tensor], bool]]):
    """Each image decoded once, then through every transform; an unreadable one gives blanks and False."""

    def __init__(self, probe: Probe, transforms: Sequence["Callable[[Image], Tensor]"]) -> None:
        self.probe, self.transforms = probe, transforms

    def __getitem__(self, index: int) -> tuple[list[Tensor], bool]:
        try:
            picture = self.probe[index]
        except (OSError, SyntaxError, ValueError):  # what Pillow raises for files that are no images or cut short
            return [torch.zeros_like(example(transform)) for transform in self.transforms], False
        return [transform(picture) for transform in self.transforms], True


def _collate(items: list[tuple[list[Tensor], bool]]) -> tuple[list[Tensor], list[bool]]:
    return [torch.stack(column) for column in zip(*(inputs for inputs, _ in items), strict=True)], [
        readable for _, readable in items
    ]
