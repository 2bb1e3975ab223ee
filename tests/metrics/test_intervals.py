import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cd_exp.metrics.intervals import (
    bootstrap_interval,
    bootstrap_interval_of_mean,
    clopper_pearson_interval,
    median_interval,
)
from cd_exp.metrics.metrics import upper_median

FAST = {"seed": 0, "resamples": 400}


@given(st.lists(st.booleans(), min_size=1, max_size=60))
@settings(deadline=None, max_examples=40)
def test_the_interval_of_a_share_holds_the_share(right):
    right = np.array(right)
    low, high = clopper_pearson_interval(right)
    assert 0 <= low <= 100 * right.mean() <= high <= 100
    assert low < high


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=40))
@settings(deadline=None, max_examples=40)
def test_the_interval_of_a_mean_holds_the_mean(ranks):
    values = np.array(ranks, dtype=float)
    low, high = bootstrap_interval(values, **FAST)
    assert low - 1e-9 <= values.mean() <= high + 1e-9


@pytest.mark.parametrize("units", [50, 500])
@pytest.mark.parametrize("most", [1, 40])
def test_counts_of_values_give_the_interval_that_units_give(units, most):
    values = np.random.default_rng(units).integers(0, most + 1, units) / most
    counted = bootstrap_interval_of_mean(values, seed=0, resamples=9999)
    drawn = bootstrap_interval(values, seed=1, resamples=9999)
    assert counted == pytest.approx(drawn, abs=0.06 * (drawn[1] - drawn[0]))
    assert counted == bootstrap_interval_of_mean(values[::-1], seed=0, resamples=9999)


@pytest.mark.parametrize("units", [6, 7, 10, 25, 100, 999])
def test_a_median_lies_within_its_interval_with_95_percent_and_with_less_in_any_narrower_one(units):
    low, _ = median_interval(np.arange(1.0, units + 1))
    for rank, reached in ((int(low), True), (int(low) + 1, False)):
        assert (1 - 2 * stats.binom.cdf(rank - 1, units, 0.5) >= 0.95) == reached


@given(st.lists(st.integers(0, 40), max_size=60))
@settings(deadline=None, max_examples=60)
def test_the_interval_of_a_median_holds_it_and_needs_six_units(shares):
    interval = median_interval(np.array(shares) / 40)
    assert (interval is None) == (len(shares) < 6)
    if interval is not None:
        assert interval[0] <= np.median(shares) / 40 <= interval[1]


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("units", [1, 50])
def test_all_alike_is_given_the_exact_interval(right, units):
    low, high = clopper_pearson_interval(np.full(units, right))
    edge = 100 * 0.025 ** (1 / units)  # Clopper-Pearson at k = n
    expected = (edge, 100) if right else (0, 100 - edge)
    assert (low, high) == pytest.approx(expected)


@given(st.integers(1, 300), st.data())
@settings(deadline=None, max_examples=40)
def test_the_interval_of_a_share_is_scipys_exact_one(units, data):
    hits = data.draw(st.integers(0, units))
    exact = stats.binomtest(hits, units).proportion_ci(0.95, method="exact")
    assert clopper_pearson_interval(np.arange(units) < hits) == pytest.approx(
        (100 * exact.low, 100 * exact.high), abs=1e-9
    )


@pytest.mark.parametrize("units", [10, 28, 100])
def test_the_interval_of_a_share_covers_every_share_at_least_95_times_in_100(units):
    bounds = np.array([clopper_pearson_interval(np.arange(units) < hits) for hits in range(units + 1)]) / 100
    for share in np.arange(0.005, 1, 0.005):
        inside = (bounds[:, 0] <= share) & (share <= bounds[:, 1])
        assert stats.binom.pmf(np.arange(units + 1), units, share)[inside].sum() >= 0.95


def test_one_more_right_never_lowers_the_interval():
    bounds = np.array([clopper_pearson_interval(np.arange(28) < hits) for hits in range(29)])
    assert (np.diff(bounds, axis=0) >= 0).all()
    assert (np.diff(bounds[1:-1], axis=0) > 0).all()
    assert clopper_pearson_interval(np.arange(100) < 99)[1] < 100


def test_the_seed_fixes_the_interval():
    values = np.random.default_rng(0).gamma(2, size=200)
    assert bootstrap_interval(values, **FAST) == bootstrap_interval(values, **FAST)
    assert bootstrap_interval(values, **FAST) != bootstrap_interval(values, seed=1, resamples=400)


def test_one_unit_has_no_spread_and_equal_ones_no_width():
    assert bootstrap_interval(np.array([3.0]), **FAST) is None
    assert bootstrap_interval(np.full(9, 3.0), **FAST) == (3, 3)
    assert bootstrap_interval(np.full(9, 3.0), upper_median, **FAST) == (3, 3)
