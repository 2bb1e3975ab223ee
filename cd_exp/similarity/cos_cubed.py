"""Cosine of cubed, centred activations."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.records import ConceptActivations
from cd_exp.similarity.match import DenseOrFactored, check_shapes, concept_slices, match_shape, take_images, take_tile
from cd_exp.similarity.registry import similarity_function

IMAGES, CONCEPTS = 2**13, 2**10
"""The most images and concepts of one tile: 32 MiB."""


def _prepare(
    match: DenseOrFactored, neurons: Float[Tensor, "images neurons"], *, min_norm: float
) -> tuple[DenseOrFactored, Tensor, Callable[..., Tensor]]:
    return *_centre_columns(*check_shapes(match, neurons)), partial(_cos_cubed_centred, min_norm=min_norm)


@similarity_function(prepare=_prepare)
def cos_cubed(
    match: DenseOrFactored, neurons: Float[Tensor, "images neurons"], *, min_norm: float = 1e-3
) -> Float[Tensor, "neurons concepts"]:
    """Cosine between cubes of the centred activations and matches: strong responses count most.

    score[k, t] = <(a_k - mean)^3, (p_t - mean)^3> / (norm of each, at least `min_norm`); 0 for a unit that never fires.

    Args:
        match: concept activations, images x concepts, dense or factored.
        neurons: activations, images x neurons.
        min_norm: below this a norm counts as this, so that noise around zero is not blown up.

    Raises:
        InputError: for activations that are not finite, or images that differ.

    >>> import torch
    >>> match = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    >>> cos_cubed(match, torch.tensor([[2.0], [0.0], [1.0]])).round(decimals=2)
    tensor([[ 0.7800, -0.7800]])

    Source: CLIP-Dissect (arXiv:2204.10965), appendix.
    """
    return _cos_cubed_centred(*_centre_columns(*check_shapes(match, neurons)), min_norm=min_norm)


def _cos_cubed_centred(
    match: DenseOrFactored, neurons: Float[Tensor, "images neurons"], *, min_norm: float
) -> Float[Tensor, "neurons concepts"]:
    images, concepts = match_shape(match)
    # Squares of cubes are sixth powers, which leave float32 from a million on: a power of two for each unit is exact.
    reach = torch.maximum(neurons.amax(dim=0), -neurons.amin(dim=0)).clamp_(min=1)
    small = torch.ldexp(torch.ones_like(reach), -torch.frexp(reach).exponent)
    scores = neurons.new_zeros(neurons.shape[1], concepts)
    squares, powers = neurons.new_zeros(concepts), neurons.new_zeros(neurons.shape[1])
    for rows in concept_slices(images, IMAGES):
        cubes, part = (neurons[rows] * small).pow_(3), take_images(match, rows)
        powers += cubes.square().sum(dim=0)
        for columns in concept_slices(concepts, CONCEPTS):
            matched = take_tile(part, columns).pow_(3)
            scores[:, columns] += cubes.T @ matched
            squares[columns] += matched.square_().sum(dim=0)
    scores /= squares.sqrt_().clamp_(min=min_norm)
    return scores.div_(powers.sqrt_().maximum(min_norm * small.pow(3))[:, None])


def _centre_columns(
    match: DenseOrFactored, neurons: Float[Tensor, "images neurons"]
) -> tuple[DenseOrFactored, Float[Tensor, "images neurons"]]:
    """p_t - mean over images = (I - mean of I) t: centring the images centres every concept."""
    neurons = neurons - neurons.mean(dim=0)
    if isinstance(match, ConceptActivations):
        return ConceptActivations(match.images - match.images.mean(dim=0), match.texts), neurons
    return match - match.mean(dim=0), neurons
