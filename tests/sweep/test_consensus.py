"""The label that most configurations give, by the project's rule of names."""

import csv

import pytest
from made_sweeps import finished

from cd_exp.sweep import read_sweep
from cd_exp.sweep.consensus import COLUMNS, consensus_accuracy, consensus_table, vote_on_units, votes_by_layer


def relabel(folder, labels, *, top5=None, ranks=None, truth=""):
    """Put these labels into a job's `labels.csv`."""
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["layer", "unit", "description", "similarity", "top5", "truth", "rank_of_truth"])
        for unit, label in enumerate(labels):
            best = (top5 or {}).get(unit, label)
            writer.writerow(["fc", unit, label, 0.1, best, truth, "" if ranks is None else ranks[unit]])


def voted(tmp_path, *by_job, **about):
    for number, labels in enumerate(by_job):
        relabel(finished(tmp_path, number, f"similarity=s{number}"), labels, **about)
    return vote_on_units(read_sweep(tmp_path))


def test_the_most_frequent_label_wins_and_agreement_is_its_share(tmp_path):
    (vote,) = voted(tmp_path, ["leaf"], ["stripe"], ["leaf"], ["ring"])
    assert (vote.description, vote.agreement, vote.judged) == ("leaf", 0.5, None)
    assert vote.kinds == {"0": 0, "1": 1, "2": 0, "3": 2}


def test_names_that_share_a_reading_are_one_label(tmp_path):
    (vote,) = voted(tmp_path, ["stripe"], ["Tinca tinca, tench"], ["tench"], ["striped"])
    assert (vote.description, vote.agreement) == ("Tinca tinca, tench", 0.5)


def test_a_tie_goes_to_the_label_that_more_jobs_have_among_their_five_best(tmp_path):
    first = finished(tmp_path, 0, "similarity=cos")
    second = finished(tmp_path, 1, "similarity=wpmi")
    relabel(first, ["leaf"], top5={0: "leaf; stripe"})
    relabel(second, ["stripe"], top5={0: "stripe; ring"})
    assert vote_on_units(read_sweep(tmp_path))[0].description == "stripe"


def test_a_tie_in_everything_goes_to_the_earlier_job(tmp_path):
    assert voted(tmp_path, ["leaf"], ["ring"])[0].description == "leaf"


def test_an_unlabelled_unit_counts_but_is_no_label(tmp_path):
    votes = voted(tmp_path, ["", ""], ["", "leaf"], ["", ""])
    assert [(vote.description, vote.agreement) for vote in votes] == [("", 0.0), ("leaf", pytest.approx(1 / 3))]
    assert [row[COLUMNS.index("distinct")] for row in consensus_table(votes)[1]] == [0, 1]


def test_the_consensus_is_right_where_the_jobs_were_right_with_that_label(tmp_path):
    first, second, third = (finished(tmp_path, number, f"similarity=s{number}") for number in range(3))
    relabel(first, ["leaf", "ring"], ranks=[1, 7], truth="leaf")
    relabel(second, ["leaf", "ring"], ranks=[1, 3], truth="leaf")
    relabel(third, ["ring", "leaf"], ranks=[9, 1], truth="leaf")
    votes = vote_on_units(read_sweep(tmp_path))
    assert [vote.judged for vote in votes] == [True, False]
    metrics = consensus_accuracy(votes)
    assert (metrics["top1"], metrics["judged"], metrics["agreement"]) == (50, 2, pytest.approx(200 / 3))
    assert metrics["ci95"][0] <= 50 <= metrics["ci95"][1]


def test_units_of_different_models_are_not_put_together(tmp_path):
    for number, model in enumerate(["resnet", "resnet", "vit"]):
        relabel(finished(tmp_path, number, f"model={model}", f"seed={number}"), ["leaf"])
    groups = votes_by_layer(vote_on_units(read_sweep(tmp_path)))
    assert {key: len(votes[0].labels) for key, votes in groups.items()} == {("resnet", "fc"): 2, ("vit", "fc"): 1}


def test_other_weights_under_the_name_of_a_model_are_another_model(tmp_path):
    for number, weights in enumerate(["a", "b"]):
        folder = finished(tmp_path, number, f"model.weights={weights}")
        manifest = folder / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"architecture": "shapes"', f'"weights": "{weights}"'))
        relabel(folder, ["leaf"])
    assert list(votes_by_layer(vote_on_units(read_sweep(tmp_path)))) == [("shapes", "fc"), ("shapes (2)", "fc")]


def test_a_job_without_labels_is_left_out(tmp_path):
    relabel(finished(tmp_path, 0, "seed=1"), ["leaf"])
    (finished(tmp_path, 1, "seed=2") / "labels.csv").unlink()
    assert [vote.labels for vote in vote_on_units(read_sweep(tmp_path))] == [{"0": "leaf"}]
