"""What another method is: a function from what a run has to labels of the same units."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from cd_exp.dissection import RunData
from cd_exp.records import Labels, Probe


@dataclass(frozen=True, eq=False)
class MethodResult:
    """The labels of a method by layer, with the files it wants beside them (name in the run folder -> content)."""

    labels: Mapping[str, Labels]
    files: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Method(ABC):
    """A method labels by itself: `method(run)` gives `{layer: Labels}`, or `MethodResult` where it has files or
    notes.
    """

    @property
    def uses_clip(self) -> bool:
        """Whether it asks the run's own backbone what is in an image, which a judge of the same backbone marks."""
        return False

    @property
    def reads_activations(self) -> bool:
        """Whether it reads every activation, so that each unit's strongest images alone are not enough."""
        return False

    def check(self, probe: Probe) -> None:  # noqa: B027  refuses nothing by default
        """Raise InputError for a probe set that the method cannot use, before anything is computed."""

    @abstractmethod
    def __call__(self, run: RunData) -> "Mapping[str, Labels] | MethodResult":
        """The labels of the run's layers, from what the run has."""


def run_method(method: Method, run: RunData) -> MethodResult:
    """What a method gives, in one form."""
    result = method(run)
    return result if isinstance(result, MethodResult) else MethodResult(result)
