"""Scenes of the embedded world for a label, and pairs of scenes that differ in one attribute."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product

import numpy as np
import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

import cd_exp.shapes as world
from cd_exp.metrics.label_expressions import predicted
from cd_exp.records import Probe

SEED = 3003
"""Apart from those of training (1001, 2002) and of the default probe (0)."""

Attributes = tuple[int, ...]
"""A number for each of `cd_exp.shapes.KINDS`."""


@dataclass(frozen=True)
class Render:
    """One picture: the number of the scene, and its attributes."""

    index: int
    attributes: Attributes


@dataclass(frozen=True, eq=False)
class Renders(Probe):
    """The pictures of all labels as a probe set.

    `rows` are the pictures of each label; `pairs` are two pictures each, of which the first shows the label, with the
    value that the label predicts less for the second.
    """

    pictures: tuple[Render, ...]
    rows: Mapping[str, Sequence[int]]
    pairs: Mapping[str, Sequence[tuple[int, int, float]]]
    objects: int = 1
    name: str = "renders"

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Scene and attributes."""
        return tuple(f"{one.index}/{'-'.join(map(str, one.attributes))}" for one in self.pictures)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the renderer and of what is rendered."""
        text = "\n".join([world.fingerprint(), str(SEED), str(self.objects), *self.ids])
        return hashlib.sha256(text.encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Image.Image:
        """The picture as RGB."""
        one = self.pictures[index]
        fixed = dict(zip(world.KINDS, one.attributes, strict=True))
        return Image.fromarray(world.scene(one.index, seed=SEED, objects=self.objects, fixed=fixed).pixels)

    def pairs_of(self, label: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Pairs that differ in what the label names, and pairs that differ in something else."""
        named = [(first, second) for first, second, less in self.pairs[label] if less > 0]
        return named, [(first, second) for first, second, less in self.pairs[label] if less == 0]


@cache
def _combinations() -> Int[np.ndarray, "combinations kinds"]:
    return np.array(list(product(*(range(len(names)) for names in world.KINDS.values()))))


@cache
def values_of(label: str) -> Tensor | None:
    """What a label predicts for every combination of attributes; None where the world cannot draw one of its words."""

    def values(name: str) -> Tensor | None:
        attributes = world.named(name)
        if attributes is None:
            return None
        columns = [list(world.KINDS).index(kind) for kind in attributes]
        return torch.from_numpy((_combinations()[:, columns] == list(attributes.values())).all(axis=1)).double()

    return predicted(label, values)


def drawable(label: str) -> bool:
    """Whether some scenes show the label and others do not."""
    found = values_of(label)
    return found is not None and bool(found.amax() > found.amin())


def renders(labels: Sequence[str], *, scenes: int, pairs: int, objects: int = 1) -> Renders:
    """Pictures of every label that the world can draw.

    A label's scenes have the attributes for which it predicts most, drawn evenly among these, and are the same whatever
    other labels there are. Of the first `pairs` of them each attribute in turn is changed to another one.

    Args:
        labels: concepts, formulas or weighted sums.
        scenes: for each label.
        pairs: how many of these are changed.
        objects: figures in a scene; a second one is drawn freely.
    """
    pictures: list[Render] = []
    rows: dict[str, list[int]] = {}
    changed: dict[str, list[tuple[int, int, float]]] = {}
    for label in dict.fromkeys(labels):
        if not drawable(label):
            continue
        found = values_of(label)
        assert found is not None
        hashed = int.from_bytes(hashlib.sha256(label.encode()).digest()[:4], "big")
        random = np.random.default_rng([SEED, hashed])
        best = np.flatnonzero((found == found.amax()).numpy())
        chosen = _combinations()[random.choice(best, scenes)]
        rows[label] = list(range(len(pictures), len(pictures) + scenes))
        start = hashed * 1000
        pictures += [Render(start + number, _plain(own)) for number, own in enumerate(chosen)]
        changed[label] = []
        for number, own in enumerate(chosen[:pairs]):
            for kind, names in enumerate(world.KINDS.values()):
                other = own.copy()
                other[kind] = (own[kind] + random.integers(1, len(names))) % len(names)
                less = float(found[_place(own)] - found[_place(other)])
                changed[label].append((rows[label][number], len(pictures), less))
                pictures.append(Render(start + number, _plain(other)))
    return Renders(tuple(pictures), rows, changed, objects)


def _plain(attributes: Int[np.ndarray, " kinds"]) -> Attributes:
    return tuple(int(number) for number in attributes)


def _place(attributes: Int[np.ndarray, " kinds"]) -> int:
    """The row of a combination in `_combinations`."""
    return int(np.ravel_multi_index(tuple(attributes), tuple(len(names) for names in world.KINDS.values())))
