"""Rank correlations of many rows are those of scipy, one row at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cd_exp.metrics.significance import rank_correlations

SCORE = st.one_of(st.integers(0, 4).map(float), st.just(float("nan")))


@given(st.lists(st.tuples(SCORE, SCORE), min_size=3, max_size=30))
def test_each_row_is_scipys_over_the_units_that_both_have(pairs):
    a, b = np.array(pairs, dtype=float).T
    (value, again) = rank_correlations(np.stack([a, a]), np.stack([b, b]))
    assert value == again or np.isnan(value)
    both = ~(np.isnan(a) | np.isnan(b))
    if both.sum() > 2 and np.ptp(a[both]) and np.ptp(b[both]):
        assert value == pytest.approx(stats.spearmanr(a[both], b[both]).statistic, abs=1e-9)
    else:
        assert np.isnan(value)
