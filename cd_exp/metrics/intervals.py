"""95 % intervals over the units of a layer."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

LEVEL = 0.95
_BATCH_VALUES = 2**21  # resampled at once: 16 MB, whatever the number of units

Statistic = Callable[..., Float[np.ndarray, "..."] | np.floating]
"""`(values, axis) -> statistic`, vectorised over the other axes."""


def clopper_pearson_interval(right: Bool[np.ndarray, " units"]) -> tuple[float, float]:
    """The exact (Clopper-Pearson) interval of a share, in per cent; it covers at least 95 % whatever the share is.

    With k of n right, its ends are the shares at which k or more, and k or fewer, have probability 2.5 %:

        low = Beta^-1(.025; k, n - k + 1), 0 for k = 0;  high = Beta^-1(.975; k + 1, n - k), 1 for k = n.

    >>> low, high = clopper_pearson_interval(np.array([True] * 9 + [False]))
    >>> f"{low:.2f} {high:.2f}"
    '55.50 99.75'

    Args:
        right: one per unit, at least one.

    Source: Clopper and Pearson, Biometrika 26 (1934).
    """
    from scipy.special import betaincinv  # scipy.stats would take longer to import than all intervals of a run

    units, hits, tail = len(right), int(right.sum()), (1 - LEVEL) / 2
    low = betaincinv(hits, units - hits + 1, tail) if hits else 0.0
    high = betaincinv(hits + 1, units - hits, 1 - tail) if hits < units else 1.0
    return 100 * float(low), 100 * float(high)


def bootstrap_interval(
    values: Float[np.ndarray, " units"], statistic: Statistic = np.mean, *, seed: int, resamples: int
) -> tuple[float, float] | None:
    """The percentile bootstrap interval of a statistic over units.

    The percentile interval because it is defined whatever the values are: equal values give an interval of no width.

    >>> bootstrap_interval(np.array([3.0, 3.0, 3.0]), seed=0, resamples=99)
    (3.0, 3.0)

    Args:
        values: one per unit.
        statistic: vectorised, with an `axis` argument.
        seed: of the resampling.
        resamples: how many samples are drawn.

    Raises:
        ValueError: the statistic does not reduce its axis, which would be no interval of it.

    Returns:
        None for a single unit, which says nothing of the spread.
    """
    if len(values) < 2:
        return None
    # As scipy.stats.bootstrap draws and cuts; importing that takes longer than all intervals of a run together.
    rng, drawn = np.random.default_rng(seed), []
    batch = max(1, _BATCH_VALUES // len(values))
    for start in range(0, resamples, batch):
        indices = rng.integers(0, len(values), (min(batch, resamples - start), len(values)))
        drawn.append(np.asarray(statistic(values[indices], axis=-1)))
        if drawn[-1].shape != indices.shape[:1]:
            raise ValueError(f"a statistic of {indices.shape} values gave {drawn[-1].shape}, expected one for each row")
    return percentile_interval(np.concatenate(drawn))


def bootstrap_interval_of_mean(
    values: Float[np.ndarray, " units"], *, seed: int, resamples: int
) -> tuple[float, float] | None:
    """`bootstrap_interval` of the mean of values of which many are equal, such as shares of 40 resamples.

    Drawn are not units but how often each value occurs in a resample, so that 36,864 units with 41 values take .05 s
    and not 3. None for a single unit.

    >>> low, high = bootstrap_interval_of_mean(np.array([0.0, 0.5, 0.5, 1.0] * 9), seed=0, resamples=999)
    >>> f"{low:.2f} {high:.2f}"
    '0.38 0.61'
    """
    if len(values) < 2:
        return None
    distinct, counts = np.unique(values, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(values), counts / len(values), resamples)
    return percentile_interval(drawn @ distinct / len(values))


def median_interval(values: Float[np.ndarray, " units"]) -> tuple[float, float] | None:
    """The interval of a median between two order statistics; it covers at least 95 % whatever the distribution is.

    With x_1 <= ... <= x_n it is [x_k, x_(n + 1 - k)], k the largest with P(X < k) <= 2.5 %, X ~ Binomial(n, 1/2). None
    for fewer than six units, which bound no median with 95 %.

    >>> median_interval(np.arange(1.0, 11.0))
    (2.0, 9.0)

    Source: David and Nagaraja, Order Statistics (2003), section 7.1.
    """
    from scipy.special import bdtr  # scipy.stats would take longer to import than all intervals of a run

    units = len(values)
    below = np.arange(max(0, units // 2 - 2 * int(np.ceil(units**0.5))), units // 2)  # four standard deviations
    rank = int(below[0]) + int((bdtr(below, units, 0.5) <= (1 - LEVEL) / 2).sum()) if len(below) else 0
    if not rank:
        return None
    ordered = np.sort(values)
    return float(ordered[rank - 1]), float(ordered[units - rank])


def percentile_interval(distribution: Float[np.ndarray, " resamples"]) -> tuple[float, float]:
    """What lies between the 2.5th and the 97.5th percentile of a bootstrap distribution.

    >>> [round(end, 6) for end in percentile_interval(np.arange(41.0))]
    [1.0, 39.0]
    """
    low, high = np.quantile(distribution, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
