"""How an image becomes CLIP's input: as its weights were trained, which their tag says and their file does not."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from cd_exp.errors import InputError, unknown_name_error

CHOICES = {"interpolation": ("bicubic", "bilinear"), "resize_mode": ("shortest", "longest", "squash")}
SETTINGS = ("mean", "std", *CHOICES)


def drop_null_settings(preprocess: Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings without those that are null.

    Raises:
        InputError: an unknown setting, or a value that it cannot have.
    """
    chosen = {name: value for name, value in (preprocess or {}).items() if value is not None}
    for name, value in chosen.items():
        if name not in SETTINGS:
            raise unknown_name_error(
                "setting", f"clip.preprocess.{name}", [f"clip.preprocess.{setting}" for setting in SETTINGS]
            )
        if name in CHOICES:
            if value not in CHOICES[name]:
                raise unknown_name_error(name, str(value), CHOICES[name], where="one of clip.preprocess")
        elif not _is_three_numbers(value) or (name == "std" and min(value) <= 0):
            wanted = "three numbers above 0" if name == "std" else "three numbers"
            raise InputError(f"clip.preprocess.{name}={value} must be {wanted}, of red, green and blue from 0 to 1")
        else:
            chosen[name] = [float(number) for number in value]
    return chosen


def read_weights_preprocessing(architecture: str, tag: str | None) -> dict[str, Any]:
    """What open_clip knows of the tag; without one, what most tags of the architecture have.

    Empty where the architecture has no tag: open_clip's defaults, which are OpenAI's.
    """
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag is not None:
        return _read_tag_preprocessing(architecture, tag)
    counted = Counter(_freeze_lists(_read_tag_preprocessing(architecture, weights)) for weights in tags).most_common(2)
    if not counted or (len(counted) == 2 and counted[0][1] == counted[1][1]):
        return {}
    return dict(counted[0][0])


def as_open_clip_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings under the names of open_clip's constructors."""
    return {f"image_{name}": tuple(value) if name in ("mean", "std") else value for name, value in settings.items()}


def _read_tag_preprocessing(architecture: str, tag: str) -> dict[str, Any]:
    import open_clip

    return {name: open_clip.get_pretrained_cfg(architecture, tag)[name] for name in SETTINGS}


def _freeze_lists(settings: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((name, tuple(value) if name in ("mean", "std") else value) for name, value in settings.items())


def _is_three_numbers(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 3
        and all(
            isinstance(number, (int, float)) and not isinstance(number, bool) and number == number for number in value
        )
    )
