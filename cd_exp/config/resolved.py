"""The composed configuration as plain values for readers of results, without local paths and secrets."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.resolvers import oc

from cd_exp.errors import HIDDEN, hide_secrets, is_secret_name


def as_plain_config(config: DictConfig) -> dict[str, Any]:
    """The settings as plain values, for others to read.

    Interpolations are resolved, but for those that read the environment, which stay as they were written. Paths are
    relative to the working directory, or begin with `~`.
    """
    return {str(key): _interpolation_text(config, key) for key in config if key != "hydra"}


def _interpolation_text(above: Any, key: Any) -> Any:
    if OmegaConf.is_missing(above, key):
        return "???"
    with _list_environment_reads() as names:
        node = above[key]
    if OmegaConf.is_dict(node):
        return {str(inner): _interpolation_text(node, inner) for inner in node}
    if OmegaConf.is_list(node):
        return [_interpolation_text(node, index) for index in range(len(node))]
    if names:
        return above._get_node(key)._value()
    if node is not None and is_secret_name(str(key)):
        return HIDDEN
    return without_private_parts(node) if isinstance(node, str) else node


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


def without_private_parts(text: str) -> str:
    """Text without secrets and absolute paths: those below the working directory become relative, home becomes ~."""
    here, home = str(Path.cwd()), str(Path.home())
    for folder, short in ((here, ""), (home, "~/")):
        if folder not in ("/", ""):
            text = text.replace(f"{folder}/", short)
    return hide_secrets(text)
