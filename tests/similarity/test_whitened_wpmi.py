"""The whitened rule: its formula, what it does not depend on, and what it gives on real inputs."""

import importlib

import literal_similarity as literal
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_similarity import draw
from torch.testing import assert_close

from cd_exp.errors import InputError
from cd_exp.records import ConceptActivations
from cd_exp.similarity import concept_activations, whitened_wpmi
from cd_exp.similarity.whitened_wpmi import contains_other_name, penalise_off_centre

worlds = st.builds(
    draw, images=st.integers(12, 60), concepts=st.integers(2, 20), units=st.integers(2, 30), dim=st.integers(2, 16),
    seed=st.integers(0, 99),
)  # fmt: skip


@given(worlds)
@settings(max_examples=25, deadline=None)
def test_follows_its_formula_whichever_side_is_larger(world):
    match, neurons = world
    dense = match.images.double() @ match.texts.double().T
    wanted = torch.from_numpy(literal.whitened_wpmi(dense.numpy(), neurons.double().numpy())).float()
    assert_close(whitened_wpmi(match, neurons), wanted, rtol=1e-4, atol=1e-4)


def test_settings_follow_the_formula():
    match, neurons = draw()
    names = [*"abcdefghijklmno", "a b", "x"]
    mine = whitened_wpmi(
        match, neurons, match_ridge=2.0, unit_ridge=3.0, few_units=7.0, gain=4.0, threshold=1.0, prior_weight=0.5,
        half_prior_units=9.0, shrinkage=1.0, centre_weight=2.0, centre_width=0.5, name_weight=0.3, names=names,
    )  # fmt: skip
    dense = (match.images.double() @ match.texts.double().T).numpy()
    wanted = literal.whitened_wpmi(
        dense, neurons.double().numpy(), match_ridge=2, unit_ridge=3, few=7, gain=4, threshold=1, prior_weight=0.5,
        half=9, shrinkage=1, centre_weight=2, centre_width=0.5, nested=[0] * 15 + [1, 0], name_weight=0.3,
    )  # fmt: skip
    assert_close(mine, torch.from_numpy(wanted).float(), rtol=1e-4, atol=1e-4)


@given(worlds, st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_the_gain_and_offset_of_a_unit_change_nothing(world, seed):
    match, neurons = world
    generator = torch.Generator().manual_seed(seed)
    scaled = neurons * (torch.rand(neurons.shape[1], generator=generator) + 0.5) + 3 * torch.rand(neurons.shape[1])
    assert_close(whitened_wpmi(match, scaled), whitened_wpmi(match, neurons), rtol=1e-2, atol=1e-2)


def test_duplicates_score_the_same():
    match, neurons = draw(units=12)
    twice = ConceptActivations(match.images, torch.cat([match.texts, match.texts[3:5]]))
    scores = whitened_wpmi(twice, torch.cat([neurons, neurons[:, :2]], dim=1))
    assert_close(scores[12:], scores[:2], rtol=1e-5, atol=1e-5)
    assert_close(scores[:, 17:], scores[:, 3:5], rtol=1e-5, atol=1e-5)


def test_blocks_inside_change_nothing(monkeypatch):
    match, neurons = draw(images=40, units=50)
    whole = whitened_wpmi(match, neurons)
    for name in ("whitened_wpmi", "whitening"):
        module = importlib.import_module(f"cd_exp.similarity.{name}")
        monkeypatch.setattr(module, "concept_slices", lambda total, length, cut=module.concept_slices: cut(total, 3))
    assert_close(whitened_wpmi(match, neurons), whole, rtol=1e-5, atol=1e-5)


def test_a_dead_unit_and_a_concept_that_never_varies_are_finite():
    match, neurons = draw()
    neurons[:, 3] = 1.0
    dense = match.images @ match.texts.T
    dense[:, 5] = 0.25
    scores = whitened_wpmi(dense, neurons)
    assert scores.isfinite().all()
    assert (whitened_wpmi(torch.full((60, 4), 0.2), neurons).var(dim=1) < 1e-10).all()


def test_a_layer_too_large_is_refused_with_a_way_out(monkeypatch):
    monkeypatch.setattr("cd_exp.similarity.whitening.LARGEST", 8)
    with pytest.raises(InputError, match=r"of 60 images and 9 units, at most 8; take fewer images \(probe"):
        whitened_wpmi(*draw())


def test_a_name_is_nested_by_words():
    names = ["red", "red circle", "circled", "Red", "dark red circle", "red  circle", "shark", "great white shark"]
    assert contains_other_name(names) == [False, True, False, False, True, True, False, True]
    assert contains_other_name(["a b", "b a", "a"]) == [True, True, False]


def test_the_middle_of_near_synonyms_wins_whatever_their_order():
    """A word, and phrases of it with words that CLIP hardly sees; each of them is moved a little its own way."""
    generator = torch.Generator().manual_seed(0)
    words = torch.nn.functional.normalize(torch.randn(4, 40, generator=generator), dim=1)
    phrases = words.repeat_interleave(6, dim=0) + 0.02 * torch.randn(24, 40, generator=generator)
    texts = torch.cat([phrases, words])
    shown = torch.rand(400, 4, generator=generator)
    match = concept_activations(shown @ words + 0.1 * torch.randn(400, 40, generator=generator), texts)
    assert whitened_wpmi(match, shown).argmax(dim=1).tolist() == [24, 25, 26, 27]
    assert whitened_wpmi(match, shown, centre_weight=0.0).argmax(dim=1).tolist() != [24, 25, 26, 27]


def test_a_concept_by_itself_is_not_off_centre():
    assert penalise_off_centre(torch.eye(5, dtype=torch.float64), width=0.015).abs().max() < 1e-6
    rows = torch.eye(5, dtype=torch.float64)
    rows[2] = 0
    assert penalise_off_centre(rows, width=0.5)[2] == 0
