"""Error messages that name settings of the command line, reworded to name arguments of `dissect`."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from cd_exp.errors import InputError

SAID = (
    (r", or set model\.(?:hidden_truth\.\S+|class_names)=null", ""),
    (r"give one line a unit, a blank one where", "give one name a unit, an empty text where"),
    (r"\(model\.final or model\.hidden_truth\)", "(truth)"),
    (r"\bmodel\.hidden_truth\.([\w.]+)", r'truth["\1"]'),
    (r"\bmodel\.class_names\b", "truth"),
    (r"\bmodel\.(layers|units_axis|prefix_tokens)\b", r"\1"),
    (r"\bmodel\.factory\b", "net"),
    (r"\b(?:set )?probe\.on_error=skip\b", 'set settings=Settings(on_error="skip")'),
    (r"\bprobe\.(?:root|path|factory)\b", "images"),
    (r"\bconcepts\.(?:path|names|factory)\b", "words"),
    (r"\bsimilarity\.function\b", "similarity"),
    (
        r"\bclip\.(\w+) must be set: add clip\.\w+=VALUE",
        r"this clip needs \1: give a recipe of cd_exp.clips with \1=...",
    ),
    (r"\bfeatures\.keep=(\w+)", r'settings=Settings(keep="\1")'),
    (r"\bset device=cpu\b", 'set settings=Settings(device="cpu")'),
    (r"\bstability\.(resamples)\b", r"\1"),
    (r"\bsimilarity=(\w+)", r'similarity="\1"'),
)
"""Pairs of a form and what stands for it; the first ones first."""


def in_words_of_arguments(said: str) -> str:
    """The message with each setting replaced by the argument that stands for it.

    >>> in_words_of_arguments("mend or remove them, or set probe.on_error=skip")
    'mend or remove them, or set settings=Settings(on_error="skip")'
    """
    for form, instead in SAID:
        said = re.sub(form, instead, said)
    return said


@contextmanager
def of_arguments() -> Iterator[None]:
    """Within the block, an `InputError` names arguments in place of settings."""
    try:
        yield
    except InputError as error:
        said = in_words_of_arguments(str(error))
        if said == str(error):
            raise
        raise type(error)(said) from error
