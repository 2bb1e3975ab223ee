"""The features of a probe set, from the cache where they are there: what is kept of each layer is decided here."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from cd_exp.activation_stats import BINS
from cd_exp.cache import Entry, Store
from cd_exp.clips import Clip
from cd_exp.errors import InputError, unknown
from cd_exp.features.accumulating import Reduced
from cd_exp.features.collecting import Collector, Dense, Lists, of_arrays
from cd_exp.features.layers import columns
from cd_exp.features.loading import Settings
from cd_exp.features.record import Dense as DenseLayers
from cd_exp.features.record import Features
from cd_exp.features.shards import IMAGES, make
from cd_exp.hooks import Layer
from cd_exp.models import TargetModel
from cd_exp.records import Probe, Strongest
from cd_exp.units import Units, as_units

KEEP = ("auto", "lists", "dense")


def extract(
    model: TargetModel,
    probe: Probe,
    clip: Clip,
    *,
    layers: Sequence[str] | Units,
    store: Store,
    settings: Settings,
    strongest: int | None = None,
) -> Features:
    """The features of a model's layers and CLIP's image embeddings of a probe set, made where they are not stored.

    Args:
        model: the target network's recipe.
        probe: the images.
        clip: the CLIP backbone's recipe.
        layers: module paths or patterns, as `cd_exp.hooks.resolve` reads them; or what else the columns are.
        store: where features are kept.
        settings: device, precision, batches, and what is kept of activations.
        strongest: how many of each unit's strongest images all who use the features need; None where all activations
            are needed. What is not needed may not be kept, as `settings.keep` says.

    Raises:
        InputError: unreadable images, an unknown layer, activations that are not finite, or more of them than are kept.
    """
    if len(probe) < 2:
        raise InputError(f"probe {probe.name!r} has {len(probe)} image; at least two are needed to tell units apart")
    units = as_units(layers)
    found = columns(model, probe, units, store)
    collectors = layer_collectors(model, probe, found, store=store, settings=settings, strongest=strongest)
    stored = clip.stored_images(probe.ids)
    if stored is None:
        collectors[IMAGES] = image_collector(clip, probe, store=store, settings=settings)
    made = distinct(collectors)
    make(model, probe, clip, [layer for layer in found if layer.name in made], made, store, settings)
    given, notes = units.given(probe.ids)
    for note in notes:
        store.report(note)
    return _opened(probe, collectors, stored, given, store, settings)


def layer_collectors(
    model: TargetModel,
    probe: Probe,
    layers: Sequence[Layer],
    *,
    store: Store,
    settings: Settings,
    strongest: int | None,
) -> dict[str, Collector]:
    """What takes the activations of each layer: every one is kept, or each unit's strongest images."""
    _, dtype = settings.resolved()
    dense = _kept_dense(layers, probe, settings)
    found: dict[str, Collector] = {}
    for layer in layers:
        content = _content(model, layer, probe, dtype)
        activations, lists = Entry("activations", content), Entry("lists", {**content, "bins": BINS})
        if dense or (settings.keep == "auto" and store.holds(activations, verify=False)):
            found[layer.name] = Dense(store, activations, images=len(probe))
        else:
            found[layer.name] = Lists(store, lists, images=len(probe), kept=_needed(strongest, layers, probe))
    return found


def image_collector(clip: Clip, probe: Probe, *, store: Store, settings: Settings) -> Collector:
    """What takes CLIP's embeddings of the images."""
    content = {"clip": clip.key, "probe": probe.fingerprint, "precision": str(settings.resolved()[1])}
    return Dense(store, Entry("images", content), images=len(probe))


def distinct(collectors: dict[str, Collector]) -> dict[str, Collector]:
    """One collector for each entry: two names may mean one reading, as layer4 and layer4:avg."""
    first = {collector.entry.key: name for name, collector in reversed(collectors.items())}
    return {name: collectors[name] for name in first.values()}


def _kept_dense(layers: Sequence[Layer], probe: Probe, settings: Settings) -> bool:
    if settings.keep not in KEEP:
        raise unknown("features.keep", settings.keep, KEEP)
    return settings.keep == "dense" or (settings.keep == "auto" and _gigabytes(layers, probe) <= settings.dense_limit)


def _needed(strongest: int | None, layers: Sequence[Layer], probe: Probe) -> int:
    if strongest is not None:
        return strongest
    raise InputError(
        f"this run reads all activations of {len(probe)} images x {sum(layer.units for layer in layers)} units, which "
        f"are {_gigabytes(layers, probe):.3g} GB and would not be kept; set features.keep=dense, or do without what "
        "reads them: a judge, baseline=invert, baseline=linear_explanations, or a similarity that does not read each "
        "unit's strongest images alone, as similarity=soft_wpmi does"
    )


def _gigabytes(layers: Sequence[Layer], probe: Probe) -> float:
    return 4 * len(probe) * sum(layer.units for layer in layers) / 1e9


def _content(model: TargetModel, layer: Layer, probe: Probe, dtype: torch.dtype) -> dict[str, object]:
    return {"model": model.key, **layer.key, "probe": probe.fingerprint, "precision": str(dtype)}


def _opened(
    probe: Probe,
    collectors: Mapping[str, Collector],
    stored: np.ndarray | None,
    given: Mapping[str, Tensor],
    store: Store,
    settings: Settings,
) -> Features:
    """What is stored now, without the unreadable images; or a refusal that names them."""
    manifests = {name: store.manifest(collector.entry) for name, collector in collectors.items()}
    bad = sorted({index for manifest in manifests.values() for index in manifest.unreadable})
    skipped = [probe.ids[index] for index in bad]
    if skipped and settings.on_error != "skip":
        shown = ", ".join(skipped[:5]) + (", ..." if len(skipped) > 5 else "")
        raise InputError(
            f"{len(skipped)} of {len(probe)} images of probe {probe.name!r} cannot be read: {shown}; "
            "mend or remove them, or set probe.on_error=skip"
        )
    if len(probe) - len(bad) < 2:
        raise InputError(f"{len(probe) - len(bad)} of {len(probe)} images of probe {probe.name!r} can be read")
    kept = sorted(set(range(len(probe))) - set(bad)) if bad else range(len(probe))
    tensors = {name: values[list(kept)] if bad else values for name, values in given.items()}
    reduced = {}
    for name, collector in collectors.items():
        if isinstance(collector, Lists):
            arrays = store.find_arrays(collector.entry, verify=False)
            assert arrays is not None
            reduced[name] = _renumbered(of_arrays(arrays), kept, len(probe))
        else:
            values = store.find(collector.entry, verify=False)
            assert values is not None
            tensors[name] = torch.from_numpy(_rows(values, manifests[name].unreadable, kept, len(probe)))
    images = torch.from_numpy(stored[kept] if bad else stored) if stored is not None else tensors.pop(IMAGES)
    return Features(DenseLayers(tensors, reduced), images, kept, skipped, reduced)


def _rows(values: np.ndarray, left_out: Sequence[int], kept: Sequence[int], images: int) -> np.ndarray:
    """The rows of the images `kept`: the array itself where it has just these."""
    if len(values) == len(kept):
        return values
    own = np.delete(np.arange(images), left_out) if len(values) < images else np.arange(images)
    return values[np.isin(own, kept)]


def _renumbered(reduced: Reduced, kept: Sequence[int], images: int) -> Reduced:
    """The same with indices into the images `kept` in place of the probe."""
    if len(kept) == images:
        return reduced
    place = torch.full((images,), -1)
    place[torch.tensor(kept)] = torch.arange(len(kept))
    listed = reduced.strongest
    return Reduced(Strongest(listed.values, place[listed.indices], listed.images), reduced.statistics)
