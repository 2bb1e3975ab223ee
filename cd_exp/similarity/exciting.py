"""The images that excite the units most, visited once in blocks, and sums over those of each unit.

wpmi and its relatives sum something of S[i, t], the softmax over concepts, over the images i that excite a unit most.
Only images that excite some unit are looked at. A sum over the images of each unit is one `embedding_bag`: the rows of
a tile are read and added up, and nothing of units x images x concepts is made.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

from cd_exp.similarity.match import ConceptMatch, runs, shape, take
from cd_exp.similarity.softmax import images_a_block, probabilities


@dataclass(frozen=True, eq=False)
class Block:
    """Some of the exciting images."""

    tiles: list[tuple[slice, Float[Tensor, "images _"]]]
    rows: Int[Tensor, "neurons ranks"]  # of the tiles, for each unit's image of each rank
    here: Bool[Tensor, "neurons ranks"]  # whether that image is in this block; its row means nothing otherwise


def exciting(
    match: ConceptMatch, neurons: Float[Tensor, "images neurons"], *, top_k: int, scale: float
) -> Iterator[Block]:
    """Blocks that together hold each unit's `top_k` most exciting images, or all where there are fewer.

    The tiles of a block are overwritten by the next one's.
    """
    (images, concepts), units = shape(match), neurons.shape[1]
    chosen = neurons.topk(min(top_k, images), dim=0).indices.T.contiguous()
    needed, places = torch.unique(chosen, return_inverse=True)
    size = min(len(needed), images_a_block(concepts))
    buffer = neurons.new_empty(size * concepts)
    for part in runs(len(needed), size):
        tiles = probabilities(
            take(match, needed[part]), scale=scale, width=_width(units, neurons.device), buffer=buffer
        )
        yield Block(tiles, places - part.start, (places >= part.start) & (places < part.stop))


def _width(units: int, device: torch.device) -> int:
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
        """All exciting images in the block whose rank has a weight."""
        chosen = block.here & (weights != 0)
        ends = chosen.sum(dim=1).cumsum(dim=0)
        starts = torch.cat([ends.new_zeros(1), ends[:-1]])
        return Bags(block.rows[chosen], starts, weights.expand(chosen.shape)[chosen])

    def sums(self, tile: Float[Tensor, "images block"]) -> Float[Tensor, "neurons block"]:
        """Weighted sum of the rows of each unit; 0 for a unit without one."""
        return embedding_bag(self.rows, tile, self.starts, mode="sum", per_sample_weights=self.weights)
