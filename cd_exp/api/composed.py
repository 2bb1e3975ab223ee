"""The configuration that a call stands for: that of the command line, with what the program holds put in."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hydra import version
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from cd_exp.config.compose import compose_choice, make_composer, parse_arguments
from cd_exp.config.construct import HELD, build
from cd_exp.errors import unknown_name_error
from cd_exp.experiment import RunOptions
from cd_exp.features import ExtractionSettings


def compose_call(choices: Mapping[str, object]) -> tuple[DictConfig, dict[str, str]]:
    """The default configuration with the groups that the caller chose by name.

    Args:
        choices: by group a name, or an object, which is left to others.

    Returns:
        The configuration, and the names by group.

    Raises:
        InputError: a name is none of its group.
    """
    names = {group: name for group, name in choices.items() if isinstance(name, str)}
    with _isolated_hydra():
        hydra = make_composer(parse_arguments([])[0])
        for group, name in names.items():
            offered = [choice for choice in hydra.config_loader.get_group_options(group) if choice != "custom"]
            if name not in offered:
                raise unknown_name_error(group, name, offered)
        overrides = [f"{group}={name}" for group, name in names.items()]
        whole = hydra.compose_config("config", overrides, RunMode.RUN, with_log_configuration=False)
        config = OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])
        OmegaConf.set_struct(config, False)
        for group in names:
            OmegaConf.resolve(config[group])
    return config, names


def build_group(group: str, config: DictConfig) -> Any:
    """The part that a group's choice describes."""
    return build(config[group], group=group)


def build_choice(group: str, name: str, *, argument: str) -> Any:
    """The part that a choice of a group describes, by its name alone.

    Raises:
        InputError: there is no such choice, or it needs more than its name.
    """
    with _isolated_hydra():
        return build(compose_choice(group, name, setting=argument), group=group)


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


def describe_options(
    held: Mapping[str, Any],
    config: DictConfig,
    names: Mapping[str, str],
    *,
    settings: ExtractionSettings,
    top: int,
    resamples: int,
    seed: int,
) -> RunOptions:
    """What the run is to do; in its settings, which a saved manifest shows, objects stand by their names."""
    config.baseline = {name: _as_plain_values(method) for name, method in held["baselines"].items()} or None
    for group, part in held.items():
        if group not in (*names, "baselines"):
            config[group] = None if part is None else _as_plain_values(part)
    config.logger, config.top, config.seed = None, top, seed
    config.stability.resamples = resamples
    config.device, config.probe.on_error = settings.device, settings.on_error
    for key in ("precision", "batch_size", "workers", "progress", "keep", "dense_limit", "decode"):
        config.features[key] = getattr(settings, key)
    return RunOptions.of(config)


def _as_plain_values(part: Any) -> dict[str, Any]:
    """What an object is, as plain values."""
    function = getattr(part, "func", part)  # with settings bound
    named = function if hasattr(function, "__qualname__") else type(part)
    plain: dict[str, Any] = {HELD: f"{named.__module__}.{named.__qualname__}"}
    plain |= {key: str(value) for key in ("name", "root") if (value := getattr(part, key, None)) is not None}
    layers = getattr(part, "layers", None)
    return plain | ({"layers": list(layers)} if layers is not None else {})
