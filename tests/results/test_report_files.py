import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.reading import read_rows
from rich.console import Console

from cd_exp import results
from cd_exp.io.text import split_names
from cd_exp.results.labels_csv import COLUMNS, MARKS
from cd_exp.results.run_folder import DRAWN


def test_labels_have_the_columns_of_the_published_files_and_a_row_a_unit(tmp_path, outcome, manifest):
    results.write_run_files(tmp_path, outcome, manifest=manifest)
    header = (tmp_path / "labels.csv").read_text().splitlines()[0].split(",")
    assert header[:4] == ["layer", "unit", "description", "similarity"]
    assert header == [column.name for column in (*COLUMNS, MARKS) if column.always or column is MARKS]
    rows = read_rows(tmp_path / "labels.csv")
    assert [(row["layer"], int(row["unit"])) for row in rows] == [
        (layer, unit) for layer, labels in outcome.labels.items() for unit in labels.units
    ]


def test_every_cell_comes_back_as_it_was(tmp_path, outcome, manifest):
    results.write_run_files(tmp_path, outcome, manifest=manifest)
    rows = read_rows(tmp_path / "labels.csv")
    for layer, labels in outcome.labels.items():
        for position, row in enumerate(row for row in rows if row["layer"] == layer):
            assert row["description"] == labels.descriptions[position]
            assert tuple(row["top5"].split("; ")) == labels.top[position]
            assert float(row["similarity"]) == pytest.approx(labels.similarity[position], rel=1e-5)
            assert tuple(filter(None, row["truth"].split("; "))) == (labels.truth[position] or ())
            assert row["rank_of_truth"] == ("" if labels.ranks is None else str(int(labels.ranks[position])))


def test_cells_are_empty_where_nothing_is_known(tmp_path, outcome, manifest):
    ranks = outcome.labels["fc"].ranks.copy()
    ranks[1] = np.nan
    fc = replace(outcome.labels["fc"], ranks=ranks, truth=(None, *outcome.labels["fc"].truth[1:]))
    results.write_run_files(tmp_path, replace(outcome, labels={"fc": fc}), manifest=manifest)
    first, second, *_ = read_rows(tmp_path / "labels.csv")
    assert (first["truth"], second["rank_of_truth"]) == ("", "")
    unlabelled = read_rows(tmp_path / "labels_netdissect.csv")[-1]
    assert [unlabelled[key] for key in ("description", "similarity", "top5", "rank_of_truth")] == [""] * 4


def test_a_methods_name_cannot_leave_the_folder(tmp_path, outcome, manifest):
    odd = replace(outcome, baselines={"../net dissect": outcome.baselines["netdissect"]})
    paths = results.write_run_files(tmp_path / "run", odd, manifest=manifest)
    assert all(path.parent == tmp_path / "run" for path in paths)
    assert any(path.name.startswith("labels__net_dissect-") for path in paths)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_metrics_are_those_of_the_contract(tmp_path, outcome, manifest):
    results.write_run_files(tmp_path, outcome, manifest=manifest)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert list(metrics) == ["layers", "baselines", "seconds"]
    assert metrics["layers"]["fc"] == outcome.metrics["fc"]
    assert metrics["layers"]["layer4.1.act2"] == {"units": 60}
    assert metrics["baselines"]["netdissect"]["fc"]["top1"] == 43.7
    assert metrics["seconds"] == {"features": 12.25, "similarity": 0.5, "total": 13.125}
    assert json.loads((tmp_path / "comparisons.json").read_text()) == list(outcome.comparisons)
    assert json.loads((tmp_path / "manifest.json").read_text()) == manifest


def test_what_a_run_without_baseline_does_not_have_is_absent(tmp_path, outcome, manifest):
    results.write_run_files(
        tmp_path, replace(outcome, baselines={}, baseline_metrics={}, comparisons=()), manifest=manifest
    )
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ["judged.csv", "labels.csv", "manifest.json", "metrics.json"]
    assert list(json.loads((tmp_path / "metrics.json").read_text())) == ["layers", "seconds"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan"), None])
def test_a_metric_that_does_not_apply_is_refused(tmp_path, outcome, manifest, value):
    wrong = replace(outcome, metrics={"fc": {"units": 60, "ci95": [1.0, value]}})
    message = r"metrics.json: layers: fc: ci95 is (nan|inf|None); leave out a key that does not apply"
    with pytest.raises(ValueError, match=message):
        results.write_run_files(tmp_path, wrong, manifest=manifest)
    assert list(tmp_path.iterdir()) == []


def test_numpy_and_paths_are_written_as_plain_values(tmp_path, outcome):
    manifest = {"folder": Path("a/b"), "seed": np.int64(3), "top": np.arange(2), "none": None, "layers": ("fc",)}
    plain = replace(outcome, metrics={"fc": {"units": np.int64(60), "ci95": np.array([1.0, 2.0])}})
    results.write_run_files(tmp_path, plain, manifest=manifest)
    assert json.loads((tmp_path / "metrics.json").read_text())["layers"] == {"fc": {"units": 60, "ci95": [1.0, 2.0]}}
    assert json.loads((tmp_path / "manifest.json").read_text()) == {
        "folder": "a/b", "seed": 3, "top": [0, 1], "none": None, "layers": ["fc"],
    }  # fmt: skip


def test_any_name_comes_back_from_the_files(tmp_path, outcome, manifest):
    odd = ("[/foo]", "a; b", "c\rd", 'e"f, g', "=1+1", "\x1b[31m", "back\\slash", "nul\x00", "\u202egnirts")
    labels = outcome.labels["fc"]
    labels = replace(labels, top=(odd[:5], odd[5:], *labels.top[2:]))
    results.write_run_files(tmp_path, replace(outcome, labels={"fc": labels}), manifest=manifest)
    results.draw_figures(tmp_path, replace(outcome, labels={"fc": labels}))
    results.write_report(tmp_path, replace(outcome, labels={"fc": labels}), manifest=manifest)
    results.show_results(Console(file=io.StringIO()), replace(outcome, labels={"fc": labels}), tmp_path)
    rows = read_rows(tmp_path / "labels.csv")
    assert [row["description"] for row in rows] == list(labels.descriptions)
    assert [split_names(row["top5"]) for row in rows] == [names[:5] for names in labels.top]


def test_writing_again_replaces(tmp_path, outcome, manifest):
    results.write_run_files(tmp_path, outcome, manifest=manifest)
    results.write_run_files(tmp_path, replace(outcome, labels={"fc": outcome.labels["fc"]}), manifest=manifest)
    assert {row["layer"] for row in read_rows(tmp_path / "labels.csv")} == {"fc"}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("baselines", [{}, {"published": {}}], ids=["no baseline", "another baseline"])
def test_what_another_run_left_in_the_folder_does_not_stay_and_files_of_others_do(
    tmp_path, outcome, manifest, baselines
):
    manifest = {**manifest, "baselines": list(outcome.baselines), "files": ["tally_fc.csv"]}
    results.write_run_files(tmp_path, replace(outcome, files={"tally_fc.csv": "unit"}), manifest=manifest)
    (tmp_path / "metrics.json").unlink()  # as a job does that begins in the folder
    assert (tmp_path / "labels_netdissect.csv").exists()
    assert (tmp_path / "comparisons.json").exists()
    (tmp_path / "figures").mkdir()
    theirs = ("labels_of_others.csv", "figures/mine.png")
    for name in (*theirs, "report.html", "figures/agreement.png"):
        (tmp_path / name).write_text("earlier")
    other = replace(outcome, baselines=baselines, baseline_metrics={}, comparisons=[])
    results.write_run_files(tmp_path, other, manifest=manifest)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    made = {"labels.csv", "judged.csv", "manifest.json", "metrics.json"}
    assert left == made | {*theirs} | ({"labels_published.csv"} if baselines else set())


def test_figures_are_known_by_name(tmp_path, outcome):
    theirs = outcome.baselines["netdissect"]
    labels = replace(outcome.labels["fc"], p_right=np.full(60, 0.5))
    full = replace(outcome, labels={**outcome.labels, "fc": labels}, baselines={"netdissect": theirs, "other": theirs})
    assert {path.stem for path in results.draw_figures(tmp_path, full)} == {*DRAWN, "captions"}
