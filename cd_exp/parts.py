"""What a run is put together from, built from the configuration. `DictConfig` stops here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from cd_exp.baselines import Method
from cd_exp.cache import Store
from cd_exp.config import GROUPS
from cd_exp.config.compose import choice
from cd_exp.config.construct import build, check_groups
from cd_exp.config.resolved import environment, plain
from cd_exp.faithfulness import Judge
from cd_exp.features import Settings, check_texts
from cd_exp.records import Similarity
from cd_exp.run_data import RunInputs
from cd_exp.tracking import Logger, NoLogger
from cd_exp.units import Layers


@dataclass(frozen=True)
class Options:
    """What a run does with its parts, as plain values.

    Attributes:
        settings: the whole configuration, for readers of the results.
        environment: a digest of what the environment gave to each setting that reads it.
        top: concepts kept for each unit.
        resamples: redrawings of the images that the stability of a label is counted over.
        html: whether `report.html` is written.
        figures: whether `figures/` is drawn.
        explorer: `auto`, `single`, `folder` or `none`.
        units: how many units are shown with pictures.
        images: how many pictures of each.
        maps: whether the explorer shows where in its top images a unit is active.
        vector: whether figures are written as PDF and SVG too.
    """

    settings: Mapping[str, Any]
    environment: Mapping[str, str]
    top: int
    resamples: int
    html: bool
    figures: bool
    explorer: Literal["auto", "single", "folder", "none"]
    units: int
    images: int
    maps: bool
    vector: bool

    @staticmethod
    def of(config: DictConfig) -> "Options":
        """Those of a composed configuration."""
        own = {"top": config.top, "resamples": config.stability.resamples}
        return Options(plain(config), environment(config), **own, **OmegaConf.to_container(config.report))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False, kw_only=True)
class Parts(RunInputs):
    """Everything a run needs: what goes in, and what is done with it. Nothing heavy is loaded yet."""

    similarity: Similarity
    baselines: Mapping[str, Method]
    judge: Judge | None
    logger: Logger
    options: Options

    @staticmethod
    def build(config: DictConfig, choices: Mapping[str, str]) -> "Parts":
        """Build everything that the configuration describes, and have each part say whether it fits the others.

        Args:
            config: the composed configuration.
            choices: the choice of each group; it names a baseline.

        Raises:
            InputError: before anything is computed.
        """
        check_groups(config)
        groups = {group: OmegaConf.select(config, group) for group in GROUPS}
        several: Any = groups["baseline"] or {}
        chosen = {several.get("name", choices["baseline"]): several} if "_target_" in several else several
        parts = Parts(  # in this order: what may download a data set comes last
            similarity=build(groups["similarity"], group="similarity"),
            baselines={name: build(node, group="baseline") for name, node in chosen.items()},
            judge=_judge(config, groups["judge"]),
            logger=build(groups["logger"], group="logger") if groups["logger"] else NoLogger(),
            model=_keyed(build(groups["model"], group="model")),
            units=build(groups["units"], group="units") if groups["units"] else Layers(),
            clip=_keyed(build(groups["clip"], group="clip")),
            concepts=build(groups["concepts"], group="concepts"),
            probe=build(groups["probe"], group="probe", leave_out=("on_error",)),
            store=Store(Path(config.cache.dir).expanduser()),
            settings=settings_of(config),
            seed=config.seed,
            options=Options.of(config),
        )
        parts.check()
        return parts

    @property
    def reads_activations(self) -> bool:
        """Whether a judge or another method reads all activations, whatever the similarity function reads."""
        methods = self.baselines.values()
        return self.judge is not None or any(method.reads_activations for method in methods)

    def check(self) -> None:
        """Refuse parts that do not go together, as far as they can tell without computing anything.

        Each has a `check` of its own; a method and a judge are given the probe.
        """
        self.settings.resolved()
        for method in self.baselines.values():
            method.check(self.probe)
        if self.judge is not None:
            self.judge.check(self.probe)
        self.logger.check()
        check_texts(self.clip, self.concepts, store=self.store)


def settings_of(config: DictConfig) -> Settings:
    """How features are computed."""
    return Settings(
        device=config.device,
        precision=config.features.precision,
        batch_size=config.features.batch_size,
        workers=config.features.workers,
        on_error=config.probe.on_error,
        progress=config.features.progress,
        keep=config.features.keep,
        dense_limit=config.features.dense_limit,
    )


def _keyed(recipe: Any) -> Any:
    """The recipe, its key computed: missing files, or files that are no weights, are reported here."""
    _ = recipe.key
    return recipe


def _judge(config: DictConfig, node: DictConfig | None) -> Judge | None:
    """The judge; one that asks a CLIP backbone names a choice of the group `clip`."""
    if node is None:
        return None
    if OmegaConf.is_missing(node, "clip") or not isinstance(node.get("clip"), str):
        return build(node, group="judge")
    held = config.copy()  # the choice's interpolations are seen from the whole configuration
    OmegaConf.set_struct(held, False)
    held.judge.clip = choice("clip", node.clip, setting="judge.clip")
    for key in held.judge.clip:  # what has to be set is as in the run's own backbone, where that is of the same kind
        same = held.judge.clip.get("_target_") == config.clip.get("_target_")
        if same and OmegaConf.is_missing(held.judge.clip, key):
            held.judge.clip[key] = config.clip[key]
    return build(held.judge, group="judge")
