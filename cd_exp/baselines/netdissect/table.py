"""A tally as a table, in the columns that the published ones have."""

from collections.abc import Iterator

import torch

from cd_exp.baselines.netdissect.tally import Tally
from cd_exp.io.text import csv_text

COLUMNS = ("label", "truth", "activation", "intersect", "iou")


def as_table(tally: Tally) -> str:
    """CSV text with a row for each unit: number, category, label and score, then the best concept of each category.

    Units count from 1, as published. A unit or category without any overlap has an empty label and no pixels in common,
    where the published tables name the first concept of all.
    """
    fields = ["unit", "category", "label", "score"] + [f"{kind}-{column}" for kind in tally.kinds for column in COLUMNS]
    return csv_text([fields, *_rows(tally)])


def _rows(tally: Tally) -> Iterator[list[str]]:
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
