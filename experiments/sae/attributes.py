"""Which attribute of the built-in synthetic data set a unit is about, by its exact masks."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cd_exp import shapes
from cd_exp.cache import Store
from cd_exp.features import ExtractionSettings, read_maps
from cd_exp.models import TargetModel
from cd_exp.probes.shapes import Shapes
from cd_exp.units import Units


def masks(probe: Shapes, *, side: int) -> Bool[Tensor, "positions attributes"]:
    """Whether an attribute covers at least half of each cell of a grid over each image."""
    parts = []
    for index in range(len(probe)):
        annotated = probe.segmentation(index).maps
        height, width = annotated.shape[1:]
        present = np.stack([(annotated == number).any(0) for number in range(len(shapes.ATTRIBUTES))], axis=-1)
        cells = present.reshape(side, height // side, side, width // side, -1).mean((1, 3))
        parts.append(cells.reshape(side * side, -1) >= 0.5)
    return torch.from_numpy(np.concatenate(parts))


def f1(
    units: Float[Tensor, "positions units"], present: Bool[Tensor, "positions attributes"]
) -> Float[Tensor, "units attributes"]:
    """F1 of each unit and attribute: the unit is on at its strongest positions, as many as the attribute has.

    A position at which a unit does not fire is never one of them, so a unit that fires seldom is on seldom.
    F1 = 2 |on and present| / (|on| + |present|).
    """
    scores = torch.zeros(units.shape[1], present.shape[1])
    for attribute in range(present.shape[1]):
        here = present[:, attribute]
        count = int(here.sum())
        if not count:
            continue
        values, indices = units.topk(count, dim=0)
        on = values > 0
        scores[:, attribute] = 2 * (here[indices] & on).sum(dim=0) / (on.sum(dim=0) + count)
    return scores


def best_attributes(
    model: TargetModel,
    probe: Shapes,
    units: Units | Sequence[str],
    *,
    layer: str,
    store: Store,
    settings: ExtractionSettings,
) -> tuple[list[str], Float[np.ndarray, " units"]]:
    """Each unit's best attribute by F1 on the masks, and that F1."""
    passes = read_maps(model, probe, layers=units, kept=range(len(probe)), store=store, settings=settings)
    values = torch.cat([maps[layer].movedim(1, -1).flatten(0, 2) for _, maps in passes()])
    side = round((len(values) / len(probe)) ** 0.5)
    scores, best = f1(values, masks(probe, side=side)).max(dim=1)
    return [shapes.ATTRIBUTES[number] for number in best.tolist()], scores.numpy()
