"""The built-in synthetic data set's own images, rendered when they are asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool
from PIL import Image

import cd_exp.shapes as world
from cd_exp.errors import InputError
from cd_exp.probes.hashing import fingerprint_images
from cd_exp.probes.image_files import NumberedIds
from cd_exp.records import Probe, Renderer, Segmentation


@dataclass(frozen=True, eq=False)
class Shapes(Probe):
    """Rendered scenes with exact masks of every attribute."""

    size: int
    seed: int
    objects: int = 1
    name: str = "shapes"
    concepts: tuple[str, ...] = field(default=world.ANNOTATED, repr=False)
    categories: tuple[str, ...] = field(default=world.CATEGORIES, repr=False)

    @cached_property
    def ids(self) -> Sequence[str]:
        """Seed and number of each scene, and how many figures it has where these are two."""
        return NumberedIds(f"{self.seed}/", self.size, "" if self.objects == 1 else f"/{self.objects}")

    def digests(self, rows: Sequence[int]) -> Iterator[str]:
        """What decides the content of each of these scenes."""
        made = world.shapes_fingerprint()
        return (f"{made}/{self.ids[row]}" for row in rows)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the renderer and of what is rendered."""
        several = [] if self.objects == 1 else [f"{self.objects} objects"]
        return fingerprint_images([world.shapes_fingerprint(), str(self.size), str(self.seed), *several])

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Image.Image:
        """The image as RGB."""
        if not 0 <= index < self.size:
            raise IndexError(index)
        return Image.fromarray(self.scene(index).pixels)

    def scene(self, index: int) -> world.Scene:
        """One scene with the truth about it."""
        return world.make_scene(index, seed=self.seed, objects=self.objects)

    @property
    def has_masks(self) -> bool:
        """Exact ones, of every image."""
        return True

    @property
    def knows_what_is_shown(self) -> bool:
        """What was drawn for every image."""
        return True

    @property
    def renderer(self) -> Renderer:
        """The world's, with as many figures in a scene."""
        return Renderer(self.objects)

    def segmentation(self, index: int) -> Segmentation:
        """The exact masks of one image."""
        return world.segment_scene(self.scene(index))

    def shows(self, name: str, indices: Sequence[int]) -> Bool[np.ndarray, " images"] | None:
        """Whether each scene shows what a name says, one figure all of it; None where it says what is never drawn."""
        attributes = world.named_attributes(name)
        if attributes is None:
            return None
        drawn = (world.draw_scene(index, seed=self.seed, objects=self.objects) for index in indices)
        return np.array([world.shows_name(figures, attributes) for figures in drawn])


def shapes(*, size: int = world.PROBE_SIZE, seed: int = world.PROBE_SEED, objects: int = 1) -> Shapes:
    """The first `size` scenes of a seed.

    Args:
        size: how many.
        seed: the default is apart from those the embedded networks were trained on.
        objects: figures in a scene, 1 or 2; the embedded networks were trained on scenes of one.

    Raises:
        InputError: the size leaves no image, or another number of objects.
    """
    if size < 1:
        raise InputError(f"probe.size={size} leaves no image; give a number of images")
    if objects not in (1, 2):
        raise InputError(f"probe.objects={objects} cannot be drawn; a scene has 1 object or 2")
    return Shapes(size, seed, objects)
