"""Whatever is made of the images of other probe sets: a part of one, several as one."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int

from cd_exp.probes.pictures import Reading, Values
from cd_exp.records import Probe, Renderer, Segmentation

if TYPE_CHECKING:
    from PIL.Image import Image


class Wrapper(Probe):
    """A probe set of other sets' images. It knows of each image all that the image's own set knows.

    Concepts of the same name and category are one. An image of a set without masks carries no concept at all, and
    Network Dissection counts an image only for the categories of the concepts it carries.
    """

    @property
    @abstractmethod
    def members(self) -> Sequence[Probe]:
        """The sets."""

    @abstractmethod
    def member(self, index: int) -> tuple[int, int]:
        """The number of the set that holds an image, and the image's index in it; raises IndexError."""

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes of the sets."""
        return tuple(note for member in self.members for note in member.notes)

    @property
    def ids_only(self) -> bool:
        """Whether images of a set cannot be opened."""
        return any(member.ids_only for member in self.members)

    @cached_property
    def image_classes(self) -> Sequence[str] | None:
        """The class of each image, where all of the sets know it."""
        each = [member.image_classes for member in self.members]
        if any(classes is None for classes in each):
            return None
        return [(each[number] or ())[inside] for number, inside in map(self.member, range(len(self)))]

    @cached_property
    def _numbers(self) -> dict[tuple[str, str], int]:
        """The number of each concept by name and category, in the order in which the sets bring them."""
        pairs = (pair for member in self.members for pair in zip(member.concepts, member.categories, strict=True))
        return {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}

    @property
    def concepts(self) -> Sequence[str]:
        """The annotated concepts, by number: all of the sets', whether or not these images show them."""
        return self.members[0].concepts if len(self.members) == 1 else tuple(name for name, _ in self._numbers)

    @property
    def categories(self) -> Sequence[str]:
        """The category of each concept."""
        return self.members[0].categories if len(self.members) == 1 else tuple(kind for _, kind in self._numbers)

    @property
    def has_masks(self) -> bool:
        """Whether a set has masks."""
        return any(member.has_masks for member in self.members)

    @cached_property
    def _renumbered(self) -> tuple[Int[np.ndarray, " own"], ...]:
        """Of each set's own concepts, the numbers here; the last entry is -1, for none."""
        return tuple(
            np.array(
                [*(self._numbers[pair] for pair in zip(member.concepts, member.categories, strict=True)), -1], np.int32
            )
            for member in self.members
        )

    def segmentation(self, index: int) -> Segmentation:
        """The masks of one image; none at all in a set without masks."""
        number, inside = self.member(index)
        masks = self.members[number].segmentation(inside)
        if len(self.members) == 1:
            return masks
        numbers = self._renumbered[number]
        return Segmentation(numbers[masks.maps], tuple(int(numbers[concept]) for concept in masks.whole))

    @property
    def knows_what_is_shown(self) -> bool:
        """Whether every set does."""
        return all(member.knows_what_is_shown for member in self.members)

    def shows(self, name: str, indices: Sequence[int]) -> Bool[np.ndarray, " images"] | None:
        """Whether each of these images shows what a name says; None where no set knows anything of the name."""
        answers = np.zeros(len(indices), dtype=bool)
        known = False
        for number, places, inside in self._by_member(indices):
            of_member = self.members[number].shows(name, inside)
            if of_member is not None:
                answers[places], known = of_member, True
        return answers if known else None

    @property
    def renderer(self) -> Renderer | None:
        """That of the sets, where they all have the same."""
        each = {member.renderer for member in self.members}
        return each.pop() if len(each) == 1 else None

    @property
    def reading(self) -> Reading | None:
        """How pictures become RGB, where any of the sets has encoded ones."""
        return next((member.reading for member in self.members if member.reading is not None), None)

    def values(self, index: int) -> Values | None:
        """What numbers an encoded picture holds."""
        number, inside = self.member(index)
        return self.members[number].values(inside)

    def digests(self, rows: Sequence[int]) -> Iterator[str]:
        """The hash of each of these images' content, as the set of each gives it."""
        by_place: dict[int, str] = {}
        for number, places, inside in self._by_member(rows):
            by_place |= zip(places, self.members[number].digests(inside), strict=True)
        return (by_place[place] for place in range(len(rows)))

    def __getitem__(self, index: int) -> "Image":
        """The picture as RGB; raises OSError where it cannot be read."""
        number, inside = self.member(index)
        return self.members[number][inside]

    def _by_member(self, indices: Sequence[int]) -> Iterator[tuple[int, list[int], list[int]]]:
        """Of each set that holds some of the images: its number, their rows in `indices`, and their rows in the set."""
        split: dict[int, tuple[list[int], list[int]]] = {}
        for place, index in enumerate(indices):
            number, inside = self.member(int(index))
            places, own = split.setdefault(number, ([], []))
            places.append(place)
            own.append(inside)
        yield from ((number, places, own) for number, (places, own) in split.items())
