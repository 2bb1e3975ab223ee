"""Other methods' labels of the same units, each labels by itself: Network Dissection, and what was published."""

from cd_exp.baselines.custom import Custom, custom
from cd_exp.baselines.method import Labelled, Method, RunRecord, labelled
from cd_exp.baselines.netdissect import NetDissect, netdissect
from cd_exp.baselines.published import Published, published

__all__ = [
    "Custom",
    "Labelled",
    "Method",
    "NetDissect",
    "Published",
    "RunRecord",
    "custom",
    "labelled",
    "netdissect",
    "published",
]
