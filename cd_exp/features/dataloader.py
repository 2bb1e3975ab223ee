"""How images reach the networks: decoded once by worker processes, through every transform, in fixed batches.

`iterate_outputs` is the one loop over images; what calls it decides what becomes of the outputs.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from cd_exp import distributed
from cd_exp.distributed import prepare_worker
from cd_exp.errors import InputError
from cd_exp.hooks.hooks import lay_channels_last
from cd_exp.io.text import escape_for_terminal, shorten_list
from cd_exp.plugins import door, is_of_library
from cd_exp.records import Probe, has_images

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class ExtractionSettings:
    """How features are computed. `precision` and `decode` change numbers, and only these are part of the key.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `float32`, `bfloat16` or `float16` (autocast); `auto` is bfloat16 on CUDA, float32 on the CPU.
        decode: `exact` resizes and crops as the transforms say; `fast` the same on the bytes by torchvision, whose
            values differ by a grey level here and there.
        batch_size: None starts at 256 on CUDA and halves while it does not fit; 32 on the CPU.
        workers: processes that decode images; None takes one for each processor that this process may use.
        on_error: `error` refuses unreadable images after naming them, `skip` leaves them out and records them.
        progress: whether to draw a bar.
        keep: `dense` keeps every activation; `lists` each unit's strongest images, as many as are needed, and its
            statistics; `auto` is dense up to `dense_limit`.
        dense_limit: GB (10^9 bytes) that the activations of all layers of a run may take under `auto`.
        only_stored: refuse to compute what is not in the cache, as experiments on a finished run do.
        maps: whether small maps of each unit's strongest images are kept beside the features that are computed.
    """

    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    on_error: str = "error"
    progress: bool = True
    keep: str = "auto"
    dense_limit: float = 2.0
    only_stored: bool = False
    decode: str = "exact"
    maps: bool = False

    def resolve_device(self) -> tuple[torch.device, torch.dtype]:
        """The device and the type that numbers are computed in."""
        device = torch.device(distributed.local_device(self.device))
        if device.type == "cuda" and not torch.cuda.is_available():
            raise InputError(f"device={self.device}: no CUDA device is available; set device=cpu")
        if device.type == "mps" and not torch.backends.mps.is_available():
            raise InputError(f"device={self.device}: this machine has no MPS device; set device=cpu")
        names = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
        names["auto"] = torch.bfloat16 if device.type == "cuda" else torch.float32
        if self.precision not in names:
            raise InputError(f"precision={self.precision!r} is none of {', '.join(names)}")
        return device, names[self.precision]

    def describe_numbers(self) -> dict[str, str]:
        """What of these settings changes numbers, as it stands in keys."""
        precision = {"precision": str(self.resolve_device()[1])}
        return precision if self.decode == "exact" else {**precision, "decode": self.decode}


BATCH = 32  # images, on the CPU
SHARED_MEMORY = ("Bus error", "shared memory", "unable to write to file </torch_", "shm_open")
UNREADABLE = (OSError, SyntaxError, ValueError)  # what Pillow raises for files that are no images or cut short


def iterate_outputs(
    probe: Probe,
    batches: Sequence[list[int]],
    transforms: Sequence["Callable[[Image], Tensor]"],
    forward: Callable[[list[Tensor]], Mapping[str, Tensor]],
    settings: ExtractionSettings,
    *,
    title: str,
    begin: Callable[[list[int], list[bool]], None] | None = None,
) -> Iterator[tuple[list[int], Mapping[str, Tensor], list[bool]]]:
    """One pass over images: (indices, the outputs of the networks, which images were readable) for each batch.

    Args:
        probe: the images.
        batches: indices of the images that go through the networks together.
        transforms: one for each input of `forward`; an image is decoded once for all of them.
        forward: from the inputs, on the device of the settings, to the outputs by name.
        settings: device, precision, workers, progress.
        title: of the progress bar.
        begin: called with the indices of each batch, and which of its images were readable, before `forward` gets it.
    """
    device, dtype = settings.resolve_device()
    with progress_bar(settings, title, sum(map(len, batches))) as step:
        for indices, inputs, readable in make_loader(probe, transforms, batches, settings, device):
            if begin is not None:
                begin(indices, readable)
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32), torch.inference_mode():
                outputs = forward(inputs)
            yield indices, outputs, readable
            del outputs  # the maps of 32 images at 64 x 112 x 112 are 103 MB: not held while the next are computed
            step(len(indices))


def collect_outputs(
    probe: Probe,
    transform: "Callable[[Image], Tensor]",
    forward: Callable[[Tensor], Mapping[str, Tensor]],
    settings: ExtractionSettings,
    *,
    title: str,
) -> dict[str, np.ndarray]:
    """The outputs of a network for all images of a probe set, float32 in memory, one row per image.

    Raises:
        InputError: images that cannot be read; all are named.
    """
    rows: dict[str, list[Tensor]] = {}
    bad: list[str] = []
    batches = iterate_batches(list(range(len(probe))), settings.batch_size or BATCH)
    passing = iterate_outputs(probe, batches, [transform], lambda inputs: forward(inputs[0]), settings, title=title)
    for indices, outputs, readable in passing:
        bad += [probe.ids[index] for index, good in zip(indices, readable, strict=True) if not good]
        for name, value in outputs.items():
            rows.setdefault(name, []).append(value.float().cpu())
    if bad:
        raise InputError(f"{len(bad)} of {len(probe)} images cannot be read: {shorten_list(bad)}; mend or remove them")
    return {name: torch.cat(parts).numpy() for name, parts in rows.items()}


def make_loader(
    probe: Probe,
    transforms: Sequence["Callable[[Image], Tensor]"],
    batches: Sequence[list[int]],
    settings: ExtractionSettings,
    device: torch.device,
) -> Iterator[tuple[list[int], list[Tensor], list[bool]]]:
    """(indices, inputs for each transform on the device, which were readable) for each batch, in order."""
    if not has_images(probe):
        probe[0]  # says what is missing, once and here, instead of in every worker
    workers = count_workers() if settings.workers is None else settings.workers
    steps = [split_transform(transform, decode=settings.decode) for transform in transforms]
    loader = torch.utils.data.DataLoader(
        _Decoded(probe, [for_image for for_image, _ in steps]),
        batch_sampler=batches,
        num_workers=workers,
        # joblib's loky workers cannot spawn worker processes; fork can
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        collate_fn=_collate_images,
        pin_memory=device.type == "cuda",
        prefetch_factor=4 if workers else None,
        worker_init_fn=prepare_worker,
    )
    for indices, loaded in zip(batches, _explain_worker_error(loader), strict=True):
        if isinstance(loaded, InputError):
            raise loaded
        inputs, readable = loaded
        moved = [
            for_batch(value.to(device, non_blocking=True)) for (_, for_batch), value in zip(steps, inputs, strict=True)
        ]
        yield indices, [_as_channels_last(value) for value in moved], readable


def count_workers() -> int:
    """Processes that decode images: one for each processor that this process may use, by its affinity and by Slurm's
    `cpus_per_task`, shared with the other processes of its run on this machine.

    Decoding and resizing a photograph takes about 4 ms, so eight processes, the former limit, give 2,000 a second: a
    GPU takes more.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    slurm = int(os.environ.get("SLURM_CPUS_PER_TASK", allowed))
    return max(1, min(slurm, allowed // distributed.count_local_processes()))


def _explain_worker_error(loader: Iterable[Any]) -> Iterator[Any]:
    """The batches, with an error that says what to do where the system killed a process that decodes them."""
    try:
        yield from loader
    except RuntimeError as error:
        if any(sign in str(error) for sign in SHARED_MEMORY):
            raise InputError(
                "shared memory is full, through which processes hand over images; set features.workers=0, which needs "
                "none, or give /dev/shm more room (docker run --shm-size=8g)"
            ) from error
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(
            "a process that decodes images was killed, most likely for want of memory; set features.workers lower "
            "(0 decodes in the run itself) or features.batch_size lower: the run continues from what is stored"
        ) from error


def split_transform(
    transform: "Callable[[Image], Tensor]", *, decode: str = "exact"
) -> "tuple[Callable[[Image], Tensor], Callable[[Tensor], Tensor]]":
    """A transform as a step for each image on the CPU and a step for the batch on the device, with the same numbers.

    A transform that ends by turning the image into numbers and normalising them, as those of timm and open_clip do,
    hands over bytes: a quarter of what moves between processes and to the device, and no layout is changed twice.
    Any other transform is left whole.

    Args:
        transform: from an image to a tensor.
        decode: `exact`, or `fast` for resizing and cropping by torchvision on bytes, 2 to 3 times as fast as Pillow.

    Raises:
        InputError: `decode="fast"` of a transform that does more than resize, crop and normalise.
    """
    whole, steps = (transform, nn.Identity()), list(getattr(transform, "transforms", ()))
    if len(steps) < 2:
        return _require_exact(whole, decode)
    from torchvision import transforms

    if not isinstance(steps[-2], transforms.ToTensor) or type(steps[-1]) is not transforms.Normalize:
        return _require_exact(whole, decode)
    for_image = transforms.Compose([*steps[:-2], _image_bytes])
    numbers = (steps[-1].mean, steps[-1].std)
    mean, std = (torch.as_tensor(value, dtype=torch.float32).view(-1, 1, 1) for value in numbers)

    def for_batch(batch: Tensor) -> Tensor:
        values = batch.permute(0, 3, 1, 2).to(torch.float32).div_(255)
        return values.sub_(mean.to(values.device)).div_(std.to(values.device))

    shown = _noise_image()
    try:
        same = torch.equal(for_batch(for_image(shown)[None])[0], transform(shown))
    except (TypeError, ValueError, RuntimeError):  # a step of the user's own that does something else
        return _require_exact(whole, decode)
    if decode == "fast":
        return _resize_bytes(steps[:-2]), for_batch
    return (for_image, for_batch) if same else whole


def _require_exact(whole: Any, decode: str) -> Any:
    if decode == "fast":
        raise InputError(
            "features.decode=fast is for transforms that resize, crop, and normalise in the end, and one of this run "
            "does something else; set features.decode=exact"
        )
    return whole


def _resize_bytes(steps: Sequence[Any]) -> "Callable[[Image], Tensor]":
    """The steps of a transform before numbers are made of the image, on its bytes; rows, columns, colours."""
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize, v2

    modes = (InterpolationMode.BILINEAR, InterpolationMode.BICUBIC)  # which torchvision has for bytes
    shown = _noise_image()
    fast: list[Callable[[Tensor], Tensor]] = []
    for step in steps:
        if type(step) is Resize and step.interpolation in modes:
            fast.append(v2.Resize(step.size, step.interpolation, step.max_size, antialias=True))
        elif type(step) is CenterCrop:
            fast.append(v2.CenterCrop(step.size))
        elif step(shown) != shown:  # a conversion to RGB changes nothing of what a probe set gives
            _require_exact(step, "fast")

    def for_image(image: "Image") -> Tensor:
        values = _image_bytes(image).permute(2, 0, 1)
        for step in fast:
            values = step(values)
        return values.permute(1, 2, 0)

    return for_image


def iterate_batches(indices: list[int], size: int) -> list[list[int]]:
    """The indices cut into batches, the last one smaller where they do not divide."""
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def cut_into_batches(probe: Probe, starts: Sequence[int], shard: int, batch_size: int) -> list[list[int]]:
    """The batches of the shards that start at these images; none reaches over the end of its shard."""
    shards = [list(range(start, min(start + shard, len(probe)))) for start in starts]
    return [batch for images in shards for batch in iterate_batches(images, batch_size)]


def halve_batches_until_fit(compute: Callable[[int], None], settings: ExtractionSettings, device: torch.device) -> None:
    """Call with a batch size; one that was not set is halved on CUDA until a batch fits."""
    if settings.batch_size is None and device.type == "cuda":
        from accelerate.utils import find_executable_batch_size

        find_executable_batch_size(compute, starting_batch_size=256)()
    else:
        compute(settings.batch_size or BATCH)


def to_device(module: nn.Module, device: torch.device) -> nn.Module:
    """The network on its device, channels-last: faster there and on the CPU, and the same numbers."""
    return lay_channels_last(module.to(device))


def transform_images(transform: "Callable[[Image], Tensor]", image: "Image", *, name: str) -> Tensor:
    """One image through a transform.

    Args:
        transform: from an image to a tensor.
        image: as the probe set gives it.
        name: what it is called, for errors.

    Raises:
        InputError: the transform fails, or gives no tensor.
    """
    what = f"the transform fails on {name} ({image.width} x {image.height})"
    with door(what, watched=not is_of_library(transform)):
        value = transform(image)
    if not isinstance(value, Tensor):
        raise InputError(f"the transform gives a {type(value).__name__} for {name}, expected a tensor")
    return value


def stack_batch(inputs: Sequence[Tensor]) -> Tensor:
    """Inputs of one size as a batch.

    Raises:
        InputError: they differ in size.
    """
    sizes = sorted({tuple(value.shape) for value in inputs})
    if len(sizes) > 1:
        first, second = (" x ".join(map(str, size)) for size in sizes[:2])
        raise InputError(
            f"the transform gives inputs of several sizes, {first} and {second}; the images of the probe set differ "
            "in size: let the transform resize and crop them to one size"
        )
    return torch.stack(list(inputs))


@contextmanager
def progress_bar(
    settings: ExtractionSettings, what: str, total: int, *, after: float = 0.0
) -> Iterator[Callable[[float], None]]:
    """A progress bar on standard error, of the main process and on a terminal only: a log would get an empty line.

    Args:
        settings: whether there is one.
        what: is done.
        total: how much there is to do.
        after: seconds; work that is done by then has none.
    """
    console = Console(stderr=True)
    if not (settings.progress and distributed.is_main() and console.is_interactive):
        yield lambda count: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True)
    task = progress.add_task(escape_for_terminal(what), total=total)
    late = threading.Timer(after, progress.start)
    late.daemon = True
    (late if after else progress).start()
    try:
        yield lambda count: progress.advance(task, count)
    finally:
        if after:
            late.cancel()
            late.join()
        progress.stop()


def _image_bytes(image: "Image") -> Tensor:
    return torch.from_numpy(np.array(image))


def _noise_image() -> "Image":
    from PIL import Image

    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (288, 300, 3), dtype=np.uint8))


class _Decoded(torch.utils.data.Dataset["tuple[list[Tensor], bool] | InputError"]):
    """Each image decoded once, then through every transform; an unreadable one gives blanks and False.

    What a transform raises comes back as a value: raised in a worker process, its message would be a traceback.
    """

    def __init__(self, probe: Probe, transforms: Sequence["Callable[[Image], Tensor]"]) -> None:
        self.probe, self.transforms = probe, transforms

    def __getitem__(self, index: int) -> "tuple[list[Tensor], bool] | InputError":
        try:
            inputs = self._inputs(index)
            return ([torch.zeros_like(value) for value in self._example], False) if inputs is None else (inputs, True)
        except InputError as error:
            return error

    def _inputs(self, index: int) -> list[Tensor] | None:
        """What each transform makes of one image, None where it cannot be read."""
        try:
            image = self.probe[index]
        except InputError:  # a wrong kind of item of the user's own set, which is no damaged file
            raise
        except UNREADABLE:
            return None
        return [transform_images(transform, image, name=self.probe.ids[index]) for transform in self.transforms]

    @cached_property
    def _example(self) -> list[Tensor]:
        """What the first readable image becomes: the size that the networks expect."""
        for index in range(len(self.probe)):
            inputs = self._inputs(index)
            if inputs is not None:
                return inputs
        raise InputError(f"no image of probe {self.probe.name!r} can be read")


def _as_channels_last(inputs: Tensor) -> Tensor:
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs


def _collate_images(
    items: "list[tuple[list[Tensor], bool] | InputError]",
) -> "tuple[list[Tensor], list[bool]] | InputError":
    good = []
    for item in items:
        if isinstance(item, InputError):
            return item
        good.append(item)
    try:
        inputs = [stack_batch(column) for column in zip(*(inputs for inputs, _ in good), strict=True)]
    except InputError as error:
        return error
    if torch.utils.data.get_worker_info() is not None:
        # The queue would do the same in a thread of its own; there an error of a full /dev/shm is printed, the batch is
        # lost, and the run waits for it without an end.
        inputs = [value.share_memory_() for value in inputs]
    return inputs, [readable for _, readable in good]
