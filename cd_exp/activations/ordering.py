"""Whether a row of tokens lies over the image as the image does: row by row, from the top left."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cd_exp.activations.layer import Layer
from cd_exp.activations.running import mapped

_FIELDS = 4  # along each side of the image, changed one at a time
_LEAST = 0.75  # of the fields that have to be where they belong


def in_order(
    network: nn.Module, layers: Sequence[Layer], pictures: Float[Tensor, "images ..."], *, name: str
) -> list[Layer]:
    """The layers, without the grid of those whose tokens lie in another order than the image (as in Hiera).

    The pictures are cut into fields and changed in one after another. Each part of the map must answer most, against
    its answer to the other fields, to the field that it lies over.

    Args:
        network: the target model, on the CPU.
        layers: as they were found.
        pictures: inputs of the network.
        name: of the network, for errors.
    """
    asked = [layer for layer in layers if layer.pooling.kind in ("tokens", "positions") and layer.grid]
    if not asked or pictures.ndim != 4:
        return list(layers)
    plain = [replace(layer, encoding=None, units=layer.width or layer.units, width=None) for layer in asked]
    answers: dict[str, list[Tensor]] = {layer.name: [] for layer in asked}
    with mapped(network, plain, name=name) as forward:
        before = forward(pictures)
        for row in range(_FIELDS):
            for column in range(_FIELDS):
                after = forward(_changed(pictures, row, column))
                for layer, values in answers.items():
                    values.append((after[layer] - before[layer]).abs().sum((0, 1)))
    scattered = {layer for layer, values in answers.items() if not _follows(torch.stack(values))}
    return [replace(layer, grid=None) if layer.name in scattered else layer for layer in layers]


def _changed(pictures: Tensor, row: int, column: int) -> Tensor:
    height, width = pictures.shape[2:]
    rows = slice(row * height // _FIELDS, (row + 1) * height // _FIELDS)
    columns = slice(column * width // _FIELDS, (column + 1) * width // _FIELDS)
    other = pictures.clone()
    other[:, :, rows, columns] = pictures.flip(0)[:, :, rows, columns] + pictures.std()
    return other


def _follows(answers: Float[Tensor, "fields height width"]) -> bool:
    """Whether a change in one part of the image changes the map most in the same part."""
    height, width = answers.shape[1:]
    rows, columns = min(_FIELDS, height), min(_FIELDS, width)
    by_part = nn.functional.adaptive_avg_pool2d(answers[None], (rows, columns))[0].flatten(1)
    share = by_part / by_part.mean(0, keepdim=True).clamp_min(1e-12)
    sides = range(_FIELDS)
    belongs = [(row * rows // _FIELDS) * columns + column * columns // _FIELDS for row in sides for column in sides]
    right = share.argmax(1) == torch.tensor(belongs)
    return rows * columns == 1 or float(right.float().mean()) >= _LEAST
