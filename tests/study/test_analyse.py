"""What answers say: published ratings, made-up studies with a known outcome, files, and columns that join a run."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cd_exp import explorer
from cd_exp.explorer.payload import decode_array
from cd_exp.results.labels_csv import read_labels_csv
from cd_exp.study import analyse
from cd_exp.study.__main__ import main
from cd_exp.study.read import Answer, StudyFolder, Submission, load_answers, open_study

RATINGS = Path(__file__).parents[3] / "shared/reference/human_ratings/dnd_rn50_table4.csv"


@pytest.fixture
def study(made, answers, tmp_path):
    """`study(design)` is a folder of a study of its own, its answers read."""

    def of(design):
        folder = shutil.copytree(made(design), tmp_path / design)
        assert main(["read", str(folder), str(answers(design))]) == 0
        return folder

    return of


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.skipif(not RATINGS.is_file(), reason="no ../shared")
def test_the_published_ratings_of_describe_and_dissect(tmp_path, capsys):
    folder = tmp_path / "dnd"
    columns = ["layer=Layer", "unit=Unit", "answer={method} E{rater} Rating"]
    assert main(["read", str(folder), str(RATINGS), "--columns", *columns]) == 0
    assert main(["analyse", str(folder)]) == 0
    document = json.loads((folder / "results.json").read_text())["rules"]["all"]
    means = {row["method"]: row["mean"] for row in document["scores"] if row["score"] == "rating" and not row["layer"]}
    assert means == pytest.approx(
        {"Mean Caption": 2.6050, "Topk-Sq": 2.6225, "Image-Products": 3.0275, "Topk-Compare": 2.8525}
    )
    assert document["agreement"]["alpha_interval"] == pytest.approx(0.609, abs=5e-4)
    assert document["agreement"]["alpha_ordinal"] == pytest.approx(0.612, abs=5e-4)
    assert document["agreement"]["share_equal"] == pytest.approx(0.4175)
    assert "alpha interval: 0.609" in capsys.readouterr().out


def of_two(design, trials, answers):
    """A study in memory; `answers` by rater, then task."""
    trials = {name: {"kind": "task", "layer": "fc", **trial} for name, trial in trials.items()}
    folder = StudyFolder(
        Path(), {"design": design, "seed": 0, "weights": {}}, {"trials": trials, "methods": ["a", "b"]}
    )
    made = [
        Submission(rater, 1, "", tuple(Answer(task, value) for task, value in own.items()), "")
        for rater, own in answers.items()
    ]
    return analyse.Answered.of(folder, made)


def test_ratings_are_averaged_within_tasks_and_then_within_units():
    trials = {
        "t1": {"unit": 0, "texts": ["x"], "methods": ["a", "b"]},
        "t2": {"unit": 0, "texts": ["x"], "methods": ["a"]},
        "t3": {"unit": 1, "texts": ["y"], "methods": ["b"]},
    }
    answers = {"r": {"t1": "5", "t2": "2", "t3": "cannot_tell"}, "s": {"t1": "3", "t3": "1"}}
    values = analyse.unit_scores(of_two("rating", trials, answers))
    assert values["rating"] == {("fc", 0, "a"): 3.0, ("fc", 0, "b"): 4.0, ("fc", 1, "b"): 1.0}
    assert values["fits"] == {("fc", 0, "a"): 0.25, ("fc", 0, "b"): 0.5, ("fc", 1, "b"): 0.0}


def test_choices_count_for_all_methods_that_gave_the_description():
    trials = {"t": {"unit": 0, "texts": ["x", "y", "z"], "options": [["a", "b"], [], []]}}
    answered = of_two("choice", trials, {"r": {"t": "0"}, "s": {"t": "none"}, "u": {"t": "1"}, "v": {"t": "0"}})
    assert analyse.unit_scores(answered)["chosen"] == {("fc", 0, "a"): 0.5, ("fc", 0, "b"): 0.5}
    rows = {row["method"]: row["strength"] for row in analyse.strengths(answered, ["a", "b"], seed=0, resamples=5)}
    assert rows["a"] == pytest.approx(rows["b"])
    assert rows["a"] > rows["none of them"] == pytest.approx(rows["another unit's"])


def test_intruders_are_counted_by_tenth():
    trials = {f"t{n}": {"unit": n, "texts": [], "images": [0] * 5, "intruder": 2, "tenth": 1 + n % 2} for n in range(4)}
    answered = of_two("intruder", trials, {"r": {"t0": "2", "t1": "0", "t2": "2", "t3": "2"}})
    assert [(row["tenth"], row["mean"]) for row in analyse.by_tenth(answered, seed=0)] == [(1, 1.0), (2, 0.5)]
    assert analyse.unit_scores(answered)["intruder"][("fc", 1, "")] == 0


def test_differences_are_on_common_units_and_adjusted():
    rng = np.random.default_rng(0)
    values = {
        ("fc", unit, method): float(shift + rng.normal())
        for method, shift in (("a", 2), ("b", 0), ("c", 0))
        for unit in range(30)
    }
    del values["fc", 3, "a"]
    rows = analyse.differences(values, ["a", "b", "c"], seed=0)
    assert [row["units"] for row in rows] == [29, 29, 30]
    assert rows[0]["difference"] == pytest.approx(
        np.mean([values["fc", u, "a"] - values["fc", u, "b"] for u in range(30) if u != 3])
    )
    assert rows[0]["difference_p_adjusted"] == pytest.approx(3 * rows[0]["difference_p"])


@pytest.mark.long
@pytest.mark.parametrize(
    "design",
    ["rating", *(pytest.param(design, marks=pytest.mark.slow) for design in ("presence", "choice", "intruder"))],
)
def test_every_design_from_answers_to_files(study, run, design, capsys):
    folder = study(design)
    assert main(["analyse", str(folder)]) == 0
    document = json.loads((folder / "results.json").read_text())
    assert set(document["rules"]) == {"none", "catch", "fast", "straight", "double", "all"}
    assert {row["score"] for row in document["rules"]["all"]["scores"]} == set(analyse.SCORES[design])
    for under in document["rules"].values():
        assert under["people_with_people"]["spearman"] <= 1
        assert under["orders"]
        assert ("strengths" in under, "tenths" in under) == (design == "choice", design == "intruder")
    page = (folder / "results.html").read_text()
    assert page.count("data:image/png") == len(list((folder / "figures").iterdir())) >= 1
    with (folder / "human.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["layer", "unit", "method", *(f"human_{name}" for name in analyse.SCORES[design])]
    assert {row["method"] for row in rows} == ({""} if design == "intruder" else {"clip_dissect", "netdissect"})
    assert "answers kept" in capsys.readouterr().out


@pytest.mark.slow
def test_presence_pools_answers_and_finds_the_error(study):
    opened = open_study(study("presence"))
    answered = analyse.Answered.of(opened, load_answers(opened))
    _, posterior, error = analyse.pooled_presence(answered)
    assert error == pytest.approx(0.1, abs=0.03)
    right = [(posterior[task] > 0.5) == (opened.trials[task]["match"] > 2) for task in posterior]
    assert np.mean(right) > 0.95


@pytest.mark.slow
def test_dropped_answers_are_beside_all(study):
    folder = study("rating")
    with (folder / "raters.csv").open() as file:
        rows = list(csv.DictReader(file))
    rows[0]["dropped"], rows[1]["dropped"] = "catch", "fast double"
    with (folder / "raters.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    opened = open_study(folder)
    analysed, _ = analyse.results(opened, load_answers(opened), run=None)
    counts = {rule: under["submissions"] for rule, under in analysed["rules"].items()}
    every = len(rows)
    assert counts == {
        "none": every,
        "catch": every - 1,
        "fast": every - 1,
        "straight": every,
        "double": every - 1,
        "all": every - 2,
    }
    people = {rule: under["people_with_people"]["spearman"] for rule, under in analysed["rules"].items()}
    assert people["none"] == people["straight"] != people["all"]
    assert analysed["dropped"] == {"catch": 1, "fast": 1, "straight": 0, "double": 1}


@pytest.mark.long
def test_human_columns_join_the_run_before_marks(study, run, tmp_path):
    own = shutil.copytree(run, tmp_path / "run")
    before = (own / "labels.csv").read_text().splitlines()
    folder = study("rating")
    for _ in range(2):  # a second time replaces the first
        assert main(["analyse", str(folder), "--run", str(own), "--join"]) == 0
    lines = (own / "labels.csv").read_text().splitlines()
    assert lines[0] == before[0].removesuffix(",marks") + ",human_rating,human_fits,marks"
    assert len(lines) == len(before)
    with (folder / "human.csv").open() as file:
        wanted = {(row["layer"], row["unit"], row["method"]): row["human_rating"] for row in csv.DictReader(file)}
    for method, name in (("clip_dissect", "labels.csv"), ("netdissect", "labels_netdissect.csv")):
        with (own / name).open() as file:
            for row in csv.DictReader(file):
                assert row["human_rating"] == wanted.get((row["layer"], row["unit"], method), "")
    assert {layer: labels.top for layer, labels in read_labels_csv(own / "labels.csv").items()} == {
        layer: labels.top for layer, labels in read_labels_csv(run / "labels.csv").items()
    }
    content = next(iter(explorer.list_runs(explorer.read_pages(own)).values()))
    columns = content.parts["run"]["methods"][0]["layers"]["fc"]
    shown = dict(
        zip(
            decode_array(columns["units"]).tolist(),
            decode_array(columns["numbers"]["human.rating"]).tolist(),
            strict=True,
        )
    )
    expected_ratings = {
        int(unit): float(value)
        for (layer, unit, method), value in wanted.items()
        if layer == "fc" and method == "clip_dissect"
    }
    assert {unit: value for unit, value in shown.items() if value == value} == pytest.approx(expected_ratings, rel=1e-5)


def refused(capsys, *words):
    assert main(["analyse", *map(str, words)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


@pytest.mark.slow
def test_what_a_user_can_mend_is_one_line(study, made, run, tmp_path, capsys):
    assert "holds no answers.csv" in refused(capsys, made("rating"))
    folder = study("rating")
    capsys.readouterr()
    assert "--join needs the run" in refused(capsys, folder, "--run", tmp_path, "--join")
    other = shutil.copytree(run, tmp_path / "other")
    lines = (other / "labels.csv").read_text().replace("red circle", "green circle")
    (other / "labels.csv").write_text(lines)
    assert "does not have the labels that this study asks about" in refused(capsys, folder, "--run", other)
    text = (folder / "raters.csv").read_text().splitlines()
    (folder / "raters.csv").write_text("\n".join([text[0], *(line + "catch" for line in text[1:])]) + "\n")
    assert "submissions are dropped by the rules" in refused(capsys, folder)
    (folder / "answers.csv").write_text("submission,task\n1,2\n")
    assert "was edited or cut off" in refused(capsys, folder)


@pytest.mark.slow
def test_a_missing_package_is_named(study, monkeypatch, capsys):
    folder = study("rating")
    capsys.readouterr()
    monkeypatch.setitem(__import__("sys").modules, "krippendorff", None)
    assert "pip install 'cd-exp[study]'" in refused(capsys, folder)
