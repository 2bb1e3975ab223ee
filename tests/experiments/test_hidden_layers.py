"""The benchmark of hidden layers: units that separate a class, shares of ties, intervals, and published tables."""

import numpy as np
import pytest
import torch

from cd_exp.errors import InputError
from cd_exp.records import ConceptActivations
from experiments.hidden_layers import analysis
from experiments.hidden_layers.analysis import Layer, auc_of_classes, evaluate, interval, separating
from experiments.labeller.first_form import first_form


def test_the_auc_of_a_class_counts_pairs_and_ties_by_half():
    activations = np.array([[3.0, 1.0], [2.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    shown = np.array([[True, False], [True, False], [False, True], [False, True]])
    # unit 0, class 0: of the pairs (3, 1), (3, 2), (2, 1) are right and (2, 2) half; unit 1 is level
    assert auc_of_classes(activations, shown).tolist() == [[3.5 / 4, 0.5], [0.5 / 4, 0.5]]


def test_a_unit_of_two_classes_separates_neither():
    units, best = separating(np.array([[0.9, 0.9, 0.1], [0.2, 0.86, 0.84], [0.1, 0.1, 0.1]]))
    assert (units.tolist(), best.tolist()) == ([0], [0])


def test_ranks_count_ties_as_their_mean():
    match, truth = ConceptActivations(torch.eye(4), torch.eye(4)), (torch.tensor([2]),)
    layer = Layer("x", match, torch.zeros(4, 2), np.array([1]), truth, ("c",))
    scores = evaluate(lambda match, neurons: torch.tensor([[0.0] * 4, [5.0, 1.0, 1.0, 1.0]]), layer)
    assert (scores.top1.tolist(), scores.rank.tolist()) == ([0.0], [3.0])
    assert scores.top5.tolist() == [1.0]


def test_an_interval_over_classes_is_wider_where_units_of_a_class_are_alike():
    values, classes = np.repeat([0.0, 1.0, 0.0, 1.0], 25), np.repeat(list("abcd"), 25)
    widths = [np.ptp([float(end) for end in interval(values, groups)[1:-1].split(", ")]) for groups in (None, classes)]
    assert widths[1] > 2 * widths[0]


def test_the_first_form_has_a_prior_that_takes_what_all_units_share():
    generator = torch.Generator().manual_seed(0)
    match = ConceptActivations(torch.randn(80, 12, generator=generator), torch.randn(20, 12, generator=generator))
    neurons = torch.randn(80, 9, generator=generator)
    plain, prior = (first_form(match, neurons, prior_weight=weight) for weight in (0.0, 1.0))
    difference = plain - prior
    assert torch.allclose(difference, difference[:1].expand_as(difference), atol=1e-4)


@pytest.mark.slow
def test_published_labels_of_a_run_are_a_truth(run, tmp_path):
    folder = run("probe.size=300", "similarity.top_k=30")
    table = tmp_path / "layer4.csv"
    table.write_text("layer,unit,concept0\nlayer4,0,red\nlayer4,3,no such word\nlayer4,12,square\nfc,1,red circle\n")
    text = analysis.main([str(folder), "--truth", str(table), "--layers", "layer4"])
    assert "2 units of 2 classes" in text
    assert "| whitened_wpmi, first form |" in text
    table.write_text("layer,unit,concept0\nlayer4,511,red\n")
    with pytest.raises(InputError, match="has unit 511 of layer4, which has 96 units here"):
        analysis.main([str(folder), "--truth", str(table), "--layers", "layer4"])
    table.write_text("name\nred\n")
    with pytest.raises(InputError, match="needs the columns unit and concept0 or description"):
        analysis.main([str(folder), "--truth", str(table), "--layers", "layer4"])
