"""INVERT against a literal search, and on units that are their formula."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import false_discovery_control, mannwhitneyu

from cd_exp.errors import InputError
from cd_exp.evaluation.baselines import Invert
from cd_exp.evaluation.baselines.invert import adjust_for_search, auc_significance, centre_ranks, search_formulas
from cd_exp.evaluation.judges import predict_values

NAMES = ("a", "b", "c", "d")


def literal_auc(values, mask):
    inside = [value for value, holds in zip(values, mask, strict=True) if holds]
    outside = [value for value, holds in zip(values, mask, strict=True) if not holds]
    wins = sum((x > y) + (x == y) / 2 for x, y in product(inside, outside))
    return wins / (len(inside) * len(outside))


def literal_search(values, present, *, length, beam, shares):
    """The same search, formula by formula and image by image."""
    images = len(values)
    columns = {name: [bool(row[position]) for row in present] for position, name in enumerate(NAMES)}

    def best(candidates):
        scored = []
        for text, mask in candidates:
            if max(1, shares[0] * images) <= sum(mask) <= min(images - 1, shares[1] * images):
                scored.append((round(literal_auc(values, mask), 10), text, mask))
        scored.sort(key=lambda one: -one[0])
        chosen = []
        for one in scored:
            if len(chosen) < beam and one[2] not in [mask for _, _, mask in chosen]:
                chosen.append(one)
        return chosen

    formula = best(
        [(name, columns[name]) for name in NAMES]
        + [(f"NOT {name}", [not holds for holds in columns[name]]) for name in NAMES]
    )
    every = list(formula)
    combine = {
        "AND": lambda x, y: x and y,
        "OR": lambda x, y: x or y,
        "AND NOT": lambda x, y: x and not y,
        "OR NOT": lambda x, y: x or not y,
    }
    for _ in range(length - 1):
        formula = best(
            (f"{text} {word} {name}", [join(x, y) for x, y in zip(mask, columns[name], strict=True)])
            for _, text, mask in formula
            for word, join in combine.items()
            for name in NAMES
        )
        every += formula
    every.sort(key=lambda one: -one[0])
    return [(text, auc) for auc, text, _ in every[:5]]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_search_is_the_literal_one(seed, length):
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(24, 4, generator=generator) < 0.4
    activations = torch.randint(0, 6, (24, 3), generator=generator).float()
    formulas = search_formulas(activations, present, NAMES, length=length, beam=3, shares=(0.05, 0.6))
    for unit, own in enumerate(formulas):
        expected = literal_search(
            activations[:, unit].tolist(), present.tolist(), length=length, beam=3, shares=(0.05, 0.6)
        )
        assert [formula.text for formula in own] == [text for text, _ in expected]
        assert [formula.auc for formula in own] == pytest.approx([auc for _, auc in expected])


def test_units_that_are_a_formula_are_told_exactly():
    generator = torch.Generator().manual_seed(0)
    present = torch.rand(400, 4, generator=generator) < 0.4
    columns = {name: present[:, position].double() for position, name in enumerate(NAMES)}
    texts = ["a", "b AND c", "a AND NOT d", "c OR d"]
    units = torch.stack([predict_values(text, columns.get) for text in texts], dim=1).float()
    formulas = search_formulas(units, present, NAMES, length=2, beam=5, shares=(0.0, 0.7))
    assert [own[0].text for own in formulas] == ["a", "c AND b", "a AND NOT d", "c OR d"]  # the better atom first
    assert [own[0].auc for own in formulas] == [1.0] * 4
    assert [own[0].images for own in formulas] == units.sum(0).int().tolist()


def test_a_formula_holds_for_no_more_images_than_allowed():
    present = torch.tensor([[True, False]] * 9 + [[True, True]])
    formulas = search_formulas(torch.arange(10.0)[:, None], present, ("a", "b"), length=1, beam=3, shares=(0.2, 0.5))
    assert formulas == [()]


def test_equal_activations_share_the_mean_of_their_ranks():
    assert centre_ranks(torch.tensor([[3.0], [1.0], [3.0], [0.0]]))[:, 0].tolist() == [1, -0.5, 1, -1.5]


def test_p_is_that_of_mann_and_whitney_and_q_that_of_benjamini_and_hochberg():
    generator = torch.Generator().manual_seed(1)
    present = torch.rand(60, 4, generator=generator) < 0.4
    activations = torch.randint(0, 8, (60, 3), generator=generator).float() + 2 * present[:, :3]
    significance = auc_significance(["a", "b", "c AND d"], activations, present, NAMES)
    masks = [present[:, 0], present[:, 1], present[:, 2] & present[:, 3]]
    expected = []
    for unit, mask in enumerate(masks):
        values = activations[:, unit]
        test = mannwhitneyu(
            values[mask], values[~mask], alternative="greater", use_continuity=False, method="asymptotic"
        )
        expected.append(test.pvalue)
        assert significance[unit][0] == pytest.approx(literal_auc(values.tolist(), mask.tolist()))
    assert [p for _, p, _ in significance] == pytest.approx(expected)
    assert [q for _, _, q in significance] == pytest.approx(false_discovery_control(expected).tolist())


def test_a_formula_that_holds_nowhere_has_no_p():
    significance = auc_significance(["a AND b", ""], torch.rand(5, 2), torch.tensor([[True, False]] * 5), ("a", "b"))
    assert all(math.isnan(area) and p == 1 for area, p, _ in significance)


def test_q_is_never_below_p_and_keeps_its_order():
    p = np.random.default_rng(0).random(40) ** 2
    q = np.array(adjust_for_search(p.tolist()))
    assert (q >= p).all()
    assert (np.diff(q[np.argsort(p)]) >= 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 0}, "baseline.length=0"),
        ({"beam": 0}, "baseline.beam=0"),
        ({"min_share": 0.6}, "baseline.min_share=0.6"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(InputError, match=message):
        Invert(**settings)
