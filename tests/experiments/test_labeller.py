"""The comparison of rules on a small run: shares of ties, layers by chance, and tables that hold what they say."""

from functools import partial

import numpy as np
import pytest
import torch

from cd_exp.records import ConceptActivations
from experiments.labeller import analysis
from experiments.labeller.cases import Case, right, shapes, share
from experiments.labeller.rules import RULES


def test_equal_scores_count_as_shares():
    row = torch.tensor([2.0, 1.0, 1.0, 1.0, 0.0])
    assert share(row, torch.tensor([0]), within=1) == 1
    assert share(row, torch.tensor([2]), within=1) == 0
    assert share(row, torch.tensor([2]), within=2) == pytest.approx(1 / 3)
    assert share(row, torch.tensor([2, 3]), within=2) == pytest.approx(2 / 3)
    assert share(row, torch.tensor([1, 2, 4]), within=3) == 1
    assert share(torch.zeros(4), torch.tensor([0]), within=1) == pytest.approx(1 / 4)


def test_a_rule_that_ties_everything_is_right_by_chance_wherever_the_truth_stands():
    names = ("a", "b", "c", "d")
    case = Case(
        "x",
        ConceptActivations(torch.rand(6, 3), torch.rand(4, 3)),
        torch.rand(6, 4),
        names,
        (("a",), None, ("c",), ("d",)),
    )
    chances = right(lambda match, neurons: torch.zeros(neurons.shape[1], 4), case)
    assert chances.units.tolist() == [0, 2, 3]
    assert chances.top1.tolist() == pytest.approx([0.25] * 3)
    assert chances.top5.tolist() == [1.0] * 3
    assert chances.part(1).units.tolist() == [3]
    groups = case.in_groups(2, seed=0).groups
    assert sorted(torch.cat(groups).tolist()) == [0, 1, 2, 3]
    sizes = []
    right(lambda match, neurons: sizes.append(neurons.shape[1]) or torch.zeros(2, 4), case.in_groups(2, seed=0))
    assert sizes == [2, 2]


def test_the_truth_is_followed_when_concepts_are_shuffled():
    texts = torch.eye(5)
    case = Case(
        "x", ConceptActivations(torch.eye(5), texts), torch.eye(5), tuple("abcde"), tuple((name,) for name in "abcde")
    )
    for seed in range(3):
        assert right(lambda match, neurons: neurons.T @ match.images @ match.texts.T, case, seed=seed).top1.all()


OURS = ("whitened_wpmi", "whitened_wpmi_names")


@pytest.mark.slow
def test_every_table_on_a_small_world(run, monkeypatch):
    folder = run("probe.size=300", "similarity.top_k=30")
    monkeypatch.setattr(analysis, "photographs", lambda opened, seed: iter(list(shapes(opened))[1:]))
    monkeypatch.setattr(analysis, "unseen", lambda opened: analysis.photographs(opened, seed=0))
    fixed = {name: partial(rule, prior_weight=0.85) for name, rule in RULES.items() if name in OURS}
    kept = {"whitened_wpmi": fixed["whitened_wpmi"], "absence counts fully": partial(fixed["whitened_wpmi"], leak=1.0)}
    scope = analysis.Scope(
        rules=RULES | fixed,  # choosing the prior costs most; `priors` does
        ablations=kept,
        values={"prior_weight": (0.85,)},
        sizes=(50,),
        orders=1,
        resamples=99,
    )
    text = analysis.main([str(folder), str(folder)], scope=scope)
    parts = dict(part.split("\n\n", 1) for part in text.split("## ")[1:])
    assert list(parts) == list(analysis.PARTS)
    ours = next(line for line in parts["rules"].splitlines() if "| shapes fc | whitened_wpmi |" in line)
    base = parts["constants"].splitlines()[2].split(" | ")
    assert ours.split(" | ")[3].startswith(base[2].split(" / ")[0])
    assert all(line.endswith("| 0 | 0 |") for line in parts["order"].strip().splitlines()[4:] if "whitened" in line)
    assert "layers of 50 |" in parts["layers"]
    assert "| absence counts fully |" in parts["terms"]
    assert np.isfinite(float(parts["heldout"].splitlines()[2].split(" | ")[2].split(" ")[0]))
