"""Where in its strongest images a unit is active: small maps, kept by the pass that computes the features.

An image is looked at again only where it enters a unit's `SHOWN` strongest so far. Each shard's maps are written before
its features, so that a killed run which continues has both; when all shards are there they are merged to one entry
beside the features'. Where some are missing, because the run began without maps, there is no such entry, and nothing is
computed again for it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cd_exp.cache import Entry, Store
from cd_exp.cache.partial import PartialResults, read_arrays
from cd_exp.features.layers import readable_images
from cd_exp.features.store_activations import ActivationWriter
from cd_exp.hooks import Layer, are_tokens_in_order
from cd_exp.models import Network
from cd_exp.records import Probe

if TYPE_CHECKING:
    from PIL.Image import Image

SHOWN = 10  # images of a unit, as many as the pages show
SIDE = 12  # rows and columns of a map at most
STEPS = 2**16 - 1  # from the least to the greatest value in the maps of a unit: two bytes a position

LARGEST = 2**26
"""Bytes of the maps of all layers of a run while they are collected: 11,650 units of 12 x 12, where layer1 to layer4 of
a ResNet-50 take 14 MB (layer4 with its 2,048 units of 7 x 7 takes 4). None are kept of a run with more."""

FEWEST = 680
"""Images from which on the maps of tokens are kept: whether tokens lie in the order of the image is tested with 34
images, which are then at most 5 % more."""

FORMAT = 1
"""Raised by one whenever other maps are kept, or in another form."""

SHAPES = ((480, 480), (640, 480), (480, 640))  # columns and rows of images that must all be cut in the same way
SAME = 0.02  # largest difference of the cuts, as a share of the middle square
ENTRIES = ("units", "images", "values", "maps")


@dataclass(frozen=True, eq=False)
class Region:
    """What the network sees of an image, as fractions of its middle square; below 0 and above 1 is beyond it."""

    left: float
    top: float
    right: float
    bottom: float


def shrink_maps(maps: Float[Tensor, "... height width"]) -> Float[Tensor, "... rows columns"]:
    """The maps averaged to `SIDE` rows and columns at most, in float32.

    >>> shrink_maps(torch.ones(2, 24, 6)).shape
    torch.Size([2, 12, 6])
    """
    height, width = (min(SIDE, side) for side in maps.shape[-2:])
    if (height, width) == maps.shape[-2:]:
        return maps.float()
    return torch.nn.functional.adaptive_avg_pool2d(maps.float(), (height, width))


class StrongestMaps:
    """The maps of the `SHOWN` strongest images of each unit of one layer, among those that were added.

    Of equally strong images those with the lower number stay, as in `strongest_images`. What is held does not grow with
    the number of images. A unit's images stand in no order.
    """

    def __init__(self) -> None:
        self.values = self.images = self.maps = torch.empty(0)

    def add(
        self,
        values: Float[Tensor, "images neurons"],
        maps: Float[Tensor, "images neurons height width"],
        images: Int[Tensor, " images"],
    ) -> None:
        """Take a batch.

        Args:
            values: the activations; minus infinity for an image that does not count.
            maps: the layer's output; a view will do, of which only what is kept is read.
            images: their numbers, ascending and above those of earlier batches.
        """
        if not self.maps.numel():
            self._begin(values, maps)
        units = (values > self.values.amin(dim=0)).any(dim=0).nonzero().flatten()
        if not len(units):
            return
        # Of equal values the earlier row stays in front: first the images that are there, by their number.
        by_number = self.images[:, units].argsort(dim=0)
        held = self.values[:, units].gather(0, by_number)
        candidates = torch.cat([held, values[:, units]])
        best = candidates.sort(dim=0, descending=True, stable=True).indices[:SHOWN]
        leaving = torch.ones_like(candidates, dtype=torch.bool).scatter_(0, best, False)[:SHOWN]
        # As many enter a unit's list as leave it, and both are listed unit by unit.
        column, left = leaving.T.nonzero(as_tuple=True)
        entering = (best >= SHOWN).T.nonzero(as_tuple=True)
        row, slot, unit = best.T[entering] - SHOWN, by_number[left, column], units[column]
        self.values[slot, unit] = values[row, unit]
        self.images[slot, unit] = images[row]
        self.maps[slot, unit] = shrink_maps(maps[row, unit])

    def of_images(self, first: int, beyond: int) -> dict[str, np.ndarray]:
        """What is held of the images from `first` to before `beyond`: one row for each unit and image."""
        slot, unit = ((self.images >= first) & (self.images < beyond)).nonzero(as_tuple=True)
        parts = (unit, self.images[slot, unit], self.values[slot, unit], self.maps[slot, unit])
        return dict(zip(ENTRIES, (part.cpu().numpy() for part in parts), strict=True))

    def _begin(self, values: Tensor, maps: Tensor) -> None:
        sizes = (SHOWN, values.shape[1])
        self.values = values.new_full(sizes, -torch.inf)
        self.images = torch.full(sizes, -1, device=values.device)
        self.maps = values.new_zeros((*sizes, *(min(SIDE, side) for side in maps.shape[-2:])))


def merge_maps(parts: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The `SHOWN` strongest of each unit among the rows of parts over different images, one part read at a time."""
    merged: dict[str, np.ndarray] = {}
    for part in parts:
        rows = {name: np.concatenate([merged[name], part[name]]) if merged else part[name] for name in ENTRIES}
        order = np.lexsort((rows["images"], -rows["values"], rows["units"]))
        units = rows["units"][order]
        order = order[np.arange(len(units)) - np.searchsorted(units, units) < SHOWN]
        merged = {name: values[order] for name, values in rows.items()}
    return merged


def quantise_maps(merged: Mapping[str, np.ndarray], width: int) -> dict[str, np.ndarray]:
    """The rows of `merge_maps` as arrays of `width` units: `images` [units, shown], -1 where there is none, and `maps`
    [units, shown, height, width] in `STEPS` from the least to the greatest value of each unit.
    """
    units, maps = merged["units"], merged["maps"]
    low, high = np.full(width, np.inf, np.float32), np.full(width, -np.inf, np.float32)
    np.minimum.at(low, units, maps.min(axis=(1, 2), initial=np.inf))
    np.maximum.at(high, units, maps.max(axis=(1, 2), initial=-np.inf))
    span = np.where(high > low, high - low, 1)
    slot = np.arange(len(units)) - np.searchsorted(units, units)
    images = np.full((width, SHOWN), -1, dtype=np.int32)
    levels = np.zeros((width, SHOWN, *maps.shape[1:]), dtype=np.uint16)
    images[units, slot] = merged["images"]
    levels[units, slot] = np.rint((maps - low[units, None, None]) / span[units, None, None] * STEPS)
    return {"images": images, "maps": levels}


def map_entries(layers: Sequence[Layer], writers: Mapping[str, ActivationWriter]) -> dict[str, Entry]:
    """By layer with an extent, the entry of its maps: of the same content as the features that they belong to."""
    form = {"maps": FORMAT, "shown": SHOWN, "side": SIDE}
    return {
        layer.name: Entry("strongest_maps", {**entry.content, "features": entry.kind, **form})
        for layer in layers
        if layer.grid is not None and max(layer.grid) > 1
        for entry in [writers[layer.name].entry]
    }


def choose_map_layers(layers: Sequence[Layer], images: int) -> set[str]:
    """The layers whose maps are kept of so many images: see `LARGEST` and `FEWEST`.

    Maps of latents and projections are not kept, for they would have to be made for each position.
    """
    wide = {layer.name: layer for layer in layers if layer.grid is not None and layer.encoding is None}
    if sum(4 * SHOWN * layer.units * _count_positions(layer) for layer in wide.values()) > LARGEST:
        return set()
    return {name for name, layer in wide.items() if images >= FEWEST or not _is_of_tokens(layer)}


def bytes_of_maps(layer: Layer) -> int:
    """What the entry of a layer's maps takes: two bytes a position, and four for the number of an image."""
    return SHOWN * layer.units * (2 * _count_positions(layer) + 4)


def _count_positions(layer: Layer) -> int:
    rows, columns = layer.grid or (0, 0)
    return min(SIDE, rows) * min(SIDE, columns)


def _is_of_tokens(layer: Layer) -> bool:
    return layer.pooling.kind in ("tokens", "positions")


class MapKeeper:
    """Takes the maps of several layers while a network runs, and writes those of each shard."""

    def __init__(self, pieces: Mapping[str, PartialResults], region: Region | None) -> None:
        self.pieces, self.region = pieces, np.array(astuple(region) if region else [])
        self.held = {name: StrongestMaps() for name in pieces}
        self.indices: list[int] = []
        self.bad: list[int] = []

    def begin(self, indices: Sequence[int], readable: Sequence[bool]) -> None:
        """Say which images go through the network next.

        They ascend. Where they do not, a batch did not fit, and the shards that are not written are begun again.
        """
        if self.indices and indices[0] <= self.indices[-1]:
            self.held = {name: StrongestMaps() for name in self.pieces}
        self.indices = list(indices)
        self.bad = [row for row, good in enumerate(readable) if not good]

    def watch(self, layer: Layer, values: Float[Tensor, "images neurons"], output: Tensor) -> None:
        """Take what a layer gave for these images, before and after pooling."""
        if layer.name in self.held:
            images = torch.tensor(self.indices, device=values.device)
            bad = torch.tensor(self.bad, device=values.device, dtype=torch.int64)
            counted = values.index_fill(0, bad, -torch.inf) if self.bad else values
            self.held[layer.name].add(counted, layer.maps(output), images)

    def save(self, number: int, shard: int) -> None:
        """Write what the images of a shard added."""
        for name, held in self.held.items():
            rows = held.of_images(number * shard, (number + 1) * shard)
            facts = {"shard": np.array([number, shard]), "width": np.array(held.values.shape[1])}
            self.pieces[name].save({**rows, **facts, "region": self.region})


def make_map_keeper(
    network: Network | None, layers: Sequence[Layer], pieces: Mapping[str, PartialResults], probe: Probe
) -> MapKeeper:
    """What keeps the maps of the layers that `pieces` names; call it while the network is on the CPU.

    Where tokens do not lie in the order of the image, and where it depends on the shape of an image what the network
    sees of it, there is nothing to lay over the image, and nothing is kept.
    """
    chosen = [layer for layer in layers if layer.name in pieces]
    region = crop_region(network.transform) if network is not None and chosen else None
    if network is None or region is None:
        return MapKeeper({}, None)
    if any(map(_is_of_tokens, chosen)):
        shown = readable_images(probe, network.transform)[:2]
        chosen = are_tokens_in_order(network.module, chosen, shown, name="the network")
    return MapKeeper({layer.name: pieces[layer.name] for layer in chosen if layer.grid is not None}, region)


def publish_maps(store: Store, pieces: PartialResults, *, images: int, shard: int) -> None:
    """Make the entry of maps of all shards; where some are missing, there is none. Call it under the lock."""
    pieces.mend()
    of_shard: dict[int, Path] = {}
    about: dict[str, np.ndarray] = {}
    for path in sorted(pieces.folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            if arrays["shard"][1] == shard:
                of_shard[int(arrays["shard"][0])] = path
                about = {name: arrays[name] for name in ("width", "region")}
    if len(of_shard) == -(-images // shard):
        quantised = quantise_maps(merge_maps(map(read_arrays, of_shard.values())), int(about["width"]))
        store.save_arrays(pieces.entry, {**quantised, "region": about["region"]})
    store.drop_partial(pieces.entry)


def crop_region(transform: "Callable[[Image], Tensor]") -> Region | None:
    """Which part of an image a transform keeps, measured with images that encode their own coordinates.

    None where that depends on the shape of the image, where it is mirrored, or is not an image any more.
    """
    regions = [_find_region(transform, *shape) for shape in SHAPES]
    if any(region is None for region in regions):
        return None
    edges = np.array([astuple(region) for region in regions if region])
    upright = bool((edges[:, :2] < edges[:, 2:]).all())
    return regions[0] if upright and (np.ptp(edges, axis=0) <= SAME).all() else None


def _find_region(transform: "Callable[[Image], Tensor]", width: int, height: int) -> Region | None:
    """Red rises from left to right and green from top to bottom; black and white tell how the values are scaled."""
    from PIL import Image

    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    coordinates = np.stack([across, down, np.zeros_like(across)], axis=2).round().astype(np.uint8)
    images = (np.zeros_like(coordinates), np.full_like(coordinates, 255), coordinates)
    try:
        black, white, values = (transform(Image.fromarray(image)).double() for image in images)
    except Exception:  # a step of the user's own may take its own images alone, and says so with any exception
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
