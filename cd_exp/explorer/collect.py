"""From a run to what the pages hold: plain values, typed arrays and sheets of thumbnails."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from cd_exp.activation_stats import ActivationStatistics
from cd_exp.dissection import RunData
from cd_exp.explorer.heatmaps import find_rows, make_heat_maps
from cd_exp.explorer.payload import (
    TOP,
    NameTable,
    PageContent,
    describe_content,
    describe_labels,
    describe_labels_only,
    encode_array,
)
from cd_exp.explorer.text_queries import TextQuery
from cd_exp.explorer.thumbnails import ThumbnailSheets, make_thumbnails
from cd_exp.explorer.unit_statistics import (
    ActivationSpread,
    activation_percentiles,
    nearest_concepts,
    nearest_units,
    select_shown_images,
    top_units_per_image,
)
from cd_exp.features import Features
from cd_exp.features.strongest_maps import SHOWN
from cd_exp.records import RunResult, TopActivations, has_images

OF_A_CONCEPT = 8  # images with the highest CLIP score
MOST = 12_000  # distinct images: with more, fewer of each unit and concept are kept
FEWER = ((10, 3, 8), (10, 1, 4), (6, 1, 2), (4, 0, 0), (3, 0, 0), (2, 0, 0), (1, 0, 0))
"""Images kept of a unit, about each percentile, and of a concept: the first row that does not exceed the limit."""


def collect_pages(
    run: RunData,
    outcome: RunResult,
    *,
    manifest: Mapping[str, Any],
    title: str,
    asked: Sequence[TextQuery] = (),
    maps: bool | None = None,
    limit: int = MOST,
) -> PageContent:
    """What the explorer shows of a run: where the images are known by their ids alone, the labels.

    Args:
        run: what the run has.
        outcome: all labels, judged and compared.
        manifest: how the run was asked for, and with what it was made.
        title: what the pages are called.
        asked: words asked for besides, with the units that answer to them.
        maps: whether to show where in its strongest images a unit is active; None, where it was kept with the features.
        limit: distinct images on the pages; with more, fewer of each unit and concept are shown.
    """
    if not has_images(run.probe):
        return describe_labels_only(outcome, manifest=manifest, title=title)
    features, names = run.features, NameTable()
    concepts = _list_concepts_used(run, outcome)
    shown = _choose_images(run, list(outcome.labels), [column for _, column in concepts])
    most = shown.choose_counts(limit)
    groups, kept = _group_units(shown.lists, most, asked), np.asarray(features.kept)
    sheets = make_thumbnails(run.probe, [kept[group].tolist() for group in groups], store=run.store)
    rows, thumbnail_of = np.concatenate(groups), np.full(len(kept), -1)
    thumbnail_of[rows] = [sheets.places[image] for image in kept[rows].tolist()]
    run_part = describe_content(outcome, _describe_run_facts(run, manifest), manifest, title=title, names=names)
    run_part["images"] = _list_images(run, sheets) | _find_image_folder(run, manifest)
    images, cosines = shown.of_concepts[:, : most[2]], shown.cosines[:, : most[2]]
    run_part["concepts"] = _collect_concepts(run, names, concepts, thumbnail_of[images], cosines)
    run_part["queries"] = [words.encode(thumbnail_of) for words in asked]
    parts: dict[str, Any] = {"run": run_part}
    rows_shown = find_rows({layer: part.indices[: most[0]] for layer, part in shown.strongest.items()}, features.kept)
    heat, region = ({}, None) if maps is False else make_heat_maps(run, rows_shown, again=maps is True)
    run_part["region"] = list(astuple(region)) if region else []
    for number, (layer, labels) in enumerate(outcome.labels.items()):
        images = shown.strongest[layer].indices.T.numpy()[:, : most[0]]
        run_part["layers"][number] |= _describe_layer(features, layer, thumbnail_of[images], detail=f"layer-{number}")
        parts[f"layer-{number}"] = {
            "values": encode_array(shown.strongest[layer].values.T.float().numpy()[:, : most[0]]),
            **_collect_statistics(features, layer, thumbnail_of, most, shown.spreads),
            **describe_labels(labels, names),
            **({"maps": encode_array(heat[layer])} if layer in heat else {"extent": layer in features.maps}),
        }
    run_part["names"] = names.texts
    return PageContent(parts, sheets.files)


@dataclass(frozen=True)
class ShownImages:
    """Rows of the images that the pages show, before those that exceed a limit are left out.

    Attributes:
        strongest: by layer, each unit's strongest images.
        spreads: by layer, images about the percentiles of each unit; none of a layer kept as lists.
        of_concepts: the images with the highest CLIP score for each concept.
        cosines: their scores.
    """

    strongest: Mapping[str, TopActivations]
    spreads: Mapping[str, ActivationSpread]
    of_concepts: np.ndarray
    cosines: np.ndarray

    @property
    def lists(self) -> list[Any]:
        """All three kinds, as `FEWER` counts them."""
        return [self.strongest, {layer: part.weaker for layer, part in self.spreads.items()}, self.of_concepts]

    def choose_counts(self, limit: int) -> tuple[int, int, int]:
        """How many of each kind are kept: the first row of `FEWER` with at most `limit` distinct images."""
        return next((most for most in FEWER if len(_drop_duplicates(self.lists, most)) <= limit), FEWER[-1])


def _choose_images(run: RunData, layers: Sequence[str], columns: Sequence[int]) -> ShownImages:
    """The images of the units of these layers and of the concepts of these columns."""
    features = run.features
    strongest = {layer: features.strongest(layer, _available_images(features, layer)) for layer in layers}
    spreads = {
        layer: activation_percentiles(features.activations[layer]) for layer in layers if layer in features.activations
    }
    images, cosines = select_shown_images(features.images, run.texts[columns], count=OF_A_CONCEPT)
    return ShownImages(strongest, spreads, images, cosines)


def _collect_concepts(
    run: RunData, names: NameTable, concepts: Sequence[tuple[str, int]], images: np.ndarray, cosines: np.ndarray
) -> dict[str, Any]:
    """The names of concepts, with the images with the highest CLIP score for each, and the rows of similar concepts."""
    numbers = [names.number(name) for name, _ in concepts]
    near = nearest_concepts(run.texts[[column for _, column in concepts]])
    parts = {"name": numbers, "pictures": images, "cosines": cosines, "near": near}
    return {key: encode_array(values) for key, values in parts.items()}


def _group_units(lists: Sequence[Any], most: Sequence[int], asked: Sequence[TextQuery]) -> list[np.ndarray]:
    """The images shown of units, and those shown of concepts and of words asked for alone."""
    of_units = _drop_duplicates(lists[:2], most)
    others = np.concatenate([lists[2][:, : most[2]].ravel(), *(words.images for words in asked)]).astype(int)
    return [of_units, np.setdiff1d(others, of_units)]


def _describe_layer(features: Features, layer: str, images: np.ndarray, *, detail: str) -> dict[str, Any]:
    """The strongest images of each unit, and the share of images on which its activation is above 0."""
    counted = features.statistics(layer)
    fires = (counted.firing / counted.images).numpy().astype(np.float32)
    return {"pictures": encode_array(images), "detail": detail, "fires": encode_array(fires)}


def _collect_statistics(
    features: Features, layer: str, thumbnail_of: np.ndarray, most: Sequence[int], spreads: Mapping[str, Any]
) -> dict[str, Any]:
    """What needs all activations of a layer; a layer that is kept as lists has only its histogram."""
    if layer not in spreads:
        return _pack_histogram(features.statistics(layer))
    near, shown, counted = nearest_units(features.activations[layer]), spreads[layer], features.statistics(layer)
    images = np.flatnonzero(thumbnail_of >= 0)
    units, above = (
        _take_rows(thumbnail_of[images], part)
        for part in top_units_per_image(features.activations[layer], images.tolist(), statistics=counted)
    )
    return {
        "weaker": encode_array(thumbnail_of[shown.weaker[:, :, : most[1]]]),
        "weaker_values": encode_array(shown.weaker_values[:, :, : most[1]]),
        "histogram": encode_array(shown.histogram),
        "low": encode_array(shown.low),
        "high": encode_array(shown.high),
        "nearest": encode_array(near.nearest),
        "correlation": encode_array(near.correlation),
        "compared_on": near.images,
        "compared_all": near.exact,
        "excited": encode_array(units),
        "above": encode_array(above),
    }


def _available_images(features: Features, layer: str) -> int:
    """How many of the strongest images of each unit can be shown: of a layer kept as lists, no more than were kept."""
    kept = len(features.reduced[layer].strongest.values) if layer in features.reduced else SHOWN
    return min(SHOWN, kept)


def _pack_histogram(statistics: ActivationStatistics) -> dict[str, Any]:
    """As it was counted in the stream: over a range that is symmetric about 0."""
    if statistics.counts is None:
        return {}
    edges = statistics.edges.numpy()
    return {
        "histogram": encode_array(statistics.counts.numpy()),
        "low": encode_array(edges[:, 0]),
        "high": encode_array(edges[:, -1]),
    }


def _take_rows(positions: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rows scattered to their indices; zeros elsewhere."""
    taken = np.zeros((positions.max() + 1, *rows.shape[1:]), rows.dtype)
    taken[positions] = rows
    return taken


def _describe_run_facts(run: RunData, manifest: Mapping[str, Any]) -> dict[str, str]:
    """What a reader wants to know first."""
    used = manifest.get("images", {}).get("used", len(run.probe))
    return {
        "model": run.model.name,
        "CLIP": run.clip.name,
        "probe set": f"{run.probe.name}, {used:,} images",
        "concept set": f"{run.concepts.name}, {len(run.concepts.names):,} concepts",
    }


def _list_concepts_used(run: RunData, outcome: RunResult) -> list[tuple[str, int]]:
    """The concepts that some unit has among its best or as its truth, with their columns, in the order of the set."""
    used: set[str] = set()
    for by_layer in (outcome.labels, *outcome.baselines.values()):
        for labels in by_layer.values():
            used.update(chain.from_iterable(top[:TOP] for top in labels.top))
            used.update(name for accepted in labels.truth for name in accepted or ())
    columns = {name: column for column, name in reversed(list(enumerate(run.concepts.names)))}
    return [(name, column) for name, column in sorted(columns.items(), key=lambda item: item[1]) if name in used]


def _list_images(run: RunData, sheets: ThumbnailSheets) -> dict[str, Any]:
    """The shown images in the order of the thumbnails; an empty slot has index -1."""
    index = np.full(1 + max(sheets.places.values()), -1)
    index[list(sheets.places.values())] = list(sheets.places)
    return {
        "probe": run.probe.name,
        "total": len(run.probe),
        "index": encode_array(index),
        "ids": [str(run.probe.ids[image]) if image >= 0 else "" for image in index],
        "size": sheets.size,
        "columns": sheets.columns,
        "sheets": list(sheets.files),
        "heights": sheets.heights,
    }


def _find_image_folder(run: RunData, manifest: Mapping[str, Any]) -> dict[str, str]:
    """The folder below which the ids of the images are files: the page shows the whole image from there."""
    root = manifest.get("config", {}).get("probe", {}).get("root")
    first = next(iter(run.probe.ids), "")
    return {"folder": str(Path(root).absolute())} if isinstance(root, str) and Path(root, first).is_file() else {}


def _drop_duplicates(lists: Sequence[Any], most: Sequence[int]) -> np.ndarray:
    """The images to be shown, ascending: those of units and, where they are among the lists, of concepts."""
    strongest, weaker, *images = lists
    indices = [part[:, : most[2]].ravel() for part in images]
    indices += [part.indices[: most[0]].numpy().ravel() for part in strongest.values()]
    indices += [part[:, :, : most[1]].ravel() for part in weaker.values()]
    return np.unique(np.concatenate(indices).astype(np.int64))
