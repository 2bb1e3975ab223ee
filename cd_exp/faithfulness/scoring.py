"""The scores of labels whose values are known in every image: from annotations, or from another backbone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.faithfulness.binary import auprc, f1, iou
from cd_exp.faithfulness.graded import cosine, pearson
from cd_exp.faithfulness.held_out import Scores
from cd_exp.metrics.label_expressions import Values, predicted

GRADED = {"pearson": pearson, "cosine": cosine}
BINARY = {"auprc": auprc, "f1": f1, "iou": iou}
UNITS = 256
"""At a time: bounds the copies in double precision."""


def score(
    activations: Float[Tensor, "images units"],
    labels: Sequence[str],
    values: Values,
    *,
    share: float | None = None,
) -> Scores:
    """Every score of one label a unit; NaN where nothing is known of a label.

    A weighted sum is put on [0, 1] for the scores that need a concept to be present or absent: its values less the
    smallest, over the range.

    Args:
        activations: on the images that are scored on, a column a unit.
        labels: of the units.
        values: of a concept in the same images.
        share: of the images in which a unit counts as active; None takes the label's own base rate.
    """
    names = list(dict.fromkeys(labels))
    told = {name: found for name in names if (found := predicted(name, values)) is not None}
    known = [place for place, label in enumerate(labels) if label in told]
    scores = {name: np.full(len(labels), np.nan) for name in (*GRADED, *BINARY)}
    settings: dict[str, Any] = {"share": share}
    for start in range(0, len(known), UNITS):
        part = known[start : start + UNITS]
        columns = torch.stack([told[labels[place]].to(activations) for place in part], dim=1)
        own = activations[:, part]
        unit_range = _within_one(columns)
        for name, function in GRADED.items():
            scores[name][part] = function(own, columns).cpu().numpy()
        for name, counted in BINARY.items():
            scores[name][part] = counted(own, unit_range, **settings).cpu().numpy()
    return scores


def _within_one(values: Float[Tensor, "images units"]) -> Float[Tensor, "images units"]:
    low, high = values.amin(dim=0), values.amax(dim=0)
    beyond = (low < 0) | (high > 1)
    return torch.where(beyond, (values - low) / torch.where(high > low, high - low, 1), values)


def known_labels(labels: Sequence[str], values: Values) -> Mapping[str, bool]:
    """Of each distinct label whether anything is known of it."""
    return {label: predicted(label, values) is not None for label in dict.fromkeys(labels)}
