"""How well a label predicts its unit on images that it was not chosen on.

Every score is a pure function on activations and concept values, a column a unit. A judge tells where a concept is: the
probe's annotations, a CLIP backbone, or pictures made for each label.
"""

from cd_exp.evaluation.judges.annotations import Annotations, atoms, classes_of, presence
from cd_exp.evaluation.judges.base import (
    Explained,
    HeldOut,
    Judge,
    Scores,
    content_digests,
    divided,
    is_circular,
    split,
)
from cd_exp.evaluation.judges.clip import Backbone, concept_values
from cd_exp.evaluation.judges.custom import custom
from cd_exp.evaluation.judges.images import Pictures
from cd_exp.evaluation.judges.scores import (
    active,
    auprc,
    average_precision,
    base_rate,
    cosine,
    cosy_auc,
    cosy_mad,
    f1,
    iou,
    known_labels,
    pearson,
    score,
    selectivity,
)
from cd_exp.metrics.label_expressions import concepts_of, predicted

__all__ = [
    "Annotations",
    "Backbone",
    "Explained",
    "HeldOut",
    "Judge",
    "Pictures",
    "Scores",
    "active",
    "atoms",
    "auprc",
    "average_precision",
    "base_rate",
    "classes_of",
    "concept_values",
    "concepts_of",
    "content_digests",
    "cosine",
    "cosy_auc",
    "cosy_mad",
    "custom",
    "divided",
    "f1",
    "iou",
    "is_circular",
    "known_labels",
    "pearson",
    "predicted",
    "presence",
    "score",
    "selectivity",
    "split",
]
