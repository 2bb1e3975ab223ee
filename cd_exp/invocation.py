"""How a run was asked for: what Hydra knows of it, read once at the top and handed down as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Invocation:
    """The choices and overrides of a run, and the sweep it belongs to.

    Attributes:
        choices: the choice of each configuration group, as in `{"model": "resnet50"}`.
        overrides: what was typed.
        sweep: the name of the sweep's folder; None for a run of its own.
    """

    choices: Mapping[str, str] = field(default_factory=dict)
    overrides: Sequence[str] = ()
    sweep: str | None = None
