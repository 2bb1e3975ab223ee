"""`judge=custom` and `logger=custom`: both from one file of the user's own."""

import json
import os

import numpy as np
import pytest
import torch
from helpers.reading import read_rows

from cd_exp.cli.entry import main
from cd_exp.errors import InputError
from cd_exp.evaluation.judges import HeldOut, LabelsToScore
from cd_exp.evaluation.judges import custom as custom_judge
from cd_exp.probes.wrappers import Subset
from cd_exp.records import RunResult
from cd_exp.results.wandb import RunInfo
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


@pytest.mark.slow
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
    rows = read_rows(tmp_path / "run/labels.csv")
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


WRONG = """
import os
import shutil
import sys
from contextlib import contextmanager

import numpy as np
import torch

from cd_exp.evaluation.judges import Judge
from cd_exp.results.wandb import Logger


class Odd(Judge):
    held_out = 0.3

    def check(self, probe):
        {check}

    def __call__(self, held, asked):
        torch.set_default_dtype(torch.float64)
        os.environ["MINE"] = "1"
        {call}

    def known(self, held, labels):
        {known}


class Block(Logger):
    def check(self):
        {logger_check}

    @contextmanager
    def begin(self, folder, about):
        {begin}

    def finish(self, outcome, *, folder):
        {finish}


def judge():
    return Odd()


def logger():
    return Block()
"""
RIGHT = {
    "check": "pass",
    "call": "return [{'mine': np.ones(len(one.labels))} for one in asked]",
    "known": "return dict.fromkeys(labels, True)",
    "logger_check": "pass",
    "begin": "yield self",
    "finish": "return 'here'",
}
ODD = [
    ({"check": "sys.exit(0)"}, r"judge.factory=.*: check failed: SystemExit: .*exit\(0\) \(odd.py, line \d+\)"),
    ({"call": "os._exit(0)"}, r"judge.factory=.*: the judge failed: SystemExit: .* \(odd.py, line \d+\)"),
    ({"call": "raise Exception"}, r"judge.factory=.*: the judge failed: Exception: no message \(odd.py, line \d+\)"),
    ({"call": "return 3"}, "the judge gave int, expected a list of"),
    ({"call": "return []"}, "the judge gave 0 scores, expected a list of"),
    ({"call": "return [3] * len(asked)"}, "the judge gave int for fc, expected {score: one number per unit}"),
    ({"call": "return [{'a': [1.0]}] * len(asked)"}, r"the judge's a of fc has the shape \(1,\), expected one number"),
    ({"call": "return [{'a': ['x'] * len(one.units)} for one in asked]"}, "the judge's a of fc holds no numbers"),
    ({"known": "raise SystemExit"}, r"known failed: SystemExit: .* \(odd.py, line \d+\)"),
    ({"known": "return True"}, "known gave bool, expected {label: True or False} for every label"),
    ({"known": "return {}"}, "known gave no answer for '"),
    ({"logger_check": "1 / 0"}, r"logger.factory=.*: check failed: ZeroDivisionError: .* \(odd.py, line \d+\)"),
    ({"begin": "sys.exit(0)"}, r"logger.factory=.*: begin failed: SystemExit: .* \(odd.py, line \d+\)"),
    ({"begin": "yield 3"}, "begin gave a record of type int, expected a context manager of what has finish"),
    ({"begin": "if False: yield"}, "begin failed: RuntimeError: generator didn't yield"),
    ({"finish": "sys.exit(0)"}, r"logger.factory=.*: finish failed: SystemExit: .* \(odd.py, line \d+\)"),
    ({"begin": "yield self; os._exit(0)"}, r"the end of the record failed: SystemExit: .* \(odd.py, line \d+\)"),
]


ASKED = [LabelsToScore("fc", np.arange(3), ("a", "b", "a"))]


@pytest.fixture
def odd(tmp_path):
    """Write a judge and a tracker of which some lines are wrong, and use both as a run does."""

    def use(changes):
        (tmp_path / "odd.py").write_text(WRONG.format(**{**RIGHT, **changes}))
        judge, logger = (
            make(factory=f"{tmp_path}/odd.py:{group}")
            for make, group in ((custom_judge, "judge"), (custom_logger, "logger"))
        )
        judge.check(Subset.__new__(Subset))
        logger.check()
        held, outcome = HeldOut.__new__(HeldOut), RunResult.__new__(RunResult)
        with logger.begin(tmp_path, RunInfo({})) as record:
            scores, knows = judge(held, ASKED), judge.known(held, ["a", "b"])
            return scores, knows, record.finish(outcome, folder=tmp_path)

    return use


@pytest.mark.parametrize(("changes", "message"), ODD, ids=[str(changes) for changes, _ in ODD])
def test_whatever_a_judge_or_logger_does_is_one_line(changes, message, odd):
    with pytest.raises(InputError, match=message) as refused:
        odd(changes)
    assert "\n" not in str(refused.value)


def test_what_a_judge_changes_is_put_back_and_a_tracker_hides_no_error(odd):
    with pytest.raises(InputError, match="ValueError: mine"):
        odd({"begin": "try: yield self\n        except BaseException: pass", "call": "raise ValueError('mine')"})
    scores, knows, where = odd({})
    assert scores[0]["mine"].tolist() == [1.0, 1.0, 1.0]
    assert knows == {"a": True, "b": True}
    assert where == "here"
    assert torch.get_default_dtype() == torch.float32
    assert "MINE" not in os.environ


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"call": "os._exit(0)"}, "the judge failed: SystemExit"), ({"finish": "shutil.rmtree(folder)"}, "no labels.csv")],
)
def test_a_run_without_labels_does_not_exit_with_0(changes, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "odd.py").write_text(WRONG.format(**{**RIGHT, **changes}))
    words = ["probe.size=60", "similarity=cos", "stability.resamples=0", "features.progress=false"]
    words += ["features.workers=0", "report.html=false", "report.figures=false", "report.explorer=none"]
    words += ["model.layers=[fc]", "judge=custom", "logger=custom", f"cache.dir={tmp_path}/cache"]
    words += [f"{group}.factory='{tmp_path}/odd.py:{group}'" for group in ("judge", "logger")]
    monkeypatch.setattr("sys.argv", ["run.py", *words, f"hydra.run.dir={tmp_path}/run"])
    with pytest.raises(SystemExit) as leaving:
        main()
    err = capsys.readouterr().err
    assert leaving.value.code == 2
    assert err.count("\n") == 1
    assert message in err
