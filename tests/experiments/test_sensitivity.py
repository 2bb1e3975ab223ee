"""Sensitivity on a small run: the published point is the run itself, and the figure is drawn."""

import re

import pytest
from PIL import Image

from cd_exp.errors import InputError
from experiments.sensitivity import analysis


def test_each_setting_has_its_points_and_the_runs_own_changes_nothing(run, tmp_path, monkeypatch):
    shapes_run = run("probe.size=500")
    monkeypatch.setattr(analysis, "SCALES", (3.0, 10.0))
    monkeypatch.setattr(analysis, "TOP_KS", (5, 100_000))
    text = analysis.main([str(shapes_run), "--layers", "fc", "--out", str(tmp_path / "s.png")])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]
    settings = [row[1] for row in rows]
    assert settings == ["scale"] * 2 + ["top_k"] + ["prior_weight"] * 3 + ["images"] * 4 + ["concepts"] * 3
    by = {(row[1], row[2]): row for row in rows}
    for own in (("scale", "10"), ("prior_weight", "1"), ("concepts", "565")):
        assert by[own][5].startswith("0.0 ["), own
    assert not by["top_k", "5"][5].startswith("0.0 [")
    assert all(re.fullmatch(r"\d+\.\d \[\d+\.\d, \d+\.\d\]", row[3]) for row in rows)
    with Image.open(tmp_path / "s.png") as picture:
        assert picture.width > 1000


def test_another_function_is_refused(run):
    wpmi_run = run("probe.size=500", "similarity=wpmi")
    with pytest.raises(InputError, match="is no run with similarity=soft_wpmi"):
        analysis.main([str(wpmi_run)])
