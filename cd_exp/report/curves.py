"""Curves over the judged units of a layer: where the truth ranks, and how many labels are wrong at a coverage."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Bool, Float

from cd_exp.drawing import GRID, WIDEST, plot, style
from cd_exp.io.text import cut
from cd_exp.metrics.selective import risk_coverage as curve
from cd_exp.records import Labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def ranks(curves: Mapping[str, Float[np.ndarray, " judged"]]) -> "Figure":
    """The share of units whose truth is among the k best concepts: top-1 at the left edge, top-5 at 5."""
    figure, axes = plot(6.4, 3.8)
    largest = max(10.0, *(float(found.max()) for found in curves.values()))
    for number, (layer, found) in enumerate(curves.items()):
        places = np.unique([1.0, *found, largest])
        share = 100 * np.searchsorted(np.sort(found), places, side="right") / len(found)
        colour, _, dash = style(number)
        axes.step(places, share, where="post", color=colour, linestyle=dash, linewidth=2, label=cut(layer, WIDEST))
    axes.set(
        xscale="log",
        xlim=(1, largest),
        ylim=(0, 101),
        xlabel="k, of all concepts",
        ylabel="units with their truth in the best k, %",
    )
    axes.set_xticks([k for k in (1, 5, 10, 100, 1000, 10000) if k <= largest])
    axes.xaxis.set_major_formatter("{x:g}")
    _finished(axes, legend="lower right")
    return figure


def known_ranks(labels: Labels) -> Float[np.ndarray, " judged"]:
    """The ranks of the units that have one."""
    return np.empty(0) if labels.ranks is None else labels.ranks[~np.isnan(labels.ranks)]


def risk_coverage(
    curves: Mapping[str, tuple[Float[np.ndarray, " judged"], Bool[np.ndarray, " judged"]]],
) -> "Figure":
    """Of the most stable labels the share that is wrong, against how many of the units they are."""
    figure, axes = plot(6.4, 3.8)
    for number, (layer, (stability, right)) in enumerate(curves.items()):
        coverage, risk = curve(stability, right)
        colour, _, dash = style(number)
        axes.step(coverage, risk, where="post", color=colour, linestyle=dash, linewidth=2, label=cut(layer, WIDEST))
    axes.axhline(20, color="#8a8f98", linewidth=0.8)
    axes.set(xlim=(0, 100), ylim=(0, 101), xlabel="coverage: units, the most stable first, %", ylabel="wrong labels, %")
    _finished(axes, legend="upper left")
    return figure


def known_stability(
    labels: Labels,
) -> tuple[Float[np.ndarray, " judged"], Bool[np.ndarray, " judged"]] | None:
    """Stability and verdict of the units that have both; None where no unit has."""
    if labels.ranks is None or labels.stability is None:
        return None
    known = ~np.isnan(labels.ranks) & ~np.isnan(labels.stability)
    return (labels.stability[known], labels.ranks[known] == 1) if known.any() else None


def _finished(axes: "Axes", *, legend: Literal["lower right", "upper left"]) -> None:
    axes.minorticks_off()
    axes.grid(color=GRID, linewidth=0.8)
    for text in axes.legend(frameon=False, loc=legend).get_texts():
        text.set_parse_math(False)
