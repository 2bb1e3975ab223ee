"""Every setting: its type, its range and its meaning, declared once; what is checked and documented is read from here.

Importing this costs no torch: `--help` needs only the schema.
"""

from cd_exp.config.schema import GROUPS, OF_EVERY, OF_THE_RUN, Config, declared, directory, kinds, register
from cd_exp.config.types import Doc, OneOf, describe, fits, refusal
from cd_exp.config.validate import offered, target

__all__ = [
    "GROUPS",
    "OF_EVERY",
    "OF_THE_RUN",
    "Config",
    "Doc",
    "OneOf",
    "declared",
    "describe",
    "directory",
    "fits",
    "kinds",
    "offered",
    "refusal",
    "register",
    "target",
]
