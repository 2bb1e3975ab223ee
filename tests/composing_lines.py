"""Command lines composed and checked as a run would, without building anything."""

import inspect

from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from cd_exp import settings
from cd_exp.composing import arguments, check_jobs, composed, composer
from cd_exp.config import check_groups
from cd_exp.settings.checking import check_values


def composes(*words: str) -> None:
    """Compose and check a run, or every job of a sweep.

    Raises:
        InputError: what a run would be refused for before anything is built.
    """
    found, _ = arguments(words)
    try:
        mode = RunMode.MULTIRUN if found.multirun else RunMode.RUN
        hydra = composer(found)
        config = composed(hydra, "config", found.overrides, mode)
        if found.multirun:
            check_jobs(hydra, "config", config)
        else:
            check_values(config)
            check_groups(config)
    finally:
        GlobalHydra.instance().clear()


def known() -> set[str]:
    """Every setting there is: of the schema, of every choice, and of each constructor."""
    names = {*settings.kinds(), *(f"{group}.{key}" for group, keys in settings.OF_EVERY.items() for key in keys)}
    names |= {f"{group}.{key}" for group, keys in settings.OF_THE_RUN.items() for key in keys}
    for group in settings.GROUPS:
        for name in settings.offered()[group]:
            parameters = inspect.signature(settings.target(name, group=group, where=group)).parameters
            names |= {f"{group}.{key}" for key in parameters}
    return names
