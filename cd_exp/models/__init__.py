"""Target models as recipes: what is needed to build one, and a key that says what its numbers depend on.

A recipe knows its weights' content, its class names and its truth without building the network, so a run whose features
are stored never imports timm. Preprocessing travels with the weights.
"""

from cd_exp.concepts import find_truth, read_names
from cd_exp.models.custom import CustomModel, LoadedModel, restore_after
from cd_exp.models.timm_model import TimmModel, places365, shapes_model
from cd_exp.models.untrained import untrained_model
from cd_exp.records import Network, TargetModel

__all__ = [
    "CustomModel",
    "LoadedModel",
    "Network",
    "TargetModel",
    "TimmModel",
    "find_truth",
    "places365",
    "read_names",
    "restore_after",
    "shapes_model",
    "untrained_model",
]
