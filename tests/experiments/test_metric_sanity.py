"""The test of the scores on few images: closed forms, verdicts, and the change of concepts itself."""

import pytest
import torch

from cd_exp.errors import InputError
from experiments.metric_sanity import analysis
from experiments.metric_sanity.metrics import METRICS, _ranks

PUBLISHED_THAT_PASS = {"F1", "IoU", "correlation", "cosine", "AUPRC"}
EXPLAINED = {"inverse AUPRC", "Spearman", "WPMI"}
"""No published verdict, or one that ours differs from for a reason that the README gives."""


@pytest.fixture(scope="module")
def by_rate():
    falls = {}
    for rate in (0.499, 0.1, 0.001):
        concept = analysis.ideal(rate, images=50_000, units=4, seed=0)
        falls[rate] = analysis.falls(METRICS, concept.float(), concept, seed=1)
    return falls


def test_ideal_units_have_their_concept_in_exactly_that_share():
    assert analysis.ideal(0.01, images=1000, units=3, seed=0).sum(0).tolist() == [10, 10, 10]


def test_missing_takes_about_half_and_extra_doubles():
    concept = analysis.ideal(0.1, images=10_000, units=5, seed=0)
    generator = torch.Generator().manual_seed(0)
    fewer, more = analysis.missing(concept, generator), analysis.extra(concept, generator)
    assert not (fewer & ~concept).any()
    assert ((fewer.sum(0) > 430) & (fewer.sum(0) < 570)).all()
    assert not (concept & ~more).any()
    assert more.sum(0).tolist() == [2000] * 5


def test_a_rare_concept_keeps_one_image_and_a_common_one_takes_what_there_is():
    generator = torch.Generator().manual_seed(0)
    once = torch.tensor([[False], [True], [False], [False]])
    assert all(analysis.missing(once, generator).any() for _ in range(20))
    assert analysis.extra(~once, generator).all()


def test_the_falls_of_ideal_units_are_the_closed_forms(by_rate):
    for rate, falls in by_rate.items():
        for name, (missing, extra) in analysis.closed_forms(rate).items():
            # which positives stay is drawn: 50 x 4 of them leave a standard deviation of 0.035
            assert falls[name].missing.mean() == pytest.approx(missing, abs=0.01 if rate > 0.001 else 0.1)
            assert falls[name].extra.mean() == pytest.approx(extra, abs=0.01)


def test_the_verdicts_are_the_published_ones_but_for_those_explained(by_rate):
    passed = {metric.name for metric in METRICS if analysis.verdict([falls[metric.name] for falls in by_rate.values()])}
    assert passed == PUBLISHED_THAT_PASS | EXPLAINED
    assert {metric.name for metric in METRICS if metric.published} == PUBLISHED_THAT_PASS


def test_ties_broken_at_random_take_the_test_from_spearman(by_rate):
    rare = by_rate[0.001]["Spearman, ties broken at random"]
    assert min(rare.shares) < analysis.PASS
    assert min(by_rate[0.001]["Spearman"].shares) == 1


@pytest.mark.slow
def test_the_known_units_of_the_embedded_world(small):
    activations, concept = analysis.known_units(small)
    assert activations.shape == concept.shape == (500, 128)
    text = analysis.main([str(small), "--images", "10000", "--units", "2"])
    assert "| known units | ours | published |" in text


def test_too_few_images_for_one_positive():
    with pytest.raises(InputError, match="--images 5000: at least 10000 are needed"):
        analysis.main(["--images", "5000"])


def test_ranks_of_two_values_are_those_of_any():
    columns = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    assert _ranks(columns).tolist() == [[1.5, 2.0], [3.0, 2.0], [1.5, 2.0]]
    three = torch.tensor([[0.0], [2.0], [1.0], [2.0]])
    assert _ranks(three)[:, 0].tolist() == [1, 3.5, 2, 3.5]
