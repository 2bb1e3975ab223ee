import multiprocessing
import os
import random
import signal
import time
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from PIL import Image

from cd_exp.cache import Store
from cd_exp.clips import Precomputed
from cd_exp.features import ExtractionSettings, extract
from cd_exp.features.store_activations import SHARD
from cd_exp.hooks.inspect_layers import IMAGES as LOOK
from cd_exp.models import CustomModel
from cd_exp.records import Probe

COUNT = 3 * SHARD + 100
KILLS = 3
SETTINGS = ExtractionSettings(device="cpu", progress=False, workers=0, batch_size=64)

NETWORK = """
import numpy as np, torch
from torch import nn

def tiny():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    return network, lambda picture: torch.from_numpy(np.asarray(picture.resize((8, 8)), dtype=np.float32)).permute(2, 0, 1), None
"""  # noqa: E501


@dataclass(frozen=True)
class Pictures(Probe):
    """Small noise pictures, slow enough to be killed between; `forward_shapes` are those that were asked for."""

    pause: float = 0.0
    shown: list[int] = field(default_factory=list)
    name: str = "pictures"
    ids: tuple[str, ...] = tuple(f"{index}.png" for index in range(COUNT))
    fingerprint: str = "noise"

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        self.shown.append(index)
        time.sleep(self.pause)
        return Image.fromarray(np.random.default_rng(index).integers(0, 255, (8, 8, 3), dtype=np.uint8))


def extracted(folder, cache, probe):
    model = CustomModel(name="tiny", factory=f"{folder / 'network.py'}:tiny", layers=["1", "3"])
    clip = Precomputed(str(folder))
    return extract(model, probe, clip, layers=model.layers, store=Store(cache), settings=SETTINGS)


def job(folder, cache):
    torch.set_num_threads(1)
    extracted(folder, cache, Pictures(pause=0.0003))


@pytest.fixture(scope="module")
def server():
    """Processes fork from one that has imported torch, so that a job begins at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cd_exp.clips", "cd_exp.features", "cd_exp.models"])
    return context


@pytest.mark.long
def test_a_run_killed_again_and_again_continues_and_gives_identical_numbers(server, tmp_path):
    (tmp_path / "network.py").write_text(NETWORK)
    np.save(tmp_path / "image_embeddings.npy", np.ones((COUNT, 6), dtype=np.float32))
    (tmp_path / "images.txt").write_text("\n".join(Pictures.ids))
    cache = tmp_path / "cache"

    def finished():
        numbers = [int(path.stem) for path in cache.glob("partial/*/[0-9]*.json")]
        return {number for number in numbers if numbers.count(number) == 2}  # of both layers

    draw = random.Random(0)
    for kill in range(KILLS):
        running = server.Process(target=job, args=(tmp_path, cache))
        running.start()
        while len(finished()) < kill and running.is_alive():
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.2))
        assert running.is_alive()
        os.kill(running.pid, signal.SIGKILL)
        running.join()
    survived = finished()
    assert len(survived) >= KILLS - 1

    probe = Pictures()
    resumed = extracted(tmp_path, cache, probe)
    missing = [index for index in range(COUNT) if index // SHARD not in survived]
    # A network of the user's own is looked at with the first pictures each time, whatever is stored: it may be another.
    assert sorted(probe.shown) == sorted([*range(LOOK), *missing])
    whole = extracted(tmp_path, tmp_path / "whole", Pictures())
    for layer in ("1", "3"):
        assert torch.equal(resumed.activations[layer], whole.activations[layer])
    assert not list(cache.rglob(".tmp-*"))
    assert not list((cache / "partial").iterdir())
