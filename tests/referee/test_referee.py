"""The command on runs of `shapes`, on files of others and on tables made from scores that are known."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
from rich.console import Console

from cd_exp import shapes
from cd_exp.cli.entry import main as run_main
from cd_exp.referee import Refereed, output
from cd_exp.referee.__main__ import main as referee_main

pytestmark = pytest.mark.slow

QUIET = (
    *("probe.size=400", "stability.resamples=0", "logger=none", "features.progress=false", "features.workers=0"),
    *("report.html=false", "report.figures=false", "report.explorer=none", "similarity.top_k=30"),
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return tmp_path_factory.mktemp("referee")


@pytest.fixture(autouse=True)
def cache_of_the_runs(workspace, monkeypatch):
    monkeypatch.setenv("CD_EXP_CACHE", str(workspace / "cache"))


@pytest.fixture(scope="module")
def run(workspace):
    """Run the command line in this process, once for the same words, and return the folder."""
    done = {}

    def command(*words):
        if words not in done:
            done[words] = workspace / f"run{len(done)}"
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("CD_EXP_CACHE", str(workspace / "cache"))
                patch.setattr("sys.argv", ["run.py", *words, *QUIET, f"hydra.run.dir={done[words]}"])
                run_main()
        return done[words]

    return command


@pytest.fixture(scope="module")
def judged(run):
    return run("judge=whitened", "baseline=invert")


def labels_file(path, names):
    rows = [("layer", "unit", "description"), *(("fc", unit, name) for unit, name in enumerate(names))]
    path.write_text("".join(f"{','.join(map(str, row))}\n" for row in rows))
    return path


def rows_of(out):
    with (out / "referee.csv").open(newline="") as file:
        return {(row["layer"], row["labeller"]): row for row in csv.DictReader(file)}


def test_runs_files_and_references_stand_in_one_table(judged, tmp_path, capsys):
    right = labels_file(tmp_path / "right.csv", shapes.CLASSES)
    wrong = labels_file(tmp_path / "wrong.csv", np.roll(shapes.CLASSES, 7))
    status = referee_main([str(judged), str(right), str(wrong), "--out", str(tmp_path / "out")])
    assert status == 0
    rows = rows_of(tmp_path / "out")
    labellers = {name: row["kind"] for (layer, name), row in rows.items() if layer == "fc"}
    references = dict.fromkeys(("random_labels", "shuffled_labels", "true_labels"), "reference")
    assert labellers == dict.fromkeys(("clip_dissect", "invert", "right", "wrong"), "labeller") | references
    assert float(rows["fc", "right"]["top1"]) == 100
    assert float(rows["fc", "wrong"]["top1"]) == 0
    for score in ("whitened", "which_unit", "auprc"):
        key = f"faithfulness.{score}"
        low, high = (float(rows["fc", name][key]) for name in ("wrong", "right"))
        assert low < float(rows["fc", "clip_dissect"][key]) <= high + 0.02
        assert float(rows["fc", "right"][f"{key}_ci95_low"]) < high < float(rows["fc", "right"][f"{key}_ci95_high"])
    over = rows["fc", "right"]
    assert float(over["faithfulness.whitened_over_floor_ci95_low"]) > 0.3
    assert ("layer4", "right") not in rows
    text = " ".join(capsys.readouterr().out.split())
    assert "fc, whitened:" in text
    assert "differ, in the order right, " in text
    assert "circular for labels that it chose" in text
    result = json.loads((tmp_path / "out" / "referee.json").read_text())
    for width, interval in ((80, False), (300, True)):
        console = Console(width=width, record=True, file=io.StringIO())
        refereed = Refereed(result["layers"], tuple(references), comparisons=())
        output.show(refereed, tmp_path, console)
        table = console.export_text()
        assert (f"{result['layers']['fc']['right']['faithfulness.auprc']:.3f} [" in table) == interval
        assert any(line.split()[:2] == ["right", "100.0"] for line in table.splitlines())


def test_a_run_has_the_scores_that_it_wrote_itself(judged, tmp_path):
    referee_main([str(judged), "--out", str(tmp_path)])
    metrics = json.loads((judged / "metrics.json").read_text())
    rows = rows_of(tmp_path)
    for layer, own in metrics["layers"].items():
        for key in (
            "faithfulness.whitened",
            "faithfulness.which_unit",
            "shared_label",
            "faithfulness.whitened_over_floor",
        ):
            assert float(rows[layer, "clip_dissect"][key]) == pytest.approx(own[key], abs=1e-5)
    floor = metrics["baselines"]["shuffled_labels"]["fc"]["faithfulness.whitened"]
    assert float(rows["fc", "shuffled_labels"]["faithfulness.whitened"]) == pytest.approx(floor, abs=1e-5)


def test_the_page_and_the_json_hold_the_same(judged, tmp_path, capsys):
    assert referee_main([str(judged), "--out", str(tmp_path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "referee.json").read_text())
    page = (tmp_path / "index.html").read_text()
    for sentence in printed["sentences"]:
        assert sentence.split(":")[0] in page
    assert "http" not in page.replace("http-equiv", "")
    row = next(row for row in printed["comparisons"] if row["layer"] == "fc")
    assert {f"faithfulness.whitened_{what}" for what in ("difference", "p_adjusted", "least_detectable")} <= row.keys()


def test_two_runs_are_called_by_their_folders(judged, run, tmp_path):
    other = run("similarity.scale=3.0")
    assert referee_main([str(judged), str(other), "--out", str(tmp_path), "--layer", "fc"]) == 0
    names = {name for _, name in rows_of(tmp_path)}
    assert {judged.name, f"{judged.name} invert", other.name} <= names
    notes = json.loads((tmp_path / "referee.json").read_text())["notes"]
    assert any(note.startswith(f"{other.name}: run without a judge") for note in notes)


def test_runs_of_other_images_are_refused(judged, run, tmp_path, capsys):
    other = run("probe.seed=5")
    assert referee_main([str(judged), str(other), "--out", str(tmp_path)]) == 2
    assert "are not of the same images" in capsys.readouterr().err


def test_beliefs_and_human_ratings_of_a_run_are_columns(judged, tmp_path):
    folder = tmp_path / "rated"
    shutil.copytree(judged, folder)
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        row |= {"p_right": "0.25", "human_rating": str(number % 2), "stability": "0.5"}
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
    assert referee_main([str(folder), "--out", str(tmp_path / "out")]) == 0
    cells = rows_of(tmp_path / "out")["fc", "clip_dissect"]
    assert (float(cells["p_right_mean"]), float(cells["human_rating"])) == (0.25, 0.5)
    assert float(cells["stability_mean"]) == 0.5


def test_published_scores_are_laid_beside_ours(judged, tmp_path, capsys):
    """Tables of the true names and of others: what they say is what the whitened judge says, and then the contrary."""
    names = {"true": shapes.CLASSES, "other": [str(name) for name in np.roll(shapes.CLASSES, 7)]}
    files = [labels_file(tmp_path / f"{name}.csv", own) for name, own in names.items()]
    referee_main([str(judged), *map(str, files), "--out", str(tmp_path / "first"), "--layer", "fc"])
    capsys.readouterr()
    tables = []
    for name, own in names.items():
        path = tmp_path / f"P_{name}" / "net_fc.csv"
        path.parent.mkdir()
        lines = [f"{unit},{label},{0.5 if name == 'true' else 0.1 + unit / 1e4}\n" for unit, label in enumerate(own)]
        path.write_text("unit,description,sim correlation\n" + "".join(lines))
        tables.append(str(path))
    assert referee_main([str(judged), "--published", *tables, "--out", str(tmp_path / "second"), "--json"]) == 0
    by_statistic = {one["statistic"]: one for one in json.loads(capsys.readouterr().out)["published"]}
    assert by_statistic["winner"]["verdict"] == "ranks as published"
    assert by_statistic["winner"]["value"] > 0.95
    assert by_statistic["winner"]["known"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: there is no such run or file"),
        (["RUN", "--published", "RUN/labels.csv"], "has no column 'sim correlation'"),
        (["FILE"], "the judges need a run"),
    ],
)
def test_what_a_user_can_mend_is_one_line(judged, tmp_path, capsys, words, message):
    file = labels_file(tmp_path / "file.csv", shapes.CLASSES)
    command = [word.replace("RUN", str(judged)).replace("FILE", str(file)) for word in words]
    assert referee_main([*command, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
