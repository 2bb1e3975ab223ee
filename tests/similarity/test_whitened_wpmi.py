"""The whitened rule: its formula, what it does not depend on, and what it gives on real inputs."""

import importlib
import math
from collections import Counter

import literal_similarity as literal
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_similarity import draw
from torch.testing import assert_close

from cd_exp.errors import InputError
from cd_exp.records import ConceptActivations
from cd_exp.similarity import concept_activations, whitened_wpmi
from cd_exp.similarity.whitened_wpmi import (
    DIVISIONS,
    PRIOR_WEIGHTS,
    choose_prior,
    contains_other_name,
    penalise_off_centre,
)
from cd_exp.similarity.whitening import check_size

worlds = st.builds(
    draw, images=st.integers(12, 60), concepts=st.integers(2, 20), units=st.integers(2, 30), dim=st.integers(2, 16),
    seed=st.integers(0, 99),
)  # fmt: skip


@given(worlds)
@example(draw(images=13, concepts=2, units=13, dim=9, seed=37))  # a unit to which both are nearly the same
@settings(max_examples=25, deadline=None)
def test_follows_its_formula_whichever_side_is_larger(world):
    match, neurons = world
    dense = match.images.double() @ match.texts.double().T
    wanted = torch.from_numpy(literal.whitened_wpmi(dense.numpy(), neurons.double().numpy())).float()
    assert_close(whitened_wpmi(match, neurons, prior_weight=0.85), wanted, rtol=2e-4, atol=2e-4)


def test_settings_follow_the_formula():
    match, neurons = draw()
    names = [*"abcdefghijklmno", "a b", "x"]
    mine = whitened_wpmi(
        match, neurons, match_ridge=2.0, unit_ridge=3.0, few_units=7.0, spread=4.0, leak=0.7, silence=0.6,
        prior_weight=0.5, half_prior_units=9.0, shrinkage=1.0, centre_weight=2.0, centre_width=0.5, name_weight=0.3,
        names=names,
    )  # fmt: skip
    dense = (match.images.double() @ match.texts.double().T).numpy()
    wanted = literal.whitened_wpmi(
        dense, neurons.double().numpy(), match_ridge=2, unit_ridge=3, few=7, spread=4, leak=0.7, silence=0.6,
        prior_weight=0.5, half=9, shrinkage=1, centre_weight=2, centre_width=0.5, nested=[0] * 15 + [1, 0],
        name_weight=0.3,
    )  # fmt: skip
    assert_close(mine, torch.from_numpy(wanted).float(), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
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
    whole, choice = whitened_wpmi(match, neurons), choose_prior(match, neurons)
    for name in ("whitened_wpmi", "whitening"):
        module = importlib.import_module(f"cd_exp.similarity.{name}")
        whole_slices = module.concept_slices
        monkeypatch.setattr(module, "concept_slices", lambda total, length, cut=whole_slices: cut(total, 3))
    assert_close(whitened_wpmi(match, neurons), whole, rtol=1e-4, atol=1e-4)
    assert choose_prior(match, neurons) == choice


def test_a_dead_unit_and_a_concept_that_never_varies_are_finite():
    match, neurons = draw()
    neurons[:, 3] = 1.0
    dense = match.images @ match.texts.T
    dense[:, 5] = 0.25
    scores = whitened_wpmi(dense, neurons)
    assert scores.isfinite().all()
    assert (whitened_wpmi(torch.full((60, 4), 0.2), neurons).var(dim=1) < 1e-10).all()


def test_a_layer_too_large_is_refused_with_a_way_out():
    with pytest.raises(InputError, match=r"of 60 images and 9 units, at most 8; take fewer images \(probe"):
        check_size(draw()[1], most=8)


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


def test_auto_scores_as_the_chosen_weight_does():
    match, neurons = draw(images=80, units=20)
    choice = choose_prior(match, neurons, seed=2)
    assert choice.weight in PRIOR_WEIGHTS
    assert list(choice.agreement) == list(PRIOR_WEIGHTS)
    fixed = whitened_wpmi(match, neurons, prior_weight=choice.weight)
    assert_close(whitened_wpmi(match, neurons, prior_weight="auto", seed=2), fixed)


def test_the_chosen_prior_and_the_labels_hang_on_no_order():
    """Words, units and images in any order are divided alike, even where the divisions disagree."""
    match, _ = draw(images=120, concepts=40, units=1, dim=24)
    dense = match.images @ match.texts.T
    noise = torch.randn(120, 40, generator=torch.Generator().manual_seed(5))
    neurons = dense + 0.5 * dense.std(dim=0) * noise
    choice = choose_prior(match, neurons)
    assert choice.is_clear
    other_layer = torch.randn(120, 30, generator=torch.Generator().manual_seed(6))
    unclear = choose_prior(match, other_layer)
    assert not unclear.is_clear
    labels = whitened_wpmi(match, neurons).argmax(dim=1)
    for seed in range(3):
        images, words, units = (
            torch.randperm(count, generator=torch.Generator().manual_seed(seed)) for count in (120, 40, 40)
        )
        moved = ConceptActivations(match.images, match.texts[words])
        assert choose_prior(moved, neurons[:, units]).information == pytest.approx(choice.information)
        assert (words[whitened_wpmi(moved, neurons[:, units]).argmax(dim=1)] == labels[units]).all()
        other = ConceptActivations(match.images[images], match.texts)
        assert choose_prior(other, neurons[images]) == choice
        assert choose_prior(other, other_layer[images]) == unclear
        assert choose_prior(dense[images], neurons[images]) == choose_prior(dense, neurons)
        assert (whitened_wpmi(other, neurons[images]).argmax(dim=1) == labels).all()


def test_the_choice_is_by_what_two_halves_share():
    """Against the literal way: each half scored by the function itself, under every prior."""
    match, neurons = draw(images=90, units=25, concepts=30)
    generator = torch.Generator().manual_seed(7)
    by_content = sorted(range(90), key=lambda row: float((match.images[row].double() ** 3).sum()))
    shares, bits = [], []
    for _ in range(DIVISIONS[1]):
        order = torch.tensor(by_content)[torch.randperm(90, generator=generator)]
        labels = [
            [
                whitened_wpmi(ConceptActivations(match.images[rows], match.texts), neurons[rows], prior_weight=weight)
                .argmax(dim=1)
                .tolist()
                for rows in (order[:45], order[45:])
            ]
            for weight in PRIOR_WEIGHTS
        ]
        shares.append([sum(a == b for a, b in zip(*pair, strict=True)) / 25 for pair in labels])
        often = [Counter(pair[0] + pair[1]) for pair in labels]
        bits.append([
            sum(-math.log2(count[a] / 50) for a, b in zip(*pair, strict=True) if a == b) / 25
            for pair, count in zip(labels, often, strict=True)
        ])  # fmt: skip
    best = [PRIOR_WEIGHTS[max(range(3), key=lambda at, row=row: (row[at], at))] for row in bits]
    kept = DIVISIONS[0] if len(set(best[: DIVISIONS[0]])) == 1 else DIVISIONS[1]
    choice = choose_prior(match, neurons, seed=7)
    assert list(choice.agreement.values()) == pytest.approx(torch.tensor(shares[:kept]).mean(dim=0).tolist())
    assert list(choice.information.values()) == pytest.approx(torch.tensor(bits[:kept]).mean(dim=0).tolist())
    assert choice.weight == max(PRIOR_WEIGHTS, key=lambda weight: (choice.information[weight], weight))
    assert choice.divisions == tuple(best[:kept])
    assert choice.is_clear == (set(choice.divisions) == {choice.weight})


def test_a_unit_of_its_own_concept_and_units_that_share_one_get_other_priors():
    """Each unit answers to its own concept: a prior. All answer to one concept, a little each: none."""
    generator = torch.Generator().manual_seed(0)
    texts = torch.nn.functional.normalize(torch.randn(60, 60, generator=generator), dim=1)
    shown = (torch.rand(600, 60, generator=generator) < 0.05).float()
    match = concept_activations(shown @ texts + 0.02 * torch.randn(600, 60, generator=generator), texts)
    own = shown[:, :40] + 0.3 * torch.randn(600, 40, generator=generator)
    assert choose_prior(match, own).weight == 0.85
    few = shown[:, torch.arange(40) % 4] + 0.8 * torch.randn(600, 40, generator=generator)
    shared = choose_prior(match, few, unit_ridge=1e6)
    assert shared.information[0.0] > shared.information[0.85]
    assert shared.weight == 0.0


def test_three_images_cannot_be_divided():
    match, neurons = draw(images=3)
    with pytest.raises(InputError, match=r"prior_weight=auto divides the images into halves and there are 3; give at"):
        whitened_wpmi(match, neurons)
    assert whitened_wpmi(match, neurons, prior_weight=0.85).isfinite().all()
