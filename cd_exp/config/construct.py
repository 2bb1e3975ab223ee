"""From a group's configuration to the object it describes: checked first, then built.

A node names its constructor (`_target_`) and the arguments. Only what the package offers for the group is called, and
`_partial_` binds the arguments of a similarity function; no other key with underscores means anything.
"""

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cd_exp.config import (
    GROUPS,
    OF_EVERY,
    OF_THE_RUN,
    Config,
    config_folder,
    declared_type,
    offered_targets,
    refuse_value,
    register_schema,
    resolve_target,
)
from cd_exp.config.plugin_packages import InstalledPlugin, read_installed_plugins
from cd_exp.config.validate import custom_constructor
from cd_exp.errors import InputError, unknown_name_error

__all__ = ["build", "check_groups", "check_node", "config_folder", "register_schema"]

TARGET, PARTIAL = "_target_", "_partial_"
DOOR = frozenset(("factory", "function", "options"))
"""What `GROUP=custom` takes and a plug-in, which has its settings directly, does not."""
_BUILDERS: dict[str, Callable[[Callable[..., Any], Mapping[str, Any]], Any]] = {}
HELD = "held"
"""Stands instead of a target, where a program passed the object itself to `cd_exp.dissect`."""


def build(node: DictConfig | Mapping[str, Any] | None, *, group: str, leave_out: tuple[str, ...] = ()) -> Any:
    """What a group's YAML describes, after its target and arguments were checked.

    Args:
        node: the composed group.
        group: its name, for errors.
        leave_out: keys that are not arguments of the target.

    Raises:
        InputError: a target that the group does not offer, an unknown or missing argument, a value of the wrong kind.
    """
    plain = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    if isinstance(plain, Mapping) and HELD in plain:
        raise InputError(f"{group} was an object of a program ({plain[HELD]}), which no configuration can build again")
    if not isinstance(plain, Mapping) or TARGET not in plain:
        choices = ", ".join(sorted(_list_choice_files(group)))
        raise InputError(f"nothing is chosen for {group}; add {group}=NAME, with one of {choices}")
    values = {key: value for key, value in plain.items() if key not in leave_out}
    check_node(values, where=group)
    return _build_node(values, group, group)


def read_choice(group: str, name: str, *, argument: str) -> DictConfig:
    """What a choice of a group says, by its name alone, for a program that has no command line.

    Hydra composes the whole configuration for it, in .3 s; its YAML and the one that this begins with take 4 ms.

    Args:
        group: as in `clip`.
        name: one of its choices, of the package or of a plug-in.
        argument: that named it, for errors.

    Raises:
        InputError: there is no such choice.
    """
    files = {choice: path for choice, path in _list_choice_files(group).items() if choice != "custom"}
    if name not in files:
        raise unknown_name_error(argument, name, files)
    node = typing.cast(DictConfig, OmegaConf.load(files[name]))
    bases = [base for base in node.pop("defaults", ()) if base in files]
    targets = {plugin.name: {TARGET: key} for key, plugin in read_installed_plugins().items() if plugin.group == group}
    whole = OmegaConf.merge(*(OmegaConf.load(files[base]) for base in bases), node, targets.get(name, {}))
    return OmegaConf.create({"seed": Config.seed, "data_dir": Config.data_dir, group: whole})[group]


def _list_choice_files(group: str) -> dict[str, Path]:
    files = {path.stem: path for path in (config_folder() / group).glob("*.yaml")}
    return files | {
        plugin.name: plugin.settings for plugin in read_installed_plugins().values() if plugin.group == group
    }


def build_group_with(group: str, builder: Callable[[Callable[..., Any], Mapping[str, Any]], Any]) -> None:
    """Have a group's objects made by a function of constructor and values: probe sets share settings this way."""
    _BUILDERS[group] = builder


def check_groups(config: DictConfig) -> None:
    """Refuse what does not fit in any group, before one of them is built.

    Raises:
        InputError: names the setting and what it takes.
    """
    for group in GROUPS:
        node = OmegaConf.select(config, group)
        try:
            plain = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
        except OmegaConfBaseException as error:
            raise InputError(f"{group}: {' '.join(str(error).split('full_key')[0].split())}") from error
        if isinstance(plain, Mapping):
            read_by_run = OF_THE_RUN.get(group, ())
            check_node({key: value for key, value in plain.items() if key not in read_by_run}, where=group)


def check_node(node: Any, *, where: str) -> None:
    """Refuse, at any depth, what the package does not offer and what does not fit the signature of its target.

    Args:
        node: plain values.
        where: the group, or the dotted name of a part of it: `probe.probes.broden`.

    Raises:
        InputError: names the setting and what it takes.
    """
    _check_nested(node, where, where.partition(".")[0])


def _check_nested(node: Any, where: str, group: str) -> None:
    if isinstance(node, (list, tuple)):
        for index, item in enumerate(node):
            _check_nested(item, f"{where}[{index}]", group)
    if not isinstance(node, Mapping):
        return
    if TARGET in node:
        _check_arguments(resolve_target(str(node[TARGET]), group=group, where=where), node, where, group)
    for key, value in node.items():
        _check_nested(value, f"{where}.{key}", _group_within(str(key), group))


def _group_within(key: str, group: str) -> str:
    """A setting called as a group holds one of that group, as `concepts.model` does; others stay in their own."""
    return key if key in offered_targets() else group


def _check_arguments(function: Callable[..., Any], node: Mapping[str, Any], where: str, group: str) -> None:
    parameters, hints = _read_signature(function)
    plugin = read_installed_plugins().get(str(node[TARGET]))
    if plugin:
        taken, taken_hints = _read_signature(custom_constructor(group))
        parameters = {**{key: taken[key] for key in taken if key not in DOOR}, **parameters}
        hints = taken_hints | hints
    general = OF_EVERY.get(group, ())
    for key, value in node.items():
        if key == TARGET or (key == PARTIAL and value is True and group == "similarity"):
            continue
        key = str(key)  # a key of a YAML file may be 1 or true, which are no text
        if key.startswith("_") or key not in {*parameters, *general}:
            raise unknown_name_error(
                "setting", f"{where}.{key}", [f"{where}.{name}" for name in (*parameters, *general)], where="known"
            )
        if value == "???":
            raise InputError(f"{where}.{key} must be set: add {where}.{key}=VALUE")
        declared = None if plugin else declared_type(group, function.__name__, key)
        kind = declared or hints.get(key, Any)
        described = isinstance(value, Mapping) and TARGET in value
        wrong = None if described else refuse_value(f"{where}.{key}", value, kind)
        if wrong:
            raise wrong


def plugin_packages_of(config: Mapping[str, Any]) -> list[str]:
    """The packages of the plug-ins that a configuration chose."""
    plugins, packages = read_installed_plugins(), dict[str, None]()
    for value in config.values():
        if isinstance(value, Mapping):
            plugin = plugins.get(str(value.get(TARGET)))
            packages |= {plugin.package: None} if plugin else {}
            packages |= dict.fromkeys(plugin_packages_of(value))
    return list(packages)


def _through_custom(plugin: InstalledPlugin, values: Mapping[str, Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What `GROUP=custom` would be given: what a plug-in returns is checked as any code that is not ours."""
    custom = custom_constructor(plugin.group)
    takes = set(inspect.signature(custom).parameters) - DOOR
    shared = {key: value for key, value in values.items() if key in (takes | set(OF_EVERY.get(plugin.group, ())))}
    options = {key: value for key, value in values.items() if key not in shared}
    named = {"name": plugin.name} if "name" in takes else {}
    door = "function" if plugin.group == "similarity" else "factory"
    return custom, {**named, **shared, door: plugin.function, "options": options}


def _read_signature(function: Callable[..., Any]) -> tuple[Mapping[str, inspect.Parameter], dict[str, Any]]:
    """Its parameters, and what each takes as far as that can be read."""
    # a class may have no constructor of its own: `vars(function)` would not have the one it inherits
    constructor = inspect.getattr_static(function, "__init__") if isinstance(function, type) else function
    try:
        hints = typing.get_type_hints(constructor, include_extras=True)
    except NameError:  # a plug-in's name that is imported for type checkers alone
        hints = {}
    return inspect.signature(function).parameters, hints


def _build_node(node: Any, where: str, group: str) -> Any:
    """The values with every node that names a target replaced by the object it describes, innermost first."""
    if isinstance(node, list):
        return [_build_node(item, f"{where}[{index}]", group) for index, item in enumerate(node)]
    if isinstance(node, str) and node.startswith("~/"):
        return str(Path(node).expanduser())
    if not isinstance(node, Mapping):
        return node
    values = {key: _build_node(value, f"{where}.{key}", _group_within(str(key), group)) for key, value in node.items()}
    if TARGET not in values:
        return values
    plugin = read_installed_plugins().get(str(values[TARGET]))
    function = resolve_target(str(values.pop(TARGET)), group=group, where=where)
    if plugin:
        function, values = _through_custom(plugin, values)
    partial = values.pop(PARTIAL, False)
    for key, parameter in inspect.signature(function).parameters.items():
        later = partial and parameter.kind is parameter.POSITIONAL_OR_KEYWORD  # the tensors
        if parameter.default is parameter.empty and key not in values and not later:
            raise InputError(f"{where}.{key} must be set: add {where}.{key}=VALUE")
    if group in _BUILDERS:
        return _BUILDERS[group](function, values)
    return functools.partial(function, **values) if partial else function(**values)
