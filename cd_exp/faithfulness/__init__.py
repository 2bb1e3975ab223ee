"""How well a label predicts its unit on images that it was not chosen on.

Every score is a pure function on activations and concept values, a column a unit.
"""

from cd_exp.faithfulness.binary import active, auprc, average_precision, base_rate, f1, iou
from cd_exp.faithfulness.generated import cosy_auc, cosy_mad, selectivity
from cd_exp.faithfulness.graded import cosine, pearson

__all__ = [
    "active",
    "auprc",
    "average_precision",
    "base_rate",
    "cosine",
    "cosy_auc",
    "cosy_mad",
    "f1",
    "iou",
    "pearson",
    "selectivity",
]
