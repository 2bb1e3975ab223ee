"""Two methods on the same units: is one better, and how often do they say the same?"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from cd_exp.metrics.differences import holm
from cd_exp.metrics.figures import FIGURES, Figure, units_of, values_of
from cd_exp.metrics.names import Naming, same
from cd_exp.records import Judgement, Labels


def compare_methods(
    a: Judgement, b: Judgement, *, seed: int = 0, resamples: int = 9999, figures: Sequence[Figure] = FIGURES
) -> dict[str, Any]:
    """The difference a - b of every figure that has a test and both methods have, on the units in common.

    Ranks are compared only where both methods chose among as many concepts.

    Returns:
        For each such figure `KEY_difference`, `KEY_difference_ci95`, `KEY_p`, two-sided, and `KEY_n`, the units in
        common; `judged`, how many units both are judged on, where both are.

    >>> def right_on(*units):
    ...     return Judgement(units=np.arange(8), top1=np.isin(np.arange(8), units))
    >>> found = compare_methods(right_on(0, 1, 2, 3, 4, 5), right_on(0))
    >>> found["judged"], found["top1_difference"], round(found["top1_p"], 4)
    (8, 62.5, 0.0312)
    """
    found: dict[str, Any] = {}
    if a.units is not None and b.units is not None:
        found["judged"] = len(_common(a.units, b.units)[0])
    for figure in figures:
        if figure.test is not None and (a.candidates == b.candidates or not figure.compare_candidates):
            found |= _difference(figure, a, b, seed=seed, resamples=resamples)
    return found


def _difference(figure: Figure, a: Judgement, b: Judgement, *, seed: int, resamples: int) -> dict[str, Any]:
    left, right = values_of(figure, a), values_of(figure, b)
    if figure.test is None or left is None or right is None:
        return {}
    in_a, in_b = _common(units_of(figure, a), units_of(figure, b))
    if not len(in_a):
        return {}
    found = figure.test.of(left[0][in_a], right[0][in_b], seed=seed, resamples=resamples)
    interval = {f"{figure.key}_difference_ci95": list(found.interval)} if found.interval else {}
    return {
        f"{figure.key}_difference": found.value,
        **interval,
        f"{figure.key}_p": found.p,
        f"{figure.key}_n": len(in_a),
    }


def adjusted(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a table of comparisons with `KEY_p_adjusted` beside each `KEY_p`: Holm's over all these tests.

    >>> adjusted([{"layer": "fc", "top1_p": 0.01}, {"layer": "layer4", "top1_p": 0.04}])[0]
    {'layer': 'fc', 'top1_p': 0.01, 'top1_p_adjusted': 0.02}
    """
    tests = [(number, key) for number, row in enumerate(rows) for key in row if key.endswith("_p")]
    found = [dict(row) for row in rows]
    for (number, key), p in zip(tests, holm([rows[number][key] for number, key in tests]), strict=True):
        found[number][f"{key}_adjusted"] = p
    return found


def agreement(a: Labels, b: Labels) -> float | None:
    """The share, in per cent, of the units both methods list on which they give the same name by the documented rule.

    A unit that either leaves unlabelled counts as disagreement. None where they list no unit in common.

    >>> def labels(*names):
    ...     return Labels("fc", np.arange(len(names)), tuple((name,) for name in names), np.zeros(len(names)))
    >>> agreement(labels("red", "dog"), labels("Red", "cat"))
    50.0
    """
    in_a, in_b = _common(a.units, b.units)
    if not len(in_a):
        return None
    first, second = Naming.of(a.descriptions), Naming.of(b.descriptions)
    pairs = [(a.descriptions[i], b.descriptions[j]) for i, j in zip(in_a, in_b, strict=True)]
    alike = [bool(left and right) and same(left, right, first=first, second=second) for left, right in pairs]
    return 100 * float(np.mean(alike))


def _common(
    a: Int[np.ndarray, " units_a"], b: Int[np.ndarray, " units_b"]
) -> tuple[Int[np.ndarray, " common"], Int[np.ndarray, " common"]]:
    """The indices of the units in common, in each of the two."""
    _, in_a, in_b = np.intersect1d(a, b, assume_unique=True, return_indices=True)
    return in_a, in_b
