"""Several processes on this machine, for real: what they share, what they leave, and how they fail."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cd_exp import distributed
from cd_exp.features.store_activations import SHARD, choose_shard
from cd_exp.hooks.inspect_layers import IMAGES as LOOK

COUNT = 2 * SHARD + 52  # three shards for one process, 17 smaller ones for two
ROOT = Path(__file__).parents[1]

NETWORK = """
import os
from pathlib import Path
import numpy as np, torch
from torch import nn

class Seen:
    def __repr__(self):
        return "Seen()"

    def __call__(self, picture):
        if picture.size == (8, 8):  # else it is the example that a layer's shape is found with
            with Path({folder!r}, f"seen-{{os.getpid()}}").open("a") as file:
                file.write(f"{{self.number(picture)}}\\n")
        return torch.from_numpy(np.array(picture.resize((8, 8)), dtype=np.float32)).permute(2, 0, 1) / 255

    @staticmethod
    def number(picture):
        high, low, _ = picture.getpixel((0, 0))
        return high * 256 + low

class Breaks(nn.Module):
    def forward(self, values):
        places = (values[:, 0, 0, 0] * 255 * 256 + values[:, 1, 0, 0] * 255).round()
        return values.sum((2, 3)).where((places != {broken})[:, None], torch.nan)

def tiny():
    torch.manual_seed(0)
    return nn.Sequential(Breaks(), nn.Linear(3, 6)), Seen(), None
"""


@pytest.fixture
def world(tmp_path):
    """A folder with images that carry their number, a network, embeddings and words."""
    (tmp_path / "images").mkdir()
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 255, (COUNT, 8, 8, 3), dtype=np.uint8)
    for index in range(COUNT):
        noise[index, 0, 0] = (index // 256, index % 256, 0)
        Image.fromarray(noise[index]).save(tmp_path / "images" / f"{index:05d}.bmp")
    (tmp_path / "images.txt").write_text("\n".join(f"{index:05d}.bmp" for index in range(COUNT)))
    np.save(tmp_path / "image_embeddings.npy", generator.normal(size=(COUNT, 8)).astype(np.float32))
    words = [f"word {number}" for number in range(20)]
    (tmp_path / "some_names.txt").write_text("\n".join(words))
    np.save(tmp_path / "some_text.npy", generator.normal(size=(20, 8)).astype(np.float32))
    return tmp_path


def run(world: Path, name: str, **options) -> subprocess.CompletedProcess[str]:
    with running(world, name, **options) as (process, _):
        out, said = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, said)


@contextmanager
def running(world: Path, name: str, *, processes: int, broken: int = -1, keep: str = "dense"):
    """A run in processes of its own, and its folder."""
    folder = world / name
    folder.mkdir()
    (folder / "network.py").write_text(NETWORK.format(folder=str(folder), broken=broken))
    settings = {
        "model": "custom",
        "model.factory": f"{folder}/network.py:tiny",
        "model.layers": "['0','1']",  # one for each process to score
        "probe": "folder",
        "probe.root": world / "images",
        "concepts": "file",
        "concepts.path": world / "some_names.txt",
        "clip": "precomputed",
        "clip.folder": world,
        "logger": "none",
        "similarity": "soft_wpmi",
        "cache.dir": folder / "cache",
        "report.html": "false",
        "report.figures": "false",
        "report.explorer": "none",
        "stability.resamples": 3,
        "features.workers": 0,
        "features.keep": keep,
        "distributed.processes": processes,
        "hydra.run.dir": folder / "run",
    }
    command = [sys.executable, "run.py", *(f"{key}={value}" for key, value in settings.items())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, cwd=ROOT, env=environment, **pipes) as process:
        yield process, folder


def seen(folder: Path) -> list[list[int]]:
    return [[int(line) for line in path.read_text().split()] for path in folder.glob("seen-*")]


@pytest.mark.slow
def test_two_processes_leave_what_one_leaves_and_take_each_image_once(world):
    one = run(world, "one", processes=1)
    assert one.returncode == 0, one.stderr
    two = run(world, "two", processes=2)
    assert two.returncode == 0, two.stderr
    looked_at = set(range(LOOK))  # the layers of a network are looked at with the first pictures, before any is taken
    parts = [[index for index in taken if index not in looked_at] for taken in seen(world / "two")]
    alone = [index for index in seen(world / "one")[0] if index not in looked_at]
    assert sorted(index for part in parts for index in part) == list(range(LOOK, COUNT)) == sorted(alone)
    shard = choose_shard(COUNT, 2)
    first, second = ({index // shard for index in part} for part in parts)
    assert first.isdisjoint(second)
    assert {len(first), len(second)} == {8, 9}
    labels = [(world / name / "run" / "labels.csv").read_bytes() for name in ("one", "two")]
    assert labels[0] == labels[1]
    metrics = [json.loads((world / name / "run" / "metrics.json").read_text())["layers"] for name in ("one", "two")]
    assert metrics[0] == metrics[1]
    assert not list((world / "two" / "cache").rglob(".tmp-*"))


@pytest.mark.slow
def test_lists_of_one_process_and_of_four_give_the_labels_of_all_activations(world):
    arguments = {"dense": (1, "dense"), "lists": (1, "lists"), "four": (4, "lists")}
    for name, (processes, keep) in arguments.items():
        done = run(world, name, processes=processes, keep=keep)
        assert done.returncode == 0, done.stderr
    labels = {(world / name / "run" / "labels.csv").read_bytes() for name in arguments}
    assert len(labels) == 1
    assert not list((world / "four" / "cache" / "partial").iterdir())
    assert not list((world / "four" / "cache").glob("activations/*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "broken", [3, pytest.param(COUNT - 1, marks=pytest.mark.slow)], ids=["first process", "second process"]
)
def test_the_error_of_one_process_is_one_line_and_ends_all(world, broken):
    done = run(world, "broken", processes=2, broken=broken)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert "gives values that are not finite, first at unit 0" in done.stderr
    assert all(line.startswith("error: ") for line in lines), done.stderr
    assert not (world / "broken" / "run" / "labels.csv").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_process_that_is_killed_is_one_line_that_names_it_and_the_signal(world):
    with running(world, "killed", processes=2) as (process, folder):
        while process.poll() is None and not (victims := processes_of(folder, rank=1)):
            time.sleep(0.05)
        os.kill(victims[0], signal.SIGKILL)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert re.fullmatch(r"error: process 1 of this run was ended by SIGKILL; continue with: python run.py .*\n", said)
    assert not processes_of(folder, rank=0)


def processes_of(folder: Path, *, rank: int) -> list[int]:
    """The processes of a run folder that have a rank and run our code by now."""
    pids = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words, environment = ((path / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
            ours = any(str(folder).encode() in word for word in words) and b"cd_exp.cli.entry" in words
            if ours and f"RANK={rank}".encode() in environment:
                pids.append(int(path.name))
    return pids


@pytest.mark.parametrize(("rank", "mine"), [(0, ["b"]), (1, ["a", "c"])])
def test_layers_go_to_who_has_least_to_score(monkeypatch, rank, mine):
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert distributed.share_by_size({"a": 300, "b": 500, "c": 200}) == mine


def test_one_process_scores_all_layers_and_gathers_its_own():
    assert distributed.share_by_size({"a": 3, "b": 5}) == ["a", "b"]
    assert distributed.gather_from_all({"a": 1}) == {"a": 1}


@given(processes=st.integers(2, 64), images=st.integers(5_000, 200_000))
def test_no_process_has_much_more_than_its_share_of_images(processes, images):
    shard = choose_shard(images, processes)
    assert SHARD % shard == 0
    largest = shard * math.ceil(math.ceil(images / shard) / processes)
    assert largest <= 1.1 * images / processes or shard == 32
    assert choose_shard(images, 1) == SHARD


def test_64_processes_share_49_000_images(monkeypatch):
    shard = choose_shard(49_000, 64)
    monkeypatch.setenv("WORLD_SIZE", "64")
    shares = [math.ceil(math.ceil(49_000 / shard) / 64) * shard]
    assert max(shares) <= 1.1 * 49_000 / 64


WAITING = """
import os, sys, time
from cd_exp import distributed
distributed.set_timeout(float(os.environ["MINUTES"]))
if os.environ["RANK"] == "1":
    distributed._process_state()
    time.sleep(20)
distributed.wait_for_all()
"""


GATHERING = """
import os
from cd_exp import distributed
rank = os.environ["RANK"]
print(distributed.gather_from_all({rank: int(rank)}), distributed.share_items(range(5)))
distributed.leave_group()
"""


@pytest.fixture
def two_processes():
    """Begins a script as two processes of one run."""
    begun: list[subprocess.Popen[str]] = []

    def begin(script: str, **variables: str) -> list[subprocess.Popen[str]]:
        port = str(20_000 + os.getpid() % 20_000)
        common = {**os.environ, **variables, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        common |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "LOCAL_WORLD_SIZE": "2"}
        for rank in ("0", "1"):
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            own = {**common, "RANK": rank, "LOCAL_RANK": rank}
            begun.append(subprocess.Popen([sys.executable, "-c", script], env=own, text=True, **pipes))
        return begun

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def test_gathering_may_be_the_first_that_processes_do_together(two_processes):
    """With accelerate's own state first, each process of a machine without GPUs was alone."""
    printed = [process.communicate(timeout=120) for process in two_processes(GATHERING)]
    last_lines = [out.splitlines()[-1] for out, _ in printed]  # gloo of torch 2.8 says before it who is connected
    assert last_lines == ["{'0': 0, '1': 1} [0, 1, 2]", "{'0': 0, '1': 1} [3, 4]"], printed


@pytest.mark.slow
def test_waiting_for_another_process_has_an_end(two_processes):
    first, _ = two_processes(WAITING, MINUTES="0.05")
    _, said = first.communicate(timeout=120)
    assert first.returncode == 1, said
    assert "error: process 0 of this run has waited 0.05 minutes for another one, and ends; set " in said
