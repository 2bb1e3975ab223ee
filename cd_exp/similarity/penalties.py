"""What a concept loses beside others that CLIP cannot tell from it: for its place among them, or for its name."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.errors import InputError
from cd_exp.similarity.match import slices
from cd_exp.similarity.whitening import unit_rows


def off_centre(loadings: Float[Tensor, "concepts rank"], *, width: float) -> Float[Tensor, " concepts"]:
    """How far each concept is from the middle of those that are nearly the same to CLIP.

    With C the cosines between the rows L of `loadings`, which are the correlations of the concepts' whitened matches,

        off[t] = 1 - cosine(L_t, sum_s exp((C_ts - 1) / width) L_s)

    A word that CLIP does not know, or that the images do not show, hardly moves a phrase: `red pentagon`, `dotted red`
    lie about `red`, each moved a little in a direction of its own, and `red` is their middle. A concept that has no
    other within some widths of it is its own middle, and 0 off; so is one that does not vary.

    In float32: a cosine is good to 1e-7, and one that matters is off by 1e-3.

    >>> rows = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.1, 0.0], [1.0, -0.1, 0.0], [0.0, 0.0, 1.0]])
    >>> off_centre(rows, width=0.02).mul(1000).round().int().tolist()
    [0, 2, 2, 0]
    """
    rows = unit_rows(loadings).float()
    off = torch.empty(len(rows), device=rows.device)
    for part in slices(len(rows), max(1, 2**23 // len(rows))):
        nearness = rows[part] @ rows.T
        middle = nearness.sub_(1).div_(width).exp_() @ rows
        off[part] = 1 - (unit_rows(middle) * rows[part]).sum(dim=1)
    return off.where(rows.any(dim=1), 0.0).double()


def name_penalty(names: Sequence[str] | None, concepts: int, weight: float) -> Float[Tensor, " concepts"]:
    """`weight` for each concept whose name contains another's."""
    if not weight:
        return torch.zeros(concepts, dtype=torch.float64)
    if names is None or len(names) != concepts:
        given = "none" if names is None else str(len(names))
        raise InputError(f"name_weight={weight} needs the names of the {concepts} concepts as `names`, got {given}")
    return weight * torch.tensor(nested(names), dtype=torch.float64)


def nested(names: Sequence[str]) -> list[bool]:
    """Whether each name contains another one, word by word and whatever the case.

    >>> nested(["red", "red circle", "circled", "Red"])
    [False, True, False, False]
    """
    phrases = [tuple(name.casefold().split()) for name in names]
    known = set(phrases)

    def contains_another(words: tuple[str, ...]) -> bool:
        length = len(words)
        parts = ((start, stop) for start in range(length) for stop in range(start + 1, length + 1))
        return any(words[start:stop] in known for start, stop in parts if stop - start < length)

    return [contains_another(words) for words in phrases]
