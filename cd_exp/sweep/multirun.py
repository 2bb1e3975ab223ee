"""What a multirun was to run, and how it is run to its end in the same folder.

Hydra writes `multirun.yaml` before the first job begins.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # it splits sweeps into jobs
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from cd_exp.config.resolved import rename_targets
from cd_exp.errors import InputError
from cd_exp.plugins import refuse_untrusted
from cd_exp.sweep.load import read_sweep

FILE = "multirun.yaml"


@dataclass(frozen=True)
class MultirunPlan:
    """A multirun as it was typed.

    Attributes:
        overrides: of the task, with what is swept.
        hydra: overrides of Hydra's own settings, such as the launcher.
        jobs: the overrides of each job, in order.
        axes: the keys that are swept.
        folder: where the command was typed.
        config_dirs: of the user's own YAML files.
    """

    overrides: tuple[str, ...]
    hydra: tuple[str, ...]
    jobs: tuple[tuple[str, ...], ...]
    axes: tuple[str, ...]
    folder: Path
    config_dirs: tuple[str, ...]


def read_plan(folder: Path) -> MultirunPlan:
    """What the multirun in `folder` was to run.

    Raises:
        InputError: there is no `multirun.yaml` that can be read.
    """
    path = folder / FILE
    if not path.is_file():
        raise InputError(f"{folder} has no {FILE}, which a multirun writes; give the folder of a multirun")
    try:
        # As they were typed: an interpolation is of the job that has it, and what it stands for is not to be kept.
        settings: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        hydra = settings["hydra"]
        overrides = tuple(rename_targets(text) for text in hydra["overrides"]["task"])
        parsed = _parse_overrides(
            [*(f"{key}={value}" for key, value in (hydra["sweeper"]["params"] or {}).items()), *overrides]
        )
        return MultirunPlan(
            overrides=overrides,
            hydra=tuple(hydra["overrides"]["hydra"]),
            jobs=tuple(tuple(job) for job in BasicSweeper.split_arguments(parsed, None)[0]),
            axes=tuple(
                dict.fromkeys(override.get_key_element() for override in parsed if override.is_sweep_override())
            ),
            folder=Path(hydra["runtime"]["cwd"]),
            config_dirs=tuple(
                source["path"] for source in hydra["runtime"]["config_sources"] if source["provider"] == "command-line"
            ),
        )
    except (OmegaConfBaseException, YAMLError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}; run the sweep anew") from error


def swept_settings(folder: Path, overrides: Sequence[str]) -> dict[str, str]:
    """What the multirun in `folder` varies, with the values of the job that has these overrides."""
    try:
        axes = _read_axes(folder, (folder / FILE).stat().st_mtime_ns)
    except (InputError, OSError):  # only the name of a record hangs on it
        return {}
    values = dict(text.partition("=")[::2] for text in overrides)
    return {axis.lstrip("+~"): values[axis] for axis in axes if axis in values}


@lru_cache(maxsize=1)  # every job asks
def _read_axes(folder: Path, changed: int) -> tuple[str, ...]:
    del changed
    return read_plan(folder).axes


def _parse_overrides(texts: Sequence[str]) -> list[Override]:
    return OverridesParser.create().parse_overrides(list(texts))


SET_BY_RESUME = ("hydra.mode", "hydra.sweep.dir")


def missing_jobs(folder: Path) -> list[list[str]]:
    """The overrides of the jobs that are missing or failed, each with the folder it belongs in.

    A job is known by its overrides. One that was begun and did not end well goes into its own folder again; one that
    was never begun into the folder of its number.
    """
    plan, jobs = read_plan(folder), read_sweep(folder).jobs
    begun = {_normalise_overrides(job.overrides.items()): job for job in jobs}
    missing = []
    for number, overrides in enumerate(plan.jobs):
        job = begun.get(_normalise_overrides(text.lstrip("+~").partition("=")[::2] for text in overrides))
        if job is None or job.status != "ok":
            subfolder = str(number) if job is None else job.name
            missing.append([*overrides, f"hydra.sweep.subdir='{subfolder}'"])
    return missing


def check_code(folder: Path, *, trust: bool) -> list[str]:
    """Refuse to resume what names code of its own, in settings or in YAML files beside it; `trust` allows it.

    Returns:
        A note for each file of code that is another than a finished job's manifest says.

    Raises:
        InputError: there is such code, and no trust.
    """
    plan = read_plan(folder)
    settings: dict[str, str] = dict(text.lstrip("+~").partition("=")[::2] for text in plan.overrides)
    named = {
        key: value for key, value in settings.items() if key.rpartition(".")[2] in ("factory", "function") and value
    }
    named |= {f"--config-dir {path}": f"YAML files of {path}" for path in plan.config_dirs}
    manifests = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("manifest.json"))[:1])
    manifest: dict[str, Any] = next(manifests, {})
    return refuse_untrusted(named, folder=folder, trust=trust, stored=manifest.get("code") or {})


@contextmanager
def resume_arguments(folder: Path) -> Iterator[list[str]]:
    """The arguments of a command that runs what is missing or failed with the launcher of the multirun.

    While the context lasts, Hydra's sweeper runs these jobs: the step in which it expands the axes is replaced, the
    rest is its own. The working directory is that of the multirun.

    Raises:
        InputError: the folder holds no multirun, or nothing is missing.
    """
    folder = folder.resolve()
    plan, jobs = read_plan(folder), missing_jobs(folder)
    if not jobs:
        raise InputError(f"all {len(plan.jobs)} jobs of {folder} are finished; nothing is left to run")
    from hydra.core.plugins import Plugins

    Plugins.instance()  # it loads the modules of plug-ins anew: the class to change is the one that is there afterwards
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # its list of jobs is replaced by ours

    original = vars(BasicSweeper)["split_arguments"]  # the staticmethod itself: by its name it would come back a method
    BasicSweeper.split_arguments = staticmethod(lambda *_: [jobs])  # type: ignore[method-assign, assignment]
    try:
        with chdir(plan.folder):
            yield ["-m", *_build_arguments(plan), f"hydra.sweep.dir={folder}"]
    finally:
        BasicSweeper.split_arguments = original  # type: ignore[method-assign]


def _build_arguments(plan: MultirunPlan) -> Iterator[str]:
    for config_dir in plan.config_dirs:
        yield from ("--config-dir", config_dir)
    yield from plan.overrides
    yield from (text for text in plan.hydra if text.partition("=")[0] not in SET_BY_RESUME)


def _normalise_overrides(overrides: Iterable[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """Overrides without their order, and with values as they are meant: Hydra writes one in more than one way."""
    read = OverridesParser.create()
    return frozenset((key, _parse_value(read, value)) for key, value in overrides)


def _parse_value(read: OverridesParser, text: str) -> str:
    try:
        return json.dumps(_plain_value(read.parse_override(f"value={text}").value()), sort_keys=True)
    except HydraException:  # the record was edited
        return text


def _plain_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain_value(inner) for key, inner in value.items()}
    return [_plain_value(inner) for inner in value] if isinstance(value, list) else str(value)
