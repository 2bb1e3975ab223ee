"""What every judge is."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from cd_exp.clips import Clip
from cd_exp.faithfulness.held_out import Explained, HeldOut, Scores


@runtime_checkable
class Judge(Protocol):
    """Scores labels on images that they were not chosen on."""

    @property
    def held_out(self) -> float:
        """The share of the images that labels are scored on."""

    def __call__(self, held: HeldOut, asked: Sequence[Explained]) -> list[Scores]:
        """The scores of every label, in the order asked; NaN where the judge cannot tell what a label means."""

    def known(self, held: HeldOut, labels: Sequence[str]) -> Mapping[str, bool]:
        """Of each label whether the judge can tell what it means."""


def is_circular(judge: Judge, clip: Clip) -> bool:
    """Whether the judge asks the very backbone that chose the labels."""
    told = getattr(judge, "circular", None)
    return bool(told and told(clip))
