"""From a layer's output to one number per unit and image.

The pooling follows from the kind of output: maps are averaged over positions, tokens give the class token where the
layer has one and the mean of its patches where it has none. Which axis holds the units, and how many tokens come before
the patches, is decided by `cd_exp.hooks`, not here.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.errors import InputError

Pool = Literal["auto", "avg", "max", "cls", "patch_mean", "none"]
POOLS: tuple[Pool, ...] = ("auto", "avg", "max", "cls", "patch_mean", "none")
Kind = Literal["vector", "maps_first", "maps_last", "tokens", "positions", "volumes_first", "volumes_last"]
KINDS: dict[tuple[int, int], Kind] = {
    (2, 1): "vector",
    (3, 2): "tokens",
    (3, 1): "positions",
    (4, 1): "maps_first",
    (4, 3): "maps_last",
    (5, 1): "volumes_first",
    (5, 4): "volumes_last",
}
"""The kind of an output by its number of axes and the axis that holds the units."""


@dataclass(frozen=True)
class Pooling:
    """How one layer's output becomes [images, neurons]: the kind of output, what is done, and its prefix tokens.

    Attributes:
        kind: `vector` [images, units], `tokens` [images, tokens, units], `positions` [images, units, positions],
            `maps_first` [images, units, height, width] or `maps_last` [images, height, width, units]; `volumes_first`
            and `volumes_last` have one axis more, of time or depth, which is pooled with the others.
        pool: what is done with the positions.
        prefix: tokens that come before the patches.

    Examples:
        >>> import torch
        >>> Pooling("maps_first", "max")(torch.arange(8.0).reshape(1, 2, 2, 2))
        tensor([[3., 7.]])
    """

    kind: Kind
    pool: Pool
    prefix: int = 0

    @property
    def axis(self) -> int:
        """The axis of the output that holds the units."""
        return next(axis for (_, axis), kind in KINDS.items() if kind == self.kind)

    def __call__(self, output: Tensor) -> Float[Tensor, "images neurons"]:
        """Pool one batch of outputs."""
        if self.kind == "vector":
            return output
        if self.pool == "cls":
            return output[:, 0]
        patches = output[:, self.prefix :] if self.kind == "tokens" else output
        positions = [axis for axis in range(1, output.ndim) if axis != self.axis]
        return patches.amax(positions) if self.pool == "max" else patches.mean(positions, dtype=torch.float32)

    def positions(self, output: Tensor, *, class_token: bool = False) -> Float[Tensor, "images positions width"]:
        """The vectors of all positions; of tokens the patches, or the class token alone where it is asked for."""
        if self.kind == "vector":
            return output[:, None]
        if self.kind == "tokens":
            return output[:, :1] if class_token else output[:, self.prefix :]
        units_last = output.movedim(self.axis, -1)
        return units_last.flatten(1, -2)

    def maps(
        self, output: Tensor, *, grid: tuple[int, int] | None, layer: str
    ) -> Float[Tensor, "images neurons height width"]:
        """The same output as maps with the units first, for Network Dissection; a vector is one position.

        Args:
            output: one batch of outputs.
            grid: rows and columns of the patches, for tokens.
            layer: for the error.

        Raises:
            InputError: the positions are not known to be a grid over the image.
        """
        if self.kind == "vector":
            return output[:, :, None, None]
        if grid is None:
            raise InputError(
                f"the positions of layer {layer!r} are not known to be a grid over the image; Network Dissection needs "
                "maps: choose another layer"
            )
        if self.kind == "maps_first":
            return output
        if self.kind == "maps_last":
            return output.movedim(3, 1)
        if self.kind == "positions":
            return output.unflatten(2, grid)
        return output[:, self.prefix :].movedim(2, 1).unflatten(2, grid)


def choose_pooling(
    shape: tuple[int, ...], pool: Pool, *, axis: int, layer: str, prefix: int = 0, class_token: bool = False
) -> Pooling:
    """The pooling of a layer from what is known of its output.

    Args:
        shape: the shape of one output, images first.
        pool: what was asked for; `auto` follows the kind of output.
        axis: which axis holds the units.
        layer: for the error.
        prefix: how many tokens come before the patches.
        class_token: whether the first of them is a class token.

    >>> of_maps = choose_pooling((8, 512, 7, 7), "auto", axis=1, layer="layer4")
    >>> of_maps.pool, choose_pooling((8, 1000), "auto", axis=1, layer="fc").pool
    ('avg', 'none')

    Raises:
        InputError: the pooling does not fit the output.
    """
    kind = KINDS[len(shape), axis]
    allowed: tuple[Pool, ...] = ("auto", "avg", "max", "none") if kind == "vector" else ("auto", "avg", "max")
    if kind == "tokens":
        allowed = (*allowed, "cls", "patch_mean") if class_token else (*allowed, "patch_mean")
        if pool == "cls" and not class_token:
            raise InputError(f"layer {layer!r} has no class token; use pool patch_mean or max")
    if pool not in allowed:
        raise InputError(
            f"layer {layer!r} gives {shape}: pool {pool!r} does not apply; choose from {', '.join(allowed)}"
        )
    if kind == "vector":
        return Pooling(kind, "none")
    if kind == "tokens" and (pool == "cls" or (pool == "auto" and class_token)):
        return Pooling(kind, "cls", prefix)
    mean: Pool = "patch_mean" if kind == "tokens" else "avg"
    return Pooling(kind, "max" if pool == "max" else mean, prefix)
