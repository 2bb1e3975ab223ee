"""The enumeration against draws, and the bounds that every interval and test has to keep."""

import re

import numpy as np
import pytest
from scipy import stats

from cd_exp.metrics.intervals import clopper_pearson_interval
from cd_exp.metrics.significance import compare_shares
from experiments.coverage import analysis


def cells(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if re.match(r"\| \d", line)]


def test_every_bound_holds():
    shares, pairs, families = (cells(part) for part in analysis.main(["--units", "10", "28"]).split("\n\n"))
    assert [row[0] for row in shares] == ["10", "28"]
    assert all(float(row[1]) >= 95 for row in shares)
    for _, least, mean, _, _, size, disagree in pairs:
        assert float(least) >= 93
        assert 93 <= float(mean) <= 98
        assert float(size) <= 5
        assert disagree.startswith("0 of ")
    assert all(float(value) <= 5 for row in families for value in row[1:])


def test_the_least_coverage_of_a_share_is_where_it_is_said_to_be():
    least, where = analysis.least_share_coverage(12)
    bounds = np.array([clopper_pearson_interval(np.arange(12) < hits) for hits in range(13)]) / 100
    inside = (bounds[:, 0] <= where) & (where <= bounds[:, 1])
    assert stats.binom.pmf(np.arange(13), 12, where)[inside].sum() == pytest.approx(least)
    on_a_grid = [
        stats.binom.pmf(np.arange(13), 12, share)[(bounds[:, 0] <= share) & (share <= bounds[:, 1])].sum()
        for share in np.linspace(0.001, 0.999, 1997)
    ]
    assert least <= min(on_a_grid) < least + 0.01


def test_drawn_methods_are_covered_and_rejected_as_often_as_enumerated():
    outcomes, rng = analysis.Outcomes.of(10), np.random.default_rng(0)
    a, b, agreement = 0.6, 0.4, 0.5
    both = a * b + agreement * (min(a, b) - a * b)
    kinds = rng.choice(4, size=(4000, 10), p=[both, a - both, b - both, 1 - a - b + both])
    counted = [(int((row == 1).sum()), int((row == 2).sum())) for row in kinds]
    differences = {(b, c): compare_shares(np.arange(10) < b, np.arange(10) >= 10 - c) for b, c in set(counted)}
    drawn = [differences[own] for own in counted]
    covered = np.mean([low <= 20 + 1e-6 and high + 1e-6 >= 20 for _, (low, high), _ in drawn])
    weight = outcomes.probability(a, b, agreement)
    assert weight.sum() == pytest.approx(1)
    assert covered == pytest.approx(weight[outcomes.covers(a - b)].sum(), abs=0.015)
    assert np.mean([one.p <= 0.05 for one in drawn]) == pytest.approx(weight[outcomes.p <= 0.05].sum(), abs=0.02)


def test_a_table_errs_as_often_as_any_of_its_tests():
    outcomes = analysis.Outcomes.of(28)
    assert analysis.family_wise(outcomes, 1) == pytest.approx(analysis.size(outcomes, 0.05))
    assert analysis.size(outcomes, 0.05) > analysis.family_wise(outcomes, 20) > 0.01
