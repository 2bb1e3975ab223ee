"""Ctrl-C and SIGTERM while features are made: one line, the right status, no process and no folder left."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cd_exp import distributed

ROOT = Path(__file__).parents[1]
WORDS = ["probe.size=3000", "similarity.top_k=20", "logger=none", "features.workers=2"]
WORDS += ["stability.resamples=0", "report.html=false", "report.figures=false", "report.explorer=none"]


def alive(mark: str) -> list[str]:
    """The command lines of all processes that have the mark in theirs."""
    items = []
    for folder in Path("/proc").iterdir():
        try:
            line = (folder / "cmdline").read_text() if folder.name.isdecimal() else ""
        except OSError:
            continue
        if mark in line:
            items.append(line)
    return items


def command(folder: Path, processes: int) -> list[str]:
    folders = [f"cache.dir={folder}/cache", f"hydra.run.dir={folder}/run", f"distributed.processes={processes}"]
    return [sys.executable, str(ROOT / "run.py"), *WORDS, *folders]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("number", "status"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_a_run_that_is_told_to_end_ends(tmp_path, processes, number, status):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = command(tmp_path, processes)
    running = subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    while running.poll() is None and not list((tmp_path / "cache").rglob("partial/*/*.npy")):
        time.sleep(0.1)
    running.send_signal(number)
    began = time.monotonic()
    said = running.communicate()[1]
    while alive(str(tmp_path)) and time.monotonic() - began < 20:
        time.sleep(0.1)
    assert not alive(str(tmp_path))
    assert time.monotonic() - began < 5 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert running.returncode == status, said
    assert said.startswith("error: stopped by "), said
    assert said.count("\n") == 1, said
    assert not (tmp_path / "run").exists()
    stored = {path.name for path in (tmp_path / "cache").rglob("partial/*/*.npy")}
    assert stored

    again = subprocess.run(command(tmp_path, 1), cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["layers"]


def test_a_decoding_process_whose_parent_is_gone_says_nothing(monkeypatch, capsys):
    monkeypatch.setattr(distributed, "end_with_parent", lambda: None)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    before = signal.getsignal(signal.SIGINT)
    try:
        distributed.prepare_worker(0)
    finally:
        signal.signal(signal.SIGINT, before)
    for error in (ConnectionResetError(104, "reset"), BrokenPipeError(), EOFError()):
        sys.excepthook(type(error), error, None)
    assert capsys.readouterr().err == ""
    sys.excepthook(ZeroDivisionError, ZeroDivisionError("ours"), None)
    assert "ZeroDivisionError: ours" in capsys.readouterr().err


AT_THE_END = """
import sys, threading, time
from cd_exp.distributed import handle_signals
with handle_signals():
    threading.Thread(target=lambda: time.sleep(1.5)).start()
print("done", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_done_is_not_broken_off(number):
    running = subprocess.Popen([sys.executable, "-c", AT_THE_END], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout.readline() == b"done\n"
    running.send_signal(number)
    assert running.communicate()[1] == b""
    assert running.returncode == 0
