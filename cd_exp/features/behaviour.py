"""The outputs of a network of the user's own code for a few pictures, as part of its cache key.

Code can depend on what no hash of a text sees: a plain attribute, an environment variable, a file it reads. So what
each layer gives for the probe's first pictures is kept beside the features and compared when they are asked for again.
It is compared with a tolerance, and is therefore no part of a hash: layouts of memory and machines differ by 1e-7.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cd_exp.cache import Entry, Store
from cd_exp.hooks import Layer, Looked

_SAME = 1e-4  # of the largest value of a layer


def behaving(looked: Looked, *, model: Mapping[str, Any], images: str, store: Store) -> list[Layer]:
    """The layers with their behaviour: that of an earlier run where it is the same, else a new one.

    Args:
        looked: the layers, with what they gave for the pictures.
        model: the key of the target network.
        images: the fingerprint of the probe set whose pictures were shown.
        store: where behaviours are kept.
    """
    layers = []
    for layer in looked.layers:
        content = {"model": model, "layer": layer.source, "pooling": layer.plain()["pooling"], "images": images}
        layers.append(replace(layer, behaviour=_known(looked.values[layer.name], Entry("behaviours", content), store)))
    return layers


def _known(values: Tensor, entry: Entry, store: Store) -> str:
    given = values.float().cpu()
    name = _named(given, store.recall(entry.kind, entry.content, _parsed) or {})  # without a lock: nothing is written
    if name:
        return name
    with store.locked([entry]):
        known = store.recall(entry.kind, entry.content, _parsed) or {}
        name = _named(given, known)
        if not name:
            name = hashlib.sha256(given.contiguous().numpy().tobytes()).hexdigest()[:16]
            kept = {other: earlier.tolist() for other, earlier in known.items()}
            store.note(entry.kind, entry.content, {**kept, name: given.tolist()})
    return name


def _named(given: Tensor, known: Mapping[str, Tensor]) -> str:
    return next((name for name, earlier in known.items() if _same(given, earlier)), "")


def _parsed(value: Any) -> dict[str, Tensor]:
    return {str(name): torch.tensor(rows, dtype=torch.float32) for name, rows in dict(value).items()}


def _same(given: Tensor, earlier: Tensor) -> bool:
    if given.shape != earlier.shape:
        return False
    scale = float(earlier.abs().nan_to_num(0.0, 0.0, 0.0).max())
    return bool(torch.isclose(given, earlier, rtol=0.0, atol=_SAME * scale, equal_nan=True).all())
