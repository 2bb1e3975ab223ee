"""The manifest of a run: what was run, on what, with what."""

import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cd_exp.config.compose import Invocation
from cd_exp.config.resolved import sheltered

PACKAGES = ("cd-exp", "torch", "timm", "open_clip_torch", "numpy", "scipy")


def describe(
    config: Mapping[str, Any],
    invocation: Invocation,
    *,
    environment: Mapping[str, str],
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
        config: the settings as plain values, of `cd_exp.config.resolved`.
        invocation: how the run was asked for.
        environment: what they read from the environment, likewise.
        layers: whose units are labelled.
        baselines: the other methods, as their label files are named.
        files: what the other methods added to the run folder.
        fingerprints: of the weights, images and concepts.
        images: how many were used, and which were left out.
        cache: which entries were read and which were made.
        device: what it ran on.
    """
    return {
        "config": dict(config),
        "environment": dict(environment),
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
        "seed": config["seed"],
    }


def commit() -> str | None:
    """The commit of the checkout that runs, with a mark where files differ from it; None where there is no checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
