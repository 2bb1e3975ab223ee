"""The composed configuration as plain values for readers of results, without local paths and secrets."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.resolvers import oc

from cd_exp.config.schema import Config
from cd_exp.errors import HIDDEN, hide_secrets, is_secret_name

TARGETS_OF_0_2_0: Mapping[str, str] = {
    "cd_exp.baselines.Invert": "cd_exp.evaluation.baselines.Invert",
    "cd_exp.baselines.LinearExplanations": "cd_exp.evaluation.baselines.LinearExplanations",
    "cd_exp.baselines.NetDissect": "cd_exp.evaluation.baselines.NetDissect",
    "cd_exp.baselines.custom": "cd_exp.evaluation.baselines.custom",
    "cd_exp.baselines.published": "cd_exp.evaluation.baselines.published",
    "cd_exp.clips.Custom": "cd_exp.clips.CustomClip",
    "cd_exp.custom_similarity.custom": "cd_exp.similarity.custom",
    "cd_exp.faithfulness.Annotations": "cd_exp.evaluation.judges.AnnotationsJudge",
    "cd_exp.faithfulness.Backbone": "cd_exp.evaluation.judges.ClipJudge",
    "cd_exp.faithfulness.Pictures": "cd_exp.evaluation.judges.ImagesJudge",
    "cd_exp.tracking.NoLogger": "cd_exp.results.wandb.NoLogger",
    "cd_exp.tracking.Wandb": "cd_exp.results.wandb.Wandb",
    "cd_exp.units.Matrix": "cd_exp.units.ActivationMatrix",
}
"""Constructors that a run of 0.2.0 wrote into its manifest, and what they are called now."""
_TARGET_OVERRIDE = re.compile(r"(?P<key>.*\._target_=)(?P<name>.*)", re.DOTALL)


def rename_targets(stored: Any) -> Any:
    """A stored configuration, or an override, with the constructors that have another name since.

    >>> rename_targets({"judge": {"_target_": "cd_exp.faithfulness.Backbone", "clip": "rn50"}})
    {'judge': {'_target_': 'cd_exp.evaluation.judges.ClipJudge', 'clip': 'rn50'}}
    """
    if isinstance(stored, Mapping):
        return {
            key: TARGETS_OF_0_2_0.get(value, value)
            if key == "_target_" and isinstance(value, str)
            else rename_targets(value)
            for key, value in stored.items()
        }
    if isinstance(stored, list):
        return [rename_targets(value) for value in stored]
    match = _TARGET_OVERRIDE.fullmatch(stored) if isinstance(stored, str) else None
    return match["key"] + TARGETS_OF_0_2_0.get(match["name"], match["name"]) if match else stored


def restore_config(stored: Mapping[str, Any]) -> DictConfig:
    """The configuration of a manifest, to build the run from; settings that its version had not take their defaults.

    >>> restore_config({"seed": 3, "report": {"units": 5}}).report.images, restore_config({"seed": 3}).seed
    (5, 3)
    """
    defaults = OmegaConf.to_container(OmegaConf.structured(Config))
    return cast(DictConfig, OmegaConf.merge(OmegaConf.create(defaults), OmegaConf.create(rename_targets(dict(stored)))))


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
    current, home = str(Path.cwd()), str(Path.home())
    for folder, short in ((current, ""), (home, "~/")):
        if folder not in ("/", ""):
            text = text.replace(f"{folder}/", short)
    return hide_secrets(text)
