"""INVERT: the formula of annotated concepts, of AND, OR and NOT, that tells best where a unit is active."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cd_exp.dissection import RunData
from cd_exp.errors import InputError, unknown_name_error
from cd_exp.evaluation.baselines.method import Method, MethodResult
from cd_exp.evaluation.judges import held_out_split, list_base_concepts, predict_values, read_image_classes
from cd_exp.io.text import format_csv, make_file_name
from cd_exp.records import Labels, Probe

OTHER_PART = 0.2
"""Of the images: not searched on, so that the p-value of a formula means something."""
LEVEL = 0.05
VALUES = 2**26
"""Of masks in memory at a time: units are searched in blocks."""


@dataclass(frozen=True)
class Formula:
    """A formula, read from left to right, with its AUC and how many images it holds for."""

    text: str
    auc: float
    images: int


@dataclass(frozen=True)
class Invert(Method):
    """Settings of `baseline=invert`.

    Args:
        length: the most concepts in a formula.
        beam: how many formulas of each length are built upon.
        categories: of the concepts to build from; by default all of the probe's.
        min_share: the smallest share of images that a formula may hold for.
        max_share: the largest.

    Raises:
        InputError: for a setting out of its range.

    Source: Bykov et al., NeurIPS 2023 (arXiv:2311.13594).
    """

    length: int = 2
    beam: int = 5
    categories: Sequence[str] | None = None
    min_share: float = 0.002
    max_share: float = 0.5

    def __post_init__(self) -> None:
        if self.length < 1 or self.beam < 1:
            raise InputError(f"baseline.length={self.length} and baseline.beam={self.beam} must be at least 1")
        if not 0 <= self.min_share < self.max_share <= 1:
            raise InputError(
                f"baseline.min_share={self.min_share} and baseline.max_share={self.max_share}: shares of the images, "
                "the first smaller (0.002 and 0.5)"
            )

    @property
    def reads_activations(self) -> bool:
        """Yes: each unit's strongest images alone are not enough."""
        return True

    def check(self, probe: Probe) -> None:
        """Refuse a probe that has neither masks nor classes."""
        if not probe.has_masks:
            read_image_classes(probe)

    def __call__(self, run: RunData) -> MethodResult:
        """The best formulas of every unit, best first, and a file with their AUC and p on images not searched on."""
        indices = [int(index) for index in run.features.kept]
        names, present = self._atoms(run, indices)
        searched, other = held_out_split(
            run.probe, indices, store=run.store, seed=run.seed + 1, share=OTHER_PART
        )  # not the judge's division: this method sees one part of that
        labels, files, notes = {}, {}, []
        for layer in run.features.layers:
            activations = run.features.activations[layer]
            best = search_formulas(
                activations[searched],
                present[searched],
                names,
                length=self.length,
                beam=self.beam,
                shares=(self.min_share, self.max_share),
            )
            truth = run.labels[layer].truth
            labels[layer] = Labels(
                layer=layer,
                units=np.arange(len(best)),
                top=tuple(tuple(formula.text for formula in formulas) for formulas in best),
                similarity=np.array([formulas[0].auc if formulas else np.nan for formulas in best]),
                truth=truth,
                candidates=len(names),
            )
            significance = auc_significance(
                [formulas[0].text if formulas else "" for formulas in best], activations[other], present[other], names
            )
            files[f"invert_{make_file_name(layer)}.csv"] = _format_table(best, significance, len(searched))
            doubtful = sum(not (row[2] < LEVEL) for row in significance)
            if doubtful:
                notes.append(f"invert: for {doubtful} of {len(best)} units of {layer} q is not below {LEVEL}")
        return MethodResult(labels, files, tuple(notes))

    def _atoms(
        self, run: RunData, indices: Sequence[int]
    ) -> tuple[tuple[str, ...], Bool[Tensor, "images list_base_concepts"]]:
        names, categories, present = list_base_concepts(run.probe, indices)
        for category in self.categories or ():
            if category not in categories:
                raise unknown_name_error(
                    "baseline.categories", category, set(categories), where=f"in probe {run.probe.name}"
                )
        wanted = [
            column
            for column, base_category in enumerate(categories)
            if self.categories is None or base_category in self.categories
        ]
        return tuple(names[column] for column in wanted), torch.from_numpy(present[:, wanted])


def search_formulas(
    activations: Float[Tensor, "images neurons"],
    present: Bool[Tensor, "images list_base_concepts"],
    names: Sequence[str],
    *,
    length: int,
    beam: int,
    shares: tuple[float, float],
    kept: int = 5,
) -> list[tuple[Formula, ...]]:
    """The best formulas of each unit by the AUC of its activations for where the formula holds.

    AUC = 1/2 + sum of centred ranks where it holds / (images where it holds x the others). The activations are ranked
    once (equal ones share their mean rank), and a beam's formulas meet all atoms in one matrix product: the sums for
    OR and NOT follow from those for AND.

    Args:
        activations: of the units.
        present: which images have which atom.
        names: of the atoms.
        length: the most atoms in a formula.
        beam: how many formulas of each length are built upon.
        shares: the smallest and the largest share of the images that a formula may hold for.
        kept: how many formulas are returned for each unit.
    """
    block = max(1, VALUES // (len(present) * beam))
    formulas: list[tuple[Formula, ...]] = []
    for part in activations.split(block, dim=1):
        formulas += _Search(part, present, names, beam=beam, shares=shares).run(length, kept)
    return formulas


@dataclass(frozen=True, eq=False)
class _Beam:
    """Of each unit the formulas that are built upon; where there are fewer, AUC is -inf."""

    masks: Bool[Tensor, "units beam images"]
    auc: Float[Tensor, "units beam"]
    texts: list[list[str]]


class _Search:
    """The beam search over the units of one block."""

    def __init__(
        self,
        activations: Float[Tensor, "images units"],
        present: Bool[Tensor, "images list_base_concepts"],
        names: Sequence[str],
        *,
        beam: int,
        shares: tuple[float, float],
    ) -> None:
        self.ranks = centre_ranks(activations).T.contiguous()  # units x images
        self.atoms, self.names, self.beam = present.double(), list(names), beam
        self.images = len(present)
        self.allowed = (shares[0] * self.images, shares[1] * self.images)
        self.sums, self.counts = self.ranks @ self.atoms, self.atoms.sum(0)

    def run(self, length: int, kept: int) -> list[tuple[Formula, ...]]:
        """The best formulas of each unit; of equal ones the shorter, and then the earlier."""
        sums = torch.cat([self.sums, -self.sums], dim=1)
        counts = torch.cat([self.counts, self.images - self.counts]).expand_as(sums)
        beam = self._chosen(sums, counts, lambda _, column: self._single(column))
        every = [beam]
        for _ in range(length - 1):
            beam = self._longer(beam)
            every.append(beam)
        return [_best_formula(unit, every, kept) for unit in range(len(self.ranks))]

    def _longer(self, beam: _Beam) -> _Beam:
        """Every formula of the beam with AND, OR, AND NOT, OR NOT and every atom."""
        units = len(beam.masks)
        masks = beam.masks.double()
        both = masks @ self.atoms
        together = (masks * self.ranks[:, None]) @ self.atoms
        alone, count = (masks * self.ranks[:, None]).sum(2)[..., None], masks.sum(2)[..., None]
        atom, size = self.sums[:, None], self.counts
        sums = torch.stack([together, alone + atom - together, alone - together, together - atom], dim=2)
        counts = torch.stack([both, count + size - both, count - both, self.images - size + both], dim=2)
        sums[~beam.auc.isfinite()] = -math.inf

        def formula(unit: int, index: int) -> tuple[str, Tensor]:
            step, column = divmod(index, len(self.names))
            built, operator = divmod(step, len(_OPERATORS))
            text, combine = _OPERATORS[operator]
            mask = combine(beam.masks[unit, built], self.atoms[:, column] > 0)
            return f"{beam.texts[unit][built]} {text} {self.names[column]}", mask

        return self._chosen(sums.reshape(units, -1), counts.reshape(units, -1), formula)

    def _single(self, index: int) -> tuple[str, Tensor]:
        column, negated = index % len(self.names), index >= len(self.names)
        mask = self.atoms[:, column] > 0
        return (f"NOT {self.names[column]}", ~mask) if negated else (self.names[column], mask)

    def _chosen(self, sums: Tensor, counts: Tensor, formula: Callable[[int, int], tuple[str, Tensor]]) -> _Beam:
        """The best of the candidates of each unit, those that hold for the same images taken once."""
        low, high = self.allowed
        inside = (counts >= max(low, 1)) & (counts <= min(high, self.images - 1))
        auc = torch.where(inside, 0.5 + sums / (counts * (self.images - counts)).clamp(min=1), -math.inf)
        # Rounded, so that sums in another order are equal and the first candidate comes first.
        rounded = (auc * 1e10).round() / 1e10
        order = rounded.sort(dim=1, descending=True, stable=True).indices[:, : 64 * self.beam]
        units = len(sums)
        masks = torch.zeros(units, self.beam, self.images, dtype=torch.bool)
        scores, texts = torch.full((units, self.beam), -math.inf, dtype=torch.float64), []
        for unit in range(units):
            unit_texts: list[str] = []
            for index in order[unit].tolist():
                if len(unit_texts) == self.beam or not auc[unit, index].isfinite():
                    break
                text, mask = formula(unit, index)
                if any(torch.equal(mask, masks[unit, earlier]) for earlier in range(len(unit_texts))):
                    continue
                masks[unit, len(unit_texts)], scores[unit, len(unit_texts)] = mask, auc[unit, index]
                unit_texts.append(text)
            texts.append(unit_texts)
        return _Beam(masks, scores, texts)


_OPERATORS = (
    ("AND", lambda formula, atom: formula & atom),
    ("OR", lambda formula, atom: formula | atom),
    ("AND NOT", lambda formula, atom: formula & ~atom),
    ("OR NOT", lambda formula, atom: formula | ~atom),
)


def _best_formula(unit: int, beams: Sequence[_Beam], kept: int) -> tuple[Formula, ...]:
    """The best formulas of a unit over all lengths, the shorter first among equals."""
    formulas = [
        Formula(text, float(auc), int(mask.sum()))
        for beam in beams
        for text, auc, mask in zip(beam.texts[unit], beam.auc[unit], beam.masks[unit], strict=False)
    ]
    return tuple(sorted(formulas, key=lambda formula: -round(formula.auc, 10))[:kept])


def centre_ranks(activations: Float[Tensor, "images neurons"]) -> Float[Tensor, "images neurons"]:
    """The rank of each activation less the mean rank; equal activations share the mean of theirs."""
    columns = activations.T.contiguous()
    ordered = columns.sort(dim=1).values
    low = torch.searchsorted(ordered, columns, right=False)
    high = torch.searchsorted(ordered, columns, right=True)
    return ((low + high).double() / 2 + 0.5 - (len(activations) + 1) / 2).T


def auc_significance(
    formulas: Sequence[str],
    activations: Float[Tensor, "images neurons"],
    present: Bool[Tensor, "images list_base_concepts"],
    names: Sequence[str],
) -> list[tuple[float, float, float]]:
    """AUC, p and q of each unit's formula: whether images where it holds excite the unit more.

    One-sided Mann-Whitney test, by the normal approximation with the correction for equal activations; q is p adjusted
    over the units by Benjamini and Hochberg. A formula that holds for none or all of the images has AUC NaN and p 1.
    """
    columns = {name: present[:, column].double() for column, name in enumerate(names)}
    ranks, images = centre_ranks(activations), len(activations)
    variances = ranks.square().mean(0)  # variance of a rank, corrected for ties
    area, p = [], []
    for unit, text in enumerate(formulas):
        holds = predict_values(text, columns.get) if text else None
        count = 0 if holds is None else int(holds.sum())
        if holds is None or not 0 < count < images:
            area.append(math.nan)
            p.append(1.0)
            continue
        total, product = float((ranks[:, unit] * holds).sum()), count * (images - count)
        spread = math.sqrt(product * float(variances[unit]) / (images - 1))
        area.append(0.5 + total / product)
        p.append(math.erfc(total / spread / math.sqrt(2)) / 2 if spread else 1.0)
    return list(zip(area, p, adjust_for_search(p), strict=True))


def adjust_for_search(p: Sequence[float]) -> list[float]:
    """q of Benjamini and Hochberg 1995: the least false discovery rate at which each is called a finding."""
    order = np.argsort(p)[::-1]
    scaled = np.asarray(p)[order] * len(p) / np.arange(len(p), 0, -1)
    q = np.empty(len(p))
    q[order] = np.minimum.accumulate(np.minimum(scaled, 1))
    return q.tolist()


def _format_table(
    best: Sequence[tuple[Formula, ...]], significance: Sequence[tuple[float, float, float]], images: int
) -> str:
    header = ("unit", "formula", "share", "auc", "auc_other_images", "p", "q")
    rows = [
        (
            unit,
            formulas[0].text,
            f"{formulas[0].images / images:.4f}",
            f"{formulas[0].auc:.6f}",
            f"{area:.6f}",
            f"{p:.3g}",
            f"{q:.3g}",
        )
        if formulas
        else (unit, "", "", "", "", "", "")
        for unit, (formulas, (area, p, q)) in enumerate(zip(best, significance, strict=True))
    ]
    return format_csv([header, *rows])
