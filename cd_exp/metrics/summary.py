"""One layer's labels by one method, as the row that every table and `metrics.json` show."""

from collections.abc import Sequence
from typing import Any

from cd_exp.metrics.figures import FIGURES, Figure, values_of
from cd_exp.records import Judgement


def summarise(
    judgement: Judgement,
    *,
    total_units: int,
    seed: int = 0,
    resamples: int = 9999,
    figures: Sequence[Figure] = FIGURES,
) -> dict[str, Any]:
    """Every figure of `FIGURES` that applies to a layer, with its 95 % interval over units. What does not is absent.

    Args:
        judgement: of the layer.
        total_units: of the layer, judged or not.
        seed: of the bootstrap.
        resamples: of the bootstrap.
        figures: all that a run has, or others.

    Returns:
        `units` of the layer, then for each figure its `key` and `interval_key`: [low, high].

    >>> import numpy as np
    >>> judgement = Judgement(units=np.arange(4), top1=np.array([True, True, True, False]))
    >>> found = summarise(judgement, total_units=5)
    >>> found["units"], found["judged"], found["top1"], [round(end, 1) for end in found["ci95"]]
    (5, 4, 75.0, [19.4, 99.4])
    """
    found: dict[str, Any] = {"units": total_units}
    for figure in figures:
        values = values_of(figure, judgement)
        if values is None or not (len(values[0]) or figure.n == figure.key):
            continue
        number = figure.statistic.of(*values)
        if number is None:
            continue
        found[figure.key] = number
        bounds = figure.interval.of(*values, seed=seed, resamples=resamples) if figure.interval else None
        found |= {figure.interval_key: list(bounds)} if bounds else {}
    return found
