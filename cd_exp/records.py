"""Axis names, array aliases and the frozen records that modules hand to each other.

One name for one axis everywhere: `images` (of the probe set), `concepts` (words of the concept set), `neurons` (units
of one layer), `dim` (of CLIP's joint space).
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

if TYPE_CHECKING:
    from PIL.Image import Image

    from cd_exp.probes.decoding import DecodeOptions, Values


@dataclass(frozen=True, eq=False)
class ConceptActivations:
    """Concept activations in factored form: the match of image i and concept c is `images[i] @ texts[c]`.

    Both are L2-normalised rows; `cd_exp.similarity.concept_activations` makes one. The images x concepts matrix itself
    is never needed whole.
    """

    images: Float[Tensor, "images dim"]
    texts: Float[Tensor, "concepts dim"]


@dataclass(frozen=True, eq=False)
class TopActivations:
    """The images that excite each unit most, the strongest first, of equal ones the lower number first.

    `indices` number the images whose embeddings stand in `ConceptActivations.images`; `images` is how many there are in
    all.
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


class Probe(ABC):
    """A probe set: images in a fixed order, each opened only when it is asked for, and all that is known of them.

    A set needs a name, ids, a fingerprint, a length and its images. Whatever else it may know has a default here, so
    that nobody asks whether a member exists; `cd_exp.probes.wrappers.Wrapper` passes every one of them on from the sets
    that a part or a union is made of. Inherited and not a protocol, because checking a protocol reads its properties,
    and a fingerprint may read every image.
    """

    if TYPE_CHECKING:  # at run time they would stand in the way of a dataclass's fields

        @property
        def name(self) -> str:
            """The name of its config choice, for tables."""

        @property
        def ids(self) -> Sequence[str]:
            """What names each image to a reader, in order: a relative path, or an index."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of the images' content and order, never of names or paths."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> "Image":
        """The image as RGB; raises OSError where it cannot be read."""

    @property
    def ids_only(self) -> bool:
        """Whether the images cannot be opened: only their ids are known."""
        return False

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of how the set was read."""
        return ()

    @property
    def image_classes(self) -> Sequence[str] | None:
        """The class of each image, "" for an image of none; None where the set knows no classes."""
        return None

    @property
    def concepts(self) -> Sequence[str]:
        """The concepts of the masks, by number; none where there are no masks."""
        return ()

    @property
    def categories(self) -> Sequence[str]:
        """The category of each of `concepts`: colour, object, part, material, scene, texture."""
        return ()

    @property
    def has_masks(self) -> bool:
        """Whether `segmentation` gives pixel masks."""
        return False

    def segmentation(self, index: int) -> "Segmentation":
        """The masks of one image, none without masks; InputError names a mask that is missing or of another size."""
        del index
        return Segmentation(np.zeros((0, 1, 1), np.int32))

    @property
    def knows_what_is_shown(self) -> bool:
        """Whether `shows` answers, also for names that no annotation has (`red circle` of `red` and of
        `circle`).
        """
        return False

    def shows(self, name: str, indices: Sequence[int]) -> Bool[np.ndarray, " images"] | None:
        """Whether each of these images shows what a name says; None for a name of which the set knows nothing."""
        del name, indices
        return None

    @property
    def renderer(self) -> "Renderer | None":
        """What draws further images as those of the set; None where they are photographs, not drawn."""
        return None

    @property
    def reading(self) -> "DecodeOptions | None":
        """How encoded images become RGB; None where none is encoded."""
        return None

    def values(self, index: int) -> "Values | None":
        """What numbers an encoded image holds; None for an image that is made, not read."""
        del index
        return None

    def digests(self, rows: Sequence[int]) -> Iterator[str]:
        """A hash of each of these images' content, in the order asked; by default that of its pixels.

        An image that cannot be opened goes by its id.
        """
        return (self._pixels(row) for row in rows)

    def order_keys(self, rows: Sequence[int]) -> Sequence[str]:
        """What orders these images by their content, wherever they stand in the set; by their ids without images."""
        return [self.ids[row] for row in rows] if self.ids_only else list(self.digests(rows))

    def fingerprint_of(self, rows: Sequence[int]) -> str:
        """The fingerprint of some of the images as a set; by default of this set and of which they are."""
        return hashlib.sha256(f"{self.fingerprint}\n\n{list(rows)}".encode()).hexdigest()

    def _pixels(self, row: int) -> str:
        try:
            image = self[row]
        except (
            OSError,
            ValueError,
        ):  # errors a user can mend are ValueErrors; whoever asks has decoded the others before
            return self.ids[row]
        return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()


@dataclass(frozen=True)
class Renderer:
    """What draws the scenes of the built-in synthetic data set.

    Attributes:
        objects: figures in a scene.
    """

    objects: int = 1


def has_images(probe: Probe) -> bool:
    """Whether the images of a probe set can be opened."""
    return not probe.ids_only


@dataclass(frozen=True)
class Concepts:
    """A concept set in order. `templates` are prompts with one `{}`; several are averaged after normalising."""

    names: tuple[str, ...]
    templates: tuple[str, ...] = ("{}",)
    name: str = "concepts"
    notes: tuple[str, ...] = ()  # what was dropped while reading: blank lines, duplicates


CLIP_DISSECT = "clip_dissect"
"""What our own labels are called beside those of other methods."""

FLAGS = ("dead", "always_on", "one_unit", "ceiling", "few_images", "below_min_iou", "circular")
"""What a unit or its label may be marked as, in the order of the column `marks`."""

Accepted = tuple[str, ...] | None
"""The names that are right for a unit; None where nothing is known of it."""


REPR_UNITS = 10  # units that the repr of a layer shows


@dataclass(frozen=True, eq=False, repr=False)
class Labels:
    """The labels of one layer by one method, in unit order.

    `top` holds each unit's best concepts, best first (published labels have one; an empty tuple is a unit that the
    method left unlabelled). `similarity` is the method's own score of its first label. `ranks` counts from 1
    and is NaN where the truth is unknown or no concept names it; None for a method that ranks nothing.
    """

    layer: str
    units: Int[np.ndarray, " neurons"]
    top: tuple[tuple[str, ...], ...]
    similarity: Float[np.ndarray, " neurons"]
    truth: tuple[Accepted, ...] = ()
    ranks: Float[np.ndarray, " neurons"] | None = None
    candidates: int | None = None  # among how many concepts the method chose
    top_scores: Float[np.ndarray, "neurons kept"] | None = None  # scores of the concepts in `top`
    margin: Float[np.ndarray, " neurons"] | None = None  # between the first and the second score
    stability: Float[np.ndarray, " neurons"] | None = None  # share of resamples of the images that give the label
    stable_set: tuple[tuple[str, ...], ...] = ()  # the labels that make up 90 % of resamples
    p_right: Float[np.ndarray, " neurons"] | None = None  # probability that the label is right
    general_label: tuple[str, ...] = ()  # the narrowest node of a hierarchy that is likely enough to be right
    general_p: Float[np.ndarray, " neurons"] | None = None  # share right of such labels
    general_bits: Float[np.ndarray, " neurons"] | None = None  # log2(concepts / concepts below the node)
    general_right: Float[np.ndarray, " neurons"] | None = None  # 1, 0, or NaN where the truth is unknown
    graded: Float[np.ndarray, " neurons"] | None = None  # nearness of label and truth in the hierarchy, 0 to 1
    marks: tuple[frozenset[str], ...] = ()  # some of MARKS for each unit
    judged_label: tuple[str, ...] = ()  # from the larger part of the images, for the scores beside it
    faithfulness: Mapping[str, Float[np.ndarray, " neurons"]] = field(default_factory=dict)
    floor: Mapping[str, Float[np.ndarray, " neurons"]] = field(default_factory=dict)  # the same of shuffled labels
    right: Int[np.ndarray, " neurons"] | None = None  # as `verdicts`, once the run has judged the labels

    @property
    def verdicts(self) -> Int[np.ndarray, " neurons"]:
        """One number per unit: 1 for a right label, 0 for a wrong one, -1 where that is not known.

        `cd_exp.evaluation.evaluate.judge_labels` decides it, once; labels that were not judged yet go by the rank of
        the truth.
        """
        if self.right is not None:
            return self.right
        if self.ranks is None:
            return np.full(len(self.units), -1)
        return np.where(np.isnan(self.ranks), -1, (self.ranks == 1).astype(np.int64))

    def __repr__(self) -> str:
        """A short table: the first units with label, score and, where there are, stability and truth."""
        shown = min(REPR_UNITS, len(self.units))
        columns: dict[str, list[str]] = {
            "unit": [str(unit) for unit in self.units[:shown]],
            "label": [label or "(none)" for label in self.descriptions[:shown]],
            "similarity": [format(value, ".4g") for value in self.similarity[:shown]],
        }
        for name, values in (("stability", self.stability), ("p_right", self.p_right)):
            if values is not None:
                columns[name] = [format(value, ".2f") for value in values[:shown]]
        if any(self.truth):
            columns["truth"] = [", ".join(names or ()) for names in self.truth[:shown]]
        widths = [max(map(len, [name, *cells])) for name, cells in columns.items()]
        rows = [columns, *zip(*columns.values(), strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        more = len(self.units) - shown
        return "\n".join([f"{self.layer}: {len(self.units)} units", *lines, *([f"... {more} more"] if more else [])])

    @property
    def descriptions(self) -> tuple[str, ...]:
        """The label itself: the best concept, or an empty string."""
        return tuple(names[0] if names else "" for names in self.top)


@dataclass(frozen=True, eq=False)
class UnitResults:
    """One method's labels of one layer, unit by unit, as `cd_exp.metrics.metrics` computes every figure from them.

    `units` are the judged ones, whose label is compared with a truth; None where nothing is known of any unit. What a
    method does not give is None: published labels have no rank. A paired test compares two of these on the units that
    both have values for.

    The cosines run over `named`: every unit with a known truth and a label, also those whose truth the
    method has no concept for, which makes them near or far but never right (the published cosines are such).
    """

    units: Int[np.ndarray, " judged"] | None = None
    top1: Bool[np.ndarray, " judged"] | None = None
    top1_published: Bool[np.ndarray, " judged"] | None = None  # names compared by the published rule
    top5: Bool[np.ndarray, " judged"] | None = None
    rank: Float[np.ndarray, " judged"] | None = None
    similarity: Float[np.ndarray, " judged"] | None = None
    stability: Float[np.ndarray, " judged"] | None = None
    layer_stability: Float[np.ndarray, " labelled"] | None = None  # every unit's, judged or not
    dead: Bool[np.ndarray, " labelled"] | None = None  # gives the same value for every image
    always_on: Bool[np.ndarray, " labelled"] | None = None  # fires on more than 80 % of the images
    p_right: Float[np.ndarray, " labelled"] | None = None
    general_right: Float[np.ndarray, " labelled"] | None = None  # NaN where the truth is unknown
    general_bits: Float[np.ndarray, " labelled"] | None = None
    graded: Float[np.ndarray, " labelled"] | None = None  # NaN where the truth is unknown
    named: Int[np.ndarray, " named"] | None = None
    clip_cosine: Float[np.ndarray, " named"] | None = None
    sentence_cosine: Float[np.ndarray, " named"] | None = None
    labelled: Int[np.ndarray, " labelled"] = field(default_factory=lambda: np.empty(0, dtype=np.int64))  # all units
    names: Shaped[np.ndarray, " labelled"] | None = None  # the label of each unit, "" where it has none
    faithfulness: Mapping[str, Float[np.ndarray, " labelled"]] = field(default_factory=dict)
    floor: Mapping[str, Float[np.ndarray, " labelled"]] = field(default_factory=dict)  # the same of shuffled labels
    candidates: int | None = None  # among how many concepts the method chose


@dataclass(frozen=True, eq=False)
class RunResult:
    """All results of a run, ready for the files, the terminal and the tracker.

    `labels` and `metrics` are by layer; `baselines` by method, then layer; `comparisons` holds one row
    for each layer and pair of methods. `top_images` are indices into the probe's ids, most exciting first.
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
    """What is annotated in one image. Concepts are indices into `Probe.concepts`; -1 is background.

    `maps` may overlap: several maps of one category mean that a pixel carries several concepts of it.
    `whole` lists the concepts that hold for every pixel (Broden's scenes and textures). The size of the maps
    may differ between images.
    """

    maps: Int[np.ndarray, "maps height width"]
    whole: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Network:
    """A target network ready to run, with the transform its weights were trained with.

    `prefix_tokens` is the setting, None where the network is to say itself; `notes` are for a reader of the
    results.
    """

    module: nn.Module
    transform: "Callable[[Image], Tensor]"
    prefix_tokens: int | None = None
    notes: tuple[str, ...] = ()


@runtime_checkable
class TargetModel(Protocol):
    """A recipe for a target network: a timm architecture, or a function in a user's own file."""

    name: str
    layers: Sequence[str]
    final: str | None
    units_axis: int | None
    prefix_tokens: int | None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The class names, in the order of the final layer's units."""

    @property
    def truth(self) -> Mapping[str, tuple[Accepted, ...]]:
        """The accepted names of each unit, for every layer where they are known."""

    @property
    def key(self) -> Mapping[str, Any]:
        """All that changes what the network computes, as plain JSON values."""

    @property
    def own_code(self) -> bool:
        """Whether the network comes from code that no key can cover, so that its outputs have to be compared."""

    def build(self) -> Network:
        """The network in evaluation mode, on the CPU in float32."""
