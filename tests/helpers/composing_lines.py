"""Command lines composed and checked as a run would, without building anything."""

import inspect

from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from cd_exp.config import GROUPS, OF_EVERY, OF_THE_RUN, offered_targets, resolve_target, setting_types
from cd_exp.config.compose import check_jobs, compose_config, make_composer, parse_arguments
from cd_exp.config.construct import check_groups
from cd_exp.config.validate import check_values


def composes(*words: str) -> None:
    """Compose and check a run, or every job of a sweep.

    Raises:
        InputError: what a run would be refused for before anything is built.
    """
    flags, _ = parse_arguments(words)
    try:
        mode = RunMode.MULTIRUN if flags.multirun else RunMode.RUN
        hydra = make_composer(flags)
        config = compose_config(hydra, "config", flags.overrides, mode)
        if flags.multirun:
            check_jobs(hydra, "config", config)
        else:
            check_values(config)
            check_groups(config)
    finally:
        GlobalHydra.instance().clear()


def known_settings() -> set[str]:
    """Every setting there is: of the schema, of every choice, and of each constructor."""
    names = {*setting_types(), *(f"{group}.{key}" for group, keys in OF_EVERY.items() for key in keys)}
    names |= {f"{group}.{key}" for group, keys in OF_THE_RUN.items() for key in keys}
    for group in GROUPS:
        for name in offered_targets()[group]:
            parameters = inspect.signature(resolve_target(name, group=group, where=group)).parameters
            names |= {f"{group}.{key}" for key in parameters}
    return names
