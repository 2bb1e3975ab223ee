"""Scores of a label as the prediction of a unit's activations: binary, graded, and from generated images.

Pure functions, one column per unit. For the binary scores the unit, made binary, is the truth.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cd_exp.evaluation.judges.base import Scores
from cd_exp.metrics.label_expressions import Values, predict_values

Paired = Float[Tensor, "images neurons"]
"""One column a unit: its activations, or the values in [0, 1] of the concept that is to explain it."""

PRESENT = 0.5
"""A concept is present in an image from this value on."""


def find_active(activations: Paired, share: float | Float[Tensor, " neurons"]) -> Bool[Tensor, "images neurons"]:
    """Whether an image is among this share of the images that excite a unit most.

    active_i = a_i >= (the k-th largest a) and a_i > min a, for k = max(1, ceil(share * images)): equal activations
    stand on the same side, and a unit's lowest value, such as the zero of a ReLU, is never active.

    Args:
        activations: images x neurons.
        share: of the images, in [0, 1], one for all units or one for each.

    Source: ceil as the published code of Oikarinen, Yan and Weng (arXiv:2506.05774) counts them.

    >>> find_active(torch.arange(10.0)[:, None], 0.11).sum().item()
    2
    """
    images, neurons = activations.shape
    # A share that was a count over the images, or .3 in float32, is not to be one image more by its rounding.
    counts = (torch.as_tensor(share, dtype=torch.float64) * images - 1e-7 * images).ceil().long().clamp(1, images)
    columns = zip(activations.T.contiguous(), counts.expand(neurons).tolist(), strict=True)
    threshold = torch.stack([column.kthvalue(images + 1 - count).values for column, count in columns])
    return (activations >= threshold) & (activations > activations.amin(dim=0))


def base_rate(concept: Paired) -> Float[Tensor, " neurons"]:
    """The share of images in which each concept is present.

    >>> base_rate(torch.tensor([[1.0], [0.5], [0.4], [0.0]])).item()  # present from 0.5 on
    0.5
    """
    return (concept >= PRESENT).double().mean(dim=0)


def _confusion_counts(
    activations: Paired, concept: Paired, share: float | Tensor | None
) -> tuple[Float[Tensor, " neurons"], Float[Tensor, " neurons"], Float[Tensor, " neurons"]]:
    """Images that are active and have the concept, that are active, and that have the concept."""
    present = concept >= PRESENT
    excited = find_active(activations, base_rate(concept) if share is None else share)
    return (excited & present).sum(0).double(), excited.sum(0).double(), present.sum(0).double()


def f1(
    activations: Paired, concept: Paired, *, share: float | Float[Tensor, " neurons"] | None = None
) -> Float[Tensor, " neurons"]:
    """The harmonic mean of precision and recall of the concept as prediction of the active images.

    F1 = 2 |A and C| / (|A| + |C|), A the active images and C those with the concept; 0 where both are empty.

    Args:
        activations: of each unit.
        concept: in [0, 1], of each unit's concept; present from 0.5 on.
        share: of the images in which a unit is active; by default the concept's own base rate.

    >>> activations = torch.tensor([[5.0], [4.0], [1.0], [0.0]])
    >>> concept = torch.tensor([[1.0], [0.0], [1.0], [0.0]])
    >>> f1(activations, concept).item()  # active on images 0 and 1, the concept on 0 and 2
    0.5

    Source: Oikarinen, Yan and Weng, ICML 2025 (arXiv:2506.05774), section 3.
    """
    both, excited, present = _confusion_counts(activations, concept, share)
    return 2 * both / (excited + present).clamp(min=1)


def iou(
    activations: Paired, concept: Paired, *, share: float | Float[Tensor, " neurons"] | None = None
) -> Float[Tensor, " neurons"]:
    """The intersection of active images and images with the concept, over their union.

    IoU = |A and C| / |A or C|, as of Network Dissection but over images; 0 where both are empty. Arguments as of `f1`.

    >>> activations = torch.tensor([[5.0], [4.0], [1.0], [0.0]])
    >>> concept = torch.tensor([[1.0], [0.0], [1.0], [0.0]])
    >>> round(iou(activations, concept).item(), 3)  # one image of three
    0.333

    Source: Bau et al., CVPR 2017 (arXiv:1704.05796); over images Oikarinen, Yan and Weng (arXiv:2506.05774).
    """
    both, excited, present = _confusion_counts(activations, concept, share)
    return both / (excited + present - both).clamp(min=1)


def auprc(
    activations: Paired, concept: Paired, *, share: float | Float[Tensor, " neurons"] | None = None
) -> Float[Tensor, " neurons"]:
    """The area under the precision-recall curve of the concept's values as prediction of the active images.

    AP = sum over thresholds of (recall_t - recall_{t-1}) precision_t, a threshold at each distinct value of the concept
    from the highest down, no interpolation; 0 for a unit that is never active. Arguments as of `f1`.

    >>> activations = torch.tensor([[5.0], [4.0], [1.0], [0.0]])
    >>> concept = torch.tensor([[0.9], [0.1], [0.8], [0.2]])
    >>> round(auprc(activations, concept).item(), 3)  # image 0 comes first, image 1 last
    0.75

    Source: Oikarinen, Yan and Weng, ICML 2025 (arXiv:2506.05774), section 3.
    """
    excited = find_active(activations, base_rate(concept) if share is None else share)
    return average_precision(concept, excited)


def average_precision(score: Paired, truth: Bool[Tensor, "images neurons"]) -> Float[Tensor, " neurons"]:
    """AP as in `auprc`, of any score and any binary truth, column by column.

    >>> score = torch.tensor([[0.9], [0.8], [0.7]])
    >>> round(average_precision(score, torch.tensor([[True], [False], [True]])).item(), 4)  # (1 + 2/3) / 2
    0.8333
    """
    ordered, order = score.sort(dim=0, descending=True)
    positive = truth.gather(0, order).double()
    last = torch.ones_like(truth)
    last[:-1] = ordered[1:] != ordered[:-1]
    position = torch.arange(len(score), device=score.device)[:, None].expand_as(order)
    # Equal scores share one threshold: each takes the precision at the last of them.
    end = torch.where(last, position, len(score) - 1).flip(0).cummin(dim=0).values.flip(0)
    precision = (positive.cumsum(dim=0) / (position + 1)).gather(0, end)
    return (positive * precision).sum(dim=0) / positive.sum(dim=0).clamp(min=1)


def pearson(activations: Paired, concept: Paired) -> Float[Tensor, " neurons"]:
    """Pearson's correlation of activations and concept values: the simulation score.

    r = <a - mean a, c - mean c> / (|a - mean a| |c - mean c|); 0 where one of the two does not vary.

    Args:
        activations: of each unit.
        concept: of each unit's concept.

    >>> activations = torch.tensor([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    >>> concept = torch.tensor([[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]])
    >>> pearson(activations, concept).round(decimals=6).tolist()  # the second unit never varies
    [1.0, 0.0]

    Source: Bills et al. 2023, "Language models can explain neurons in language models"; for vision Oikarinen and Weng,
    ICML 2024 (arXiv:2405.06855), section 4.
    """
    return _cosines(_centre(activations), _centre(concept))


def cosine(activations: Paired, concept: Paired) -> Float[Tensor, " neurons"]:
    """The cosine of activations and concept values, not centred, moved to [0, 1].

    (1 + <a, c> / (|a| |c|)) / 2; 1/2 where one of the two is zero everywhere.

    Args:
        activations: of each unit.
        concept: of each unit's concept.

    Source: Oikarinen, Yan and Weng, ICML 2025 (arXiv:2506.05774), section 3, there on [-1, 1].
    """
    return (1 + _cosines(activations.double(), concept.double())) / 2


def _centre(values: Paired) -> Float[Tensor, "images neurons"]:
    # A constant column is zero afterwards, which rounding of its mean would spoil.
    varies = values.amax(dim=0) > values.amin(dim=0)
    values = values.double()
    return (values - values.mean(dim=0)) * varies


def _cosines(a: Float[Tensor, "images neurons"], b: Float[Tensor, "images neurons"]) -> Float[Tensor, " neurons"]:
    norms = torch.linalg.vector_norm(a, dim=0) * torch.linalg.vector_norm(b, dim=0)
    return torch.where(norms > 0, (a * b).sum(dim=0) / torch.where(norms > 0, norms, 1), 0).clamp(-1, 1)


def cosy_auc(
    shown: Float[Tensor, "shown neurons"], control: Float[Tensor, "control neurons"]
) -> Float[Tensor, " neurons"]:
    """The probability that an image of the label excites a unit more than a control image; equal ones count half.

    AUC = mean over pairs of [a(shown) > a(control)] + [a(shown) = a(control)] / 2.

    Args:
        shown: activations on images of the label.
        control: activations on other images.

    >>> shown, control = torch.tensor([[3.0], [1.0]]), torch.tensor([[0.0], [1.0]])
    >>> cosy_auc(shown, control).item()  # 3 wins twice, 1 once and ties once: 3.5 of 4 pairs
    0.875

    Source: Kopf et al., CoSy, NeurIPS 2024 (arXiv:2405.20331), section 4.
    """
    below, upto = _count_below(shown, control, right=False), _count_below(shown, control, right=True)
    return (below + upto).double().mean(dim=0) / (2 * len(control))


def cosy_mad(
    shown: Float[Tensor, "shown neurons"], control: Float[Tensor, "control neurons"]
) -> Float[Tensor, " neurons"]:
    """The mean activation difference, in standard deviations of the control images.

    MAD = (mean a(shown) - mean a(control)) / std a(control), the standard deviation with denominator n - 1 as in the
    published code; 0 where the control images all excite the unit alike.

    Args:
        shown: activations on images of the label.
        control: activations on other images.

    >>> control = torch.tensor([[0.0], [2.0], [4.0]])
    >>> cosy_mad(torch.tensor([[6.0]]), control).item()  # 4 above the mean, in steps of 2
    2.0

    Source: Kopf et al., CoSy, NeurIPS 2024 (arXiv:2405.20331), section 4.
    """
    shown, varies = shown.double(), control.amax(dim=0) > control.amin(dim=0)
    control = control.double()
    spread = control.std(dim=0, correction=1 if len(control) > 1 else 0)
    return torch.where(varies, (shown.mean(dim=0) - control.mean(dim=0)) / torch.where(varies, spread, 1), 0)


def activation_rate(
    shown: Float[Tensor, "shown neurons"], images: Float[Tensor, "images neurons"], *, share: float = 0.01
) -> Float[Tensor, " neurons"]:
    """The share of images of the label that excite a unit as much as the strongest images of its own do.

    rate = mean over images of [a(image) >= the k-th largest a over the images and a(image) > min a], for k =
    max(1, ceil(share * images)). Images drawn at random would reach about `share`.

    Args:
        shown: activations on images of the label.
        images: activations on the probe's images.
        share: of the images that count as the unit's strongest.

    >>> activation_rate(torch.tensor([[9.0], [98.0], [120.0], [99.0]]), torch.arange(100.0)[:, None]).item()
    0.5

    Source: SIEVE (arXiv:2603.24953), by what is reported of it: the rate above the unit's own 99th percentile.
    """
    count = max(1, math.ceil(share * len(images) - 1e-9))
    threshold = images.kthvalue(len(images) + 1 - count, dim=0).values
    return ((shown >= threshold) & (shown > images.amin(dim=0))).double().mean(dim=0)


def selectivity(
    named: Float[Tensor, "pairs neurons"], other: Float[Tensor, "others neurons"]
) -> Float[Tensor, " neurons"]:
    """The response to what a label names, against the response to everything else that changes.

    s = r / (r + mean |other|) with r = max(0, mean named): 1 where only the named attribute moves the unit;
    1/2 where others move it as much; 0 where the named one does not excite it.

    Args:
        named: activation with the named attribute less that of the same scene without it.
        other: differences of scenes that differ in an attribute which is not named.

    >>> named, other = torch.tensor([[3.0], [1.0]]), torch.tensor([[0.5], [-0.5]])
    >>> selectivity(named, other).item()  # 2 against 0.5
    0.8
    """
    wanted = named.double().mean(dim=0).clamp(min=0)
    total = wanted + other.double().abs().mean(dim=0)
    return torch.where(total > 0, wanted / torch.where(total > 0, total, 1), 0)


def _count_below(
    shown: Float[Tensor, "shown neurons"], control: Float[Tensor, "control neurons"], *, right: bool
) -> Int[Tensor, "shown neurons"]:
    """How many control images excite a unit less than each image, or at most as much."""
    ordered = control.T.contiguous().sort(dim=1).values
    return torch.searchsorted(ordered, shown.T.contiguous(), right=right).T


GRADED = {"pearson": pearson, "cosine": cosine}
BINARY = {"auprc": auprc, "f1": f1, "iou": iou}
UNITS = 256
"""At a time: bounds the copies in double precision."""


def score_labels(
    activations: Float[Tensor, "images units"],
    labels: Sequence[str],
    values: Values,
    *,
    share: float | None = None,
) -> Scores:
    """Every score of one label per unit; NaN where nothing is known of a label.

    A weighted sum is put on [0, 1] for the scores that need a concept to be present or absent: its values less the
    smallest, over the range.

    Args:
        activations: on the images that are scored on, a column a unit.
        labels: of the units.
        values: of a concept in the same images.
        share: of the images in which a unit counts as active; None takes the label's own base rate.
    """
    names = list(dict.fromkeys(labels))
    predicted = {name: column for name in names if (column := predict_values(name, values)) is not None}
    scorable = [row for row, label in enumerate(labels) if label in predicted]
    scores = {name: np.full(len(labels), np.nan) for name in (*GRADED, *BINARY)}
    settings: dict[str, Any] = {"share": share}
    for start in range(0, len(scorable), UNITS):
        part = scorable[start : start + UNITS]
        columns = torch.stack([predicted[labels[row]].to(activations) for row in part], dim=1)
        responses = activations[:, part]
        unit_range = _scale_to_one(columns)
        for name, function in GRADED.items():
            scores[name][part] = function(responses, columns).cpu().numpy()
        for name, counted in BINARY.items():
            scores[name][part] = counted(responses, unit_range, **settings).cpu().numpy()
    return scores


def _scale_to_one(values: Float[Tensor, "images units"]) -> Float[Tensor, "images units"]:
    low, high = values.amin(dim=0), values.amax(dim=0)
    beyond = (low < 0) | (high > 1)
    return torch.where(beyond, (values - low) / torch.where(high > low, high - low, 1), values)


def have_values(labels: Sequence[str], values: Values) -> Mapping[str, bool]:
    """Of each distinct label whether anything is known of it."""
    return {label: predict_values(label, values) is not None for label in dict.fromkeys(labels)}
