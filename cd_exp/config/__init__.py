"""Every setting: its type, its range and its meaning, declared once; what is checked and documented is read from here.

Importing this costs no torch: `--help` needs only the schema.
"""

from cd_exp.config.schema import (
    GROUPS,
    OF_EVERY,
    OF_THE_RUN,
    Config,
    config_folder,
    declared_type,
    register_schema,
    setting_types,
)
from cd_exp.config.types import Doc, OneOf, describe_type, matches_type, refuse_value
from cd_exp.config.validate import offered_targets, resolve_target

__all__ = [
    "GROUPS",
    "OF_EVERY",
    "OF_THE_RUN",
    "Config",
    "Doc",
    "OneOf",
    "config_folder",
    "declared_type",
    "describe_type",
    "matches_type",
    "offered_targets",
    "refuse_value",
    "register_schema",
    "resolve_target",
    "setting_types",
]
