"""Two methods on the same units: each difference with a test, and the interval that agrees with it.

The interval of a difference leaves out 0 exactly where its test rejects at 5 %.

And rank correlation of many pairs of score lists at once, as a bootstrap needs it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from cd_exp.metrics.intervals import LEVEL

Right = Bool[np.ndarray, " units"]
Values = Right | Float[np.ndarray, " units"]
_BATCH_VALUES = 2**22  # signs drawn at once
_EXACT_UNITS = 13  # up to here all 2^units choices of signs are gone through: no more than are drawn otherwise
_STEPS = 60  # steps of a bisection: below float64's rounding


class Difference(NamedTuple):
    """A difference, its 95 % interval (None where too few units bound it) and the two-sided p of no difference."""

    value: float
    interval: tuple[float, float] | None
    p: float


def compare_shares(a: Right, b: Right) -> Difference:
    """The difference of two shares of the same units, in points of per cent.

    Test: McNemar's mid-p. Of the m units on which one method alone is right, are both as often that one?
    p = 2 P(X < k) + P(X = k), X ~ Binomial(m, 1/2), k the smaller count; 1 where k is half of m.

    Interval: Tango's score interval, extended to 0 where the test does not reject. Wherever mid-p rejects, Tango's
    interval leaves 0 out already. For n = 10, 28 and 100 and shares from .05 to .95 the two cover between 93 and 98 %
    on the mean (exact enumeration, in the tests), and the test rejects no more than 5 % under the null, which
    McNemar's test without correction does.

    >>> difference = compare_shares(np.array([True] * 6 + [False]), np.array([False] * 7))
    >>> f"{difference.value:.1f} {difference.p:.4f}"
    '85.7 0.0156'

    Source: Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13:91 (2013), for the mid-p test; Tango,
    Statistics in Medicine 17 (1998), for the interval.
    """
    units = len(a)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = float(mcnemar(np.array([only_a]), np.array([only_b]))[0])
    low, high = (float(end[0]) for end in tango_interval(np.array([only_a]), np.array([only_b]), units=units))
    if p > 1 - LEVEL:
        low, high = min(low, 0.0), max(high, 0.0)
    return Difference(100 * (only_a - only_b) / units, (100 * low, 100 * high), p)


def mcnemar(only_a: Int[np.ndarray, " cases"], only_b: Int[np.ndarray, " cases"]) -> Float[np.ndarray, " cases"]:
    """The two-sided mid-p of McNemar's test, from how many units each method alone has right; see `compare_shares`.

    >>> mcnemar(np.array([6, 3]), np.array([0, 3])).tolist()
    [0.015625, 1.0]
    """
    from scipy.special import bdtr  # scipy.stats would take longer to import than all tests of a run

    fewer, both = np.minimum(only_a, only_b), only_a + only_b
    below = np.where(fewer > 0, bdtr(np.maximum(fewer - 1, 0), both, 0.5), 0.0)
    up_to = bdtr(fewer, both, 0.5)
    return np.where(only_a == only_b, 1.0, below + up_to)


def tango_interval(
    only_a: Int[np.ndarray, " cases"], only_b: Int[np.ndarray, " cases"], *, units: int
) -> tuple[Float[np.ndarray, " cases"], Float[np.ndarray, " cases"]]:
    """Tango's score interval of a difference of paired shares, as a share: all d at which |z(d)| is at most 1.96.

    z(d) = (b - c - n d) / sqrt(n (2 q + d (1 - d))), with b, c the units one method alone has right and q the maximum
    likelihood estimate of the share only the second has right where the difference is d.

    >>> low, high = tango_interval(np.array([6]), np.array([0]), units=7)
    >>> f"{low[0]:.3f} {high[0]:.3f}"
    '0.199 0.974'
    """
    b, c = only_a.astype(np.float64), only_b.astype(np.float64)
    estimate = (b - c) / units
    ends = []
    for edge in (-1.0, 1.0):
        inside, outside = estimate.copy(), np.full_like(estimate, edge)
        for _ in range(_STEPS):
            middle = (inside + outside) / 2
            accepted = np.abs(_tango_score(b, c, units, middle)) <= _normal_quantile()
            inside, outside = np.where(accepted, middle, inside), np.where(accepted, outside, middle)
        ends.append(outside)
    return ends[0], ends[1]


def _tango_score(
    b: Float[np.ndarray, " cases"], c: Float[np.ndarray, " cases"], n: int, d: Float[np.ndarray, " cases"]
) -> Float[np.ndarray, " cases"]:
    linear = (2 * n - b + c) * d - b - c
    constant = -c * d * (1 - d)
    q = (np.sqrt(np.maximum(linear**2 - 8 * n * constant, 0)) - linear) / (4 * n)
    variance = n * (2 * q + d * (1 - d))
    # Without variance (all units alike, and d says so) there is no distance either.
    return (b - c - n * d) / np.sqrt(np.where(variance > 0, variance, np.inf))


def _normal_quantile() -> float:
    from scipy.special import ndtri

    return float(ndtri((1 + LEVEL) / 2))


def compare_means(
    a: Float[np.ndarray, " units"], b: Float[np.ndarray, " units"], *, seed: int, resamples: int
) -> Difference:
    """The mean difference of paired values.

    Test: sign flips. Where no method is better, a unit's difference d is as likely -d. One side's p at a mean of t is
    the share of sign choices, the observed one among them, whose sum of +-(d - t) is at least the observed one; twice
    the smaller side. All choices up to 13 units, otherwise `resamples` random ones.

    Interval: all t that the test accepts at 5 %. Flipping a set of units gains on the observed sum exactly where the
    mean difference of the set lies below t, so its ends are two of the ordered means of random sets of units.
    Fewer than 6 units cannot bound it.

    >>> difference = compare_means(np.array([2.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.0]), seed=0, resamples=99)
    >>> difference.value, difference.interval, difference.p
    (1.0, None, 0.25)

    Source: Fisher, The Design of Experiments (1935), section 21; Hartigan, JASA 64 (1969), for the interval.
    """
    differences = a - b
    means = np.sort(_means_of_sign_flips(differences, seed=seed, resamples=resamples))
    choices = len(means) + 1
    tail = 1 + min(int((means <= 0).sum()), int((means >= 0).sum()))
    kept = choices // 40  # choices beyond each end: 2.5 %
    interval = (float(means[kept - 1]), float(means[-kept])) if kept else None
    return Difference(float(differences.mean()), interval, min(1.0, 2 * tail / choices))


def _means_of_sign_flips(
    differences: Float[np.ndarray, " units"], *, seed: int, resamples: int
) -> Float[np.ndarray, " sets"]:
    """The mean over sets of units, each unit in a set or not by the toss of a coin; never over the empty one."""
    units = len(differences)
    if units <= _EXACT_UNITS:
        sets = (np.arange(1, 2**units)[:, None] >> np.arange(units)) & 1
        return sets @ differences / sets.sum(axis=1)
    rng, means = np.random.default_rng(seed), []
    batch = max(1, _BATCH_VALUES // units)
    for start in range(0, resamples, batch):
        sets = rng.integers(0, 2, (min(batch, resamples - start), units), dtype=np.uint8)
        sets[~sets.any(axis=1), 0] = 1  # once in 2^units
        means.append(sets @ differences / sets.sum(axis=1, dtype=np.int64))
    return np.concatenate(means)


def least_detectable(a: Values, b: Values) -> float | None:
    """The least true difference that a two-sided test at 5 % finds four times in five on as many units.

    (1.96 + .84) s / sqrt(units), with s the standard deviation of the paired differences: 1.96 and .84 are the normal
    quantiles of .975 and .80. A smaller difference may be there and is mostly missed. Shares count in per cent.

    >>> round(least_detectable(np.array([1.0, 0.0, 1.0, 0.0]), np.zeros(4)), 4)
    0.8083

    Returns:
        None for a single unit.
    """
    if len(a) < 2:
        return None
    scale = 100.0 if a.dtype == np.bool_ else 1.0
    differences = scale * (a.astype(np.float64) - b.astype(np.float64))
    return float((1.96 + 0.84) * differences.std(ddof=1) / np.sqrt(len(a)))


def holm_adjust(p: Sequence[float]) -> list[float]:
    """The p of several tests adjusted so that under the null any is at most 5 % in no more than 5 % of tables.

    The k-th smallest of m is multiplied by m - k + 1, and is never below a smaller one's.

    >>> holm_adjust([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]

    Source: Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    order = np.argsort(p, kind="stable")
    raised = np.minimum(np.maximum.accumulate((len(p) - np.arange(len(p))) * np.asarray(p)[order]), 1.0)
    adjusted = np.empty(len(p))
    adjusted[order] = raised
    return [float(value) for value in adjusted]


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
