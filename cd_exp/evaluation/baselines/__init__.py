"""Other methods' labels of the same units, each labels by itself."""

from cd_exp.evaluation.baselines.invert import Invert
from cd_exp.evaluation.baselines.linear_explanations import LinearExplanations
from cd_exp.evaluation.baselines.method import CustomMethod, Method, MethodResult, custom, run_method
from cd_exp.evaluation.baselines.netdissect import NetDissect, netdissect
from cd_exp.evaluation.baselines.published import Published, published

__all__ = [
    "CustomMethod",
    "Invert",
    "LinearExplanations",
    "Method",
    "MethodResult",
    "NetDissect",
    "Published",
    "custom",
    "netdissect",
    "published",
    "run_method",
]
