import numpy as np
import pytest
import torch

from cd_exp.errors import InputError
from cd_exp.evaluation.baselines import LinearExplanations
from cd_exp.evaluation.baselines.linear_explanations import explain_units, fit_elastic_net, format_explanation

SETTINGS = {"gain": 0.02, "length": 10, "candidates": 30, "penalty": 0.1, "lasso": 0.99}
FITTED, CHECKED = np.arange(0, 300), np.arange(300, 400)


def concepts(seed=0, count=12):
    return torch.rand(400, count, generator=torch.Generator().manual_seed(seed)).double()


def literal_greedy(values, unit, columns, *, gain, length):
    """Least squares by numpy for every candidate at every step."""
    fitted, checked = values[FITTED], values[CHECKED]
    taken, best = [], 0.0
    while len(taken) < length:
        reached = {}
        for column in [one for one in columns if one not in taken]:
            design = np.column_stack([fitted[:, [*taken, column]], np.ones(len(fitted))])
            weights = np.linalg.lstsq(design, unit[FITTED], rcond=None)[0]
            said = checked[:, [*taken, column]] @ weights[:-1]
            reached[column] = np.corrcoef(said, unit[CHECKED])[0, 1]
        column = max(reached, key=reached.get)
        if reached[column] <= best or (taken and reached[column] - best < gain):
            break
        taken.append(column)
        best = reached[column]
    return taken, best


def test_units_that_are_a_sum_are_told():
    values = concepts()
    units = torch.stack([values[:, 3], 2 * values[:, 1] + values[:, 7], values[:, 2] - 0.8 * values[:, 5]], dim=1)
    found = explain_units(units, values, FITTED, CHECKED, **SETTINGS)
    assert [set(own.columns) for own in found] == [{3}, {1, 7}, {2, 5}]
    assert [own.correlation for own in found] == pytest.approx([1, 1, 1])
    names = [f"c{column}" for column in range(12)]
    assert format_explanation(found[1], names) == "1.00 c1 + 0.50 c7"
    assert format_explanation(found[2], names) == "1.00 c2 + -0.80 c5"


def test_the_greedy_step_is_the_literal_one():
    values = concepts()
    noise = torch.randn(400, 4, generator=torch.Generator().manual_seed(1)).double()
    mixed = values @ torch.rand(12, 4, generator=torch.Generator().manual_seed(2)).double().square() + 0.3 * noise
    found = explain_units(mixed, values, FITTED, CHECKED, **SETTINGS | {"penalty": 0.001, "candidates": 12})
    for unit, own in enumerate(found):
        taken, best = literal_greedy(values.numpy(), mixed[:, unit].numpy(), range(12), gain=0.02, length=10)
        assert list(own.columns) == taken
        assert own.correlation == pytest.approx(best)


def test_the_gain_and_the_length_end_a_sum():
    values = concepts()
    unit = (values @ torch.tensor([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0, 0, 0, 0, 0, 0]).double())[:, None]
    sizes = [len(explain_units(unit, values, FITTED, CHECKED, **SETTINGS | own)[0].columns)
             for own in ({}, {"gain": 0.2}, {"length": 2})]  # fmt: skip
    assert sizes[0] == 6
    assert sizes[1] < 6
    assert sizes[2] == 2


def test_the_elastic_net_meets_its_conditions():
    values = concepts(seed=3)
    scaled = (values - values.mean(0)) / values.std(0, correction=0)
    wanted = scaled[:, :3] @ torch.tensor([[1.0, 0], [0.5, 0], [0, 1]]).double() + 0.1
    wanted = (wanted - wanted.mean(0)) / wanted.std(0, correction=0)
    gram, cross = scaled.T @ scaled / 400, scaled.T @ wanted / 400
    weights = fit_elastic_net(gram, cross, penalty=0.3, lasso=0.9, steps=2000)
    strength = 0.3 * cross.abs().amax(0) / 0.9
    slope = gram @ weights - cross + strength * 0.1 * weights
    kept = weights != 0
    torch.testing.assert_close(slope[kept], (-weights.sign() * strength * 0.9)[kept], atol=1e-6, rtol=0)
    assert (slope.abs() <= strength * 0.9 + 1e-6).all()
    assert not fit_elastic_net(gram, cross, penalty=1.0, lasso=0.9).any()


def test_a_unit_that_never_varies_has_no_sum():
    found = explain_units(torch.ones(400, 1).double(), concepts(), FITTED, CHECKED, **SETTINGS)
    assert found[0].columns == ()
    assert format_explanation(found[0], []) == ""


def test_an_unknown_source():
    with pytest.raises(InputError, match=r"baseline\.source=words: expected clip or annotations"):
        LinearExplanations(source="words")
