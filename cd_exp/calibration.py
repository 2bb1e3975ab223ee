"""How likely a label is right: constants that turn stability and margin into a probability, and their fit.

All constants of the package stand here, each for one similarity function at its default settings. They were fitted on
the even units of the final layer of ResNet-18 (ImageNet) on 904 photographs with the 1,000 class names, and checked on
what they were not fitted on: docs/belief.md. Hidden layers are an extrapolation.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from cd_exp.errors import InputError, unknown_name_error
from cd_exp.similarity.registry import bind

Shares = Float[np.ndarray, " units"]

SMALL = 0.05
"""Added to a margin before its logarithm: margins of 0 are common where scores tie."""


@dataclass(frozen=True)
class Belief:
    """Constants of `p_right`."""

    intercept: float
    stability: float
    log_margin: float


@dataclass(frozen=True)
class BackOff:
    """Constants of general labels.

    Attributes:
        scale: of the softmax over scores.
        masses: by wanted share right, the mass that a node must reach.
        intercept, slope: the share right is 1 / (1 + exp(-(intercept + slope log(mass / (1 - mass))))).
    """

    scale: float
    masses: Mapping[float, float]
    intercept: float
    slope: float

    def mass(self, precision: float) -> float:
        """The mass for a wanted share right, linear between those that were fitted."""
        return float(np.interp(precision, list(self.masses), list(self.masses.values())))


@dataclass(frozen=True)
class Constants:
    """Those of one similarity function at its default settings."""

    belief: Belief
    back_off: BackOff


CONSTANTS: Mapping[str, Constants] = {
    "whitened_wpmi, prior_weight 0.85": Constants(
        Belief(-0.518, 2.757, 0.832), BackOff(2.5, {0.7: 0.48, 0.8: 0.57, 0.9: 0.77, 0.95: 0.87}, 0.036, 0.796)
    ),
    "whitened_wpmi, prior_weight 0.4": Constants(
        Belief(-0.700, 2.473, 0.747), BackOff(2.0, {0.7: 0.51, 0.8: 0.61, 0.9: 0.79, 0.95: 0.92}, 0.136, 0.681)
    ),
    "whitened_wpmi, prior_weight 0": Constants(
        Belief(-1.032, 2.252, 0.528), BackOff(1.5, {0.7: 0.55, 0.8: 0.63, 0.9: 0.83, 0.95: 0.94}, 0.273, 0.616)
    ),
    "soft_wpmi": Constants(
        Belief(-1.618, 1.531, 0.292), BackOff(4.0, {0.7: 0.51, 0.8: 0.60, 0.9: 0.73, 0.95: 0.87}, 0.289, 0.920)
    ),
    "wpmi": Constants(
        Belief(-1.898, 0.929, 0.237), BackOff(4.0, {0.7: 0.50, 0.8: 0.59, 0.9: 0.72, 0.95: 0.82}, 0.025, 1.347)
    ),
}

RUN_SPECIFIC = ("names", "seed", "prior", "layers", "images")
"""Settings that do not change what a function is."""


def identity_of(function: Callable[..., Any]) -> tuple[str, dict[str, Any]]:
    """The name of a similarity function and the settings it is called with."""
    similarity = bind(function)
    return similarity.name, {name: value for name, value in similarity.settings.items() if name not in RUN_SPECIFIC}


def constants_of(function: Callable[..., Any]) -> Constants | None:
    """The package's constants for a function with its settings; None where these are not the default ones.

    >>> from cd_exp.similarity import cos, soft_wpmi
    >>> constants_of(soft_wpmi).back_off.scale, constants_of(bind(soft_wpmi, scale=30)), constants_of(cos)
    (4.0, None, None)
    """
    name, bound = identity_of(function)
    usual = bind(function).defaults
    changed = {key for key in bound if bound[key] != usual.get(key)}
    if name == "whitened_wpmi":
        changed -= {"prior_weight"}
        name = f"whitened_wpmi, prior_weight {bound['prior_weight']}".removesuffix(".0")
    return None if changed else CONSTANTS.get(name)


def has_back_off(function: Callable[..., Any]) -> bool:
    """Whether general labels can be given for a function; one that chooses its prior has constants for each."""
    choice = bind(function).settings.get("prior_weight") == "auto"
    return constants_of(bind(function, prior_weight=0.85) if choice else function) is not None


def p_right(stability: Shares, margin: Shares, belief: Belief) -> Shares:
    """The probability that each label is right.

    p = 1 / (1 + exp(-(intercept + a stability + b log(margin + 0.05))))

    It assumes that right and wrong labels differ in stability and margin as they did where the constants were fitted.
    It fails where words are no names of what units do: a label can be stable, clear and wrong.

    Args:
        stability: share of bootstrap resamples that give the label.
        margin: best score less second-best.
        belief: the constants.

    >>> p_right(np.array([1.0, 0.1]), np.array([2.0, 0.0]), Belief(-0.5, 2.8, 0.8)).round(2).tolist()
    [0.95, 0.07]
    """
    margins = np.log(np.maximum(margin, 0) + SMALL)
    return logistic(belief.intercept + belief.stability * stability + belief.log_margin * margins)


def general_p(mass: Shares, constants: BackOff) -> Shares:
    """The share right of general labels that reach a mass.

    >>> general_p(np.array([0.5, 0.77, 1.0]), CONSTANTS["soft_wpmi"].back_off).round(2).tolist()
    [0.57, 0.8, 1.0]
    """
    held = np.clip(mass, 1e-6, 1 - 1e-6)
    return logistic(constants.intercept + constants.slope * np.log(held / (1 - held)))


def logistic(values: Shares) -> Shares:
    """1 / (1 + exp(-x)).

    >>> logistic(np.array([0.0, 2.0])).round(3).tolist()
    [0.5, 0.881]
    """
    return 1 / (1 + np.exp(-values))


def fit(stability: Shares, margin: Shares, right: Bool[np.ndarray, " units"]) -> Belief:
    """The constants under which what came out is likeliest (logistic regression, Newton's steps).

    A ridge of 1e-3 keeps them finite where stability and margin tell right from wrong without a fault.

    Raises:
        InputError: fewer than 20 units, or all right, or all wrong.

    >>> rng = np.random.default_rng(0)
    >>> stability, margin = rng.random(4000), rng.random(4000)
    >>> true = Belief(-1.0, 2.0, 0.5)
    >>> fitted = fit(stability, margin, rng.random(4000) < p_right(stability, margin, true))
    >>> from dataclasses import astuple
    >>> bool(np.allclose(astuple(fitted)[:3], astuple(true)[:3], atol=0.2))
    True
    """
    if len(right) < 20 or right.all() or not right.any():
        raise InputError(
            f"{len(right)} units with a truth, {int(right.sum())} of them right, tell nothing of probabilities; give a "
            "layer with at least 20, some right and some wrong"
        )
    rows = np.stack([np.ones(len(right)), stability, np.log(np.maximum(margin, 0) + SMALL)], axis=1)
    coefficients = np.zeros(3)
    for _ in range(100):
        shares = logistic(rows @ coefficients)
        curvature = rows.T @ (rows * (shares * (1 - shares))[:, None]) + 1e-3 * np.eye(3)
        step = np.linalg.solve(curvature, rows.T @ (right - shares) - 1e-3 * coefficients)
        coefficients += np.clip(step, -5, 5)
        if np.abs(step).max() < 1e-9:
            break
    return Belief(*(float(value) for value in coefficients))


def calibration_error(shares: Shares, right: Bool[np.ndarray, " units"], *, bins: int = 10) -> float:
    """Mean distance of stated probability and share right over bins of equal width, weighted by their units.

    >>> calibration_error(np.array([0.9, 0.9, 0.1, 0.1]), np.array([True, False, False, False]))
    0.25
    """
    at = np.minimum((shares * bins).astype(int), bins - 1)
    count = np.bincount(at, minlength=bins)
    distance = np.abs(np.bincount(at, shares, bins) - np.bincount(at, right, bins))
    return float(distance.sum() / max(1, count.sum()))


def error_of_perfect(shares: Shares, *, bins: int = 10, draws: int = 200, seed: int = 0) -> float:
    """The calibration error of faultless probabilities on so few units: the mean over right labels drawn by them."""
    rng = np.random.default_rng(seed)
    errors = [calibration_error(shares, rng.random(len(shares)) < shares, bins=bins) for _ in range(draws)]
    return float(np.mean(errors))


@dataclass(frozen=True)
class Fitted:
    """Constants of a user's own (`calibration.path`), for one function with its settings."""

    function: str
    settings: Mapping[str, Any]
    belief: Belief

    @staticmethod
    def read(path: str) -> "Fitted":
        """The file that `python -m cd_exp.calibrate` wrote.

        Raises:
            InputError: it cannot be read, or was not written so.
        """
        way = "give the file that python -m cd_exp.calibrate wrote"
        try:
            held = json.loads(Path(path).expanduser().read_text(encoding="utf-8-sig"))
            for name, value in held["p_right"].items():
                if type(value) not in (int, float) or not math.isfinite(value):
                    raise ValueError(f"{name} is {value!r}, no finite number")
            for name, kind in (("similarity", str), ("settings", dict)):
                if not isinstance(held[name], kind):
                    raise ValueError(f"{name} is {held[name]!r}, of type {type(held[name]).__name__}")
            return Fitted(held["similarity"], held["settings"], Belief(**held["p_right"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"calibration.path={path} cannot be read as constants ({error}); {way}") from error

    def check(self, function: Callable[..., Any]) -> None:
        """Refuse another function than the one it was fitted for, or one with other settings."""
        name, bound = identity_of(function)
        if name != self.function:
            raise unknown_name_error("similarity", name, [self.function], where="what calibration.path was fitted for")
        for key, value in self.settings.items():
            if key not in bound:
                raise unknown_name_error(f"{name}'s setting", key, bound, where="which calibration.path was fitted for")
            chosen = key == "prior_weight" and bound[key] == "auto" and type(value) in (int, float)  # of each layer
            if not chosen and (bound[key] != value or isinstance(bound[key], bool) != isinstance(value, bool)):
                raise InputError(
                    f"calibration.path was fitted for similarity.{key}={value} and the run has {bound[key]}; fit it "
                    "again on a run with these settings"
                )
        if "prior_weight" in bound and "prior_weight" not in self.settings:
            raise InputError("calibration.path does not say for which prior_weight it was fitted; fit it again")

    def of(self, function: Callable[..., Any]) -> Belief | None:
        """Its constants where a layer was scored with its prior, which a function may choose a layer at a time."""
        same = bind(function).settings.get("prior_weight") == self.settings.get("prior_weight")
        return self.belief if same else None


def belief_of(function: Callable[..., Any], fitted: Fitted | None) -> Belief | None:
    """The constants for a layer: the user's own, else the package's; None where there are none."""
    own = fitted.of(function) if fitted else None
    constants = constants_of(function)
    return own or (constants.belief if constants else None)
