"""What every judge is, and the held-out images that labels are scored on."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from cd_exp.cache import Store, make_key
from cd_exp.clips import Clip
from cd_exp.dissection import RunData
from cd_exp.errors import InputError
from cd_exp.records import Probe

SHARE = 0.2
"""Of the images, for the scores; labels are chosen on the others."""


@dataclass(frozen=True, eq=False, kw_only=True)
class HeldOut(RunData):
    """What a judge has: all that the run has, and which of the images it scores on.

    `chosen_on` and `scored_on` are rows of the features, ascending.
    """

    chosen_on: Int[np.ndarray, " chosen"]
    scored_on: Int[np.ndarray, " scored"]

    def activations(self, layer: str) -> Float[Tensor, "scored neurons"]:
        """Those on the images that are scored on."""
        return self.features.activations[layer][self.scored_on]

    @property
    def indices(self) -> Int[np.ndarray, " scored"]:
        """The images that are scored on, as indices into the probe."""
        return np.asarray(self.features.kept)[self.scored_on]


@dataclass(frozen=True, eq=False)
class LabelsToScore:
    """Labels of some units of a layer, to be scored: a concept, or a formula or weighted sum of concepts, each."""

    layer: str
    units: Int[np.ndarray, " units"]
    labels: Sequence[str]


Scores = Mapping[str, Float[np.ndarray, " units"]]
"""By metric, one number per unit; NaN where the judge cannot tell what the label means."""


def split_images(
    digests: Sequence[str], *, seed: int, share: float = SHARE
) -> tuple[Int[np.ndarray, " chosen"], Int[np.ndarray, " scored"]]:
    """Which images labels are chosen on and which they are scored on, decided by the content of each image.

    The images are ordered by a hash of the seed and their content, and the first round(share * images) are scored on,
    with those of the same content: a copy never stands on both sides, and the order of the probe is irrelevant.

    Args:
        digests: a hash of each image's content.
        seed: another one splits otherwise.
        share: of the images to score on.

    Raises:
        InputError: fewer than two images on one of the sides.
    """
    hashed = [hashlib.sha256(f"{seed}\0{digest}".encode()).digest() for digest in digests]
    last = sorted(hashed)[max(0, round(share * len(hashed)) - 1)] if hashed else b""
    scored = np.array([value <= last for value in hashed], dtype=bool)
    if scored.sum() < 2 or (~scored).sum() < 2:
        raise InputError(
            f"{len(digests)} images leave {int((~scored).sum())} to choose labels on and {int(scored.sum())} to score "
            "them on; a judge needs at least two of each, so more (different) images"
        )
    return np.flatnonzero(~scored), np.flatnonzero(scored)


def held_out_split(
    probe: Probe, kept: Sequence[int], *, store: Store, seed: int, share: float = SHARE
) -> tuple[Int[np.ndarray, " chosen"], Int[np.ndarray, " scored"]]:
    """`split_images` of some of a probe's images; their digests are remembered."""
    indices = [int(index) for index in kept]
    content = {"probe": probe.fingerprint, "kept": make_key({"kept": indices})}
    return split_images(
        store.remember("contents", content, lambda: content_digests(probe, indices)), seed=seed, share=share
    )


def content_digests(probe: Probe, indices: Sequence[int]) -> list[str]:
    """A hash of each image's content, as the probe set gives it."""
    return list(probe.digests(indices))


class Judge(ABC):
    """Scores labels on images that they were not chosen on.

    Attributes:
        held_out: the share of the images that labels are scored on.
        untrained: whether our labels of the same network with random weights are scored as a reference.
        ranks_by: the score that ranks methods; none where the judge does not rank methods.
        note: for a reader of the scores.
    """

    held_out: float = SHARE
    untrained: bool = False
    ranks_by: ClassVar[str] = ""
    note: ClassVar[str] = ""

    def check(self, probe: Probe) -> None:  # noqa: B027  refuses nothing by default
        """Raise InputError for a probe set that the judge cannot judge on, before anything is computed."""

    def circular(self, clip: Clip) -> bool:
        """Whether the judge asks the very backbone that chose the labels."""
        del clip
        return False

    @abstractmethod
    def __call__(self, held: HeldOut, asked: Sequence[LabelsToScore]) -> list[Scores]:
        """The scores of every label, in the order asked; NaN where the judge cannot tell what a label means."""

    @abstractmethod
    def known(self, held: HeldOut, labels: Sequence[str]) -> Mapping[str, bool]:
        """Of each label whether the judge can tell what it means."""
