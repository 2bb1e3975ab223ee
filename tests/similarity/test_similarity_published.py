"""Every function against its formula, written out slowly, and against what the published code returned."""

from functools import partial

import literal_similarity as literal
import numpy as np
import pytest
import torch
from small_similarity import draw
from torch.testing import assert_close

from cd_exp import similarity
from cd_exp.records import ConceptActivations
from cd_exp.similarity import top_images
from cd_exp.similarity.cos_cubed import CONCEPTS, IMAGES
from cd_exp.similarity.match import as_top_activations
from cd_exp.similarity.soft_wpmi import ERROR, LIMITS, _log_polynomial, _membership_and_base, soft_likelihood
from cd_exp.similarity.wpmi import sum_log_probabilities


def dense(match):
    return match.images @ match.texts.T


def expected(name, match, neurons, **settings):
    return torch.from_numpy(
        getattr(literal, name)(dense(match).double().numpy(), neurons.double().numpy(), **settings)
    ).float()


CASES = {
    "cos": {},
    "cos_cubed": {},
    "wpmi": {},
    "soft_wpmi": {},
    "mean_embedding": {},
    "whitened_wpmi": {"prior_weight": 0.85},
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("factored", [True, False])
def test_follows_its_formula(world, name, factored):
    match, neurons = world
    scores = getattr(similarity, name)(match if factored else dense(match), neurons, **CASES[name])
    assert_close(
        scores, expected(name, match, neurons, **CASES[name]), rtol=1e-5, atol=1e-3 if "wpmi" in name else 1e-5
    )


@pytest.mark.parametrize("name", ["wpmi", "soft_wpmi"])
@pytest.mark.parametrize("settings", [{"top_k": 5, "scale": 30.0, "prior_weight": 0.4}, {"top_k": 1, "scale": 0.5}])
def test_settings_follow_the_formula(world, name, settings):
    scores = getattr(similarity, name)(*world, **settings)
    assert_close(scores, expected(name, *world, **settings), rtol=1e-4, atol=1e-3)


def test_memberships_follow_the_formula(world):
    scores = similarity.soft_wpmi(*world, first_membership=1.0, last_membership=0.5, min_probability=1e-4)
    assert_close(scores, expected("soft_wpmi", *world, first=1.0, last=0.5, min_probability=1e-4), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "settings", [{}, {"top_fraction": 1.0, "power": 2.0}, {"top_fraction": 0.3, "scale_power": 0.0}]
)
@pytest.mark.parametrize("factored", [True, False])
def test_rank_reorder_follows_its_formula(world, settings, factored):
    match, neurons = world
    count = int(len(neurons) * settings.get("top_fraction", 0.05))
    generator = torch.Generator().manual_seed(3)
    orders = [torch.randperm(count, generator=generator).numpy() for _ in range(5)]
    scores = similarity.rank_reorder(match if factored else dense(match), neurons, seed=3, **settings)
    assert_close(scores, expected("rank_reorder", match, neurons, orders=orders, **settings), rtol=1e-4, atol=1e-4)


def test_rank_reorder_sorts_matches_of_both_signs():
    neurons = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    match = torch.randn(40, 5, generator=torch.Generator().manual_seed(1))
    assert (match < 0).any()
    orders = [torch.randperm(40, generator=torch.Generator().manual_seed(0)).numpy()]
    scores = similarity.rank_reorder(match, neurons, top_fraction=1.0, scale_power=0.0, permutations=1)
    wanted = literal.rank_reorder(match.double().numpy(), neurons.double().numpy(), orders, 1.0, scale_power=0)
    assert_close(scores, torch.from_numpy(wanted).float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("images", [1, 7, 60])
def test_blocks_of_images_change_nothing(world, images):
    member, base = _membership_and_base(100, 0.998, 0.97, 1e-7)
    soft = partial(soft_likelihood, *as_top_activations(*world, 100), scale=10.0, base=base, slope=member)
    hard = partial(sum_log_probabilities, *as_top_activations(*world, 28), scale=2.0, min_probability=1e-7)
    for likelihood in (soft, hard):
        parts = likelihood(width=5, block_bytes=images * 4 * 17)
        assert_close(parts, likelihood(), rtol=0, atol=2e-4)


def test_cos_cubed_of_several_tiles_follows_its_formula():
    match, neurons = draw(images=IMAGES + 9, concepts=CONCEPTS + 5, units=3)
    scores = similarity.cos_cubed(match, neurons)
    assert_close(scores, expected("cos_cubed", match, neurons), rtol=1e-5, atol=1e-5)


def test_rank_reorder_of_several_tiles_is_that_of_single_concepts():
    match, neurons = draw(images=60, concepts=2**10 + 5, units=3)
    each = similarity.rank_reorder(match, neurons, columns=torch.arange(2**10 + 5).expand(3, -1))
    assert_close(similarity.rank_reorder(match, neurons), each, rtol=1e-5, atol=1e-5)


def test_a_scale_beyond_float32_is_still_a_softmax(world):
    for scale in (100.0, 1e4):
        scores = similarity.soft_wpmi(*world, scale=scale)
        assert_close(scores, expected("soft_wpmi", *world, scale=scale), rtol=1e-3, atol=0.2)
    assert similarity.soft_wpmi(dense(world[0]) * 1e6, world[1]).isfinite().all()


def test_products_of_the_greatest_factors_stay_finite():
    """Every image shows concept 0 with probability 1: factors of 500, or of 1e7 with wpmi, a hundred times over."""
    match = torch.zeros(150, 4)
    match[:, 0] = 50.0
    neurons = torch.rand(150, 3, generator=torch.Generator().manual_seed(0))
    soft = similarity.soft_wpmi(match, neurons, prior_weight=0.0)
    hard = similarity.wpmi(match, neurons, top_k=100, prior_weight=0.0)
    assert_close(soft[:, 0], torch.zeros(3), rtol=0, atol=1e-3)
    assert_close(hard[:, 0], torch.zeros(3), rtol=0, atol=1e-3)
    assert_close(hard[:, 1], torch.full((3,), 100 * float(np.log(1e-7))), rtol=1e-4, atol=1e-3)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["cos", "cos_cubed", "wpmi", "soft_wpmi"])
@pytest.mark.parametrize("factored", [True, False])
def test_golden(golden, name, factored):
    match = similarity.concept_activations(golden["image_embeddings"], golden["text_embeddings"])
    scores = getattr(similarity, name)(match if factored else dense(match), golden["activations"])
    assert_close(scores, golden[name], rtol=1e-4, atol=2e-3 if "wpmi" in name else 1e-4)


@pytest.mark.shared
def test_golden_rank_reorder(golden):
    run = partial(similarity.rank_reorder, golden["rank_reorder_match"], golden["activations"], top_fraction=0.1)
    assert_close(run(permutations=200), golden["rank_reorder"], rtol=0.05, atol=0)
    scores = run()
    mine, wanted = (values / values.mean(dim=1, keepdim=True) for values in (scores, golden["rank_reorder"]))
    assert_close(mine, wanted, rtol=1e-3, atol=0)


@pytest.mark.parametrize(("of_units", "of_matches"), [(0.01, 1.0), (1.0, 0.01), (0.01, 0.01)])
def test_norms_below_the_least_count_as_the_least(world, of_units, of_matches):
    match, neurons = world
    small, faint = of_units * neurons, of_matches * dense(match)
    wanted = literal.cos_cubed(faint.double().numpy(), small.double().numpy())
    assert np.abs(wanted).max() < 0.5 * np.abs(literal.cos_cubed(dense(match).double().numpy(), neurons.numpy())).max()
    assert_close(similarity.cos_cubed(faint, small).double(), torch.from_numpy(wanted), rtol=1e-3, atol=1e-12)


def test_a_small_mean_match_is_taken_as_it_is_and_one_below_zero_as_a_millionth(world):
    match, neurons = world
    run = partial(similarity.rank_reorder, neurons=neurons, top_fraction=0.5)
    positive = dense(match).abs()
    assert_close(run(1e-4 * positive), 100 * run(positive), rtol=1e-4, atol=0)
    below = positive - 2
    assert_close(run(below), 1000 * run(below, scale_power=0.0), rtol=1e-4, atol=0)


def test_matches_far_below_zero_have_a_softmax_too():
    match = -1 - torch.rand(6, 5, generator=torch.Generator().manual_seed(0))
    (_, tile), *_ = top_images.softmax_tiles(match, scale=200.0, width=5, buffer=torch.empty(30))
    assert_close(tile, (200 * match).softmax(dim=1))


@pytest.mark.parametrize(("images", "dim"), [(16, 32), (150, 300)])
def test_few_images_and_many_give_the_same_cosine(images, dim):
    """Fewer images than dimensions take another road than the Gram matrix, of which only half is made, in blocks."""
    generator = torch.Generator().manual_seed(0)
    match = ConceptActivations(
        *(torch.nn.functional.normalize(torch.randn(n, dim, generator=generator)) for n in (images, 9))
    )
    neurons = torch.rand(images, 4, generator=generator)
    many = ConceptActivations(match.images.repeat(3, 1), match.texts)
    assert_close(similarity.cos(match, neurons), similarity.cos(many, neurons.repeat(3, 1)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("degree", range(1, len(LIMITS) + 1))
def test_polynomials_are_logarithms_as_far_as_float32_sees(degree):
    x = np.linspace(0, LIMITS[degree - 1], 5001)
    terms = _log_polynomial(degree).numpy()
    polynomial = sum(term * x**power for power, term in enumerate(terms, start=1))
    assert np.abs(polynomial - np.log1p(x)).max() < ERROR
    if degree > 1:  # and no higher a degree than needed
        beyond = LIMITS[degree - 2] * 1.2
        fewer = sum(t * beyond**p for p, t in enumerate(_log_polynomial(degree - 1).numpy(), start=1))
        assert abs(fewer - np.log1p(beyond)) > ERROR


@pytest.mark.parametrize("concepts", [300, 3_000, 30_000])
@pytest.mark.parametrize("name", ["soft_wpmi", "wpmi"])
def test_many_concepts_follow_the_formula(concepts, name):
    """With few concepts every logarithm is taken, with many none is, and in between some are."""
    match, neurons = draw(images=150, concepts=concepts, units=4, dim=32)
    scores = getattr(similarity, name)(match, neurons)
    assert_close(scores, expected(name, match, neurons), rtol=0, atol=2e-4)
