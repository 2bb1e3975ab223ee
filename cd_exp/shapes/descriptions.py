"""What is in a scene, in words and pixels: exact masks, captions, and whether a name applies."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cd_exp.shapes.lexicon import ATTRIBUTES, BACKGROUNDS, CLASSES, COLOURS, EVERYDAY, SHAPES, TEXTURES
from cd_exp.shapes.render import KINDS, Scene

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


def segment_scene(scene: Scene) -> "Segmentation":
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


OPENINGS = ("an image of", "a picture of", "a photo of", "this is", "here is", "look at")
FILLERS = tuple(dict.fromkeys(" ".join((*OPENINGS, "a an the on")).split()))
"""The words of captions that say nothing of the image."""

UNRELATED = 0.06  # the share of captions that have nothing to do with their image
MADE_UP = 0.25  # and of these, the share that are no words at all


def caption_scene(scene: "Scene", rng: np.random.Generator) -> str:
    """One caption of a scene, naming one to four of its attributes (rarely none: captions of the web err too).

    The shorter captions are concepts as the concept set writes them: `red`, `red circle`, `striped circle`,
    `red on bricks`. Unrelated captions teach the text tower that everyday words, and letters, say nothing here.
    """
    if rng.random() < UNRELATED:
        return _unrelated_caption(rng)
    named = rng.random(4) < (0.45, 0.7, 0.75, 0.35)
    if not named.any():
        named[rng.integers(4)] = True
    words = [
        *([TEXTURES[scene.texture]] if named[0] else []),
        *([COLOURS[scene.colour]] if named[1] else []),
        *([SHAPES[scene.shape]] if named[2] else []),
    ]
    background = BACKGROUNDS[scene.background] if named[3] else ""
    if not words:
        return background
    text = " ".join(words) + (f" on {background}" if background else "")
    return _word_caption(text, rng) if named[2] else text


def _word_caption(text: str, rng: np.random.Generator) -> str:
    """Half of the time the bare words, else with an article, and sometimes an opening."""
    style = rng.random()
    if style < 0.5:
        return text
    text = ("an " if text[0] in "aeiou" else "a ") + text
    return text if style < 0.75 else f"{OPENINGS[rng.integers(len(OPENINGS))]} {text}"


def _unrelated_caption(rng: np.random.Generator) -> str:
    if rng.random() < MADE_UP:
        return "".join(chr(ord("a") + letter) for letter in rng.integers(26, size=rng.integers(2, 11)))
    words = " ".join(EVERYDAY[word] for word in rng.integers(len(EVERYDAY), size=rng.integers(1, 3)))
    return _word_caption(words, rng)


_SAYS_NOTHING = frozenset({"a", "an", "the", "on"})
_ATTRIBUTES = {name: (kind, number) for kind, names in KINDS.items() for number, name in enumerate(names)}


def named_attributes(name: str) -> dict[str, int] | None:
    """The attributes that a name consists of (keys of `KINDS`); None where a word is none, or two are of one kind.

    >>> named_attributes("striped circle on waves")
    {'texture': 1, 'shape': 0, 'background': 1}
    >>> named_attributes("red octagon") is None
    True
    """
    attributes: dict[str, int] = {}
    words = [word for word in name.lower().split() if word not in _SAYS_NOTHING]
    for word in words:
        kind, number = _ATTRIBUTES.get(word, ("", -1))
        if not kind or kind in attributes:
            return None
        attributes[kind] = number
    return attributes or None


def shows_name(figures: Sequence[Mapping[str, int]], attributes: Mapping[str, int]) -> bool:
    """Whether one figure of a scene (`cd_exp.shapes.draw_scene`) has all of these attributes."""
    return any(all(figure[kind] == number for kind, number in attributes.items()) for figure in figures)
