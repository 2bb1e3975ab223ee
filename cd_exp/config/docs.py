"""The page of all settings, written from their declarations: `python -m cd_exp.config.docs`, and by `make docs`.

A choice of a group is described by its YAML file: header, defaults, and the comment beside each key, or else the
constructor's docstring.
"""

import functools
import inspect
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cd_exp.config.schema import GROUPS, ON_ERROR, config_folder, declared_type, setting_meanings, setting_types
from cd_exp.config.types import describe_type
from cd_exp.config.validate import resolve_target

HEAD = "| setting | default | takes | meaning |\n| --- | --- | --- | --- |"
UNNAMED = ("_target_", "_partial_", "defaults")


def write_settings_page() -> str:
    """The whole page, in Markdown."""
    parts = ["# Settings", INTRODUCTION, "## Outside the groups", HEAD + "\n" + "\n".join(_describe_run_settings())]
    for group in GROUPS:
        parts += [f"## {group}", *_describe_group(group)]
    return "\n\n".join(parts) + "\n"


INTRODUCTION = """\
Made by `python -m cd_exp.config` from the declarations that are also what every value is checked against, before
anything is computed. Change a setting with `KEY=VALUE`, choose one of each group with `GROUP=CHOICE`; lists are written
`KEY=[a,b]`. A misspelt key is refused, with or without `+`. `???` is a setting that you must set."""


def _describe_run_settings() -> Iterator[str]:
    defaults = _plain_node(OmegaConf.load(config_folder() / "config.yaml"))
    for name, kind in setting_types().items():
        default: Any = functools.reduce(lambda node, key: node[key], name.split("."), defaults)
        yield _format_row(name, default, describe_type(kind), setting_meanings()[name])


def _describe_shared_settings(group: str) -> Iterator[str]:
    """What all choices of a group take, as the main YAML has it."""
    path = config_folder() / "config.yaml"
    beside = read_comments(path)
    for key, default in (_plain_node(OmegaConf.load(path)).get(group) or {}).items():
        kind = ON_ERROR if key == "on_error" else declared_type(group, "", key)
        yield _format_row(f"{group}.{key}", default, describe_type(kind), beside[f"{group}.{key}"])


def _plain_node(node: Any) -> dict[str, Any]:
    """Plain values with interpolations as they are written."""
    values = OmegaConf.to_container(node, resolve=False)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _describe_group(group: str) -> Iterator[str]:
    general = list(_describe_shared_settings(group))
    if general:
        yield "Of every choice:"
        yield HEAD + "\n" + "\n".join(general)
    elsewhere: dict[str, str] = {}
    for path in sorted((config_folder() / group).glob("*.yaml")):
        elsewhere |= {key: text for key, text in read_comments(path).items() if text and key not in elsewhere}
    presets: dict[str, list[str]] = {}
    for path in sorted((config_folder() / group).glob("*.yaml")):
        node = _plain_node(OmegaConf.load(path))
        if "_target_" not in node:
            of = next(str(base) for base in node["defaults"] if isinstance(base, str) and base != "_self_")
            presets.setdefault(of, []).append(path.stem)
            continue
        yield f"### {group}={path.stem}\n\n{_read_header(path)}"
        rows = list(_describe_settings(group, path, node, elsewhere))
        if rows:
            yield HEAD + "\n" + "\n".join(rows)
    for of, names in presets.items():
        yield f"Starting from `{group}={of}`: {', '.join(f'`{group}={name}`' for name in names)}."


def _describe_settings(group: str, path: Path, node: Mapping[str, Any], elsewhere: Mapping[str, str]) -> Iterator[str]:
    function = resolve_target(str(node["_target_"]), group=group, where=group)
    hints = typing.get_type_hints(
        vars(function)["__init__"] if isinstance(function, type) else function, include_extras=True
    )
    beside, described = read_comments(path), read_docstring_arguments(function)
    for key, default in node.items():
        if key in UNNAMED:
            continue
        kind = declared_type(group, function.__name__, key) or hints.get(key, Any)
        inner = default if isinstance(default, Mapping) else {}
        yield _format_row(
            f"{group}.{key}",
            "" if inner else default,
            describe_type(kind),
            beside.get(key) or described.get(key) or elsewhere.get(key, ""),
        )
        for name, value in inner.items():
            yield _format_row(f"{group}.{key}.{name}", value, "", beside.get(f"{key}.{name}", ""))


def _format_row(name: str, default: Any, takes: str, meaning: str) -> str:
    shown = "null" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
    cells = (f"`{name}`", f"`{shown}`" if shown else "", takes, meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _read_header(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    header = []
    for line in lines:
        if not line.startswith("#"):
            break
        header.append(line.removeprefix("#").strip())
    return " ".join(header)


def read_comments(path: Path) -> Mapping[str, str]:
    """What stands beside each key of a YAML file, by dotted name."""
    comments: dict[str, str] = {}
    above = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.match(r"^( *)(\w+):(?:[^#]*?\s#\s*(.*))?", line)
        if match:
            indent, key, text = match.groups()
            above = above if indent else key
            comments[f"{above}.{key}" if indent else key] = text or ""
    return comments


def read_docstring_arguments(function: Any) -> Mapping[str, str]:
    """What a docstring in Google's form says of each argument."""
    text = inspect.getdoc(function) or ""
    _, _, listed = text.partition("Args:\n")
    texts: dict[str, str] = {}
    key = ""
    for line in listed.splitlines():
        if not line.startswith("    "):
            break
        match = re.match(r"^    (\w+): (.*)$", line)
        if match:
            key, texts[match.group(1)] = match.groups()
        elif key:
            texts[key] += f" {line.strip()}"
    return texts


if __name__ == "__main__":
    print(write_settings_page(), end="")
