"""What every target model is: a network with its transform, class names, and what is known of its units."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor, nn

from cd_exp.concepts import imagenet
from cd_exp.errors import InputError
from cd_exp.io.text import read_list
from cd_exp.metrics.name_matching import read_places_classes
from cd_exp.records import Accepted

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class Network:
    """A target network ready to run, with the transform its weights were trained with.

    `prefix_tokens` is the setting, None where the network is to say itself; `collect_notes` are for a reader of the
    results.
    """

    module: nn.Module
    transform: "Callable[[Image], Tensor]"
    prefix_tokens: int | None = None
    notes: tuple[str, ...] = ()


@runtime_checkable
class TargetModel(Protocol):
    """A recipe for a target network: a timm architecture, or a function in a user's own file."""

    name: str
    layers: Sequence[str]
    final: str | None
    units_axis: int | None
    prefix_tokens: int | None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The class names, in the order of the final layer's units."""

    @property
    def truth(self) -> Mapping[str, tuple[Accepted, ...]]:
        """The accepted names of each unit, for every layer where they are known."""

    @property
    def key(self) -> Mapping[str, Any]:
        """All that changes what the network computes, as plain JSON values."""

    @property
    def own_code(self) -> bool:
        """Whether the network comes from code that no key can cover, so that its outputs have to be compared."""

    def build(self) -> Network:
        """The network in evaluation mode, on the CPU in float32."""


@dataclass(frozen=True)
class Recipe:
    """What all recipes share: names, layers, classes and truth."""

    name: str
    layers: Sequence[str]
    final: str | None = None
    weights: str | None = None
    class_names: str | Sequence[str] | None = None
    hidden_truth: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    prefix_tokens: int | None = None
    units_axis: int | None = None
    checkpoint_key: str | None = None
    checkpoint_prefix: str | None = None

    @property
    def own_code(self) -> bool:
        """Whether the network comes from code that no key can cover, so that its outputs have to be compared."""
        return False

    @cached_property
    def classes(self) -> tuple[str, ...] | None:
        """The class names, in the order of the final layer's units."""
        return read_names(self.class_names) if self.class_names is not None else None

    @cached_property
    def truth(self) -> Mapping[str, tuple[Accepted, ...]]:
        """The accepted names of each unit of the final layer, and of the hidden layers where they were given."""
        known = {
            layer: read_names(names, setting=f"model.hidden_truth.{layer}")
            for layer, names in self.hidden_truth.items()
        }
        if self.final and self.classes:
            known[self.final] = self.classes
        return {layer: tuple((name,) if name else None for name in names) for layer, names in known.items()}


def find_truth(model: TargetModel, layer: str, *, units: int) -> tuple[Accepted, ...]:
    """The accepted names of each unit of a layer, empty where the layer's truth is unknown.

    Args:
        model: the target network's recipe.
        layer: as a run reports it; a pooling in its name does not matter.
        units: how many units the layer has.

    Raises:
        InputError: there is not one line a unit.
    """
    plain = layer.partition(":")[0]
    names = model.truth.get(plain, ())
    if names and not any(names[units:]):
        names = names[:units]  # blank lines at the end of a file
    if names and len(names) != units:
        setting = "model.class_names" if plain == model.final else f"model.hidden_truth.{plain}"
        raise InputError(
            f"{setting} has {len(names)} names and layer {plain!r} of {model.name} has {units} units; give one line a "
            f"unit, a blank one where nothing is known, or set {setting}=null"
        )
    return names


def read_names(names: str | Sequence[str], *, setting: str = "model.class_names") -> tuple[str, ...]:
    """Names of units from a list, a file (one a line, or the lines of `categories_places365.txt`), or `imagenet`.

    A blank line is a unit of which nothing is known. `imagenet` gives the lines of synonyms that the paper used.
    """
    if not isinstance(names, str):
        return tuple(name.strip() for name in names)
    if names == "imagenet":
        return imagenet.published_names()
    lines = read_list(names, setting=setting)
    return _place_names(lines) if any(lines) and all(line.startswith("/") for line in lines if line) else tuple(lines)


def _place_names(lines: Sequence[str]) -> tuple[str, ...]:
    """The names of a Places365 list in the order of its numbers; a number without a line stays blank."""
    numbers = [line.rpartition(" ")[2] for line in lines if line]
    if not all(number.isdecimal() for number in numbers):
        return tuple(read_places_classes([line])[0] if line else "" for line in lines)
    by_number = {
        int(number): name for number, name in zip(sorted(numbers, key=int), read_places_classes(lines), strict=True)
    }
    return tuple(by_number.get(number, "") for number in range(max(by_number) + 1))
