"""Several probe sets as one."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
from jaxtyping import Int
from PIL.Image import Image

from cd_exp.errors import InputError
from cd_exp.probes.fingerprints import fingerprint
from cd_exp.probes.id_lists import Joined
from cd_exp.probes.looks import values_of
from cd_exp.probes.pictures import Values
from cd_exp.types import Probe, Segmentation, has_pictures


@dataclass(frozen=True, eq=False)
class Concat:
    """The images of several sets, one set after the other."""

    name: str
    probes: tuple[Any, ...]  # Probe; checked against the protocol they would compute their fingerprints

    @cached_property
    def ids(self) -> Sequence[str]:
        """The sets' own ids where these differ; otherwise each behind its set's number and name."""
        parts = [probe.ids for probe in self.probes]
        plain = Joined(parts, [""] * len(parts))
        if len(set(plain)) == len(plain):
            return plain
        return Joined(parts, [f"{number}-{probe.name}/" for number, probe in enumerate(self.probes)])

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the sets' fingerprints and their order."""
        return fingerprint(probe.fingerprint for probe in self.probes)

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes of the sets."""
        return tuple(note for probe in self.probes for note in getattr(probe, "notes", ()))

    @cached_property
    def image_classes(self) -> Sequence[str] | None:
        """The class of each image, where all of the sets know it."""
        each = [getattr(probe, "image_classes", None) for probe in self.probes]
        return None if any(own is None for own in each) else [name for own in each for name in own or ()]

    @property
    def ids_only(self) -> bool:
        """Whether images of a set cannot be opened."""
        return not all(has_pictures(probe) for probe in self.probes)

    @property
    def reading(self) -> Any:
        """How pictures become RGB, where any of the sets has encoded ones."""
        return next((probe.reading for probe in self.probes if getattr(probe, "reading", None) is not None), None)

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """The number of images up to the end of each set."""
        return tuple(accumulate(len(probe) for probe in self.probes))

    def member(self, index: int) -> tuple[int, int]:
        """The number of the set that holds an image, and the image's index in it."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect_right(self.ends, index)
        return number, index - (self.ends[number - 1] if number else 0)

    def values(self, index: int) -> Values | None:
        """What numbers an encoded picture holds."""
        number, inside = self.member(index)
        return values_of(self.probes[number], inside)

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> Image:
        """The picture as RGB; raises OSError where it cannot be read."""
        number, inside = self.member(index)
        return self.probes[number][inside]


@dataclass(frozen=True, eq=False)
class AnnotatedConcat(Concat):
    """The same where some of the sets have masks.

    Concepts of the same name and category are one. An image of a set without masks carries no concept at all, and
    Network Dissection counts an image only for the categories of the concepts it carries.
    """

    @cached_property
    def _named(self) -> dict[tuple[str, str], int]:
        """The number of each concept by name and category, in the order in which the sets bring them."""
        each = (
            pair
            for probe in self.probes
            if hasattr(probe, "segmentation")
            for pair in zip(probe.concepts, probe.categories, strict=True)
        )
        return {pair: number for number, pair in enumerate(dict.fromkeys(each))}

    @property
    def concepts(self) -> tuple[str, ...]:
        """The annotated concepts, by number."""
        return tuple(name for name, _ in self._named)

    @property
    def categories(self) -> tuple[str, ...]:
        """The category of each concept."""
        return tuple(category for _, category in self._named)

    @cached_property
    def _numbers(self) -> tuple[Int[np.ndarray, " own"] | None, ...]:
        """Of each set's own concepts, the numbers here; the last entry is -1, for none."""
        return tuple(
            np.array([*(self._named[pair] for pair in zip(p.concepts, p.categories, strict=True)), -1], np.int32)
            if hasattr(p, "segmentation")
            else None
            for p in self.probes
        )

    def segmentation(self, index: int) -> Segmentation:
        """The masks of one image; none at all in a set without masks."""
        number, inside = self.member(index)
        numbers = self._numbers[number]
        if numbers is None:
            return Segmentation(np.zeros((0, 1, 1), np.int32))
        own = self.probes[number].segmentation(inside)
        return Segmentation(numbers[own.maps], tuple(int(numbers[concept]) for concept in own.whole))


def concat(*, probes: Mapping[str, Probe] | Sequence[Probe]) -> Concat:
    """Joins probe sets; the result has masks where one of them has.

    Args:
        probes: the sets, as a list or by any names; a mapping lets the command line reach into one of them.

    Raises:
        InputError: there is none.
    """
    members = tuple(probes.values() if isinstance(probes, Mapping) else probes)
    if not members:
        raise InputError("probe.probes names no probe set; concat needs at least one")
    kind = AnnotatedConcat if any(hasattr(member, "segmentation") for member in members) else Concat
    return kind("+".join(member.name for member in members), members)
