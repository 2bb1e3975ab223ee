"""The best job against the others: what is tested, and the same numbers wherever they stand."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.reading import read_rows
from made_sweeps import begun, failed, finished
from rich.console import Console

from cd_exp.metrics import adjust_p_values, compare_methods
from cd_exp.records import UnitResults
from cd_exp.sweep import gather_sweep
from cd_exp.sweep.gather import describe_sweep, resume_command
from cd_exp.sweep.load import read_sweep

ACCURACY = {0: 25.0, 1: 75.0, 2: 62.5}


@pytest.fixture
def sweep(tmp_path):
    logger = {"_target_": "cd_exp.results.wandb.Wandb", "project": "p", "mode": "offline"}
    for number, similarity in enumerate(["cos", "wpmi", "soft_wpmi"]):
        finished(tmp_path / "s", number, f"similarity={similarity}", accuracy=ACCURACY[number], logger=logger)
    return tmp_path / "s"


def right_of(job: Path) -> UnitResults:
    """Of the labels as they stand in the file."""
    rows = read_rows(job / "labels.csv")
    right = np.array([row["description"] == row["truth"].partition(";")[0] for row in rows])
    return UnitResults(units=np.array([int(row["unit"]) for row in rows]), top1=right)


def test_one_comparison_has_the_same_numbers_in_terminal_file_page_and_wandb(sweep, monkeypatch):
    monkeypatch.setenv("WANDB_DIR", str(sweep.parent / "elsewhere"))
    out = io.StringIO()
    gather_sweep(sweep, console=Console(file=out, width=160))
    rows = [
        {"layer": "fc", "first": "1", "second": other} | compare_methods(right_of(sweep / "1"), right_of(sweep / other))
        for other in ("0", "2")
    ]
    stored = json.loads((sweep / "comparisons.json").read_text())
    assert stored == adjust_p_values(rows)
    assert describe_sweep(read_sweep(sweep), "s")["comparisons"] == stored
    for row in stored:
        low, high = row["top1_difference_ci95"]
        line = next(line for line in out.getvalue().splitlines() if line.strip().startswith(f"− {row['second']} ("))
        assert f"{row['top1_difference']:+.1f} [{low:+.1f}, {high:+.1f}]" in line
        cells = [format(row["top1_p"], ".2g"), format(row["top1_p_adjusted"], ".2g"), str(row["top1_n"])]
        assert line.split()[-3:] == cells
    (table,) = (sweep / "wandb").glob("offline-run-*/files/media/table/comparisons*.json")
    logged = json.loads(table.read_text())
    for row, there in zip(stored, logged["data"], strict=True):
        values = dict(zip(logged["columns"], there, strict=True))
        for key in ("top1_difference", "top1_p", "top1_p_adjusted", "top1_n"):
            assert values[key] == row[key]


def test_a_sweep_that_is_not_finished_says_how_to_finish_it(tmp_path):
    sweep = tmp_path / "my sweep"
    finished(sweep, 0, "similarity=cos")
    assert resume_command(sweep) == ""  # no multirun.yaml tells what was to run
    failed(sweep, 1, "similarity=wpmi")
    begun(sweep, 2, "similarity=soft_wpmi")
    settings = {"overrides": {"task": ["similarity=cos,wpmi,soft_wpmi"], "hydra": []}, "sweeper": {"params": None}}
    settings["runtime"] = {"cwd": str(tmp_path), "config_sources": []}
    (sweep / "multirun.yaml").write_text(json.dumps({"hydra": settings}))
    out = io.StringIO()
    gather_sweep(sweep, console=Console(file=out, width=80))
    assert f"finish with: python -m cd_exp.sweep '{sweep}' --resume" in out.getvalue()
    for number, similarity in [(1, "wpmi"), (2, "soft_wpmi")]:
        (sweep / str(number) / "error.json").unlink(missing_ok=True)
        finished(sweep, number, f"similarity={similarity}")
    assert resume_command(sweep) == ""
