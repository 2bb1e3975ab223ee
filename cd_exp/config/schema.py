"""Every setting: its type, its range and its meaning, declared once.

To add one: a line in its section below, and one in `conf/config.yaml`. The check, the message and the page of settings
follow from it. Settings of a group are those of its constructor's signature; what is declared here, by
`GROUP.SETTING` or
`GROUP.CONSTRUCTOR.SETTING`, narrows what a signature says.
"""

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt, MinLen
from omegaconf import MISSING, OmegaConf

from cd_exp.config.types import (
    Count,
    Doc,
    NotNegative,
    OneOf,
    Pattern,
    Positive,
    Share,
    Text,
    Texts,
    Whole,
    split_annotation,
)

TAG = r"[^/\\#?%:]{1,128}"  # what W&B takes as the name of a project

OF_EVERY: Mapping[str, tuple[str, ...]] = {
    "probe": ("limit", "seed", "range", "orient", "cache", "url", "checksum"),
}
"""Settings that every choice of a group takes, and one function instead of each constructor."""

OF_THE_RUN: Mapping[str, tuple[str, ...]] = {"probe": ("on_error",)}
"""Settings that lie in a group and are the run's own."""

DECLARED: Mapping[str, Any] = {
    "model.name": Text,
    "model.layers": Texts,
    "model.final": Text | None,
    "model.architecture": Text,
    "model.weights": Text | None,
    "model.class_names": Text | list[str] | None,
    "model.hidden_truth": Mapping[str, str | list[str]],
    "model.options": Mapping[str, Any],
    "model.prefix_tokens": Whole | None,
    "model.units_axis": Annotated[int, Ge(1), Le(3)] | None,
    "probe.range": list[float] | None,
    "probe.orient": Annotated[str, OneOf("exif")] | None,
    "probe.cache": Text | None,
    "probe.url": Annotated[str, Pattern(r"https?://\S+", "an address that begins with http:// or https://")] | None,
    "probe.checksum": Annotated[str, Pattern(r"(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})", "md5:... or sha256:...")]
    | None,
    "probe.column": Text | None,
    "probe.size": Count,
    "probe.seed": Whole | None,
    "probe.shapes.seed": Whole,
    "probe.limit": Count | None,
    "probe.split": Text | None,
    "probe.partition": Count,
    "probe.root": Text | None,
    "probe.path": Text,
    "probe.folder.root": Text,
    "probe.name": Text,
    "probe.options": Mapping[str, Any],
    "concepts.words.names": Annotated[list[Any], MinLen(1)],
    "concepts.imagenet.names": Annotated[str, OneOf("published", "lemmas", "openai")],
    "concepts.count": Count,
    "concepts.path": Text,
    "concepts.name": Text,
    "concepts.templates": Text | Texts | None,
    "concepts.options": Mapping[str, Any],
    "clip.name": Text,
    "clip.architecture": Text,
    "clip.pretrained": Text | None,
    "clip.weights": Text | None,
    "clip.hub": Text | None,
    "clip.config": Text | None,
    "clip.bpe": Text | None,
    "clip.tokenizer": Text | None,
    "clip.preprocess": Mapping[str, Any] | None,
    "clip.folder": Text,
    "clip.options": Mapping[str, Any],
    "similarity.top_k": Annotated[Count, Le(10**7)],
    "similarity.scale": Positive,
    "similarity.prior_weight": float,
    "similarity.whitened_wpmi.prior_weight": float | Annotated[str, OneOf("auto")],
    "similarity.first_membership": Share,
    "similarity.last_membership": Share,
    "similarity.min_probability": Positive,
    "similarity.prior_units": Annotated[str, OneOf("all", "alive")],
    "similarity.spread": Positive,
    "similarity.leak": NotNegative,
    "similarity.silence": NotNegative,
    "similarity.match_ridge": NotNegative,
    "similarity.unit_ridge": NotNegative,
    "similarity.few_units": NotNegative,
    "similarity.centre_weight": NotNegative,
    "similarity.centre_width": Positive,
    "similarity.half_prior_units": NotNegative,
    "similarity.shrinkage": NotNegative,
    "similarity.name_weight": float,
    "similarity.min_norm": Positive,
    "similarity.top_fraction": Annotated[float, Gt(0), Le(1)],
    "similarity.power": Positive,
    "similarity.scale_power": float,
    "similarity.permutations": Count,
    "similarity.seed": Whole,
    "similarity.options": Mapping[str, Any],
    "hierarchy.path": Text | None,
    "hierarchy.file.path": Text,
    "hierarchy.precision": Annotated[float, Ge(0.7), Le(0.95)],
    "units.layer": Text,
    "units.weights": Text,
    "units.path": Text,
    "units.activation": Annotated[str | None, OneOf("none", "relu", "topk", "batchtopk", "jumprelu")],
    "units.k": Count | None,
    "units.threshold": float | None,
    "units.pool": Annotated[str, OneOf("max", "mean", "cls", "fraction")],
    "units.tokens_per_image": Count,
    "units.truth": Mapping[str, str | list[str]],
    "units.names": Texts | None,
    "baseline.quantile": Annotated[float, Gt(0), Lt(1)],
    "baseline.min_iou": Annotated[float, Gt(0), Lt(1)],
    "baseline.rename": Mapping[str, str],
    "baseline.layer": Text | None,
    "baseline.published.path": Text | Annotated[Mapping[str, Text], MinLen(1)],
    "baseline.name": Text,
    "baseline.options": Mapping[str, Any],
    "judge.options": Mapping[str, Any],
    "logger.options": Mapping[str, Any],
    "baseline.length": Count,
    "baseline.beam": Count,
    "baseline.categories": Texts | None,
    "baseline.source": Annotated[str, OneOf("clip", "annotations")],
    "baseline.solver": Annotated[str, OneOf("least_squares", "published")],
    "baseline.gain": Share,
    "baseline.candidates": Count,
    "baseline.penalty": Annotated[float, Gt(0), Le(1)],
    "baseline.lasso": Annotated[float, Gt(0), Le(1)],
    "baseline.min_share": Annotated[float, Ge(0), Lt(1)],
    "baseline.max_share": Annotated[float, Gt(0), Le(1)],
    "judge.clip": Text,
    "judge.folder": Text | None,
    "judge.held_out": Annotated[float, Gt(0), Lt(1)],
    "judge.share": Annotated[float, Gt(0), Lt(1)] | None,
    "judge.scale": Positive | None,
    "judge.bias": float | None,
    "judge.scenes": Count,
    "judge.pairs": Count,
    "logger.project": Annotated[str, Pattern(TAG, "a name of at most 128 characters without / \\ # ? % :")],
    "logger.entity": Text | None,
    "logger.mode": Annotated[str, OneOf("offline", "online", "disabled")],
    "logger.tags": list[Annotated[str, Pattern(r"(?=.*\S).{1,64}", "text of at most 64 characters")]],
    "logger.units": Whole | Annotated[str, OneOf("all")],
    "logger.system_metrics": bool,
    "logger.images": Whole,
    "logger.init_timeout": Count,
    "logger.finish_timeout": Count,
}

ON_ERROR = Annotated[str, OneOf("error", "skip")]
"""Of `probe.on_error`, which is the run's business and no constructor's."""


def declared_type(group: str, constructor: str, setting: str) -> Any | None:
    """What a setting takes; None where only the constructor's signature says it."""
    return DECLARED.get(f"{group}.{constructor}.{setting}", DECLARED.get(f"{group}.{setting}"))


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
    decode: Annotated[
        str,
        OneOf("exact", "fast"),
        Doc("resizing of images: as the network's transform says, or on bytes by torchvision, 2 to 3 times as fast"),
    ] = "exact"
    batch_size: Annotated[Count | None, Doc("images in a forward pass; null finds one that fits")] = None
    workers: Annotated[
        Annotated[int, Ge(0), Le(256)] | None,
        Doc("processes that decode images; null takes one for each processor that the run may use"),
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

    when: Annotated[
        Annotated[str, OneOf("job", "end", "never")] | None,
        Doc(
            "when pages and figures are made: with each job, after the last job of a sweep in this process, or by "
            "python -m cd_exp.report alone; null is end in a sweep and job in a run"
        ),
    ] = None
    html: Annotated[bool, Doc("whether to write report.html")] = True
    figures: Annotated[bool, Doc("whether to write figures/")] = True
    units: Annotated[Whole, Doc("units shown with images, spread over the layers")] = 24
    images: Annotated[Whole, Doc("top images shown for each unit")] = 5
    explorer: Annotated[
        str,
        OneOf("auto", "single", "folder", "none"),
        Doc("a page of all units: in a single file, in a folder, or none; auto chooses by size"),
    ] = "auto"
    maps: Annotated[
        bool | None,
        Doc(
            "whether the explorer shows where in its top images a unit is active: null, where that was kept while the "
            "features were computed; true, by another pass where it was not; false, nowhere"
        ),
    ] = None
    vector: Annotated[bool, Doc("whether figures are also written as PDF and SVG")] = False


@dataclass
class DistributedSettings:
    """Processes of one run."""

    processes: Annotated[
        Annotated[int, Ge(1), Le(256)],
        Doc("processes on this machine, at most one a processor, or 8; torchrun and Slurm decide for themselves"),
    ] = 1
    timeout_min: Annotated[Positive, Doc("minutes after which a process no longer waits for the others of its run")] = (
        10080.0
    )


@dataclass
class StabilitySettings:
    """How sure a label is."""

    resamples: Annotated[
        Whole, Le(10**4), Doc("bootstrap resamples of the probe images that each label's stability is counted over")
    ] = 40


@dataclass
class CalibrationSettings:
    """Where the constants of the probability that a label is right come from."""

    path: Annotated[Text | None, Doc("constants that python -m cd_exp.calibrate fitted; null takes the package's")] = (
        None
    )


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
    hierarchy: Annotated[Any, Doc("what concepts are setting_types of, for general labels")] = None
    logger: Annotated[Any, Doc("the tracker")] = None
    plan: Annotated[
        bool, Doc("print what the run would download, read, compute and store, and stop; no folder is made")
    ] = False
    seed: Annotated[Annotated[int, Ge(0), Lt(2**63)], Doc("random seed")] = 0
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
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)


GROUPS = tuple(name for name, kind in typing.get_type_hints(Config).items() if kind is Any)


def setting_types(section: type = Config, above: str = "") -> Mapping[str, Any]:
    """What each setting outside the groups takes, by dotted name."""
    types: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(section, include_extras=True).items():
        if dataclasses.is_dataclass(kind):
            types |= setting_types(typing.cast(type, kind), f"{above}{name}.")
        elif name not in GROUPS or above:
            types[f"{above}{name}"] = kind
    return types


def setting_meanings() -> Mapping[str, str]:
    """What each setting outside the groups means, in a sentence."""
    return {
        name: next(mark.text for mark in split_annotation(kind)[1] if isinstance(mark, Doc))
        for name, kind in setting_types().items()
    }


def register_schema() -> None:
    """Make the schema known to Hydra, and the mappings that a user may add keys to.

    `conf/config.yaml` begins with `schema`; a YAML whose `options` are the user's own begins with `open_options`.
    """
    from hydra.core.config_store import ConfigStore  # a library that only declares settings needs no Hydra

    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for key in OPEN:
        store.store(name=f"open_{key}", node=OmegaConf.create({key: OmegaConf.create({}, flags={"struct": False})}))


def config_folder() -> Path:
    """The folder of YAML files: `conf/` of a checkout, or the copy inside the installed package."""
    inside = Path(__file__).parents[1] / "conf"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "conf"
