import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd_exp.metrics import selective
from cd_exp.metrics.selective import auc, auc_difference, auc_interval, coverage_at, risk_coverage_area

units = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=20)


def arrays(judged):
    return np.array([score for score, _ in judged], dtype=float), np.array([right for _, right in judged])


@given(units)
@settings(deadline=None, max_examples=60)
def test_auc_is_the_share_of_pairs_in_order(judged):
    similarity, right = arrays(judged)
    pairs = [(a > b) + (a == b) / 2 for a in similarity[right] for b in similarity[~right]]
    assert auc(similarity, right) == (pytest.approx(np.mean(pairs)) if pairs else None)


def placements(score, right):
    """DeLong's components, pair by pair."""
    order = (score[right][:, None] > score[~right]) + (score[right][:, None] == score[~right]) / 2
    return order.mean(axis=1), order.mean(axis=0)


@given(units)
@settings(deadline=None, max_examples=60)
def test_the_interval_of_the_area_is_that_of_delongs_components(judged):
    score, right = arrays(judged)
    bounds = auc_interval(score, right)
    if min(right.sum(), (~right).sum()) < 2:
        assert bounds is None
        return
    above, below = placements(score, right)
    variance = above.var(ddof=1) / len(above) + below.var(ddof=1) / len(below)
    area = above.mean()
    if variance < 1e-15 or not 0 < area < 1:
        assert bounds is None
        return
    logit = np.log(area / (1 - area)) + np.array([-1, 1]) * 1.959963985 * np.sqrt(variance) / (area * (1 - area))
    assert bounds == pytest.approx(tuple(1 / (1 + np.exp(-logit))))


def test_two_areas_over_the_same_units_are_compared_as_pairs():
    rng = np.random.default_rng(0)
    right = rng.random(300) < 0.4
    good, bad = right + rng.normal(0, 0.7, 300), right + rng.normal(0, 2, 300)
    low, high = selective.auc_difference_interval(good, bad, right)
    assert 0 < low < auc_difference(good, bad, right) < high
    # A score against itself does not differ, however uncertain its area.
    assert selective.auc_difference_interval(good, good, right) == (0, 0)


def test_the_paired_interval_covers_as_often_as_it_says():
    rng, covered = np.random.default_rng(1), 0
    for _ in range(400):
        right = rng.random(60) < 0.5
        shared = rng.normal(size=60)
        a, b = (right + shared + rng.normal(size=60) for _ in range(2))
        low, high = selective.auc_difference_interval(a, b, right)
        covered += low <= 0 <= high  # the two scores have one law
    assert 0.92 < covered / 400 < 0.98


def literal_curve(score, right):
    """Over all orders of units of equal score, by their mean: each unit of a group counts as its group's mean."""
    wrong = ~right.astype(bool)
    mean = np.array([wrong[score == value].mean() for value in score])
    order = np.argsort(-score, kind="stable")
    return np.cumsum(mean[order]) / np.arange(1, len(score) + 1)


@given(units)
@settings(deadline=None, max_examples=60)
def test_the_risk_coverage_area_is_the_mean_of_the_curve(judged):
    score, right = arrays(judged)
    coverage, risk = selective.risk_coverage(score, right)
    assert risk == pytest.approx(100 * literal_curve(score, right))
    assert coverage == pytest.approx(100 * np.arange(1, len(score) + 1) / len(score))
    assert risk_coverage_area(score, right) == pytest.approx(risk.mean() / 100)


def test_the_area_by_hand():
    right = np.array([True, False, True, True])
    # Risks 0, 1/2, 1/3, 1/4.
    assert risk_coverage_area(np.array([4.0, 3.0, 2.0, 1.0]), right) == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 4)
    # One group: the share of wrong labels at every coverage.
    assert risk_coverage_area(np.ones(4), right) == pytest.approx(0.25)


@given(units)
@settings(deadline=None, max_examples=60)
def test_coverage_at_80_is_the_largest_threshold_that_keeps_80_per_cent_right(judged):
    score, right = arrays(judged)
    kept = [score >= value for value in set(score.tolist())]
    literal = max([chosen.sum() for chosen in kept if right[chosen].mean() >= 0.8], default=0)
    assert coverage_at(score, right) == pytest.approx(100 * literal / len(score))


def test_coverage_at_80_by_hand():
    score = np.array([9.0, 8, 7, 6, 5, 4, 3, 2, 1, 0])
    right = np.array([1, 1, 0, 1, 1, 0, 0, 0, 0, 0], dtype=bool)
    assert coverage_at(score, right) == 50  # 2 of 3 and 3 of 4 are too few, 4 of 5 is enough again
    assert coverage_at(np.ones(10), right) == 0
    assert coverage_at(score, np.ones(10, dtype=bool)) == 100


@pytest.mark.parametrize("name", ["risk_coverage_area", "coverage_at"])
def test_the_bootstrap_of_groups_is_that_of_units(name):
    rng = np.random.default_rng(0)
    score = rng.integers(0, 9, 120) / 8
    right = rng.random(120) < 0.2 + 0.7 * score
    statistic, interval = getattr(selective, name), getattr(selective, f"{name}_interval")
    low, high = interval(score, right, seed=0, resamples=4000)
    drawn = [statistic(score[chosen], right[chosen]) for chosen in rng.integers(0, 120, (1500, 120))]
    assert low <= statistic(score, right) <= high
    assert (low, high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), rel=0.15)
    assert interval(score, right, seed=0, resamples=4000) == (low, high) != interval(score, right, seed=1, resamples=50)
    assert interval(score[:1], right[:1], seed=0, resamples=9) is None


def test_units_that_do_not_vary_have_no_interval_and_a_difference_of_areas_stays_a_difference():
    right = np.array([True, True, False, False])
    parted, reverse = np.array([4.0, 3.0, 2.0, 1.0]), np.array([1.0, 4.0, 2.0, 3.0])
    # .5 more than an area of .5, from four units: not certain, which an interval of no width would say.
    assert selective.auc_difference_interval(parted, np.ones(4), right) is None
    low, high = selective.auc_difference_interval(parted, reverse, right)
    assert -1 <= low < 0.5 < high == 1
    for alike in (np.ones(3, dtype=bool), np.zeros(3, dtype=bool)):
        score = np.array([0.9, 0.5, 0.1])
        assert selective.coverage_at_interval(score, alike, seed=0, resamples=99) is None
        assert selective.risk_coverage_area_interval(score, alike, seed=0, resamples=99) is None
    assert selective.coverage_at_interval(parted, right, seed=0, resamples=99) is not None
