"""`judge=custom`: a judge from the user's own code."""

from collections.abc import Mapping
from typing import Any

from cd_exp.errors import InputError
from cd_exp.evaluation.judges.base import Judge
from cd_exp.plugins import load_function


def custom(*, factory: str, options: Mapping[str, Any] | None = None) -> Judge:
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
    return made
