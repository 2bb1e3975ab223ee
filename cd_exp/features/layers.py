"""The layers of a network as a run reads them, determined with the probe's own images and stored.

The outputs of a user's own network for a few images are part of its key: code can depend on what no hash of a text
sees, such as an environment variable or a file it reads.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cd_exp.cache import Entry, Store
from cd_exp.clips import Clip
from cd_exp.errors import InputError
from cd_exp.features.computed_with import computed_with
from cd_exp.features.dataloader import UNREADABLE, ExtractionSettings, stack_batch, transform_images
from cd_exp.hooks import Layer, LayerOutputs, inspect_layers, resolve_patterns
from cd_exp.hooks.inspect_layers import IMAGES
from cd_exp.models import TargetModel, find_truth
from cd_exp.records import Probe
from cd_exp.units import Units

if TYPE_CHECKING:
    from PIL.Image import Image

_SAME = 1e-4  # share of the largest value of a layer


def with_output_check(looked: LayerOutputs, *, model: Mapping[str, Any], images: str, store: Store) -> list[Layer]:
    """The layers with their behaviour: that of an earlier run where it is the same, else a new one.

    Args:
        looked: the layers, with what they gave for the images.
        model: the key of the target network.
        images: the fingerprint of the probe set whose images were shown.
        store: where behaviours are kept.
    """
    layers = []
    for layer in looked.layers:
        content = {"model": model, "layer": layer.source, "pooling": layer.plain()["pooling"], "images": images}
        layers.append(
            replace(
                layer, behaviour=_read_known_outputs(looked.values[layer.name], Entry("behaviours", content), store)
            )
        )
    return layers


def behaviour_of(values: Tensor, *, content: Mapping[str, Any], store: Store) -> str:
    """The name of what some code of the user's own gave: that of an earlier run where it is the same, else a new one.

    Args:
        values: what it gave for a few inputs.
        content: what the inputs and the code are, as far as a key covers them.
        store: where behaviours are kept.
    """
    return _read_known_outputs(values, Entry("behaviours", dict(content)), store)


def _read_known_outputs(values: Tensor, entry: Entry, store: Store) -> str:
    outputs = values.float().cpu()
    name = _name_outputs(
        outputs, store.recall(entry.kind, entry.content, _parse_outputs) or {}
    )  # without a lock: nothing is written
    if name:
        return name
    with store.lock([entry]):
        earlier_outputs = store.recall(entry.kind, entry.content, _parse_outputs) or {}
        name = _name_outputs(outputs, earlier_outputs)
        if not name:
            name = hashlib.sha256(outputs.contiguous().numpy().tobytes()).hexdigest()[:16]
            kept = {other: earlier.tolist() for other, earlier in earlier_outputs.items()}
            store.note(entry.kind, entry.content, {**kept, name: outputs.tolist()})
    return name


def _name_outputs(outputs: Tensor, earlier_outputs: Mapping[str, Tensor]) -> str:
    return next((name for name, earlier in earlier_outputs.items() if _agree(outputs, earlier)), "")


def _parse_outputs(value: Any) -> dict[str, Tensor]:
    return {str(name): torch.tensor(rows, dtype=torch.float32) for name, rows in dict(value).items()}


def _agree(outputs: Tensor, earlier: Tensor) -> bool:
    if outputs.shape != earlier.shape:
        return False
    scale = float(earlier.abs().nan_to_num(0.0, 0.0, 0.0).max())
    return bool(torch.isclose(outputs, earlier, rtol=0.0, atol=_SAME * scale, equal_nan=True).all())


_LOOK = 1
"""Raised by one whenever a look at the same network finds something else."""


def find_layers(model: TargetModel, probe: Probe, patterns: Sequence[str], store: Store) -> list[Layer]:
    """The layers that the patterns mean; remembered, so that a run on stored features need not build the network.

    Args:
        model: the target network's recipe.
        probe: whose first images are shown to it.
        patterns: layers as `cd_exp.hooks.resolve_patterns` reads them.
        store: where the answer is kept; the notes on the network are added to its reports.

    Raises:
        InputError: an unknown layer, one whose axes cannot be inferred, names that do not fit the number of units.
    """
    if model.own_code:  # no key covers what it may depend on: it is looked at each time
        looked, more = _inspect_network(model, probe, patterns)
        layers = with_output_check(looked, model=model.key, images=probe.fingerprint, store=store)
        notes = [*more, *looked.notes]
    else:
        content = {**_describe_inspection(model, probe, patterns), **computed_with(store)}
        layers, notes = store.remember(
            "layers", content, lambda: _as_plain_values(*_inspect_network(model, probe, patterns)), _parse_layers
        )
    for layer in layers:
        find_truth(model, layer.name, units=layer.units)
    for note in notes:
        store.report(note)
    return layers


def read_known_layers(model: TargetModel, probe: Probe, patterns: Sequence[str], store: Store) -> list[Layer] | None:
    """The layers as an earlier run stored them; None where there was none, or where each run must inspect them."""
    content = {**_describe_inspection(model, probe, patterns), **computed_with(store)}
    stored = None if model.own_code else store.recall("layers", content, _parse_layers)
    return None if stored is None else stored[0]


def _describe_inspection(model: TargetModel, probe: Probe, patterns: Sequence[str]) -> dict[str, Any]:
    return {
        "look": _LOOK,
        "model": model.key,
        "layers": list(patterns),
        "truth": sorted(_add_truth(model)),
        "units_axis": model.units_axis,
        "prefix_tokens": model.prefix_tokens,
        "images": probe.fingerprint,  # their size decides where the transform does not
    }


def image_columns(model: TargetModel, probe: Probe, units: Units, store: Store) -> list[Layer]:
    """The layers that the units are made from, with what makes them; none where the units need no network."""
    patterns = units.patterns(model)
    if not patterns:
        return []
    return [units.columns(layer, model=model.name) for layer in find_layers(model, probe, patterns, store)]


def describe_layer_content(
    model: TargetModel, layer: Layer, probe: Probe, settings: ExtractionSettings
) -> dict[str, Any]:
    """What the activations of a layer are of, for their key: the weights, the reading, the images and the numbers."""
    return {"model": model.key, **layer.key, "probe": probe.fingerprint, **settings.describe_numbers()}


def _parse_layers(entry: Mapping[str, Any]) -> tuple[list[Layer], list[str]]:
    return [Layer.of(plain) for plain in entry["layers"]], list(entry["notes"])


def _inspect_network(model: TargetModel, probe: Probe, patterns: Sequence[str]) -> tuple[LayerOutputs, tuple[str, ...]]:
    network = model.build()
    for layer in _add_truth(model):
        resolve_patterns(network.module, [layer], name=f"{model.name} (model.final or model.hidden_truth)")
    looked = inspect_layers(
        network.module,
        patterns,
        readable_images(probe, network.transform),
        name=model.name,
        prefix=network.prefix_tokens,
        units_axis=model.units_axis,
    )
    return looked, network.notes


def _as_plain_values(looked: LayerOutputs, notes: tuple[str, ...]) -> dict[str, Any]:
    return {"layers": [layer.plain() for layer in looked.layers], "notes": [*notes, *looked.notes]}


def _add_truth(model: TargetModel) -> set[str]:
    """The layers that the settings say something of; they must exist, labelled or not."""
    return {*model.truth, *([model.final] if model.final else [])}


def sampled_images(clip: Clip, probe: Probe, store: Store) -> dict[str, str]:
    """What a backbone of the user's own code gives for the first images, for its key; empty for any other.

    Such code may depend on files and variables that no key covers.
    """
    if not clip.own_code:
        return {}
    tower = clip.image_tower()
    with torch.inference_mode():
        outputs = tower.module(readable_images(probe, tower.transform)).cpu()
    content = {"clip": clip.key, "images": probe.fingerprint}
    return {"behaviour": behaviour_of(outputs, content=content, store=store)}


def readable_images(probe: Probe, transform: "Callable[[Image], Tensor]") -> Tensor:
    """The first readable images of a probe set as inputs of a network; a smaller probe set is repeated.

    Raises:
        InputError: the transform fails on an image, or gives inputs of several sizes.
    """
    inputs: list[Tensor] = []
    for index in range(len(probe)):
        try:
            image = probe[index]
        except InputError:  # a set without images, or the user's own that gives something else
            raise
        except UNREADABLE:
            continue
        inputs.append(transform_images(transform, image, name=probe.ids[index]))
        if len(inputs) == IMAGES:
            break
    if not inputs:
        raise InputError(f"no image of probe {probe.name!r} can be read")
    return stack_batch([inputs[number % len(inputs)] for number in range(IMAGES)])
