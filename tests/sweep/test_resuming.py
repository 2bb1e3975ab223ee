"""A sweep that was stopped, run to its end in the same folder."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cd_exp.errors import InputError
from cd_exp.sweep.multirun import missing_jobs, read_plan, resume_arguments, swept_settings

ROOT = Path(__file__).parents[2]
WORDS = ["similarity=wpmi,soft_wpmi", "probe.size=200,300", "similarity.top_k=20", "features.workers=0"]
QUIET = ["features.progress=false", "report.html=false", "report.figures=false", "report.explorer=none"]
QUIET += ["stability.resamples=3"]
TIMES = ("seconds", "folder")


def start(folder, cache, *more):
    return subprocess.Popen(
        [sys.executable, "run.py", "-m", *WORDS, *QUIET, f"hydra.sweep.dir={folder}", *more],
        cwd=ROOT,
        env={**os.environ, "CD_EXP_CACHE": str(cache), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def resume(folder, cache):
    return subprocess.run(
        [sys.executable, "-m", "cd_exp.sweep", str(folder), "--resume"],
        cwd=folder,  # not where the sweep was begun: relative paths are still those of the sweep
        env={**os.environ, "CD_EXP_CACHE": str(cache), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def rows(folder):
    with (folder / "sweep.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if not key.startswith(TIMES)} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def through(tmp_path_factory):
    """A sweep of four jobs that ran through."""
    root = tmp_path_factory.mktemp("through")
    done = start(root / "sweep", root / "cache", "logger=none")
    assert done.wait(timeout=300) == 0
    return root


@pytest.mark.slow
def test_a_killed_sweep_that_is_resumed_equals_one_that_ran_through(through, tmp_path):
    folder = tmp_path / "sweep"
    killed = start(folder, through / "cache", "logger=none")
    while not (folder / "1" / ".hydra").exists():
        assert killed.poll() is None
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert len(missing_jobs(folder)) in (2, 3, 4)
    done = resume(folder, through / "cache")
    assert done.returncode == 0, done.stderr
    assert rows(folder) == rows(through / "sweep")
    for name in "0123":
        assert (folder / name / "labels.csv").read_bytes() == (through / "sweep" / name / "labels.csv").read_bytes()
    assert missing_jobs(folder) == []
    assert resume(folder, through / "cache").returncode == 0


@pytest.mark.slow
def test_only_what_is_missing_or_failed_runs_again_each_in_its_own_folder(through, tmp_path):
    folder = tmp_path / "sweep"
    shutil.copytree(through / "sweep", folder)
    shutil.rmtree(folder / "2")
    (folder / "1" / "metrics.json").unlink()
    kept = (folder / "0" / "metrics.json").read_bytes()
    assert [job[-1] for job in missing_jobs(folder)] == ["hydra.sweep.subdir='1'", "hydra.sweep.subdir='2'"]
    done = resume(folder, through / "cache")
    assert done.returncode == 0, done.stderr
    assert (folder / "0" / "metrics.json").read_bytes() == kept
    assert sorted(path.parent.name for path in folder.glob("*/metrics.json")) == ["0", "1", "2", "3"]
    manifest = json.loads((folder / "2" / "manifest.json").read_text())
    assert {"similarity=soft_wpmi", "probe.size=200"} <= set(manifest["overrides"])


@pytest.mark.slow
def test_the_record_of_a_job_carries_what_the_sweep_varies(through):
    plan = read_plan(through / "sweep")
    assert plan.axes == ("similarity", "probe.size")
    assert len(plan.jobs) == 4
    assert swept_settings(through / "sweep", plan.jobs[1]) == {"similarity": "wpmi", "probe.size": "300"}


def test_names_that_differ_in_spaces_and_quotes_alone_are_different_jobs(tmp_path):
    texts = [
        "concepts.names=['a b',c]",
        "concepts.names=[ab,c]",
        "concepts.names=['ab, c']",
        "concepts.names=['ab',c,d]",
    ]
    values = ",".join(text.partition("=")[2] for text in texts)
    made = {"overrides": {"task": [f"concepts.names={values}"], "hydra": []}, "sweeper": {"params": None}}
    made["runtime"] = {"cwd": str(tmp_path), "config_sources": []}
    (tmp_path / "multirun.yaml").write_text(json.dumps({"hydra": made}))
    for number, text in enumerate(texts):
        (tmp_path / str(number) / ".hydra").mkdir(parents=True)
        written = text.replace("'ab',c", '"ab", c')  # the same, as another hand would write it
        (tmp_path / str(number) / ".hydra" / "overrides.yaml").write_text(json.dumps([written]))
        (tmp_path / str(number) / "metrics.json").write_text("{}")
    assert missing_jobs(tmp_path) == []
    for number, text in enumerate(texts):
        folder = shutil.move(tmp_path / str(number), tmp_path.parent / "aside")
        assert missing_jobs(tmp_path) == [[text, f"hydra.sweep.subdir='{number}'"]]
        shutil.move(folder, tmp_path / str(number))


def test_interpolations_that_were_typed_stay_as_they_were_typed(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_PLACE", "/home/somebody")
    task = ["top=1,2", "cache.dir=${oc.env:SECRET_PLACE}"]
    made = {"overrides": {"task": task, "hydra": ["hydra.sweep.subdir=${hydra.job.num}"]}, "job": {"num": "???"}}
    made |= {"sweeper": {"params": None}, "runtime": {"cwd": str(tmp_path), "config_sources": []}}
    (tmp_path / "multirun.yaml").write_text(json.dumps({"hydra": made}))
    plan = read_plan(tmp_path)
    assert plan.hydra == ("hydra.sweep.subdir=${hydra.job.num}",)
    assert plan.overrides == tuple(task)
    assert [job[0] for job in plan.jobs] == ["top=1", "top=2"]
    assert not any("/home/somebody" in text for job in plan.jobs for text in job)
    assert plan.axes == ("top",)


def test_a_sweep_of_0_2_0_goes_on_with_constructors_as_they_are_called_now(tmp_path):
    task = ["top=1,2", "judge._target_=cd_exp.faithfulness.Backbone"]
    made = {"overrides": {"task": task, "hydra": []}, "sweeper": {"params": None}}
    made["runtime"] = {"cwd": str(tmp_path), "config_sources": []}
    (tmp_path / "multirun.yaml").write_text(json.dumps({"hydra": made}))
    (tmp_path / "0" / ".hydra").mkdir(parents=True)
    (tmp_path / "0" / ".hydra" / "overrides.yaml").write_text(json.dumps(["top=1", task[1]]))
    (tmp_path / "0" / "metrics.json").write_text("{}")
    now = "judge._target_=cd_exp.evaluation.judges.ClipJudge"
    assert missing_jobs(tmp_path) == [["top=2", now, "hydra.sweep.subdir='1'"]]


def test_a_folder_without_a_multirun_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"has no multirun\.yaml, which a multirun writes"), resume_arguments(tmp_path):
        pass
    (tmp_path / "multirun.yaml").write_text("- [")
    with pytest.raises(InputError, match="cannot be read"):
        read_plan(tmp_path)
