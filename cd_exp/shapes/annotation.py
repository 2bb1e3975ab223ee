"""The exact pixel masks of a scene, for Network Dissection."""

from typing import TYPE_CHECKING

import numpy as np

from cd_exp.shapes.lexicon import ATTRIBUTES, BACKGROUNDS, CLASSES, COLOURS, SHAPES, TEXTURES
from cd_exp.shapes.render import Scene

if TYPE_CHECKING:
    from cd_exp.records import Segmentation

ANNOTATED = (*ATTRIBUTES, *CLASSES)
"""The concepts that have masks, by number."""

CATEGORIES = (
    ("color",) * len(COLOURS)
    + ("object",) * len(SHAPES)
    + ("texture",) * len(TEXTURES)
    + ("scene",) * len(BACKGROUNDS)
    + ("class",) * len(CLASSES)
)
"""The category of each of `ANNOTATED`, in the names Broden uses, and `class` for a shape of one colour."""


def segmentation(scene: Scene) -> "Segmentation":
    """The masks of the attributes and the class of each figure of a scene.

    Colour, shape, texture and class hold on a figure's pixels (at least half covered), the background on all others.

    Returns:
        Five maps of the scene's size, of numbers into `ANNOTATED`; -1 where the concept is not.
    """
    from cd_exp.records import Segmentation  # needs torch, which rendering does not

    maps = np.full((5, *scene.mask.shape), -1, dtype=np.int32)
    maps[4] = scene.attributes[-1]
    for figure in scene.figures:
        numbers = (
            figure.colour,
            len(COLOURS) + figure.shape,
            len(COLOURS + SHAPES) + figure.texture,
            len(ATTRIBUTES) + figure.label,
            -1,
        )
        maps[:, figure.mask] = np.array(numbers)[:, None]
    return Segmentation(maps)
