"""Spearman's correlation of many pairs of score lists at once, as a bootstrap needs it."""

import numpy as np
from jaxtyping import Float


def rank_correlations(a: Float[np.ndarray, "*rows units"], b: Float[np.ndarray, "*rows units"]) -> np.ndarray:
    """Spearman's correlation of each row of `a` with the same row of `b`, over the units that both have a number for.

    Equal values share their mean rank. One call for 25 rows of 24 units takes 0.1 ms where 25 calls take 2.5 ms: a
    bootstrap makes a thousand such calls.

    >>> a, b = np.array([[1.0, 2.0, 3.0, np.nan]]), np.array([[10.0, 30.0, 20.0, 5.0]])
    >>> rank_correlations(a, b).tolist()
    [0.5]

    Args:
        a: one score per unit, NaN where there is none.
        b: the same shape.

    Returns:
        shape (*rows): NaN where fewer than three units remain, or one side does not vary.
    """
    from scipy.stats import rankdata  # takes longer to import than the rest of the metrics together

    missing = np.isnan(a) | np.isnan(b)
    units = (~missing).sum(-1, keepdims=True)

    def centred_ranks(values: np.ndarray) -> np.ndarray:
        ranks = rankdata(np.where(missing, np.inf, values), axis=-1)  # what is missing comes last and changes no rank
        return np.where(missing, 0, ranks - (units + 1) / 2)

    left, right = centred_ranks(a), centred_ranks(b)
    norms = np.sqrt((left**2).sum(-1) * (right**2).sum(-1))
    decided = (norms > 0) & (units[..., 0] > 2)
    return np.where(decided, (left * right).sum(-1) / np.where(decided, norms, 1), np.nan)
