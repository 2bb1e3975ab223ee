"""What a multirun was to run: Hydra writes it into `multirun.yaml` before the first job begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from cd_exp.errors import InputError

FILE = "multirun.yaml"


@dataclass(frozen=True)
class Plan:
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


def planned(folder: Path) -> Plan:
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
        overrides = tuple(hydra["overrides"]["task"])
        found = _parsed([*(f"{key}={value}" for key, value in (hydra["sweeper"]["params"] or {}).items()), *overrides])
        return Plan(
            overrides=overrides,
            hydra=tuple(hydra["overrides"]["hydra"]),
            jobs=tuple(tuple(job) for job in BasicSweeper.split_arguments(found, None)[0]),
            axes=tuple(dict.fromkeys(override.get_key_element() for override in found if override.is_sweep_override())),
            folder=Path(hydra["runtime"]["cwd"]),
            config_dirs=tuple(
                source["path"] for source in hydra["runtime"]["config_sources"] if source["provider"] == "command-line"
            ),
        )
    except (OmegaConfBaseException, YAMLError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}; run the sweep anew") from error


def swept(folder: Path, overrides: Sequence[str]) -> dict[str, str]:
    """What the multirun in `folder` varies, with the values of the job that has these overrides."""
    try:
        axes = planned(folder).axes
    except InputError:  # only the name of a record hangs on it
        return {}
    values = dict(text.partition("=")[::2] for text in overrides)
    return {axis.lstrip("+~"): values[axis] for axis in axes if axis in values}


def _parsed(texts: Sequence[str]) -> list[Override]:
    return OverridesParser.create().parse_overrides(list(texts))
