"""Making features shard by shard: a kill loses at most the shard in flight, and processes share the rest."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor

from cd_exp import distributed
from cd_exp.cache import Store
from cd_exp.clips import Clip
from cd_exp.errors import InputError
from cd_exp.features.collecting import SHARD, Collector
from cd_exp.features.loading import BATCH, Settings, bar, in_batches, load, placed
from cd_exp.hooks import Layer, pooled
from cd_exp.models import TargetModel
from cd_exp.records import Probe

IMAGES = "clip images"  # the name of CLIP's embeddings beside the layers


def make(
    model: TargetModel,
    probe: Probe,
    clip: Clip,
    layers: Sequence[Layer],
    collectors: Mapping[str, Collector],
    store: Store,
    settings: Settings,
) -> None:
    """Compute what is missing in one pass over the images; what another process made meanwhile is left as it is.

    Where nothing is missing, nothing is written: a cache that may only be read will do. One process reads the bytes
    and compares checksums, for all.
    """
    main = distributed.is_main()
    with ExitStack() as stack:
        todo = _absent(collectors, verify=True) if main else {}
        if todo and settings.only_stored:
            raise InputError(
                f"the cache {store.root} holds no features of {', '.join(todo)} for probe {probe.name!r}; make them "
                "with the command of the run (command in its manifest.json), or name their cache with CD_EXP_CACHE"
            )
        if todo:
            stack.enter_context(store.locked([collector.entry for collector in todo.values()]))
            todo = _absent(todo, verify=True)
            _tidy(todo, store)
            _room(probe, layers, clip.dim, todo, store)
        distributed.wait()
        todo = todo if main else _absent(collectors, verify=False)  # as the first process has left it
        if todo:
            mine = _missing(probe, todo)
            distributed.wait()  # a shard saved before all have looked would change how the rest is shared out
            _fill(model, clip, [layer for layer in layers if layer.name in todo], probe, todo, mine, settings)
        distributed.wait()
        for name, collector in todo.items() if main else ():
            collector.publish(f"{clip.name if name == IMAGES else model.name} {name}, {probe.name}")
        distributed.wait()


def _absent(collectors: Mapping[str, Collector], *, verify: bool) -> dict[str, Collector]:
    return {name: collector for name, collector in collectors.items() if not collector.stored(verify=verify)}


def _tidy(todo: Mapping[str, Collector], store: Store) -> None:
    """Remove damaged entries, and what a kill left of those in the making; keep what can be continued."""
    for collector in todo.values():
        store.drop_damaged(collector.entry)
        for said in collector.mend():
            store.report(said)


def _room(probe: Probe, layers: Sequence[Layer], dim: int, todo: Mapping[str, Collector], store: Store) -> None:
    """Refuse, before the first image, features that would not fit on the disk.

    Raises:
        InputError: with the size and the settings that change it.
    """
    widths = {**{layer.name: layer.units for layer in layers}, IMAGES: dim}
    needed = sum(collector.bytes_to_come(widths[name]) for name, collector in todo.items())
    free = shutil.disk_usage(store.root).free
    if needed > free:
        raise InputError(
            f"the features of {len(probe)} images need {needed / 1e9:.1f} GB more below {store.root}, which has "
            f"{free / 1e9:.1f} GB free; set cache.dir to a larger disk, features.keep=lists, or fewer model.layers"
        )


def _fill(
    model: TargetModel,
    clip: Clip,
    layers: Sequence[Layer],
    probe: Probe,
    todo: Mapping[str, Collector],
    mine: Sequence[int],
    settings: Settings,
) -> None:
    """Compute the shards that start at the images `mine`."""
    if not mine:
        return
    device, dtype = settings.resolved()
    target = model.build() if layers else None
    tower = clip.image_tower() if IMAGES in todo else None
    transforms = [network.transform for network in (target, tower) if network is not None]
    encode = placed(tower.module, device) if tower else None
    done: set[int] = set()

    def shards(batch_size: int) -> None:
        gathered = {name: _Gathered(collector) for name, collector in todo.items()}
        batches = [
            batch for start in mine if start not in done for batch in in_batches(_shard(probe, start), batch_size)
        ]
        for indices, inputs, readable in load(probe, transforms, batches, settings, device):
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32), torch.inference_mode():
                given = forward(inputs[0]) if forward else {}
                if encode:
                    given[IMAGES] = encode(inputs[-1]).float()
                for name, value in given.items():
                    _check(value, readable, name, model.name, dtype)
                    gathered[name].take(value, indices, readable)
            step(len(indices))
            if (indices[-1] + 1) % SHARD == 0 or indices[-1] + 1 == len(probe):
                for rows in gathered.values():
                    rows.hand_over(indices[-1] // SHARD)
                done.add(indices[-1] // SHARD * SHARD)

    with ExitStack() as stack:
        forward = None
        if target is not None:
            forward = stack.enter_context(pooled(placed(target.module, device), layers, name=model.name))
        total = sum(len(_shard(probe, start)) for start in mine)
        step = stack.enter_context(bar(settings, f"features of {probe.name}", total))
        for collector in todo.values():
            stack.callback(collector.close)
        _in_batches_that_fit(shards, settings, device)


def _in_batches_that_fit(compute: Callable[[int], None], settings: Settings, device: torch.device) -> None:
    """Call with a batch size; one that was not set is halved on CUDA until a batch fits."""
    if settings.batch_size is None and device.type == "cuda":
        from accelerate.utils import find_executable_batch_size

        find_executable_batch_size(compute, starting_batch_size=256)()
    else:
        compute(settings.batch_size or BATCH)


class _Gathered:
    """The rows of one layer until a shard is full, in one buffer that is used again."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.skip = collector.finished()
        self.buffer: Tensor | None = None
        self.images: list[int] = []
        self.bad: list[int] = []

    def take(self, value: Tensor, indices: Sequence[int], readable: Sequence[bool]) -> None:
        """Add the rows of a batch."""
        if self.buffer is None:
            place = value.device if self.collector.on_device else "cpu"
            self.buffer = torch.empty((SHARD, *value.shape[1:]), dtype=value.dtype, device=place)
        self.buffer[len(self.images) : len(self.images) + len(value)] = value
        self.images += indices
        self.bad += [index for index, good in zip(indices, readable, strict=True) if not good]

    def hand_over(self, number: int) -> None:
        """Give the shard to the collector, unless it has it from an earlier run."""
        assert self.buffer is not None
        if number not in self.skip:
            self.collector.add(number, self.buffer[: len(self.images)], np.array(self.images), self.bad)
        self.images, self.bad = [], []


def _missing(probe: Probe, todo: Mapping[str, Collector]) -> list[int]:
    """This process's part of the shards that some layer lacks, by their first image."""
    done = set.intersection(*(collector.finished() for collector in todo.values()))
    return distributed.share([start for start in range(0, len(probe), SHARD) if start // SHARD not in done])


def _shard(probe: Probe, start: int) -> list[int]:
    return list(range(start, min(start + SHARD, len(probe))))


def _check(value: Tensor, readable: Sequence[bool], name: str, model: str, dtype: torch.dtype) -> None:
    """Refuse activations of readable images that are not finite."""
    finite = torch.isfinite(value) | ~torch.tensor(readable, device=value.device)[:, None]
    if not bool(finite.all()):
        unit = int((~finite).any(0).nonzero()[0])
        remedy = "check the weights and the transform" if dtype == torch.float32 else "try precision=float32"
        raise InputError(f"{name} of {model} gives values that are not finite, first at unit {unit}; {remedy}")
