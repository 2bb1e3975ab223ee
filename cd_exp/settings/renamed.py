"""Settings and choices that have other names now, and those that are gone: what to write instead."""

from collections.abc import Mapping

SETTINGS: Mapping[str, str] = {
    "features.on_error": "it is called probe.on_error",
}
"""Since 0.2.0."""

CHOICES: Mapping[str, str] = {
    "similarity=soft_wpmi_calibrated": "it was removed in 0.2.0; use similarity=soft_wpmi with similarity.scale",
    "similarity=soft_wpmi_image_prior": "it was removed in 0.2.0; use similarity=soft_wpmi",
}


def renamed(name: str) -> str | None:
    """What became of a setting (`features.on_error`) or choice (`similarity=NAME`); None where nothing is known."""
    return SETTINGS.get(name) or CHOICES.get(name)
