"""What extraction hands over: the activations of each layer, or what was kept of them, and CLIP's image embeddings.

And what a similarity function reads of them: all, or each unit's strongest images, ties in the order of content.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import starmap

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cd_exp import activation_stats
from cd_exp.activation_stats import ActivationStatistics, merge_statistics, strongest_images
from cd_exp.cache import Entry
from cd_exp.errors import InputError
from cd_exp.features.store_activations import STATISTICS, LayerSummary
from cd_exp.records import Probe, Similarity, TopActivations
from cd_exp.similarity import bind
from cd_exp.similarity.match import Activations
from cd_exp.stability import images_reached
from cd_exp.units.activation_matrix import COLUMNS_AT_A_TIME, ActivationMatrix

UNITS = 16384
"""Units at a time whose lists are put in another order."""

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
        digests: SHA-256 of what the cache has of each layer and of the embeddings.
        maps: by layer with an extent, the cache's entry of the maps of each unit's strongest images, if they were kept.
    """

    activations: Mapping[str, Float[Tensor, "images neurons"]]
    images: Float[Tensor, "images dim"]
    kept: Sequence[int]
    skipped: Sequence[str]
    reduced: Mapping[str, LayerSummary] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    maps: Mapping[str, Entry] = field(default_factory=dict)
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
            return strongest_images(self.activations[layer], k)
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


def reduce_matrix(
    units: ActivationMatrix,
    features: Features,
    ids: Sequence[str],
    strongest: int,
    *,
    width: int = COLUMNS_AT_A_TIME,
) -> Features:
    """The features with each unit's strongest images and statistics, some units at a time: 1,000,000 units and 10,000
    images would be 40 GB.

    Args:
        units: of files.
        features: without activations.
        ids: of the images that are used.
        strongest: how many images to keep of each unit.
        width: units at a time.
    """
    reduced = {}
    for layer, neurons in units.widths.items():
        done, summary = 0, None
        for block in starmap(LayerSummary, units.iterate_summaries(layer, ids, strongest, width=width)):
            summary = _allocate_summary(block, neurons) if summary is None else summary
            part = slice(done, done + block.strongest.shape[1])
            summary.strongest.values[:, part] = block.strongest.values
            summary.strongest.indices[:, part] = block.strongest.indices
            for name in STATISTICS:
                getattr(summary.statistics, name)[part] = getattr(block.statistics, name)
            done = part.stop
        if summary is not None:
            reduced[layer] = summary
    return replace(features, activations=DenseActivations({}, reduced), reduced=reduced)


def _allocate_summary(block: LayerSummary, neurons: int) -> LayerSummary:
    """Room for all units of a layer, of the form of a block of them.

    Image numbers take four bytes. Of a million units the blocks joined at the end took 10 GB: what is kept of each lies
    between freed memory of the others, which the allocator cannot give back.
    """
    top, counted = block.strongest, block.statistics
    shape = len(top.values), neurons
    lists = TopActivations(torch.empty(shape), torch.empty(shape, dtype=torch.int32), top.images)
    columns = {name: getattr(counted, name) for name in STATISTICS}
    empty = {name: values.new_empty(neurons, *values.shape[1:]) for name, values in columns.items()}
    return LayerSummary(lists, replace(counted, **empty))


def count_images_needed(similarity: Similarity, images: int, resamples: int, *, shown: int) -> int | None:
    """How many of each unit's strongest images are read or shown; None for a function that reads everything."""
    strongest = bind(similarity).inputs(images).strongest
    if strongest is None:
        return None
    # Read, and one more that tells whether the order of equal images decides what is read.
    return min(images, max(shown, images_reached(strongest) if resamples else strongest + 1))


def read_activations(
    features: Features,
    layer: str,
    similarity: Similarity,
    resamples: int,
    device: torch.device,
    order: Callable[[], Int[Tensor, " images"]] | None = None,
) -> Activations:
    """What the function and its resamples read of a layer; shorter lists where no longer ones were kept."""
    images = len(features.images)
    wanted = bind(similarity).inputs(images).strongest
    if wanted is None:
        return features.activations[layer].to(device)
    longer = min(images, images_reached(wanted)) if resamples else wanted
    kept = len(features.reduced[layer].strongest.values) if layer in features.reduced else images
    lists = features.strongest(layer, max(wanted, min(kept, max(wanted + 1, longer))))
    if order is not None:
        lists = _by_content(lists, features, layer, order, wanted)
    dead = features.statistics(layer).dead.to(device) if bind(similarity).needs_dead else None
    return TopActivations(lists.values.to(device), lists.indices.to(device), lists.images, dead)


def is_tied(lists: TopActivations, read: int) -> Bool[Tensor, " neurons"]:
    """Units whose last image that is read is no stronger than the next one: the order of the images would decide."""
    if len(lists.values) <= read:
        return torch.zeros(lists.values.shape[1], dtype=torch.bool, device=lists.values.device)
    return lists.values[read - 1] == lists.values[read]


def _by_content(
    lists: TopActivations, features: Features, layer: str, order: Callable[[], Int[Tensor, " images"]], read: int
) -> TopActivations:
    """The same with images of equal activation in the order of their content, where that decides which are read.

    Of a layer that is kept as lists, among those that were kept: `count_cut_ties` tells of how many units not all were.
    """
    tied = is_tied(lists, read).nonzero().flatten()
    if not len(tied):
        return lists
    if layer not in features.activations:
        indices = _list_by_content(features.reduced[layer].strongest, len(lists.values), tied, order())
        return TopActivations(lists.values, indices, lists.images, lists.dead)
    values, indices = lists.values.clone(), lists.indices.clone()
    best = strongest_images(features.activations[layer][:, tied][order()], len(values))
    values[:, tied], indices[:, tied] = best.values, order()[best.indices]
    return TopActivations(values, indices, lists.images, lists.dead)


def _list_by_content(
    kept: TopActivations, count: int, tied: Int[Tensor, " tied"], order: Int[Tensor, " images"]
) -> Int[Tensor, "count neurons"]:
    """The first `count` images of each list, those of tied units in the order of their values and then of `order`.

    Some units at a time: of a million units the lists are 400 MB, and the copies that sorting takes ten times that.
    """
    position = torch.empty(kept.images, dtype=torch.int64)
    position[order] = torch.arange(kept.images)
    indices = kept.indices[:count].clone()
    for units in tied.split(UNITS):
        images = kept.indices[:, units]
        by_content = position[images.long()].argsort(dim=0)
        by_value = kept.values[:, units].gather(0, by_content).sort(dim=0, descending=True, stable=True).indices
        indices[:, units] = images.gather(0, by_content).gather(0, by_value)[:count]
    return indices


def count_cut_ties(features: Features, read: int) -> dict[str, int]:
    """By layer that is kept as lists, of how many units the last image that is read equals the last that was kept.

    Images beyond the list may be as strong, and those in it were kept for their place in the probe set.
    """
    counts = {}
    for layer, summary in features.reduced.items():
        kept = summary.strongest.values
        if read <= len(kept) < summary.strongest.images:
            counts[layer] = int((kept[read - 1] == kept[-1]).sum())
    return {layer: count for layer, count in counts.items() if count}


def order_by_content(probe: Probe, kept: Sequence[int]) -> Int[Tensor, " images"]:
    """The rows of the images that are used, in the order of their content: the same however the set is sorted."""
    keys = probe.order_keys(list(kept))
    return torch.tensor(sorted(range(len(keys)), key=keys.__getitem__))


def hash_text(text: str) -> str:
    """SHA-256 of a text, here of the checksums that the cache has of shards."""
    return hashlib.sha256(text.encode()).hexdigest()


def hash_features(features: Features, texts: Float[Tensor, "concepts dim"]) -> dict[str, str]:
    """SHA-256 of the activations of each layer, of the image embeddings and of those of the concepts.

    The cache has hashed the large ones already; what is read from files of the user's own has its fingerprint there.
    """
    values = np.ascontiguousarray(texts.cpu().numpy())
    return {**features.digests, "texts": hashlib.sha256(values.tobytes()).hexdigest()}
