"""Axis names, array aliases and the frozen records that modules hand to each other.

One name for one axis everywhere: `images` (of the probe set), `concepts` (words of the concept set), `neurons` (units
of one layer), `dim` (of CLIP's joint space).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class Match:
    """Concept activations in factored form: the match of image i and concept c is `images[i] @ texts[c]`.

    Both are L2-normalised rows; `cd_exp.similarity.concept_activations` makes one. The images x concepts matrix itself
    is never needed whole.
    """

    images: Float[Tensor, "images dim"]
    texts: Float[Tensor, "concepts dim"]


@dataclass(frozen=True, eq=False)
class Strongest:
    """The images that excite each unit most, the strongest first, of equal ones the lower number first.

    `indices` number the images whose embeddings stand in `Match.images`; `images` is how many there are in all.
    """

    values: Float[Tensor, "kept neurons"]
    indices: Int[Tensor, "kept neurons"]
    images: int
    dead: Bool[Tensor, " neurons"] | None = None  # gives the same value for every image; None where that is unknown

    @property
    def shape(self) -> tuple[int, int]:
        """Images and neurons, as of the dense activations."""
        return self.images, self.values.shape[1]


Similarity = Callable[..., Tensor]
"""`(match, neurons, **settings) -> Float["neurons concepts"]`, as every function of `cd_exp.similarity`."""


@runtime_checkable  # beartype checks annotations under pytest
class Probe(Protocol):
    """A probe set: images in a fixed order. Pictures are opened one at a time and only when asked for."""

    @property
    def name(self) -> str:
        """The name of its config choice, for tables."""

    @property
    def ids(self) -> Sequence[str]:
        """What names each image to a reader, in order: a relative path, or an index."""

    @property
    def fingerprint(self) -> str:
        """A hash of the images' content and order, never of names or places."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> "Image":
        """The picture as RGB; raises OSError where it cannot be read."""


def has_pictures(probe: object) -> bool:
    """Whether the images of a probe set can be opened; one of ids alone says `ids_only = True`."""
    return not getattr(probe, "ids_only", False)


@dataclass(frozen=True)
class Concepts:
    """A concept set in order. `templates` are prompts with one `{}`; several are averaged after normalising."""

    names: tuple[str, ...]
    templates: tuple[str, ...] = ("{}",)
    name: str = "concepts"
    notes: tuple[str, ...] = ()  # what was dropped while reading: blank lines, duplicates


OURS = "clip_dissect"
"""What our own labels are called beside those of other methods."""

MARKS = ("dead", "always_on", "one_unit", "ceiling", "below_min_iou", "circular")
"""What a unit or its label may be marked as, in the order of the column `marks`."""

Accepted = tuple[str, ...] | None
"""The names that are right for a unit; None where nothing is known of it."""


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of one layer by one method, in unit order.

    `top` holds each unit's best concepts, best first (published labels have one; an empty tuple is a unit that the
    method left unlabelled). `similarity` is the method's own score of its first label. `ranks` counts from 1 and is NaN
    where the truth is unknown or no concept names it; None for a method that ranks nothing.
    """

    layer: str
    units: Int[np.ndarray, " neurons"]
    top: tuple[tuple[str, ...], ...]
    similarity: Float[np.ndarray, " neurons"]
    truth: tuple[Accepted, ...] = ()
    ranks: Float[np.ndarray, " neurons"] | None = None
    candidates: int | None = None  # among how many concepts the method chose
    top_scores: Float[np.ndarray, "neurons kept"] | None = None  # of the concepts in `top`
    margin: Float[np.ndarray, " neurons"] | None = None  # between the first and the second score
    stability: Float[np.ndarray, " neurons"] | None = None  # share of resamples of the images that give the label
    stable_set: tuple[tuple[str, ...], ...] = ()  # the labels that make up 90 % of resamples
    marks: tuple[frozenset[str], ...] = ()  # of MARKS, for each unit
    judged_label: tuple[str, ...] = ()  # from the larger part of the images, for the scores beside it
    faithfulness: Mapping[str, Float[np.ndarray, " neurons"]] = field(default_factory=dict)
    right: Int[np.ndarray, " neurons"] | None = None  # as `verdicts`, once the run has judged the labels

    @property
    def verdicts(self) -> Int[np.ndarray, " neurons"]:
        """One number per unit: 1 for a right label, 0 for a wrong one, -1 where that is not known.

        `cd_exp.evaluate.judge` decides it, once; labels that were not judged yet go by the rank of the truth.
        """
        if self.right is not None:
            return self.right
        if self.ranks is None:
            return np.full(len(self.units), -1)
        return np.where(np.isnan(self.ranks), -1, (self.ranks == 1).astype(np.int64))

    @property
    def descriptions(self) -> tuple[str, ...]:
        """The label itself: the best concept, or an empty string."""
        return tuple(names[0] if names else "" for names in self.top)


@dataclass(frozen=True, eq=False)
class Judgement:
    """One method's labels of one layer, unit by unit, as `cd_exp.metrics.figures` computes every figure from them.

    `units` are the judged ones, whose label is held against a truth; None where nothing is known of any unit. What a
    method does not give is None: published labels have no rank. A paired test compares two of these on the units that
    both have values for.

    The cosines run over `named`: every unit with a known truth and a label, also those whose truth the method has no
    concept for, which makes them near or far but never right (the published cosines are such).
    """

    units: Int[np.ndarray, " judged"] | None = None
    top1: Bool[np.ndarray, " judged"] | None = None
    top1_published: Bool[np.ndarray, " judged"] | None = None  # names compared by the published rule
    top5: Bool[np.ndarray, " judged"] | None = None
    rank: Float[np.ndarray, " judged"] | None = None
    similarity: Float[np.ndarray, " judged"] | None = None
    stability: Float[np.ndarray, " judged"] | None = None
    named: Int[np.ndarray, " named"] | None = None
    clip_cosine: Float[np.ndarray, " named"] | None = None
    sentence_cosine: Float[np.ndarray, " named"] | None = None
    labelled: Int[np.ndarray, " labelled"] = field(default_factory=lambda: np.empty(0, dtype=np.int64))  # all units
    faithfulness: Mapping[str, Float[np.ndarray, " labelled"]] = field(default_factory=dict)
    candidates: int | None = None  # among how many concepts the method chose


@dataclass(frozen=True, eq=False)
class Outcome:
    """All that a run found, ready for the files, the terminal and the tracker.

    `labels` and `metrics` are by layer; `baselines` by method, then layer; `comparisons` holds one row for each layer
    and pair of methods. `top_images` are indices into the probe's ids, most exciting first.
    """

    labels: Mapping[str, Labels]
    metrics: Mapping[str, Mapping[str, Any]]
    seconds: Mapping[str, float]
    top_images: Mapping[str, Int[np.ndarray, "neurons shown"]]
    probe: Probe
    baselines: Mapping[str, Mapping[str, Labels]] = field(default_factory=dict)
    baseline_metrics: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    comparisons: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()  # what a reader should know: dead units, images skipped
    files: Mapping[str, str] = field(default_factory=dict)  # what the other methods add to the run folder


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What is annotated in one image. Concepts are indices into `AnnotatedProbe.concepts`; -1 is background.

    `maps` may overlap: several maps of one category mean that a pixel carries several concepts of it. `whole` lists the
    concepts that hold for every pixel (Broden's scenes and textures). The size of the maps may differ between images.
    """

    maps: Int[np.ndarray, "maps height width"]
    whole: tuple[int, ...] = ()


@runtime_checkable
class AnnotatedProbe(Probe, Protocol):
    """A probe set with pixel masks, for Network Dissection."""

    @property
    def concepts(self) -> Sequence[str]:
        """The annotated concepts, by number."""

    @property
    def categories(self) -> Sequence[str]:
        """The category of each concept: colour, object, part, material, scene, texture."""

    def segmentation(self, index: int) -> Segmentation:
        """The masks of one image; InputError names a mask file that is missing or of another size."""
