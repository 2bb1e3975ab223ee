"""`judge=images`: images of each label, compared with the probe's held-out images.

They come from a folder (`DIR/LABEL/*.png`, made by any generator), or for the built-in synthetic world from its
renderer, which also gives pairs of scenes that differ in one attribute.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

import cd_exp.shapes as world
from cd_exp.errors import InputError
from cd_exp.evaluation.judges.annotations import concept_presence
from cd_exp.evaluation.judges.base import SHARE, HeldOut, Judge, LabelsToScore, Scores
from cd_exp.evaluation.judges.scores import activation_rate, cosy_auc, cosy_mad, selectivity
from cd_exp.features.other_passes import unit_activations
from cd_exp.io.text import make_file_name
from cd_exp.metrics.label_expressions import Values, predict_values
from cd_exp.probes import folder as all_images
from cd_exp.probes.wrappers import Subset
from cd_exp.records import Probe, Renderer

SEED = 3003
"""Apart from those of training (1001, 2002) and of the default probe (0)."""

Attributes = tuple[int, ...]
"""A number for each of `cd_exp.shapes.KINDS`."""


@dataclass(frozen=True)
class Render:
    """One image: the number of the scene, and its attributes."""

    index: int
    attributes: Attributes


@dataclass(frozen=True, eq=False)
class Renders(Probe):
    """The images of all labels as a probe set.

    `rows` are the images of each label; `pairs` are two images each, of which the first shows the label,
    with the value that the label predicts less for the second.
    """

    images: tuple[Render, ...]
    rows: Mapping[str, Sequence[int]]
    pairs: Mapping[str, Sequence[tuple[int, int, float]]]
    objects: int = 1
    name: str = "renders"

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Scene and attributes."""
        return tuple(f"{render.index}/{'-'.join(map(str, render.attributes))}" for render in self.images)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the renderer and of what is rendered."""
        text = "\n".join([world.shapes_fingerprint(), str(SEED), str(self.objects), *self.ids])
        return hashlib.sha256(text.encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Image.Image:
        """The image as RGB."""
        render = self.images[index]
        fixed = dict(zip(world.KINDS, render.attributes, strict=True))
        return Image.fromarray(world.make_scene(render.index, seed=SEED, objects=self.objects, fixed=fixed).pixels)

    def pairs_of(self, label: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Pairs that differ in what the label names, and pairs that differ in something else."""
        named = [(first, second) for first, second, less in self.pairs[label] if less > 0]
        return named, [(first, second) for first, second, less in self.pairs[label] if less == 0]


@cache
def _list_combinations() -> Int[np.ndarray, "combinations kinds"]:
    return np.array(list(product(*(range(len(names)) for names in world.KINDS.values()))))


@cache
def attribute_values(label: str) -> Tensor | None:
    """What a label predicts for every combination of attributes; None where the world cannot draw one of its words."""

    def values(name: str) -> Tensor | None:
        attributes = world.named_attributes(name)
        if attributes is None:
            return None
        columns = [list(world.KINDS).index(kind) for kind in attributes]
        return torch.from_numpy((_list_combinations()[:, columns] == list(attributes.values())).all(axis=1)).double()

    return predict_values(label, values)


def is_drawable(label: str) -> bool:
    """Whether some scenes show the label and others do not."""
    scores = attribute_values(label)
    return scores is not None and bool(scores.amax() > scores.amin())


def render_label(labels: Sequence[str], *, scenes: int, pairs: int, objects: int = 1) -> Renders:
    """Images of every label that the world can draw.

    A label's scenes have the attributes for which it predicts most, drawn evenly among these, and are the same whatever
    other labels there are. Of the first `pairs` of them each attribute in turn is changed to another one.

    Args:
        labels: concepts, formulas or weighted sums.
        scenes: for each label.
        pairs: how many of these are changed.
        objects: figures in a scene; a second one is drawn freely.
    """
    images: list[Render] = []
    rows: dict[str, list[int]] = {}
    changed: dict[str, list[tuple[int, int, float]]] = {}
    for label in dict.fromkeys(labels):
        if not is_drawable(label):
            continue
        scores = attribute_values(label)
        assert scores is not None
        hashed = int.from_bytes(hashlib.sha256(label.encode()).digest()[:4], "big")
        random = np.random.default_rng([SEED, hashed])
        best = np.flatnonzero((scores == scores.amax()).numpy())
        chosen = _list_combinations()[random.choice(best, scenes)]
        rows[label] = list(range(len(images), len(images) + scenes))
        start = hashed * 1000
        images += [Render(start + number, _plain_scene(attributes)) for number, attributes in enumerate(chosen)]
        changed[label] = []
        for number, attributes in enumerate(chosen[:pairs]):
            for kind, names in enumerate(world.KINDS.values()):
                other = attributes.copy()
                other[kind] = (attributes[kind] + random.integers(1, len(names))) % len(names)
                less = float(scores[_place_figure(attributes)] - scores[_place_figure(other)])
                changed[label].append((rows[label][number], len(images), less))
                images.append(Render(start + number, _plain_scene(other)))
    return Renders(tuple(images), rows, changed, objects)


def _plain_scene(attributes: Int[np.ndarray, " kinds"]) -> Attributes:
    return tuple(int(number) for number in attributes)


def _place_figure(attributes: Int[np.ndarray, " kinds"]) -> int:
    """The row of a combination in `_list_combinations`."""
    return int(np.ravel_multi_index(tuple(attributes), tuple(len(names) for names in world.KINDS.values())))


@dataclass(frozen=True)
class ImagesJudge(Judge):
    """Settings of `judge=images`.

    Args:
        folder: with a folder of images for each label; without, the probe's own renderer draws them.
        held_out: share of the images that are the controls; labels are chosen on the others.
        scenes: how many images the renderer draws for a label.
        pairs: for how many of these it changes each of the attributes, for the selectivity.
        untrained: whether our labels of the same network with random weights are scored as a reference.

    Raises:
        InputError: for a setting out of its range.
    """

    folder: str | None = None
    held_out: float = SHARE
    scenes: int = 50
    pairs: int = 10
    untrained: bool = False
    ranks_by: ClassVar[str] = "cosy_auc"

    def __post_init__(self) -> None:
        if not 1 <= self.pairs <= self.scenes:
            raise InputError(
                f"judge.pairs={self.pairs} and judge.scenes={self.scenes}: as many pairs as scenes at most, and one"
            )

    def check(self, probe: Probe) -> None:
        """Refuse a probe without a renderer where there is no folder, and a folder that is not there."""
        if self.folder is None:
            self._renderer_of(probe)
        elif not Path(self.folder).expanduser().is_dir():
            raise InputError(f"judge.folder={self.folder}: there is no such folder (seen from {Path.cwd()})")

    def __call__(self, held: HeldOut, asked: Sequence[LabelsToScore]) -> list[Scores]:
        """The scores of every label, in the order asked; a label without images has none."""
        labels = tuple(dict.fromkeys(label for request in asked for label in request.labels))
        scores: list[Scores] = [{} for _ in asked]
        layers = tuple(dict.fromkeys(request.layer for request in asked))
        shown = self.show_images(held, labels)
        for layer in layers:
            of_layer = [(position, request) for position, request in enumerate(asked) if request.layer == layer]
            for (position, _), layer_scores in zip(
                of_layer, _score_label(held, shown, layer, [request for _, request in of_layer]), strict=True
            ):
                scores[position] = layer_scores
        return scores

    def known(self, held: HeldOut, labels: Sequence[str]) -> Mapping[str, bool]:
        """Of each label whether there are images of it."""
        if self.folder is not None:
            return {label: bool(_find_folder(Path(self.folder).expanduser(), label)) for label in labels}
        self._renderer_of(held.probe)
        return {label: is_drawable(label) for label in labels}

    def show_images(self, held: HeldOut, labels: Sequence[str]) -> "ImageScores":
        """The activations of the layers on the images of each label that has images."""
        drawn: Renders | None = None
        probe: Probe
        rows: Mapping[str, Sequence[int]]
        if self.folder is None:
            objects = self._renderer_of(held.probe).objects
            drawn = render_label(labels, scenes=self.scenes, pairs=self.pairs, objects=objects)
            probe, rows = drawn, drawn.rows
        else:
            probe, rows = list_label_images(Path(self.folder).expanduser(), labels)
        if not rows:
            return ImageScores({}, {}, None)
        settings = replace(held.settings, on_error="error")
        responses = unit_activations(
            held.model, probe, like=held.probe, units=held.units, store=held.store, settings=settings
        )
        return ImageScores(responses, rows, drawn)

    def _renderer_of(self, probe: Probe) -> Renderer:
        if probe.renderer is not None:
            return probe.renderer
        raise InputError(
            f"judge=images needs images of each label, and probe {probe.name!r} has no renderer; give a folder with "
            "judge.folder=DIR, in it a folder of images for each label, named as the label is"
        )


@dataclass(frozen=True, eq=False)
class ImageScores:
    """The activations of each layer on all images, and which images (rows) belong to each label."""

    activations: Mapping[str, Float[Tensor, "images neurons"]]
    rows: Mapping[str, Sequence[int]]
    renders: Renders | None


def score_images(
    held: HeldOut, shown: ImageScores, layer: str, label: str, units: Sequence[int] | np.ndarray
) -> Mapping[str, Float[np.ndarray, " units"]]:
    """The scores of one label for some units of a layer.

    The controls are the held-out images without the label where the probe's annotations tell, and all of them where
    not: with a tenth of the controls showing what is named, the best unit there is would reach an AUC of .95 only.
    """
    columns = torch.as_tensor(np.asarray(units))
    control = held.features.activations[layer][held.scored_on][~_images_with_concept(held, label)][:, columns]
    images = shown.activations[layer][:, columns]
    of_label = images[list(shown.rows[label])]
    scores = {
        "cosy_auc": cosy_auc(of_label, control),
        "cosy_mad": cosy_mad(of_label, control),
        "activation_rate": activation_rate(of_label, held.features.activations[layer][:, columns]),
    }
    if shown.renders is not None:
        named, other = shown.renders.pairs_of(label)
        if named and other:
            sides = [images[[before for before, _ in pairs]] - images[[after for _, after in pairs]]
                     for pairs in (named, other)]  # fmt: skip
            scores["selectivity"] = selectivity(sides[0], sides[1])
    return {name: values.cpu().numpy() for name, values in scores.items()}


def _score_label(held: HeldOut, shown: ImageScores, layer: str, asked: Sequence[LabelsToScore]) -> list[Scores]:
    metrics = ("cosy_auc", "cosy_mad", "activation_rate", *(("selectivity",) if shown.renders is not None else ()))
    scores = [{name: np.full(len(request.labels), np.nan) for name in metrics} for request in asked]
    users: dict[str, list[tuple[int, int]]] = {}
    for number, request in enumerate(asked):
        for position, label in enumerate(request.labels):
            if label in shown.rows:
                users.setdefault(label, []).append((number, position))
    for label, positions in users.items():
        units = [int(asked[number].units[position]) for number, position in positions]
        for name, values in score_images(held, shown, layer, label, units).items():
            for (number, position), value in zip(positions, values, strict=True):
                scores[number][name][position] = value
    return list(scores)


def _images_with_concept(held: HeldOut, label: str) -> Bool[Tensor, " scored"]:
    """The held-out images that show the label, as far as the probe's annotations tell."""
    none = torch.zeros(len(held.scored_on), dtype=torch.bool)
    try:
        values: Values = concept_presence(held.probe, held.indices)
    except InputError:
        return none
    predicted = predict_values(label, values)
    if predicted is None:
        return none
    return predicted > (predicted.amin() + predicted.amax()) / 2


def list_label_images(root: Path, labels: Sequence[str]) -> tuple[Probe, dict[str, list[int]]]:
    """The images of all labels that have a folder, as one probe, and which of them belong to each label.

    Raises:
        InputError: no label has a folder.
    """
    folders = {label: label_folder for label in labels if (label_folder := _find_folder(root, label))}
    if not folders:
        raise InputError(
            f"judge.folder={root} has no folder for any of {len(labels)} labels, as {labels[0]!r}; "
            "put the images of each label into DIR/LABEL"
        )
    every = all_images(root=str(root))
    rows: dict[str, list[int]] = {label: [] for label in folders}
    wanted = set(folders.values())
    chosen = np.array([row for row, name in enumerate(every.ids) if name.split("/")[0] in wanted], dtype=np.int64)
    for label, label_folder in folders.items():
        rows[label] = [new for new, row in enumerate(chosen.tolist()) if every.ids[row].split("/")[0] == label_folder]
    return Subset(every, chosen), {label: of_label for label, of_label in rows.items() if of_label}


def _find_folder(root: Path, label: str) -> str | None:
    """The folder of a label: called as it is, or as a file of that name may be called."""
    for name in (label, make_file_name(label)) if label else ():
        if name not in (".", "..") and "/" not in name and (root / name).is_dir():
            return name
    return None
