"""What the activations of a layer show of each unit: how they spread, and which units have correlated activations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

WEAKER = (0.75, 0.5)  # percentiles that are shown beside them
BESIDE = 3  # images about each of these percentiles
BINS = 24  # of the histogram
NEAREST = 6  # units with correlated activations
EXCITED = 6  # units of a layer listed with an image
BLOCK = 2**25  # activations worked on at a time
PRODUCTS = 2e11  # multiplications spent on finding units with correlated activations


@dataclass(frozen=True, eq=False)
class ActivationSpread:
    """How the activations of each unit of one layer spread over the images, which are rows of the activations."""

    weaker: Int[np.ndarray, "neurons percentiles beside"]
    weaker_values: Float[np.ndarray, "neurons percentiles beside"]
    histogram: Int[np.ndarray, "neurons bins"]
    low: Float[np.ndarray, " neurons"]
    high: Float[np.ndarray, " neurons"]


@dataclass(frozen=True, eq=False)
class NearestUnits:
    """The units whose activations correlate most with those of each unit, nearest first."""

    nearest: Int[np.ndarray, "neurons near"]
    correlation: Float[np.ndarray, "neurons near"]
    images: int  # that the correlations rest on


def activation_percentiles(activations: Float[Tensor, "images neurons"]) -> ActivationSpread:
    """The images about the percentiles of `WEAKER`, the strongest of them first, and the histogram of each unit."""
    size = max(1, BLOCK // max(1, len(activations)))
    starts = range(0, activations.shape[1], size)
    parts = [
        _percentiles_of_block(activations[:, start : start + size].T.float().contiguous().numpy()) for start in starts
    ]
    weaker, weaker_values, histogram, low, high = (np.concatenate(column) for column in zip(*parts, strict=True))
    return ActivationSpread(weaker, weaker_values, histogram, low, high)


def _percentiles_of_block(rows: Float[np.ndarray, "block images"]) -> tuple[np.ndarray, ...]:
    weaker = _count_about_percentiles(rows)
    beside = np.take_along_axis(rows, weaker.reshape(len(rows), -1), axis=1).reshape(weaker.shape)
    low, high = rows.min(axis=1), rows.max(axis=1)
    return weaker, beside, _unit_histogram(rows, low, high), low, high


def _count_about_percentiles(
    rows: Float[np.ndarray, "neurons images"],
) -> Int[np.ndarray, "neurons percentiles beside"]:
    """The images whose rank is about each percentile of `WEAKER`, the strongest of them first."""
    last = rows.shape[1] - 1
    ranks = [
        np.clip(round(share * last) + np.arange(BESIDE // 2, BESIDE // 2 - BESIDE, -1), 0, last) for share in WEAKER
    ]
    order = np.argpartition(rows, np.unique(ranks), axis=1)
    return np.stack([order[:, rank] for rank in ranks], axis=1)


def _unit_histogram(
    rows: Float[np.ndarray, "neurons images"], low: Float[np.ndarray, " neurons"], high: Float[np.ndarray, " neurons"]
) -> Int[np.ndarray, "neurons bins"]:
    """Counts in `BINS` bins of equal width from the smallest to the largest activation of each unit."""
    width = np.where(high > low, high - low, 1)[:, None]
    bins = np.minimum((rows - low[:, None]) / width * BINS, BINS - 1).astype(np.int64)
    bins += BINS * np.arange(len(rows))[:, None]
    return np.bincount(bins.ravel(), minlength=BINS * len(rows)).reshape(len(rows), BINS)


def nearest_units(activations: Float[Tensor, "images neurons"]) -> NearestUnits:
    """The other units of the layer whose activations correlate most with each unit's.

    Of a layer so wide that all images would cost more than `PRODUCTS`, evenly spaced images are used.
    """
    images, neurons = activations.shape
    used = min(images, max(64, int(PRODUCTS / neurons**2)))
    rows = torch.linspace(0, images - 1, used).round().long()
    chosen = activations[rows].float() if used < images else activations.float()
    centred = chosen - chosen.mean(dim=0)
    units = torch.nn.functional.normalize(centred, dim=0, eps=1e-12).T.contiguous()
    kept = min(NEAREST, neurons - 1)
    size = max(1, BLOCK // neurons)
    nearest = []
    for start in range(0, neurons, size):
        products = units[start : start + size] @ units.T
        products[torch.arange(len(products)), torch.arange(start, start + len(products))] = -2.0  # a unit itself
        nearest.append(products.topk(kept, dim=1))
    near = np.concatenate([part.indices.numpy() for part in nearest])
    return NearestUnits(near, np.concatenate([part.values.clamp(-1, 1).numpy() for part in nearest]), used)


def top_units_per_image(
    activations: Float[Tensor, "images neurons"], rows: Sequence[int]
) -> tuple[Int[np.ndarray, "chosen kept"], Float[np.ndarray, "chosen kept"]]:
    """The units that each chosen image excites most: activation in standard deviations above the unit's mean.

    Args:
        activations: of one layer.
        rows: the chosen images.
    """
    chosen = torch.as_tensor(rows, dtype=torch.long)
    deviation, mean = torch.std_mean(activations.float(), dim=0, correction=0)
    above = (activations[chosen].float() - mean) / torch.where(deviation > 0, deviation, torch.inf)
    values, units = above.topk(min(EXCITED, above.shape[1]), dim=1)
    return units.numpy(), values.numpy()


def select_shown_images(
    images: Float[Tensor, "images dim"], texts: Float[Tensor, "concepts dim"], *, count: int
) -> tuple[Int[np.ndarray, "concepts count"], Float[np.ndarray, "concepts count"]]:
    """The images that match each text best by CLIP, with the cosine, best first.

    Args:
        images: embeddings, normalised or not.
        texts: embeddings, normalised or not.
        count: how many images of each text.
    """
    pictures = torch.nn.functional.normalize(images.float(), dim=1)
    words = torch.nn.functional.normalize(texts.float(), dim=1)
    size = max(1, BLOCK // max(1, len(pictures)))
    parts = [(words[start : start + size] @ pictures.T).topk(min(count, len(pictures)), dim=1)
             for start in range(0, len(words), size)]  # fmt: skip
    if not parts:
        return np.empty((0, 0), dtype=np.int64), np.empty((0, 0), dtype=np.float32)
    return np.concatenate([part.indices.numpy() for part in parts]), np.concatenate(
        [part.values.numpy() for part in parts]
    )
