"""How well a label predicts its unit on images that it was not chosen on.

Every score is a pure function on activations and concept values, a column a unit. A judge tells where a concept is: the
probe's annotations, a CLIP backbone, or images made for each label.
"""

from cd_exp.evaluation.judges.annotations import (
    AnnotationsJudge,
    concept_presence,
    list_base_concepts,
    read_image_classes,
)
from cd_exp.evaluation.judges.base import (
    HeldOut,
    Judge,
    LabelsToScore,
    Scores,
    content_digests,
    held_out_split,
    split_images,
)
from cd_exp.evaluation.judges.clip import ClipJudge, read_concept_values
from cd_exp.evaluation.judges.custom import custom
from cd_exp.evaluation.judges.images import ImagesJudge
from cd_exp.evaluation.judges.scores import (
    activation_rate,
    auprc,
    average_precision,
    base_rate,
    cosine,
    cosy_auc,
    cosy_mad,
    f1,
    find_active,
    have_values,
    iou,
    pearson,
    score_labels,
    selectivity,
)
from cd_exp.evaluation.judges.whitened import WhitenedJudge, WhitenedMatch, score_whitened, whiten_activations
from cd_exp.metrics.label_expressions import list_concepts, predict_values

__all__ = [
    "AnnotationsJudge",
    "ClipJudge",
    "HeldOut",
    "ImagesJudge",
    "Judge",
    "LabelsToScore",
    "Scores",
    "WhitenedJudge",
    "WhitenedMatch",
    "activation_rate",
    "auprc",
    "average_precision",
    "base_rate",
    "concept_presence",
    "content_digests",
    "cosine",
    "cosy_auc",
    "cosy_mad",
    "custom",
    "f1",
    "find_active",
    "have_values",
    "held_out_split",
    "iou",
    "list_base_concepts",
    "list_concepts",
    "pearson",
    "predict_values",
    "read_concept_values",
    "read_image_classes",
    "score_labels",
    "score_whitened",
    "selectivity",
    "split_images",
    "whiten_activations",
]
