import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cd_exp.metrics.metrics import rowwise_cosines, upper_median


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9))
@settings(deadline=None)
def test_upper_median_is_the_published_expression(ranks):
    assert upper_median(np.array(ranks, dtype=float)) == sorted(ranks)[len(ranks) // 2]


def test_upper_median_along_an_axis():
    values = np.array([[1.0, 5.0, 3.0, 2.0], [4.0, 4.0, 1.0, 9.0]])
    assert upper_median(values, axis=-1).tolist() == [3, 4]
    assert upper_median(values, axis=0).tolist() == [4, 5, 3, 9]


def test_cosines_of_rows():
    a = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]])
    b = np.array([[6.0, 8.0], [0.0, 2.0], [1.0, 1.0]])
    assert rowwise_cosines(a, b).tolist() == [1, 0, 0]
