"""The composed configuration as plain values for readers of results, without local paths and secrets."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.resolvers import oc


def as_plain_config(config: DictConfig) -> dict[str, Any]:
    """The settings as plain values, for others to read.

    Interpolations are resolved, but for those that read the environment, which stay as they were written. Paths are
    relative to the working directory, or begin with `~`.
    """
    return {str(key): _interpolation_text(config, key, str(key), {}) for key in config if key != "hydra"}


def hash_environment_values(config: DictConfig) -> dict[str, str]:
    """A digest of what the environment gave to each setting that reads it."""
    read: dict[str, str] = {}
    for key in config:
        if key != "hydra":
            _interpolation_text(config, key, str(key), read)
    return read


def _interpolation_text(above: Any, key: Any, where: str, read: dict[str, str]) -> Any:
    if OmegaConf.is_missing(above, key):
        return "???"
    with _list_environment_reads() as names:
        node = above[key]
    if OmegaConf.is_dict(node):
        return {str(inner): _interpolation_text(node, inner, f"{where}.{inner}", read) for inner in node}
    if OmegaConf.is_list(node):
        return [_interpolation_text(node, index, f"{where}.{index}", read) for index in range(len(node))]
    if names:
        read[where] = f"sha256:{hashlib.sha256(str(node).encode()).hexdigest()}"
        return above._get_node(key)._value()
    return without_absolute_paths(node) if isinstance(node, str) else node


@contextmanager
def _list_environment_reads() -> Iterator[list[str]]:
    """The names of environment variables that are set and that interpolations read within the block."""
    names: list[str] = []

    def env(name: str, *default: Any) -> Any:
        if name in os.environ:
            names.append(name)
        return oc.env(name, *default)

    OmegaConf.register_new_resolver("oc.env", env, replace=True)
    try:
        yield names
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def without_absolute_paths(text: str) -> str:
    """Text without absolute paths: those below the working directory become relative, those of home begin with ~."""
    here, home = str(Path.cwd()), str(Path.home())
    for place, short in ((here, ""), (home, "~/")):
        if place not in ("/", ""):
            text = text.replace(f"{place}/", short)
    return text
