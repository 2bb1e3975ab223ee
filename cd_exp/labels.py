"""From scores to labels: each unit's best concepts, and the rank of the concept that is right.

One order decides everything: higher score first and, among equal scores, the name that comes first in the alphabet, so
that the order of the concept set changes no label. A rank of 1 means exactly that the label is right. A unit whose
scores are all equal (a dead one, under most functions) is labelled with the first name of all, and its truth ranks
where it stands in the alphabet: a dead unit does not get rank 1 by default.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cd_exp.records import Accepted, Labels

Columns = Int[np.ndarray, " _"] | None
"""The columns of the concept set that are right for a unit, ascending; None where the truth is unknown."""


def label(
    scores: Float[Tensor, "neurons concepts"] | Iterable[tuple[slice, Tensor]],
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
        scores: of one layer, whole, or block by block in unit order: `(slice of units, Float["block concepts"])`.
        names: the concepts, by column.
        layer: the name that the labels carry.
        accepted: for each unit the columns that are right (`cd_exp.metrics.accepted_columns`); none, no ranks. The
            rank is NaN where nothing is known of the unit or no concept names it.
        truth: the names that are right, kept with the labels.
        k: how many concepts to keep, fewer where the set is smaller.

    >>> found = label(torch.tensor([[0.1, 0.9, 0.5], [0.3, 0.3, 0.2]]), ["dog", "cat", "red"], layer="fc", k=2)
    >>> found.top
    (('cat', 'red'), ('cat', 'dog'))
    >>> [round(float(margin), 3) for margin in found.margin]
    [0.4, 0.0]

    Raises:
        ValueError: where a score is NaN, a block is out of order, or the columns are not as many as the names: all
            are bugs in what made the scores.
    """
    tops, kept, ranks = [], [], []
    margins: list[np.ndarray] = []
    done, position = 0, alphabetical(names)
    for units, block in _blocks(scores):
        _check(units, block, names, layer=layer, done=done)
        done += len(block)
        values, columns = best(block, position.to(block.device), k=min(max(k, 2), len(names)))
        tops += [tuple(names[column] for column in row[:k]) for row in columns.tolist()]
        kept.append(values[:, :k].cpu().numpy())
        if len(names) > 1:
            margins.append((values[:, 0] - values[:, 1]).cpu().numpy())
        if len(accepted):
            ranks.append(rank(block, accepted[done - len(block) : done], position.to(block.device)))
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


def alphabetical(names: Sequence[str]) -> Int[Tensor, " concepts"]:
    """Where each column stands in the order of the names, from 0; equal names in the order of their columns.

    >>> alphabetical(["dog", "cat", "ant"])
    tensor([2, 1, 0])
    """
    order = sorted(range(len(names)), key=names.__getitem__)  # stable
    position = torch.empty(len(names), dtype=torch.int64)
    position[order] = torch.arange(len(names))
    return position


def best(
    scores: Float[Tensor, "block concepts"], position: Int[Tensor, " concepts"], *, k: int
) -> tuple[Float[Tensor, "block kept"], Int[Tensor, "block kept"]]:
    """The `k` highest scores of each unit and their columns, best first, the lowest position first among equals.

    >>> scores, columns = best(torch.tensor([[0.5, 0.9, 0.9]]), alphabetical(["dog", "cat", "ant"]), k=2)
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
    columns = columns.gather(1, position[columns].argsort(dim=1))
    values, order = scores.gather(1, columns).sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, order)


def rank(
    scores: Float[Tensor, "block concepts"], accepted: Sequence[Columns], position: Int[Tensor, " concepts"]
) -> Float[np.ndarray, " block"]:
    """The rank, from 1, of each unit's best accepted concept in the order of `best`; NaN where none is accepted.

    >>> scores, position = torch.tensor([[0.5, 0.9, 0.9], [0.1, 0.2, 0.3]]), alphabetical(["dog", "cat", "ant"])
    >>> rank(scores, [np.array([1]), None], position)
    array([ 2., nan])
    """
    ranks = np.full(len(scores), np.nan)
    given = {unit: columns for unit, columns in enumerate(accepted) if columns is not None and len(columns)}
    if not given:
        return ranks
    known = list(given)
    rows = scores if len(known) == len(scores) else scores[known]
    # In order of position, so that argmax takes the first among equals; padded with the unit's own first column, which
    # it then never prefers.
    order = position.cpu()
    ragged = [(own := torch.as_tensor(columns))[order[own].argsort()] for columns in given.values()]
    filled = pad_sequence(ragged, batch_first=True, padding_value=-1)
    columns = torch.where(filled < 0, filled[:, :1], filled).to(scores.device)
    target = columns.gather(1, rows.gather(1, columns).argmax(dim=1, keepdim=True))
    score = rows.gather(1, target)
    before = position < position[target]
    ahead = ((rows > score) | ((rows == score) & before)).sum(dim=1)
    ranks[known] = 1 + ahead.cpu().numpy()
    return ranks


def _blocks(scores: Tensor | Iterable[tuple[slice, Tensor]]) -> Iterator[tuple[slice, Tensor]]:
    return iter([(slice(0, len(scores)), scores)] if isinstance(scores, Tensor) else scores)


def _check(units: slice, block: Tensor, names: Sequence[str], *, layer: str, done: int) -> None:
    if units.start != done:
        raise ValueError(f"scores of {layer}: a block starts at unit {units.start}, expected unit {done}")
    if block.shape[1] != len(names):
        raise ValueError(f"scores of {layer} have {block.shape[1]} columns for {len(names)} concepts")
    undefined = block.isnan().any(dim=1)
    if undefined.any():
        unit = done + int(undefined.nonzero()[0])
        raise ValueError(f"scores of unit {unit} of {layer} hold NaN: a similarity function defines every score")


def _check_lengths(units: int, *, layer: str, accepted: Sequence[Columns], truth: Sequence[Accepted]) -> None:
    for name, given in (("accepted columns", accepted), ("truths", truth)):
        if len(given) not in (0, units):
            raise ValueError(f"{layer} has {units} units but {len(given)} {name}")
