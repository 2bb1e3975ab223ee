"""Each test of a difference against its definition, and its interval against the test."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from statsmodels.stats import contingency_tables, multitest

from cd_exp.metrics.significance import compare_means, compare_shares, holm_adjust, mcnemar, tango_interval

SHARES = np.arange(0.05, 0.951, 0.05)
AGREEMENT = (0.0, 0.25, 0.5, 0.75, 0.9)  # from independent methods to ones that are nearly always right together


def pair(only_a: int, only_b: int, both: int = 0, neither: int = 0):
    a = np.repeat([True, False, True, False], [only_a, only_b, both, neither])
    return a, np.repeat([False, True, True, False], [only_a, only_b, both, neither])


def every_table(units: int):
    """All ways for two methods to differ on so many units, with test and interval."""
    only_a, only_b = np.array([(b, c) for b, c in product(range(units + 1), repeat=2) if b + c <= units]).T
    p = mcnemar(only_a, only_b)
    low, high = tango_interval(only_a, only_b, units=units)
    low, high = np.where(p > 0.05, np.minimum(low, 0), low), np.where(p > 0.05, np.maximum(high, 0), high)
    return only_a, only_b, p, low, high


def probability(only_a, only_b, units, share_a, share_b, agreement):
    independent = share_a * share_b
    both = independent + agreement * (min(share_a, share_b) - independent)
    rest = units - only_a - only_b
    return np.exp(
        special.gammaln(units + 1)
        - special.gammaln([only_a + 1, only_b + 1, rest + 1]).sum(axis=0)
        + special.xlogy(only_a, share_a - both)
        + special.xlogy(only_b, share_b - both)
        + special.xlogy(rest, 1 - share_a - share_b + 2 * both)
    )


@pytest.mark.parametrize("units", [10, 28, 100])
def test_coverage_and_size_over_every_outcome(units):
    only_a, only_b, p, low, high = every_table(units)
    covered, size = [], []
    for share_a, share_b, agreement in product(SHARES, SHARES, AGREEMENT):
        weight = probability(only_a, only_b, units, share_a, share_b, agreement)
        difference = share_a - share_b
        covered.append(weight[(low - 1e-9 <= difference) & (difference <= high + 1e-9)].sum())
        if share_a == share_b:
            size.append(weight[p <= 0.05].sum())
    assert min(covered) >= 0.93
    assert 0.93 <= np.mean(covered) <= 0.98
    assert max(size) <= 0.05


@pytest.mark.parametrize("units", [10, 28, 100])
def test_the_interval_of_shares_leaves_out_0_exactly_where_the_test_rejects(units):
    only_a, only_b, p, low, high = every_table(units)
    assert np.array_equal((low > 0) | (high < 0), p <= 0.05)
    estimate = (only_a - only_b) / units
    assert ((low <= estimate + 1e-9) & (estimate <= high + 1e-9)).all()
    for row in np.random.default_rng(0).integers(0, len(p), 40):
        difference = compare_shares(*pair(only_a[row], only_b[row], neither=units - only_a[row] - only_b[row]))
        assert difference.interval == pytest.approx((100 * low[row], 100 * high[row]))
        assert (difference.value, difference.p) == pytest.approx((100 * estimate[row], p[row]))


@given(st.integers(0, 40), st.integers(0, 40))
@settings(deadline=None)
def test_mcnemars_mid_p_is_half_way_between_the_exact_p_and_the_p_of_more_extreme_counts(only_a, only_b):
    difference = mcnemar(np.array([only_a]), np.array([only_b]))[0]
    if only_a == only_b:
        assert difference == 1
        return
    both, fewer = only_a + only_b, min(only_a, only_b)
    exact = stats.binomtest(fewer, both).pvalue
    assert difference == pytest.approx(exact - stats.binom.pmf(fewer, both, 0.5))


def test_mcnemars_exact_part_is_that_of_statsmodels():
    exact = contingency_tables.mcnemar([[10, 6], [1, 4]], exact=True).pvalue
    assert mcnemar(np.array([6]), np.array([1]))[0] == pytest.approx(exact - stats.binom.pmf(1, 7, 0.5))


def test_tangos_ends_lie_1_96_restricted_deviations_from_the_estimate():
    low, high = tango_interval(np.array([12]), np.array([2]), units=68)
    for end in (low[0], high[0]):
        z = (12 - 2 - 68 * end) / np.sqrt(68 * (2 * restricted(12, 2, 68, end) + end * (1 - end)))
        assert abs(z) == pytest.approx(stats.norm.ppf(0.975), abs=1e-6)


def restricted(b, c, n, d):
    """The share only the second has right that is likeliest where the difference is d, by search."""
    q = np.linspace(max(0.0, -d) + 1e-12, (1 - d) / 2 - 1e-12, 2_000_001)
    likelihood = b * np.log(q + d) + c * np.log(q) + (n - b - c) * np.log(1 - 2 * q - d)
    return q[likelihood.argmax()]


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
@settings(deadline=None, max_examples=60)
def test_sign_flips_go_through_every_choice_of_signs(differences):
    differences = np.array(differences, dtype=float)
    difference = compare_means(differences, np.zeros(len(differences)), seed=0, resamples=99)
    sums = np.array([np.dot(signs, differences) for signs in product([1, -1], repeat=len(differences))])
    one_sided = min(np.mean(sums >= differences.sum()), np.mean(sums <= differences.sum()))
    assert difference.p == pytest.approx(min(1, 2 * one_sided))
    assert difference.value == pytest.approx(differences.mean())


def test_the_exact_p_of_sign_flips_is_scipys():
    differences = np.array([0.3, 1.2, -0.4, 0.9, 2.0, 0.1, 0.7, -0.2])
    expected = stats.permutation_test((differences, np.zeros(8)), lambda a, b, axis: np.mean(a - b, axis=axis),
                                      permutation_type="samples", vectorized=True, n_resamples=np.inf)  # fmt: skip
    assert compare_means(differences, np.zeros(8), seed=0, resamples=99).p == pytest.approx(expected.pvalue)


@given(st.integers(1, 60), st.floats(-1.5, 1.5), st.integers(0, 9))
@settings(deadline=None, max_examples=80)
def test_the_interval_of_means_leaves_out_0_exactly_where_the_test_rejects(units, shift, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 4, units) + shift, rng.integers(0, 4, units)
    difference = compare_means(a, b.astype(float), seed=seed, resamples=999)
    if difference.interval is None:
        assert units < 6
        assert difference.p > 0.05
    else:
        low, high = difference.interval
        assert (low > 0 or high < 0) == (difference.p <= 0.05)


def test_the_interval_of_means_holds_every_mean_that_the_test_accepts():
    differences = np.array([0.3, 1.2, -0.4, 0.9, 2.0, 0.1, 0.7])
    low, high = compare_means(differences, np.zeros(7), seed=0, resamples=99).interval
    for mean in np.linspace(-1.0013, 2, 61):
        p = compare_means(differences - mean, np.zeros(7), seed=0, resamples=99).p
        assert (p > 0.05) == (low - 1e-9 <= mean <= high + 1e-9)


def test_the_interval_of_means_covers_symmetric_differences_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [compare_means(rng.standard_t(3, 28), np.zeros(28), seed=n, resamples=399) for n in range(600)]
    covered = np.mean([low <= 0 <= high for low, high in (difference.interval for difference in intervals)])
    assert 0.93 <= covered <= 0.98


def test_the_seed_fixes_the_signs():
    a, b = np.random.default_rng(0).random((2, 30))
    assert compare_means(a, b, seed=0, resamples=199) == compare_means(a, b, seed=0, resamples=199)
    assert compare_means(a, b, seed=0, resamples=199) != compare_means(a, b, seed=1, resamples=199)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(deadline=None)
def test_holm_is_the_step_down_procedure(p):
    adjusted = holm_adjust(p)
    for level in (0.01, 0.05, 0.2):
        rejected, left = set(), sorted(range(len(p)), key=lambda number: (p[number], number))
        for step, number in enumerate(left):
            if (len(p) - step) * p[number] > level:
                break
            rejected.add(number)
        assert {number for number, value in enumerate(adjusted) if value <= level} == rejected


def test_holm_is_that_of_statsmodels():
    p = np.random.default_rng(0).random(20) ** 3
    assert holm_adjust(p.tolist()) == pytest.approx(multitest.multipletests(p, method="holm")[1].tolist())
    assert holm_adjust([]) == []


def test_at_most_one_table_in_twenty_has_a_rejected_test_under_the_null():
    rng, tables, rejected = np.random.default_rng(0), 2000, 0
    for _ in range(tables):
        right = rng.random((2, 6, 28)) < 0.4  # two methods of one law, on six layers of 28 units
        only_a, only_b = (right[0] & ~right[1]).sum(axis=1), (right[1] & ~right[0]).sum(axis=1)
        rejected += min(holm_adjust(mcnemar(only_a, only_b).tolist())) <= 0.05
    assert rejected / tables <= 0.05
