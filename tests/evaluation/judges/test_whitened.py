"""The whitened judge against its formulas, by whole matrices and one unit at a time."""

import numpy as np
import pytest
import torch

from cd_exp.evaluation.judges import WhitenedMatch, score_whitened, whiten_activations
from cd_exp.metrics.selective import auc
from cd_exp.similarity import concept_activations
from cd_exp.similarity.whitening import whiten_match


def literal_whitening(learned, scored, ridge):
    """Standardise, and multiply by the inverse root of covariance plus ridge, all of it in full."""
    mean, deviation = learned.mean(0), learned.std(0)
    varies = deviation > 0
    deviation = np.where(varies, deviation, 1)
    z, other = (learned - mean) / deviation * varies, (scored - mean) / deviation * varies
    values, vectors = np.linalg.eigh(z.T @ z / len(z))
    level = ridge * values[values > 1e-7 * values[-1]].mean()
    return other @ (vectors / np.sqrt(values.clip(0) + level)) @ vectors.T


@pytest.mark.parametrize("units", [6, 30, 200])  # fewer than the 40 images, and more
def test_activations_are_whitened_by_their_formula(units):
    random = np.random.default_rng(units)
    activations = random.normal(size=(60, units)) @ random.normal(size=(units, units)) + random.normal(size=units)
    activations[:, 3] = 2.0
    learned, scored = torch.tensor(activations[:40]), torch.tensor(activations[40:])
    whitened = whiten_activations(learned, scored, ridge=0.7)
    expected = literal_whitening(activations[:40], activations[40:], 0.7)
    np.testing.assert_allclose(whitened.numpy(), expected, atol=2e-4 * np.abs(expected).max())
    assert not whitened[:, 3].any()


def test_a_match_learned_and_applied_on_the_same_images_is_that_of_the_labeller():
    generator = torch.Generator().manual_seed(0)
    match = concept_activations(torch.randn(50, 16, generator=generator), torch.randn(30, 16, generator=generator))
    images, loadings = whiten_match(match, ridge=5.0, shrinkage=0.0)
    own = WhitenedMatch.of(match.images, match.images, match.texts, ridge=5.0)
    expected, whitened = images @ loadings.T, own.matches(match.texts)
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(expected.T.numpy(), whitened.T.numpy(), strict=True)]
    assert min(correlations) > 1 - 1e-9


def test_a_text_outside_of_the_concept_set_has_a_match_of_its_own():
    generator = torch.Generator().manual_seed(1)
    images, texts = torch.randn(50, 16, generator=generator), torch.randn(30, 16, generator=generator)
    match = WhitenedMatch.of(images[:40], images[40:], texts[:-1])
    both = match.matches(texts)
    torch.testing.assert_close(match.matches(texts[-1:])[:, 0], both[:, -1])
    assert both[:, -1].std() > 0


def test_both_scores_are_their_formulas():
    random = np.random.default_rng(0)
    activations, match, unit = random.normal(size=(25, 9)), random.normal(size=(25, 4)), [0, 3, 3, 8]
    activations[:, 5] = 1.0  # varies nowhere: no other unit
    match[:, 1] = activations[:, 3]
    correlation, share = score_whitened(torch.tensor(activations), torch.tensor(match), torch.tensor(unit))
    for label, own in enumerate(unit):
        fits = [0 if v == 5 else np.corrcoef(activations[:, v], match[:, label])[0, 1] for v in range(9)]
        assert correlation[label].item() == pytest.approx(fits[own], abs=1e-9)
        others = [fits[v] for v in range(9) if v not in (own, 5)]
        assert share[label].item() == pytest.approx(np.mean([value < fits[own] for value in others]))
    assert share[1].item() == 1


def test_labels_that_units_share_are_scored_as_if_each_had_its_own():
    """Two names for 40 units, of which some are copies: columns are compared by sorting, and equal ones count half."""
    generator = torch.Generator().manual_seed(3)
    activations, match = torch.randn(30, 40, generator=generator), torch.randn(30, 3, generator=generator)
    activations[:, 7], activations[:, 30:33] = 2.0, activations[:, 3:4]
    unit = torch.arange(40)
    column = torch.where(unit % 3 > 0, 0, 2)
    column[5] = 1
    shared = score_whitened(activations, match, unit, column=column)
    for values, alone in zip(shared, score_whitened(activations, match[:, column], unit), strict=True):
        torch.testing.assert_close(values, alone, rtol=0, atol=1e-6)


def test_what_does_not_vary_is_at_chance():
    activations = torch.tensor([[1.0, 0.0, 2.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    match = torch.stack([activations[:, 1], torch.ones(3)], dim=1)
    correlation, share = score_whitened(activations, match, torch.tensor([0, 1]))
    assert correlation.tolist() == [0, 0]
    assert share.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("seed", [2, 4, 5])
def test_what_all_units_and_all_concepts_share_is_taken_out(seed):
    """Units follow a concept of their own weakly and a brightness strongly; some concepts match all that is bright."""
    generator = torch.Generator().manual_seed(seed)
    shown, brightness = torch.randn(600, 12, generator=generator), torch.randn(600, 1, generator=generator)
    images = torch.cat([0.3 * shown, 0.2 * torch.randn(600, 7, generator=generator), brightness], dim=1)
    gains = 2 * torch.rand(2, 12, generator=generator)
    texts = torch.cat([torch.eye(12), torch.zeros(12, 7), gains[0, :, None]], dim=1)
    activations = 0.3 * shown + brightness * gains[1] + 0.1 * torch.randn(600, 12, generator=generator)
    learned, scored = slice(0, 400), slice(400, 600)

    def told_apart(activations, match):
        """Right names from wrong ones, over all units together."""
        units = torch.arange(12)
        rows = [score_whitened(activations, match[:, [concept] * 12], units)[0] for concept in range(12)]
        return auc(torch.stack(rows, dim=1).double().flatten().numpy(), np.eye(12, dtype=bool).flatten())

    match = WhitenedMatch.of(images[learned], images[scored], texts).matches(texts)
    both = told_apart(whiten_activations(activations[learned], activations[scored]), match)
    assert both > 0.85 > 0.82 > told_apart(activations[scored], images[scored] @ texts.T)
