"""Sweeps and extraction through a real Slurm of one node; `.ci/run` installs it and runs these."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from one_node import missing, one_node

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slurm, pytest.mark.skipif(bool(missing()), reason=missing() or "Slurm is here")]
SMALL = ["similarity.top_k=20", "report.html=false", "report.figures=false", "logger=none", "features.progress=false"]
SLURM = [
    "-m",
    "hydra/launcher=slurm",
    "hydra.launcher.gpus_per_node=null",
    "hydra.launcher.mem_gb=null",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.timeout_min=10",
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with one_node(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture
def run(slurm, tmp_path):
    """Type a command in the checkout: what it printed and how it ended."""

    def command(*words, cache="cache", seconds=400):
        surroundings = {**os.environ, "CD_EXP_CACHE": str(tmp_path / cache), "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, "run.py", *words],
            cwd=ROOT,
            env=surroundings,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    return command


def labels(folder):
    return (folder / "labels.csv").read_text(encoding="utf-8")


def test_a_sweep_as_jobs_has_the_serial_labels_and_one_that_fails_hides_no_other(run, tmp_path):
    sweep, serial = tmp_path / "sweep", tmp_path / "serial"
    axes = ["similarity=soft_wpmi,wpmi", "probe.size=300,1"]  # one image is too few: those jobs fail
    done = run(*SLURM, *SMALL, *axes, f"hydra.sweep.dir={sweep}")
    assert done.returncode != 0
    assert "2 of 4 jobs finished" in done.stdout + done.stderr
    with (sweep / "sweep.csv").open(newline="") as file:
        status = {row["job"]: row["status"] for row in csv.DictReader(file)}
    assert sorted(status.values()) == ["failed", "failed", "ok", "ok"]
    assert "at least two" in json.loads((sweep / "1" / "error.json").read_text())["error"]
    for name, similarity in (("0", "soft_wpmi"), ("2", "wpmi")):
        alone = run(
            *SMALL, f"similarity={similarity}", "probe.size=300", f"hydra.run.dir={serial}/{name}", cache="other"
        )
        assert alone.returncode == 0, alone.stderr
        assert labels(sweep / name) == labels(serial / name)


def test_two_tasks_of_a_job_share_the_extraction_and_leave_the_serial_labels(run, tmp_path):
    sweep, serial = tmp_path / "sweep", tmp_path / "serial"
    images = ["probe.size=2100"]  # three shards
    two = ["hydra.launcher.tasks_per_node=2"]
    done = run(*SLURM, *two, *SMALL, *images, f"hydra.sweep.dir={sweep}")
    assert done.returncode == 0, done.stdout + done.stderr
    logs = "".join(path.read_text() for path in sweep.glob(".submitit/*/*_log.out"))
    assert len(list(sweep.glob(".submitit/*/*_1_log.out"))) == 1, logs  # the second task was there
    alone = run(*SMALL, *images, f"hydra.run.dir={serial}", cache="other")
    assert alone.returncode == 0, alone.stderr
    assert labels(sweep / "0") == labels(serial)


@pytest.fixture
def typed(slurm, tmp_path):
    """Type words in a shell of the checkout, with `python` and the folder for runs: (status, what it printed)."""

    def command(line, **environment):
        surroundings = {**os.environ, "CD_EXP_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT), **environment}
        line = line.format(python=f"{sys.executable} run.py {' '.join(SMALL)}", folder=tmp_path)
        done = subprocess.run(
            ["bash", "-c", line], cwd=ROOT, env=surroundings, capture_output=True, text=True, timeout=300, check=False
        )
        return done.returncode, done.stdout + done.stderr

    return command


def test_srun_starts_the_processes_of_one_run(run, typed, tmp_path):
    status, printed = typed("srun -n 2 {python} probe.size=2100 model.layers=[fc] hydra.run.dir={folder}/two")
    assert status == 0, printed
    assert printed.count("labels.csv") == 1  # one of them reports
    alone = run(*SMALL, "probe.size=2100", "model.layers=[fc]", f"hydra.run.dir={tmp_path}/one", cache="other")
    assert alone.returncode == 0, alone.stderr
    assert labels(tmp_path / "two") == labels(tmp_path / "one")
    (tmp_path / "file").write_text("")
    status, printed = typed("srun -n 2 {python} probe.size=200 hydra.run.dir={folder}/file")
    assert status != 0
    assert "Traceback" not in printed
    status, printed = typed("srun -n 2 {python} -m seed=1,2 hydra.sweep.dir={folder}/sweep")
    assert "error: a sweep is started once" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("line", "environment"),
    [
        ("salloc -n 2 {python} {words}", {}),
        ("sbatch --wait --ntasks=2 --output={folder}/log --wrap='{python} {words}'", {}),
        ("srun -n 1 {python} {words}", {}),
        ("{python} {words}", {"WORLD_SIZE": "2"}),
        ("{python} {words}", {"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}),
    ],
    ids=["salloc", "sbatch", "one task", "WORLD_SIZE", "SLURM_NTASKS"],
)
def test_a_bare_python_in_an_allocation_of_several_tasks_is_one_process(typed, tmp_path, line, environment):
    words = "probe.size=200 model.layers=[fc] hydra.run.dir={folder}/run"
    status, printed = typed(line.replace("{words}", words), **environment)
    log = tmp_path / "log"
    assert status == 0, printed + (log.read_text() if log.is_file() else "")
    assert (tmp_path / "run" / "labels.csv").is_file()


def test_jobs_in_the_queue_can_be_cancelled_and_the_command_ended(slurm, tmp_path):
    """Without accounting submitit never learns that a job was cancelled: the command waits and is ended by hand."""
    surroundings = {**os.environ, "CD_EXP_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    words = [*SLURM, "hydra.launcher.setup=[sleep 300]", *SMALL, "probe.size=300", f"hydra.sweep.dir={tmp_path}/sweep"]
    waiting = subprocess.Popen(
        [sys.executable, "run.py", *words], cwd=ROOT, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        ends = time.monotonic() + 120
        while not (queue := queued()):
            assert time.monotonic() < ends
            assert waiting.poll() is None
            time.sleep(0.5)
        subprocess.run(["scancel", *queue], check=True)
        while queued():
            assert time.monotonic() < ends
            time.sleep(0.5)
    finally:
        waiting.terminate()
        waiting.communicate(timeout=60)
    gathered = subprocess.run(
        [sys.executable, "-m", "cd_exp.sweep", str(tmp_path / "sweep")],
        cwd=ROOT,
        env=surroundings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert gathered.returncode in (1, 2)
    assert gathered.returncode == 1 or "holds no jobs" in gathered.stderr


def queued():
    shown = subprocess.run(["squeue", "--noheader", "--format=%A"], capture_output=True, text=True, check=True)
    return shown.stdout.split()
