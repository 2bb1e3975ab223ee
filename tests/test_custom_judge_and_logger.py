"""`judge=custom` and `logger=custom`: both from one file of the user's own."""

import csv
import json

import pytest

from cd_exp.cli.entry import main
from cd_exp.errors import InputError
from cd_exp.evaluation.judges import custom as custom_judge
from cd_exp.results.wandb import custom as custom_logger

MINE = """
import json
from contextlib import contextmanager

import numpy as np

from cd_exp.evaluation.judges import Judge
from cd_exp.results.wandb import Logger


class Lengths(Judge):
    held_out = 0.3

    def __init__(self, least):
        self.least = least

    def __call__(self, held, asked):
        return [{"auprc": np.array([float(len(label)) for label in one.labels])} for one in asked]

    def known(self, held, labels):
        return {label: len(label) >= self.least for label in labels}


class File(Logger):
    def __init__(self, name):
        self.name = name

    @contextmanager
    def begin(self, folder, about):
        self.seed = about.config["seed"]
        yield self

    def finish(self, outcome, *, folder):
        (folder / self.name).write_text(json.dumps([self.seed, sorted(outcome.labels)]))


def judge(*, least=1):
    return Lengths(least)


def logger(*, name):
    return File(name)


def number():
    return 3
"""


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    return f"{tmp_path}/mine.py"


def test_a_run_is_judged_and_recorded_by_code_of_the_users_own(mine, tmp_path, monkeypatch):
    words = [
        "probe.size=120",
        "similarity=cos",
        "stability.resamples=0",
        "features.progress=false",
        "features.workers=0",
    ]
    words += [
        "features.workers=0",
        "report.html=false",
        "report.figures=false",
        "report.explorer=none",
        "model.layers=[fc]",
    ]
    words += ["judge=custom", f"judge.factory='{mine}:judge'", "judge.options.least=4"]
    words += ["logger=custom", f"logger.factory='{mine}:logger'", "logger.options.name=mine.json", "seed=5"]
    monkeypatch.setenv("CD_EXP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("sys.argv", ["run.py", *words, f"hydra.run.dir={tmp_path}/run"])
    main()
    rows = list(csv.DictReader((tmp_path / "run/labels.csv").read_text().splitlines()))
    assert all(float(row["faithfulness_auprc"]) == len(row["judged_label"]) for row in rows)
    assert json.loads((tmp_path / "run/mine.json").read_text()) == [5, ["fc"]]


@pytest.mark.parametrize(
    ("custom", "group", "base"),
    [
        (custom_judge, "judge", "cd_exp.evaluation.judges.Judge"),
        (custom_logger, "logger", "cd_exp.results.wandb.Logger"),
    ],
)
def test_what_is_no_judge_or_logger_is_refused(mine, custom, group, base):
    with pytest.raises(InputError, match=rf"{group}.factory=.*:number returned int, expected .* {base}"):
        custom(factory=f"{mine}:number")
    with pytest.raises(InputError, match=rf"{group}.options.colour"):
        custom(factory=f"{mine}:logger", options={"colour": 1})
