"""Columns divided by the square root of their covariance, with a ridge: what all of them share is taken out.

With std(Y) the columns of Y standardised over images, e and V the eigenvalues and eigenvectors of
std(Y)' std(Y) / images, and m the mean of the eigenvalues that are not zero,

    whiten(Y) = std(std(Y) V diag((e + ridge m)^-1/2) V')

All of it is in double: eigenvalues that differ by their rounding in float32 would change the ridge.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.errors import InputError
from cd_exp.records import ConceptActivations
from cd_exp.similarity.match import DenseOrFactored, concept_slices

LARGEST = 2**14
"""The largest eigenproblem, in rows: 2 GiB in double."""

ROUNDING = 1e-13
"""Directions whose variance is below this share of the largest are left out, as rounding."""

NONZERO = 1e-7
"""Eigenvalues below this share of the largest are zero as far as float32 embeddings and activations can tell."""


def whiten_match(
    match: DenseOrFactored, *, ridge: float, shrinkage: float
) -> tuple[Float[Tensor, "images rank"], Float[Tensor, "concepts rank"]]:
    """X as a product of two: `images @ loadings.T`, the first with orthogonal columns of mean 0 and mean square 1."""
    images, texts = _factorise(match)
    centred = images - images.mean(dim=0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    kept = values > ROUNDING * values[-1].clamp(min=1e-30)
    roots, vectors = values[kept].sqrt(), vectors[:, kept]
    loadings = (texts @ vectors) * roots
    deviations = torch.linalg.vector_norm(loadings, dim=1, keepdim=True)
    loadings = normalise_rows(loadings)
    # std(P) = orthogonal columns times loadings': P is whitened where its loadings are.
    loadings = normalise_rows(loadings @ inverse_root(loadings.T @ loadings, ridge))
    floor = shrinkage * deviations.median()
    loadings *= deviations / (deviations.square() + floor.square()).sqrt().clamp(min=1e-30)
    return centred @ (vectors / roots), loadings


def _factorise(match: DenseOrFactored) -> tuple[Float[Tensor, "images dim"], Float[Tensor, "concepts dim"]]:
    """Any match as a product, with the smaller of images and concepts as its dimension where it has none."""
    if isinstance(match, ConceptActivations):
        return match.images.double(), match.texts.double()
    match = match.double()
    if match.shape[1] <= match.shape[0]:
        return match, torch.eye(match.shape[1], dtype=match.dtype, device=match.device)
    return torch.eye(len(match), dtype=match.dtype, device=match.device), match.T


def check_size(neurons: Float[Tensor, "images neurons"], *, most: int = LARGEST) -> None:
    """Refuse a layer whose eigenproblem has more than `most` rows."""
    count, units = neurons.shape
    if min(count, units) > most:
        raise InputError(
            f"whitened_wpmi solves an eigenproblem of the smaller of {count} images and {units} units, at most "
            f"{most}; take fewer images (probe.limit={most}) or fewer units, or similarity=soft_wpmi"
        )


def weigh_images(
    neurons: Float[Tensor, "images neurons"], *, ridge: float, silence: float
) -> Float[Tensor, "images neurons"]:
    """w in float32, a block of units at a time; 0 for a unit that gives the same value for every image."""
    check_size(neurons)
    count, units = neurons.shape
    columns = neurons.double()
    columns = normalise_rows((columns - columns.mean(dim=0)).T).T * math.sqrt(count)
    varies = (neurons != neurons[0]).any(dim=0)
    by_units = units <= count
    gram = columns.T @ columns if by_units else columns @ columns.T
    root = inverse_root(gram / count, ridge)
    weights = torch.empty_like(neurons, dtype=torch.float32)
    for part in concept_slices(units, max(1, 2**23 // count)):
        whitened = columns @ root[:, part] if by_units else root @ columns[:, part]
        centred = (whitened - whitened.median(dim=0).values).where(varies[part], 0.0)
        weights[:, part] = two_sided(centred, silence=silence)
    return weights


def two_sided(deviations: Float[Tensor, "images block"], *, silence: float) -> Float[Tensor, "images block"]:
    """What lies above 0 as shares of its sum, less `silence` times what lies below as shares of its own sum.

    >>> two_sided(torch.tensor([[3.0], [1.0], [0.0], [-2.0]]), silence=0.5).T
    tensor([[ 0.7500,  0.2500,  0.0000, -0.5000]])
    """
    above, below = deviations.clamp(min=0), (-deviations).clamp_(min=0)
    above /= above.sum(dim=0).clamp(min=1e-30)
    return above - silence * below / below.sum(dim=0).clamp(min=1e-30)


def inverse_root(gram: Float[Tensor, "rows rows"], ridge: float) -> Float[Tensor, "rows rows"]:
    """V diag((e + ridge m)^-1/2) V', where e and V are those of `gram` and m is the mean of the e that are not zero."""
    if not len(gram):  # matches that do not vary
        return gram
    values, vectors = torch.linalg.eigh(gram)
    present = values > NONZERO * values[-1].clamp(min=1e-30)
    mean = values[present].mean() if present.any() else values.new_ones(())
    scaled = (values.clamp(min=0) + ridge * mean).clamp(min=NONZERO * mean).rsqrt()
    return (vectors * scaled) @ vectors.T


def normalise_rows(rows: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """Rows of length one; one of zeros stays as it is.

    >>> normalise_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / norms.where(norms > 0, 1.0)
