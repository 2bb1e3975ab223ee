"""The pixel counts of one layer, the labels they give, and the table in the published columns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cd_exp.io.text import format_csv
from cd_exp.labels import Columns, label_layer
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
    categories: tuple[str, ...]  # one for each concept
    threshold: Float[Tensor, " neurons"]
    exceeding: Float[Tensor, " neurons"]
    truth: Int[Tensor, " concepts"]
    activation: Int[Tensor, "neurons category_of_units"]
    intersection: Int[Tensor, "neurons concepts"]
    min_iou: float = 0.04
    size: tuple[int, int] = (1, 1)  # positions of a map, down and along

    @property
    def kinds(self) -> tuple[str, ...]:
        """The categories, each once."""
        return category_of_units(self.categories)

    @cached_property
    def iou(self) -> Float[Tensor, "neurons concepts"]:
        """Intersection over union of every unit and concept; 0 where there is nothing to unite."""
        column = torch.tensor([self.kinds.index(category) for category in self.categories], dtype=torch.long)
        union = self.activation[:, column] + self.truth - self.intersection
        return self.intersection / union.clamp(min=1).double()


def category_of_units(categories: Sequence[str]) -> tuple[str, ...]:
    """The categories, each once: those of Broden in the published order, then others as they first appear."""
    return tuple(dict.fromkeys([*(name for name in PUBLISHED_ORDER if name in categories), *categories]))


def label_from_tally(
    tally: Tally, layer: str, *, accepted: Sequence[Columns] = (), truth: Sequence[Accepted] = (), keep: int = 5
) -> Labels:
    """Each unit's `keep` best concepts by IoU, the lower-numbered first among equals.

    A concept that a unit never touches is not among them, so a unit may have fewer, or none: its truth then ranks last.
    A unit that is no detector (`count_detectors`) keeps its label and is marked `below_min_iou`.

    Args:
        tally: the counts of one layer.
        layer: the name that the labels carry.
        accepted: for each unit the concepts, by number, that are right; none, no ranks (as
            `cd_exp.labels.label_layer`).
        truth: the names that are right, kept with the labels.
        keep: how many concepts to keep.
    """
    ranked = label_layer(tally.iou, tally.concepts, layer=layer, accepted=accepted, truth=truth, k=keep)
    marks = tuple(frozenset[str]() if detects else frozenset(("below_min_iou",)) for detects in count_detectors(tally))
    touched = (tally.iou > 0).sum(1).tolist()
    top = tuple(names[:some] for names, some in zip(ranked.top, touched, strict=True))
    if ranked.ranks is not None:
        silent = (np.array(touched) == 0) & ~np.isnan(ranked.ranks)
        return replace(ranked, top=top, marks=marks, ranks=np.where(silent, float(len(tally.concepts)), ranked.ranks))
    return replace(ranked, top=top, marks=marks)


def count_detectors(tally: Tally) -> Bool[np.ndarray, " neurons"]:
    """Which units detect their best concept: those with an IoU of at least `tally.min_iou`."""
    return (tally.iou.amax(1) >= tally.min_iou).numpy()


COLUMNS = ("label", "truth", "activation", "intersect", "iou")


def format_tally(tally: Tally) -> str:
    """CSV text with a row for each unit: number, category, label and score, then the best concept of each category.

    Units count from 1, as published. A unit or category without any overlap has an empty label and no pixels in common,
    where the published tables name the first concept of all.
    """
    fields = ["unit", "category", "label", "score"] + [f"{kind}-{column}" for kind in tally.kinds for column in COLUMNS]
    return format_csv([fields, *_tally_rows(tally)])


def _tally_rows(tally: Tally) -> Iterator[list[str]]:
    scores, best = tally.iou.max(1)  # the first of equals, as `labels` has it
    by_kind = [_best_of(tally, kind) for kind in tally.kinds]
    for unit, (concept, score) in enumerate(zip(best.tolist(), scores.tolist(), strict=True)):
        category, label = (tally.categories[concept], tally.concepts[concept]) if score else ("", "")
        row = [str(unit + 1), category, label, f"{score:.9g}"]
        yield row + [cell for cells in by_kind for cell in cells[unit]]


def _best_of(tally: Tally, kind: str) -> list[tuple[str, ...]]:
    """The cells of one category, for each unit."""
    members = torch.tensor([number for number, category in enumerate(tally.categories) if category == kind])
    scores, order = tally.iou[:, members].max(1)
    column = tally.kinds.index(kind)
    cells: list[tuple[str, ...]] = []
    for unit, (concept, score) in enumerate(zip(members[order].tolist(), scores.tolist(), strict=True)):
        label, truth = (tally.concepts[concept], int(tally.truth[concept])) if score else ("", 0)
        area, both = int(tally.activation[unit, column]), int(tally.intersection[unit, concept])
        cells.append((label, str(truth), str(area), str(both), f"{score:.9g}"))
    return cells
