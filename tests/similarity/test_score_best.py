"""The best concepts of a large layer in one pass: those of all scores."""

from dataclasses import replace
from functools import partial, wraps

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cd_exp.dissection import label_units
from cd_exp.labels import BestConcepts, alphabetical_order, best_concepts
from cd_exp.similarity import (
    bind,
    concept_activations,
    score_best,
    score_layers,
    similarity_function,
    soft_wpmi,
    wpmi,
)
from cd_exp.similarity.prior import order_ties, subtract_prior
from cd_exp.similarity.scoring import KEPT, BlockSizes

IMAGES, UNITS, CONCEPTS, TOP = 40, 30, 50, 5
NAMES = [f"word {number * 7 % CONCEPTS}" for number in range(CONCEPTS)]


def world(seed, *, alike=0):
    """A match whose last `alike` concepts are those before them again, and activations of which many are zero."""
    random = torch.Generator().manual_seed(seed)
    texts = torch.randn(CONCEPTS, 8, generator=random)
    texts[CONCEPTS - alike :] = texts[CONCEPTS - 2 * alike : CONCEPTS - alike]
    neurons = torch.randn(IMAGES, UNITS, generator=random).relu()
    neurons[:, 3] = 1.0  # dead
    return concept_activations(torch.randn(IMAGES, 8, generator=random), texts), neurons


SMALL = BlockSizes(result_bytes=1000, rows=7)
"""Layers of 30 units are large, and are gone through 7 units at a time."""


def in_tiles(function):
    """The same function, whose likelihoods come 32 concepts after others, with images looked up for 11 units."""
    bound = bind(function)

    @wraps(bound.function)
    def same(*arguments, **more):
        return bound.function(*arguments, **more)

    likelihoods = partial(bound.spec.likelihoods, width=32, at_once=11)
    vars(same)["declaration"] = replace(bound.spec, likelihoods=likelihoods)
    return bind(same, **bound.bound)


def best(function, match, neurons, *, kept=KEPT):
    how = {"top": TOP, "position": alphabetical_order(NAMES), "sizes": replace(SMALL, kept=kept)}
    pieces = list(score_best(function, match, {"a": neurons}, **how))
    assert all(layer == "a" and isinstance(piece, BestConcepts) for layer, _, piece in pieces)
    return torch.cat([piece.values for _, _, piece in pieces]), torch.cat([piece.columns for _, _, piece in pieces])


FUNCTIONS = {
    "soft_wpmi": soft_wpmi,
    "without a prior": partial(soft_wpmi, prior_weight=0.0),
    "flat scores": partial(soft_wpmi, top_k=20, scale=0.1),
    "large probabilities": partial(soft_wpmi, top_k=9, scale=60.0),
    "rising membership": partial(soft_wpmi, top_k=9, first_membership=0.5, last_membership=0.9),
    "wpmi": wpmi,
    "without the dead": partial(wpmi, top_k=5, prior_weight=1.0, prior_units="alive"),
}


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 999), name=st.sampled_from(sorted(FUNCTIONS)), kept=st.sampled_from([1, 2, 16, 999]))
def test_the_best_concepts_are_those_of_all_scores_but_for_rounding(seed, name, kept):
    match, neurons = world(seed)
    scores = torch.cat([part for _, _, part in score_layers(FUNCTIONS[name], match, {"a": neurons})])
    expected = best_concepts(scores, alphabetical_order(NAMES), k=TOP)
    values, columns = best(in_tiles(FUNCTIONS[name]), match, neurons, kept=kept)
    torch.testing.assert_close(values, expected.values, rtol=0, atol=1e-4)
    torch.testing.assert_close(scores.gather(1, columns.long()), values, rtol=0, atol=1e-4)


def from_matrix(likelihood):
    """A similarity function whose likelihood is a matrix, three concepts at a time."""

    def tiles(match, lists, **_):
        for start in range(0, likelihood.shape[1], 3):
            yield slice(start, min(start + 3, likelihood.shape[1])), likelihood[:, start : start + 3]

    @similarity_function(strongest=lambda images, **_: 1, likelihoods=tiles)
    def rows(match, neurons, *, prior_weight=1.0, prior_units="all", prior=None):
        part = likelihood[neurons.values[0].long()].clone()  # the first activation of a unit is its number
        return subtract_prior(part, neurons, weight=prior_weight, prior=prior)

    return rows


@settings(deadline=None, max_examples=12)
@given(
    seed=st.integers(0, 999),
    steps=st.sampled_from([1, 3, 1000]),
    size=st.sampled_from([1.0, 400.0]),
    kept=st.sampled_from([1, 2, 4, 7]),
    weight=st.sampled_from([0.0, 0.6, 1.0]),
)
def test_what_is_kept_proves_the_labels_ties_included_or_all_is_scored_again(seed, steps, size, kept, weight):
    random = torch.Generator().manual_seed(seed)
    likelihood = (torch.rand(UNITS, CONCEPTS, generator=random) * steps).round() / steps - size
    likelihood[:, CONCEPTS // 2 :] = likelihood[:, : CONCEPTS // 2] + 3e-5 * (likelihood[:, :1] > 0.5 - size)
    function = partial(from_matrix(likelihood), prior_weight=weight)
    neurons = torch.zeros(IMAGES, UNITS)
    neurons[0] = torch.arange(UNITS)
    match = concept_activations(torch.eye(IMAGES), torch.eye(CONCEPTS)[:, :IMAGES] + 1)
    expected = best(function, match, neurons, kept=999)
    values, columns = best(function, match, neurons, kept=kept)
    assert columns.tolist() == expected[1].tolist()
    assert values.tolist() == expected[0].tolist()


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 999), steps=st.sampled_from([2, 1000]))
def test_ties_among_concepts_of_each_unit_go_as_among_those_of_all(seed, steps):
    random = torch.Generator().manual_seed(seed)
    prior = (torch.rand(9, generator=random, dtype=torch.float64) * 5).round() - 400
    scores = (torch.rand(6, 9, generator=random) * steps).round() / steps
    shuffled = torch.stack([torch.randperm(9, generator=random) for _ in scores])
    moved = scores.gather(1, shuffled)
    order_ties(scores, prior[None], weight=1.0)
    order_ties(moved, prior[shuffled], weight=1.0)
    assert moved.tolist() == scores.gather(1, shuffled).tolist()


def test_small_layers_have_all_scores_and_the_units_of_large_ones_are_counted():
    match, neurons = world(1)
    layers = {"a": neurons[:, :2], "b": neurons[:, 2:3], "large": neurons, "c": neurons[:, :3]}
    counted = []
    how = {"top": 1, "position": torch.arange(CONCEPTS), "step": counted.append, "sizes": SMALL}
    pieces = score_best(in_tiles(soft_wpmi), match, layers, **how)
    kinds = {layer: type(piece) for layer, _, piece in pieces}
    assert kinds == {"a": torch.Tensor, "b": torch.Tensor, "large": BestConcepts, "c": torch.Tensor}
    assert sum(counted) == pytest.approx(UNITS)


@pytest.mark.parametrize("truth_known", [True, False])
def test_labels_of_a_large_layer_do_not_depend_on_what_else_is_read(truth_known):
    """With a truth all scores are read, block by block; without, the best alone."""
    match, neurons = world(2)
    truth = {"a": [("word 1",)] * UNITS if truth_known else ()}
    label = partial(label_units, match=match, layers={"a": neurons}, names=NAMES, truth=truth, top=TOP)
    expected = label(soft_wpmi).labels["a"]
    labels = label(in_tiles(soft_wpmi), sizes=SMALL).labels["a"]
    assert labels.top == expected.top
    assert labels.similarity == pytest.approx(expected.similarity, abs=1e-4)
    assert labels.margin == pytest.approx(expected.margin, abs=1e-4)
    assert (labels.ranks is not None) == truth_known


def test_a_likelihood_that_is_nan_is_a_bug_of_the_function():
    match, neurons = world(3)
    with pytest.raises(ValueError, match="a likelihood is NaN"):
        best(from_matrix(torch.full((UNITS, CONCEPTS), torch.nan)), match, neurons)
