"""Marks of units whose label means little, and the notes about them."""

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Bool, Float

from cd_exp.records import Labels

ALWAYS = 0.8
"""A unit that fires on more than this share of the images is always on."""

ROUNDING = 1e-4
"""A score this near to the ceiling has reached it: the published arithmetic is no more exact than that."""


def always_on(
    firing: Float[np.ndarray, " neurons"], least: Float[np.ndarray, " neurons"]
) -> Bool[np.ndarray, " neurons"]:
    """Units that fire (activation above 0) on more than 80 % of the images, in a layer where not firing is normal.

    Firing means something after a ReLU, for latents and the like: where no activation is negative. And where most units
    fire on nearly every image, as means of maps do, firing says nothing of a unit: then none is marked.

    Args:
        firing: the share of images on which each unit is above 0.
        least: the least activation of each unit.

    >>> always_on(np.array([0.9, 0.1, 0.2]), np.zeros(3)).tolist()
    [True, False, False]
    >>> always_on(np.array([0.9, 0.1, 0.2]), np.array([0, 0, -1.0])).tolist()
    [False, False, False]
    """
    sparse = bool((least >= 0).all()) and float(np.median(firing)) <= ALWAYS
    return (firing > ALWAYS) & sparse


def marks(
    *,
    dead: Bool[np.ndarray, " neurons"],
    always: Bool[np.ndarray, " neurons"],
    second: Float[np.ndarray, " neurons"],
    ceiling: float | None,
) -> tuple[frozenset[str], ...]:
    """The marks of each unit of a layer.

    Args:
        dead: gives the same value for every image.
        always: as `always_on`.
        second: the score of the concept after its label.
        ceiling: what no score of the function exceeds in this layer, where there is such a number: where even the
            second concept reaches it, the scores do not tell which one is the label.
    """
    one = np.full(len(dead), len(dead) == 1)
    high = np.zeros(len(dead), dtype=bool)
    if ceiling is not None and len(dead) > 1:
        high = second >= ceiling - ROUNDING
    flags = {"dead": dead, "always_on": always, "one_unit": one, "ceiling": high}
    return tuple(frozenset(name for name, flag in flags.items() if flag[unit]) for unit in range(len(dead)))


SAYS = {
    "dead": "{n} of {units} units of {layer} give the same value for every image",
    "always_on": "{n} of {units} units of {layer} fire on more than 80 % of the images",
    "one_unit": "{layer} has one unit: its scores against the prior of its layer say nothing, its label is the concept "
    "that fits its images best",
    "ceiling": "{n} of {units} units of {layer} have several concepts at the highest score there is, log(units): the "
    "likeliest of them is the label; a smaller similarity.prior_weight tells them apart",
}


def notes(labels: Mapping[str, Labels]) -> Iterator[str]:
    """A sentence for each layer and mark that some of its units have."""
    for layer, found in labels.items():
        for mark, text in SAYS.items():
            count = sum(mark in unit for unit in found.marks)
            if count:
                yield text.format(n=count, units=len(found.units), layer=layer)


def few_units(units: Mapping[str, int], least: int) -> Iterator[str]:
    """A sentence for each layer of fewer units than the similarity function declares that it needs.

    >>> list(few_units({"fc": 10, "layer4": 512}, 50))
    ['fc has 10 units, and this similarity function is unsure below 50: hold its labels against those of soft_wpmi']
    """
    for layer, count in units.items():
        if count < least:
            yield (
                f"{layer} has {count} units, and this similarity function is unsure below {least}: hold its labels "
                "against those of soft_wpmi"
            )
