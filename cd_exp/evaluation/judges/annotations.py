"""`judge=annotations`: the probe's own masks and classes tell which images show a concept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from cd_exp.errors import InputError
from cd_exp.evaluation.judges.base import SHARE, HeldOut, Judge, LabelsToScore, Scores
from cd_exp.evaluation.judges.scores import have_values, score_labels
from cd_exp.metrics.label_expressions import Values
from cd_exp.metrics.name_matching import NameMatcher
from cd_exp.records import Probe


@dataclass(frozen=True)
class AnnotationsJudge(Judge):
    """Settings of `judge=annotations`.

    Args:
        held_out: share of the images that labels are scored on, and not chosen on.
        share: share of the held-out images in which a unit counts as active; None takes the label's own base rate.
        untrained: whether our labels of the same network with random weights are scored as a reference.
    """

    held_out: float = SHARE
    share: float | None = None
    untrained: bool = False
    ranks_by: ClassVar[str] = "auprc"

    def check(self, probe: Probe) -> None:
        """Refuse a probe that has neither masks nor classes."""
        if not (probe.knows_what_is_shown or probe.has_masks):
            read_image_classes(probe)

    def __call__(self, held: HeldOut, asked: Sequence[LabelsToScore]) -> list[Scores]:
        """The scores of every label, in the order asked."""
        values = concept_presence(held.probe, held.indices)
        return [
            score_labels(held.activations(request.layer)[:, request.units], request.labels, values, share=self.share)
            for request in asked
        ]

    def known(self, held: HeldOut, labels: Sequence[str]) -> Mapping[str, bool]:
        """Of each label whether the annotations tell what it means."""
        return have_values(labels, concept_presence(held.probe, held.indices[:2]))


def concept_presence(probe: Probe, indices: Sequence[int] | np.ndarray) -> Values:
    """A function from a concept to whether it is present in each of the images, as 0 and 1; None for other concepts.

    A concept is present where any pixel has it. Names are compared as labels and truths are (`cd_exp.metrics`).

    Raises:
        InputError: the probe has neither masks nor classes.
    """
    rows = [int(index) for index in indices]
    if probe.knows_what_is_shown:
        return _cached_presence(lambda name: probe.shows(name, rows))
    names, _, present = list_base_concepts(probe, rows)
    return _match_names(names, present)


def list_base_concepts(
    probe: Probe, indices: Sequence[int]
) -> tuple[tuple[str, ...], tuple[str, ...], Bool[np.ndarray, "images concepts"]]:
    """The annotated concepts, the category of each (`class` for a class of images), and which images have which.

    Raises:
        InputError: the probe has neither masks nor classes.
    """
    if probe.has_masks:
        return tuple(probe.concepts), tuple(probe.categories), _read_masks(probe, indices)
    classes = read_image_classes(probe)
    columns = {name: column for column, name in enumerate(dict.fromkeys(name for name in classes if name))}
    present = np.zeros((len(indices), len(columns)), dtype=bool)
    for row, index in enumerate(indices):
        if classes[index]:
            present[row, columns[classes[index]]] = True
    names = tuple(columns)
    return names, ("class",) * len(names), present


def read_image_classes(probe: Probe) -> Sequence[str]:
    """The class of each image, as the probe knows it; "" for an image of none.

    Raises:
        InputError: the probe knows none.
    """
    if probe.image_classes is None:
        raise InputError(
            f"pixel masks or classes of the images are needed, and probe {probe.name!r} has neither; use probe=shapes, "
            "probe=broden, a probe=folder with a folder for each class, or probe=cifar100 (judge=clip needs none)"
        )
    return probe.image_classes


def _read_masks(probe: Probe, indices: Sequence[int]) -> Bool[np.ndarray, "images concepts"]:
    present = np.zeros((len(indices), len(probe.concepts)), dtype=bool)
    for row, index in enumerate(indices):
        segmentation = probe.segmentation(index)
        numbers = np.unique(segmentation.maps)
        present[row, numbers[numbers >= 0]] = True
        present[row, list(segmentation.whole)] = True
    return present


def _match_names(names: Sequence[str], present: Bool[np.ndarray, "images concepts"]) -> Values:
    """A concept by its own name first, and by what it is compared by otherwise."""
    naming, columns = NameMatcher.of(names), {name: [column] for column, name in enumerate(names)}
    forms: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        for form in naming.normal_forms(name):
            forms.setdefault(form, []).append(column)

    def find(name: str) -> Bool[np.ndarray, " images"] | None:
        matcher = naming if naming.broden else NameMatcher.of([name])
        chosen = columns.get(name) or sorted({c for form in matcher.normal_forms(name) for c in forms.get(form, ())})
        return np.asarray(present[:, chosen].any(axis=1)) if chosen else None

    return _cached_presence(find)


def _cached_presence(find: Callable[[str], np.ndarray | None]) -> Values:
    presence: dict[str, Tensor | None] = {}

    def values(name: str) -> Tensor | None:
        if name not in presence:
            column = find(name)
            presence[name] = None if column is None else torch.from_numpy(column.astype(np.float32))
        return presence[name]

    return values
