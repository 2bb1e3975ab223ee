"""Every setting: its type, its range and its meaning, declared once; what is checked and documented is read from here.

Importing this costs no torch: `--help` needs only the schema.
"""

from cd_exp.settings.groups import OF_EVERY, OF_THE_RUN, declared
from cd_exp.settings.offered import offered, target
from cd_exp.settings.schema import GROUPS, Config, directory, kinds, register
from cd_exp.settings.values import Doc, OneOf, describe, fits, refusal

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
