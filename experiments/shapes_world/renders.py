"""Renders in memory, batches of them, and what both trainings share."""

import math
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cd_exp import shapes

TRAIN_SEED, HELD_OUT_SEED = 1001, 2002  # apart from each other and from shapes.PROBE_SEED


@dataclass(frozen=True, eq=False)
class Renders:
    pixels: np.ndarray  # images, height, width, 3
    labels: np.ndarray  # images
    attributes: np.ndarray  # images, 4
    captions: list[list[str]]  # several for each image


def render(count: int, *, seed: int, texts: int = 0) -> Renders:
    """Renders `count` scenes with `texts` captions each, on all cores."""
    with ProcessPoolExecutor() as pool:
        rows = list(pool.map(partial(_render, seed=seed, texts=texts), range(count), chunksize=1000))
    pixels, labels, attributes, captions = zip(*rows, strict=True)
    return Renders(np.stack(pixels), np.array(labels), np.array(attributes), list(captions))


def _render(index: int, *, seed: int, texts: int) -> tuple[np.ndarray, int, tuple[int, ...], list[str]]:
    scene = shapes.make_scene(index, seed=seed)
    rng = np.random.default_rng([seed, index, 1])
    return scene.pixels, scene.label, scene.attributes, [shapes.caption_scene(scene, rng) for _ in range(texts)]


def batches(count: int, *, size: int, epochs: int, seed: int) -> Iterator[tuple[int, np.ndarray]]:
    """(epoch, indices) of each step, whole batches only."""
    random = np.random.default_rng(seed)
    for epoch in range(epochs):
        order = random.permutation(count)
        for start in range(0, count - size + 1, size):
            yield epoch, order[start : start + size]


def normalised(pixels: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)  # stays channels-last in memory, which is faster on CPU
    return (images.float() / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def flipped(images: Tensor) -> Tensor:
    """Each image mirrored with probability one half: no attribute changes."""
    chosen = torch.rand(len(images)) < 0.5
    images = torch.where(chosen[:, None, None, None], images.flip(3), images)
    return images.contiguous(memory_format=torch.channels_last)


def optimiser(
    parameters: list[nn.Parameter], *, rate: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW that decays matrices only; a short warm-up, then a cosine down to 2 %."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    warmup = min(200, max(1, steps // 10))

    def share(step: int) -> float:
        return min(1, (step + 1) / warmup) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / steps)))

    adam = torch.optim.AdamW(groups, lr=rate)
    return adam, torch.optim.lr_scheduler.LambdaLR(adam, share)


def save(model: nn.Module, path: Path) -> None:
    """Writes the weights as fp16, whole or not at all; the counters of batch norm stay integers."""
    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in model.state_dict().items()
    }
    part = path.with_suffix(".part")
    save_file(state, part)
    part.chmod(0o644)  # safetensors leaves it to its owner alone
    part.replace(path)
    print(f"wrote {path}, {path.stat().st_size / 1e6:.2f} MB")


def print_share(name: str, hits: np.ndarray) -> None:
    error = 1.96 * hits.std() / math.sqrt(len(hits))
    print(f"{name}: {100 * hits.mean():.1f} ± {100 * error:.1f} % of {len(hits)}", flush=True)
