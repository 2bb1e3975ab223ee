"""Cosine similarity."""

import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.records import ConceptActivations
from cd_exp.similarity.match import DenseOrFactored, check_shapes, concept_slices, match_shape, take_tile
from cd_exp.similarity.registry import similarity_function


@similarity_function()
def cos(match: DenseOrFactored, neurons: Float[Tensor, "images neurons"]) -> Float[Tensor, "neurons concepts"]:
    """Cosine between a unit's activations and a concept's matches over the probe images.

    score[k, t] = <a_k, p_t> / (|a_k| |p_t|), not centred; 0 for a unit that never fires.

    With p_t = I t, factored: <a, p_t> = (I'a)' t and |p_t|^2 = t' (I'I) t, so nothing of images x concepts is made.

    Args:
        match: concept activations, images x concepts, dense or factored.
        neurons: activations, images x neurons.

    Raises:
        InputError: for activations that are not finite, or images that differ.

    >>> match = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # image 0 shows concept 0, image 1 concept 1
    >>> cos(match, torch.tensor([[3.0], [4.0]])).round(decimals=2)
    tensor([[0.6000, 0.8000]])

    Source: CLIP-Dissect (arXiv:2204.10965), section 3.
    """
    match, neurons = check_shapes(match, neurons)
    norms = torch.linalg.vector_norm(neurons, dim=0)[:, None]
    if isinstance(match, ConceptActivations) and len(match.images) > match.images.shape[1]:
        scores, lengths = _cos_by_gram(match, neurons)
    else:
        scores, lengths = _cos_by_column(match, neurons)
    scores /= lengths.where(lengths > 0, 1.0)
    scores /= norms.where(norms > 0, 1.0)
    return scores


def _cos_by_gram(match: ConceptActivations, neurons: Float[Tensor, "images neurons"]) -> tuple[Tensor, Tensor]:
    squares = match.texts.new_zeros(len(match.texts))
    for part in concept_slices(match.texts.shape[1], 128):
        # The Gram matrix is symmetric: only what lies on or below the diagonal is made, and what is below counts twice.
        gram = match.images[:, part.start :].T @ match.images[:, part]
        gram[part.stop - part.start :] *= 2
        squares += (match.texts[:, part.start :] @ gram).mul_(match.texts[:, part]).sum(dim=1)
    return (neurons.T @ match.images) @ match.texts.T, squares.clamp_(min=0).sqrt_()


def _cos_by_column(match: DenseOrFactored, neurons: Float[Tensor, "images neurons"]) -> tuple[Tensor, Tensor]:
    """For the matrix itself, and for so few images that it is smaller than the text embeddings (and more exact)."""
    images, concepts = match_shape(match)
    scores, lengths = neurons.new_empty(neurons.shape[1], concepts), neurons.new_empty(concepts)
    for columns in concept_slices(concepts, 2**24 // images):
        part = take_tile(match, columns)
        scores[:, columns] = neurons.T @ part
        lengths[columns] = torch.linalg.vector_norm(part, dim=0)
    return scores, lengths
