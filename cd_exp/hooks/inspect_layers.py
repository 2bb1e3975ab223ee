"""The wanted layers of a network, inspected with a few images before features are computed.

One forward pass tells what each module gives: which call, which tensor, whether it has a row per image, on which
axis the units lie, and whether a row of tokens lies over the image from the top left, row by row.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cd_exp.errors import InputError
from cd_exp.hooks.axes import (
    LAST,
    AxisFacts,
    Prefix,
    axis_by_shape,
    axis_by_size,
    grid_shape,
    is_grid,
    prefix_in_layer,
    read_prefix_tokens,
)
from cd_exp.hooks.hooks import hook_layers, list_tensors, pool_layers, read_layer_maps
from cd_exp.hooks.layer import Layer, LayerRequest, resolve_patterns
from cd_exp.hooks.pooling import choose_pooling
from cd_exp.io.text import shorten_list
from cd_exp.plugins import door


@dataclass(eq=False)
class OutputShapes:
    """The shapes of all tensors that modules gave in one forward pass: {module: [{element: shape} for each call]}."""

    shapes: dict[str, list[dict[str, tuple[int, ...]]]] = field(default_factory=dict)
    real: dict[str, bool] = field(default_factory=dict)

    def of(self, wanted: LayerRequest) -> tuple[int, ...]:
        """The shape of a layer whose call and element are settled."""
        calls = self.shapes.get(wanted.module, [])
        call = calls[wanted.call - 1] if wanted.call and len(calls) >= wanted.call else {}
        return call.get(wanted.element or "", ())


def forward_shapes(
    network: nn.Module, wanted: Sequence[LayerRequest], images: Tensor, facts: AxisFacts | None, *, name: str
) -> OutputShapes:
    """One forward pass; `facts` is asked for the axes of everything the wanted modules give."""
    seen = OutputShapes()

    def keep(path: str, call: int, output: object) -> None:
        tensors = list_tensors(output)
        seen.shapes.setdefault(path, []).append({element: tuple(tensor.shape) for element, tensor in tensors.items()})
        for element, tensor in tensors.items():
            seen.real[output_key(path, call, element)] = tensor.is_floating_point() or tensor.is_quantized
            if facts and tensor.ndim >= 3:
                facts.ask(output_key(path, call, element), tensor)

    failed = f"{name} cannot process {len(images)} images as an input of {format_output(images.shape)}"
    with hook_layers(network, [request.module for request in wanted], keep, name=name) as forward, door(failed):
        forward(images)
    return seen


def resolve_output(wanted: LayerRequest, seen: OutputShapes, *, name: str) -> LayerRequest:
    """The layer with its call and element chosen; more than one without a choice is refused."""
    calls = seen.shapes[wanted.module]
    if wanted.call is None and len(calls) > 1:
        numbered = shorten_list([f"{wanted.module}@{number}" for number in range(1, len(calls) + 1)])
        raise InputError(
            f"layer {wanted.module!r} of {name} is called {len(calls)} times in one forward pass; "
            f"choose a call: {numbered}"
        )
    call = wanted.call or 1
    if call > len(calls):
        raise InputError(f"layer {wanted.name!r}: {name} calls {wanted.module!r} {len(calls)} times, not {call}")
    tensors = calls[call - 1]
    if not tensors:
        raise InputError(f"layer {wanted.name!r} of {name} gives no dense tensor; choose the module around it")
    path = wanted.module + (f"@{wanted.call}" if wanted.call else "")
    choices = shorten_list([f"{path}/{inner} ({format_output(shape)})" for inner, shape in tensors.items() if inner])
    if wanted.element is not None and wanted.element not in tensors:
        elements = f"its elements are {choices}" if choices else f"it gives one tensor, {path}"
        raise InputError(f"layer {wanted.name!r} of {name}: there is no element {wanted.element!r}; {elements}")
    if wanted.element is None and len(tensors) > 1:
        raise InputError(f"layer {path!r} of {name} gives {len(tensors)} tensors; choose one: {choices}")
    element = next(iter(tensors)) if wanted.element is None else wanted.element
    return LayerRequest(wanted.name, wanted.module, wanted.pool, call, element)


def refuse_other_axes(wanted: LayerRequest, seen: OutputShapes, fewer: OutputShapes, images: int, *, name: str) -> None:
    """Refuse what has no row for each image, or no numbers that can be compared.

    Args:
        wanted: a layer whose call and element are settled.
        seen: for so many images.
        fewer: for one image less.
        images: how many.
        name: of the network, for the error.
    """
    shape, less = seen.of(wanted), fewer.of(wanted)
    says = f"layer {wanted.name!r} of {name} gives {format_output(shape)} for {images} images"
    if not shape or not less or shape[0] != images or less[0] != images - 1 or len(shape) != len(less):
        moved = [axis for axis, (a, b) in enumerate(zip(shape, less, strict=False)) if (a, b) == (images, images - 1)]
        where = f"they are on axis {moved[0]}" if moved else "windows, boxes or tokens of several images"
        raise InputError(f"{says}: its first axis is not the images ({where}); choose the module around it")
    if not seen.real[output_key(wanted.module, wanted.call, wanted.element)]:
        raise InputError(f"{says} which are no real numbers; choose a layer that gives floating-point numbers")
    if len(shape) not in (2, 3, 4, 5):
        raise InputError(f"{says}; expected a vector, tokens, maps or volumes for each image")


def output_key(module: str, call: int | None, element: str | None) -> str:
    """What a tensor is called while a network is looked at."""
    return f"{module}@{call}/{element}"


def format_output(shape: Sequence[int]) -> str:
    """A shape in words: `3 x 224 x 224`."""
    return " x ".join(map(str, shape))


IMAGES = 3  # shown at once, and then all but one of them: an axis that holds the images follows
_SAME = 1e-3  # share of a layer's largest value that batches of another size may differ by


@dataclass(frozen=True, eq=False)
class LayerOutputs:
    """The outputs of a network's layers, as one forward pass showed them.

    Attributes:
        layers: the wanted layers, in the order of the network.
        values: what each layer gives for the images, by its name.
        notes: what a reader should know of the network.
    """

    layers: list[Layer]
    values: Mapping[str, Float[Tensor, "images neurons"]]
    notes: tuple[str, ...] = ()


def inspect_layers(
    network: nn.Module,
    patterns: Sequence[str],
    images: Float[Tensor, "images ..."],
    *,
    name: str,
    prefix: int | None = None,
    units_axis: int | None = None,
) -> LayerOutputs:
    """The layers that the patterns mean, with the pooling that fits what each gives for the images.

    Args:
        network: the target model, in evaluation mode.
        patterns: as `resolve_patterns` reads them.
        images: `IMAGES` inputs of the network, through its transform.
        name: of the network, for errors.
        prefix: how many tokens come before the patches, where the network does not say.
        units_axis: the axis of the units where nothing else tells: 1, or 3 for the last one.

    Raises:
        InputError: an unknown layer, one whose axes cannot be inferred, or images that the network cannot process.
    """
    decided = decide_layers(
        network,
        resolve_patterns(network, patterns, name=name),
        images,
        name=name,
        prefix=prefix,
        units_axis=units_axis,
    )
    layers = []
    for layer in decided.values():
        if isinstance(layer, InputError):
            raise layer
        layers.append(layer)
    values, notes = _read_outputs(network, layers, images, name=name)
    return LayerOutputs(layers, values, notes)


def decide_layers(
    network: nn.Module,
    wanted: Sequence[LayerRequest],
    images: Float[Tensor, "images ..."],
    *,
    name: str,
    prefix: int | None = None,
    units_axis: int | None = None,
) -> dict[str, Layer | InputError]:
    """Each layer as it is to be read, or why it is refused, by its name; the arguments are those of
    `inspect_layers`.
    """
    facts = AxisFacts()
    with facts.watch(network):
        seen = forward_shapes(network, wanted, images, facts, name=name)
    fewer = forward_shapes(network, wanted, images[:-1], None, name=name)
    image = (images.shape[2], images.shape[3]) if images.ndim == 4 else None
    prefix_facts = read_prefix_tokens(network, prefix)
    chosen: list[LayerRequest] = []
    decided: dict[str, Layer | InputError] = {}
    for request in wanted:
        try:
            chosen.append(resolve_output(request, seen, name=name))
            refuse_other_axes(chosen[-1], seen, fewer, len(images), name=name)
        except InputError as error:
            decided[request.name] = error
    chosen = [request for request in chosen if request.name not in decided]
    axes = _decide_axes(network, chosen, seen, facts, images, image, prefix_facts.count, units_axis, name=name)
    for request in chosen:
        try:
            decided[request.name] = _make_layer(
                request, seen.of(request), axes.get(request.name), prefix_facts, image, facts.maps, name=name
            )
        except InputError as error:
            decided[request.name] = error
    return {request.name: decided[request.name] for request in wanted}


def _decide_axes(
    network: nn.Module,
    wanted: Sequence[LayerRequest],
    seen: OutputShapes,
    facts: AxisFacts,
    images: Tensor,
    image: tuple[int, int] | None,
    prefix: int | None,
    units_axis: int | None,
    *,
    name: str,
) -> dict[str, int]:
    """The axis of the units where it is known, by the first of: the setting, known layers, a second size, the shape."""
    axes: dict[str, int] = {}
    for request in wanted:
        key = output_key(request.module, request.call, request.element)
        shape, fact = seen.of(request), facts.axis_by_output.get(key)
        if len(shape) == 2:
            axes[request.name] = 1
        elif units_axis is not None:
            axes[request.name] = 1 if units_axis == 1 else len(shape) - 1
        elif fact is not None:
            axes[request.name] = len(shape) - 1 if fact == LAST else fact
    open_ones = [request for request in wanted if request.name not in axes]
    other = _run_at_another_size(network, open_ones, images, name=name) if open_ones and image else None
    for request in open_ones:
        shape = seen.of(request)
        axis = axis_by_size(shape, other.of(request)) if other else None
        axis = axis_by_shape(shape, image, prefix) if axis is None else axis
        if axis:
            axes[request.name] = axis
    return axes


def _run_at_another_size(
    network: nn.Module, wanted: Sequence[LayerRequest], images: Tensor, *, name: str
) -> OutputShapes | None:
    """The shapes for a larger input of other proportions, from a copy of the network; None where it takes none."""
    height, width = images.shape[2:]
    for size in ((height + 64, width + 96), (2 * height, 3 * width)):
        larger = nn.functional.interpolate(images[:1].float(), size=size).to(images.dtype)
        try:
            return forward_shapes(copy.deepcopy(network), wanted, larger, None, name=name)
        except Exception:  # a network of one input size, or one that cannot be copied: nothing is learnt
            continue
    return None


def _make_layer(
    wanted: LayerRequest,
    shape: tuple[int, ...],
    axis: int | None,
    prefix_facts: Prefix,
    image: tuple[int, int] | None,
    maps: set[tuple[int, int]],
    *,
    name: str,
) -> Layer:
    if axis is None:
        raise InputError(
            f"layer {wanted.name!r} of {name} gives {format_output(shape)} and it is not known which axis holds the "
            "units; set model.units_axis=1 (the first after the images) or 3 (the last), or choose another layer"
        )
    prefix, grid = Prefix(0), None
    if len(shape) == 4:
        size = (shape[2], shape[3]) if axis == 1 else (shape[1], shape[2])
        grid = size if image and is_grid(*size, image) else None
    elif len(shape) == 3 and axis == 1:
        grid = grid_shape(shape[2], image, maps)
    elif len(shape) == 3:
        prefix, grid = prefix_in_layer(shape[1], prefix_facts, image=image, seen=maps, layer=wanted.name)
    pooling = choose_pooling(
        shape, wanted.pool, axis=axis, layer=wanted.name, prefix=prefix.count or 0, class_token=prefix.class_token
    )
    return Layer(wanted.name, wanted.module, pooling, shape[axis], wanted.call or 1, wanted.element or "", grid)


def _read_outputs(
    network: nn.Module, layers: Sequence[Layer], images: Tensor, *, name: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The layers' outputs for the images, with a note on those whose values depend on the batch or are random."""
    with pool_layers(network, layers, name=name) as forward:
        values, fewer = forward(images), forward(images[:-1])
        hanging = [layer for layer in values if not _are_equal(values[layer][:-1], fewer[layer])]
        if not hanging:
            return values, ()
        again = forward(images)
    by_chance = [layer for layer in hanging if not _are_equal(values[layer], again[layer])]
    if by_chance:
        return values, (f"{name} gives other values for the same images each time, first at {by_chance[0]}",)
    says = f"what {name} gives for an image depends on the other images of its batch, first at {hanging[0]}"
    return values, (f"{says} (a BatchNorm without running statistics?): its labels hang on features.batch_size",)


def _are_equal(output: Tensor, expected: Tensor) -> bool:
    scale = float(expected.abs().max()) if expected.isfinite().all() else 0.0
    return scale == 0.0 or bool(((output - expected).abs() <= _SAME * scale).all())


_FIELDS = 4  # along each side of the image, changed one at a time
_LEAST = 0.75  # share of the fields that have to be where they belong


def are_tokens_in_order(
    network: nn.Module, layers: Sequence[Layer], images: Float[Tensor, "images ..."], *, name: str
) -> list[Layer]:
    """The layers, without the grid of those whose tokens lie in another order than the image (as in Hiera).

    The images are cut into fields and changed in one after another. Each part of the map must answer most, against
    its answer to the other fields, to the field that it lies over.

    Args:
        network: the target model, on the CPU.
        layers: as `decide_layers` returned them.
        images: inputs of the network.
        name: of the network, for errors.
    """
    asked = [layer for layer in layers if layer.pooling.kind in ("tokens", "positions") and layer.grid]
    if not asked or images.ndim != 4:
        return list(layers)
    plain = [replace(layer, encoding=None, units=layer.width or layer.units, width=None) for layer in asked]
    answers: dict[str, list[Tensor]] = {layer.name: [] for layer in asked}
    with read_layer_maps(network, plain, name=name) as forward:
        before = forward(images)
        for row in range(_FIELDS):
            for column in range(_FIELDS):
                after = forward(_change_corner(images, row, column))
                for layer, values in answers.items():
                    values.append((after[layer] - before[layer]).abs().sum((0, 1)))
    scattered = {layer for layer, values in answers.items() if not _follows_image(torch.stack(values))}
    return [replace(layer, grid=None) if layer.name in scattered else layer for layer in layers]


def _change_corner(images: Tensor, row: int, column: int) -> Tensor:
    height, width = images.shape[2:]
    rows = slice(row * height // _FIELDS, (row + 1) * height // _FIELDS)
    columns = slice(column * width // _FIELDS, (column + 1) * width // _FIELDS)
    other = images.clone()
    other[:, :, rows, columns] = images.flip(0)[:, :, rows, columns] + images.std()
    return other


def _follows_image(answers: Float[Tensor, "fields height width"]) -> bool:
    """Whether a change in one part of the image changes the map most in the same part."""
    height, width = answers.shape[1:]
    rows, columns = min(_FIELDS, height), min(_FIELDS, width)
    by_part = nn.functional.adaptive_avg_pool2d(answers[None], (rows, columns))[0].flatten(1)
    share = by_part / by_part.mean(0, keepdim=True).clamp_min(1e-12)
    sides = range(_FIELDS)
    belongs = [(row * rows // _FIELDS) * columns + column * columns // _FIELDS for row in sides for column in sides]
    right = share.argmax(1) == torch.tensor(belongs)
    return rows * columns == 1 or float(right.float().mean()) >= _LEAST
