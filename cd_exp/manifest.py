"""The manifest of a run: what was run, on what, with what."""

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.resolvers import oc

from cd_exp.invocation import Invocation

PACKAGES = ("cd-exp", "torch", "timm", "open_clip_torch", "numpy", "scipy")


def describe(
    config: DictConfig,
    invocation: Invocation,
    *,
    layers: Sequence[str],
    baselines: Sequence[str],
    files: Sequence[str],
    fingerprints: Mapping[str, Any],
    images: Mapping[str, Any],
    cache: Mapping[str, Any],
    device: str,
) -> dict[str, Any]:
    """Everything a reader needs to repeat the run, as plain values.

    Args:
        config: resolved here.
        invocation: how the run was asked for.
        layers: whose units are labelled.
        baselines: the other methods, as their label files are named.
        files: what the other methods added to the run folder.
        fingerprints: of the weights, images and concepts.
        images: how many were used, and which were left out.
        cache: which entries were read and which were made.
        device: what it ran on.
    """
    return {
        "config": plain(config),
        "environment": environment(config),
        "choices": {group: name for group, name in invocation.choices.items() if "/" not in group},
        "overrides": [sheltered(text) for text in invocation.overrides],
        "layers": list(layers),
        "baselines": list(baselines),
        "files": list(files),
        "fingerprints": dict(fingerprints),
        "images": dict(images),
        "cache": dict(cache),
        "versions": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "machine": platform.platform(),
        "device": device,
        "commit": commit(),
        "command": [sheltered(text) for text in sys.argv],
        "seed": config.seed,
    }


def plain(config: DictConfig) -> dict[str, Any]:
    """The settings as plain values, for others to read.

    Interpolations are resolved, but for those that read the environment, which stay as they were written. Paths are
    relative to the working directory, or begin with `~`.
    """
    return {str(key): _shown(config, key, str(key), {}) for key in config}


def environment(config: DictConfig) -> dict[str, str]:
    """A digest of what the environment gave to each setting that reads it."""
    read: dict[str, str] = {}
    for key in config:
        _shown(config, key, str(key), read)
    return read


def _shown(above: Any, key: Any, where: str, read: dict[str, str]) -> Any:
    if OmegaConf.is_missing(above, key):
        return "???"
    with _watched() as names:
        node = above[key]
    if OmegaConf.is_dict(node):
        return {str(inner): _shown(node, inner, f"{where}.{inner}", read) for inner in node}
    if OmegaConf.is_list(node):
        return [_shown(node, index, f"{where}.{index}", read) for index in range(len(node))]
    if names:
        read[where] = f"sha256:{hashlib.sha256(str(node).encode()).hexdigest()}"
        return above._get_node(key)._value()
    return sheltered(node) if isinstance(node, str) else node


@contextmanager
def _watched() -> Iterator[list[str]]:
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


def sheltered(text: str) -> str:
    """Text without absolute paths: those below the working directory become relative, those of home begin with ~."""
    here, home = str(Path.cwd()), str(Path.home())
    for place, short in ((here, ""), (home, "~/")):
        if place not in ("/", ""):
            text = text.replace(f"{place}/", short)
    return text


def commit() -> str | None:
    """The commit of the checkout that runs, with a mark where files differ from it; None where there is no checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
