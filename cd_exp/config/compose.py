"""From the command line to a checked configuration: Hydra composes, and everything is checked before a folder is made.

Hydra's own messages are put into one line with a remedy that works: its "+key" would silence a misspelt key. What this
module does not know: what a setting builds (`cd_exp.config.construct`).
"""

import copy
import os
import re
import sys
import typing
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl  # to let a group be chosen as null, which Hydra refuses
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # its jobs are checked before the first begins
from hydra._internal.hydra import Hydra  # hydra.main exits and prints its own errors: ours are one line
from hydra._internal.utils import create_config_search_path, get_args_parser  # the flags and folders of hydra.main
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from cd_exp import __version__
from cd_exp.config import GROUPS, config_folder, register_schema
from cd_exp.config.construct import check_groups
from cd_exp.config.messages import explain_hydra_error
from cd_exp.config.plugin_packages import read_installed_plugins
from cd_exp.config.validate import check_choices, check_hydra, check_keys, check_values, unknown_key_error
from cd_exp.errors import InputError, unknown_name_error


@dataclass(frozen=True)
class RunRequest:
    """The choices and overrides of a run, and the sweep it belongs to.

    Attributes:
        choices: the choice of each configuration group, as in `{"model": "resnet50"}`.
        overrides: what was typed.
        axes: what a sweep varies, with the value of this job.
        sweep: the name of the sweep's folder; None for a run of its own.
    """

    choices: Mapping[str, str] = field(default_factory=dict)
    overrides: Sequence[str] = ()
    axes: Mapping[str, str] = field(default_factory=dict)
    sweep: str | None = None

    @property
    def name(self) -> str:
        """What a reader of many runs calls this one: what the sweep varies, or else what was chosen."""
        if self.axes:
            return " ".join(f"{key}={value}" for key, value in self.axes.items())
        return "-".join(self.choices[group] for group in ("model", "probe", "clip", "similarity"))


JOBS_LOOKED_AT = 500
"""Of a sweep, before it begins; composing one takes 0.1 s."""


def program_name() -> str:
    """How this command was started, to be typed again: `python run.py`, `cd-exp` or `python -m cd_exp`."""
    file = Path(sys.argv[0])
    if file.name == "__main__.py" and file.parent.name == "cd_exp":
        return "python -m cd_exp"
    return "cd-exp" if file.stem == "cd-exp" else "python run.py"


def parse_arguments(words: Sequence[str]) -> tuple[Namespace, ArgumentParser]:
    """The command line as Hydra reads it.

    Raises:
        InputError: a flag that does not exist, or lacks its value.
    """
    parser = ArgumentParser(
        prog=program_name(), parents=[get_args_parser()], add_help=False, conflict_handler="resolve"
    )
    parser.add_argument("--json", action="store_true", help="With plan=true: print the plan as JSON; errors too")
    parser.add_argument("--version", action="version", version=f"cd_exp {__version__}")  # not Hydra's own

    def refuse(message: str) -> None:
        raise InputError(f"{message}; {program_name()} --help shows the flags and settings")

    parser.error = refuse  # type: ignore[method-assign,assignment]
    flags = parser.parse_intermixed_args(words)  # flags and settings in any order
    if flags.experimental_rerun:
        raise InputError("--experimental-rerun unpickles a file, which runs whatever it holds; pass the settings again")
    if sum(map(bool, (flags.run, flags.multirun, flags.cfg, flags.info, flags.shell_completion))) > 1:
        raise InputError("only one of --run, --multirun, --cfg, --info and --shell-completion is allowed")
    if flags.resolve and not (flags.cfg or flags.help):
        raise InputError("--resolve goes with --cfg or --help")
    return flags, parser


class SweepLoader(ConfigLoaderImpl):
    """Hydra's loader, which also reads `GROUP=null`: nothing of that group, as `~GROUP` says it.

    A sweep needs the configuration of each job three times: `check_jobs` looks at it, Hydra composes it to see whether
    it composes, and again to run it. It is composed once (0.16 CPU seconds a job) and copied (0.01).
    """

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The configuration of a job."""
        composed, key = vars(self).setdefault("composed", {}), tuple(sweep_overrides)
        kept: DictConfig | None = composed.get(key)
        if kept is None:
            kept = super().load_sweep_config(master_config, sweep_overrides)
            if len(composed) < JOBS_LOOKED_AT:
                composed[key] = kept
        config = copy.deepcopy(kept)
        sweep: Any = OmegaConf.to_container(master_config.hydra.sweep, resolve=False)
        with read_write(config.hydra), open_dict(config.hydra):  # `check_jobs` came before the folder was known
            config.hydra.overrides.hydra = master_config.hydra.overrides.hydra
            config.hydra.mode = master_config.hydra.mode
            config.hydra.sweep.dir = sweep["dir"]
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    def __getstate__(self) -> dict[str, Any]:
        """Without what is kept: other processes get their own jobs alone."""
        return {**vars(self), "composed": {}}

    def load_configuration(self, config_name: str | None, overrides: list[str], *args: Any, **more: Any) -> DictConfig:
        """The composed configuration."""
        return super().load_configuration(config_name, [_as_removed_group(text) for text in overrides], *args, **more)

    def get_group_options(
        self,
        group_name: str,
        results_filter: ObjectType | None = ObjectType.CONFIG,
        config_name: str | None = None,
        overrides: list[str] | None = None,
    ) -> list[str]:
        """The choices of a group. Hydra's own copies all that it has read for each group: half the time of `--help`."""
        if config_name or overrides:  # these can add a search path
            return super().get_group_options(group_name, results_filter, config_name, overrides)
        return self.repository.get_group_options(group_name, results_filter)


def _as_removed_group(override: str) -> str:
    group, _, value = override.partition("=")
    return f"~{group}" if value == "null" and (config_folder() / group).is_dir() else override


MOST_VALUES = 100_000
"""Of a YAML file of the user's with its aliases written out: ten lines of nested aliases can stand for 10^9 values."""


def _check_files(folder: Path, flags: Namespace) -> None:
    """Refuse a chosen YAML file that cannot be read as settings, and any whose aliases stand for more than anybody
    writes, before anything expands them.
    """
    for path in _list_files(folder):
        if _chosen(path, folder, flags):
            _check_chosen_file(path, group=path.parent.relative_to(folder).as_posix())
        try:
            text = path.read_text(encoding="utf-8")
            if "&" not in text or "*" not in text:
                continue
            count = _values(yaml.compose(text), {})
        except (OSError, ValueError, yaml.YAMLError, RecursionError):  # reported where it is read
            continue
        if count > MOST_VALUES:
            raise InputError(
                f"{path}: with its aliases written out it holds more than {MOST_VALUES} values; write them out"
            )


def _list_files(folder: Path) -> list[Path]:
    return sorted({*folder.glob("*.yaml"), *folder.glob("*/*.yaml"), *folder.glob("*/*/*.yaml")})


GLOBAL = re.compile(r"^#\s*@package\s+_global_\s*$", re.MULTILINE)


def _check_chosen_file(path: Path, *, group: str) -> None:
    """Refuse a file of the user's that holds no settings, with its name, which Hydra's own errors leave out."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8 (byte {error.start}); save it as UTF-8") from error
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply to be read; write it with fewer brackets") from error
    except (ValueError, yaml.YAMLError):  # Hydra's error has the line, too
        return
    if node is not None and not isinstance(node, yaml.MappingNode):
        kind = "a list" if isinstance(node, yaml.SequenceNode) else repr(str(node.value)[:40])
        raise InputError(f"{path} holds {kind}, expected settings, a line each: NAME: VALUE")
    if group == "experiment" and text.startswith("\ufeff"):  # which hides the line below from Hydra
        raise InputError(f"{path} begins with a byte order mark; save it as UTF-8 without one")
    if group == "experiment" and not GLOBAL.search(text):
        raise InputError(
            f"{path}: an experiment begins with the line `# @package _global_`, without which its settings reach "
            "nothing; add it as the first line"
        )


def _values(node: Any, counted: dict[int, int]) -> int:
    if id(node) not in counted:
        counted[id(node)] = 0  # an alias to what is around it counts 0
        inner = node.value if isinstance(getattr(node, "value", None), list) else []
        each = [part for pair in inner for part in (pair if isinstance(pair, tuple) else (pair,))]
        counted[id(node)] = 1 + sum(_values(part, counted) for part in each)
    return counted[id(node)]


def with_file(error: InputError, flags: Namespace) -> InputError:
    """The same error with the YAML file of the user's that sets what it names, where it was not typed."""
    match = re.match(r"(?:setting )?'?([a-z_]\w*(?:\.\w+)*)", str(error))
    key = match[1] if match else ""
    if target := re.match(r"constructor '.*?' is not offered for ([\w.]+)", str(error)):
        key = f"{target[1]}._target_"
    if not key or any(text.lstrip("+~").partition("=")[0] == key for text in flags.overrides):
        return error
    for folder in filter(None, (flags.config_dir, flags.config_path)):
        root = Path(folder).expanduser()
        for path in _list_files(root):
            if _chosen(path, root, flags) and _sets(path, root, key):
                return type(error)(f"{error} (set in {path})") if str(path) not in str(error) else error
    return error


def _chosen(path: Path, root: Path, flags: Namespace) -> bool:
    group = path.parent.relative_to(root).as_posix()
    name = flags.config_name or "config"
    return (
        path.stem == Path(name).stem
        if group == "."
        else any(
            text.lstrip("+").partition("@")[0].partition("=")[0] == group
            and path.stem in re.split(r"[\[\],\s'\"]+", text.partition("=")[2])
            for text in flags.overrides
        )
    )


def _sets(path: Path, root: Path, key: str) -> bool:
    """Whether a file has a value for a dotted setting."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return False
    group = "" if re.match(r"#\s*@package\s+_global_", text) else path.parent.relative_to(root).as_posix().strip(".")
    parts = key.split(".")
    if group:
        if parts[: len(group.split("/"))] != group.split("/"):
            return False
        parts = parts[len(group.split("/")) :]
    for part in parts:
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return bool(parts)


def make_composer(flags: Namespace) -> Hydra:
    """Hydra, with our config folder and those of `--config-path` and `--config-dir`.

    Raises:
        InputError: a folder that is not there.
    """
    version.setbase("1.3")
    register_schema()
    store_plugins()
    main_folder = _check_config_folder("--config-path", flags.config_path) if flags.config_path else config_folder()
    if flags.config_path:
        _check_files(main_folder, flags)
    path = create_config_search_path(str(main_folder))
    if flags.config_dir:
        _check_files(_check_config_folder("--config-dir", flags.config_dir), flags)
        also = f"file://{_check_config_folder('--config-dir', flags.config_dir)}"
        path.prepend(provider="command-line", path=also, anchor=SearchPathQuery(provider="schema"))
    hydra = Hydra(task_name="run", config_loader=SweepLoader(path))
    GlobalHydra.instance().initialize(hydra)
    return hydra


def store_plugins() -> None:
    """Make the choices that installed packages offer known to Hydra, with their settings.

    Raises:
        InputError: a plug-in without its YAML file, or with a name that is taken.
    """
    for target, plugin in read_installed_plugins().items():
        node = OmegaConf.create({**typing.cast(Any, OmegaConf.load(plugin.settings)), "_target_": target})
        ConfigStore.instance().store(plugin.name, node, group=plugin.group, provider=plugin.package)


def _check_config_folder(flag: str, folder: str) -> Path:
    path = Path(folder).expanduser().absolute()
    if not path.is_dir():
        raise InputError(f"{flag} {folder}: there is no such folder (seen from {Path.cwd()})")
    return path


def compose_config(hydra: Hydra, name: str, overrides: Sequence[str], mode: RunMode) -> DictConfig:
    """The configuration with Hydra's own part, its keys and what Hydra would call checked.

    Args:
        hydra: as `make_composer` gives it.
        name: of the main YAML.
        overrides: as typed.
        mode: of one run, or of a sweep, whose axes are then left out.

    Raises:
        InputError: whatever does not compose, in one line.
    """
    with _explain_errors(hydra, name, overrides, mode):
        config = hydra.compose_config(name, list(overrides), mode, with_log_configuration=False)
    _check_composed(config)
    return config


@contextmanager
def _explain_errors(hydra: Hydra, name: str, overrides: Sequence[str], mode: RunMode) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # nothing but what was typed, and YAML files, has been read so far
        raise explain_hydra_error(
            error, overrides, setting_names=lambda: _known_settings(hydra, name, overrides, mode)
        ) from error


def _check_composed(config: DictConfig) -> None:
    check_keys(config)
    check_hydra(config.hydra)
    check_choices(config)
    HydraConfig.instance().set_config(config)


def compose_choice(group: str, name: str, *, setting: str) -> DictConfig:
    """What a choice of a group says, composed as if it were chosen for a run.

    Args:
        group: as in `clip`.
        name: one of its choices, of the package or of the folder of --config-dir.
        setting: that named it, for errors.

    Raises:
        InputError: there is no such choice.
    """
    begun = GlobalHydra.instance().hydra
    hydra = begun or make_composer(parse_arguments([])[0])
    try:
        choices = hydra.config_loader.get_group_options(group)
        if name not in choices:
            raise unknown_name_error(setting, name, choices, where=f"a choice of the group {group}")
        return hydra.compose_config("config", [f"{group}={name}"], RunMode.RUN, with_log_configuration=False)[group]
    finally:
        if begun is None:
            GlobalHydra.instance().clear()


def _known_settings(hydra: Hydra, name: str, overrides: Sequence[str], mode: RunMode) -> list[str]:
    """The dotted names that there are with the chosen groups, to find the nearest of a name that there is not."""
    choices = [text for text in overrides if "." not in text.partition("=")[0] and text.partition("=")[0] in GROUPS]
    for kept in (choices, []):
        try:
            config = hydra.compose_config(name, kept, mode, with_log_configuration=False)
        except Exception:  # a choice is wrong too: then the names of the defaults
            continue
        return list(_dotted_names(OmegaConf.to_container(config, resolve=False)))
    return []


def _dotted_names(node: object, above: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{above}{key}"
            yield from _dotted_names(value, f"{above}{key}.")


def is_basic_sweeper(config: DictConfig) -> bool:
    """Whether Hydra's own sweeper makes the jobs: what others will run is not known before."""
    return bool(config.hydra.sweeper.get("_target_") == f"{BasicSweeper.__module__}.{BasicSweeper.__name__}")


def list_jobs(hydra: Hydra, config: DictConfig) -> Iterator[Sequence[str]]:
    """The overrides of each job of a sweep, as far as Hydra's own sweeper makes them."""
    if not is_basic_sweeper(config):
        return
    sweeper = config.hydra.sweeper
    words = [f"{key}={value}" for key, value in (sweeper.params or {}).items()] + parse_overrides(
        config.hydra.overrides.task
    )
    read = OverridesParser.create(config_loader=hydra.config_loader).parse_overrides(words)
    try:
        batches = BasicSweeper.split_arguments(read, None)
    except (HydraException, ValueError) as error:  # Python's range refuses a step of 0
        raise InputError(f"the values of -m cannot be listed: {' '.join(str(error).split())}") from error
    yield from islice(chain.from_iterable(batches), JOBS_LOOKED_AT)


def parse_overrides(overrides: Any) -> list[str]:
    """Overrides as they were typed: OmegaConf's own access would resolve an interpolation."""
    plain: Any = OmegaConf.to_container(overrides, resolve=False) if isinstance(overrides, ListConfig) else overrides
    return [str(text) for text in plain]


def _check_job_folder(job: DictConfig, number: int, job_folders: dict[str, int]) -> None:
    """Refuse a job whose folder is outside the sweep's, where nothing gathers it, or that of an earlier job."""
    with read_write(job.hydra), open_dict(job.hydra):
        job.hydra.job.num, job.hydra.job.id = number, str(number)
    written: Any = OmegaConf.to_container(job.hydra.sweep, resolve=False)
    setting = f"hydra.sweep.subdir={written['subdir']}"
    try:
        subfolder = os.path.normpath(str(job.hydra.sweep.subdir))
    except OmegaConfBaseException as error:
        raise InputError(f"{setting}: {' '.join(str(error).split('full_key')[0].split())}") from error
    if Path(subfolder).is_absolute() or subfolder == "." or Path(subfolder).parts[0] == "..":
        raise InputError(f"{setting} is not below hydra.sweep.dir, where the jobs are gathered; give a name")
    if subfolder in job_folders:
        raise InputError(
            f"{setting} gives jobs {job_folders[subfolder]} and {number} the same folder, and the later would replace "
            "the earlier; name it by what differs, as in hydra.sweep.subdir='${hydra.job.num}'"
        )
    job_folders[subfolder] = number


def _lacking_setting_error(hydra: Hydra, name: str, config: DictConfig, overrides: Sequence[str]) -> InputError | None:
    """The error for a job whose choice of a group lacks a setting that another choice of the sweep has.

    `similarity=cos,wpmi similarity.top_k=10,20` is the combination of all with all, and cos has no top_k.
    """
    swept = [text.partition("=") for text in parse_overrides(config.hydra.overrides.task)]
    for key, value in [(key.lstrip("+"), value) for key, _, value in swept if "." in key]:
        group, _, setting = key.partition(".")
        mine = next((text.partition("=")[2] for text in overrides if text.partition("=")[0] == group), None)
        others = next((other.split(",") for at, _, other in swept if at == group), [])
        if mine is None or group not in GROUPS or len(others) < 2:
            continue
        has = {choice: setting in (_compose_group(hydra, name, group, choice) or ()) for choice in others}
        if not any(has.values()):
            names = [f"{group}.{at!s}" for choice in others for at in _compose_group(hydra, name, group, choice) or ()]
            return unknown_key_error(key, list(dict.fromkeys(names)))
        if not has.get(mine, True):
            having, lacking = (",".join(choice for choice in others if has[choice] is held) for held in (True, False))
            return InputError(
                f"{group}={mine} has no setting {setting}, which {having} has: sweep them apart, -m {group}={lacking} "
                f"hydra.sweep.dir=DIR/1 and -m {group}={having} {key}={value} hydra.sweep.dir=DIR/2, and put them "
                "together with python -m cd_exp.sweep DIR"
            )
    return None


def _compose_group(hydra: Hydra, name: str, group: str, choice: str) -> DictConfig | None:
    """What a choice of a group says; None where it does not compose."""
    try:
        return hydra.compose_config(name, [f"{group}={choice}"], RunMode.RUN, with_log_configuration=False).get(group)
    except Exception:  # reported with its own job
        return None


def check_jobs(hydra: Hydra, name: str, config: DictConfig) -> None:
    """Compose every job of a sweep before any begins; refuse the sweep where one does not compose, or none is sound.

    A job whose values are out of range is only refused itself when its turn comes: it hides no other.
    """
    wrong: InputError | None = None
    sound = False
    job_folders: dict[str, int] = {}
    for number, overrides in enumerate(list_jobs(hydra, config)):
        typed = [*parse_overrides(config.hydra.overrides.hydra), *overrides]
        try:
            with _explain_errors(hydra, name, typed, RunMode.RUN):
                job_config = hydra.config_loader.load_sweep_config(config, list(overrides))
            _check_composed(job_config)
        except InputError as error:
            raise _lacking_setting_error(hydra, name, config, overrides) or error from error
        _check_job_folder(job_config, number, job_folders)
        if not sound:
            try:
                check_values(job_config)
                check_groups(job_config)
                sound = True
            except InputError as error:
                wrong = wrong or error
    HydraConfig.instance().set_config(config)
    if not job_folders and is_basic_sweeper(config):
        raise InputError("the values given with -m make no job at all; give at least one value for each setting")
    if wrong and not sound:
        raise wrong
