"""How well a label predicts its unit on images that it was not chosen on.

Every score is a pure function on activations and concept values, a column a unit. A judge tells where a concept is: the
probe's annotations, a CLIP backbone, or pictures made for each label.
"""

from cd_exp.faithfulness.annotations import Annotations, atoms, classes_of, presence
from cd_exp.faithfulness.backbone import Backbone, concept_values
from cd_exp.faithfulness.binary import active, auprc, average_precision, base_rate, f1, iou
from cd_exp.faithfulness.custom import custom
from cd_exp.faithfulness.generated import cosy_auc, cosy_mad, selectivity
from cd_exp.faithfulness.graded import cosine, pearson
from cd_exp.faithfulness.held_out import Explained, HeldOut, Scores, content_digests, divided, split
from cd_exp.faithfulness.judge import Judge, is_circular
from cd_exp.faithfulness.pictures import Pictures
from cd_exp.faithfulness.scoring import known_labels, score
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
