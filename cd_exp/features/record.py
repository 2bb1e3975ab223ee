"""What extraction hands over: the activations of each layer, or what was kept of them, and CLIP's image embeddings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from cd_exp import reductions
from cd_exp.reductions import Statistics, merge_statistics
from cd_exp.types import Strongest

ROWS = 1024
"""Images at a time where a whole layer is walked through."""


@dataclass(frozen=True, eq=False)
class Features:
    """What the networks gave for the readable images of a probe set.

    Rows of all tensors are these images in the order of the probe. `kept`: their indices into the probe; `skipped`: the
    ids of the unreadable ones.
    """

    activations: Mapping[str, Float[Tensor, "images neurons"]]
    images: Float[Tensor, "images dim"]
    kept: Sequence[int]
    skipped: Sequence[str]

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that there is something of."""
        return tuple(self.activations)

    def units(self, layer: str) -> int:
        """How many units the layer has."""
        return self.activations[layer].shape[1]

    def strongest(self, layer: str, k: int) -> Strongest:
        """The `k` images that excite each unit most, or all where there are fewer; indices are rows of `images`."""
        return reductions.strongest(self.activations[layer], k)

    def statistics(self, layer: str, *, histogram: bool = False) -> Statistics:
        """Moments, extremes and firing counts of each unit, with a histogram where asked for."""
        parts = self.activations[layer].split(ROWS)
        return merge_statistics(reductions.statistics(part, histogram=histogram) for part in parts)
