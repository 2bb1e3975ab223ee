"""The qualitative figure: units, their labels and the images that excite them most."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import PIL.Image

from cd_exp.io.text import cut
from cd_exp.pictures import rendered, strip
from cd_exp.records import Probe
from cd_exp.report.summary import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150
COLUMNS = 3
# In pixels, as all lengths here.
SIZE = 108  # of a picture
GAP = 39  # between cards
WORDS = 51  # height of the two lines above the pictures
GREY = "#5b6168"
MARKS = {True: ("✓ ", "#00694e"), False: ("✗ ", "#a33c00"), None: ("", "#1c1e21")}


def grid(probe: Probe, shown: Sequence[Shown]) -> PIL.Image.Image:
    """A card for each unit: label, unit and truth above the images that excite it most, the strongest first."""
    from matplotlib.figure import Figure

    pictures = max(3, *(len(unit.images) for unit in shown))  # fewer leave no room for the words
    width, height = pictures * (SIZE + 4) + GAP, SIZE + WORDS + GAP
    across, down = min(COLUMNS, len(shown)) * width + GAP, -(-len(shown) // COLUMNS) * height + GAP
    corners = [(GAP + n % COLUMNS * width, GAP + n // COLUMNS * height) for n in range(len(shown))]
    figure = Figure(figsize=(across / DPI, down / DPI), dpi=DPI)
    for unit, (left, top) in zip(shown, corners, strict=True):
        _words(figure, unit, left=left / across, top=1 - top / down, below=25 / down, room=width - GAP)
    canvas = rendered(figure)  # words alone: drawn by matplotlib, the pictures take ten times as long
    for unit, (left, top) in zip(shown, corners, strict=True):
        if unit.images:
            canvas.paste(strip(probe, unit.images, SIZE, gap=4), (left, top + WORDS))
    return canvas


def _words(figure: "Figure", unit: Shown, *, left: float, top: float, below: float, room: int) -> None:
    mark, colour = MARKS[unit.right]
    label = mark + (unit.description or "(none)")
    about = f"{unit.layer} {unit.unit}" + (f" · truth: {unit.truth}" if unit.truth else "")
    heading, below_it = cut(label, _room(9.0, room)), cut(about, _room(7.5, room))
    figure.text(left, top, heading, fontsize=9, va="top", color=colour, weight="bold", parse_math=False)
    figure.text(left, top - below, below_it, fontsize=7.5, va="top", color=GREY, parse_math=False)


def _room(size: float, width: int) -> int:
    """How many characters go into so many pixels: a letter is about 0.62 of its size wide."""
    return int(width / (0.62 * size * DPI / 72))
