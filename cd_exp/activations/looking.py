"""Looking at a network with a few pictures before features are computed: what its layers give, and on which axes."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from cd_exp.activations.axes import LAST, AxisFacts, axis_by_shape, axis_by_size
from cd_exp.activations.layer import Layer
from cd_exp.activations.running import pooled
from cd_exp.activations.seeing import Seen, key_of, refuse_other_axes, settled, shown, written
from cd_exp.activations.selection import Wanted, resolve
from cd_exp.activations.tokens import Prefix, grid_of, in_layer, is_grid, prefix_of
from cd_exp.errors import InputError
from cd_exp.pooling import choose

IMAGES = 3  # shown at once, and then all but one of them: an axis that holds the images follows
_SAME = 1e-3  # of a layer's largest value; what batches of another size may differ by


@dataclass(frozen=True, eq=False)
class Looked:
    """What a look at a network found.

    Attributes:
        layers: the wanted layers, in the order of the network.
        values: what each layer gives for the pictures, by its name.
        notes: what a reader should know of the network.
    """

    layers: list[Layer]
    values: Mapping[str, Float[Tensor, "images neurons"]]
    notes: tuple[str, ...] = ()


def look(
    network: nn.Module,
    patterns: Sequence[str],
    pictures: Float[Tensor, "images ..."],
    *,
    name: str,
    prefix: int | None = None,
    units_axis: int | None = None,
) -> Looked:
    """The layers that the patterns mean, with the pooling that fits what each gives for the pictures.

    Args:
        network: the target model, in evaluation mode.
        patterns: as `resolve` reads them.
        pictures: `IMAGES` inputs of the network, through its transform.
        name: of the network, for errors.
        prefix: how many tokens come before the patches, where the network does not say.
        units_axis: the axis of the units where nothing else tells: 1, or 3 for the last one.

    Raises:
        InputError: an unknown layer, one whose axes cannot be told, or pictures that the network cannot process.
    """
    decided = decide(
        network,
        resolve(network, patterns, name=name),
        pictures,
        name=name,
        prefix=prefix,
        units_axis=units_axis,
    )
    layers = []
    for layer in decided.values():
        if isinstance(layer, InputError):
            raise layer
        layers.append(layer)
    values, notes = _given(network, layers, pictures, name=name)
    return Looked(layers, values, notes)


def decide(
    network: nn.Module,
    wanted: Sequence[Wanted],
    pictures: Float[Tensor, "images ..."],
    *,
    name: str,
    prefix: int | None = None,
    units_axis: int | None = None,
) -> dict[str, Layer | InputError]:
    """Each layer as it is to be read, or why it is refused, by its name; the arguments are those of `look`."""
    facts = AxisFacts()
    with facts.watching(network):
        seen = shown(network, wanted, pictures, facts, name=name)
    fewer = shown(network, wanted, pictures[:-1], None, name=name)
    image = (pictures.shape[2], pictures.shape[3]) if pictures.ndim == 4 else None
    known = prefix_of(network, prefix)
    chosen: list[Wanted] = []
    decided: dict[str, Layer | InputError] = {}
    for one in wanted:
        try:
            chosen.append(settled(one, seen, name=name))
            refuse_other_axes(chosen[-1], seen, fewer, len(pictures), name=name)
        except InputError as error:
            decided[one.name] = error
    chosen = [one for one in chosen if one.name not in decided]
    axes = _axes(network, chosen, seen, facts, pictures, image, known.count, units_axis, name=name)
    for one in chosen:
        try:
            decided[one.name] = _layer(one, seen.of(one), axes.get(one.name), known, image, facts.maps, name=name)
        except InputError as error:
            decided[one.name] = error
    return {one.name: decided[one.name] for one in wanted}


def _axes(
    network: nn.Module,
    wanted: Sequence[Wanted],
    seen: Seen,
    facts: AxisFacts,
    pictures: Tensor,
    image: tuple[int, int] | None,
    prefix: int | None,
    units_axis: int | None,
    *,
    name: str,
) -> dict[str, int]:
    """The axis of the units where it is known, by the first of: the setting, known layers, a second size, the shape."""
    axes: dict[str, int] = {}
    for one in wanted:
        shape, fact = seen.of(one), facts.found.get(key_of(one.module, one.call, one.element))
        if len(shape) == 2:
            axes[one.name] = 1
        elif units_axis is not None:
            axes[one.name] = 1 if units_axis == 1 else len(shape) - 1
        elif fact is not None:
            axes[one.name] = len(shape) - 1 if fact == LAST else fact
    open_ones = [one for one in wanted if one.name not in axes]
    other = _at_another_size(network, open_ones, pictures, name=name) if open_ones and image else None
    for one in open_ones:
        shape = seen.of(one)
        axis = axis_by_size(shape, other.of(one)) if other else None
        axis = axis_by_shape(shape, image, prefix) if axis is None else axis
        if axis:
            axes[one.name] = axis
    return axes


def _at_another_size(network: nn.Module, wanted: Sequence[Wanted], pictures: Tensor, *, name: str) -> Seen | None:
    """The shapes for a larger input of other proportions, from a copy of the network; None where it takes none."""
    height, width = pictures.shape[2:]
    for size in ((height + 64, width + 96), (2 * height, 3 * width)):
        larger = nn.functional.interpolate(pictures[:1].float(), size=size).to(pictures.dtype)
        try:
            return shown(copy.deepcopy(network), wanted, larger, None, name=name)
        except Exception:  # a network of one input size, or one that cannot be copied: nothing is learnt
            continue
    return None


def _layer(
    wanted: Wanted,
    shape: tuple[int, ...],
    axis: int | None,
    known: Prefix,
    image: tuple[int, int] | None,
    maps: set[tuple[int, int]],
    *,
    name: str,
) -> Layer:
    if axis is None:
        raise InputError(
            f"layer {wanted.name!r} of {name} gives {written(shape)} and it is not known which axis holds the units; "
            "set model.units_axis=1 (the first after the pictures) or 3 (the last), or choose another layer"
        )
    prefix, grid = Prefix(0), None
    if len(shape) == 4:
        size = (shape[2], shape[3]) if axis == 1 else (shape[1], shape[2])
        grid = size if image and is_grid(*size, image) else None
    elif len(shape) == 3 and axis == 1:
        grid = grid_of(shape[2], image, maps)
    elif len(shape) == 3:
        prefix, grid = in_layer(shape[1], known, image=image, seen=maps, layer=wanted.name)
    pooling = choose(
        shape, wanted.pool, axis=axis, layer=wanted.name, prefix=prefix.count or 0, class_token=prefix.class_token
    )
    return Layer(wanted.name, wanted.module, pooling, shape[axis], wanted.call or 1, wanted.element or "", grid)


def _given(
    network: nn.Module, layers: Sequence[Layer], pictures: Tensor, *, name: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The layers' outputs for the pictures, with a note on those whose values depend on the batch or are random."""
    with pooled(network, layers, name=name) as forward:
        values, fewer = forward(pictures), forward(pictures[:-1])
        hanging = [layer for layer in values if not _same(values[layer][:-1], fewer[layer])]
        if not hanging:
            return values, ()
        again = forward(pictures)
    by_chance = [layer for layer in hanging if not _same(values[layer], again[layer])]
    if by_chance:
        return values, (f"{name} gives other values for the same pictures each time, first at {by_chance[0]}",)
    says = f"what {name} gives for a picture depends on the other pictures of its batch, first at {hanging[0]}"
    return values, (f"{says} (a BatchNorm without running statistics?): its labels hang on features.batch_size",)


def _same(given: Tensor, expected: Tensor) -> bool:
    scale = float(expected.abs().max()) if expected.isfinite().all() else 0.0
    return scale == 0.0 or bool(((given - expected).abs() <= _SAME * scale).all())
