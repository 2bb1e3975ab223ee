"""From scores to labels: each unit's best concepts, the rank of the right one, and flags of labels that mean little.

One order decides everything: higher score first and, among equal scores, the name that comes first in the alphabet, so
that the order of the concept set changes no label. A rank of 1 means exactly that the label is right.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cd_exp.records import Accepted, Labels

ALWAYS = 0.8
"""A unit that fires on more than this share of the images is always on."""

TENTH = 10
FEW_SHARE = 3  # units: two that share a label are no pattern

ROUNDING = 1e-4
"""A score this near to the ceiling has reached it: the published arithmetic is no more exact than that."""


def is_always_on(
    firing: Float[np.ndarray, " neurons"], least: Float[np.ndarray, " neurons"]
) -> Bool[np.ndarray, " neurons"]:
    """Units that fire (activation above 0) on more than 80 % of the images, in a layer where not firing is normal.

    Firing means something after a ReLU, for latents and the like: where no activation is negative. And where most units
    fire on nearly every image, as means of maps do, firing says nothing of a unit: then none is marked.

    Args:
        firing: the share of images on which each unit is above 0.
        least: the least activation of each unit.

    >>> is_always_on(np.array([0.9, 0.1, 0.2]), np.zeros(3)).tolist()
    [True, False, False]
    >>> is_always_on(np.array([0.9, 0.1, 0.2]), np.array([0, 0, -1.0])).tolist()
    [False, False, False]
    """
    sparse = bool((least >= 0).all()) and float(np.median(firing)) <= ALWAYS
    return (firing > ALWAYS) & sparse


def flag_units(
    *,
    dead: Bool[np.ndarray, " neurons"],
    always: Bool[np.ndarray, " neurons"],
    second: Float[np.ndarray, " neurons"],
    ceiling: float | None,
    few: Bool[np.ndarray, " neurons"] | None = None,
) -> tuple[frozenset[str], ...]:
    """The marks of each unit of a layer.

    Args:
        dead: gives the same value for every image.
        always: as `is_always_on`.
        second: the score of the concept after its label.
        ceiling: what no score of the function exceeds in this layer, where there is such a number: where even the
            second concept reaches it, the scores do not tell which one is the label.
        few: the last of the strongest images that are read is no stronger than the next: which images are read is
            chance.

    >>> no = np.zeros(2, dtype=bool)
    >>> [set(marks) for marks in flag_units(dead=np.array([True, False]), always=no, second=np.zeros(2), ceiling=None)]
    [{'dead'}, set()]
    """
    only_unit = np.full(len(dead), len(dead) == 1)
    high = np.zeros(len(dead), dtype=bool)
    if ceiling is not None and len(dead) > 1:
        high = second >= ceiling - ROUNDING
    flags = {"dead": dead, "always_on": always, "one_unit": only_unit, "ceiling": high}
    if few is not None:
        flags["few_images"] = few
    number = (1 << np.arange(len(flags))) @ np.stack(list(flags.values()))
    # One object for each combination: a set for each of a million units takes 200 MB and 2 s.
    sets = [frozenset(name for bit, name in enumerate(flags) if mask >> bit & 1) for mask in range(1 << len(flags))]
    return tuple(sets[mask] for mask in number.tolist())


SAYS = {
    "dead": "{n} of {units} units of {layer} are dead (the same value for every image): ignore their labels",
    "always_on": "{n} of {units} units of {layer} fire on more than 80 % of the images (always_on): look at their "
    "images before you trust their labels",
    "one_unit": "{layer} has one unit, so there is no prior over its layer: its label is the concept that fits its "
    "images best",
    "ceiling": "{n} of {units} units of {layer}: the best concepts are tied at the maximum score; the tie is broken by "
    "likelihood. Lower similarity.prior_weight to separate them",
    "few_images": "{n} of {units} units of {layer} fire on fewer images than are read (few_images): images of equal "
    "activation fill up, by their content. Lower similarity.top_k to read fewer",
}


SHARED = 0.2
"""Of a layer's units: one label for more of them than this says more of the images or the words than of the units."""


def note_flags(labels: Mapping[str, Labels]) -> Iterator[str]:
    """A sentence for each layer and mark that some of its units have, and for a label that many of its units share.

    >>> dead = Labels("fc", np.arange(2), (("red",), ("blue",)), np.zeros(2), marks=(frozenset({"dead"}), frozenset()))
    >>> next(note_flags({"fc": dead}))
    '1 of 2 units of fc are dead (the same value for every image): ignore their labels'
    """
    for layer, layer_labels in labels.items():
        for mark, text in SAYS.items():
            count = sum(mark in unit for unit in layer_labels.marks)
            if count:
                yield text.format(n=count, units=len(layer_labels.units), layer=layer)
        label, count = next(iter(Counter(names[0] for names in layer_labels.top if names).most_common(1)), ("", 0))
        if count >= FEW_SHARE and count > SHARED * len(layer_labels.units):
            yield (
                f"{count} of {len(layer_labels.units)} units of {layer} are called {label!r}: look at their images, "
                "and whether the words and the images suit the network"
            )


def many_images(top_k: int | None, images: int) -> Iterator[str]:
    """A sentence where a similarity function reads more than a tenth of the images as a unit's strongest.

    >>> next(many_images(28, 200)).partition(", ")[2]
    'more than a tenth: similarity.top_k=20 fits'
    >>> list(many_images(1, 3))
    []
    """
    if top_k is not None and top_k > max(images / TENTH, largest_top_k(images)):
        read = f"{top_k} of" if top_k < images else "all"
        yield (
            f"similarity.top_k={top_k} reads {read} {images} images as the strongest of every unit, more than a tenth: "
            f"similarity.top_k={largest_top_k(images)} fits"
        )


def largest_top_k(images: int) -> int:
    """The most of the strongest images that is no more than a tenth of all.

    >>> largest_top_k(904)
    90
    """
    return max(1, images // TENTH)


def note_few_units(units: Mapping[str, int], least: int) -> Iterator[str]:
    """A sentence for each layer of fewer units than the similarity function declares that it needs.

    >>> list(note_few_units({"fc": 10, "layer4": 512}, 50))
    ['fc has 10 units, and this similarity function is unsure below 50: compare its labels with those of soft_wpmi']
    """
    for layer, count in units.items():
        if count < least:
            yield (
                f"{layer} has {count} units, and this similarity function is unsure below {least}: compare its "
                "labels with those of soft_wpmi"
            )


Columns = Int[np.ndarray, " _"] | None
"""The columns of the concept set that are right for a unit, ascending; None where the truth is unknown."""


class BestConcepts(NamedTuple):
    """The highest scores of some units, best first, and the columns of their concepts."""

    values: Float[Tensor, "block kept"]
    columns: Int[Tensor, "block kept"]


def label_layer(
    scores: Float[Tensor, "neurons concepts"] | Iterable[tuple[slice, Tensor | BestConcepts]],
    names: Sequence[str],
    *,
    layer: str,
    accepted: Sequence[Columns] = (),
    truth: Sequence[Accepted] = (),
    k: int = 5,
) -> Labels:
    """Each unit's `k` best concepts, and the rank of its truth.

    rank = 1 + concepts scored higher than the best accepted one + concepts scored the same that come before it.

    Args:
        scores: of one layer, whole, or block by block in unit order: `(slice of units, Float["block concepts"])`, or
            `(slice of units, BestConcepts)` of at least `k` and two concepts where nothing is known of any unit.
        names: the concepts, by column.
        layer: the name that the labels carry.
        accepted: for each unit the columns that are right (`cd_exp.metrics.accepted_columns`); none, no ranks. The
            rank is NaN where nothing is known of the unit or no concept names it.
        truth: the names that are right, kept with the labels.
        k: how many concepts to keep, fewer where the set is smaller.

    >>> labels = label_layer(torch.tensor([[0.1, 0.9, 0.5], [0.3, 0.3, 0.2]]), ["dog", "cat", "red"], layer="fc", k=2)
    >>> labels.top
    (('cat', 'red'), ('cat', 'dog'))
    >>> [round(float(margin), 3) for margin in labels.margin]
    [0.4, 0.0]

    Raises:
        ValueError: where a score is NaN, a block is out of order, or the columns are not as many as the names: all
            are bugs in what made the scores.
    """
    tops, kept, ranks = [], [], []
    margins: list[np.ndarray] = []
    done, position = 0, alphabetical_order(names)
    for units, block in _as_blocks(scores):
        if isinstance(block, BestConcepts):
            values, columns = block
        else:
            _check_scores(units, block, names, layer=layer, done=done)
            values, columns = best_concepts(block, position.to(block.device), k=min(max(k, 2), len(names)))
        done += len(values)
        tops += [tuple(names[column] for column in row[:k]) for row in columns.tolist()]
        kept.append(values[:, :k].cpu().numpy())
        if len(names) > 1:
            margins.append((values[:, 0] - values[:, 1]).cpu().numpy())
        if isinstance(block, Tensor) and len(accepted):
            ranks.append(rank_of_concepts(block, accepted[done - len(block) : done], position.to(block.device)))
        elif len(accepted):
            ranks.append(np.full(len(values), np.nan))
    top_scores = np.concatenate(kept) if kept else np.empty((0, 1))
    _check_lengths(done, layer=layer, accepted=accepted, truth=truth)
    return Labels(
        layer=layer,
        units=np.arange(done),
        top=tuple(tops),
        similarity=top_scores[:, 0],
        truth=tuple(truth),
        top_scores=top_scores,
        ranks=np.concatenate(ranks) if ranks else None,
        candidates=len(names),
        margin=np.concatenate(margins) if margins else None,
    )


def alphabetical_order(names: Sequence[str]) -> Int[Tensor, " concepts"]:
    """Where each column stands in the order of the names, from 0; equal names in the order of their columns.

    >>> alphabetical_order(["dog", "cat", "ant"])
    tensor([2, 1, 0])
    """
    order = sorted(range(len(names)), key=names.__getitem__)  # stable
    position = torch.empty(len(names), dtype=torch.int64)
    position[order] = torch.arange(len(names))
    return position


def best_concepts(
    scores: Float[Tensor, "block concepts"], position: Int[Tensor, " concepts"], *, k: int
) -> BestConcepts:
    """The `k` highest scores of each unit and their columns, best first, the lowest position first among equals.

    >>> scores, columns = best_concepts(torch.tensor([[0.5, 0.9, 0.9]]), alphabetical_order(["dog", "cat", "ant"]), k=2)
    >>> columns
    tensor([[2, 1]])
    """
    values, columns = scores.topk(k, dim=1)
    # topk promises nothing about equal scores: where more reach the last value than fit, a stable sort decides.
    crowded = (scores >= values[:, -1:]).sum(dim=1) > k
    if crowded.any():
        order = position.argsort()
        ranked = scores[crowded][:, order].sort(dim=1, descending=True, stable=True).indices[:, :k]
        columns[crowded] = order[ranked]
    return order_concepts(scores.gather(1, columns), columns, position, k=k)


def order_concepts(
    values: Float[Tensor, "block kept"],
    columns: Int[Tensor, "block kept"],
    position: Int[Tensor, " concepts"],
    *,
    k: int,
) -> BestConcepts:
    """The `k` best of some concepts of each unit, best first, the lowest position first among equals.

    >>> order_concepts(torch.tensor([[0.5, 0.9]]), torch.tensor([[2, 0]]), torch.arange(3), k=1).columns
    tensor([[0]])
    """
    alphabetical = position[columns].argsort(dim=1)
    values, order = values.gather(1, alphabetical).sort(dim=1, descending=True, stable=True)
    return BestConcepts(values[:, :k], columns.gather(1, alphabetical).gather(1, order)[:, :k])


def rank_of_concepts(
    scores: Float[Tensor, "block concepts"], accepted: Sequence[Columns], position: Int[Tensor, " concepts"]
) -> Float[np.ndarray, " block"]:
    """The rank, from 1, of each unit's best accepted concept in the order of `best_concepts`; NaN where none is
    accepted.

    >>> scores, position = torch.tensor([[0.5, 0.9, 0.9], [0.1, 0.2, 0.3]]), alphabetical_order(["dog", "cat", "ant"])
    >>> rank_of_concepts(scores, [np.array([1]), None], position)
    array([ 2., nan])
    """
    ranks = np.full(len(scores), np.nan)
    with_truth = {unit: columns for unit, columns in enumerate(accepted) if columns is not None and len(columns)}
    if not with_truth:
        return ranks
    judged = list(with_truth)
    rows = scores if len(judged) == len(scores) else scores[judged]
    # In order of position, so that argmax takes the first among equals; padded with the unit's own first column, which
    # it then never prefers.
    order = position.cpu()
    ragged = [
        (accepted_columns := torch.as_tensor(columns))[order[accepted_columns].argsort()]
        for columns in with_truth.values()
    ]
    filled = pad_sequence(ragged, batch_first=True, padding_value=-1)
    columns = torch.where(filled < 0, filled[:, :1], filled).to(scores.device)
    target = columns.gather(1, rows.gather(1, columns).argmax(dim=1, keepdim=True))
    score = rows.gather(1, target)
    before = position < position[target]
    ahead = ((rows > score) | ((rows == score) & before)).sum(dim=1)
    ranks[judged] = 1 + ahead.cpu().numpy()
    return ranks


def _as_blocks(
    scores: Tensor | Iterable[tuple[slice, Tensor | BestConcepts]],
) -> Iterator[tuple[slice, Tensor | BestConcepts]]:
    return iter([(slice(0, len(scores)), scores)] if isinstance(scores, Tensor) else scores)


def _check_scores(units: slice, block: Tensor, names: Sequence[str], *, layer: str, done: int) -> None:
    if units.start != done:
        raise ValueError(f"scores of {layer}: a block starts at unit {units.start}, expected unit {done}")
    if block.shape[1] != len(names):
        raise ValueError(f"scores of {layer} have {block.shape[1]} columns for {len(names)} concepts")
    undefined = block.isnan().any(dim=1)
    if undefined.any():
        unit = done + int(undefined.nonzero()[0])
        raise ValueError(f"scores of unit {unit} of {layer} hold NaN: a similarity function defines every score")


def _check_lengths(units: int, *, layer: str, accepted: Sequence[Columns], truth: Sequence[Accepted]) -> None:
    for name, values in (("accepted columns", accepted), ("truths", truth)):
        if len(values) not in (0, units):
            raise ValueError(f"{layer} has {units} units but {len(values)} {name}")


def hash_scores(labels: Mapping[str, Labels]) -> dict[str, str]:
    """SHA-256 of the scores of each layer's kept concepts, bit for bit; two runs are compared by it.

    >>> one, two = (Labels("fc", np.arange(1), (("a",),), np.array([score])) for score in (0.5, 0.5 + 1e-16))
    >>> hash_scores({"fc": one}) == hash_scores({"fc": two})
    False
    """
    scores = {
        layer: part.similarity
        if part.top_scores is None
        else np.concatenate([part.similarity[:, None], part.top_scores], 1)
        for layer, part in labels.items()
    }
    return {layer: hashlib.sha256(np.ascontiguousarray(part).tobytes()).hexdigest() for layer, part in scores.items()}
