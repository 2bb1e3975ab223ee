"""Target models as recipes: what is needed to build one, and a key that says what its numbers depend on.

A recipe knows its weights' content, its class names and its truth without building the network, so a run whose features
are stored never imports timm. Preprocessing travels with the weights.
"""

from cd_exp.models.base import Network, TargetModel, read_names, truth_for
from cd_exp.models.custom import CustomModel, InHand, left_as_it_was
from cd_exp.models.timm_model import TimmModel, places365, shapes_model

__all__ = [
    "CustomModel",
    "InHand",
    "Network",
    "TargetModel",
    "TimmModel",
    "left_as_it_was",
    "places365",
    "read_names",
    "shapes_model",
    "truth_for",
]
