"""The composed configuration checked against the schema: unknown keys, values outside the groups, and targets.

Only what the package's own YAML files name is ever called; a user's own code comes in by `GROUP=custom`, which names a
file and a function. Settings with a new name say what to write instead.
"""

import importlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cd_exp.config.plugin_packages import read_installed_plugins
from cd_exp.config.schema import GROUPS, ON_ERROR, config_folder, setting_types
from cd_exp.config.types import Count, Pattern, Text, refuse_value
from cd_exp.errors import InputError, unknown_name_error

CALLBACKS = ("hydra.experimental.callbacks.LogJobReturnCallback", "hydra.experimental.callbacks.PickleJobInfoCallback")
HYDRA = {
    "run.dir": Text,
    "sweep.dir": Text,
    "sweep.subdir": Text,
    "output_subdir": Annotated[str, Pattern(r"[^/\\]*[^/\\.][^/\\]*", "the name of a folder in the run folder")] | None,
    "sweeper.max_batch_size": Count | None,
}
"""Of Hydra's own settings, which it does not bound, those that would fail late or write where nobody meant."""
REMOVED = {"abstain": "it was removed; the column stability of labels.csv tells which labels to leave out"}
"""Settings and sections that earlier versions had, and what does the same."""
WRITTEN = (
    "digests.json",
    "explorer",
    "figures",
    "labels.csv",
    "manifest.json",
    "metrics.json",
    "report.html",
    "run.log",
    "wandb",
)
MOST_PROCESSES = 8
LEVELS = ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG", "NOTSET")
LOGGING = (
    "logging.FileHandler",
    "logging.Formatter",
    "logging.NullHandler",
    "logging.StreamHandler",
    "logging.handlers.RotatingFileHandler",
    "colorlog.ColoredFormatter",
)


def check_keys(config: DictConfig) -> None:
    """Refuse a key that no part of the schema has, with the nearest that there is.

    Args:
        config: composed, with or without Hydra's own part.

    Raises:
        InputError: names the key; of a removed one, what does the same.
    """
    settings, keys = [*setting_types(), *GROUPS], [*_list_keys(config)]
    for key in keys:
        if key not in settings:
            raise unknown_key_error(key, settings)
    for key in setting_types():
        if key not in keys:
            raise InputError(f"~{key}: a setting cannot be removed, only set: {key}=VALUE")
    from hydra.conf import HydraConf  # here, so that probes and concepts do without Hydra

    stray = next(_find_stray_key(config.get("hydra"), OmegaConf.structured(HydraConf), "hydra"), None)
    if stray:
        raise unknown_key_error(*stray)


def unknown_key_error(key: str, settings: Sequence[str]) -> InputError:
    """The error for a setting that does not exist."""
    if reason := REMOVED.get(key.partition(".")[0]):
        return InputError(f"setting {key} is not known: {reason}")
    return unknown_name_error("setting", key, settings, where="known")


def _list_keys(config: DictConfig) -> Iterator[str]:
    sections = {name.partition(".")[0] for name in setting_types() if "." in name}
    for key in config:
        name = str(key)
        if name in sections and OmegaConf.is_dict(config._get_node(name)):
            section = config[name]
            yield from (f"{name}.{inner}" for inner in section)
        elif name != "hydra":
            yield name


def _find_stray_key(node: Any, schema: Any, where: str) -> Iterator[tuple[str, list[str]]]:
    """Keys of Hydra's part that its schema does not have, with those that it has."""
    if not (OmegaConf.is_dict(node) and OmegaConf.is_dict(schema) and OmegaConf.get_type(schema) not in (dict, None)):
        return
    for key in node:
        if key not in [*schema, "env"]:  # which an older default of Hydra adds
            yield f"{where}.{key}", [f"{where}.{name}" for name in schema]
        elif key in list(schema) and not OmegaConf.is_missing(node, key) and not OmegaConf.is_interpolation(node, key):
            yield from _find_stray_key(node._get_node(key), schema._get_node(key), f"{where}.{key}")


def check_values(config: DictConfig) -> None:
    """Refuse a value outside the groups that is not of its kind, or a folder that cannot be one.

    Raises:
        InputError: names the setting, what came and what it takes.
    """
    for name, kind in setting_types().items():
        value = setting_value(config, name)
        if value == "???":
            raise InputError(f"{name} must be set: add {name}=VALUE")
        wrong = refuse_value(name, value, kind)
        if wrong:
            raise wrong
    probe = config.get("probe")
    wrong = (
        refuse_value("probe.on_error", probe.get("on_error", "error"), ON_ERROR) if OmegaConf.is_dict(probe) else None
    )
    if wrong:
        raise wrong
    check_folder("cache.dir", config.cache.dir, read_only=True)
    processes, most = config.distributed.processes, max(MOST_PROCESSES, os.cpu_count() or 1)
    if processes > most:
        raise InputError(f"distributed.processes={processes}: this machine does at most {most}; give fewer")


def setting_value(config: DictConfig, name: str) -> Any:
    """The value of a setting, plain."""
    try:
        value = OmegaConf.select(config, name, throw_on_missing=False)
    except OmegaConfBaseException as error:
        raise InputError(f"{name}: {str(error).splitlines()[0]}") from error
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def check_folder(name: str, folder: str | os.PathLike[str], *, read_only: bool = False) -> None:
    """Refuse a folder that cannot be one: a file has its path or one above it, or nothing may be written there.

    Args:
        name: the setting.
        folder: its value.
        read_only: whether a folder that is there may do without the right to write, as a cache that has everything.
    """
    path = Path(folder).expanduser().absolute()
    above = next((ancestor for ancestor in (path, *path.parents) if os.path.lexists(ancestor)), path)
    if not above.is_dir():
        what = "that is a file" if above == path else f"{above} is a file"
        raise InputError(f"{name}={folder}: {what}; give a folder")
    if read_only and above == path and os.access(path, os.R_OK | os.X_OK):
        return
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{name}={folder}: nothing may be written in {above}; give another folder")


def check_hydra(hydra: DictConfig) -> None:
    """Refuse what Hydra would call that is neither its own nor a plugin's that is installed.

    Args:
        hydra: Hydra's own part of the composed configuration.

    Raises:
        InputError: names the target, before anything is called.
    """
    plain = OmegaConf.to_container(hydra, resolve=False)
    assert isinstance(plain, dict)
    for name, kind in HYDRA.items():
        value: Any = plain
        for part in name.split("."):
            value = value.get(part, "${") if isinstance(value, dict) else value
        wrong = None if "${" in str(value) or value == "???" else refuse_value(f"hydra.{name}", value, kind)
        if wrong:
            raise wrong
    if plain.get("output_subdir") in WRITTEN:
        raise InputError(f"hydra.output_subdir={plain['output_subdir']} is a name that a run writes results under")
    if plain.get("job", {}).get("chdir"):
        raise InputError(
            "hydra.job.chdir=true would change what relative paths mean; leave it out, and choose the "
            "folder of results with hydra.run.dir=DIR"
        )
    if (plain.get("sweeper") or {}).get("custom_search_space"):
        raise InputError(
            "hydra.sweeper.custom_search_space would call code by its name; type the values, as in -m top=range(1,6)"
        )
    for where, key, value in _list_targets(plain, "hydra"):
        if key == "level":
            if value not in LEVELS:
                raise unknown_name_error(f"{where}.level", str(value), LEVELS, where="known")
            continue
        allowed: Sequence[str] = LOGGING if key in ("class", "()") else CALLBACKS
        for part in ("launcher", "sweeper"):
            if key == "_target_" and f"{where}.".startswith(f"hydra.{part}."):
                allowed = list_plugins(part)  # with what is inside them, as the sampler of a sweeper
        if value not in allowed and not (key == "()" and value is None):
            raise InputError(
                f"{where}.{key}={value} is not Hydra's own; of hydra.* only what Hydra and its plugins bring "
                "is called; code of your own comes in by GROUP=custom, as in model=custom model.factory=FILE.py:name"
            )


def check_choices(config: DictConfig) -> None:
    """Refuse several choices where a group takes one, as in `similarity=[cos]`."""
    for group in ("model", "probe", "concepts", "clip", "similarity"):
        node = None if OmegaConf.is_missing(config, group) else config.get(group)
        if node is not None and not OmegaConf.is_dict(node):
            raise InputError(f"{group}={node}: {group} is chosen by name, {group}=NAME, also in a YAML file's defaults")
        if node and "_target_" in node and group not in config.hydra.runtime.choices:
            raise InputError(f"{group} takes one choice, {group}=NAME; for a run with each of several: -m {group}=A,B")


def list_plugins(part: str) -> list[str]:
    """The targets of the installed launchers or sweepers, and of all that they bring for their parts."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()

    def nodes(folder: str) -> Iterator[Any]:
        for name in store.list(folder):
            if name.endswith(".yaml"):
                yield OmegaConf.to_container(store.load(f"{folder}/{name}").node, resolve=False)
            else:
                yield from nodes(f"{folder}/{name}")

    return sorted({str(value) for node in nodes(f"hydra/{part}") for _, _, value in _list_targets(node, part)})


def _list_targets(node: Any, where: str) -> Iterator[tuple[str, str, Any]]:
    logging = where.startswith(("hydra.job_logging", "hydra.hydra_logging"))
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        if key == "_target_" or (logging and key in ("class", "()", "level")):
            yield where, str(key), value
        yield from _list_targets(value, f"{where}.{key}")


CUSTOM = {
    "similarity": "similarity=custom similarity.function=FILE.py:name",
    **{
        group: f"{group}=custom {group}.factory=FILE.py:name"
        for group in ("model", "probe", "concepts", "clip", "baseline", "judge", "logger")
    },
}
"""How the user's own code comes in."""


@cache
def offered_targets() -> Mapping[str, frozenset[str]]:
    """The targets of each group."""
    targets_by_group: dict[str, set[str]] = {}
    for path in sorted(config_folder().glob("*/*.yaml")):
        targets = re.findall(r"^_target_: *(cd_exp\.[\w.]+) *$", path.read_text(encoding="utf-8"), re.MULTILINE)
        targets_by_group.setdefault(path.parent.name, set()).update(targets)
    for target, plugin in read_installed_plugins().items():
        targets_by_group[plugin.group].add(target)
    return {group: frozenset(targets) for group, targets in targets_by_group.items()}


def resolve_target(name: str, *, group: str, where: str) -> Callable[..., Any]:
    """The constructor of that name.

    Args:
        name: as in `cd_exp.similarity.cos`.
        group: the group it is to be of.
        where: the setting, for errors.

    Raises:
        InputError: the group has no such constructor; names the way in for the user's own code.
    """
    offered = offered_targets().get(group, frozenset())
    if name not in offered:
        way = f"; code of your own: {CUSTOM[group]}" if group in CUSTOM else ""
        raise InputError(f"{unknown_name_error('constructor', name, offered, where=f'offered for {where}')}{way}")
    module, _, function = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        if name not in read_installed_plugins():
            raise
        package = read_installed_plugins()[name].package
        raise InputError(f"{where}: {name} of the package {package} cannot be imported: {error}") from error


@cache
def custom_constructor(group: str) -> Callable[..., Any]:
    """What `GROUP=custom` calls; a plug-in goes through the same door."""
    text = (config_folder() / group / "custom.yaml").read_text(encoding="utf-8")
    return resolve_target(re.findall(r"^_target_: *(\S+)", text, re.MULTILINE)[0], group=group, where=group)
