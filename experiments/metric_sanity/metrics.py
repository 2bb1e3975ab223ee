"""Every score that the sanity test is about: those a judge gives, and those that others use.

A score takes activations, concept values and the share of images in which a unit is active, and gives one number a
unit. `span` is the length of the score's range, by which a difference is divided; None where it has none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.evaluation import judges
from cd_exp.evaluation.judges.scores import PRESENT, Paired, average_precision, find_active

TOP_IMAGES = 28
"""How many of a unit's strongest images WPMI looks at, as CLIP-Dissect's does."""
PRIOR_WEIGHT = 0.6
FLOOR = 1e-7

Score = Callable[[Paired, Paired, float | Tensor], Float[Tensor, " neurons"]]


@dataclass(frozen=True)
class Metric:
    """A score, how far its values reach, and the published verdict on it (None: there is none)."""

    name: str
    score: Score
    span: float | None
    published: bool | None


def _rates(activations: Paired, concept: Paired, share: float | Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images that are right positives, false positives, false negatives and right negatives, as shares."""
    truth, said = find_active(activations, share), concept >= PRESENT
    pairs = ((truth, said), (~truth, said), (truth, ~said), (~truth, ~said))
    tp, fp, fn, tn = ((a & b).double().mean(0) for a, b in pairs)
    return tp, fp, fn, tn


def recall(activations: Paired, concept: Paired, share: float | Tensor) -> Tensor:
    """Right positives of all active images."""
    tp, _, fn, _ = _rates(activations, concept, share)
    return tp / (tp + fn)


def precision(activations: Paired, concept: Paired, share: float | Tensor) -> Tensor:
    """Right positives of all images with the concept."""
    tp, fp, _, _ = _rates(activations, concept, share)
    return tp / (tp + fp)


def accuracy(activations: Paired, concept: Paired, share: float | Tensor) -> Tensor:
    """Images in which concept and unit say the same."""
    tp, _, _, tn = _rates(activations, concept, share)
    return tp + tn


def balanced_accuracy(activations: Paired, concept: Paired, share: float | Tensor) -> Tensor:
    """The mean of the recalls of active and of other images."""
    tp, fp, fn, tn = _rates(activations, concept, share)
    return (tp / (tp + fn) + tn / (tn + fp)) / 2


def inverse_balanced_accuracy(activations: Paired, concept: Paired, share: float | Tensor) -> Tensor:
    """The same with the concept as the truth."""
    tp, fp, fn, tn = _rates(activations, concept, share)
    return (tp / (tp + fp) + tn / (tn + fn)) / 2


def _area(score: Paired, truth: Tensor) -> Tensor:
    """AUC by the ranks of the positives; equal scores share the mean of their ranks."""
    ranks, positive = _ranks(score), truth.double()
    yes, no = positive.sum(0), (1 - positive).sum(0)
    return ((ranks * positive).sum(0) - yes * (yes + 1) / 2) / (yes * no)


def auc(activations: Paired, concept: Paired, share: float | Tensor) -> Tensor:
    """The area under the ROC curve of the concept as prediction of the active images."""
    return _area(concept, find_active(activations, share))


def inverse_auc(activations: Paired, concept: Paired, _: float | Tensor) -> Tensor:
    """The area under the ROC curve of the activations as prediction of the concept: INVERT's score."""
    return _area(activations, concept >= PRESENT)


def inverse_auprc(activations: Paired, concept: Paired, _: float | Tensor) -> Tensor:
    """The area under the precision-recall curve of the activations as prediction of the concept."""
    return average_precision(activations.double(), concept >= PRESENT)


def _ranks(values: Paired) -> Tensor:
    """From 1 up, equal values sharing the mean of their ranks."""
    low, high = values.amin(0), values.amax(0)
    if bool(((values == low) | (values == high)).all()):  # the ranks of two values follow without sorting a million
        lower = ((values == low) & (high > low)).double().sum(0)
        return torch.where((values == low) & (high > low), (lower + 1) / 2, (lower + 1 + len(values)) / 2)
    columns = values.T.contiguous()
    ordered = columns.sort(dim=1).values
    low = torch.searchsorted(ordered, columns, right=False)
    high = torch.searchsorted(ordered, columns, right=True)
    return ((low + 1 + high) / 2).T.double()


def spearman(activations: Paired, concept: Paired, _: float | Tensor) -> Tensor:
    """Pearson's correlation of the ranks."""
    return judges.pearson(_ranks(activations), _ranks(concept))


def spearman_untied(activations: Paired, concept: Paired, _: float | Tensor) -> Tensor:
    """The same with equal values put in a random order, as noise added to them does."""
    noise = torch.Generator().manual_seed(0)
    ranks = []
    for values in (activations, concept):
        order = (torch.rand(values.shape, generator=noise) / 2 + _ranks(values)).argsort(dim=0)
        positions = torch.arange(len(values), dtype=torch.float64)[:, None].expand(values.shape)
        ranks.append(torch.zeros_like(positions).scatter(0, order, positions))
    return judges.pearson(*ranks)


def wpmi(activations: Paired, concept: Paired, _: float | Tensor, *, prior_weight: float = PRIOR_WEIGHT) -> Tensor:
    """The mean log of the concept on the strongest images, less 0.6 times the log of its mean over all."""
    top = activations.topk(min(TOP_IMAGES, len(activations)), dim=0).indices
    likelihood = (concept.double().gather(0, top) + FLOOR).log().mean(0)
    return likelihood - prior_weight * (concept.double().mean(0) + FLOOR).log()


def mad(activations: Paired, concept: Paired, _: float | Tensor) -> Tensor:
    """Mean activation with the concept less that without, in standard deviations of the latter."""
    present = concept >= PRESENT
    return torch.cat(
        [
            judges.cosy_mad(activations[present[:, unit], unit, None], activations[~present[:, unit], unit, None])
            for unit in range(activations.shape[1])
        ]
    )


METRICS = (
    Metric("F1", lambda a, c, share: judges.f1(a, c, share=share), 1, True),
    Metric("IoU", lambda a, c, share: judges.iou(a, c, share=share), 1, True),
    Metric("correlation", lambda a, c, _: judges.pearson(a, c), 2, True),
    Metric("cosine", lambda a, c, _: judges.cosine(a, c), 1, True),  # moved to [0, 1], so divided already
    Metric("AUPRC", lambda a, c, share: judges.auprc(a, c, share=share), 1, True),
    Metric("recall", recall, 1, False),
    Metric("precision", precision, 1, False),
    Metric("accuracy", accuracy, 1, False),
    Metric("balanced accuracy", balanced_accuracy, 1, False),
    Metric("inverse balanced accuracy", inverse_balanced_accuracy, 1, False),
    Metric("AUC", auc, 1, False),
    Metric("inverse AUC", inverse_auc, 1, False),
    Metric("inverse AUPRC", inverse_auprc, 1, None),
    Metric("Spearman", spearman, 2, False),
    Metric("Spearman, ties broken at random", spearman_untied, 2, False),
    Metric("WPMI", wpmi, None, False),
    Metric("WPMI without the prior", partial(wpmi, prior_weight=0), None, False),
    Metric("MAD", mad, None, False),
)
