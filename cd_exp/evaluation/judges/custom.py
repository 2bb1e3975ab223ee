"""`judge=custom`: a judge from the user's own code, every call of it through the one door."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cd_exp.clips import Clip
from cd_exp.errors import InputError
from cd_exp.evaluation.judges.base import HeldOut, Judge, LabelsToScore, Scores
from cd_exp.plugins import door, load_function
from cd_exp.records import Probe


class CustomJudge(Judge):
    """A judge of the user's own; what it returns is checked."""

    def __init__(self, judge: Judge, source: str) -> None:
        self.judge, self.source = judge, source
        with door(f"{source}: its attributes failed"):
            self.held_out, self.untrained = judge.held_out, judge.untrained
            self.ranks_by, self.note = str(judge.ranks_by), str(judge.note)  # type: ignore[misc]  # a judge's own
        if isinstance(self.held_out, bool) or not isinstance(self.held_out, (int, float, np.floating)):
            raise InputError(f"{source}: held_out is {self.held_out!r}, expected the share of images, as in 0.2")

    def check(self, probe: Probe) -> None:
        """The judge's own check."""
        with door(f"{self.source}: check failed", seeds=True):
            self.judge.check(probe)

    def circular(self, clip: Clip) -> bool:
        """As the judge says."""
        with door(f"{self.source}: circular failed"):
            return bool(self.judge.circular(clip))

    def __call__(self, held: HeldOut, asked: Sequence[LabelsToScore]) -> list[Scores]:
        """The judge's scores, a number for each unit asked about."""
        with door(f"{self.source}: the judge failed", seeds=True):
            scores = self.judge(held, asked)
            listed = list(scores) if isinstance(scores, (list, tuple)) else None
        if listed is None or len(listed) != len(asked):
            came = type(scores).__name__ if listed is None else f"{len(listed)} scores"
            raise InputError(
                f"{self.source}: the judge gave {came}, expected a list of {len(asked)} mappings {{score: one number "
                "per unit}, one for each of the labels asked about"
            )
        return [_as_numbers(one, request, self.source) for one, request in zip(listed, asked, strict=True)]

    def known(self, held: HeldOut, labels: Sequence[str]) -> Mapping[str, bool]:
        """Of each label whether the judge can tell what it means."""
        with door(f"{self.source}: known failed", seeds=True):
            answers = self.judge.known(held, labels)
            mapping = dict(answers) if isinstance(answers, Mapping) else None
        missing = [label for label in labels if label not in mapping] if mapping is not None else []
        if mapping is None or missing:
            came = type(answers).__name__ if mapping is None else f"no answer for {missing[0]!r}"
            raise InputError(f"{self.source}: known gave {came}, expected {{label: True or False}} for every label")
        return {label: bool(mapping[label]) for label in labels}


def _as_numbers(scores: Any, request: LabelsToScore, source: str) -> Scores:
    """The scores of some units as arrays of numbers."""
    if not isinstance(scores, Mapping):
        raise InputError(
            f"{source}: the judge gave {type(scores).__name__} for {request.layer}, expected {{score: one number per "
            "unit}"
        )
    numbers = {}
    for name, values in scores.items():
        try:
            numbers[str(name)] = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"{source}: the judge's {name} of {request.layer} holds no numbers ({error})") from error
        if numbers[str(name)].shape != (len(request.units),):
            raise InputError(
                f"{source}: the judge's {name} of {request.layer} has the shape {numbers[str(name)].shape}, expected "
                f"one number for each of {len(request.units)} units, NaN where it cannot tell"
            )
    return numbers


def custom(*, factory: str, options: Mapping[str, Any] | None = None) -> CustomJudge:
    """The judge that a function of the user's own returns.

    Args:
        factory: `FILE.py:function` or `package.module:function`; it returns an object of a subclass of `Judge`.
        options: its keywords.

    Raises:
        InputError: there is no such function, or it returns something else.
    """
    made = load_function(factory, setting="judge.factory")(options or {})
    if not isinstance(made, Judge):
        raise InputError(
            f"judge.factory={factory} returned {type(made).__name__}, expected an object of a subclass of "
            "cd_exp.evaluation.judges.Judge: judge(held, asked) gives scores, judge.known(held, labels) what it "
            "can judge"
        )
    return CustomJudge(made, f"judge.factory={factory}")
