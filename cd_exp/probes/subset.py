"""A part of any probe set."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from cd_exp.errors import InputError
from cd_exp.probes.fingerprints import fingerprint
from cd_exp.probes.id_lists import Chosen
from cd_exp.probes.looks import values_of
from cd_exp.probes.pictures import Values
from cd_exp.types import Probe, Segmentation, has_pictures

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class Subset:
    """Some images of a set, in the order of their indices in it."""

    probe: Any  # Probe; checked against the protocol it would compute its fingerprint
    rows: Int[np.ndarray, " images"]

    @property
    def name(self) -> str:
        """The set's own name."""
        return self.probe.name

    @cached_property
    def ids(self) -> Sequence[str]:
        """Those of the set."""
        return Chosen(self.probe.ids, self.rows)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of these images alone where the set can tell, else of the set and of what was chosen."""
        if hasattr(self.probe, "fingerprint_of"):
            return self.probe.fingerprint_of(self.rows.tolist())
        return fingerprint([self.probe.fingerprint], str(self.rows.tolist()))

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes of the set."""
        return tuple(getattr(self.probe, "notes", ()))

    @cached_property
    def image_classes(self) -> Sequence[str] | None:
        """The class of each of these images, where the set knows it."""
        own = getattr(self.probe, "image_classes", None)
        return None if own is None else [own[row] for row in self.rows.tolist()]

    @property
    def ids_only(self) -> bool:
        """Whether the set's images cannot be opened."""
        return not has_pictures(self.probe)

    @property
    def reading(self) -> Any:
        """How the set's pictures become RGB; None where they are not encoded."""
        return getattr(self.probe, "reading", None)

    def values(self, index: int) -> Values | None:
        """What numbers an encoded picture holds."""
        return values_of(self.probe, int(self.rows[index]))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> "Image":
        """The picture as RGB; raises OSError where it cannot be read."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.probe[int(self.rows[index])]


@dataclass(frozen=True, eq=False)
class AnnotatedSubset(Subset):
    """The same with the masks of these images."""

    @property
    def concepts(self) -> Sequence[str]:
        """The annotated concepts, by number: all of the set's, whether or not these images show them."""
        return self.probe.concepts

    @property
    def categories(self) -> Sequence[str]:
        """The category of each concept."""
        return self.probe.categories

    def segmentation(self, index: int) -> Segmentation:
        """The masks of one image."""
        return self.probe.segmentation(int(self.rows[index]))


def subset(probe: Probe, *, limit: int | None, seed: int | None = None) -> Probe:
    """At most so many images of a set; the set itself where it has no more.

    Args:
        probe: the set.
        limit: how many to take at most; None takes all.
        seed: None takes the first ones, a number draws them at random.

    Raises:
        InputError: the limit leaves no image.
    """
    if limit is not None and limit < 1:
        raise InputError(f"probe.limit={limit} leaves no image; give a number of images, or null for all")
    if limit is None or limit >= len(probe):
        return probe
    if seed is None:
        rows = np.arange(limit)
    else:
        rows = np.sort(np.random.default_rng(seed).choice(len(probe), limit, replace=False))
    return AnnotatedSubset(probe, rows) if hasattr(probe, "segmentation") else Subset(probe, rows)
