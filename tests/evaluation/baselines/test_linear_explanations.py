import numpy as np
import pytest
import torch

from cd_exp.errors import InputError
from cd_exp.evaluation.baselines import LinearExplanations
from cd_exp.evaluation.baselines.linear_explanations import (
    Parts,
    explain_as_published,
    explain_units,
    fit_elastic_net,
    format_explanation,
)

SETTINGS = {"gain": 0.02, "length": 10, "candidates": 30, "penalty": 0.1, "lasso": 0.99}
FITTED, CHECKED, REPORTED = np.arange(0, 250), np.arange(250, 320), np.arange(320, 400)
PARTS = Parts(FITTED, CHECKED, REPORTED)


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
    sums = explain_units(units, values, PARTS, **SETTINGS)
    assert [set(own.columns) for own in sums] == [{3}, {1, 7}, {2, 5}]
    assert [own.correlation for own in sums] == pytest.approx([1, 1, 1])
    names = [f"c{column}" for column in range(12)]
    assert format_explanation(sums[1], names) == "1.00 c1 + 0.50 c7"
    assert format_explanation(sums[2], names) == "1.00 c2 + -0.80 c5"


def test_the_greedy_step_is_the_literal_one():
    values = concepts()
    noise = torch.randn(400, 4, generator=torch.Generator().manual_seed(1)).double()
    mixed = values @ torch.rand(12, 4, generator=torch.Generator().manual_seed(2)).double().square() + 0.3 * noise
    sums = explain_units(mixed, values, PARTS, **SETTINGS | {"penalty": 0.001, "candidates": 12})
    for unit, own in enumerate(sums):
        taken, best = literal_greedy(values.numpy(), mixed[:, unit].numpy(), range(12), gain=0.02, length=10)
        assert list(own.columns) == taken
        assert own.checked == pytest.approx(best)


def test_the_gain_and_the_length_end_a_sum():
    values = concepts()
    unit = (values @ torch.tensor([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0, 0, 0, 0, 0, 0]).double())[:, None]
    sizes = [len(explain_units(unit, values, PARTS, **SETTINGS | own)[0].columns)
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
    sums = explain_units(torch.ones(400, 1).double(), concepts(), PARTS, **SETTINGS)
    assert sums[0].columns == ()
    assert format_explanation(sums[0], []) == ""


def test_an_unknown_source():
    with pytest.raises(InputError, match=r"baseline\.source=words: expected clip or annotations"):
        LinearExplanations(source="words")


def test_the_correlation_beside_a_sum_is_of_images_that_neither_chose_nor_stopped_it():
    values, units = concepts(), torch.randn(400, 40, generator=torch.Generator().manual_seed(5)).double()
    settings = SETTINGS | {"penalty": 0.001, "candidates": 12}
    sums = explain_units(units, values, PARTS, **settings)
    for unit, own in enumerate(sums):
        said = values[REPORTED][:, list(own.columns)].numpy() @ np.array(own.weights)
        assert own.correlation == pytest.approx(np.corrcoef(said, units[REPORTED, unit].numpy())[0, 1])
    # Of units that follow nothing, the chosen correlation is high and the other one at 0.
    assert np.mean([own.checked for own in sums]) > 0.2
    assert abs(np.mean([own.correlation for own in sums])) < 0.05
    changed = units.clone()
    changed[REPORTED] = 0
    changed[REPORTED[0]] = 1
    again = explain_units(changed, values, PARTS, **settings)
    assert [(own.columns, own.checked) for own in again] == [(own.columns, own.checked) for own in sums]


def literal_published(values, unit, order, *, start, gain=0.02, length=10, width=10):
    """The search of the published code, with its own optimiser; the random starts are handed in."""
    fitted, target = values[FITTED], unit[FITTED][:, None]
    taken, refused, best, weight = [], [], 0.0, None
    while len(taken) < length:
        left = [column for column in order if column not in taken and column not in refused][:width]
        chosen, starts = None, start(len(left), len(taken) + 1)
        reached_best = best
        for column, begin in zip(left, starts, strict=True):
            layer = torch.nn.Linear(len(taken) + 1, 1).double()
            with torch.no_grad():
                layer.weight.copy_(begin[None, :-1])
                layer.bias.copy_(begin[-1:])
            adam = torch.optim.Adam(layer.parameters(), lr=0.3)
            for _ in range(100):
                adam.zero_grad()
                torch.nn.functional.mse_loss(layer(fitted[:, [*taken, column]]), target).backward()
                adam.step()
            said = layer(values[CHECKED][:, [*taken, column]]).detach()[:, 0]
            reached = np.corrcoef(said.numpy(), unit[CHECKED].numpy())[0, 1]
            if taken and reached - best < gain:
                refused.append(column)
            elif reached > reached_best:
                chosen, reached_best, weight = column, reached, layer.weight.detach()[0].tolist()
        if chosen is None:
            break
        taken.append(chosen)
        best = reached_best
    return dict(zip(taken, weight or [], strict=True)), best


@pytest.mark.slow
def test_the_published_search_is_the_published_one():
    values = concepts(seed=7, count=16)
    mixed = values @ torch.rand(16, 3, generator=torch.Generator().manual_seed(2)).double().square()
    mixed += 0.3 * torch.randn(400, 3, generator=torch.Generator().manual_seed(1)).double()
    sums = explain_as_published(mixed, values, PARTS, gain=0.02, length=10, seed=4)
    draws = torch.Generator().manual_seed(4)

    def start(count, size):
        return (2 * torch.rand(count, size + 1, generator=draws, dtype=torch.float64) - 1) * size**-0.5

    scaled = (values[FITTED] - values[FITTED].mean(0)) / values[FITTED].std(0, correction=0)
    for unit, own in enumerate(sums):
        wanted = mixed[FITTED, unit]
        wanted = (wanted - wanted.mean()) / wanted.std(correction=0)
        cross = scaled.T @ wanted[:, None] / len(FITTED)
        penalty = 0.05 * 0.99 / float(cross.abs().max())
        weights = fit_elastic_net(scaled.T @ scaled / len(FITTED), cross, penalty=penalty, lasso=0.99, steps=500)[:, 0]
        order = weights.sort(descending=True, stable=True).indices.tolist()
        expected, best = literal_published(values, mixed[:, unit], order, start=start)
        assert dict(zip(own.columns, own.weights, strict=True)) == pytest.approx(expected, abs=1e-6)
        assert own.checked == pytest.approx(best)
        assert list(own.weights) == sorted(own.weights, reverse=True)


def test_the_published_search_leaves_out_concepts_that_no_image_shows():
    values = concepts()
    values[:, 3] *= 0.4  # its five highest are below 1/2
    unit = (values[:, 3] + 0.01 * values[:, 5])[:, None]
    (own,) = explain_as_published(unit, values, PARTS, gain=0.02, length=10, seed=0)
    assert 3 not in own.columns


def test_an_unknown_solver():
    with pytest.raises(InputError, match=r"baseline\.solver=fast: expected least_squares or published"):
        LinearExplanations(solver="fast")
