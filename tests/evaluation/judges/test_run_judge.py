"""Runs on `shapes` with each judge: labels are chosen on one part of the images and scored on the other."""

import csv
import json

import numpy as np
import pytest
from helpers.reading import read_metrics
from PIL import Image

from cd_exp import shapes
from cd_exp.cli.entry import main

QUIET = (
    *("probe.size=400", "stability.resamples=0", "logger=none", "features.progress=false"),
    *("features.workers=0", "report.html=false", "report.figures=false", "report.explorer=none"),
)
SMALL = (*QUIET, "similarity.top_k=30")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run the command line in this process and return the folder."""
    path = tmp_path_factory.mktemp("judging")
    done = {}

    def command(*words, settings=SMALL):
        if words not in done:
            folder = path / str(len(done))
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("CD_EXP_CACHE", str(path / "cache"))
                patch.setattr("sys.argv", ["run.py", *words, *settings, f"hydra.run.dir={folder}"])
                main()
            done[words] = folder
        return done[words]

    return command


def rows(folder, name="labels.csv"):
    return list(csv.DictReader((folder / name).read_text().splitlines()))


@pytest.mark.slow
def test_annotations_score_every_method_between_floor_and_ceiling(run):
    folder = run("judge=annotations", "baseline=invert")
    metrics = read_metrics(folder)
    assert list(metrics["baselines"]) == ["invert", "random_labels", "shuffled_labels", "true_labels"]
    for score in ("pearson", "auprc", "f1", "iou", "cosine"):
        key = f"faithfulness.{score}"
        ours = metrics["layers"]["fc"]
        floor, ceiling = (metrics["baselines"][name]["fc"][key] for name in ("random_labels", "true_labels"))
        assert floor < ours[key] <= ceiling + 0.05
        low, high = ours[f"{key}_ci95"]
        assert low <= ours[key] <= high
    assert metrics["baselines"]["random_labels"]["layer4"]["faithfulness_units"] == 96
    assert metrics["baselines"]["true_labels"]["layer4"]["faithfulness_units"] == 28


@pytest.mark.slow
def test_the_whitened_judge_stands_beside_its_references(run):
    folder = run("judge=whitened", "judge.untrained=true", "baseline=invert")
    metrics = read_metrics(folder)
    references = ["random_labels", "shuffled_labels", "true_labels", "untrained"]
    assert list(metrics["baselines"]) == ["invert", *references]
    for layer, ours in metrics["layers"].items():
        random, floor, true, untrained = (metrics["baselines"][name][layer] for name in references)
        for score in ("faithfulness.whitened", "faithfulness.which_unit"):
            assert max(floor[score], random[score]) < ours[score] < true[score]
            assert ours[f"{score}_over_floor"] == pytest.approx(ours[score] - floor[score])
            low, high = ours[f"{score}_over_floor_ci95"]
            assert 0 < low < ours[f"{score}_over_floor"] < high
        assert abs(random["faithfulness.which_unit"] - 0.5) < 0.1
        assert untrained["faithfulness.whitened_over_floor"] < ours["faithfulness.whitened_over_floor"]
        assert "top1" not in untrained
        for key in ("distinct_labels", "shared_label", "commonest_share"):
            assert all(0 <= row[key] <= 1 for row in (ours, random, floor, true, untrained))
    own = rows(folder)
    assert all(row["faithfulness_whitened"] and row["faithfulness_which_unit"] for row in own)
    assert all("circular" in row["marks"].split() for row in own)
    # The other method was chosen by masks, not by the CLIP that judges.
    assert not any("circular" in row["marks"] for row in rows(folder, "labels_invert.csv"))


@pytest.mark.slow
def test_who_is_favoured_is_said(run, capsys):
    run("judge=whitened", "baseline=invert")
    text = " ".join(capsys.readouterr().out.split())
    assert "chose the labels of clip_dissect, and not those of invert: it favours the former" in text
    assert "fc, whitened: cannot rank clip_dissect and invert" in text


@pytest.mark.slow
def test_methods_are_told_apart_or_said_not_to_be(run):
    folder = run("judge=whitened", "judge.untrained=true", "baseline=invert")
    (row,) = [row for row in json.loads((folder / "comparisons.json").read_text()) if row["layer"] == "fc"]
    least, difference = (row[f"faithfulness.whitened_{what}"] for what in ("least_detectable", "difference"))
    assert least > 0
    assert (row["faithfulness.whitened_p_adjusted"] < 0.05) == (abs(difference) > least * 0.7)


@pytest.mark.slow
def test_labels_have_their_scores_and_what_was_scored(run):
    folder = run("judge=annotations", "baseline=invert")
    own = rows(folder)
    assert len(own) == 196
    judged = [row for row in own if row["faithfulness_f1"]]
    assert judged
    for row in own:
        drawn = row["judged_label"] in shapes.CONCEPTS and shapes.named_attributes(row["judged_label"]) is not None
        assert bool(row["faithfulness_f1"]) == drawn
        assert "circular" not in row["marks"]
    mean = np.mean([float(row["faithfulness_f1"]) for row in judged if row["layer"] == "fc"])
    assert read_metrics(folder)["layers"]["fc"]["faithfulness.f1"] == pytest.approx(mean, abs=1e-4)
    assert any(row["judged_label"] != row["description"] for row in own)


def test_labels_from_all_images_stay_as_they_are_without_a_judge(run):
    with_judge, without = rows(run("judge=annotations", "baseline=invert")), rows(run())
    assert [row["description"] for row in with_judge] == [row["description"] for row in without]
    assert "judged_label" not in without[0]


def test_the_formulas_of_invert_are_in_its_own_file(run):
    folder = run("judge=annotations", "baseline=invert")
    own = rows(folder, "invert_fc.csv")
    assert len(own) == 100
    assert set(own[0]) == {"unit", "formula", "share", "auc", "auc_other_images", "p", "q"}
    right = sum(row["formula"] == shapes.CLASSES[int(row["unit"])] for row in own)
    assert right > 60


@pytest.mark.slow
def test_renders_score_labels_and_count_those_that_cannot_be_drawn(run):
    folder = run("judge=images", "judge.scenes=6", "judge.pairs=1")
    metrics = read_metrics(folder)
    for layer in ("layer4", "fc"):
        values = [
            metrics["baselines"][name][layer]["faithfulness.cosy_auc"] for name in ("random_labels", "true_labels")
        ]
        assert 0.4 < values[0] < 0.6
        assert values[1] > 0.97
    own = [row for row in rows(folder) if row["layer"] == "layer4"]
    drawn = [row for row in own if row["faithfulness_cosy_auc"]]
    assert metrics["layers"]["layer4"]["faithfulness_units"] == len(drawn) < 96
    assert all(row["faithfulness_selectivity"] for row in drawn)


@pytest.mark.slow
def test_a_backbone_that_judges_its_own_labels_is_circular(run):
    folder = run("judge=clip", "judge.clip=shapes", "baseline=linear_explanations")
    assert all("circular" in row["marks"].split() for row in rows(folder))
    other = rows(folder, "labels_linear_explanations.csv")
    assert all("circular" in row["marks"].split() for row in other if row["judged_label"])
    assert any(" + " in row["judged_label"] for row in other)
    metrics = read_metrics(folder)
    floor = metrics["baselines"]["random_labels"]["fc"]["faithfulness.pearson"]
    assert metrics["layers"]["fc"]["faithfulness.pearson"] > floor
    assert metrics["baselines"]["linear_explanations"]["fc"]["faithfulness.pearson"] > floor


def test_pictures_of_labels_from_a_folder(run, tmp_path):
    for name in ("red", "blue", "circle"):
        (tmp_path / name).mkdir()
        for number in range(6):
            Image.fromarray(shapes.make_scene(number, seed=77, fixed=shapes.named_attributes(name)).pixels).save(
                tmp_path / name / f"{number}.png"
            )
    folder = run("judge=images", f"judge.folder={tmp_path}", "concepts=words", "concepts.names=[red,blue,circle,sea]")
    scored = {row["judged_label"] for row in rows(folder) if row["faithfulness_cosy_auc"]}
    assert scored
    assert scored <= {"red", "blue", "circle"}
    assert "faithfulness_selectivity" not in rows(folder)[0]


OWN = """
import torch

def by_name(match, neurons, *, names):
    \"\"\"How often a name's mean match is exceeded where the unit is active; a name of one letter never wins.\"\"\"
    images = match.images @ match.texts.T
    short = torch.tensor([len(name) < 2 for name in names])
    return (neurons.T @ (images > images.mean(0)).to(neurons)).masked_fill(short, 0)
"""


@pytest.mark.slow
def test_own_labels_are_made_by_the_function_that_makes_a_runs(run, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    custom = ("similarity=custom", f"similarity.function={tmp_path / 'own.py'}:by_name")
    for words in (custom, ("similarity=whitened_wpmi",)):
        own = rows(run("judge=annotations", "judge.held_out=0.02", *words, settings=QUIET))
        same = [row["judged_label"] == row["description"] for row in own]
        assert np.mean(same) > 0.7, "392 of 400 images say mostly the same as all of them"


@pytest.mark.parametrize("words", [("judge=annotations",), ("baseline=invert",), ("baseline=linear_explanations",)])
def test_whoever_reads_all_activations_has_them_kept_or_is_refused_before_extraction(run, capsys, tmp_path, words):
    with pytest.raises(SystemExit) as ended:
        run(*words, "features.keep=lists", f"cache.dir={tmp_path}")
    assert ended.value.code == 2
    assert "this run reads all activations of 400 images x 196 units" in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("judge=clip", "judge.clip=shapse"),
            "'shapse' is not a choice of the group clip; did you mean 'shapes'",
        ),
        (("judge=clip",), "judge.clip must be set: add judge.clip=VALUE"),
        (("judge=images", "judge.folder=nowhere"), "judge.folder=nowhere: there is no such folder"),
        (("judge=annotations", "judge.held_out=1.5"), "judge.held_out=1.5"),
        (("judge=images", "judge.scenes=3"), "judge.pairs=10 and judge.scenes=3"),
        (("baseline=invert", "baseline.categories=[colour]"), "'colour' is not in probe shapes; did you mean 'color'"),
    ],
)
def test_what_a_user_can_mend_is_one_line(run, capsys, words, message):
    with pytest.raises(SystemExit) as ended:
        run(*words)
    assert ended.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
