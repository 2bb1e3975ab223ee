"""Forward passes with hooks that pool or copy what the wanted layers give."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cd_exp.errors import InputError
from cd_exp.hooks.layer import Layer
from cd_exp.hooks.pooling import KINDS
from cd_exp.plugins import door

Keep = Callable[[str, int, object], None]
Watch = Callable[[Layer, Tensor, Tensor], None]
_AGREE = (
    0.05  # share of the size of the output; half precision differs by less, a view that read another layout by far more
)


@contextmanager
def hook_layers(
    network: nn.Module, modules: Sequence[str], keep: Keep, *, name: str
) -> Iterator[Callable[[Tensor], object]]:
    """A forward pass that hands what the named modules give to `keep(module, call, output)`; calls count from 1.

    `keep` must reduce or copy what it is handed at once: a later in-place ReLU overwrites it. The hooks come off after
    an exception too.

    Raises:
        InputError: a compiled module; after a forward pass, one that was never called (a fused attention never calls
            its dropout).
    """
    calls: dict[str, int] = {}
    run = find_image_forward(network)

    def hook(path: str, _module: nn.Module, _inputs: object, output: object) -> None:
        calls[path] = calls.get(path, 0) + 1
        keep(path, calls[path], output)

    def forward(inputs: Tensor) -> object:
        calls.clear()
        with torch.inference_mode():
            outputs = run(inputs)
        silent = [path for path in modules if path not in calls]
        if silent:
            raise InputError(
                f"layer {silent[0]!r} of {name} was never called in the forward pass (fused or compiled into its "
                "parent?); choose the module around it"
            )
        return outputs

    inner = dict(network.named_modules(remove_duplicate=False))
    for path in modules:
        if isinstance(inner[path], torch.jit.ScriptModule):
            raise InputError(
                f"layer {path!r} of {name} is compiled with TorchScript, and what it gives cannot be read; "
                "use the network as it was before torch.jit"
            )
    handles = [inner[path].register_forward_hook(partial(hook, path)) for path in dict.fromkeys(modules)]
    try:
        yield forward
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def pool_layers(
    network: nn.Module,
    layers: Sequence[Layer],
    *,
    name: str,
    reduce: Callable[[Layer, Tensor], Tensor] = Layer.reduce,
    watch: Watch | None = None,
) -> Iterator[Callable[[Tensor], dict[str, Tensor]]]:
    """A function from a batch of inputs to {layer name: float32 [images, neurons]}, all layers in one forward pass.

    Args:
        network: the target model.
        layers: what is read.
        name: of the network, for errors.
        reduce: from a layer and its output to what is kept of it.
        watch: `watch(layer, kept, output)` sees what each layer gave; the output it must reduce or copy at once.
    """
    by_call: dict[tuple[str, int], list[Layer]] = {}
    for layer in layers:
        by_call.setdefault((layer.module, layer.call), []).append(layer)
    kept: dict[str, Tensor] = {}
    images = 0
    trying = False  # a layout of memory, with a part of the batch

    def keep(path: str, call: int, output: object) -> None:
        for layer in by_call.get((path, call), ()):
            tensor = _check_one_row_per_image(list_tensors(output)[layer.element], layer, images, name)
            value = reduce(layer, tensor).float()
            # A view of the output, or the output itself, would be overwritten by a later in-place operation.
            shared = value.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
            kept[layer.name] = value.clone() if shared else value
            if watch is not None and not trying:
                watch(layer, kept[layer.name], tensor)

    with hook_layers(network, [path for path, _ in by_call], keep, name=name) as run:
        fitting: list[torch.memory_format] = []

        def forward(inputs: Tensor) -> dict[str, Tensor]:
            nonlocal images, trying
            images = len(inputs)
            kept.clear()
            with door(f"{name} fails on {images} images"):
                if inputs.ndim == 4 and not inputs.is_contiguous():  # channels-last, as features are computed
                    if not fitting:
                        images, trying = len(inputs[:2]), True
                        fitting.append(_channels_last_layout(network, run, inputs[:2]))
                        images, trying = len(inputs), False
                    inputs = inputs.contiguous(memory_format=fitting[0])
                run(inputs)
            return dict(kept)

        yield forward


def read_layer_maps(
    network: nn.Module, layers: Sequence[Layer], *, name: str
) -> AbstractContextManager[Callable[[Tensor], dict[str, Tensor]]]:
    """A function from a batch of inputs to {layer name: float32 [images, neurons, height, width]}."""
    return pool_layers(network, layers, name=name, reduce=Layer.maps)


def lay_channels_last(network: nn.Module) -> nn.Module:
    """The network with weights of four axes channels-last; `Module.to` fails on those of five, as `Conv3d` has."""
    tensors = [*network.parameters(), *network.buffers()]
    if all(tensor.ndim != 5 for tensor in tensors):
        return network.to(memory_format=torch.channels_last)
    for tensor in tensors:
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return network


def _channels_last_layout(network: nn.Module, run: Callable[[Tensor], object], inputs: Tensor) -> torch.memory_format:
    """Channels-last, unless the network fails with it (`view`) or gives other values (`as_strided`).

    The network is left in the layout that is returned.
    """
    network.to(memory_format=torch.contiguous_format)
    expected = list_tensors(run(inputs.contiguous()))
    try:
        lay_channels_last(network)
        outputs = list_tensors(run(inputs))
    except RuntimeError as error:
        if "view" not in str(error) and "stride" not in str(error):
            raise
    else:
        if all(_have_same_values(outputs[key], tensor) for key, tensor in expected.items()):
            return torch.channels_last
    network.to(memory_format=torch.contiguous_format)
    return torch.contiguous_format


def _have_same_values(output: Tensor, expected: Tensor) -> bool:
    if not expected.is_floating_point() or not bool(torch.isfinite(expected).all()):
        return True  # what is not finite is refused where it is stored
    return bool((output.float() - expected.float()).norm() <= _AGREE * expected.float().norm() + 1e-6)


def _check_one_row_per_image(output: Tensor, layer: Layer, images: int, name: str) -> Tensor:
    """The output as floating-point numbers with one row an image, also where a batch of one was squeezed."""
    dimensions = next(axes for (axes, _), kind in KINDS.items() if kind == layer.pooling.kind)
    tensor = output.dequantize() if output.is_quantized else output
    if images == 1 and tensor.ndim == dimensions - 1:
        tensor = tensor[None]
    width = layer.width or layer.units
    if tensor.ndim != dimensions or tensor.shape[0] != images or tensor.shape[layer.pooling.axis] != width:
        raise InputError(
            f"layer {layer.name!r} of {name} gives {_describe_shape(tensor)} for {images} images; when the network was "
            f"looked at it gave {width} units for each; choose a layer whose output does not depend on the image"
        )
    return tensor


def find_image_forward(network: nn.Module) -> Callable[[Tensor], object]:
    """What to call with a batch of images: the image side of a network that takes texts too, else the network."""
    for method in ("get_image_features", "encode_image"):  # transformers' and open_clip's pairs of towers
        if hasattr(network, method):
            return getattr(network, method)
    try:
        arguments = list(inspect.signature(network.forward).parameters)
    except ValueError:  # compiled code has no signature
        return network
    if "pixel_values" in arguments and arguments[0] != "pixel_values":
        return lambda inputs: network(pixel_values=inputs)
    return network


def list_tensors(output: object) -> dict[str, Tensor]:
    """Every tensor of a module's output by its path: empty for a bare tensor, `1`, `1/0` or `logits` within others.

    Sparse and nested tensors, whose axes are not those of dense ones, are left out.
    """
    if isinstance(output, Tensor):
        return {"": output} if output.layout == torch.strided and not output.is_nested else {}
    items: Mapping[Any, Any] = {}
    if isinstance(output, Mapping):
        items = output
    elif isinstance(output, (tuple, list)):
        items = dict(enumerate(output))
    elif is_dataclass(output):
        items = {field.name: getattr(output, field.name, None) for field in fields(output)}  # slots have no vars()
    return {
        f"{key}/{inner}" if inner else str(key): tensor
        for key, item in items.items()
        for inner, tensor in list_tensors(item).items()
    }


def _describe_shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))
