"""What every judge is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from cd_exp.clips import Clip
from cd_exp.faithfulness.held_out import SHARE, Explained, HeldOut, Scores
from cd_exp.records import Probe


class Judge(ABC):
    """Scores labels on images that they were not chosen on.

    Attributes:
        held_out: the share of the images that labels are scored on.
    """

    held_out: float = SHARE

    def check(self, probe: Probe) -> None:  # noqa: B027  refuses nothing by default
        """Raise InputError for a probe set that the judge cannot judge on, before anything is computed."""

    def circular(self, clip: Clip) -> bool:
        """Whether the judge asks the very backbone that chose the labels."""
        del clip
        return False

    @abstractmethod
    def __call__(self, held: HeldOut, asked: Sequence[Explained]) -> list[Scores]:
        """The scores of every label, in the order asked; NaN where the judge cannot tell what a label means."""

    @abstractmethod
    def known(self, held: HeldOut, labels: Sequence[str]) -> Mapping[str, bool]:
        """Of each label whether the judge can tell what it means."""


def is_circular(judge: Judge, clip: Clip) -> bool:
    """Whether the judge asks the very backbone that chose the labels."""
    return judge.circular(clip)
