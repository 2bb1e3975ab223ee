"""`judge=annotations`: the probe's own masks and classes tell which images show a concept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from cd_exp.errors import InputError
from cd_exp.evaluation.judges.base import SHARE, Explained, HeldOut, Judge, Scores
from cd_exp.evaluation.judges.scores import known_labels, score
from cd_exp.metrics.label_expressions import Values
from cd_exp.metrics.name_matching import Naming
from cd_exp.records import Probe


@dataclass(frozen=True)
class Annotations(Judge):
    """Settings of `judge=annotations`.

    Args:
        held_out: share of the images that labels are scored on, and not chosen on.
        share: of these images in which a unit counts as active; None takes the label's own base rate.
    """

    held_out: float = SHARE
    share: float | None = None

    def check(self, probe: Probe) -> None:
        """Refuse a probe that has neither masks nor classes."""
        if not (probe.knows_what_is_shown or probe.has_masks):
            classes_of(probe)

    def __call__(self, held: HeldOut, asked: Sequence[Explained]) -> list[Scores]:
        """The scores of every label, in the order asked."""
        values = presence(held.probe, held.indices)
        return [score(held.activations(one.layer)[:, one.units], one.labels, values, share=self.share) for one in asked]

    def known(self, held: HeldOut, labels: Sequence[str]) -> Mapping[str, bool]:
        """Of each label whether the annotations tell what it means."""
        return known_labels(labels, presence(held.probe, held.indices[:2]))


def presence(probe: Probe, indices: Sequence[int] | np.ndarray) -> Values:
    """A function from a concept to whether it is present in each of the images, as 0 and 1; None for other concepts.

    A concept is present where any pixel has it. Names are compared as labels and truths are (`cd_exp.metrics`).

    Raises:
        InputError: the probe has neither masks nor classes.
    """
    places = [int(index) for index in indices]
    if probe.knows_what_is_shown:
        return _remembered(lambda name: probe.shows(name, places))
    names, _, present = atoms(probe, places)
    return _by_name(names, present)


def atoms(
    probe: Probe, indices: Sequence[int]
) -> tuple[tuple[str, ...], tuple[str, ...], Bool[np.ndarray, "images concepts"]]:
    """The annotated concepts, the category of each (`class` for a class of images), and which images have which.

    Raises:
        InputError: the probe has neither masks nor classes.
    """
    if probe.has_masks:
        return tuple(probe.concepts), tuple(probe.categories), _masked(probe, indices)
    classes = classes_of(probe)
    columns = {name: column for column, name in enumerate(dict.fromkeys(name for name in classes if name))}
    present = np.zeros((len(indices), len(columns)), dtype=bool)
    for row, index in enumerate(indices):
        if classes[index]:
            present[row, columns[classes[index]]] = True
    names = tuple(columns)
    return names, ("class",) * len(names), present


def classes_of(probe: Probe) -> Sequence[str]:
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


def _masked(probe: Probe, indices: Sequence[int]) -> Bool[np.ndarray, "images concepts"]:
    present = np.zeros((len(indices), len(probe.concepts)), dtype=bool)
    for row, index in enumerate(indices):
        found = probe.segmentation(index)
        numbers = np.unique(found.maps)
        present[row, numbers[numbers >= 0]] = True
        present[row, list(found.whole)] = True
    return present


def _by_name(names: Sequence[str], present: Bool[np.ndarray, "images concepts"]) -> Values:
    """A concept by its own name first, and by what it is compared by otherwise."""
    naming, places = Naming.of(names), {name: [column] for column, name in enumerate(names)}
    forms: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        for form in naming.normal_forms(name):
            forms.setdefault(form, []).append(column)

    def find(name: str) -> Bool[np.ndarray, " images"] | None:
        given = naming if naming.broden else Naming.of([name])
        chosen = places.get(name) or sorted({c for form in given.normal_forms(name) for c in forms.get(form, ())})
        return np.asarray(present[:, chosen].any(axis=1)) if chosen else None

    return _remembered(find)


def _remembered(find: Callable[[str], np.ndarray | None]) -> Values:
    known: dict[str, Tensor | None] = {}

    def values(name: str) -> Tensor | None:
        if name not in known:
            found = find(name)
            known[name] = None if found is None else torch.from_numpy(found.astype(np.float32))
        return known[name]

    return values
