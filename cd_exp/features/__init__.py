"""The only loops over images: each is decoded once for both networks, and what they give streams to the cache.

Features are cut into shards of fixed images, so a killed run continues where it stopped, several processes share the
work, and neither changes a number.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp import distributed
from cd_exp.activations import Layer, mapped
from cd_exp.cache import Entry, Store
from cd_exp.clips import Clip
from cd_exp.errors import InputError
from cd_exp.features.layers import find_layers
from cd_exp.features.loading import BATCH, Settings, bar, in_batches, load, placed
from cd_exp.features.record import Features
from cd_exp.features.shards import IMAGES, make
from cd_exp.models import TargetModel
from cd_exp.types import Concepts, Probe

__all__ = ["Features", "Settings", "extract", "find_layers", "maps", "text_embeddings", "text_notes"]


def extract(
    model: TargetModel, probe: Probe, clip: Clip, *, layers: Sequence[str], store: Store, settings: Settings
) -> Features:
    """The activations of the layers and the CLIP embeddings of the probe set, from the cache where they are there.

    Args:
        model: the target network's recipe.
        probe: the images.
        clip: the CLIP backbone's recipe.
        layers: module paths or patterns, as `cd_exp.activations.resolve` reads them.
        store: where features are kept.
        settings: device, precision, batches.

    Raises:
        InputError: unreadable images, an unknown layer, activations that are not finite.
    """
    if len(probe) < 2:
        raise InputError(f"probe {probe.name!r} has {len(probe)} image; at least two are needed to tell units apart")
    found = find_layers(model, probe, layers, store)
    _, dtype = settings.resolved()
    entries = {layer.name: _entry(model, layer, probe, dtype) for layer in found}
    stored = clip.stored_images(probe.ids)
    if stored is None:
        content = {"clip": clip.key, "probe": probe.fingerprint, "precision": str(dtype)}
        entries[IMAGES] = Entry("images", content)
    values = make(model, probe, clip, found, entries, store, settings)
    bad = sorted({index for entry in entries.values() for index in store.manifest(entry)["unreadable"]})
    return _readable(probe, values, stored, bad, settings)


def text_embeddings(clip: Clip, concepts: Concepts, *, store: Store, device: str) -> Float[Tensor, "concepts dim"]:
    """The text embeddings of a concept set, from the cache where they are there."""
    entry = _texts(clip, concepts)
    with store.locked([entry]):
        values = store.find(entry)
        if values is None:
            embedded = clip.embed(concepts, device=torch.device(distributed.device(device)))
            said = clip.notes(concepts) if hasattr(clip, "notes") else ()
            says = f"{clip.name}: {len(concepts.names)} concepts"
            values = store.save(entry, embedded.numpy(), says=says, notes=list(said))
    return torch.from_numpy(np.array(values))


def text_notes(clip: Clip, concepts: Concepts, *, store: Store) -> Sequence[str]:
    """What was noted when the texts were embedded, kept with them: prompts longer than CLIP reads."""
    return tuple(store.manifest(_texts(clip, concepts)).get("notes", ()))


def maps(
    model: TargetModel, probe: Probe, *, layers: Sequence[str], kept: Sequence[int], store: Store, settings: Settings
) -> Callable[[], Iterator[tuple[Sequence[int], Mapping[str, Float[Tensor, "images neurons height width"]]]]]:
    """Passes over the probe set for Network Dissection: each call starts one, a batch of activation maps at a time."""
    found = find_layers(model, probe, layers, store)
    device, dtype = settings.resolved()
    network = model.build()
    module = placed(network.module, device)

    def one_pass() -> Iterator[tuple[Sequence[int], Mapping[str, Tensor]]]:
        batches = in_batches(list(kept), settings.batch_size or BATCH)
        with mapped(module, found, name=model.name) as forward, bar(settings, "activation maps", len(kept)) as step:
            for indices, (inputs,), _ in load(probe, [network.transform], batches, settings, device):
                with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                    yield indices, forward(inputs)
                step(len(indices))

    return one_pass


def _texts(clip: Clip, concepts: Concepts) -> Entry:
    content = {"clip": clip.key, "names": list(concepts.names), "templates": list(concepts.templates)}
    return Entry("texts", content)


def _entry(model: TargetModel, layer: Layer, probe: Probe, dtype: torch.dtype) -> Entry:
    content = {
        "model": model.key,
        "layer": layer.source,
        "pooling": asdict(layer.pooling),
        "probe": probe.fingerprint,
        "precision": str(dtype),
    }
    return Entry("activations", content)


def _readable(
    probe: Probe,
    values: Mapping[str, np.ndarray],
    stored: np.ndarray | None,
    bad: Sequence[int],
    settings: Settings,
) -> Features:
    """Leave the unreadable images out, or refuse them by name."""
    skipped = [probe.ids[index] for index in bad]
    if skipped and settings.on_error != "skip":
        shown = ", ".join(skipped[:5]) + (", ..." if len(skipped) > 5 else "")
        raise InputError(
            f"{len(skipped)} of {len(probe)} images of probe {probe.name!r} cannot be read: {shown}; "
            "mend or remove them, or set features.on_error=skip"
        )
    kept = sorted(set(range(len(probe))) - set(bad)) if bad else range(len(probe))
    if stored is not None:
        values = {**values, IMAGES: stored}
    tensors = {name: torch.from_numpy(value[kept] if bad else value) for name, value in values.items()}
    images = tensors.pop(IMAGES)
    return Features(tensors, images, kept, skipped)
