"""The pixel counts of one layer, and the labels they give."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cd_exp.labels import Columns, label
from cd_exp.records import Accepted, Labels

PUBLISHED_ORDER = ("color", "object", "part", "material", "scene", "texture")
"""The categories of Broden in the order of the published tables."""


@dataclass(frozen=True, eq=False)
class Tally:
    """What Network Dissection counted in one layer, in pixels summed over the probe images.

    `activation[u, k]` are the active pixels of unit u on images that carry a concept of category `kinds[k]`, since an
    image without annotations of a category says nothing about it. `exceeding` is the share of positions where the
    activation was counted above the threshold: the quantile asked for, to within the histogram's error, where that was
    taken over positions.
    """

    concepts: tuple[str, ...]
    categories: tuple[str, ...]  # of each concept
    threshold: Float[Tensor, " neurons"]
    exceeding: Float[Tensor, " neurons"]
    truth: Int[Tensor, " concepts"]
    activation: Int[Tensor, "neurons kinds"]
    intersection: Int[Tensor, "neurons concepts"]
    min_iou: float = 0.04
    size: tuple[int, int] = (1, 1)  # positions of a map, down and along

    @property
    def kinds(self) -> tuple[str, ...]:
        """The categories, each once."""
        return kinds(self.categories)

    @cached_property
    def iou(self) -> Float[Tensor, "neurons concepts"]:
        """Intersection over union of every unit and concept; 0 where there is nothing to unite."""
        column = torch.tensor([self.kinds.index(category) for category in self.categories], dtype=torch.long)
        union = self.activation[:, column] + self.truth - self.intersection
        return self.intersection / union.clamp(min=1).double()


def kinds(categories: Sequence[str]) -> tuple[str, ...]:
    """The categories, each once: those of Broden in the published order, then others as they first appear."""
    return tuple(dict.fromkeys([*(name for name in PUBLISHED_ORDER if name in categories), *categories]))


def labels(
    tally: Tally, layer: str, *, accepted: Sequence[Columns] = (), truth: Sequence[Accepted] = (), keep: int = 5
) -> Labels:
    """Each unit's `keep` best concepts by IoU, the lower-numbered first among equals.

    A concept that a unit never touches is not among them, so a unit may have fewer, or none: its truth then ranks last.
    A unit that is no detector (`detectors`) keeps its label and is marked `below_min_iou`.

    Args:
        tally: the counts of one layer.
        layer: the name that the labels carry.
        accepted: for each unit the concepts, by number, that are right; none, no ranks (as `cd_exp.labels.label`).
        truth: the names that are right, kept with the labels.
        keep: how many concepts to keep.
    """
    ranked = label(tally.iou, tally.concepts, layer=layer, accepted=accepted, truth=truth, k=keep)
    marks = tuple(frozenset[str]() if detects else frozenset(("below_min_iou",)) for detects in detectors(tally))
    touched = (tally.iou > 0).sum(1).tolist()
    top = tuple(names[:some] for names, some in zip(ranked.top, touched, strict=True))
    if ranked.ranks is not None:
        silent = (np.array(touched) == 0) & ~np.isnan(ranked.ranks)
        return replace(ranked, top=top, marks=marks, ranks=np.where(silent, float(len(tally.concepts)), ranked.ranks))
    return replace(ranked, top=top, marks=marks)


def detectors(tally: Tally) -> Bool[np.ndarray, " neurons"]:
    """Which units detect their best concept: those with an IoU of at least `tally.min_iou`."""
    return (tally.iou.amax(1) >= tally.min_iou).numpy()
