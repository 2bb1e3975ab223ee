"""Tokens before the patches: what a network has, and which of its layers carry them.

The number of prefix tokens belongs to a layer: a patch embedding has none, and CaiT, XCiT and ConViT add the class
token late. A layer carries the network's prefix where its tokens are a grid over the image and that prefix.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from torch import Tensor, nn

from cd_exp.errors import InputError

_CLASS = re.compile(r"cls|(cls|class)_?(token|tok|embedding|embed|emb)s?_?\d*")
_OTHER = re.compile(r"(reg|register|dist|distil|distillation)_?(token|tok|embedding|embed|emb)s?_?\d*")

_FEW = 16  # tokens that may come before the patches


@dataclass(frozen=True)
class Prefix:
    """The tokens that a network puts before its patches.

    `count` is None where the network does not say; `unnamed`, that it has learnt something that may be such a token.
    """

    count: int | None
    class_token: bool = False
    unnamed: bool = False


def prefix_of(network: nn.Module, told: int | None) -> Prefix:
    """The prefix tokens of a network: as told, as timm's networks say, or by the names of the tokens it has learnt.

    Args:
        network: the target model.
        told: the setting `model.prefix_tokens`.
    """
    learnt = {name.rpartition(".")[2]: value for name, value in network.named_parameters() if value.ndim}
    classes = any(_CLASS.fullmatch(name) for name in learnt)
    others = sum(_rows(value) for name, value in learnt.items() if _OTHER.fullmatch(name))
    said: object = next((module for module in network.modules() if hasattr(module, "num_prefix_tokens")), None)
    count = told if told is not None else getattr(said, "num_prefix_tokens", None)
    if count is None:
        unnamed = any(_may_be_token(name, value) for name, value in learnt.items())
        return Prefix(others + classes or None, classes, unnamed)
    stated = getattr(said, "has_class_token", None) if told is None else None
    has_class = classes or not others if stated is None else bool(stated)
    return Prefix(count, bool(count) and has_class)


def _rows(value: Tensor) -> int:
    return value.numel() // value.shape[-1]


def _may_be_token(name: str, value: Tensor) -> bool:
    """Whether a parameter of another name has the shape of a few tokens: those of layers are `weight` and `bias`."""
    return name not in ("weight", "bias") and value.ndim in (2, 3) and _rows(value) <= _FEW


def in_layer(
    tokens: int, prefix: Prefix, *, image: tuple[int, int] | None, seen: Collection[tuple[int, int]], layer: str
) -> tuple[Prefix, tuple[int, int] | None]:
    """The prefix tokens that one layer carries, and the grid of its patches where there is one.

    Args:
        tokens: how many tokens the layer gives.
        prefix: of the network.
        image: height and width of the input; None where the input is no picture.
        seen: sizes of maps that the network computes, which decide where two grids are possible.
        layer: for the error.

    Raises:
        InputError: the tokens are neither a grid nor a grid and the network's prefix.
    """
    none = Prefix(0)
    plain = grid_of(tokens, image, seen)
    if prefix.count is None:
        if plain or not (prefix.unnamed or grid_of(tokens - 1, image, seen)):
            return none, plain
        raise InputError(
            f"layer {layer!r} gives {tokens} tokens, which are no grid over the image, of a network that does not say "
            "how many come before the patches; set model.prefix_tokens to their number (0: none, 1: a class token)"
        )
    rest = grid_of(tokens - prefix.count, image, seen)
    if prefix.count == 0 or (plain and rest is None):
        return none, plain
    if plain and rest and (plain in seen) != (rest in seen):
        return (none, plain) if plain in seen else (prefix, rest)
    if rest is None or plain is not None:
        both = "both with and without" if plain else "neither with nor without"
        raise InputError(
            f"layer {layer!r} gives {tokens} tokens, a grid over the image {both} {prefix.count} prefix tokens: it is "
            "not known whether its first token is a patch; choose another layer"
        )
    return prefix, rest


def grid_of(
    count: int, image: tuple[int, int] | None, seen: Collection[tuple[int, int]] = ()
) -> tuple[int, int] | None:
    """Rows and columns of so many positions spread evenly over an image, or None where no such grid exists."""
    if image is None or count < 1:
        return None
    for size in seen:
        if size[0] * size[1] == count and is_grid(*size, image):
            return size
    fitting = [(rows, count // rows) for rows in range(1, count + 1) if count % rows == 0]
    return next((size for size in fitting if is_grid(*size, image)), None)


def is_grid(rows: int, columns: int, image: tuple[int, int]) -> bool:
    """Whether so many rows and columns have the proportions of the image, but for rounding."""
    height, width = image
    expected = rows * width / height
    return rows <= height and columns <= width and abs(columns - expected) < 1
