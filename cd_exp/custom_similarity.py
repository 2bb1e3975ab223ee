"""A similarity function of the user's own."""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cd_exp.errors import InputError
from cd_exp.similarity.match import shape
from cd_exp.types import Similarity
from cd_exp.user_code import check_options, load


def custom(*, function: str, options: Mapping[str, Any] | None = None) -> Similarity:
    """The function itself, with its options bound: `(match, neurons, **options) -> neurons x concepts`.

    `match` has the embeddings, `match.images @ match.texts.T` is the match of every image and concept. A layer too
    large for one piece is scored some units at a time: a unit's scores must not depend on the other units, unless the
    function takes a `prior`, as `cd_exp.similarity.soft_wpmi` does.

    Args:
        function: `FILE.py:name` or `package.module:name`.
        options: keywords.

    Raises:
        InputError: there is no such function, it takes no such option, or returns something else.
    """
    own, bound = load(function, setting="similarity.function"), dict(options or {})
    positional = list(inspect.signature(own.function).parameters)[:2]
    check_options(functools.partial(own.function, *[None] * len(positional)), bound, setting=own.setting)
    if len(positional) < 2:
        raise InputError(f"similarity.function={function} takes {len(positional)} arguments, expected (match, neurons)")

    @functools.wraps(own.function)
    def scored(match: Any, neurons: Any, **settings: Any) -> Tensor:
        scores = own.function(match, neurons, **settings)
        wanted = (neurons.shape[1], shape(match)[1])
        came = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        if came != wanted:
            raise InputError(
                f"similarity.function={function} returned {came}, expected a tensor of neurons x concepts, {wanted}"
            )
        return scores.float()

    return functools.partial(scored, **bound)
