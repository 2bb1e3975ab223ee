"""Resamples held against the literal way: the images drawn anew, every function called on what was drawn."""

import math
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch.testing import assert_close

from cd_exp import similarity
from cd_exp.activation_stats import strongest_images
from cd_exp.dissection import _best_candidates, label_units
from cd_exp.labels import alphabetical_order, label_layer
from cd_exp.records import ConceptActivations, Labels
from cd_exp.stability import (
    count_candidates,
    describe_duration,
    draw_resamples,
    images_reached,
    with_stability,
)
from cd_exp.stability.bootstrap import _count_labels, repeat_drawn
from cd_exp.stability.resample_terms import interpolation_weights, prior_read, resample_terms

sys.path.insert(0, str(Path(__file__).parents[1] / "similarity"))
from small_similarity import FUNCTIONS, draw

WITH_TERMS = [name for name in FUNCTIONS if similarity.bind(FUNCTIONS[name]).terms()]
RESAMPLES = 25


def names_of(match):
    return [f"word {column:03}" for column in range(len(match.texts))]


def resample_labels(function, match, layers, resamples=RESAMPLES, seed=3, number=None):
    """The labels with their stability; `number` is how many concepts of each unit resamples choose from."""
    names = names_of(match)
    scored = label_units(function, match, layers, names, truth=dict.fromkeys(layers, ()), top=3, resamples=resamples)
    candidates = scored.candidates
    if number is not None:
        candidates = {layer: _best_candidates(function(match, layers[layer]), number, names) for layer in layers}
    return with_stability(scored.labels, candidates, function, match, layers, names, resamples=resamples, seed=seed)


def literal(function, match, neurons, resamples=RESAMPLES, seed=3):
    """The share of resamples that give each unit's label, from the function called on the rows that were drawn."""
    names = names_of(match)
    kept = label_layer(function(match, neurons), names, layer="fc").descriptions
    agreed = np.zeros(len(kept))
    for often in draw_resamples(len(neurons), resamples, seed=seed):
        rows = torch.arange(len(neurons)).repeat_interleave(often.long())
        scores = function(ConceptActivations(match.images[rows], match.texts), neurons[rows])
        agreed += [
            one == other for one, other in zip(label_layer(scores, names, layer="fc").descriptions, kept, strict=True)
        ]
    return agreed / resamples


@pytest.mark.parametrize("name", [*WITH_TERMS, "cos", "rank_reorder"])
def test_stability_is_the_share_of_resamples_that_give_the_label(name):
    match, neurons = draw(images=80, concepts=30, units=12)
    mine = resample_labels(FUNCTIONS[name], match, {"fc": neurons})["fc"].stability
    wanted = literal(FUNCTIONS[name], match, neurons)
    assert np.abs(mine - wanted).mean() < (0.01 if name == "soft_wpmi" else 1e-9)


def test_a_prior_over_units_whose_candidates_are_few_is_nearly_that_of_all():
    match, neurons = draw(images=80, concepts=400, units=60)
    function = partial(similarity.soft_wpmi, top_k=11)
    exact = literal(function, match, neurons)
    few = resample_labels(function, match, {"fc": neurons}, number=60)["fc"].stability
    assert np.abs(few - exact).mean() < 0.06


@pytest.mark.parametrize("name", ["wpmi", "soft_wpmi"])
def test_a_prior_that_is_given_stays(name):
    match, neurons = draw(images=80, concepts=40, units=12)
    log_prior = torch.linspace(-40, -20, 40)
    function = partial(FUNCTIONS[name], prior=log_prior)
    assert (
        np.abs(
            resample_labels(function, match, {"fc": neurons})["fc"].stability - literal(function, match, neurons)
        ).mean()
        < 0.01
    )


def test_saturated_units_keep_the_likelier_label():
    """At the ceiling the scores of a resample are equal too, and go to the higher likelihood."""
    match, neurons = draw(images=80, concepts=40, units=12)
    match = ConceptActivations(8 * match.images, 8 * match.texts)
    mine = resample_labels(FUNCTIONS["soft_wpmi"], match, {"fc": neurons})["fc"].stability
    assert np.abs(mine - literal(FUNCTIONS["soft_wpmi"], match, neurons)).mean() < 0.02


def test_dead_units_stay_out_of_the_prior_when_told_to():
    match, neurons = draw(images=80, concepts=40, units=12)
    neurons = torch.cat([neurons, torch.zeros(80, 3)], dim=1)
    function = partial(FUNCTIONS["wpmi"], prior_units="alive", prior_weight=1.0)
    mine = resample_labels(function, match, {"fc": neurons})["fc"].stability[:12]
    assert np.abs(mine - literal(function, match, neurons)[:12]).mean() < 1e-9


@pytest.mark.parametrize("name", [*WITH_TERMS, "rank_reorder"])
def test_words_of_one_embedding_are_told_apart_by_name_in_resamples_too(name):
    """The label of equal scores is the first name: a resample with the same scores gives the same label."""
    match, neurons = draw(images=80, concepts=16, units=12)
    mixed = torch.randperm(32, generator=torch.Generator().manual_seed(1))
    double = ConceptActivations(match.images, torch.cat([match.texts, match.texts])[mixed])
    wanted = literal(FUNCTIONS[name], double, neurons)
    mine = resample_labels(FUNCTIONS[name], double, {"fc": neurons})["fc"].stability
    assert wanted.mean() > 0.2
    assert np.abs(mine - wanted).max() < 0.1


@pytest.mark.parametrize("setting", [{"scale": 0.0}, {"first_membership": 0.0, "last_membership": 0.0}])
@pytest.mark.parametrize("number", [3, None])
def test_scores_that_are_all_equal_give_one_label_in_every_resample(setting, number):
    match, neurons = draw(images=80, concepts=40, units=4)
    function = partial(similarity.soft_wpmi, top_k=11, **setting)
    labels = resample_labels(function, match, {"fc": neurons}, number=number)["fc"]
    assert set(labels.descriptions) == {"word 000"}
    assert labels.stability.tolist() == [1.0] * 4
    assert labels.stable_set == (("word 000",),) * 4


@pytest.mark.parametrize("images", [2, 3, 5])
@pytest.mark.parametrize("name", [*WITH_TERMS, "rank_reorder"])
def test_a_probe_smaller_than_what_is_read_is_resampled_whole(name, images):
    match, neurons = draw(images=images, concepts=30, units=12)
    mine = resample_labels(FUNCTIONS[name], match, {"fc": neurons})["fc"].stability
    wanted = literal(FUNCTIONS[name], match, neurons)
    assert np.abs(mine - wanted).mean() < (0.03 if name == "soft_wpmi" else 1e-9)


@pytest.mark.parametrize("weight", [1e-12, 1e-8, 1e-4, 10.0])
def test_a_prior_of_any_weight_is_that_of_the_scores(weight):
    match, neurons = draw(images=80, concepts=30, units=12)
    function = partial(similarity.soft_wpmi, top_k=11, prior_weight=weight)
    mine = resample_labels(function, match, {"fc": neurons})["fc"].stability
    assert np.abs(mine - literal(function, match, neurons)).mean() < 0.02


def test_terms_follow_the_membership_of_the_rank_in_the_resample():
    """A membership that falls from 1 to 0 makes the rank count for much."""
    match, neurons = draw(images=80, concepts=40, units=30)
    function = partial(similarity.soft_wpmi, top_k=20, first_membership=1.0, last_membership=0.0, scale=30.0)
    mine = resample_labels(function, match, {"fc": neurons})["fc"].stability
    assert np.abs(mine - literal(function, match, neurons)).mean() < 0.02
    level = partial(function, last_membership=1.0)
    flat = resample_labels(level, match, {"fc": neurons})["fc"].stability
    assert np.abs(flat - literal(level, match, neurons)).mean() < 0.02
    assert np.abs(mine - flat).mean() > 0.02


@given(
    count=st.integers(1, 60),
    first=st.floats(0.9, 0.999),
    last=st.floats(0.9, 0.999),
    undrawn=st.integers(0, 20),
    often=st.lists(st.sampled_from([0, 0, 1, 1, 1, 2, 3]), min_size=1, max_size=90),
    cell=st.floats(0, 1),
)
@example(count=1, first=1.0, last=0.0, undrawn=0, often=[1], cell=0.5)
@example(count=5, first=0.9, last=0.9 + 2**-52, undrawn=0, often=[1, 2], cell=0.5)
@example(count=1, first=0.0, last=2**-52, undrawn=0, often=[0], cell=0.0)
@example(count=2, first=0.999, last=0.90625, undrawn=14, often=[0, 1], cell=0.5)
@example(count=5, first=0.999, last=0.9, undrawn=20, often=[1, 1], cell=0.168)
def test_interpolated_terms_add_up_to_those_of_each_rank(count, first, last, undrawn, often, cell):
    """Even where many images in a row are not drawn, and the rest come far from their place."""
    settings = {"top_k": count, "first_membership": first, "last_membership": last, "scale": 30.0}
    terms = similarity.bind(similarity.soft_wpmi, **settings).terms()
    ranks = torch.tensor([0, *[0] * undrawn, *often]).cumsum(0).clamp(max=count)
    weights, nodes = interpolation_weights(terms, ranks.view(1, 1, -1))
    sums = (weights[0, 0] * terms.term(nodes, torch.tensor(cell))).sum(dim=1)
    each = [terms.term(torch.arange(*ends), torch.tensor(cell)).sum() for ends in pairwise(ranks.tolist())]
    np.testing.assert_allclose(weights[0, 0].sum(dim=1), ranks.diff(), atol=1e-4)
    assert torch.isfinite(sums).all()
    np.testing.assert_allclose(sums.sum(), sum(each), rtol=0.05, atol=0.2)


@pytest.mark.parametrize("name", ["cos_cubed", "whitened_wpmi"])
def test_what_is_taken_over_all_images_stays_that_of_all_images(name):
    match, neurons = draw(images=80, concepts=40, units=12)
    function = getattr(similarity, name)
    if name == "cos_cubed":
        centred = (
            ConceptActivations(match.images - match.images.mean(dim=0), match.texts),
            neurons - neurons.mean(dim=0),
        )

        def resampled(rows):
            p, a = (centred[0].images[rows] @ match.texts.T) ** 3, centred[1][rows] ** 3
            return (a.T @ p) / a.norm(dim=0)[:, None] / p.norm(dim=0)
    else:
        function = partial(similarity.whitened_wpmi, prior_weight=0.85, centre_weight=0.0)
        whole = similarity.bind(function)
        whitened, weights, rest = whole.spec.prepare(match, neurons, **whole.settings)
        assert_close(rest(whitened, weights), function(match, neurons), rtol=1e-4, atol=1e-4)
        rectified = torch.nn.functional.leaky_relu(whitened.images @ whitened.texts.T, 0.25)
        rectified = (rectified - rectified.mean(dim=0)) / rectified.std(dim=0) * whitened.texts.norm(dim=1)
        above, below = weights.clamp(min=0), weights.clamp(max=0).abs()

        def resampled(rows):
            chosen = above[rows] / above[rows].sum(dim=0) - 0.25 * below[rows] / below[rows].sum(dim=0)
            means = chosen.T @ rectified[rows]
            means = means - means.mean(dim=1, keepdim=True)
            means = 2 * means / means.std(dim=1, keepdim=True, correction=0)
            return means - 0.85 * 12 / (12 + 5) * (means.logsumexp(dim=0) - math.log(12))

    kept = function(match, neurons).argmax(dim=1)
    agreed = torch.zeros(12)
    for often in draw_resamples(80, RESAMPLES, seed=3):
        agreed += resampled(torch.arange(80).repeat_interleave(often.long())).argmax(dim=1) == kept
    mine = resample_labels(function, match, {"fc": neurons})["fc"].stability
    np.testing.assert_allclose(mine, agreed.numpy() / RESAMPLES, atol=1e-9)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_layers_together_are_as_each_alone_and_a_seed_gives_the_same_again(name):
    match, neurons = draw(images=60, concepts=20, units=10)
    layers = {"a": neurons[:, :6], "b": neurons[:, 6:]}
    both = resample_labels(FUNCTIONS[name], match, layers)
    for layer, own in layers.items():
        alone = resample_labels(FUNCTIONS[name], match, {layer: own})[layer]
        np.testing.assert_array_equal(both[layer].stability, alone.stability)
        assert both[layer].stable_set == alone.stable_set
    other = resample_labels(FUNCTIONS[name], match, layers, seed=4)
    assert any((both[layer].stability != other[layer].stability).any() for layer in layers)


@pytest.mark.parametrize("name", WITH_TERMS)
def test_blocks_of_images_and_units_change_nothing(name):
    match, neurons = draw(images=60, concepts=20, units=10)
    function, names, images = similarity.bind(FUNCTIONS[name]), names_of(match), len(neurons)
    terms = function.terms(images)
    layers = {"fc": strongest_images(neurons, min(images, images_reached(terms.count)))}
    candidates = {"fc": _best_candidates(function(match, neurons), len(names), names)}
    ordered, counts = alphabetical_order(names), draw_resamples(images, RESAMPLES, seed=3)

    def chosen(**limits):
        inputs = (match, layers, candidates, ordered, counts, lambda share: None)
        return resample_terms(terms, prior_read(function), *inputs, **limits)["fc"]

    whole, parts = chosen(), chosen(block_bytes=7 * 4 * 20, cells=1)
    assert whole.shape == (RESAMPLES, 10)
    assert (whole != parts).float().mean() < 0.01


@pytest.mark.parametrize("name", [*WITH_TERMS, "rank_reorder"])
def test_lists_give_what_all_activations_give(name):
    match, neurons = draw(images=60, concepts=20, units=10)
    count = images_reached(similarity.bind(FUNCTIONS[name]).inputs(60).strongest)
    lists = resample_labels(FUNCTIONS[name], match, {"fc": strongest_images(neurons, count)})["fc"]
    np.testing.assert_allclose(
        lists.stability, resample_labels(FUNCTIONS[name], match, {"fc": neurons})["fc"].stability
    )


def test_an_image_takes_as_many_ranks_as_it_was_drawn():
    neurons = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0]])
    drawn = repeat_drawn(strongest_images(neurons, 3), torch.tensor([2, 0, 1]), 3)
    assert drawn.indices.T.tolist() == [[0, 0, 2], [2, 0, 0]]
    assert drawn.values.T.tolist() == [[3, 3, 1], [3, 1, 1]]


def test_draws_are_as_many_as_there_are_images():
    counts = draw_resamples(50, 30, seed=0)
    assert (counts.sum(dim=1) == 50).all()
    assert 0.5 < (counts > 0).float().mean() < 0.75  # 1 - 1/e of the images
    assert torch.equal(counts, draw_resamples(50, 30, seed=0))


def test_the_stable_set_makes_up_nine_tenths():
    labels = Labels("fc", np.arange(3), (("b",), ("a",), ("c",)), np.zeros(3))
    columns = torch.tensor([[1, 0, 0], [1, 0, 1], [1, 0, 2], [1, 0, 2], [1, 0, 2], [1, 0, 2], [1, 0, 2], [1, 0, 2],
                            [1, 0, 2], [0, 0, 2]])  # fmt: skip
    counted = _count_labels(labels, columns, ["a", "b", "c"])
    assert counted.stability.tolist() == [0.9, 1.0, 0.8]
    assert counted.stable_set == (("b",), ("a",), ("c", "a"))


def test_two_concepts_of_one_name_are_one_label():
    labels = Labels("fc", np.arange(1), (("crane",),), np.zeros(1))
    assert _count_labels(labels, torch.tensor([[0], [1]]), ["crane", "crane"]).stability.tolist() == [1.0]


def test_what_takes_long_is_said_beforehand():
    assert describe_duration(similarity.soft_wpmi, 40) == "stability"
    assert describe_duration(similarity.cos, 40) == "stability (up to 40 times scoring; stability.resamples=0 for none)"
    assert describe_duration(similarity.cos, 10) == "stability"


def test_memory_bounds_the_candidates():
    kept = partial(count_candidates, similarity.soft_wpmi)
    assert [kept(units, 40) for units in (1000, 12_000, 100_000)] == [256, 136, 64]
    assert kept(1000, 0) == 0
    assert count_candidates(similarity.cos, 1000, 40) == 0
    assert count_candidates(similarity.rank_reorder, 1000, 40) == 32


@pytest.mark.parametrize("name", [*WITH_TERMS, "cos", "rank_reorder"])
def test_progress_adds_up_to_all(name):
    match, neurons = draw(images=60, concepts=20, units=10)
    names, layers, done = names_of(match), {"fc": neurons}, []
    scored = label_units(FUNCTIONS[name], match, layers, names, truth={"fc": ()}, top=3, resamples=7)
    with_stability(scored.labels, scored.candidates, FUNCTIONS[name], match, layers, names, resamples=7, seed=0,
                   step=done.append)  # fmt: skip
    assert sum(done) == pytest.approx(1)
