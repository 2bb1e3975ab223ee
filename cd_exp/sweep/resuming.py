"""A multirun that was stopped, or of which jobs failed, run to its end in the same folder."""

import json
from collections.abc import Iterable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from cd_exp.errors import InputError
from cd_exp.sweep.plan import Plan, planned
from cd_exp.sweep.reading import read

SET_BY_RESUME = ("hydra.mode", "hydra.sweep.dir")


def missing(folder: Path) -> list[list[str]]:
    """The overrides of the jobs that are missing or failed, each with the folder it belongs in.

    A job is known by its overrides. One that was begun and did not end well goes into its own folder again; one that
    was never begun into the folder of its number.
    """
    plan, jobs = planned(folder), read(folder).jobs
    begun = {_normal(job.overrides.items()): job for job in jobs}
    found = []
    for number, overrides in enumerate(plan.jobs):
        job = begun.get(_normal(text.lstrip("+~").partition("=")[::2] for text in overrides))
        if job is None or job.status != "ok":
            subfolder = str(number) if job is None else job.name
            found.append([*overrides, f"hydra.sweep.subdir='{subfolder}'"])
    return found


@contextmanager
def resumed(folder: Path) -> Iterator[list[str]]:
    """The arguments of a command that runs what is missing or failed with the launcher of the multirun.

    While the context lasts, Hydra's sweeper runs these jobs: the step in which it expands the axes is replaced, the
    rest is its own. The working directory is that of the multirun.

    Raises:
        InputError: the folder holds no multirun, or nothing is missing.
    """
    folder = folder.resolve()
    plan, jobs = planned(folder), missing(folder)
    if not jobs:
        raise InputError(f"all {len(plan.jobs)} jobs of {folder} are finished; nothing is left to run")
    from hydra.core.plugins import Plugins

    Plugins.instance()  # it loads the modules of plug-ins anew: the class to change is the one that is there afterwards
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    original = BasicSweeper.split_arguments
    BasicSweeper.split_arguments = staticmethod(lambda *_: [jobs])  # type: ignore[method-assign, assignment]
    try:
        with chdir(plan.folder):
            yield ["-m", *_arguments(plan), f"hydra.sweep.dir={folder}"]
    finally:
        BasicSweeper.split_arguments = original  # type: ignore[method-assign]


def _arguments(plan: Plan) -> Iterator[str]:
    for place in plan.config_dirs:
        yield from ("--config-dir", place)
    yield from plan.overrides
    yield from (text for text in plan.hydra if text.partition("=")[0] not in SET_BY_RESUME)


def _normal(overrides: Iterable[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """Overrides without their order, and with values as they are meant: Hydra writes one in more than one way."""
    read = OverridesParser.create()
    return frozenset((key, _meant(read, value)) for key, value in overrides)


def _meant(read: OverridesParser, text: str) -> str:
    try:
        return json.dumps(_plain(read.parse_override(f"value={text}").value()), sort_keys=True)
    except HydraException:  # of a record that was edited
        return text


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else str(value)
