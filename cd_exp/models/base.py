"""What every recipe of a target model has: its names, layers, weights, classes and truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cd_exp.concepts import read_names
from cd_exp.errors import InputError
from cd_exp.io.text import read_list
from cd_exp.records import Accepted

if TYPE_CHECKING:
    pass


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
        """The accepted names of each unit of the final layer, and of the hidden layers that have names."""
        names_by_layer: dict[str, tuple[str, ...]] = {}
        for layer, names in self.hidden_truth.items():
            plain = layer.partition(":")[0]  # a pooling in the name of a layer does not matter
            if plain in names_by_layer or (plain == self.final and self.classes):
                other = "model.class_names names its units" if plain == self.final else "another entry names its units"
                raise InputError(f"model.hidden_truth.{layer}: {other} too; leave one of the two out")
            names_by_layer[plain] = read_names(names, setting=f"model.hidden_truth.{layer}")
        if self.final and self.classes:
            names_by_layer[self.final] = self.classes
        return {layer: tuple((name,) if name else None for name in names) for layer, names in names_by_layer.items()}

    @cached_property
    def list_notes(self) -> tuple[str, ...]:
        """What was taken off the lines of the files of names."""
        files = {"model.class_names": self.class_names}
        files |= {f"model.hidden_truth.{layer}": names for layer, names in self.hidden_truth.items()}
        read = ((names, setting) for setting, names in files.items() if isinstance(names, str) and names != "imagenet")
        return tuple(note for names, setting in read for note in read_list(names, setting=setting).notes)
