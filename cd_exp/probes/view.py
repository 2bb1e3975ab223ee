"""What can be asked of any probe set, in one place: a part of it, other pixels, a mirror of its archive."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from cd_exp import config
from cd_exp.errors import InputError, unknown
from cd_exp.probes.pictures import AS_PUBLISHED, Reading
from cd_exp.probes.subset import subset

SETTINGS = config.OF_EVERY["probe"]
"""Settings of every probe set, which no constructor repeats. One that takes a `seed` of its own keeps it."""

ORIENTATIONS = ("exif",)


def viewed(constructor: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """The probe set that a constructor makes of its own arguments, as the settings of every set want it.

    Args:
        constructor: of `cd_exp.probes`.
        arguments: its own, and any of SETTINGS: `limit` and `seed` take a part of the set, `range` and `orient` say how
            pictures become 8-bit RGB, `cache` is where digests of unchanged files are remembered, `url` and `checksum`
            are those of another copy of the archive it downloads.

    Raises:
        InputError: a setting that is of no use to this set, or out of range.
    """
    parameters = inspect.signature(constructor).parameters
    own = {key: value for key, value in arguments.items() if key not in SETTINGS or key in parameters}
    general = {key: arguments.get(key) for key in SETTINGS if key not in own}
    mirror = {key: general[key] for key in ("url", "checksum") if general.get(key)}
    if mirror:
        if "archive" not in parameters:
            key = next(iter(mirror))
            raise InputError(
                f"probe.{key} cannot be used with probe={constructor.__name__}, which downloads no archive"
            )
        own["archive"] = replace(parameters["archive"].default, **mirror)
    probe = read_as(constructor(**own), reading(general["range"], general["orient"]))
    if general.get("cache"):
        probe = _replaced(probe, "cache", general["cache"])
    return subset(probe, limit=general["limit"], seed=general.get("seed"))


def reading(values: Sequence[Any] | None, orient: str | None) -> Reading:
    """The settings `probe.range` and `probe.orient`, checked."""
    if orient is not None and orient not in ORIENTATIONS:
        raise unknown("probe.orient", orient, ORIENTATIONS, where="a way to turn pictures")
    if values is None:
        return Reading(None, orient)
    numbers = [float(value) for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(values) != 2 or len(numbers) != 2 or not -1e300 < numbers[0] < numbers[1] < 1e300:
        shown = ",".join(map(str, values))
        raise InputError(
            f"probe.range=[{shown}] must be two numbers, black and white: probe.range=[0,4095] for 12 bits"
        )
    return Reading((numbers[0], numbers[1]), orient)


def read_as(probe: Any, wanted: Reading) -> Any:
    """The same set with its pictures read in another way."""
    if wanted == AS_PUBLISHED:
        return probe
    changed = _replaced(probe, "reading", wanted)
    if changed is probe:
        raise InputError(f"probe.range and probe.orient need a set of picture files; {probe.name} has none")
    return changed


def _replaced(probe: Any, field: str, value: Any) -> Any:
    """The set with a field of its record changed, or of the sets that it is made of."""
    if not is_dataclass(probe) or isinstance(probe, type):
        return probe
    names = {known.name for known in fields(probe)}
    if field in names:
        return replace(probe, **{field: value})
    if "probe" in names:
        inner = _replaced(probe.probe, field, value)  # type: ignore[attr-defined]
        return probe if inner is probe.probe else replace(probe, probe=inner)  # type: ignore[attr-defined]
    if "probes" in names:
        several = tuple(_replaced(one, field, value) for one in probe.probes)  # type: ignore[attr-defined]
        same = all(a is b for a, b in zip(several, probe.probes, strict=True))  # type: ignore[attr-defined]
        return probe if same else replace(probe, probes=several)
    return probe
