"""The figures of the paper: the median rank, and cosines between names."""

import numpy as np
from jaxtyping import Float


def upper_median(ranks: Float[np.ndarray, "..."], axis: int = -1) -> Float[np.ndarray, "..."] | np.floating:
    """The middle value, the higher of the two middle ones for an even number of units.

    >>> float(upper_median(np.array([1.0, 2.0, 3.0, 9.0])))
    3.0

    Source: CLIP-Dissect's notebook of table 3, `sorted(ranks)[500]` of 1,000.
    """
    middle = ranks.shape[axis] // 2
    return np.take(np.partition(ranks, middle, axis=axis), middle, axis=axis)


def cosines(a: Float[np.ndarray, "units dim"], b: Float[np.ndarray, "units dim"]) -> Float[np.ndarray, " units"]:
    """The cosine of each pair of rows; 0 where a row is all zeros.

    >>> cosines(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[3.0, 4.0], [1.0, 1.0]])).tolist()
    [0.6, 0.0]
    """
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.einsum("ud,ud->u", a, b) / np.where(norms > 0, norms, 1)
