"""Scores of a concept as the prediction of when a unit is active; the unit, made binary, is the truth."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Paired = Float[Tensor, "images neurons"]
"""One column a unit: its activations, or the values in [0, 1] of the concept that is to explain it."""

PRESENT = 0.5
"""A concept is present in an image from this value on."""


def active(activations: Paired, share: float | Float[Tensor, " neurons"]) -> Bool[Tensor, "images neurons"]:
    """Whether an image is among the given share of the images that excite a unit most.

    active_i = a_i >= (the k-th largest a) and a_i > min a, for k = max(1, round(share * images)): equal activations
    stand on the same side, and a unit's lowest value, such as the zero of a ReLU, is never active.

    Args:
        activations: images x neurons.
        share: of the images, in [0, 1], one for all units or one for each.
    """
    images, neurons = activations.shape
    counts = (torch.as_tensor(share, dtype=torch.float64) * images).round().long().clamp(1, images)
    columns = zip(activations.T.contiguous(), counts.expand(neurons).tolist(), strict=True)
    threshold = torch.stack([column.kthvalue(images + 1 - count).values for column, count in columns])
    return (activations >= threshold) & (activations > activations.amin(dim=0))


def base_rate(concept: Paired) -> Float[Tensor, " neurons"]:
    """The share of images in which each concept is present."""
    return (concept >= PRESENT).double().mean(dim=0)


def _counts(
    activations: Paired, concept: Paired, share: float | Tensor | None
) -> tuple[Float[Tensor, " neurons"], Float[Tensor, " neurons"], Float[Tensor, " neurons"]]:
    """Images that are active and have the concept, that are active, and that have the concept."""
    present = concept >= PRESENT
    excited = active(activations, base_rate(concept) if share is None else share)
    return (excited & present).sum(0).double(), excited.sum(0).double(), present.sum(0).double()


def f1(
    activations: Paired, concept: Paired, *, share: float | Float[Tensor, " neurons"] | None = None
) -> Float[Tensor, " neurons"]:
    """The harmonic mean of precision and recall of the concept as prediction of the active images.

    F1 = 2 |A and C| / (|A| + |C|), A the active images and C those with the concept; 0 where both are empty.

    Args:
        activations: of each unit.
        concept: in [0, 1], of each unit's concept; present from 0.5 on.
        share: of the images in which a unit is active; the concept's own base rate where not given.

    Source: Oikarinen, Yan and Weng, ICML 2025 (arXiv:2506.05774), section 3.
    """
    both, excited, present = _counts(activations, concept, share)
    return 2 * both / (excited + present).clamp(min=1)


def iou(
    activations: Paired, concept: Paired, *, share: float | Float[Tensor, " neurons"] | None = None
) -> Float[Tensor, " neurons"]:
    """The intersection of active images and images with the concept, over their union.

    IoU = |A and C| / |A or C|, as of Network Dissection but over images; 0 where both are empty. Arguments as of `f1`.

    Source: Bau et al., CVPR 2017 (arXiv:1704.05796); over images Oikarinen, Yan and Weng (arXiv:2506.05774).
    """
    both, excited, present = _counts(activations, concept, share)
    return both / (excited + present - both).clamp(min=1)


def auprc(
    activations: Paired, concept: Paired, *, share: float | Float[Tensor, " neurons"] | None = None
) -> Float[Tensor, " neurons"]:
    """The area under the precision-recall curve of the concept's values as prediction of the active images.

    AP = sum over thresholds of (recall_t - recall_{t-1}) precision_t, a threshold at each distinct value of the concept
    from the highest down, no interpolation; 0 for a unit that is never active. Arguments as of `f1`.

    Source: Oikarinen, Yan and Weng, ICML 2025 (arXiv:2506.05774), section 3.
    """
    excited = active(activations, base_rate(concept) if share is None else share)
    return average_precision(concept, excited)


def average_precision(score: Paired, truth: Bool[Tensor, "images neurons"]) -> Float[Tensor, " neurons"]:
    """AP as in `auprc`, of any score and any binary truth, column by column."""
    ordered, order = score.sort(dim=0, descending=True)
    positive = truth.gather(0, order).double()
    last = torch.ones_like(truth)
    last[:-1] = ordered[1:] != ordered[:-1]
    place = torch.arange(len(score), device=score.device)[:, None].expand_as(order)
    # Equal scores share one threshold: each takes the precision at the last of them.
    end = torch.where(last, place, len(score) - 1).flip(0).cummin(dim=0).values.flip(0)
    precision = (positive.cumsum(dim=0) / (place + 1)).gather(0, end)
    return (positive * precision).sum(dim=0) / positive.sum(dim=0).clamp(min=1)
