"""What every figure is drawn with: colours, marks and dashes, and one plot apart from pyplot.

Colours are those of Okabe and Ito, which stay apart for colour-blind readers; what colour says is also said by words,
marks or places. Importing this costs no matplotlib.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", ":", "-.")
MARKERS = "osD^vP*"
GRID = "#e4e4e4"
RIGHT, WRONG, CONSENSUS, OTHER = "#0072B2", "#F3D9B1", "#8FB8DE", "#F1F1F1"
"""Squares of labels: with a truth right and wrong ones, without it the most common label and the others."""

WIDEST = 34  # characters of a name that a figure has room for
TALLEST = 100  # inches, either way: a figure of a thousand rows is still a picture


def style(number: int) -> tuple[str, str, str]:
    """The colour, marker and dash of the n-th of several lines: all colours before the next marker and dash."""
    turn = number // len(COLOURS)
    return COLOURS[number % len(COLOURS)], MARKERS[turn % len(MARKERS)], DASHES[turn % len(DASHES)]


def plot(width: float, height: float) -> tuple["Figure", "Axes"]:
    """A figure of `width` x `height` inches with one plot, not registered with pyplot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(min(width, TALLEST), min(height, TALLEST)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    return figure, axes
