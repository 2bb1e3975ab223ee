"""The simulated human studies, on a world small enough for a test."""

import numpy as np
import pytest

from cd_exp.study.designs import drawing_probability, standardise
from experiments.human_study import simulate


@pytest.fixture(scope="module")
def units():
    """Units that are active where a concept on 3 % of 2,000 images is, each more or less."""
    rng = np.random.default_rng(0)
    made = []
    for strength in np.linspace(1, 4, 12):
        shows = rng.random(2000) < 0.03
        raw = strength * shows + rng.normal(size=2000)
        activation, match = standardise(raw), standardise(2 * shows + rng.normal(size=2000))
        correlation = float(np.corrcoef(raw, shows)[0, 1])
        probability = drawing_probability(activation, match)
        made.append(simulate.RareUnit(correlation, shows, raw, activation, match, probability))
    return made


def test_pooled_answers_about_drawn_images_come_nearer_than_even_draws_with_majorities(units):
    rng, truth = np.random.default_rng(1), np.array([unit.correlation for unit in units])
    values, error, answers = simulate.presence_study(units, simulate.ERROR, rng)
    even = simulate.even_majority(units, simulate.ERROR, rng)
    assert np.mean(np.abs(values - truth) / truth) < 0.6 * np.mean(np.abs(even - truth) / truth)
    assert error == pytest.approx(simulate.ERROR, abs=0.03)
    assert 400 < answers <= 540  # an image that is drawn twice is asked about once


def test_a_spammer_answers_in_one_place_or_anywhere():
    rng = np.random.default_rng(2)
    assert {simulate.spam("constant", ["1", "2", "3"], rng) for _ in range(9)} == {("2", 1)}
    assert simulate.spam("always yes", ["yes", "no"], rng) == ("yes", 0)
    assert len({simulate.spam("random", ["1", "2", "3"], rng) for _ in range(40)}) == 3
