"""Each score against its formula, one unit and one image at a time."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cd_exp.evaluation import judges


def literal_active(values, share):
    """The k strongest images, with those equal to the weakest of them, but never the unit's lowest value."""
    # In whole numbers: 0.3 of 10 images are 3, which a product of floats may put above 3.
    count = max(1, math.ceil(Fraction(share).limit_denominator(1000) * len(values)))
    threshold = sorted(values, reverse=True)[count - 1]
    return [value >= threshold and value > min(values) for value in values]


def literal_f1(active, present):
    both = sum(a and c for a, c in zip(active, present, strict=True))
    total = sum(active) + sum(present)
    return 2 * both / total if total else 0.0


def literal_iou(active, present):
    union = sum(a or c for a, c in zip(active, present, strict=True))
    return sum(a and c for a, c in zip(active, present, strict=True)) / union if union else 0.0


def literal_auprc(active, score):
    area, recall, positives = 0.0, 0.0, sum(active)
    if not positives:
        return 0.0
    for threshold in sorted(set(score), reverse=True):
        chosen = [value >= threshold for value in score]
        right = sum(a and c for a, c in zip(active, chosen, strict=True))
        area += (right / positives - recall) * right / sum(chosen)
        recall = right / positives
    return area


def literal_pearson(a, c):
    if len(set(a)) == 1 or len(set(c)) == 1:
        return 0.0
    return float(np.corrcoef(a, c)[0, 1])


def literal_cosine(a, c):
    norm = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in c))
    return (1 + (sum(x * y for x, y in zip(a, c, strict=True)) / norm if norm else 0)) / 2


columns = st.integers(2, 12).flatmap(
    lambda images: st.tuples(
        st.lists(st.sampled_from([0.0, 0.25, 1.0, 2.0, -1.0]), min_size=images, max_size=images),
        st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.8, 1.0]), min_size=images, max_size=images),
    )
)


@settings(deadline=None, max_examples=150)
@given(columns, st.sampled_from([None, 0.0, 0.2, 0.5, 1.0]))
def test_scores_of_a_concept_are_their_formulas(pair, share):
    values, score = pair
    present = [value >= 0.5 for value in score]
    active = literal_active(values, sum(present) / len(present) if share is None else share)
    a, c = torch.tensor(values)[:, None], torch.tensor(score)[:, None]
    assert judges.find_active(a, sum(present) / len(present) if share is None else share)[:, 0].tolist() == active
    assert judges.f1(a, c, share=share).item() == pytest.approx(literal_f1(active, present))
    assert judges.iou(a, c, share=share).item() == pytest.approx(literal_iou(active, present))
    assert judges.auprc(a, c, share=share).item() == pytest.approx(literal_auprc(active, c[:, 0].tolist()))
    assert judges.pearson(a, c).item() == pytest.approx(literal_pearson(values, c[:, 0].tolist()), abs=1e-6)
    assert judges.cosine(a, c).item() == pytest.approx(literal_cosine(values, c[:, 0].tolist()), abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=1, max_size=6),
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=9),
)
def test_scores_of_pictures_are_their_formulas(shown, control):
    a, b = torch.tensor(shown)[:, None], torch.tensor(control)[:, None]
    wins = [(x > y) + (x == y) / 2 for x in shown for y in control]
    assert judges.cosy_auc(a, b).item() == pytest.approx(np.mean(wins))
    spread = np.std(control, ddof=1) if len(control) > 1 else 0
    expected = (np.mean(shown) - np.mean(control)) / spread if spread else 0
    assert judges.cosy_mad(a, b).item() == pytest.approx(expected, abs=1e-9)
    wanted, rest = max(0, np.mean(shown)), np.mean(np.abs(control))
    assert judges.selectivity(a, b).item() == pytest.approx(wanted / (wanted + rest) if wanted + rest else 0)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=1, max_size=6),
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=9),
    st.sampled_from([0.01, 0.2, 0.5]),
)
def test_the_activation_rate_is_its_formula(shown, images, share):
    count = max(1, math.ceil(Fraction(share).limit_denominator(1000) * len(images)))
    threshold = sorted(images, reverse=True)[count - 1]
    expected = np.mean([value >= threshold and value > min(images) for value in shown])
    a, b = torch.tensor(shown)[:, None], torch.tensor(images)[:, None]
    assert judges.activation_rate(a, b, share=share).item() == pytest.approx(expected)


def test_pictures_drawn_as_the_images_are_have_the_activation_rate_of_chance():
    images, shown = torch.randn(2, 20000, 3, generator=torch.Generator().manual_seed(0))
    assert judges.activation_rate(shown, images).tolist() == pytest.approx([0.01] * 3, abs=0.003)


def test_the_active_images_are_counted_up_as_the_published_code_does():
    values = torch.arange(100.0)[:, None]
    assert judges.find_active(values, 0.051).sum().item() == 6  # rounded it would be 5
    assert judges.find_active(values, 0.05).sum().item() == 5
    assert judges.find_active(values, 7 / 100).sum().item() == 7  # 7.000000000000001 of them


def test_selectivity_knows_the_direction():
    named, other = torch.tensor([[-2.0], [-1.0]]), torch.tensor([[0.5], [-0.5]])
    assert judges.selectivity(named, other).item() == 0
    assert judges.selectivity(-named, other).item() == pytest.approx(1.5 / 2.0)


def test_every_unit_is_scored_by_itself_and_in_any_order_of_images():
    generator = torch.Generator().manual_seed(0)
    activations = torch.randn(60, 7, generator=generator)
    concept = torch.rand(60, 7, generator=generator)
    order = torch.randperm(60, generator=generator)
    for score in (
        judges.pearson,
        judges.cosine,
        judges.f1,
        judges.iou,
        judges.auprc,
    ):
        together = score(activations, concept)
        alone = torch.cat([score(activations[:, [unit]], concept[:, [unit]]) for unit in range(7)])
        torch.testing.assert_close(together, alone)
        torch.testing.assert_close(together, score(activations[order], concept[order]))


def test_a_share_for_each_unit():
    values = torch.arange(10.0)[:, None].expand(10, 2)
    assert judges.find_active(values, torch.tensor([0.1, 0.3])).sum(0).tolist() == [1, 3]


def test_a_constant_unit_is_never_active_and_correlates_with_nothing():
    dead, concept = torch.full((5, 1), 0.1), torch.tensor([[1.0], [0.0], [1.0], [0.0], [1.0]])
    assert not judges.find_active(dead, 0.4).any()
    for score in (judges.pearson, judges.f1, judges.iou, judges.auprc):
        assert score(dead, concept).item() == 0
