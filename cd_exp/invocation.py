"""How a run was asked for: what Hydra knows of it, read once at the top and handed down as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Invocation:
    """The choices and overrides of a run, and the sweep it belongs to.

    Attributes:
        choices: the choice of each configuration group, as in `{"model": "resnet50"}`.
        overrides: what was typed.
        axes: what a sweep varies, with the value of this job.
        sweep: the name of the sweep's folder; None for a run of its own.
    """

    choices: Mapping[str, str] = field(default_factory=dict)
    overrides: Sequence[str] = ()
    axes: Mapping[str, str] = field(default_factory=dict)
    sweep: str | None = None

    @property
    def name(self) -> str:
        """What a reader of many runs calls this one: what the sweep varies, or else what was chosen."""
        if self.axes:
            return " ".join(f"{key}={value}" for key, value in self.axes.items())
        return "-".join(self.choices[group] for group in ("model", "probe", "clip", "similarity"))
