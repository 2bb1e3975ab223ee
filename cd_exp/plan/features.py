"""What features a run needs: what is stored of them, what is read, what is computed, and how long that takes."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from cd_exp.clips import Clip, Precomputed
from cd_exp.features.collecting import SHARD, Collector, Lists
from cd_exp.features.extraction import distinct, image_collector, layer_collectors
from cd_exp.features.loading import BATCH, UNREADABLE, Settings
from cd_exp.features.texts import texts_stored
from cd_exp.models import TargetModel
from cd_exp.plan.machine import measured
from cd_exp.plan.networks import Outline, Target, target, text_seconds, tower
from cd_exp.plan.pieces import Pieces
from cd_exp.plan.span import Span, total
from cd_exp.types import Concepts, Probe
from cd_exp.units import Matrix

COMPUTED, STORED = "computed", "stored: read, not made"
IMAGES, TEXTS = "images (CLIP)", "concepts (CLIP)"
NONE = Span()
PICTURES = 12
"""Opened and transformed in a sample."""


@dataclass(frozen=True)
class Step:
    """A line of a plan.

    Attributes:
        what: is done, or had.
        how: computed, stored, read.
        size: of what it gives, in words.
        bytes: that it adds to the disk.
        seconds: that it takes.
    """

    what: str
    how: str
    size: str = ""
    bytes: int = 0
    seconds: Span = NONE


@dataclass(frozen=True)
class Features:
    """The steps of a run up to its features, and what scoring has to know of them."""

    steps: tuple[Step, ...]
    layers: Mapping[str, int]
    listed: bool
    memory: int
    notes: tuple[str, ...] = ()


def of_matrix(units: Matrix, probe: Probe) -> Features:
    """Activations from files: read, not made."""
    places, notes = units.selected(probe.ids)
    widths = units.widths
    steps, memory = [], 0
    for layer, width in widths.items():
        few = places[: max(1, min(len(places), 5_000_000 // (width * units.tokens_per_image)))]
        began = time.perf_counter()
        units.activations(layer, few)
        taken = (time.perf_counter() - began) * len(places) / len(few)
        memory += 4 * len(places) * width
        steps.append(Step(layer, "read, not made", sizes(len(places), width), 0, Span(0.3 * taken, 2 * taken + 0.1)))
    return Features(tuple(steps), widths, listed=False, memory=memory, notes=notes)


def of_network(pieces: Pieces, model: TargetModel, probe: Probe, *, strongest: int | None) -> tuple[Features, Target]:
    """The layers of a network: what is stored of them, and what would be kept."""
    found = target(model, probe, pieces.units, pieces.store, keyed=pieces.model_keyed)
    if pieces.model_keyed:
        collectors = layer_collectors(
            model, probe, found.layers, store=pieces.store, settings=pieces.settings, strongest=strongest
        )
    else:
        collectors = {}
    made = distinct(collectors)
    steps, memory = [], 0
    for layer in found.layers:
        collector = collectors.get(layer.name)
        steps.append(_layer(layer.name, layer.units, len(probe), collector, again=layer.name not in made))
        memory += 4 * min(len(probe), SHARD) * layer.units
    kept = [isinstance(collector, Lists) for collector in collectors.values()]
    widths = {layer.name: layer.units for layer in found.layers}
    return Features(tuple(steps), widths, listed=bool(kept) and all(kept), memory=memory), found


def _layer(name: str, units: int, images: int, collector: Collector | None, *, again: bool) -> Step:
    size = sizes(images, units)
    if collector is None:
        return Step(name, COMPUTED, size, 4 * images * units)
    if isinstance(collector, Lists):
        size = f"{size}, the strongest {collector.kept}"
    if again:
        return Step(name, "as another layer", size)
    return _collected(name, size, collector, units, images)


def _collected(name: str, size: str, collector: Collector, width: int, images: int) -> Step:
    if collector.stored(verify=False):
        return Step(name, STORED, size, 0, Span(0, 0.1 + collector.size(width) / 1e8))
    done = len(collector.finished())
    how = f"{COMPUTED} but for {done} of {-(-images // SHARD)} shards" if done else COMPUTED
    come = collector.size(width) if isinstance(collector, Lists) else collector.bytes_to_come(width)
    return Step(name, how, size, come)


def of_images(pieces: Pieces, clip: Clip, probe: Probe) -> tuple[Step, int, Outline | None]:
    """CLIP's embeddings of the images, their length, and the tower that has to make them."""
    began = time.perf_counter()
    rows = clip.stored_images(probe.ids)
    if rows is not None:
        taken = time.perf_counter() - began
        step = Step(IMAGES, "read, not made", sizes(*rows.shape), 0, Span(0.3 * taken, 2 * taken + 0.1))
        return step, rows.shape[1], None
    collector = (
        image_collector(clip, probe, store=pieces.store, settings=pieces.settings) if pieces.clip_keyed else None
    )
    if collector is not None and collector.stored(verify=False):
        width = pieces.store.manifest(collector.entry).shape[1]
        return _collected(IMAGES, sizes(len(probe), width), collector, width, len(probe)), width, None
    outline = tower(clip, probe)
    size = sizes(len(probe), outline.width)
    if collector is None:
        return Step(IMAGES, COMPUTED, size, 4 * len(probe) * outline.width), outline.width, outline
    return _collected(IMAGES, size, collector, outline.width, len(probe)), outline.width, outline


def of_texts(pieces: Pieces, clip: Clip, concepts: Concepts, dim: int, image: Outline | None) -> Step:
    """The embeddings of the concepts."""
    size = sizes(len(concepts.names), dim)
    if pieces.clip_keyed and texts_stored(clip, concepts, store=pieces.store):
        return Step(TEXTS, STORED, size, 0, Span(0, 0.2))
    took = 4 * len(concepts.names) * dim
    if isinstance(clip, Precomputed):
        return Step(TEXTS, "read and kept", size, took, Span(0, 0.3 + took / 5e7))
    prompts = len(concepts.names) * len(concepts.templates)
    return Step(TEXTS, COMPUTED, size, took, text_seconds(clip, prompts, pieces.settings, image))


def passing(probe: Probe, networks: Sequence[Outline], settings: Settings, *, images: int) -> Span:
    """Seconds of the pass over so many images: opened and transformed by workers, and given to the networks."""
    device, _ = settings.resolved()
    each = _picture(probe, networks)
    workers = max(1, min(os.cpu_count() or 1, 8 if settings.workers is None else settings.workers))
    speed = measured(device)
    forward = total(network.cost.seconds(speed) for network in networks).times(images / BATCH)
    starting = sum(network.made for network in networks)
    decoded = each * images
    low = max(0.5 * decoded / workers, 0.7 * forward.low) + 0.05 * starting
    return Span(low, 1.5 * decoded + forward.high + 1.5 * starting + 2.0)


def _picture(probe: Probe, networks: Sequence[Outline]) -> float:
    """Seconds to open and transform a picture, in one process."""
    taken = []
    for index in range(0, len(probe), max(1, len(probe) // PICTURES)):
        began = time.perf_counter()
        try:
            picture = probe[index]
        except UNREADABLE:
            continue
        for network in networks:
            network.transform(picture)
        taken.append(time.perf_counter() - began)
    return median(taken) if taken else 0.0


def sizes(rows: int, columns: int) -> str:
    """A size in words."""
    return f"{rows:,} x {columns:,}"
