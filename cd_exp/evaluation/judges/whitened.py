"""`judge=whitened`: a unit's activation against its label's match, both after what they share with others is taken out.

The plain correlation of activation and match mostly says what all units of a layer and all concepts have in common:
some images excite everything, some match everything. On 1,000 units of a ResNet-18's `fc` whose truth is known, it
orders eight labellers against the truth with a rank correlation of .29, that with CLIP's probabilities with .45, and
they tell right from wrong labels with .64 and .66. Whitened on both sides it is .91 and .81
(`experiments/meta_evaluation`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cd_exp.clips import Clip
from cd_exp.evaluation.judges.base import SHARE, HeldOut, Judge, LabelsToScore, Scores
from cd_exp.evaluation.judges.clip import embed_names
from cd_exp.evaluation.judges.scores import have_values
from cd_exp.metrics.label_expressions import list_concepts, predict_values
from cd_exp.similarity.match import concept_slices
from cd_exp.similarity.whitening import LARGEST, NONZERO, ROUNDING, inverse_root, normalise_rows

UNIT_RIDGE = 2.0
MATCH_RIDGE = 5.0
"""In means of the eigenvalues that are not zero. Over ridges from .5 to 10 on either side and four divisions of the
images, right labels are separated from wrong ones with .78 to .82, and methods ordered with .83 to .98."""

VALUES = 2**23
"""At a time: 64 MiB in double."""


SORTED = 16
"""From so many labels of one name on, sorting is quicker than comparing each with all units."""


def whiten_activations(
    learned: Float[Tensor, "learned units"], scored: Float[Tensor, "scored units"], *, ridge: float = UNIT_RIDGE
) -> Float[Tensor, "scored units"]:
    """Activations divided by the square root of their covariance over other images, with a ridge.

    With Z the activations standardised by mean and deviation over the learned images, e the eigenvalues of their
    covariance and m the mean of those that are not zero,

        B = Z_scored (Z_learned' Z_learned / learned + ridge m)^(-1/2)

    by the eigenproblem of the smaller side. With fewer images than units it is that of K = Z_learned Z_learned' /
    learned = Q diag(e) Q', and with L = ridge m and r = sqrt(e + L)

        B = L^(-1/2) (Z_scored - Z_scored Z_learned' / learned Q diag(1 / (r (sqrt(L) + r))) Q' Z_learned)

    which holds units x units numbers nowhere: 36,864 units would take 11 GB in double. A unit that does not vary over
    the learned images is 0.

    Args:
        learned: on the images that the transform comes from.
        scored: of the same units on the images that it is applied to.
        ridge: in means of the eigenvalues that are not zero; above 0.

    >>> images = torch.tensor([[1.0, 1.1], [2.0, 2.0], [3.0, 2.9], [4.0, 4.0]])
    >>> shared, apart = whiten_activations(images, torch.tensor([[5.0, 5.0], [3.0, 2.0]]), ridge=0.01).abs()
    >>> bool(apart.min() > shared.max())
    True
    """
    if min(learned.shape) > LARGEST:  # what 16,384 images say of the covariance is enough; more do not fit the memory
        learned = learned[torch.linspace(0, len(learned) - 1, LARGEST).long()]
    count, units = learned.shape
    mean, deviation = _moments(learned)

    def standardise(rows: Tensor, part: slice) -> Float[Tensor, "rows block"]:
        return (rows[:, part].double() - mean[part]) / deviation[part]

    parts = list(concept_slices(units, max(1, VALUES // max(count, len(scored)))))
    whitened = torch.empty(len(scored), units, device=scored.device)
    if units <= count:
        columns = standardise(learned, slice(None))
        root = inverse_root(columns.T @ columns / count, ridge)
        for part in parts:
            whitened[:, part] = (standardise(scored, slice(None)) @ root[:, part]).float()
        return whitened.where(deviation.isfinite(), 0.0)  # rounding of what does not vary would be whitened too
    gram = torch.zeros(count, count, dtype=torch.float64, device=learned.device)
    across = torch.zeros(len(scored), count, dtype=torch.float64, device=learned.device)
    for part in parts:
        columns = standardise(learned, part)
        gram.addmm_(columns, columns.T, alpha=1 / count)
        across.addmm_(standardise(scored, part), columns.T, alpha=1 / count)
    values, vectors = torch.linalg.eigh(gram)
    level = ridge * _mean_eigenvalue(values)
    above = (values.clamp(min=0) + level).sqrt()
    mixed = across @ (vectors / (above * (level.sqrt() + above))) @ vectors.T
    for part in parts:
        block = standardise(scored, part) - mixed @ standardise(learned, part)
        whitened[:, part] = (block / level.sqrt()).float()
    return whitened


def _moments(activations: Float[Tensor, "images units"]) -> tuple[Float[Tensor, " units"], Float[Tensor, " units"]]:
    """Mean and deviation of each unit; an infinite deviation for one that does not vary, which makes it 0."""
    mean, deviation = [], []
    for part in concept_slices(activations.shape[1], max(1, VALUES // len(activations))):
        block = activations[:, part].double()
        varies = block.amax(dim=0) > block.amin(dim=0)
        mean.append(block.mean(dim=0))
        deviation.append(block.std(dim=0, correction=0).where(varies, torch.inf))
    return torch.cat(mean), torch.cat(deviation)


def _mean_eigenvalue(values: Float[Tensor, " rows"]) -> Float[Tensor, ""]:
    present = values > NONZERO * values[-1].clamp(min=1e-30)
    return values[present].mean() if present.any() else values.new_ones(())


@dataclass(frozen=True, eq=False)
class WhitenedMatch:
    """The matches of any texts with some images, whitened as other images and a concept set have it.

    `images` are the images in directions of variance 1 over the others, `directions` take a text there, and `root` is
    the inverse square root of the covariance of the concept set's matches, with the ridge.
    """

    images: Float[Tensor, "scored rank"]
    directions: Float[Tensor, "dim rank"]
    root: Float[Tensor, "rank rank"]

    @classmethod
    def of(
        cls,
        learned: Float[Tensor, "learned dim"],
        scored: Float[Tensor, "scored dim"],
        texts: Float[Tensor, "concepts dim"],
        *,
        ridge: float = MATCH_RIDGE,
    ) -> "WhitenedMatch":
        """Learn the transform from some images and a concept set, as `cd_exp.similarity.whitening` does from all.

        Args:
            learned: embeddings of the images that the transform comes from, L2-normalised.
            scored: of the images that it is applied to.
            texts: of the concept set.
            ridge: in means of the eigenvalues that are not zero.
        """
        mean = learned.double().mean(dim=0)
        centred = learned.double() - mean
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
        kept = values > ROUNDING * values[-1].clamp(min=1e-30)
        roots, vectors = values[kept].sqrt(), vectors[:, kept]
        loadings = normalise_rows(texts.double() @ (vectors * roots))
        root = inverse_root(loadings.T @ loadings, ridge)
        return cls((scored.double() - mean) @ (vectors / roots), vectors * roots, root)

    def matches(self, texts: Float[Tensor, "some dim"]) -> Float[Tensor, "scored some"]:
        """The whitened match of each text, of the concept set or not, with each of the scored images."""
        return self.images @ (normalise_rows(texts.double() @ self.directions) @ self.root).T


def unit_columns(values: Float[Tensor, "images columns"]) -> Float[Tensor, "images columns"]:
    """Centred columns of length one; one that does not vary is zero."""
    varies = values.amax(dim=0) > values.amin(dim=0)
    return normalise_rows(((values - values.mean(dim=0)) * varies).T).T


def score_whitened(
    activations: Float[Tensor, "images units"],
    match: Float[Tensor, "images columns"],
    unit: Int[Tensor, " labels"],
    *,
    column: Int[Tensor, " labels"] | None = None,
) -> tuple[Float[Tensor, " labels"], Float[Tensor, " labels"]]:
    """The correlation of each label with its unit, and the share of the other units that it fits less well.

        r[v, t]     = correlation over images of whitened activation v and whitened match t
        whitened    = r[unit, t]
        which_unit  = mean over units v other than `unit` of [r[v, t] < r[unit, t]] + [r[v, t] = r[unit, t]] / 2

    0 and 1/2 where one of the two does not vary. Units that do not vary are no others; without others, 1/2.

    Args:
        activations: whitened, of a whole layer.
        match: whitened, of each label, or of each different one.
        unit: the column of the unit that each label is of.
        column: the column of `match` that each label has; by default one each, in order.

    >>> a = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    >>> [values.tolist() for values in score_whitened(a, a[:, :1], torch.tensor([0]))]
    [[1.0], [1.0]]
    """
    activations, match = unit_columns(activations), unit_columns(match.to(activations))
    column = torch.arange(len(unit), device=unit.device) if column is None else column
    alive = activations.any(dim=0)
    correlations = activations.T @ match
    own = correlations[unit, column]
    others = (int(alive.sum()) - alive[unit].long()).clamp(min=0)
    below, equal = _count_below(correlations[alive].T.contiguous(), own, column)
    share = torch.where(others > 0, (below + (equal - alive[unit].long()) / 2) / others.clamp(min=1), 0.5)
    return own.clamp(-1, 1), share.where(match.any(dim=0)[column] & alive[unit], 0.5)


def _count_below(
    rows: Float[Tensor, "rows values"], thresholds: Float[Tensor, " labels"], row: Int[Tensor, " labels"]
) -> tuple[Int[Tensor, " labels"], Int[Tensor, " labels"]]:
    """How many values of its row are below each threshold, and how many are equal to it.

    A row is sorted where it has many thresholds: 36,864 units shared 826 labels, and comparing the label of each unit
    with all units took most of the judge's time.
    """
    below, equal = torch.zeros_like(row), torch.zeros_like(row)
    order = row.argsort(stable=True)
    for part in order.split(torch.bincount(row, minlength=len(rows)).tolist()):
        if not len(part):
            continue
        values, own = rows[row[part[0]]], thresholds[part]
        if len(part) < SORTED:
            below[part] = (values < own[:, None]).sum(dim=1)
            equal[part] = (values == own[:, None]).sum(dim=1)
        else:
            ordered = values.sort().values
            below[part] = torch.searchsorted(ordered, own)
            equal[part] = torch.searchsorted(ordered, own, right=True) - below[part]
    return below, equal


@dataclass(frozen=True, eq=False)
class WhitenedJudge(Judge):
    """Settings of `judge=whitened`.

    Args:
        held_out: share of the images that labels are scored on; they are chosen, and the whitening is learned, on the
            others.
        untrained: whether our labels of the same network with random weights are scored as a reference.
    """

    held_out: float = SHARE
    untrained: bool = False
    ranks_by: ClassVar[str] = "whitened"

    def __call__(self, held: HeldOut, asked: Sequence[LabelsToScore]) -> list[Scores]:
        """The scores of every label, in the order asked; NaN for a label whose names the backbone has no texts of."""
        texts = _texts(held, [label for one in asked for label in one.labels])
        scores = [{name: np.full(len(one.labels), np.nan) for name in ("whitened", "which_unit")} for one in asked]
        match = _learned_match(held)
        for layer in dict.fromkeys(one.layer for one in asked):
            activations = held.features.activations[layer]
            whitened = whiten_activations(activations[held.chosen_on], activations[held.scored_on])
            rows = [number for number, one in enumerate(asked) if one.layer == layer]
            for labels, indices, units, columns in _pieces(asked, rows, texts, size=max(whitened.shape)):
                scores_of_layer = score_whitened(
                    whitened, match_of(labels, texts, match), torch.as_tensor(units), column=torch.as_tensor(columns)
                )
                for name, values in zip(("whitened", "which_unit"), scores_of_layer, strict=True):
                    for (number, index), value in zip(indices, values.tolist(), strict=True):
                        scores[number][name][index] = value
        return list(scores)

    def known(self, held: HeldOut, labels: Sequence[str]) -> Mapping[str, bool]:
        """Of each label whether the backbone has its texts: all, but for finished embeddings."""
        return have_values(labels, _texts(held, labels).get)

    def circular(self, clip: Clip) -> bool:
        """Yes: the run's own backbone is asked."""
        del clip
        return True


def match_of(
    labels: Sequence[str], texts: Mapping[str, Tensor], match: WhitenedMatch
) -> Float[Tensor, "scored labels"]:
    """The whitened match of each label, which may be a formula or weighted sum of names whose texts are there."""
    names = list(dict.fromkeys(name for label in labels for name in (label, *list_concepts(label)) if name in texts))
    columns = dict(zip(names, match.matches(torch.stack([texts[name] for name in names])).unbind(dim=1), strict=True))
    predicted = {label: predict_values(label, columns.get) for label in dict.fromkeys(labels)}
    return torch.stack([value for label in labels if (value := predicted[label]) is not None], dim=1)


def _learned_match(held: HeldOut) -> WhitenedMatch:
    images, texts = (torch.nn.functional.normalize(one.double(), dim=1) for one in (held.features.images, held.texts))
    return WhitenedMatch.of(images[held.chosen_on], images[held.scored_on], texts)


def _texts(held: HeldOut, labels: Sequence[str]) -> dict[str, Tensor]:
    names = dict.fromkeys(name for label in labels for name in list_concepts(label) if name)
    return embed_names(held.clip, held, tuple(names))


def _pieces(
    asked: Sequence[LabelsToScore], rows: Sequence[int], texts: Mapping[str, Tensor], *, size: int
) -> Iterator[tuple[list[str], list[tuple[int, int]], list[int], list[int]]]:
    """Different labels that are known, as many at a time as make `VALUES` numbers.

    Beside them, of each label asked for: who asked, its unit, and which of the labels it is.
    """
    has_texts = have_values([label for number in rows for label in asked[number].labels], texts.get)
    by_label: dict[str, list[tuple[int, int]]] = {}
    for number in rows:
        for index, label in enumerate(asked[number].labels):
            if has_texts[label]:
                by_label.setdefault(label, []).append((number, index))
    every = iter(by_label)
    while labels := list(islice(every, max(1, VALUES // size))):
        indices = [pair for label in labels for pair in by_label[label]]
        columns = [column for column, label in enumerate(labels) for _ in by_label[label]]
        yield labels, indices, [int(asked[number].units[index]) for number, index in indices], columns
