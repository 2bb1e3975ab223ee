"""The layers of a network, the memory of its forward pass, and what its images look like, without its weights."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cd_exp.cache import Store
from cd_exp.errors import InputError
from cd_exp.features.dataloader import BATCH
from cd_exp.features.layers import find_layers, read_known_layers
from cd_exp.hooks import Layer, decide_layers, pool_layers, resolve_patterns
from cd_exp.models import Network, TargetModel, find_truth
from cd_exp.records import Probe
from cd_exp.units import Units

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class Outline:
    """What is known of a network without a forward pass.

    Attributes:
        module: on the `meta` device, unless it had to be built.
        transform: of its images.
        largest: bytes of the largest tensor that an operation gives, for a batch of `BATCH` images.
        weights: bytes of its parameters.
        width: of what it gives for an image, where that is one tensor.
    """

    module: nn.Module
    transform: "Callable[[Image], Tensor]"
    largest: int
    weights: int
    width: int

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return _pick_device(self.module)


@dataclass(frozen=True, eq=False)
class Target:
    """The target network of a run."""

    layers: list[Layer]
    outline: Callable[[], Outline]


def outline_target(model: TargetModel, probe: Probe, units: Units, store: Store, *, keyed: bool) -> Target:
    """The layers of a network, from an earlier look where there was one, or else from its outline.

    Args:
        model: its recipe.
        probe: the images.
        units: what the columns are; they need a network.
        store: where earlier looks are remembered.
        keyed: whether its weights are there.

    Raises:
        InputError: as `cd_exp.features.find_layers`.
    """
    patterns = units.patterns(model)
    network: list[Network] = []

    def network_of() -> Network:
        if not network:
            network.append(_outline_layers(model) or model.build())
        return network[0]

    inspected = read_known_layers(model, probe, patterns, store) if keyed and not model.own_code else None
    if inspected is None and model.own_code:
        inspected = find_layers(model, probe, patterns, store)
    if inspected is None:
        inspected = _decide_layers(model, network_of(), probe, patterns)
    layers = [units.columns(layer, model=model.name) for layer in inspected]

    def outline() -> Outline:
        outlined = network_of()
        return _make_outline(outlined.module, outlined.transform, probe, layers, name=model.name)

    return Target(layers, outline)


def _outline_layers(model: TargetModel) -> Network | None:
    """The network without weights; None where it cannot be had without."""
    if not hasattr(model, "outline"):
        return None
    try:
        with without_warnings():
            return model.outline()
    except (RuntimeError, NotImplementedError, TypeError):  # an architecture that computes with its own numbers
        return None


def _decide_layers(model: TargetModel, network: Network, probe: Probe, patterns: Any) -> list[Layer]:
    images = _make_inputs(network.transform, probe, 3, network.module)
    wanted = resolve_patterns(network.module, patterns, name=model.name)
    options = {"prefix": network.prefix_tokens, "units_axis": model.units_axis}
    layers = []
    for layer in decide_layers(network.module, wanted, images, name=model.name, **options).values():
        if isinstance(layer, InputError):
            raise layer
        find_truth(model, layer.name, units=layer.units)
        layers.append(layer)
    return layers


def outline_tower(clip: Any, probe: Probe) -> Outline:
    """The image tower of a CLIP backbone."""
    if hasattr(clip, "outline"):
        with without_warnings():
            module, transform = clip.outline()
    else:
        built = clip.image_tower()
        module, transform = built.module, built.transform
    return _make_outline(module, transform, probe, [], name=clip.name)


def _make_outline(
    module: nn.Module,
    transform: "Callable[[Image], Tensor]",
    probe: Probe,
    layers: list[Layer],
    *,
    name: str,
) -> Outline:
    inputs = _make_inputs(transform, probe, BATCH, module)
    forward: Callable[[Tensor], object] = getattr(module, "encode_image", module)
    if layers:
        with pool_layers(module, layers, name=name) as forward:
            largest, shape = outline_forward(forward, inputs)
    else:
        largest, shape = outline_forward(forward, inputs)
    width = shape[-1] if shape else 0
    weights = sum(value.nbytes for value in module.state_dict().values() if isinstance(value, Tensor))
    return Outline(module, transform, largest, weights, width)


def _make_inputs(transform: "Callable[[Image], Tensor]", probe: Probe, count: int, module: nn.Module) -> Tensor:
    """A batch of the size that the transform gives, on the device of the network."""
    image = transform(probe[0])
    return image.new_empty((count, *image.shape), device=_pick_device(module)).zero_()


def _pick_device(module: nn.Module) -> torch.device:
    first = next(iter(module.state_dict().values()), None)
    return first.device if isinstance(first, Tensor) else torch.device("cpu")


def outline_forward(forward: Callable[[Tensor], object], inputs: Tensor) -> tuple[int, tuple[int, ...]]:
    """Bytes of the largest tensor that a forward pass gives, and the shape of its output, `()` unless one tensor.

    Tensors on torch's `meta` device have no numbers: nothing is computed.
    """
    sizes = _OutputSizes()
    with torch.inference_mode(), sizes:
        output = forward(inputs)
    return sizes.largest, tuple(output.shape) if isinstance(output, Tensor) else ()


class _OutputSizes(TorchDispatchMode):
    """Notes the bytes of the largest tensor that an operation gives; a view takes none of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if not getattr(func, "is_view", False):
            parts = output if isinstance(output, list | tuple) else [output]
            self.largest = max(self.largest, *(part.nbytes for part in parts if isinstance(part, Tensor)), 0)
        return output


@contextmanager
def without_warnings() -> Iterator[None]:
    """Without the libraries' warnings that weights are random: there are none."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
