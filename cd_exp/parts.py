"""What a run is put together from, built from the configuration. `DictConfig` stops here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from cd_exp.baselines import Method
from cd_exp.cache import Store
from cd_exp.clips import Clip
from cd_exp.config import build
from cd_exp.features import Settings
from cd_exp.models import TargetModel
from cd_exp.tracking import Logger
from cd_exp.types import Concepts, Probe, Similarity


@dataclass(frozen=True, eq=False)
class Parts:
    """Everything a run needs; nothing heavy is loaded yet."""

    model: TargetModel
    probe: Probe
    concepts: Concepts
    clip: Clip
    similarity: Similarity
    baselines: Mapping[str, Method]
    logger: Logger
    store: Store
    settings: Settings

    @staticmethod
    def of(config: DictConfig, choices: Mapping[str, str]) -> "Parts":
        """Build everything that the configuration describes.

        Args:
            config: the composed configuration.
            choices: the choice of each group; it names a baseline.
        """
        several: Any = config.baseline if config.baseline is not None else {}
        chosen = {choices["baseline"]: several} if "_target_" in several else several
        return Parts(
            model=build(config.model, group="model"),
            probe=build(config.probe, group="probe", leave_out=("on_error",)),
            concepts=build(config.concepts, group="concepts"),
            clip=build(config.clip, group="clip"),
            similarity=build(config.similarity, group="similarity"),
            baselines={name: build(node, group=f"baseline.{name}") for name, node in chosen.items()},
            logger=build(config.logger, group="logger"),
            store=Store(config.cache.dir),
            settings=Settings(
                device=config.device,
                precision=config.features.precision,
                batch_size=config.features.batch_size,
                workers=config.features.workers,
                on_error=config.probe.on_error,
                progress=config.features.progress,
            ),
        )
