"""Sensitivity on a small run: the published point is the run itself, and the figure is drawn."""

import re

import pytest
from PIL import Image

from cd_exp.errors import InputError
from cd_exp.shapes import CLASSES
from experiments.reopening import reopen
from experiments.sensitivity import analysis


@pytest.mark.slow
def test_each_setting_has_its_points_and_the_runs_own_changes_nothing(run, tmp_path):
    shapes_run = run("probe.size=500")
    files = [tmp_path / "s.png", tmp_path / "s.pdf"]
    arguments = [str(shapes_run), "--layers", "fc", "--out", *map(str, files)]
    text = analysis.main(arguments, scales=(3.0, 10.0), top_ks=(5, 100_000))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]
    settings = [row[2] for row in rows]
    assert {(row[0], row[1]) for row in rows} == {("shapes", "fc")}
    assert settings == ["scale"] * 2 + ["top_k"] + ["prior_weight"] * 3 + ["images"] * 4 + ["concepts"] * 3
    by = {(row[2], row[3]): row for row in rows}
    for own in (("scale", "10"), ("prior_weight", "1"), ("concepts", "565")):
        assert by[own][6].startswith("0.0 ["), own
    assert not by["top_k", "5"][6].startswith("0.0 [")
    assert all(re.fullmatch(r"\d+\.\d \[\d+\.\d, \d+\.\d\]", row[4]) for row in rows)
    with Image.open(files[0]) as picture:
        assert picture.width > 1000
    assert files[1].read_bytes().startswith(b"%PDF")


def test_another_function_is_refused(run):
    wpmi_run = run("probe.size=500", "similarity=wpmi")
    with pytest.raises(InputError, match="is no run with similarity=soft_wpmi"):
        analysis.main([str(wpmi_run)])


@pytest.mark.slow
def test_words_are_left_out_one_after_the_other_and_never_the_true_ones(run):
    opened = reopen(run("probe.size=500"))
    by_value = {point.value: point for point in analysis.points(opened, "layer4") if point.setting == "concepts"}
    assert list(by_value) == [565, 282, 113]
    assert all(len(point.right) == 28 for point in by_value.values())
    few = [word for word in opened.parts.concepts.names if word in CLASSES]
    labels = opened.data.labels["fc"]
    assert len(few) == len(labels.units) == 100
    assert [point.value for point in analysis.points(opened, "fc") if point.setting == "concepts"] == [565, 282, 113]
