"""The schema of the scalar settings, and the step from configuration to built objects.

Importing this costs no torch: `--help` needs only the schema.
"""

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.config_store import ConfigStore
from hydra.experimental.callback import Callback
from omegaconf import MISSING, DictConfig, OmegaConf

from cd_exp.errors import InputError, unknown

NAMESPACE = "cd_exp."
"""Only targets in here are ever instantiated."""


@dataclass
class CacheSettings:
    """Where features are kept between runs."""

    dir: str = MISSING


@dataclass
class FeatureSettings:
    """How features are computed; see `cd_exp.features.Settings`."""

    precision: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    progress: bool = True


@dataclass
class ReportSettings:
    """What is drawn besides the tables."""

    html: bool = True
    figures: bool = True
    units: int = 24
    images: int = 5
    explorer: str = "auto"
    maps: bool = False
    vector: bool = False


@dataclass
class StabilitySettings:
    """How often the probe's images are drawn anew to see which labels stay."""

    resamples: int = 40


@dataclass
class AbstainSettings:
    """Units whose label is given by fewer resamples than this share are marked `abstained`."""

    stability: float | None = None


@dataclass
class DistributedSettings:
    """Processes on this machine; under torchrun and Slurm the launcher decides."""

    processes: int = 1


@dataclass
class Config:
    """All settings of a run. The groups hold `_target_` and its arguments, checked against its signature."""

    model: Any = MISSING
    probe: Any = MISSING
    concepts: Any = MISSING
    clip: Any = MISSING
    similarity: Any = MISSING
    baseline: Any = None
    logger: Any = None
    seed: int = 0
    top: int = 5
    device: str = "auto"
    data_dir: str = "data"
    cache: CacheSettings = field(default_factory=CacheSettings)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    report: ReportSettings = field(default_factory=ReportSettings)
    stability: StabilitySettings = field(default_factory=StabilitySettings)
    abstain: AbstainSettings = field(default_factory=AbstainSettings)
    distributed: DistributedSettings = field(default_factory=DistributedSettings)


class SweepFolder(Callback):
    """Hydra's callback that notes where a multirun puts its jobs; they are gathered there when it ends, however."""

    begun: ClassVar[list[Path]] = []

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Note the folder."""
        self.begun.append(Path(config.hydra.sweep.dir))


def register() -> None:
    """Make the schema known to Hydra under the name that `conf/config.yaml` begins with."""
    ConfigStore.instance().store(name="schema", node=Config)


def directory() -> Path:
    """The folder of YAML files: `conf/` of a checkout, or the copy inside the installed package."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "conf"


def build(node: DictConfig, *, group: str, leave_out: tuple[str, ...] = ()) -> Any:
    """What a group's YAML describes, after its target and arguments were checked.

    Args:
        node: the composed group.
        group: its name, for errors.
        leave_out: keys that are not arguments of the target.

    Raises:
        InputError: a target outside our own namespace, an unknown or missing argument, a value of the wrong type.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    plain = OmegaConf.to_container(node, resolve=True, throw_on_missing=False)
    assert isinstance(plain, dict)
    for key in leave_out:
        plain.pop(key, None)
    check(plain, where=group)
    try:
        return instantiate(plain, _convert_="all")
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            raise cause from error
        raise


def check(node: Any, *, where: str) -> None:
    """Refuse, at any depth, what is not ours to instantiate or does not fit the signature of its target."""
    if isinstance(node, (list, tuple)):
        for place, item in enumerate(node):
            check(item, where=f"{where}[{place}]")
    if not isinstance(node, Mapping):
        return
    for key, value in node.items():
        check(value, where=f"{where}.{key}")
    if "_target_" in node:
        _check_arguments(_located(str(node["_target_"]), where), node, where)


def _located(target: str, where: str) -> Callable[..., Any]:
    if not target.startswith(NAMESPACE):
        raise InputError(f"{where}._target_={target} is outside {NAMESPACE}*; only our own constructors are called")
    from hydra.utils import get_object

    try:
        return get_object(target)
    except Exception as error:
        if error.__class__ in (ImportError, ModuleNotFoundError, AttributeError) or "Error" in type(error).__name__:
            raise InputError(f"{where}._target_={target} does not exist") from error
        raise


def _check_arguments(function: Callable[..., Any], node: Mapping[str, Any], where: str) -> None:
    parameters = inspect.signature(function).parameters
    hints = typing.get_type_hints(vars(function)["__init__"] if isinstance(function, type) else function)
    given = {key: value for key, value in node.items() if not key.startswith("_")}
    for key, value in given.items():
        if key not in parameters:
            raise unknown("setting", f"{where}.{key}", [f"{where}.{name}" for name in parameters], where="known")
        if value == "???":
            raise InputError(f"{where}.{key} must be set: add {where}.{key}=VALUE")
        if not _fits(value, hints.get(key, Any)):
            wanted = getattr(hints[key], "__name__", None) or str(hints[key])
            raise InputError(f"{where}.{key}={value!r} is of type {type(value).__name__}, expected {wanted}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain value fits a hint of plain types; other hints are the constructor's own business."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool, type(None)):
        return isinstance(value, hint)
    return True
