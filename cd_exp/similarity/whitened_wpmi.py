"""WhitenedWPMI: matches and activations compared after what all concepts and all units share is taken out."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.errors import InputError
from cd_exp.similarity.match import ConceptMatch, at_least, checked, shape, slices
from cd_exp.similarity.reads import declare
from cd_exp.types import Match

LARGEST = 2**14
"""The largest eigenproblem, in rows: 2 GiB in double."""

ROUNDING = 1e-13
"""Directions whose variance is below this share of the largest are left out, as rounding."""

NONZERO = 1e-7
"""Eigenvalues below this share of the largest are zero as far as float32 embeddings and activations can tell."""


@declare(whole_layer=True, prepare=lambda *given, **settings: _prepared(*given, **settings))
def whitened_wpmi(
    match: ConceptMatch,
    neurons: Float[Tensor, "images neurons"],
    *,
    gain: float = 10.0,
    ridge: float = 5.0,
    threshold: float = 0.5,
    prior_weight: float = 0.85,
    half_prior_units: float = 5.0,
    shrinkage: float = 0.2,
    name_weight: float = 0.0,
    names: Sequence[str] | None = None,
) -> Float[Tensor, "neurons concepts"]:
    """Mean whitened match over the images on which the whitened activation stands out, less a prior over the layer.

    With std(Y) the columns of Y standardised over images, e and V the eigenvalues and eigenvectors of
    std(Y)' std(Y) / images, and m the mean of the eigenvalues that are not zero,

        whiten(Y)   = std(std(Y) V diag((e + ridge m)^-1/2) V')
        X[:, t]     = whiten(P)[:, t] sd_t / sqrt(sd_t^2 + (shrinkage median sd)^2), sd_t that of concept t's matches
        B           = whiten(neurons)
        w[i, k]     = max(B[i, k] - median - threshold 1.4826 MAD, 0), each unit's weights divided by their sum
        M[k, t]     = gain sum_i w[i, k] X[i, t], each unit's mean over concepts subtracted
        score[k, t] = M[k, t] - prior_weight units / (units + half_prior_units) (log mean over units of exp M[:, t])
                      - name_weight nested[t]

    Derivation: in soft_wpmi the softmax over concepts of an image only subtracts a number that all concepts share, so
    what is left of a unit is a sum of matches over its images. The best linear predictors between activations and
    matches are those of a ridge-regularised canonical correlation: both sides divided by the square root of their
    covariance, which takes out what all units and all matches share. Activations count one-sided, above the median,
    because low activations say little. Concepts whose matches hardly vary are shrunk, because dividing by their
    deviation would blow up noise. The prior grows with the layer, because the mean over a few units is no prior.

    P = images texts' has a rank of at most `dim`, so its eigenproblem has at most that many rows, however many
    concepts; that of the activations has as many as the smaller of images and units. All of it is in double:
    eigenvalues that differ by their rounding in float32 would change the ridge.

    A layer is scored as a whole: a unit's score depends on the others. A dead unit scores the negative prior.

    Args:
        match: concept activations, images x concepts, dense or factored.
        neurons: activations of a whole layer, images x neurons.
        gain: of the mean match, in nats for one standard deviation.
        ridge: in means of the eigenvalues that are not zero.
        threshold: in robust standard deviations above the median.
        prior_weight: of the prior in a large layer.
        half_prior_units: how many units a layer has whose prior counts half of that.
        shrinkage: in medians of the concepts' standard deviations.
        name_weight: what a concept loses whose name contains another concept's whole name ("red circle" has "red").
        names: of the concepts, by column; needed where `name_weight` is not 0.

    Raises:
        InputError: for activations that are not finite, images that differ, or a setting out of range; more than
            16,384 images and as many units.

    >>> match = torch.tensor([[0.3, 0.1], [0.1, 0.3], [0.1, 0.1], [0.1, 0.1]])
    >>> whitened_wpmi(match, torch.eye(4)[:, :2]).argmax(dim=1)
    tensor([0, 1])
    """
    match, neurons, scored = _prepared(
        match,
        neurons,
        gain=gain,
        ridge=ridge,
        threshold=threshold,
        prior_weight=prior_weight,
        half_prior_units=half_prior_units,
        shrinkage=shrinkage,
        name_weight=name_weight,
        names=names,
    )
    return scored(match, neurons)


def _scored(
    match: Match,
    weights: Float[Tensor, "images neurons"],
    *,
    gain: float,
    prior_weight: float,
    penalty: Float[Tensor, " concepts"],
) -> Float[Tensor, "neurons concepts"]:
    """The scores from whitened matches and from weights of the images that need not sum to 1."""
    units, concepts = weights.shape[1], len(match.texts)
    means = gain * (weights / weights.sum(dim=0).clamp(min=1e-30)).T @ match.images
    centre = means @ match.texts.mean(dim=0)
    scores = torch.empty(units, concepts, device=means.device)
    for columns in slices(concepts, max(1, 2**23 // units)):
        part = means @ match.texts[columns].T - centre[:, None]
        prior = part.logsumexp(dim=0) - math.log(units)
        scores[:, columns] = part - prior_weight * prior - penalty[columns]
    return scores


def _prepared(
    match: ConceptMatch,
    neurons: Float[Tensor, "images neurons"],
    *,
    gain: float,
    ridge: float,
    threshold: float,
    prior_weight: float,
    half_prior_units: float,
    shrinkage: float,
    name_weight: float,
    names: Sequence[str] | None,
) -> tuple[Match, Float[Tensor, "images neurons"], Callable[..., Tensor]]:
    """The whitened matches as a product, the weights of the images, and what is left to do with some of the rows."""
    match, neurons = checked(match, neurons)
    for name, value in (("ridge", ridge), ("shrinkage", shrinkage), ("half_prior_units", half_prior_units)):
        at_least(name, value, 0)
    at_least("gain", gain, 1e-30)
    penalty = _penalty(names, shape(match)[1], name_weight).to(neurons.device)
    whitened = Match(*_whitened_match(match, ridge=ridge, shrinkage=shrinkage))
    weights = _weights(neurons, ridge=ridge, threshold=threshold)
    weight = prior_weight * neurons.shape[1] / (neurons.shape[1] + half_prior_units)
    return whitened, weights, partial(_scored, gain=gain, prior_weight=weight, penalty=penalty)


def _penalty(names: Sequence[str] | None, concepts: int, weight: float) -> Float[Tensor, " concepts"]:
    if not weight:
        return torch.zeros(concepts)
    if names is None or len(names) != concepts:
        given = "none" if names is None else str(len(names))
        raise InputError(f"name_weight={weight} needs the names of the {concepts} concepts as `names`, got {given}")
    return weight * torch.tensor(nested(names), dtype=torch.float64)


def nested(names: Sequence[str]) -> list[bool]:
    """Whether each name contains another one, word by word and whatever the case.

    >>> nested(["red", "red circle", "circled", "Red"])
    [False, True, False, False]
    """
    phrases = [tuple(name.casefold().split()) for name in names]
    known = set(phrases)

    def contains_another(words: tuple[str, ...]) -> bool:
        length = len(words)
        parts = ((start, stop) for start in range(length) for stop in range(start + 1, length + 1))
        return any(words[start:stop] in known for start, stop in parts if stop - start < length)

    return [contains_another(words) for words in phrases]


def _whitened_match(
    match: ConceptMatch, *, ridge: float, shrinkage: float
) -> tuple[Float[Tensor, "images rank"], Float[Tensor, "concepts rank"]]:
    """X as a product of two: `images @ loadings.T`, the first with orthogonal columns of mean 0 and mean square 1."""
    images, texts = _factors(match)
    centred = images - images.mean(dim=0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    kept = values > ROUNDING * values[-1].clamp(min=1e-30)
    roots, vectors = values[kept].sqrt(), vectors[:, kept]
    loadings = (texts @ vectors) * roots
    deviations = torch.linalg.vector_norm(loadings, dim=1, keepdim=True)
    loadings = _unit(loadings)
    # std(P) = orthogonal columns times loadings': P is whitened where its loadings are.
    loadings = _unit(loadings @ _inverse_root(loadings.T @ loadings, ridge))
    floor = shrinkage * deviations.median()
    loadings *= deviations / (deviations.square() + floor.square()).sqrt().clamp(min=1e-30)
    return centred @ (vectors / roots), loadings


def _factors(match: ConceptMatch) -> tuple[Float[Tensor, "images dim"], Float[Tensor, "concepts dim"]]:
    """Any match as a product, with the smaller of images and concepts as its dimension where it has none."""
    if isinstance(match, Match):
        return match.images.double(), match.texts.double()
    match = match.double()
    if match.shape[1] <= match.shape[0]:
        return match, torch.eye(match.shape[1], dtype=match.dtype, device=match.device)
    return torch.eye(len(match), dtype=match.dtype, device=match.device), match.T


def _weights(
    neurons: Float[Tensor, "images neurons"], *, ridge: float, threshold: float
) -> Float[Tensor, "images neurons"]:
    """w, a block of units at a time."""
    count, units = neurons.shape
    if min(count, units) > LARGEST:
        raise InputError(
            f"whitened_wpmi solves an eigenproblem of the smaller of {count} images and {units} units, at most "
            f"{LARGEST}; take fewer images (probe.size={LARGEST}) or fewer units, or similarity=soft_wpmi"
        )
    columns = neurons.double()
    columns = _unit((columns - columns.mean(dim=0)).T).T * math.sqrt(count)
    by_units = units <= count
    gram = columns.T @ columns if by_units else columns @ columns.T
    root = _inverse_root(gram / count, ridge)
    weights = torch.empty_like(columns)
    for part in slices(units, max(1, 2**23 // count)):
        whitened = columns @ root[:, part] if by_units else root @ columns[:, part]
        weights[:, part] = _excess(_unit(whitened.T).T * math.sqrt(count), threshold)
    return weights


def _excess(whitened: Float[Tensor, "images block"], threshold: float) -> Float[Tensor, "images block"]:
    """How far each activation lies above the threshold, as a share of its unit's sum; 0 for a unit that never does."""
    centred = whitened - whitened.median(dim=0).values
    excess = (centred - threshold * 1.4826 * centred.abs().median(dim=0).values).clamp_(min=0)
    return excess / excess.sum(dim=0).clamp(min=1e-30)


def _inverse_root(gram: Float[Tensor, "rows rows"], ridge: float) -> Float[Tensor, "rows rows"]:
    """V diag((e + ridge m)^-1/2) V', where e and V are those of `gram` and m is the mean of the e that are not zero."""
    if not len(gram):  # matches that do not vary
        return gram
    values, vectors = torch.linalg.eigh(gram)
    present = values > NONZERO * values[-1].clamp(min=1e-30)
    mean = values[present].mean() if present.any() else values.new_ones(())
    scaled = (values.clamp(min=0) + ridge * mean).clamp(min=NONZERO * mean).rsqrt()
    return (vectors * scaled) @ vectors.T


def _unit(rows: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """Rows of length one; one of zeros stays as it is."""
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / norms.where(norms > 0, 1.0)
