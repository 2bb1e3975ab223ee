"""What another method is: a function from what a run has to labels of the same units; one from the user's own code."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cd_exp.dissection import RunData
from cd_exp.errors import InputError, unknown_name_error
from cd_exp.plugins import door, load_function
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


@dataclass(frozen=True, eq=False)
class CustomMethod(Method):
    """A method of the user's own; what it returns is checked."""

    name: str
    factory: str
    method: Callable[[RunData], Mapping[str, Labels] | MethodResult]

    @property
    def uses_clip(self) -> bool:
        """As the method says, where it is a `Method` and no plain function."""
        return isinstance(self.method, Method) and self.method.uses_clip

    @property
    def reads_activations(self) -> bool:
        """As the method says, where it is a `Method` and no plain function."""
        return isinstance(self.method, Method) and self.method.reads_activations

    def check(self, probe: Probe) -> None:
        """The method's own check, where it is a `Method` and no plain function."""
        if isinstance(self.method, Method):
            with door(f"baseline.factory={self.factory}: check failed", seeds=True):
                self.method.check(probe)

    def __call__(self, run: RunData) -> MethodResult:
        """The labels of the run's layers."""
        with door(f"baseline.factory={self.factory}: the method failed", seeds=True):
            made = self.method(run)
        by_layer = made.labels if isinstance(made, MethodResult) else made
        if not isinstance(by_layer, Mapping) or not all(isinstance(labels, Labels) for labels in by_layer.values()):
            raise InputError(
                f"baseline.factory={self.factory}: the method gave {type(made).__name__}, expected {{layer: Labels}} "
                "or MethodResult(labels, files, notes) of cd_exp.evaluation.baselines"
            )
        result = made if isinstance(made, MethodResult) else MethodResult(by_layer)
        for layer, labels in result.labels.items():
            if layer not in run.labels:
                raise unknown_name_error(
                    "layer", layer, run.labels, where=f"in this run (baseline.factory={self.factory})"
                )
            if len(labels.units) and int(labels.units.max()) >= len(run.labels[layer].units):
                raise InputError(
                    f"baseline.factory={self.factory} labels unit {int(labels.units.max())} of {layer}, which has "
                    f"{len(run.labels[layer].units)}"
                )
        return result


def custom(*, factory: str, options: Mapping[str, Any] | None = None, name: str = "custom") -> CustomMethod:
    """The method that a function of the user's own returns: `method(run)` gives `{layer: Labels}` or `MethodResult`.

    A subclass of `Method` may also say what it needs: `check`, `uses_clip`, `reads_activations`.

    Args:
        factory: `FILE.py:function` or `package.module:function`.
        options: its keywords.
        name: how the method is called in tables and files.

    Raises:
        InputError: there is no such function, or it returns no method.
    """
    method = load_function(factory, setting="baseline.factory")(options or {})
    if not callable(method):
        raise InputError(f"baseline.factory={factory} returned {type(method).__name__}, expected a method: method(run)")
    return CustomMethod(name, factory, method)
