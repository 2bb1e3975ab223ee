"""Which folders are jobs, how each ended, and in what they differ."""

import json
import os
import subprocess
import sys

import pytest
from made_sweeps import begun, failed, finished

from cd_exp.sweep import read_sweep


def states(folder):
    return [(job.name, job.status) for job in read_sweep(folder).jobs]


def test_jobs_are_in_the_order_of_their_numbers_each_with_how_it_ended(tmp_path):
    for number in (0, 2, 10):
        finished(tmp_path, number, f"similarity=s{number}")
    failed(tmp_path, 9, "similarity=s9")
    begun(tmp_path, 11, "similarity=s11")
    (tmp_path / "multirun.yaml").write_text("x: 1")
    (tmp_path / "figures").mkdir()
    (tmp_path / ".submitit" / "1_0").mkdir(parents=True)
    assert states(tmp_path) == [("0", "ok"), ("2", "ok"), ("9", "failed"), ("10", "ok"), ("11", "unfinished")]
    assert read_sweep(tmp_path).axes == ("similarity",)
    assert read_sweep(tmp_path).levels("similarity") == ("s0", "s2", "s9", "s10", "s11")


def test_jobs_may_lie_deeper(tmp_path):
    finished(tmp_path / "cifar10", 1, "probe=cifar10")
    finished(tmp_path / "shapes", 0, "probe=shapes")
    assert [job.name for job in read_sweep(tmp_path).jobs] == ["cifar10/1", "shapes/0"]


def test_a_folder_without_jobs_or_none_at_all_has_no_jobs(tmp_path):
    assert read_sweep(tmp_path).jobs == ()
    assert read_sweep(tmp_path / "nowhere").jobs == ()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("InputError", "no such file: a.jpg"), ("RuntimeError", "RuntimeError: no such file: a.jpg")],
)
def test_a_failure_tells_its_reason_and_its_kind_where_that_is_a_fault(tmp_path, kind, reason):
    failed(tmp_path, 0, "seed=1", kind=kind)
    assert read_sweep(tmp_path).jobs[0].reason == reason


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("error.json", "failed", "error.json cannot be read"),
        ("metrics.json", "unfinished", "metrics.json cannot be read"),
        (".hydra/overrides.yaml", "unfinished", "no metrics.json: still running, or stopped midway"),
    ],
)
@pytest.mark.parametrize("content", [b"", b'{"layers": {', b"- [", b"\xff\xfe", b"[1]"])
def test_half_a_file_is_no_crash(tmp_path, name, status, reason, content):
    (begun(tmp_path, 0, "seed=1") / name).write_bytes(content)
    job = read_sweep(tmp_path).jobs[0]
    assert (job.status, job.reason) == (status, reason)


def test_results_of_an_earlier_job_in_the_folder_are_not_those_of_the_last(tmp_path):
    finished(tmp_path, 0, "similarity=cos")
    begun(tmp_path, 0, "similarity=wpmi")
    finished(tmp_path, 1, "similarity=cos")
    failed(tmp_path, 1, "similarity=wpmi")
    failed(tmp_path, 2, "similarity=cos")
    finished(tmp_path, 2, "similarity=wpmi")
    assert states(tmp_path) == [("0", "unfinished"), ("1", "failed"), ("2", "ok")]
    assert read_sweep(tmp_path).jobs[0].layers == {}


def test_of_the_same_job_run_twice_the_newer_ending_counts(tmp_path):
    folder = finished(tmp_path, 0, "seed=1")
    failed(tmp_path, 0, "seed=1")
    os.utime(folder / "error.json", (1000, 1000))
    os.utime(folder / "metrics.json", (2000, 2000))
    assert states(tmp_path) == [("0", "ok")]
    os.utime(folder / "error.json", (3000, 3000))
    assert states(tmp_path) == [("0", "failed")]


def test_axes_stand_in_the_order_of_the_method_then_settings(tmp_path):
    finished(tmp_path, 0, "similarity.top_k=10", "similarity=cos", "clip=a", "data_dir=/x")
    finished(tmp_path, 1, "similarity.top_k=20", "similarity=wpmi", "clip=b", "data_dir=/x")
    assert read_sweep(tmp_path).axes == ("clip", "similarity", "similarity.top_k")


def test_groups_that_a_model_brings_with_it_are_no_axes(tmp_path):
    for number, (model, similarity) in enumerate([("a", "cos"), ("a", "wpmi"), ("b", "cos"), ("b", "wpmi")]):
        finished(tmp_path, number, f"model={model}", f"similarity={similarity}", concepts=f"words_{model}")
    assert read_sweep(tmp_path).axes == ("model", "similarity")


def test_a_group_that_nobody_named_is_an_axis_where_only_it_tells_jobs_apart(tmp_path):
    finished(tmp_path, 0, "similarity=cos", clip="old")
    finished(tmp_path, 1, "similarity=cos", clip="new")
    finished(tmp_path, 2, "similarity=wpmi", clip="new")
    assert read_sweep(tmp_path).axes == ("clip", "similarity")


def test_jobs_added_with_a_new_axis_stand_beside_the_default_of_the_old_ones(tmp_path):
    finished(tmp_path, 0, "similarity=cos")
    finished(tmp_path, 1, "similarity=wpmi")
    finished(tmp_path, 2, "similarity=cos", "seed=1", "clip=rn50")
    failed(tmp_path, 3, "similarity=cos", "+similarity.scale=3")
    sweep = read_sweep(tmp_path)
    assert sweep.axes == ("clip", "similarity", "seed", "similarity.scale")
    assert [job.value("seed") for job in sweep.jobs] == ["0", "0", "1", "0"]
    assert [job.value("clip") for job in sweep.jobs] == ["shapes", "shapes", "rn50", "shapes"]
    assert [job.value("similarity.scale") for job in sweep.jobs] == ["-", "-", "-", "3"]


def test_numbers_of_an_axis_stand_by_size(tmp_path):
    for number, top_k in enumerate([100, 9, 30]):
        finished(tmp_path, number, f"similarity.top_k={top_k}")
    assert read_sweep(tmp_path).levels("similarity.top_k") == ("9", "30", "100")


def test_a_job_without_hydras_files_is_known_by_its_own(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "error.json").write_text(json.dumps({"error": "x", "kind": "E", "overrides": ["similarity=cos"]}))
    finished(tmp_path, 1, "similarity=wpmi")
    sweep = read_sweep(tmp_path)
    assert sweep.axes == ("similarity",)
    assert sweep.jobs[0].value("similarity") == "cos"
    assert sweep.jobs[0].value("clip") is None


def test_the_package_imports_nothing_heavy():
    heavy = "{'torch', 'matplotlib', 'scipy', 'wandb', 'PIL', 'hydra'}"
    script = f"import sys, cd_exp.sweep; sys.exit(str({heavy} & set(sys.modules) or ''))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
