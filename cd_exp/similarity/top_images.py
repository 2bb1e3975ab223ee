"""Each unit's strongest images, visited once in blocks for all units together, and softmax sums over them.

S[i, t] = p(concept t | image i) = softmax over concepts of scale * P, for one block of images, tile by tile. Only
images that are among the strongest of some unit are visited, each once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

from cd_exp.records import ConceptActivations, TopActivations
from cd_exp.similarity.match import DenseOrFactored, concept_slices, match_shape, take_images, take_tile

BLOCK_BYTES = 2**28
"""The most that one block of images x concepts takes."""

SAFE_EXPONENT = 40.0
"""exp(+-40) and sums of a billion of them stay far inside float32."""


def images_per_block(concepts: int, *, block_bytes: int = BLOCK_BYTES) -> int:
    """How many images fit a block with all their concepts."""
    return max(1, block_bytes // (4 * concepts))


def softmax_tiles(
    match: DenseOrFactored, *, scale: float | None, width: int, buffer: Float[Tensor, " elements"]
) -> list[tuple[slice, Float[Tensor, "images _"]]]:
    """The softmax in contiguous tiles of `width` concepts, each with the concepts it is of.

    The largest match of an image is subtracted only where exp could leave the range of float32.

    Args:
        match: of the images of one block.
        scale: of the softmax; None for the matches themselves.
        width: concepts a tile.
        buffer: memory to lay the tiles in, at least images x concepts.
    """
    images, concepts = match_shape(match)
    if scale is not None:
        match = (
            ConceptActivations(match.images * scale, match.texts)
            if isinstance(match, ConceptActivations)
            else match * scale
        )
    tiles = []
    for columns in concept_slices(concepts, width):
        cells = images * (columns.stop - columns.start)
        start = images * columns.start
        tiles.append((columns, take_tile(match, columns, out=buffer[start : start + cells].view(images, -1))))
    if scale is None:
        return tiles
    if _largest_match(match) > SAFE_EXPONENT:
        peak = torch.stack([part.amax(dim=1) for _, part in tiles]).amax(dim=0)
        for _, part in tiles:
            part.sub_(peak[:, None])
    total = buffer.new_zeros(images, 1)
    for _, part in tiles:
        total += part.exp_().sum(dim=1, keepdim=True)
    for _, part in tiles:
        part.div_(total)
    return tiles


def _largest_match(match: DenseOrFactored) -> float:
    """A bound on the size of any match."""
    if not isinstance(match, ConceptActivations):
        return match.abs().max().item()
    return match.images.norm(dim=1).max().item() * match.texts.norm(dim=1).max().item()


@dataclass(frozen=True, eq=False)
class Block:
    """Some of the top images."""

    tiles: list[tuple[slice, Float[Tensor, "images _"]]]
    rows: Int[Tensor, "neurons ranks"]  # row of the tiles that holds each unit's image of each rank
    here: Bool[Tensor, "neurons ranks"]  # whether that image is in this block; its row means nothing otherwise
    of: int  # how many top images there are in all blocks


def top_image_blocks(
    match: DenseOrFactored,
    lists: TopActivations,
    *,
    scale: float | None,
    width: int | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[Block]:
    """Blocks that together hold all images listed, with the softmax over concepts of scale * P.

    The tiles of a block are overwritten by the next one's.

    Args:
        match: concept activations of all images.
        lists: each unit's strongest images.
        scale: of the softmax; None for the matches themselves.
        width: concepts per tile; by default what suits the number of units.
        block_bytes: how much a block of images x concepts takes at most.
    """
    concepts, units = match_shape(match)[1], lists.shape[1]
    needed, rows = torch.unique(lists.indices.T.contiguous(), return_inverse=True)
    size = min(len(needed), images_per_block(concepts, block_bytes=block_bytes))
    width = width or _tile_width(units, lists.values.device)
    buffer = lists.values.new_empty(size * concepts)
    for part in concept_slices(len(needed), size):
        tiles = softmax_tiles(take_images(match, needed[part]), scale=scale, width=width, buffer=buffer)
        yield Block(tiles, rows - part.start, (rows >= part.start) & (rows < part.stop), len(needed))


def _tile_width(units: int, device: torch.device) -> int:
    """Concepts a tile: the sums of all units should stay in the cache of a CPU, and fill a GPU."""
    elements = 2**26 if device.type == "cuda" else 2**19
    return min(4096, max(256, elements // units))


@dataclass(frozen=True, eq=False)
class Bags:
    """Which rows of a tile belong to each unit, with a weight each."""

    rows: Int[Tensor, " entries"]
    starts: Int[Tensor, " neurons"]
    weights: Float[Tensor, " entries"]

    @staticmethod
    def of(block: Block, weights: Float[Tensor, " ranks"]) -> "Bags":
        """All top images in the block whose rank has a weight."""
        chosen = block.here & (weights != 0)
        ends = chosen.sum(dim=1).cumsum(dim=0)
        starts = torch.cat([ends.new_zeros(1), ends[:-1]])
        return Bags(block.rows[chosen], starts, weights.expand(chosen.shape)[chosen])

    def sums(self, tile: Float[Tensor, "images block"]) -> Float[Tensor, "neurons block"]:
        """Weighted sum of the rows of each unit; 0 for a unit without one."""
        return embedding_bag(self.rows, tile, self.starts, mode="sum", per_sample_weights=self.weights)


TILE_BYTES = 2**23
"""The most that some concepts of all images take, where they are looked up again and again for many units: what the
caches of a CPU hold. Of 10,000 images, tiles of 64, 128 and 256 concepts take the same time within a third.
"""

SMALLEST_TILE = 32

SUMS_BYTES = 2**29
"""The most that the sums of all units over one such tile take."""

UNITS_AT_A_TIME = 2048
"""Units whose images are looked up in one call."""


@dataclass(frozen=True, eq=False)
class ConceptTiles:
    """The softmax over concepts of scale * P of all images, some concepts after others: each tile is made twice, for
    the sum over all concepts and for itself, and the whole is never there.

    Attributes:
        match: of the images, times the scale.
        width: concepts per tile.
        peak: the largest match of each image, where exp could leave the range of float32.
        total: the sum over all concepts of exp(match - peak).
        greatest: the largest probability.
    """

    match: DenseOrFactored
    width: int
    peak: Float[Tensor, "images 1"] | None
    total: Float[Tensor, "images 1"]
    greatest: float

    @staticmethod
    def of(match: DenseOrFactored, *, scale: float, width: int) -> "ConceptTiles":
        """Take the sums over all concepts."""
        match = (
            ConceptActivations(match.images * scale, match.texts)
            if isinstance(match, ConceptActivations)
            else match * scale
        )
        slices = list(concept_slices(match_shape(match)[1], width))
        top = torch.stack([take_tile(match, columns).amax(dim=1, keepdim=True) for columns in slices]).amax(dim=0)
        peak = top if _largest_match(match) > SAFE_EXPONENT else None
        tiles = ConceptTiles(match, width, peak, torch.ones_like(top), 0.0)
        total = torch.zeros_like(top)
        for _, tile in tiles:
            total += tile.sum(dim=1, keepdim=True)
        greatest = ((top if peak is None else top - peak).exp() / total).max().item()
        return ConceptTiles(match, width, peak, total, greatest)

    def __iter__(self) -> Iterator[tuple[slice, Float[Tensor, "images block"]]]:
        """The concepts of a tile, and the tile."""
        for columns in concept_slices(match_shape(self.match)[1], self.width):
            tile = take_tile(self.match, columns)
            if self.peak is not None:
                tile.sub_(self.peak)
            yield columns, tile.exp_().div_(self.total)


def choose_tile_width(images: int, units: int) -> int:
    """Concepts of a tile, a multiple of 32: `TILE_BYTES` of images, and `SUMS_BYTES` of units.

    >>> choose_tile_width(10_000, 20_000), choose_tile_width(10_000, 1_000_000), choose_tile_width(1_000_000, 10)
    (192, 128, 32)
    """
    width = min(TILE_BYTES // (4 * images), SUMS_BYTES // (4 * units))
    return SMALLEST_TILE * max(1, width // SMALLEST_TILE)


def number_images(
    lists: TopActivations, *, at_once: int = UNITS_AT_A_TIME
) -> tuple[Int[Tensor, " images"], Int[Tensor, "neurons ranks"]]:
    """The images that are listed, ascending, and for each unit where its images stand among them (int32)."""
    listed = torch.zeros(lists.images, dtype=torch.bool, device=lists.indices.device)
    for ranks in lists.indices:
        listed[ranks.long()] = True
    row_of_image = (listed.cumsum(dim=0) - 1).int()
    rows = lists.indices.new_empty(lists.indices.shape[::-1], dtype=torch.int32)
    for units in concept_slices(len(rows), at_once):
        rows[units] = row_of_image[lists.indices[:, units].T.long()]
    return listed.nonzero().flatten(), rows


def add_image_sums(
    sums: Float[Tensor, "neurons block"],
    tile: Float[Tensor, "images block"],
    rows: Int[Tensor, "neurons ranks"],
    weights: Float[Tensor, " ranks"],
    *,
    at_once: int = UNITS_AT_A_TIME,
) -> None:
    """Add to each unit the weighted sum of the rows of its images, in place; ranks of weight 0 at either end are left
    out.
    """
    weighted = weights.nonzero().flatten()
    ranks = slice(
        int(weighted[0]), int(weighted[-1]) + 1
    )  # a copy of neighbouring columns takes a quarter of chosen ones
    repeated = weights[ranks].expand(min(len(sums), at_once), -1).contiguous()
    for units in concept_slices(len(sums), at_once):
        chosen = rows[units, ranks]
        sums[units] += embedding_bag(chosen, tile, mode="sum", per_sample_weights=repeated[: len(chosen)])
