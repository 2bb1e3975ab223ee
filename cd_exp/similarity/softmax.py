"""p(concept | image) = softmax over concepts of scale * P, for one block of images, tile by tile."""

import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.records import Match
from cd_exp.similarity.match import ConceptMatch, shape, slices, tile

BLOCK_BYTES = 2**28
"""The most that one block of images x concepts takes."""

SAFE_EXPONENT = 40.0
"""exp(+-40) and sums of a billion of them stay far inside float32."""


def images_a_block(concepts: int) -> int:
    """How many images fit a block with all their concepts."""
    return max(1, BLOCK_BYTES // (4 * concepts))


def probabilities(
    match: ConceptMatch, *, scale: float | None, width: int, buffer: Float[Tensor, " elements"]
) -> list[tuple[slice, Float[Tensor, "images _"]]]:
    """The softmax in contiguous tiles of `width` concepts, each with the concepts it is of.

    The largest match of an image is subtracted only where exp could leave the range of float32.

    Args:
        match: of the images of one block.
        scale: of the softmax; None for the matches themselves.
        width: concepts a tile.
        buffer: memory to lay the tiles in, at least images x concepts.
    """
    images, concepts = shape(match)
    if scale is not None:
        match = Match(match.images * scale, match.texts) if isinstance(match, Match) else match * scale
    tiles = []
    for columns in slices(concepts, width):
        cells = images * (columns.stop - columns.start)
        start = images * columns.start
        tiles.append((columns, tile(match, columns, out=buffer[start : start + cells].view(images, -1))))
    if scale is None:
        return tiles
    if _largest(match) > SAFE_EXPONENT:
        peak = torch.stack([part.amax(dim=1) for _, part in tiles]).amax(dim=0)
        for _, part in tiles:
            part.sub_(peak[:, None])
    total = buffer.new_zeros(images, 1)
    for _, part in tiles:
        total += part.exp_().sum(dim=1, keepdim=True)
    for _, part in tiles:
        part.div_(total)
    return tiles


def _largest(match: ConceptMatch) -> float:
    """A bound on the size of any match."""
    if not isinstance(match, Match):
        return match.abs().max().item()
    return match.images.norm(dim=1).max().item() * match.texts.norm(dim=1).max().item()
