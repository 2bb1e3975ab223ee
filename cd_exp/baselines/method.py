"""What another method is: a function from what a run has to labels of the same units."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from cd_exp.run_data import RunData
from cd_exp.types import Labels


@dataclass(frozen=True, eq=False)
class Labelled:
    """The labels of a method by layer, with the files it wants beside them (name in the run folder -> content)."""

    labels: Mapping[str, Labels]
    files: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@runtime_checkable
class Method(Protocol):
    """A method labels by itself: `method(run)` gives `{layer: Labels}`, or `Labelled` where it has files or notes."""

    def __call__(self, run: RunData) -> "Mapping[str, Labels] | Labelled":
        """The labels of the run's layers, from what the run has."""


def labelled(method: Method, run: RunData) -> Labelled:
    """What a method gives, in one form."""
    found = method(run)
    return found if isinstance(found, Labelled) else Labelled(found)
