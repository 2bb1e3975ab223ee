"""The parts of a run as far as they can be built without downloading anything."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cd_exp.cache import Store
from cd_exp.clips import Clip
from cd_exp.config.construct import build, check_groups
from cd_exp.experiment import Experiment, read_extraction_settings
from cd_exp.features import ExtractionSettings, check_texts
from cd_exp.io.download import MissingDownload, no_downloads
from cd_exp.models import TargetModel
from cd_exp.records import Concepts, Probe, Similarity
from cd_exp.units import Layers, Units


@dataclass(frozen=True, eq=False)
class AvailableParts:
    """What is there of a run; what has to be downloaded first is None.

    Attributes:
        everything: whether another method reads all activations.
        model_keyed: whether the network's weights are there; without them nothing of it can be stored.
        clip_keyed: the same of the backbone.
        downloads: what has to be downloaded.
    """

    model: TargetModel | None
    units: Units
    probe: Probe | None
    concepts: Concepts | None
    clip: Clip | None
    similarity: Similarity
    store: Store
    settings: ExtractionSettings
    everything: bool = False
    model_keyed: bool = True
    clip_keyed: bool = True
    downloads: tuple[MissingDownload, ...] = ()

    @staticmethod
    def of(config: DictConfig, choices: Mapping[str, str]) -> "AvailableParts":
        """The parts of a configuration, all of them checked where all are there.

        Raises:
            InputError: as `Experiment.build`, but for what would be downloaded.
        """
        with no_downloads():
            try:
                parts = Experiment.build(config, choices)
            except MissingDownload:
                return _build_one_by_one(config)
        return AvailableParts(
            parts.model, parts.units, parts.probe, parts.concepts, parts.clip, parts.similarity, parts.store,
            parts.settings, everything=parts.reads_activations,
        )  # fmt: skip


def _build_one_by_one(config: DictConfig) -> AvailableParts:
    check_groups(config)
    missing: list[MissingDownload] = []

    def there(make: Callable[[], Any]) -> Any:
        try:
            return make()
        except MissingDownload as download:
            missing.append(download)
            return None

    def build_part(group: str, **options: Any) -> Any:
        return there(lambda: build(OmegaConf.select(config, group), group=group, **options))

    store = Store(Path(config.cache.dir).expanduser())
    model, clip, concepts = build_part("model"), build_part("clip"), build_part("concepts")
    model_keyed = model is not None and there(lambda: model.key) is not None
    clip_keyed = clip is not None and there(lambda: clip.key) is not None
    if concepts is not None and clip_keyed:
        there(lambda: check_texts(clip, concepts, store=store))  # its tokenizer
    for recipe, keyed in ((model, model_keyed), (clip, clip_keyed)):
        if recipe is not None and not keyed:
            vars(recipe)["key"] = {}  # a cached property that needs the weights; nothing is looked for under it
    return AvailableParts(
        model=model,
        units=build_part("units") if config.units else Layers(),
        probe=build_part("probe", leave_out=("on_error",)),
        concepts=concepts,
        clip=clip,
        similarity=build_part("similarity"),
        store=store,
        settings=read_extraction_settings(config),
        model_keyed=model_keyed,
        clip_keyed=clip_keyed,
        downloads=tuple({download.address: download for download in missing}.values()),
    )
