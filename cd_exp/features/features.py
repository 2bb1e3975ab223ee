"""What extraction hands over: the activations of each layer, or what was kept of them, and CLIP's image embeddings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from cd_exp import activation_stats
from cd_exp.activation_stats import ActivationStatistics, merge_statistics
from cd_exp.errors import InputError
from cd_exp.features.store_activations import LayerSummary
from cd_exp.records import TopActivations

ROWS = 1024
"""Images at a time where a whole layer is walked through."""


class DenseActivations(dict[str, Tensor]):
    """Activations by layer; asking for those of a layer that is kept as lists names the setting."""

    def __init__(self, tensors: Mapping[str, Tensor], reduced: Mapping[str, LayerSummary]) -> None:
        super().__init__(tensors)
        self.reduced = reduced

    def __missing__(self, layer: str) -> Tensor:
        if layer in self.reduced:
            raise InputError(
                f"only the strongest images of each unit of {layer} were kept, and all activations are needed; "
                "set features.keep=dense"
            )
        raise KeyError(layer)


@dataclass(frozen=True, eq=False)
class Features:
    """What the networks gave for the readable images of a probe set.

    Rows of all tensors are these images in the order of the probe.

    Attributes:
        activations: of the layers whose activations were all kept, memory-mapped.
        images: CLIP's embeddings.
        kept: the indices of the images into the probe.
        skipped: the ids of the unreadable ones.
        reduced: of the other layers, the strongest images and statistics of each unit.
    """

    activations: Mapping[str, Float[Tensor, "images neurons"]]
    images: Float[Tensor, "images dim"]
    kept: Sequence[int]
    skipped: Sequence[str]
    reduced: Mapping[str, LayerSummary] = field(default_factory=dict)
    _counted: dict[tuple[str, bool], ActivationStatistics] = field(default_factory=dict, init=False, repr=False)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that there is something of."""
        return (*self.activations, *self.reduced)

    def units(self, layer: str) -> int:
        """How many units the layer has."""
        return self.statistics(layer).least.numel() if layer in self.reduced else self.activations[layer].shape[1]

    def strongest(self, layer: str, k: int) -> TopActivations:
        """The `k` images that excite each unit most, or all where there are fewer; indices are rows of `images`.

        Raises:
            InputError: fewer were kept.
        """
        if layer not in self.reduced:
            return activation_stats.strongest_images(self.activations[layer], k)
        kept = self.reduced[layer].strongest
        if len(kept.values) < min(k, kept.images):
            raise InputError(
                f"{len(kept.values)} of the strongest images of each unit of {layer} were kept, and {k} are needed; "
                "set features.keep=dense"
            )
        return TopActivations(kept.values[:k], kept.indices[:k], kept.images, self.reduced[layer].statistics.dead)

    def statistics(self, layer: str, *, histogram: bool = False) -> ActivationStatistics:
        """Moments, extremes and firing counts of each unit, with a histogram where asked for."""
        if layer in self.reduced:
            return self.reduced[layer].statistics
        if (layer, histogram) not in self._counted:
            parts = self.activations[layer].split(ROWS)
            counted = merge_statistics(
                activation_stats.activation_statistics(part, histogram=histogram) for part in parts
            )
            self._counted[layer, histogram] = counted
        return self._counted[layer, histogram]
