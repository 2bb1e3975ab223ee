"""Other methods' labels of the same units, each labels by itself."""

from cd_exp.evaluation.baselines.custom import Custom, custom
from cd_exp.evaluation.baselines.invert import Invert
from cd_exp.evaluation.baselines.linear_explanations import LinearExplanations
from cd_exp.evaluation.baselines.method import Labelled, Method, labelled
from cd_exp.evaluation.baselines.netdissect import NetDissect, netdissect
from cd_exp.evaluation.baselines.published import Published, published

__all__ = [
    "Custom",
    "Invert",
    "Labelled",
    "LinearExplanations",
    "Method",
    "NetDissect",
    "Published",
    "custom",
    "labelled",
    "netdissect",
    "published",
]
