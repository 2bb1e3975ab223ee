"""The settings of a run that belong to no group: each with its type, its range and its meaning, once and here.

To add one: a line in its section below, and one in `conf/config.yaml`. The check, the message and the page of settings
follow from it.
"""

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le, Lt
from omegaconf import MISSING, OmegaConf

from cd_exp.settings.values import Count, Doc, NotNegative, OneOf, Pattern, Text, Whole, parts

OPEN = ("options", "rename", "hidden_truth", "truth")
"""Mappings of a group whose keys are the user's: `model.options.KEY=VALUE` needs no `+`."""


@dataclass
class CacheSettings:
    """Where features are kept between runs."""

    dir: Annotated[Text, Doc("folder of the features kept between runs")] = MISSING


@dataclass
class FeatureSettings:
    """How features are computed, and what of them is kept."""

    precision: Annotated[
        str,
        OneOf("auto", "float32", "bfloat16", "float16"),
        Doc("of the forward passes; auto is float32 on the CPU and bfloat16 on CUDA"),
    ] = "auto"
    batch_size: Annotated[Count | None, Doc("images in a forward pass; null finds one that fits")] = None
    workers: Annotated[
        Annotated[int, Ge(0), Le(256)] | None, Doc("processes that decode images; null takes one a core, up to 8")
    ] = None
    progress: Annotated[bool, Doc("whether progress bars are drawn")] = True
    keep: Annotated[
        str,
        OneOf("auto", "lists", "dense"),
        Doc("keep each unit's strongest images, or every activation; auto keeps what fits dense_limit"),
    ] = "auto"
    dense_limit: Annotated[
        NotNegative, Doc("GB (10^9 bytes) of all layers' activations up to which auto keeps every one")
    ] = 2.0


@dataclass
class ReportSettings:
    """What is drawn besides the tables."""

    html: Annotated[bool, Doc("whether to write report.html")] = True
    figures: Annotated[bool, Doc("whether to write figures/")] = True
    units: Annotated[Whole, Doc("units shown with pictures, spread over the layers")] = 24
    images: Annotated[Whole, Doc("top images shown for each unit")] = 5
    explorer: Annotated[
        str,
        OneOf("auto", "single", "folder", "none"),
        Doc("a page of all units: in a single file, in a folder, or none; auto chooses by size"),
    ] = "auto"
    maps: Annotated[bool, Doc("whether the explorer shows where in its top images a unit is active")] = False
    vector: Annotated[bool, Doc("whether figures are also written as PDF and SVG")] = False


@dataclass
class DistributedSettings:
    """Processes of one run."""

    processes: Annotated[
        Annotated[int, Ge(1), Le(256)],
        Doc("processes on this machine, at most one a processor, or 8; torchrun and Slurm decide for themselves"),
    ] = 1


@dataclass
class StabilitySettings:
    """How sure a label is."""

    resamples: Annotated[
        Whole, Le(10**4), Doc("redrawings of the probe images that each label's stability is counted over")
    ] = 40


@dataclass
class Config:
    """All settings of a run. A group holds the name of its constructor and what that takes."""

    model: Annotated[Any, Doc("the target network")] = MISSING
    units: Annotated[Any, Doc("what is named: units of layers, latents, directions")] = None
    probe: Annotated[Any, Doc("the images both networks look at")] = MISSING
    concepts: Annotated[Any, Doc("the words to choose from")] = MISSING
    clip: Annotated[Any, Doc("the backbone that knows images and words")] = MISSING
    similarity: Annotated[Any, Doc("how activations and matches are compared")] = MISSING
    baseline: Annotated[Any, Doc("another method on the same units")] = None
    judge: Annotated[Any, Doc("who judges labels where no truth is known")] = None
    logger: Annotated[Any, Doc("the tracker")] = None
    plan: Annotated[
        bool, Doc("print what the run would download, read, compute and store, and stop; no folder is made")
    ] = False
    seed: Annotated[Annotated[int, Ge(0), Lt(2**63)], Doc("of every random draw")] = 0
    top: Annotated[Count, Doc("concepts kept for each unit")] = 5
    device: Annotated[
        str,
        Pattern(r"auto|cpu|mps|cuda(:\d{1,2})?", "one of auto, cpu, cuda, cuda:0, cuda:1, ..."),
        Doc("where the networks run"),
    ] = "auto"
    data_dir: Annotated[Text, Doc("folder of probe sets and downloads")] = "data"
    cache: CacheSettings = field(default_factory=CacheSettings)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    report: ReportSettings = field(default_factory=ReportSettings)
    distributed: DistributedSettings = field(default_factory=DistributedSettings)
    stability: StabilitySettings = field(default_factory=StabilitySettings)


GROUPS = tuple(name for name, kind in typing.get_type_hints(Config).items() if kind is Any)


def kinds(section: type = Config, above: str = "") -> Mapping[str, Any]:
    """What each setting outside the groups takes, by dotted name."""
    found: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(section, include_extras=True).items():
        if dataclasses.is_dataclass(kind):
            found |= kinds(typing.cast(type, kind), f"{above}{name}.")
        elif name not in GROUPS or above:
            found[f"{above}{name}"] = kind
    return found


def meanings() -> Mapping[str, str]:
    """What each setting outside the groups means, in a sentence."""
    return {name: next(mark.text for mark in parts(kind)[1] if isinstance(mark, Doc)) for name, kind in kinds().items()}


def register() -> None:
    """Make the schema known to Hydra, and the mappings that a user may add keys to.

    `conf/config.yaml` begins with `schema`; a YAML whose `options` are the user's own begins with `open_options`.
    """
    from hydra.core.config_store import ConfigStore  # a library that only declares settings needs no Hydra

    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for key in OPEN:
        store.store(name=f"open_{key}", node=OmegaConf.create({key: OmegaConf.create({}, flags={"struct": False})}))


def directory() -> Path:
    """The folder of YAML files: `conf/` of a checkout, or the copy inside the installed package."""
    inside = Path(__file__).parents[1] / "conf"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "conf"
