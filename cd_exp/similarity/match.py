"""Concept activations, dense or factored, and the few ways in which the functions look at them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cd_exp.activation_stats import strongest_images
from cd_exp.errors import InputError
from cd_exp.records import ConceptActivations, TopActivations

DenseOrFactored = ConceptActivations | Float[Tensor, "images concepts"]
"""What `match` may be: factored (`concept_activations` makes it), or the matrix itself."""

Activations = TopActivations | Float[Tensor, "images neurons"]
"""What `neurons` may be for a function that reads only each unit's strongest images: these, or all activations."""


def concept_activations(
    image_embeddings: Float[Tensor, "images dim"],
    text_embeddings: Float[Tensor, "concepts _"],  # another dim is the user's to mend
) -> ConceptActivations:
    """The match of every image and concept, P = images @ texts.T on L2-normalised rows, in factored form and float32.

    >>> match = concept_activations(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0], [0.0, 5.0]]))
    >>> match.images @ match.texts.T
    tensor([[0.6000, 0.8000]])

    Raises:
        InputError: where the two come from different spaces, or an embedding has no direction (zeros, NaN, infinite).

    Source: CLIP-Dissect (arXiv:2204.10965), section 3.
    """
    if image_embeddings.shape[1] != text_embeddings.shape[1]:
        raise InputError(
            f"image embeddings have {image_embeddings.shape[1]} dimensions and text embeddings "
            f"{text_embeddings.shape[1]}; both must come from the same CLIP backbone"
        )
    return ConceptActivations(_unit_rows(image_embeddings, "image"), _unit_rows(text_embeddings, "concept"))


def _unit_rows(embeddings: Float[Tensor, "rows dim"], kind: str) -> Float[Tensor, "rows dim"]:
    embeddings = embeddings.float()
    norms = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)
    broken = (~torch.isfinite(norms) | (norms == 0)).nonzero()
    if len(broken):
        raise InputError(
            f"the embedding of {kind} {broken[0, 0].item()} is zero or not finite, and {len(broken)} of {len(norms)} "
            f"are; compute the {kind} embeddings again"
        )
    return embeddings / norms


def check_shapes(
    match: DenseOrFactored, neurons: Activations
) -> tuple[DenseOrFactored, Float[Tensor, "images neurons"]]:
    """Both as float32, after making sure that they fit together and that every activation is finite.

    Raises:
        InputError: no image, concept or unit, another number of images, or a unit with NaN or infinite activations.
    """
    if isinstance(neurons, TopActivations):
        raise InputError(
            f"this similarity function reads all activations and got the {len(neurons.values)} strongest of each "
            "unit; keep all of them (features.keep=dense)"
        )
    _fit_lists(match, neurons)
    _check_finite(neurons)
    return _single_precision(match), neurons.float()


def as_top_activations(
    match: DenseOrFactored, neurons: Activations, count: int
) -> tuple[DenseOrFactored, TopActivations]:
    """The match as float32, and each unit's `count` strongest images, or all images where there are fewer.

    Raises:
        InputError: as `check_shapes`, and for lists that are shorter.
    """
    _fit_lists(match, neurons)
    count = min(count, neurons.shape[0])
    if not isinstance(neurons, TopActivations):
        _check_finite(neurons)
        return _single_precision(match), replace(
            strongest_images(neurons.float(), count), dead=find_dead_units(neurons)
        )
    if len(neurons.values) < count:
        raise InputError(
            f"the lists hold the {len(neurons.values)} strongest images of each unit and {count} are needed; keep more "
            "or all of them (features.keep=dense)"
        )
    _check_finite(neurons.values, numbers=neurons.indices)
    return _single_precision(match), replace(
        neurons, values=neurons.values[:count].float(), indices=neurons.indices[:count]
    )


def find_dead_units(neurons: Activations) -> Bool[Tensor, " neurons"]:
    """Units that give the same value for every image; of lists that do not say, those whose listed values are equal.

    >>> find_dead_units(torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
    tensor([ True, False])
    """
    if isinstance(neurons, TopActivations) and neurons.dead is not None:
        return neurons.dead
    values = neurons.values if isinstance(neurons, TopActivations) else neurons
    return values.amin(dim=0) == values.amax(dim=0)


def select_units(
    neurons: Activations, units: slice | Int[Tensor, " chosen"]
) -> TopActivations | Float[Tensor, "images block"]:
    """The activations of some of the units."""
    if not isinstance(neurons, TopActivations):
        return neurons[:, units]
    unresponsive = None if neurons.dead is None else neurons.dead[units]
    return replace(neurons, values=neurons.values[:, units], indices=neurons.indices[:, units], dead=unresponsive)


def join_lists(layers: Sequence[TopActivations]) -> TopActivations:
    """The units of several layers as if they were of one; their lists have the same length."""
    values, indices = (torch.cat([getattr(layer, name) for layer in layers], dim=1) for name in ("values", "indices"))
    return TopActivations(values, indices, layers[0].images, torch.cat([find_dead_units(layer) for layer in layers]))


def join_layers(layers: Sequence[TopActivations | Tensor]) -> TopActivations | Float[Tensor, "images neurons"]:
    """The units of several layers as if they were of one: lists of the same length, or activations."""
    lists = [layer for layer in layers if isinstance(layer, TopActivations)]
    return (
        join_lists(lists)
        if lists
        else torch.cat([activations for activations in layers if isinstance(activations, Tensor)], dim=1)
    )


def _fit_lists(match: DenseOrFactored, neurons: Activations) -> None:
    images, concepts = match_shape(match)
    if not images or not concepts:
        raise InputError(f"the match has {images} images and {concepts} concepts; it needs at least one of each")
    if images != neurons.shape[0]:
        raise InputError(
            f"the match has {images} images and the activations {neurons.shape[0]}; both need the same images"
        )
    if not neurons.shape[1]:
        raise InputError("the activations have no units; a layer needs at least one")


def _single_precision(match: DenseOrFactored) -> DenseOrFactored:
    return (
        ConceptActivations(match.images.float(), match.texts.float())
        if isinstance(match, ConceptActivations)
        else match.float()
    )


def _check_finite(neurons: Float[Tensor, "rows neurons"], numbers: Int[Tensor, "rows neurons"] | None = None) -> None:
    """Refuse activations that are NaN or infinite, by the first unit that has one; extremes need no second copy."""
    low, high = neurons.amin(dim=0), neurons.amax(dim=0)
    broken = (~(torch.isfinite(low) & torch.isfinite(high))).nonzero().flatten()
    if len(broken):
        unit = int(broken[0])
        row = int((~torch.isfinite(neurons[:, unit])).nonzero()[0, 0])
        image = row if numbers is None else int(numbers[row, unit])
        raise InputError(
            f"unit {unit} has an activation of {neurons[row, unit].item()} on image {image}, and {len(broken)} of "
            f"{neurons.shape[1]} units have some that are not finite; check the model's weights and precision"
        )


def match_shape(match: DenseOrFactored) -> tuple[int, int]:
    """How many images and concepts.

    >>> match_shape(torch.zeros(4, 3))
    (4, 3)
    """
    if isinstance(match, ConceptActivations):
        return len(match.images), len(match.texts)
    return match.shape[0], match.shape[1]


def take_images(
    match: DenseOrFactored, images: Int[Tensor, " taken"] | slice
) -> ConceptActivations | Float[Tensor, "taken concepts"]:
    """The match of some of the images."""
    return (
        ConceptActivations(match.images[images], match.texts)
        if isinstance(match, ConceptActivations)
        else match[images]
    )


def take_tile(match: DenseOrFactored, concepts: slice, out: Tensor | None = None) -> Float[Tensor, "images block"]:
    """The matrix itself for a slice of the concepts, contiguous; written to `out` where that is no None."""
    if isinstance(match, ConceptActivations):
        return torch.mm(match.images, match.texts[concepts].T, out=out)
    return match[:, concepts].contiguous() if out is None else out.copy_(match[:, concepts])


def take_some(
    match: DenseOrFactored, images: Int[Tensor, " taken"], concepts: Int[Tensor, " chosen"]
) -> Float[Tensor, "taken chosen"]:
    """The matrix itself for some of the images and some of the concepts."""
    if isinstance(match, ConceptActivations):
        return match.images[images] @ match.texts[concepts].T
    return match[images][:, concepts]


def concept_slices(total: int, length: int) -> Iterator[slice]:
    """Slices of at most `length` that cover `total` in order.

    >>> list(concept_slices(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    for start in range(0, total, max(1, length)):
        yield slice(start, min(start + max(1, length), total))


def check_at_least(name: str, value: int | float, low: int | float) -> None:
    """Refuse a setting below what it can mean."""
    if value < low:
        raise InputError(f"{name}={value} is too small; it must be at least {low}")
