"""How images reach the networks, whatever their probe set does."""

import os
import threading

import pytest
import torch
from PIL import Image
from rich.console import Console
from torchvision import transforms

from cd_exp import probes
from cd_exp.errors import InputError
from cd_exp.features.dataloader import ExtractionSettings, count_workers, make_loader, progress_bar
from cd_exp.records import Probe

QUIET = ExtractionSettings(device="cpu", workers=0, progress=False)


class Faulty(Probe):
    """A set whose second picture cannot be opened, as whatever the reader of its format raises."""

    name, ids, fingerprint = "faulty", ("0", "1", "2"), "faulty"

    def __init__(self, fault: Exception) -> None:
        self.fault = fault

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Image.Image:
        if index == 1:
            raise self.fault
        return Image.new("RGB", (8, 8))


@pytest.mark.parametrize("fault", [OSError("cut off"), SyntaxError("broken PNG file"), ValueError("bad header")])
def test_whatever_a_damaged_picture_raises_it_is_unreadable(fault):
    batches = make_loader(Faulty(fault), [transforms.ToTensor()], [[0, 1, 2]], QUIET, torch.device("cpu"))
    ((_, (inputs,), readable),) = batches
    assert readable == [True, False, True]
    assert len(inputs) == 3


def test_a_set_of_ids_is_refused_before_any_worker_starts(tmp_path):
    (tmp_path / "images.txt").write_text("a\nb\n")
    probe = probes.ids(path=str(tmp_path / "images.txt"))
    with pytest.raises(InputError, match=r"probe=ids has no images, and this needs them"):
        next(make_loader(probe, [transforms.ToTensor()], [[0, 1]], QUIET, torch.device("cpu")))


def test_short_work_has_no_bar_and_long_work_has_one(monkeypatch):
    started = threading.Event()
    monkeypatch.setattr("cd_exp.features.dataloader.Console", lambda stderr: Console(force_interactive=True))
    monkeypatch.setattr("cd_exp.features.dataloader.Progress.start", lambda self: started.set())
    with progress_bar(ExtractionSettings(), "scoring", 10, after=0.2) as step:
        step(10)
    assert not started.wait(0.3)
    with progress_bar(ExtractionSettings(), "scoring", 10, after=0.01):
        assert started.wait(5)


def test_a_log_gets_no_bar():
    """What is no terminal builds none of it: the step is called all the same."""
    with progress_bar(ExtractionSettings(), "scoring", 10) as step:
        assert step(10) is None


def test_workers_go_by_affinity_slurm_and_the_processes_beside_this_one(monkeypatch):
    for name in ("SLURM_CPUS_PER_TASK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(48))
    assert count_workers() == 48
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert count_workers() == 12
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "10")  # of this task alone
    assert count_workers() == 10
