"""The features of a probe set: read from the cache, or made shard by shard.

A kill loses at most the shard in flight, and processes share the rest. It is decided here what is kept of each layer:
all activations, or each unit's strongest images and statistics.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cd_exp import distributed
from cd_exp.activation_stats import BINS
from cd_exp.cache import Entry, Store
from cd_exp.cache.partial import PartialResults
from cd_exp.clips import Clip
from cd_exp.distributed import gather_from_all
from cd_exp.errors import InputError, unknown_name_error
from cd_exp.features.computed_with import computed_with, keep_numerics
from cd_exp.features.dataloader import (
    ExtractionSettings,
    cut_into_batches,
    halve_batches_until_fit,
    iterate_outputs,
    to_device,
)
from cd_exp.features.features import DenseActivations as DenseLayers
from cd_exp.features.features import Features, hash_text, reduce_matrix
from cd_exp.features.layers import describe_layer_content, image_columns, sampled_images
from cd_exp.features.store_activations import (
    SHARD,
    ActivationWriter,
    DenseWriter,
    LayerSummary,
    TopKWriter,
    choose_shard,
    summary_from_arrays,
)
from cd_exp.features.strongest_maps import MapKeeper, choose_map_layers, make_map_keeper, map_entries, publish_maps
from cd_exp.hooks import Layer, pool_layers
from cd_exp.models import Network, TargetModel
from cd_exp.probes.folder import way_in
from cd_exp.records import Probe, TopActivations
from cd_exp.units import ActivationMatrix, Units, as_units

IMAGES = "clip images"  # the name of CLIP's embeddings beside the layers
KEEP = ("auto", "lists", "dense")


def make_features(
    model: TargetModel,
    probe: Probe,
    clip: Clip,
    layers: Sequence[Layer],
    collectors: Mapping[str, ActivationWriter],
    store: Store,
    settings: ExtractionSettings,
    maps: Mapping[str, PartialResults],
) -> None:
    """Compute what is missing in one pass over the images; what another process made meanwhile is left as it is.

    Of the layers in `maps`, small maps of each unit's strongest images are kept besides.
    Where nothing is missing, nothing is written: a cache that may only be read will do. One process reads the bytes
    and compares checksums, for all.
    """
    main = distributed.is_main()
    with ExitStack() as stack:
        todo = _find_absent_shards(collectors, verify=True) if main else {}
        if todo and settings.only_stored:
            raise InputError(
                f"the cache {store.root} holds no features of {', '.join(todo)} for probe {probe.name!r}; make them "
                "with the command of the run (command in its manifest.json), or name their cache with CD_EXP_CACHE"
            )
        if todo:
            stack.enter_context(store.lock([collector.entry for collector in todo.values()]))
            todo = _find_absent_shards(todo, verify=True)
            _choose_shards(todo, len(probe))
            _remove_leftovers(todo, store)
            _check_disk_space(probe, layers, clip.dim, todo, store)
        for name, shard in gather_from_all({name: collector.shard for name, collector in todo.items()}).items():
            collectors[name].shard = shard
        todo = todo if main else _find_absent_shards(collectors, verify=False)  # as the first process has left it
        if todo:
            mine = _list_missing_shards(probe, todo)
            distributed.wait_for_all()  # a shard saved before all have looked would change how the rest is shared out
            if mine:
                absent = [layer for layer in layers if layer.name in todo]
                _fill_shards(model, clip, absent, probe, todo, mine, settings, maps)
        distributed.wait_for_all()
        for name, collector in todo.items() if main else ():
            if name in maps:  # first: once the features are there, nothing looks for what is missing
                publish_maps(store, maps[name], images=len(probe), shard=collector.shard)
            collector.publish(f"{clip.name if name == IMAGES else model.name} {name}, {probe.name}")
        distributed.wait_for_all()


def _find_absent_shards(collectors: Mapping[str, ActivationWriter], *, verify: bool) -> dict[str, ActivationWriter]:
    return {name: collector for name, collector in collectors.items() if not collector.is_stored(verify=verify)}


def _choose_shards(todo: Mapping[str, ActivationWriter], images: int) -> None:
    """One size of shards for all that is missing: as it was begun, else so that the processes get equal shares."""
    begun = {size for collector in todo.values() if (size := collector.find_shard_size()) is not None}
    processes = distributed.get_rank_and_size()[1]
    most = min((collector.shard for collector in todo.values()), default=SHARD)  # none, where another process made all
    shard = begun.pop() if len(begun) == 1 else choose_shard(images, processes, most=most)
    for collector in todo.values():
        collector.shard = shard


def _remove_leftovers(todo: Mapping[str, ActivationWriter], store: Store) -> None:
    """Remove damaged entries, and what a kill left of those in the making; keep what can be continued."""
    for collector in todo.values():
        store.drop_damaged(collector.entry)
        for note in collector.mend():
            store.report(note)


def _check_disk_space(
    probe: Probe, layers: Sequence[Layer], dim: int, todo: Mapping[str, ActivationWriter], store: Store
) -> None:
    """Refuse, before the first image, features that would not fit on the disk.

    Raises:
        InputError: with the size and the settings that change it.
    """
    widths = {**{layer.name: layer.units for layer in layers}, IMAGES: dim}
    needed = sum(collector.bytes_to_come(widths[name]) for name, collector in todo.items())
    free = shutil.disk_usage(store.root).free
    if needed > free:
        raise InputError(
            f"the features of {len(probe)} images need {needed / 1e9:.1f} GB below {store.root}, which has "
            f"{free / 1e9:.1f} GB free; set cache.dir to a larger disk, features.keep=lists, or fewer model.layers"
        )


def _fill_shards(
    model: TargetModel,
    clip: Clip,
    layers: Sequence[Layer],
    probe: Probe,
    todo: Mapping[str, ActivationWriter],
    mine: Sequence[int],
    settings: ExtractionSettings,
    maps: Mapping[str, PartialResults],
) -> None:
    """Compute the shards that start at the images `mine`."""
    device, dtype = settings.resolve_device()
    shard = next(collector.shard for collector in todo.values())
    target, keeper = _load_target(model, layers, probe, maps, device)
    tower = clip.image_tower() if IMAGES in todo else None
    transforms = [network.transform for network in (target, tower) if network is not None]
    encode = to_device(tower.module, device) if tower else None
    done: set[int] = set()
    check = partial(_check_finite, model=model.name, dtype=dtype)

    def run(inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        outputs = forward(inputs[0]) if forward else {}
        return outputs | ({IMAGES: encode(inputs[-1]).float()} if encode else {})

    def fill(batch_size: int) -> None:
        gathered = {name: _Gathered(collector, disk, partial(check, name=name)) for name, collector in todo.items()}
        batches = cut_into_batches(probe, [start for start in mine if start not in done], shard, batch_size)
        passing: dict[str, Any] = {"title": f"features of {probe.name}", "begin": keeper.begin}
        for indices, outputs, readable in iterate_outputs(probe, batches, transforms, run, settings, **passing):
            for name, value in outputs.items():
                gathered[name].take(value, indices, readable)
            if (indices[-1] + 1) % shard == 0 or indices[-1] + 1 == len(probe):
                _hand_over_all(gathered, keeper, indices[-1] // shard, shard)
                done.add(indices[-1] // shard * shard)
        for rows in gathered.values():
            rows.wait()

    with ExitStack() as stack:
        enter = stack.enter_context
        forward = enter(pool_layers(target.module, layers, name=model.name, watch=keeper.watch)) if target else None
        disk = enter(ThreadPoolExecutor(1))  # writes and hashes a shard while the next one is computed
        for collector in todo.values():
            stack.callback(collector.close)
        halve_batches_until_fit(fill, settings, device)


def _load_target(
    model: TargetModel, layers: Sequence[Layer], probe: Probe, maps: Mapping[str, PartialResults], device: torch.device
) -> tuple[Network | None, MapKeeper]:
    """The target network on its device, where layers are missing, and what keeps the maps of those in `maps`."""
    target = model.build() if layers else None
    keeper = make_map_keeper(target, layers, maps, probe)
    if target is not None:
        to_device(target.module, device)
    return target, keeper


class _Gathered:
    """The rows of one layer until a shard is full, on the device that they are made on.

    Nothing waits for the device before a shard is full: then its numbers are checked, and go to the disk through one
    pinned copy (on the CPU there are two buffers in turn), in a thread of their own.
    """

    def __init__(self, collector: ActivationWriter, disk: ThreadPoolExecutor, check: Callable[..., None]) -> None:
        self.collector, self.disk, self.check = collector, disk, check
        self.skip = collector.finished_shards()
        self.buffer: Tensor | None = None
        self.spare: Tensor | None = None
        self.writing: Future[None] | None = None
        self.images: list[int] = []
        self.bad: list[int] = []

    def take(self, value: Tensor, indices: Sequence[int], readable: Sequence[bool]) -> None:
        """Add the rows of a batch."""
        if self.buffer is None:
            self.buffer = value.new_empty((self.collector.shard, *value.shape[1:]))
        self.buffer[len(self.images) : len(self.images) + len(value)] = value
        self.images += indices
        self.bad += [index for index, good in zip(indices, readable, strict=True) if not good]

    def hand_over(self, number: int) -> None:
        """Give the shard to the collector, unless it has it from an earlier run."""
        assert self.buffer is not None
        rows, images, bad = self.buffer[: len(self.images)], np.array(self.images), self.bad
        self.images, self.bad = [], []
        self.check(rows, torch.from_numpy(~np.isin(images, bad)))
        if number in self.skip:
            return
        if self.collector.on_device:
            self.collector.add(number, rows, images, bad)
            return
        self.wait()
        self.buffer, self.spare = self._swap_buffers()
        self.writing = self.disk.submit(self.collector.add, number, self.spare[: len(images)], images, bad)

    def wait(self) -> None:
        """Return when the last shard is on the disk; raises what went wrong with it."""
        if self.writing is not None:
            self.writing.result()

    def _swap_buffers(self) -> tuple[Tensor, Tensor]:
        """The buffer to fill next, and one on the CPU with the rows of now."""
        assert self.buffer is not None
        spare = self.spare
        if self.buffer.device.type == "cpu":
            return torch.empty_like(self.buffer) if spare is None else spare, self.buffer
        if spare is None:
            pin = self.buffer.device.type == "cuda"
            spare = torch.empty(self.buffer.shape, dtype=self.buffer.dtype, pin_memory=pin)
        return self.buffer, spare.copy_(self.buffer)


def _hand_over_all(gathered: Mapping[str, _Gathered], keeper: MapKeeper, number: int, shard: int) -> None:
    keeper.save(number, shard)  # first, so that a shard that is stored has its maps stored too
    for rows in gathered.values():
        rows.hand_over(number)


def _list_missing_shards(probe: Probe, todo: Mapping[str, ActivationWriter]) -> list[int]:
    """This process's part of the shards that some layer lacks, by their first image."""
    done = set.intersection(*(collector.finished_shards() for collector in todo.values()))
    shard = next(collector.shard for collector in todo.values())
    return distributed.share_items([start for start in range(0, len(probe), shard) if start // shard not in done])


def _check_finite(rows: Tensor, readable: Tensor, *, name: str, model: str, dtype: torch.dtype) -> None:
    """Refuse activations of readable images that are not finite; one look at the device for a whole shard."""
    finite = torch.isfinite(rows) | ~readable.to(rows.device)[:, None]
    if not bool(finite.all()):
        unit = int((~finite).any(0).nonzero()[0])
        remedy = "check the weights and the transform" if dtype == torch.float32 else "set features.precision=float32"
        raise InputError(f"{name} of {model} gives values that are not finite, first at unit {unit}; {remedy}")


def extract(
    model: TargetModel,
    probe: Probe,
    clip: Clip,
    *,
    layers: Sequence[str] | Units,
    store: Store,
    settings: ExtractionSettings,
    strongest: int | None = None,
    shard: int = SHARD,
) -> Features:
    """The features of a model's layers and CLIP's image embeddings of a probe set, made where they are not stored.

    Args:
        model: the target network's recipe.
        probe: the images.
        clip: the CLIP backbone's recipe.
        layers: module paths or patterns, as `cd_exp.hooks.resolve_patterns` reads them; or what else the columns are.
        store: where features are kept.
        settings: device, precision, batches, and what is kept of activations.
        strongest: how many of each unit's strongest images all who use the features need; None where all activations
            are needed. What is not needed may not be kept, as `settings.keep` says.
        shard: images that are computed and stored together, where the processes are few.

    Raises:
        InputError: unreadable images, an unknown layer, activations that are not finite, or more of them than are kept.
    """
    if len(probe) < 2:
        raise InputError(f"probe {probe.name!r} has {len(probe)} image; at least two are needed to tell units apart")
    units = as_units(layers)
    selected = image_columns(model, probe, units, store)
    how: dict[str, Any] = {"store": store, "settings": settings, "shard": shard}
    collectors = make_layer_writers(model, probe, selected, strongest=strongest, **how)
    stored = clip.stored_images(probe.ids)
    if stored is None:
        collectors[IMAGES] = make_image_writer(clip, probe, **how)
    keep_numerics(store)
    made, maps = drop_duplicate_layers(collectors), map_entries(selected, collectors)
    to_make = [layer for layer in selected if layer.name in made]
    with_maps = choose_map_layers(to_make, len(probe)) if settings.maps else ()
    pieces = {name: store.pieces(maps[name]) for name in with_maps}
    make_features(model, probe, clip, to_make, made, store, settings, pieces)
    matrix = units if isinstance(units, ActivationMatrix) and strongest is not None else None
    if matrix is not None and not _prefer_lists(settings, sum(matrix.widths.values()), probe):
        matrix = None
    values, notes = ({}, matrix.check(probe.ids)[1]) if matrix is not None else units.file_activations(probe.ids)
    for note in notes:
        store.report(note)
    features = replace(_open_features(probe, collectors, stored, values, store, settings), maps=maps)
    if matrix is not None:
        return reduce_matrix(matrix, features, [probe.ids[index] for index in features.kept], strongest or 0)
    return features


def make_layer_writers(
    model: TargetModel,
    probe: Probe,
    layers: Sequence[Layer],
    *,
    store: Store,
    settings: ExtractionSettings,
    strongest: int | None,
    shard: int = SHARD,
) -> dict[str, ActivationWriter]:
    """What takes the activations of each layer: every one is kept, or each unit's strongest images."""
    if settings.keep not in KEEP:
        raise unknown_name_error("features.keep", settings.keep, KEEP)
    dense = not _prefer_lists(settings, sum(layer.units for layer in layers), probe)
    writers: dict[str, ActivationWriter] = {}
    for layer in layers:
        content = {**describe_layer_content(model, layer, probe, settings), **computed_with(store)}
        activations, lists = Entry("activations", content), Entry("lists", {**content, "bins": BINS})
        if dense or (settings.keep == "auto" and store.holds(activations, verify=False)):
            writers[layer.name] = DenseWriter(store, activations, images=len(probe), shard=shard)
        else:
            kept = _require_strongest(strongest, layers, probe)
            writers[layer.name] = TopKWriter(store, lists, images=len(probe), kept=kept, shard=shard)
    return writers


def make_image_writer(
    clip: Clip, probe: Probe, *, store: Store, settings: ExtractionSettings, shard: int = SHARD
) -> ActivationWriter:
    """What takes CLIP's embeddings of the images."""
    content = {"clip": clip.key, "probe": probe.fingerprint, **settings.describe_numbers()}
    content |= {**computed_with(store), **sampled_images(clip, probe, store)}
    return DenseWriter(store, Entry("images", content), images=len(probe), shard=shard)


def drop_duplicate_layers(collectors: dict[str, ActivationWriter]) -> dict[str, ActivationWriter]:
    """One collector for each entry: two names may mean one reading, as layer4 and layer4:avg."""
    first = {collector.entry.key: name for name, collector in reversed(collectors.items())}
    return {name: collectors[name] for name in first.values()}


def _prefer_lists(settings: ExtractionSettings, units: int, probe: Probe) -> bool:
    """Whether each unit's strongest images are kept instead of all activations."""
    return settings.keep == "lists" or (settings.keep == "auto" and _gigabytes(units, probe) > settings.dense_limit)


def _require_strongest(strongest: int | None, layers: Sequence[Layer], probe: Probe) -> int:
    if strongest is not None:
        return strongest
    units = sum(layer.units for layer in layers)
    raise InputError(
        f"this run reads all activations of {len(probe)} images x {units} units, which are "
        f"{_gigabytes(units, probe):.3g} GB and would not be kept; set features.keep=dense, or do without what reads "
        "them: a judge, baseline=invert, baseline=linear_explanations, or a similarity that does not read each unit's "
        "strongest images alone, as similarity=soft_wpmi does"
    )


def _gigabytes(units: int, probe: Probe) -> float:
    return 4 * len(probe) * units / 1e9


def _open_features(
    probe: Probe,
    collectors: Mapping[str, ActivationWriter],
    stored: np.ndarray | None,
    matrix_values: Mapping[str, Tensor],
    store: Store,
    settings: ExtractionSettings,
) -> Features:
    """What is stored now, without the unreadable images; or a refusal that names them."""
    manifests = {name: store.manifest(collector.entry) for name, collector in collectors.items()}
    bad = sorted({index for manifest in manifests.values() for index in manifest.unreadable})
    skipped = [probe.ids[index] for index in bad]
    if skipped and settings.on_error != "skip":
        shown = ", ".join(skipped[:5]) + (", ..." if len(skipped) > 5 else "")
        raise InputError(
            f"{len(skipped)} of {len(probe)} images of probe {probe.name!r} cannot be read: {shown}; "
            f"mend or remove them, or set probe.on_error=skip{way_in(skipped)}"
        )
    if len(probe) - len(bad) < 2:
        raise InputError(f"{len(probe) - len(bad)} of {len(probe)} images of probe {probe.name!r} can be read")
    kept = sorted(set(range(len(probe))) - set(bad)) if bad else range(len(probe))
    tensors = {name: values[list(kept)] if bad else values for name, values in matrix_values.items()}
    reduced = {}
    for name, collector in collectors.items():
        if isinstance(collector, TopKWriter):
            arrays = store.find_arrays(collector.entry, verify=False)
            assert arrays is not None
            reduced[name] = _renumber_lists(summary_from_arrays(arrays), kept, len(probe))
        else:
            values = store.find(collector.entry, verify=False)
            assert values is not None
            tensors[name] = torch.from_numpy(_select_rows(values, manifests[name].unreadable, kept, len(probe)))
    images = torch.from_numpy(stored[kept] if bad else stored) if stored is not None else tensors.pop(IMAGES)
    digests = {name: hash_text("".join(manifest.sha256)) for name, manifest in manifests.items()}
    return Features(DenseLayers(tensors, reduced), images, kept, skipped, reduced, digests)


def _select_rows(values: np.ndarray, left_out: Sequence[int], kept: Sequence[int], images: int) -> np.ndarray:
    """The rows of the images `kept`: the array itself where it has just these."""
    if len(values) == len(kept):
        return values
    stored = np.delete(np.arange(images), left_out) if len(values) < images else np.arange(images)
    return values[np.isin(stored, kept)]


def _renumber_lists(reduced: LayerSummary, kept: Sequence[int], images: int) -> LayerSummary:
    """The same with indices into the images `kept` instead of the probe."""
    if len(kept) == images:
        return reduced
    new_index = torch.full((images,), -1)
    new_index[torch.tensor(kept)] = torch.arange(len(kept))
    listed = reduced.strongest
    return LayerSummary(TopActivations(listed.values, new_index[listed.indices], listed.images), reduced.statistics)
