"""What features a run needs: what is stored of them, what is read, what is computed.

The parts of the run are built as far as they can be without downloading anything.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cd_exp.cache import Store
from cd_exp.clips import Clip, Precomputed
from cd_exp.config.construct import build, check_groups
from cd_exp.experiment import Experiment, read_extraction_settings
from cd_exp.features import ExtractionSettings, check_texts
from cd_exp.features.extract import drop_duplicate_layers, make_image_writer, make_layer_writers
from cd_exp.features.store_activations import SHARD, ActivationWriter, TopKWriter
from cd_exp.features.strongest_maps import bytes_of_maps, choose_map_layers
from cd_exp.features.texts import are_texts_stored
from cd_exp.io.download import MissingDownload, no_downloads
from cd_exp.models import TargetModel
from cd_exp.plan.networks import Outline, Target, outline_target, outline_tower
from cd_exp.records import Concepts, Probe, Similarity
from cd_exp.units import ActivationMatrix, Layers, Units


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


COMPUTED, STORED = "computed", "cached"
IMAGES, TEXTS = "images (CLIP)", "concepts (CLIP)"


@dataclass(frozen=True)
class Step:
    """A line of a plan.

    Attributes:
        what: is done, or had.
        how: computed, stored, read.
        size: of what it gives, in words.
        bytes: that it adds to the disk.
    """

    what: str
    how: str
    size: str = ""
    bytes: int = 0


@dataclass(frozen=True)
class FeatureSteps:
    """The steps of a run up to its features, and what scoring has to know of them."""

    steps: tuple[Step, ...]
    layers: Mapping[str, int]
    listed: bool
    memory: int
    notes: tuple[str, ...] = ()


def plan_matrix(units: ActivationMatrix, probe: Probe) -> FeatureSteps:
    """Activations from files: cached."""
    rows, notes = units.select_rows(probe.ids)
    widths = units.widths
    steps, memory = [], 0
    for layer, width in widths.items():
        units.activations(layer, rows[:1])  # a file that cannot be read is refused here, as by the run
        memory += 4 * len(rows) * width
        steps.append(Step(layer, "cached", layer_sizes(len(rows), width)))
    return FeatureSteps(tuple(steps), widths, listed=False, memory=memory, notes=notes)


def plan_network(
    pieces: AvailableParts, model: TargetModel, probe: Probe, *, strongest: int | None
) -> tuple[FeatureSteps, Target]:
    """The layers of a network: what is stored of them, and what would be kept."""
    target = outline_target(model, probe, pieces.units, pieces.store, keyed=pieces.model_keyed)
    if pieces.model_keyed:
        collectors = make_layer_writers(
            model, probe, target.layers, store=pieces.store, settings=pieces.settings, strongest=strongest
        )
    else:
        collectors = {}
    made = drop_duplicate_layers(collectors)
    with_maps = choose_map_layers(target.layers, len(probe)) if pieces.settings.maps else ()
    steps, memory = [], 0
    for layer in target.layers:
        collector = collectors.get(layer.name)
        step = _plan_layer(layer.name, layer.units, len(probe), collector, again=layer.name not in made)
        maps = bytes_of_maps(layer) if step.bytes and layer.name in with_maps else 0
        steps.append(replace(step, bytes=step.bytes + maps))
        memory += 4 * min(len(probe), SHARD) * layer.units
    kept = [isinstance(collector, TopKWriter) for collector in collectors.values()]
    widths = {layer.name: layer.units for layer in target.layers}
    return FeatureSteps(tuple(steps), widths, listed=bool(kept) and all(kept), memory=memory), target


def _plan_layer(name: str, units: int, images: int, collector: ActivationWriter | None, *, again: bool) -> Step:
    size = layer_sizes(images, units)
    if collector is None:
        return Step(name, COMPUTED, size, 4 * images * units)
    if isinstance(collector, TopKWriter):
        size = f"{size}, the strongest {collector.kept}"
    if again:
        return Step(name, "as another layer", size)
    return _plan_writer(name, size, collector, units, images)


def _plan_writer(name: str, size: str, collector: ActivationWriter, width: int, images: int) -> Step:
    if collector.is_stored(verify=False):
        return Step(name, STORED, size)
    done = len(collector.finished_shards())
    how = (
        f"{COMPUTED} but for {done} of {-(-images // (collector.find_shard_size() or SHARD))} shards"
        if done
        else COMPUTED
    )
    come = collector.size(width) if isinstance(collector, TopKWriter) else collector.bytes_to_come(width)
    return Step(name, how, size, come)


def plan_images(pieces: AvailableParts, clip: Clip, probe: Probe) -> tuple[Step, int, Outline | None]:
    """CLIP's embeddings of the images, their length, and the tower that has to make them."""
    rows = clip.stored_images(probe.ids)
    if rows is not None:
        return Step(IMAGES, "cached", layer_sizes(*rows.shape)), rows.shape[1], None
    keyed = pieces.clip_keyed and not clip.own_code  # such code is run to know its key
    collector = make_image_writer(clip, probe, store=pieces.store, settings=pieces.settings) if keyed else None
    if collector is not None and collector.is_stored(verify=False):
        width = pieces.store.manifest(collector.entry).shape[1]
        return _plan_writer(IMAGES, layer_sizes(len(probe), width), collector, width, len(probe)), width, None
    outline = outline_tower(clip, probe)
    size = layer_sizes(len(probe), outline.width)
    if collector is None:
        return Step(IMAGES, COMPUTED, size, 4 * len(probe) * outline.width), outline.width, outline
    return _plan_writer(IMAGES, size, collector, outline.width, len(probe)), outline.width, outline


def plan_texts(pieces: AvailableParts, clip: Clip, concepts: Concepts, dim: int) -> Step:
    """The embeddings of the concepts."""
    size = layer_sizes(len(concepts.names), dim)
    if pieces.clip_keyed and not clip.own_code and are_texts_stored(clip, concepts, store=pieces.store):
        return Step(TEXTS, STORED, size)
    took = 4 * len(concepts.names) * dim
    if isinstance(clip, Precomputed):
        return Step(TEXTS, "read and kept", size, took)
    return Step(TEXTS, COMPUTED, size, took)


def layer_sizes(rows: int, columns: int) -> str:
    """A size in words."""
    return f"{rows:,} x {columns:,}"
