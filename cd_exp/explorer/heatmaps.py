"""Where in its strongest images a unit is active: small maps, and which part of an image the network sees."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from cd_exp.cache import Entry
from cd_exp.dissection import RunData
from cd_exp.errors import ReadOnlyFolder
from cd_exp.features import find_layers, read_maps

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 12  # rows and columns of a map at most
LEVELS = 100  # from the least to the greatest activation in the maps of a unit
SHAPES = ((480, 480), (640, 480), (480, 640))  # columns and rows of images that must all be cut in the same way
SAME = 0.02  # largest difference of the cuts, as a share of the middle square


@dataclass(frozen=True, eq=False)
class Region:
    """What the network sees of an image, as fractions of its middle square; below 0 and above 1 is beyond it."""

    left: float
    top: float
    right: float
    bottom: float


def make_heat_maps(
    run: RunData, strongest: Mapping[str, Int[np.ndarray, "neurons shown"]]
) -> tuple[dict[str, UInt8[np.ndarray, "neurons shown height width"]], Region | None]:
    """The activation maps of each unit for its strongest images, from the cache where they are there.

    Maps are averaged to `SIDE` rows and columns at most and scaled to 0 ... `LEVELS` for each unit.

    Args:
        run: what the run has.
        strongest: by layer the images of each unit, as indices into the probe.

    Returns:
        The maps of the layers that have an extent (tokens count where they are the patches of the image), and what the
        network sees; without maps where its transform cuts images of different shapes differently.
    """
    layers = find_layers(run.model, run.probe, list(strongest), run.store)
    wide = {layer.name: layer.grid for layer in layers if layer.grid is not None and max(layer.grid) > 1}
    region = crop_region(run.model.build().transform) if wide else None
    if region is None:
        return {}, None
    shown = {layer: strongest[layer] for layer in wide}
    digest = sha256(b"".join(np.ascontiguousarray(images).tobytes() for images in shown.values())).hexdigest()
    content = {
        "model": run.model.key,
        "layers": list(wide),
        "probe": run.probe.fingerprint,
        "images": digest,
        **run.settings.describe_numbers(),
    }
    entry = Entry("heat_maps", content)
    arrays = run.store.find_arrays(entry)
    if arrays is None:
        made = _make_maps(run, shown)
        try:
            with run.store.lock([entry]):
                run.store.save_arrays(entry, {str(number): part for number, part in enumerate(made.values())})
        except ReadOnlyFolder:
            run.store.note_unsaved(entry)
        return made, region
    return {layer: arrays[str(number)] for number, layer in enumerate(wide)}, region


def _make_maps(
    run: RunData, shown: Mapping[str, Int[np.ndarray, "neurons shown"]]
) -> dict[str, UInt8[np.ndarray, "neurons shown height width"]]:
    """One pass over the images that some unit is shown with."""
    images = np.unique(np.concatenate([part.ravel() for part in shown.values()]))
    one_pass = read_maps(
        run.model, run.probe, layers=list(shown), kept=images.tolist(), store=run.store, settings=run.settings
    )
    kept: dict[str, np.ndarray] = {}
    for indices, by_layer in one_pass():
        for layer, values in by_layer.items():
            small = _shrink_map(values)
            if layer not in kept:
                kept[layer] = np.zeros((*shown[layer].shape, *small.shape[2:]), dtype=np.float32)
            for row, image in enumerate(indices):
                units, columns = np.nonzero(shown[layer] == image)
                kept[layer][units, columns] = small[row, units]
    return {layer: _scale_levels(kept[layer]) for layer in shown}


def _shrink_map(values: Tensor) -> np.ndarray:
    height, width = (min(SIDE, side) for side in values.shape[2:])
    return torch.nn.functional.adaptive_avg_pool2d(values.float(), (height, width)).cpu().numpy()


def _scale_levels(values: np.ndarray) -> UInt8[np.ndarray, "neurons shown height width"]:
    low, high = values.min(axis=(1, 2, 3), keepdims=True), values.max(axis=(1, 2, 3), keepdims=True)
    return np.rint((values - low) / np.where(high > low, high - low, 1) * LEVELS).astype(np.uint8)


def crop_region(transform: "Callable[[Image], Tensor]") -> Region | None:
    """Which part of an image a transform keeps, measured with images that encode their own coordinates.

    None where that depends on the shape of the image, where it is mirrored, or is not an image any more.
    """
    regions = [_find_region(transform, *shape) for shape in SHAPES]
    if any(region is None for region in regions):
        return None
    edges = np.array([[region.left, region.top, region.right, region.bottom] for region in regions if region])
    upright = bool((edges[:, :2] < edges[:, 2:]).all())
    return regions[0] if upright and (np.ptp(edges, axis=0) <= SAME).all() else None


def _find_region(transform: "Callable[[Image], Tensor]", width: int, height: int) -> Region | None:
    """Red rises from left to right and green from top to bottom; black and white tell how the values are scaled."""
    from PIL import Image

    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    coordinates = np.stack([across, down, np.zeros_like(across)], axis=2).round().astype(np.uint8)
    pictures = (np.zeros_like(coordinates), np.full_like(coordinates, 255), coordinates)
    try:
        black, white, values = (transform(Image.fromarray(picture)).double() for picture in pictures)
    except (TypeError, ValueError, RuntimeError):  # a step of the user's own that takes only its own images
        return None
    if values.ndim != 3 or len(values) != 3 or min(values.shape[1:]) < 2 or bool((white == black).any()):
        return None
    shares = (values - black) / (white - black)
    left, right = _map_edges(shares[0].mean(dim=0), width, min(width, height))
    top, bottom = _map_edges(shares[1].mean(dim=1), height, min(width, height))
    return Region(left, top, right, bottom)


def _map_edges(shares: Tensor, length: int, square: int) -> tuple[float, float]:
    """The outer edges of the first and the last pixel, in fractions of the middle square."""
    first, last = float(shares[0]), float(shares[-1])
    half = (last - first) / (len(shares) - 1) / 2
    margin = (length - square) / 2
    return ((first - half) * length - margin) / square, ((last + half) * length - margin) / square


def find_rows(strongest: Mapping[str, Tensor], kept: Sequence[int]) -> dict[str, Int[np.ndarray, "neurons shown"]]:
    """Rows of the features, `[shown, neurons]`, as indices into the probe, `[neurons, shown]`."""
    indices = np.asarray(kept)
    return {layer: indices[rows.T.numpy()] for layer, rows in strongest.items()}
