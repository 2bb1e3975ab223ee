"""Does a score tell right labels from wrong ones? The area under the ROC curve, and risk at each coverage.

Units of equal score are never ordered among themselves: they count half in the area, share the mean risk of their
group, and are kept or left together at a threshold.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from cd_exp.metrics.intervals import LEVEL, percentile_interval

Scores = Float[np.ndarray, " units"]
Right = Bool[np.ndarray, " units"]


def auc(score: Scores, right: Right) -> float | None:
    """The area under the ROC curve of a score as confidence that a label is right; equal scores count half.

    AUC = (sum of the ranks of the right units - r (r + 1) / 2) / (r w), for r right and w wrong ones.

    >>> auc(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]))
    0.875

    Returns:
        None where all labels are right or all wrong, which leaves nothing to tell apart.
    """
    positive, negative = int(right.sum()), int((~right).sum())
    if not positive or not negative:
        return None
    return float((_mid_ranks(score)[right].sum() - positive * (positive + 1) / 2) / (positive * negative))


def auc_interval(score: Scores, right: Right) -> tuple[float, float] | None:
    """The interval of `auc` from DeLong's variance, on the logit scale so that it stays within 0 and 1.

    Returns:
        None where one side has fewer than two units, or the score separates right from wrong without a fault: the
        variance is then not known.

    >>> low, high = auc_interval(np.array([0.9, 0.8, 0.4, 0.5, 0.1, 0.2]), np.array([True] * 3 + [False] * 3))
    >>> f"{low:.2f} {high:.2f}"
    '0.26 0.99'

    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988); Pepe, The Statistical Evaluation of Medical Tests
    (2003), section 5.2.4, for the logit.
    """
    parts = _placements(score, right)
    if parts is None:
        return None
    area = float(parts[0].mean())
    spread = _standard_error(*parts)
    if not 0 < area < 1 or not spread:
        return None
    middle, half = np.log(area / (1 - area)), _normal_quantile() * spread / (area * (1 - area))
    low, high = (1 / (1 + np.exp(-(middle + sign * half))) for sign in (-1, 1))
    return float(low), float(high)


def auc_difference(score: Scores, other: Scores, right: Right) -> float | None:
    """`auc` of one score less that of another, over the same units.

    >>> auc_difference(np.array([3.0, 2.0, 1.0]), np.array([1.0, 2.0, 3.0]), np.array([True, False, False]))
    1.0
    """
    first, second = auc(score, right), auc(other, right)
    return None if first is None or second is None else first - second


def auc_difference_interval(score: Scores, other: Scores, right: Right) -> tuple[float, float] | None:
    """The interval of `auc_difference` from DeLong's variance of the paired difference, within -1 and 1.

    Returns:
        None where one side has fewer than two units, or all units have the same rank: the variance is then
        not known. Scores of one order differ by 0 whatever the units are.

    >>> auc_difference_interval(np.array([4.0, 3.0, 2.0, 1.0]), np.ones(4), np.array([True, True, False, False]))

    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988).
    """
    first, second = _placements(score, right), _placements(other, right)
    if first is None or second is None:
        return None
    parts = [a - b for a, b in zip(first, second, strict=True)]
    middle, spread = float(parts[0].mean()), _standard_error(*parts)
    if not spread and any(part.any() for part in parts):
        return None
    half = _normal_quantile() * spread
    return max(-1.0, middle - half), min(1.0, middle + half)


def risk_coverage(score: Scores, right: Right) -> tuple[Float[np.ndarray, " units"], Float[np.ndarray, " units"]]:
    """The risk-coverage curve: of the k units of highest score the share labelled wrong, for each coverage k / units.

    Returns:
        Coverage and risk, both in per cent.

    >>> coverage, risk = risk_coverage(np.array([0.9, 0.5, 0.4, 0.1]), np.array([True, False, True, True]))
    >>> coverage.tolist(), risk.round(1).tolist()
    ([25.0, 50.0, 75.0, 100.0], [0.0, 50.0, 33.3, 25.0])
    """
    count, wrong = _tied_groups(score, right)
    units = len(score)
    taken = np.arange(1, units + 1)
    group = np.searchsorted(np.cumsum(count), taken)
    before, errors = np.cumsum(count) - count, np.cumsum(wrong) - wrong
    faults = errors[group] + (taken - before[group]) * wrong[group] / count[group]
    return 100 * taken / units, 100 * faults / taken


def risk_coverage_band(score: Scores, right: Right) -> tuple[Float[np.ndarray, " units"], Float[np.ndarray, " units"]]:
    """The exact (Clopper-Pearson) interval of 95 % of the risk at each coverage of `risk_coverage`, in per cent.

    At each k alone, with the k units of highest score taken as drawn; within a group of equal scores the wrong ones are
    its mean, which need not be whole. At full coverage it is what `clopper_pearson_interval` gives of the wrong labels.

    >>> low, high = risk_coverage_band(np.array([0.9, 0.5, 0.4, 0.1]), np.array([True, False, True, True]))
    >>> low.round(1).tolist(), high.round(1).tolist()
    ([0.0, 1.3, 0.8, 0.6], [97.5, 98.7, 90.6, 80.6])
    """
    from scipy.special import betaincinv

    taken = np.arange(1, len(score) + 1)
    wrong = risk_coverage(score, right)[1] / 100 * taken
    wrong = np.where(np.isclose(wrong, np.rint(wrong)), np.rint(wrong), wrong)
    tail = (1 - LEVEL) / 2
    some, not_all = wrong > 0, wrong < taken
    low = np.where(some, betaincinv(np.where(some, wrong, 1), taken - wrong + 1, tail), 0.0)
    high = np.where(not_all, betaincinv(wrong + 1, np.where(not_all, taken - wrong, 1), 1 - tail), 1.0)
    return 100 * low, 100 * high


def risk_coverage_area(score: Scores, right: Right) -> float:
    """The area under the risk-coverage curve: the mean over k of the share wrong among the k units of highest score.

    0 where every label is right; the share of wrong labels where the score says nothing. Lower is better.

    >>> round(risk_coverage_area(np.array([0.9, 0.5, 0.1]), np.array([True, True, False])), 4)
    0.1111

    Source: Geifman, Uziel and El-Yaniv, Bias-reduced uncertainty estimation (ICLR 2019, arXiv:1805.08206), AURC.
    """
    count, wrong = _tied_groups(score, right)
    return float(_curve_area(count[None], wrong[None])[0])


def risk_coverage_area_interval(
    score: Scores, right: Right, *, seed: int, resamples: int
) -> tuple[float, float] | None:
    """The percentile bootstrap interval of `risk_coverage_area` over units; None where all are right, or all wrong."""
    return (
        None
        if _group_ties(right)
        else percentile_interval(_curve_area(*_resample_units(score, right, seed=seed, resamples=resamples)))
    )


def coverage_at(score: Scores, right: Right) -> float:
    """The largest share of units, highest score first, of which at least 80 % are right; in per cent.

    0 where not even the group of highest score is right as often.

    >>> coverage_at(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, False]))
    50.0
    """
    count, wrong = _tied_groups(score, right)
    return float(_coverage_of(count[None], wrong[None])[0])


def coverage_at_interval(score: Scores, right: Right, *, seed: int, resamples: int) -> tuple[float, float] | None:
    """The percentile bootstrap interval of `coverage_at` over units; None where all are right, or all wrong."""
    return (
        None
        if _group_ties(right)
        else percentile_interval(_coverage_of(*_resample_units(score, right, seed=seed, resamples=resamples)))
    )


def _group_ties(right: Right) -> bool:
    """Whether every resample of the units is as all of them, which says nothing of how far others would be off."""
    return bool(right.all() or not right.any())


def _mid_ranks(score: Scores) -> Float[np.ndarray, " units"]:
    """From 1; equal scores share the mean of their ranks."""
    ordered = np.sort(score)
    return (np.searchsorted(ordered, score, "left") + 1 + np.searchsorted(ordered, score, "right")) / 2


def _placements(score: Scores, right: Right) -> list[Float[np.ndarray, " some"]] | None:
    """For each right unit the share of wrong ones below it, and for each wrong one that of right ones above it."""
    positive, negative = score[right], score[~right]
    if len(positive) < 2 or len(negative) < 2:
        return None
    ranks = _mid_ranks(score)
    above = (ranks[right] - _mid_ranks(positive)) / len(negative)
    below = 1 - (ranks[~right] - _mid_ranks(negative)) / len(positive)
    return [above, below]


def _standard_error(above: Float[np.ndarray, " right"], below: Float[np.ndarray, " wrong"]) -> float:
    return float(np.sqrt(above.var(ddof=1) / len(above) + below.var(ddof=1) / len(below)))


def _normal_quantile() -> float:
    from scipy.special import ndtri

    return float(ndtri((1 + LEVEL) / 2))


def _tied_groups(score: Scores, right: Right) -> tuple[Int[np.ndarray, " groups"], Int[np.ndarray, " groups"]]:
    """How many units share each score, highest first, and how many of them are wrong."""
    _, group = np.unique(-score, return_inverse=True)
    return np.bincount(group), np.bincount(group, weights=~right).astype(np.int64)


def _resample_units(
    score: Scores, right: Right, *, seed: int, resamples: int
) -> tuple[Int[np.ndarray, "resamples groups"], Int[np.ndarray, "resamples groups"]]:
    """`_groups` of units drawn with replacement. Drawn as counts of right and wrong units a group: the same
    law.
    """
    count, wrong = _tied_groups(score, right)
    cells = np.concatenate([count - wrong, wrong])
    drawn = np.random.default_rng(seed).multinomial(len(score), cells / len(score), resamples)
    good, bad = np.split(drawn, 2, axis=1)
    return good + bad, bad


def _curve_area(
    count: Int[np.ndarray, "resamples groups"], wrong: Int[np.ndarray, "resamples groups"]
) -> Float[np.ndarray, " resamples"]:
    """Within a group of n units from the m-th on, faults rise evenly from f by e / n a unit, so that

    sum_k (f + (k - m) e / n) / k = e + (f - m e / n) (H(m + n) - H(m)), with H the harmonic numbers.
    """
    units = int(count[0].sum())
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, units + 1))])
    end, faults = np.cumsum(count, axis=1), np.cumsum(wrong, axis=1) - wrong
    start = end - count
    slope = wrong / np.maximum(count, 1)
    return (wrong + (faults - start * slope) * (harmonic[end] - harmonic[start])).sum(axis=1) / units


def _coverage_of(
    count: Int[np.ndarray, "resamples groups"], wrong: Int[np.ndarray, "resamples groups"]
) -> Float[np.ndarray, " resamples"]:
    taken, faults = np.cumsum(count, axis=1), np.cumsum(wrong, axis=1)
    # In whole numbers: 80 % right is 5 x right >= 4 x taken, which no rounding can miss.
    return 100 * np.where(5 * (taken - faults) >= 4 * taken, taken, 0).max(axis=1) / taken[:, -1]
