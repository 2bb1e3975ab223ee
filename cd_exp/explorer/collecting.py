"""From a run to what the pages hold: plain values, typed arrays and sheets of thumbnails."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cd_exp.baselines import RunRecord
from cd_exp.dissection import Dissection
from cd_exp.evaluate import judge
from cd_exp.explorer.content import TOP, Content, described, described_labels
from cd_exp.explorer.encoding import Names, packed
from cd_exp.explorer.evidence import alike, excited, shown_for, spread
from cd_exp.explorer.query import Asked
from cd_exp.explorer.sheets import Sheets, thumbnails
from cd_exp.features import Features
from cd_exp.types import OURS, Outcome

STRONGEST = 10  # images of a unit
OF_A_CONCEPT = 8  # images that CLIP thinks show it
MOST = 12_000  # distinct images: with more, fewer of each unit and concept are kept
FEWER = ((10, 3, 8), (10, 1, 4), (6, 1, 2), (4, 0, 0), (3, 0, 0), (2, 0, 0), (1, 0, 0))
"""Images kept of a unit, about each percentile, and of a concept: the first row with at most `MOST` distinct ones."""


def collect(
    run: RunRecord,
    found: Dissection,
    outcome: Outcome,
    *,
    manifest: Mapping[str, Any],
    title: str,
    asked: Sequence[Asked] = (),
) -> Content:
    """What the explorer shows of a run.

    Args:
        run: what the run has.
        found: the features, with our labels.
        outcome: all labels, judged and compared.
        manifest: how the run was asked for, and with what it was made.
        title: what the pages are called.
        asked: words asked for besides, with the units that answer to them.
    """
    features, names = found.features, Names()
    strongest = {layer: features.strongest(layer, STRONGEST) for layer in outcome.labels}
    spreads = {layer: spread(features.activations[layer]) for layer in outcome.labels if layer in features.activations}
    used = _concepts_used(run, outcome)
    pictures, cosines = shown_for(features.images, found.texts[[column for _, column in used]], count=OF_A_CONCEPT)
    lists = [strongest, {layer: part.weaker for layer, part in spreads.items()}, pictures]
    most = _kept(lists)
    rows = np.union1d(_distinct(lists, most), [row for words in asked for row in words.pictures.tolist()]).astype(int)
    probe_images = np.asarray(features.kept)[rows]
    sheets = thumbnails(run.probe, probe_images.tolist(), store=run.store)
    run_part = described(
        outcome, _about(run, manifest), manifest, title=title, judged=judged(run, outcome), names=names
    )
    run_part["images"] = _images(run, probe_images, sheets)
    run_part["concepts"] = {
        "name": packed([names.number(name) for name, _ in used]),
        "pictures": packed(np.searchsorted(rows, pictures[:, : most[2]])),
        "cosines": packed(cosines[:, : most[2]]),
    }
    run_part["queries"] = [words.packed(rows) for words in asked]
    parts: dict[str, Any] = {"run": run_part}
    for number, (layer, labels) in enumerate(outcome.labels.items()):
        images = strongest[layer].indices.T.numpy()[:, : most[0]]
        run_part["layers"][number]["pictures"] = packed(np.searchsorted(rows, images))
        parts[f"layer-{number}"] = {
            "values": packed(strongest[layer].values.T.float().numpy()[:, : most[0]]),
            **_from_activations(features, layer, rows, most, spreads),
            **described_labels(labels, names),
        }
        run_part["layers"][number]["detail"] = f"layer-{number}"
    run_part["names"] = names.texts
    return Content(parts, sheets.files)


def _from_activations(
    features: Features, layer: str, rows: np.ndarray, most: Sequence[int], spreads: Mapping[str, Any]
) -> dict[str, Any]:
    """What takes all activations of a layer: a histogram and the firing alone where only lists were kept."""
    if layer not in spreads:
        return {}
    near, shown = alike(features.activations[layer]), spreads[layer]
    units, above = excited(features.activations[layer], rows.tolist())
    return {
        "weaker": packed(np.searchsorted(rows, shown.weaker[:, :, : most[1]])),
        "weaker_values": packed(shown.weaker_values[:, :, : most[1]]),
        "histogram": packed(shown.histogram),
        "low": packed(shown.low),
        "high": packed(shown.high),
        "nearest": packed(near.nearest),
        "correlation": packed(near.correlation),
        "compared_on": near.images,
        "excited": packed(units),
        "above": packed(above),
    }


def judged(run: RunRecord, outcome: Outcome) -> dict[str, dict[str, dict[int, bool]]]:
    """By method and layer, whether the label of each judged unit is right."""
    found: dict[str, dict[str, dict[int, bool]]] = {}
    for method, by_layer in {OURS: outcome.labels, **outcome.baselines}.items():
        found[method] = {}
        for layer, labels in by_layer.items():
            truth = outcome.labels[layer].truth if layer in outcome.labels else ()
            judgement = judge(labels, truth or None, judgeable=run.concepts.names)
            found[method][layer] = {}
            if judgement.units is not None and judgement.top1 is not None:
                found[method][layer] = dict(zip(judgement.units.tolist(), judgement.top1.tolist(), strict=True))
    return found


def _about(run: RunRecord, manifest: Mapping[str, Any]) -> dict[str, str]:
    """What a reader wants to know first."""
    used = manifest.get("images", {}).get("used", len(run.probe))
    return {
        "model": run.model.name,
        "CLIP": run.clip.name,
        "probe set": f"{run.probe.name}, {used:,} images",
        "concept set": f"{run.concepts.name}, {len(run.concepts.names):,} concepts",
    }


def _concepts_used(run: RunRecord, outcome: Outcome) -> list[tuple[str, int]]:
    """The concepts that some unit has among its best or as its truth, with their columns, in the order of the set."""
    used: set[str] = set()
    for by_layer in (outcome.labels, *outcome.baselines.values()):
        for labels in by_layer.values():
            used.update(name for top in labels.top for name in top[:TOP])
            used.update(name for accepted in labels.truth for name in accepted or ())
    columns = {name: column for column, name in reversed(list(enumerate(run.concepts.names)))}
    return [(name, column) for name, column in sorted(columns.items(), key=lambda item: item[1]) if name in used]


def _images(run: RunRecord, probe_images: np.ndarray, sheets: Sheets) -> dict[str, Any]:
    return {
        "probe": run.probe.name,
        "total": len(run.probe),
        "index": packed(probe_images),
        "ids": [str(run.probe.ids[index]) for index in probe_images],
        "size": sheets.size,
        "columns": sheets.columns,
        "rows": sheets.rows,
        "sheets": list(sheets.files),
    }


def _kept(lists: Sequence[Any]) -> tuple[int, int, int]:
    return next((most for most in FEWER if len(_distinct(lists, most)) <= MOST), FEWER[-1])


def _distinct(lists: Sequence[Any], most: Sequence[int]) -> np.ndarray:
    """The images to be shown, ascending."""
    strongest, weaker, pictures = lists
    found = [pictures[:, : most[2]].ravel()]
    found += [part.indices[: most[0]].numpy().ravel() for part in strongest.values()]
    found += [part[:, :, : most[1]].ravel() for part in weaker.values()]
    return np.unique(np.concatenate(found).astype(np.int64))
