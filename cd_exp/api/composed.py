"""The configuration that a call stands for: that of the command line, with what the program holds put in.

A saved manifest shows it, and it takes .3 s to compose: a call does without.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hydra import version
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from cd_exp.config.compose import make_composer, parse_arguments
from cd_exp.config.construct import HELD
from cd_exp.config.resolved import as_plain_config
from cd_exp.experiment import Experiment

FEATURES = ("precision", "batch_size", "workers", "progress", "keep", "dense_limit", "decode")


def describe_call(parts: Experiment, names: Mapping[str, str]) -> dict[str, Any]:
    """The settings of a call as plain values, as a saved manifest shows them; objects stand by their names.

    Args:
        parts: of the call.
        names: by group, of the choices that were named.
    """
    with _isolated_hydra():
        hydra = make_composer(parse_arguments([])[0])
        overrides = [f"{group}={name}" for group, name in names.items()]
        whole = hydra.compose_config("config", overrides, RunMode.RUN, with_log_configuration=False)
    config = OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])
    OmegaConf.set_struct(config, False)
    for group in names:
        OmegaConf.resolve(config[group])
    for group in ("model", "units", "concepts", "probe", "clip", "similarity", "judge"):
        if group not in names:
            part = getattr(parts, group)
            config[group] = None if part is None else _as_plain_values(part)
    config.baseline = {name: _as_plain_values(method) for name, method in parts.baselines.items()} or None
    config.logger, config.top, config.seed = None, parts.options.top, parts.seed
    config.stability.resamples = parts.options.resamples
    config.device, config.probe.on_error = parts.settings.device, parts.settings.on_error
    for key in FEATURES:
        config.features[key] = getattr(parts.settings, key)
    return as_plain_config(config)


@contextmanager
def _isolated_hydra() -> Iterator[None]:
    """Use Hydra without disturbing the calling program, which may be a Hydra application itself."""
    running, base = GlobalHydra.instance(), version.VersionBase.instance()
    theirs, their_base = running.hydra, base.version_base
    running.hydra = None
    try:
        yield
    finally:
        running.hydra, base.version_base = theirs, their_base


def _as_plain_values(part: Any) -> dict[str, Any]:
    """What an object is, as plain values."""
    function = getattr(part, "func", part)  # with settings bound
    named = function if hasattr(function, "__qualname__") else type(part)
    plain: dict[str, Any] = {HELD: f"{named.__module__}.{named.__qualname__}"}
    plain |= {key: str(value) for key in ("name", "root") if (value := getattr(part, key, None)) is not None}
    layers = getattr(part, "layers", None)
    return plain | ({"layers": list(layers)} if layers is not None else {})
