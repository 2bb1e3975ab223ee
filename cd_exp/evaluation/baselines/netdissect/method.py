"""Network Dissection over a probe set: a pass for the thresholds, and a pass for the overlaps.

What it counts of a layer are pixels: the labels follow from them, and the table in the published columns.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cd_exp.dissection import RunData
from cd_exp.errors import InputError, unknown_name_error
from cd_exp.evaluation.baselines.method import Method, MethodResult
from cd_exp.evaluation.baselines.netdissect.overlap import (
    ANCHORS,
    Annotation,
    Histogram,
    add_values,
    begin_histogram,
    count_annotated_pixels,
    count_overlap,
    find_threshold,
    make_annotation,
    upsample_at,
)
from cd_exp.features import read_maps as activation_maps
from cd_exp.io.text import format_csv, make_file_name
from cd_exp.labels import Columns, label_layer
from cd_exp.metrics import accepted_columns
from cd_exp.records import Accepted, Labels, Probe

PUBLISHED_ORDER = ("color", "object", "part", "material", "scene", "texture")
"""The categories of Broden in the order of the published tables."""


@dataclass(frozen=True, eq=False)
class Tally:
    """What Network Dissection counted in one layer, in pixels summed over the probe images.

    `activation[u, k]` are the active pixels of unit u on images that carry a concept of category `kinds[k]`, since an
    image without annotations of a category says nothing about it. `exceeding` is the share of positions where the
    activation was counted above the threshold: the quantile asked for, to within the histogram's error, where that was
    taken over positions.
    """

    concepts: tuple[str, ...]
    categories: tuple[str, ...]  # one for each concept
    threshold: Float[Tensor, " neurons"]
    exceeding: Float[Tensor, " neurons"]
    truth: Int[Tensor, " concepts"]
    activation: Int[Tensor, "neurons category_of_units"]
    intersection: Int[Tensor, "neurons concepts"]
    min_iou: float = 0.04
    size: tuple[int, int] = (1, 1)  # positions of a map, down and along

    @property
    def kinds(self) -> tuple[str, ...]:
        """The categories, each once."""
        return category_of_units(self.categories)

    @cached_property
    def iou(self) -> Float[Tensor, "neurons concepts"]:
        """Intersection over union of every unit and concept; 0 where there is nothing to unite."""
        column = torch.tensor([self.kinds.index(category) for category in self.categories], dtype=torch.long)
        union = self.activation[:, column] + self.truth - self.intersection
        return self.intersection / union.clamp(min=1).double()


def category_of_units(categories: Sequence[str]) -> tuple[str, ...]:
    """The categories, each once: those of Broden in the published order, then others as they first appear."""
    return tuple(dict.fromkeys([*(name for name in PUBLISHED_ORDER if name in categories), *categories]))


def label_from_tally(
    tally: Tally, layer: str, *, accepted: Sequence[Columns] = (), truth: Sequence[Accepted] = (), keep: int = 5
) -> Labels:
    """Each unit's `keep` best concepts by IoU, the lower-numbered first among equals.

    A concept that a unit never touches is not among them, so a unit may have fewer, or none: its truth then ranks last.
    A unit that is no detector (`count_detectors`) keeps its label and is marked `below_min_iou`.

    Args:
        tally: the counts of one layer.
        layer: the name that the labels carry.
        accepted: for each unit the concepts, by number, that are right; none, no ranks (as
            `cd_exp.labels.label_layer`).
        truth: the names that are right, kept with the labels.
        keep: how many concepts to keep.
    """
    ranked = label_layer(tally.iou, tally.concepts, layer=layer, accepted=accepted, truth=truth, k=keep)
    marks = tuple(frozenset[str]() if detects else frozenset(("below_min_iou",)) for detects in count_detectors(tally))
    touched = (tally.iou > 0).sum(1).tolist()
    top = tuple(names[:some] for names, some in zip(ranked.top, touched, strict=True))
    if ranked.ranks is not None:
        silent = (np.array(touched) == 0) & ~np.isnan(ranked.ranks)
        return replace(ranked, top=top, marks=marks, ranks=np.where(silent, float(len(tally.concepts)), ranked.ranks))
    return replace(ranked, top=top, marks=marks)


def count_detectors(tally: Tally) -> Bool[np.ndarray, " neurons"]:
    """Which units detect their best concept: those with an IoU of at least `tally.min_iou`."""
    return (tally.iou.amax(1) >= tally.min_iou).numpy()


COLUMNS = ("label", "truth", "activation", "intersect", "iou")


def format_tally(tally: Tally) -> str:
    """CSV text with a row for each unit: number, category, label and score, then the best concept of each category.

    Units count from 1, as published. A unit or category without any overlap has an empty label and no pixels in common,
    where the published tables name the first concept of all.
    """
    fields = ["unit", "category", "label", "score"] + [f"{kind}-{column}" for kind in tally.kinds for column in COLUMNS]
    return format_csv([fields, *_tally_rows(tally)])


def _tally_rows(tally: Tally) -> Iterator[list[str]]:
    scores, best = tally.iou.max(1)  # the first of equals, as `labels` has it
    by_kind = [_best_of(tally, kind) for kind in tally.kinds]
    for unit, (concept, score) in enumerate(zip(best.tolist(), scores.tolist(), strict=True)):
        category, label = (tally.categories[concept], tally.concepts[concept]) if score else ("", "")
        row = [str(unit + 1), category, label, f"{score:.9g}"]
        yield row + [cell for cells in by_kind for cell in cells[unit]]


def _best_of(tally: Tally, kind: str) -> list[tuple[str, ...]]:
    """The cells of one category, for each unit."""
    members = torch.tensor([number for number, category in enumerate(tally.categories) if category == kind])
    scores, order = tally.iou[:, members].max(1)
    column = tally.kinds.index(kind)
    cells: list[tuple[str, ...]] = []
    for unit, (concept, score) in enumerate(zip(members[order].tolist(), scores.tolist(), strict=True)):
        label, truth = (tally.concepts[concept], int(tally.truth[concept])) if score else ("", 0)
        area, both = int(tally.activation[unit, column]), int(tally.intersection[unit, concept])
        cells.append((label, str(truth), str(area), str(both), f"{score:.9g}"))
    return cells


Passes = Callable[[], Iterator[tuple[Sequence[int], Mapping[str, Tensor]]]]
"""Each call walks the probe set once, yielding the indices of some images and each layer's maps of them:
`Float["batch neurons height width"]`, one row per index. A layer without extent has 1 x 1 maps."""


QUANTILE_OF = ("maps", "upsampled")
SMALL = 7  # positions along a side: on smaller maps the settings above move many labels


@dataclass(frozen=True)
class NetDissect(Method):
    """Settings of `baseline=netdissect`.

    Args:
        quantile: the share of positions at which a unit counts as active.
        min_iou: the IoU from which a unit is called a detector; the others are marked `below_min_iou`.
        quantile_of: what the quantile is taken over: `maps` as the layer gives them (2017), or `upsampled`
            ones (2020).
        anchors: at which pixels the positions of a map lie, one of `ANCHORS` of `overlap`: `centres`,
            `receptive_fields` (2017) or `corners`.

    Raises:
        InputError: for a setting out of its range.
    """

    quantile: float = 0.005
    min_iou: float = 0.04
    quantile_of: str = "maps"
    anchors: str = "centres"

    def __post_init__(self) -> None:
        for name, published in {"quantile": 0.005, "min_iou": 0.04}.items():
            if not 0 < (value := getattr(self, name)) < 1:
                raise InputError(f"baseline.{name} is {value}; expected it between 0 and 1 (published: {published})")
        for name, choices in {"quantile_of": QUANTILE_OF, "anchors": tuple(ANCHORS)}.items():
            if getattr(self, name) not in choices:
                raise unknown_name_error(f"baseline.{name}", getattr(self, name), choices)

    def check(self, probe: Probe) -> None:
        """Refuse a probe set without masks."""
        if not probe.has_masks:
            raise InputError(
                f"baseline=netdissect needs pixel masks, and probe {probe.name!r} has none; use probe=shapes or broden"
            )

    def __call__(self, run: RunData) -> MethodResult:
        """Label every unit of the run's layers from the probe's masks, and hand back the tallies as files."""
        probe = run.probe
        self.check(probe)
        passes = activation_maps(
            run.model,
            probe,
            layers=run.units,
            kept=run.features.kept,
            store=run.store,
            settings=run.settings,
        )
        labels, files = {}, {}
        notes: list[str] = []
        for layer, tally in netdissect(passes, probe, **asdict(self)).items():
            truth = run.labels[layer].truth
            columns = accepted_columns(truth, tally.concepts) if truth else ()
            labels[layer] = label_from_tally(tally, layer, accepted=columns, truth=truth)
            files[f"tally_{make_file_name(layer)}.csv"] = format_tally(tally)
            notes += note_images(layer, tally)
        return MethodResult(labels, files, tuple(notes))


def note_images(layer: str, tally: Tally) -> Iterator[str]:
    """How many units are detectors, and whether the maps are so small that labels rest on a choice of settings."""
    detecting = count_detectors(tally)
    yield (
        f"Network Dissection: {int(detecting.sum())} of {len(detecting)} units of {layer} are detectors "
        f"(IoU at least {tally.min_iou:g}); the others are marked below_min_iou"
    )
    if 1 < max(tally.size) < SMALL:
        yield (
            f"Network Dissection: the maps of {layer} are {tally.size[0]} x {tally.size[1]}; on so few positions many "
            "labels move with baseline.quantile_of, baseline.anchors and the number of images"
        )


def netdissect(
    passes: Passes,
    probe: Probe,
    *,
    quantile: float = 0.005,
    min_iou: float = 0.04,
    quantile_of: str = "maps",
    anchors: str = "centres",
) -> dict[str, Tally]:
    """Threshold every unit, then count the pixels that its mask shares with every annotated concept.

    Three choices that published versions make differently; the last two are settings:

    - An image counts in a concept's union only if it carries some concept of the same category, whether or not the unit
      is active there: the rule of the paper and of its code (`count_act_with_labelcat`). Its successor NetDissect-Lite
      leaves out of the union the active pixels of images where the unit's mask touches no pixel of the category, so its
      IoU is never lower.
    - The quantile is taken over the maps as the layer gives them, as in 2017, or over upsampled ones, as in 2020.
    - Maps are upsampled to the size of each image's annotation by bilinear interpolation. Each position stands in the
      middle of its share of the pixels, or, as in 2017, at the centre of its receptive field. On maps of 2 x 2
      positions either choice moves a quarter of the labels and more.

    A pixel to which two maps give the same concept counts once, as in the formula; the published code counts both.

    Args:
        passes: walks the probe set; called twice, and no batch is kept after the next.
        probe: the same images with their annotations.
        quantile: the share of positions at which a unit counts as active.
        min_iou: the IoU from which a unit is called a detector.
        quantile_of: `maps` or `upsampled`.
        anchors: one of `ANCHORS` of `overlap`.

    Returns:
        A tally for each layer.

    Raises:
        InputError: where there is no image, or an activation is NaN or infinite; names layer and unit.

    Source: Bau et al., CVPR 2017 (arXiv:1704.05796), section 2.
    """
    histogram_passes = passes if quantile_of == "maps" else _upsample_images(passes, probe, anchors)
    thresholds = {
        name: find_threshold(seen, quantile=quantile)
        for name, seen in _fill_histograms(histogram_passes, quantile).items()
    }
    sizes: dict[str, tuple[int, int]] = {}
    truth = torch.zeros(len(probe.concepts), dtype=torch.int64)
    counts = {name: _Counts.of(values, probe.categories) for name, values in thresholds.items()}
    for indices, layers in passes():
        annotations = [make_annotation(probe.segmentation(index), concepts=len(probe.concepts)) for index in indices]
        for annotated in annotations:
            truth[annotated.present] += count_annotated_pixels(annotated)
        for name, maps in layers.items():
            sizes[name] = (maps.shape[2], maps.shape[3])
            _count_pixels(counts[name], maps, thresholds[name], annotations, anchors=anchors)
    return {
        name: Tally(
            concepts=tuple(probe.concepts),
            categories=tuple(probe.categories),
            threshold=thresholds[name].cpu(),
            exceeding=(count.above / count.positions).cpu(),
            truth=truth,
            activation=count.activation.cpu(),
            intersection=count.intersection.cpu(),
            min_iou=min_iou,
            size=sizes[name],
        )
        for name, count in counts.items()
    }


def _upsample_images(passes: Passes, probe: Probe, anchors: str) -> Passes:
    """The same walk, an image at a time, its maps upsampled to its annotation."""

    def walk() -> Iterator[tuple[Sequence[int], Mapping[str, Tensor]]]:
        for indices, layers in passes():
            for row, index in enumerate(indices):
                size = torch.Size(probe.segmentation(index).maps.shape[1:])
                yield (
                    [index],
                    {name: upsample_at(maps[row], size, anchors=anchors)[None] for name, maps in layers.items()},
                )

    return walk


def _fill_histograms(passes: Passes, quantile: float) -> dict[str, Histogram]:
    histograms: dict[str, Histogram] = {}
    for _, layers in passes():
        for name, maps in layers.items():
            _check_finite(maps, layer=name)
            if name not in histograms:
                histograms[name] = begin_histogram(maps, quantile=quantile)
            add_values(histograms[name], maps)
    if not histograms:
        raise InputError("Network Dissection got no image; the probe set is empty or none of it can be read")
    return histograms


def _check_finite(maps: Float[Tensor, "batch neurons height width"], *, layer: str) -> None:
    bad = ~(maps.amax((0, 2, 3)).isfinite() & maps.amin((0, 2, 3)).isfinite())
    if bad.any():
        unit = int(bad.nonzero()[0])
        raise InputError(
            f"layer {layer!r}, unit {unit}: an activation is NaN or infinite ({int(bad.sum())} of {len(bad)} units); "
            "check the model's weights and its number format"
        )


@dataclass(frozen=True, eq=False)
class _Counts:
    """The running sums of one layer, changed in place."""

    column: Int[Tensor, " concepts"]  # the category of each concept, by number
    above: Int[Tensor, " neurons"]
    positions: Int[Tensor, ""]
    activation: Int[Tensor, "neurons category_of_units"]
    intersection: Int[Tensor, "neurons concepts"]

    @classmethod
    def of(cls, thresholds: Float[Tensor, " neurons"], categories: Sequence[str]) -> "_Counts":
        each = category_of_units(categories)
        zeros = [
            torch.zeros(shape, dtype=torch.int64, device=thresholds.device)
            for shape in ((len(thresholds),), (), (len(thresholds), len(each)), (len(thresholds), len(categories)))
        ]
        return cls(torch.tensor([each.index(name) for name in categories], device=thresholds.device), *zeros)


def _count_pixels(
    counts: _Counts,
    maps: Float[Tensor, "batch neurons height width"],
    thresholds: Float[Tensor, " neurons"],
    annotations: Sequence[Annotation],
    *,
    anchors: str,
) -> None:
    """Add a batch's pixels to the running sums, in place."""
    exceeding = (maps > thresholds[:, None, None]).nonzero()[:, 1]
    counts.above.add_(torch.bincount(exceeding, minlength=len(thresholds)))
    counts.positions.add_(maps[:, 0].numel())
    for image, annotated in zip(maps, annotations, strict=True):
        on_device = annotated.to(maps.device)
        active, area, both = count_overlap(image, thresholds, on_device, anchors=anchors)
        counts.intersection[active[:, None], on_device.present] += both
        counts.activation[active[:, None], counts.column[on_device.present].unique()] += area[:, None]
