"""Passes over images outside the main extraction: activation maps, images of a judge, another backbone's embeddings.

What `extract` makes is shared among processes, which all have to take part; here only one does.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.cache import Entry, Store
from cd_exp.clips import Clip
from cd_exp.errors import InputError
from cd_exp.features.computed_with import computed_with
from cd_exp.features.dataloader import (
    BATCH,
    ExtractionSettings,
    collect_outputs,
    iterate_batches,
    iterate_outputs,
    to_device,
)
from cd_exp.features.layers import describe_layer_content, image_columns, readable_images, sampled_images
from cd_exp.hooks import are_tokens_in_order, pool_layers, read_layer_maps
from cd_exp.models import TargetModel
from cd_exp.records import Probe
from cd_exp.units import Units, as_units


def read_maps(
    model: TargetModel,
    probe: Probe,
    *,
    layers: Sequence[str] | Units,
    kept: Sequence[int],
    store: Store,
    settings: ExtractionSettings,
) -> Callable[[], Iterator[tuple[Sequence[int], Mapping[str, Float[Tensor, "images neurons height width"]]]]]:
    """Passes over the probe set for Network Dissection: each call starts one, a batch of activation maps at a time."""
    selected = image_columns(model, probe, as_units(layers), store)
    if not selected:
        raise InputError("these units come from files and have no activation maps; Network Dissection needs a network")
    network = model.build()
    selected = are_tokens_in_order(
        network.module, selected, readable_images(probe, network.transform)[:2], name=model.name
    )
    module = to_device(network.module, settings.resolve_device()[0])

    def one_pass() -> Iterator[tuple[Sequence[int], Mapping[str, Tensor]]]:
        batches = iterate_batches(list(kept), settings.batch_size or BATCH)
        with read_layer_maps(module, selected, name=model.name) as read:
            transforms, title = [network.transform], "activation maps"
            passing = iterate_outputs(probe, batches, transforms, lambda inputs: read(inputs[0]), settings, title=title)
            yield from map(itemgetter(0, 1), passing)

    return one_pass


def unit_activations(
    model: TargetModel, probe: Probe, *, like: Probe, units: Units, store: Store, settings: ExtractionSettings
) -> Mapping[str, Float[Tensor, "images neurons"]]:
    """The activations of a run's units on some images, from the cache where they are there.

    Args:
        model: the target network's recipe.
        probe: the images.
        like: the probe that the layers were determined with.
        units: what the columns are.
        store: where the answer is kept.
        settings: device, precision, batches.

    Raises:
        InputError: an image that cannot be read, or units that no network gives.
    """
    if not units.patterns(model):
        raise InputError(
            "images can be shown to a network alone, and these units come from files; use judge=annotations"
        )
    selected = image_columns(model, like, units, store)
    made_with = computed_with(store)
    entries = {
        layer.name: Entry("responses", {**describe_layer_content(model, layer, probe, settings), **made_with})
        for layer in selected
    }

    def make(todo: Mapping[str, Entry]) -> dict[str, np.ndarray]:
        network = model.build()
        module = to_device(network.module, settings.resolve_device()[0])
        wanted = [layer for layer in selected if layer.name in todo]
        with pool_layers(module, wanted, name=model.name) as forward:
            return collect_outputs(probe, network.transform, forward, settings, title=f"features of {probe.name}")

    return _read_kept(entries, make, store, says=f"{model.name} on {probe.name}")


def embed_held_images(
    clip: Clip, probe: Probe, *, store: Store, settings: ExtractionSettings
) -> Float[Tensor, "images dim"]:
    """The embeddings of all images of a probe by some backbone, from the cache where they are there.

    Raises:
        InputError: an image that cannot be read.
    """
    stored = clip.stored_images(probe.ids)
    if stored is not None:
        return torch.from_numpy(stored)

    def make(_: Mapping[str, Entry]) -> dict[str, np.ndarray]:
        tower = clip.image_tower()
        module = to_device(tower.module, settings.resolve_device()[0])

        def forward(inputs: Tensor) -> dict[str, Tensor]:
            return {"images": module(inputs)}

        return collect_outputs(probe, tower.transform, forward, settings, title=f"features of {probe.name}")

    content = {"clip": clip.key, "probe": probe.fingerprint, **settings.describe_numbers(), **computed_with(store)}
    entry = Entry("embeddings", {**content, **sampled_images(clip, probe, store)})
    return _read_kept({"images": entry}, make, store, says=f"{clip.name} on {probe.name}")["images"]


def _read_kept(
    entries: Mapping[str, Entry],
    make: Callable[[Mapping[str, Entry]], Mapping[str, np.ndarray]],
    store: Store,
    *,
    says: str,
) -> dict[str, Tensor]:
    values = {name: store.find(entry) for name, entry in entries.items()}  # a cache that has all of it may be read-only
    missing = {name: entry for name, entry in entries.items() if values[name] is None}
    if missing:
        with store.lock(list(missing.values())):
            values |= {name: store.find(entry) for name, entry in missing.items()}
            todo = {name: entry for name, entry in missing.items() if values[name] is None}
            made = make(todo) if todo else {}
            values |= {name: store.save(entry, made[name], says=f"{says}: {name}") for name, entry in todo.items()}
    return {name: torch.from_numpy(value) for name, value in values.items() if value is not None}
