"""whitened_wpmi: matches and activations compared after what all concepts and all units share is removed.

A concept loses score where CLIP cannot tell it from its neighbours (`penalise_off_centre`) or where its name contains
another concept's (`name_penalty`).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.errors import InputError
from cd_exp.records import ConceptActivations
from cd_exp.similarity.match import DenseOrFactored, check_at_least, check_shapes, concept_slices, match_shape
from cd_exp.similarity.registry import similarity_function
from cd_exp.similarity.whitening import normalise_rows, weigh_images, whiten_match


def penalise_off_centre(loadings: Float[Tensor, "concepts rank"], *, width: float) -> Float[Tensor, " concepts"]:
    """How far each concept is from the middle of those that are nearly the same to CLIP.

    With C the cosines between the rows L of `loadings`, which are the correlations of the concepts' whitened matches,

        off[t] = 1 - cosine(L_t, sum_s exp((C_ts - 1) / width) L_s)

    A word that CLIP does not know, or that the images do not show, hardly moves a phrase: `red pentagon`, `dotted red`
    lie about `red`, each moved a little in a direction of its own, and `red` is their middle. A concept that has no
    other within some widths of it is its own middle, and 0 off; so is one that does not vary.

    In float32: a cosine is good to 1e-7, and one that matters is off by 1e-3.

    >>> rows = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.1, 0.0], [1.0, -0.1, 0.0], [0.0, 0.0, 1.0]])
    >>> penalise_off_centre(rows, width=0.02).mul(1000).round().int().tolist()
    [0, 2, 2, 0]
    """
    rows = normalise_rows(loadings).float()
    off = torch.empty(len(rows), device=rows.device)
    for part in concept_slices(len(rows), max(1, 2**23 // len(rows))):
        nearness = rows[part] @ rows.T
        middle = nearness.sub_(1).div_(width).exp_() @ rows
        off[part] = 1 - (normalise_rows(middle) * rows[part]).sum(dim=1)
    return off.where(rows.any(dim=1), 0.0).double()


def name_penalty(names: Sequence[str] | None, concepts: int, weight: float) -> Float[Tensor, " concepts"]:
    """`weight` for each concept whose name contains another's."""
    if not weight:
        return torch.zeros(concepts, dtype=torch.float64)
    if names is None or len(names) != concepts:
        given = "none" if names is None else str(len(names))
        raise InputError(f"name_weight={weight} needs the names of the {concepts} concepts as `names`, got {given}")
    return weight * torch.tensor(contains_other_name(names), dtype=torch.float64)


def contains_other_name(names: Sequence[str]) -> list[bool]:
    """Whether each name contains another one, word by word and whatever the case.

    >>> contains_other_name(["red", "red circle", "circled", "Red"])
    [False, True, False, False]
    """
    phrases = [tuple(name.casefold().split()) for name in names]
    known = set(phrases)

    def contains_another(words: tuple[str, ...]) -> bool:
        length = len(words)
        parts = ((start, stop) for start in range(length) for stop in range(start + 1, length + 1))
        return any(words[start:stop] in known for start, stop in parts if stop - start < length)

    return [contains_another(words) for words in phrases]


@similarity_function(whole_layer=True, least_units=50, prepare=lambda *given, **settings: _prepare(*given, **settings))
def whitened_wpmi(
    match: DenseOrFactored,
    neurons: Float[Tensor, "images neurons"],
    *,
    gain: float = 10.0,
    match_ridge: float = 5.0,
    unit_ridge: float = 5.0,
    few_units: float = 50.0,
    threshold: float = 0.5,
    prior_weight: float = 0.85,
    half_prior_units: float = 5.0,
    shrinkage: float = 0.2,
    centre_weight: float = 60.0,
    centre_width: float = 0.015,
    name_weight: float = 0.0,
    names: Sequence[str] | None = None,
) -> Float[Tensor, "neurons concepts"]:
    """Mean whitened match over the images on which the whitened activation stands out, less a prior over the layer.

    whiten(Y, ridge) is `cd_exp.similarity.whitening`'s: columns standardised and divided by the square root of their
    covariance with a ridge. off[t] is `penalise_off_centre`'s: 0 for a concept that stands alone or
    in the middle of those that are nearly the same to CLIP. units are those of the layer.

        X[:, t]     = whiten(P, match_ridge)[:, t] sd_t / sqrt(sd_t^2 + (shrinkage median sd)^2), sd_t of t's matches
        B           = whiten(neurons, unit_ridge (1 + few_units / units))
        w[i, k]     = max(B[i, k] - median - threshold 1.4826 MAD, 0), each unit's weights divided by their sum
        M[k, t]     = gain sum_i w[i, k] X[i, t], each unit's mean over concepts subtracted
        score[k, t] = M[k, t] - prior_weight units / (units + half_prior_units) (log mean over units of exp M[:, t])
                      - centre_weight off[t] - name_weight nested[t]

    Derivation: in soft_wpmi the softmax over concepts of an image only subtracts a number that all concepts share, so
    what is left of a unit is a sum of matches over its images. The best linear predictors between activations and
    matches are those of a ridge-regularised canonical correlation: both sides divided by the square root of their
    covariance, which takes out what all units and all matches share. Activations count one-sided, above the median,
    because low activations say little. Concepts whose matches hardly vary are shrunk, because dividing by their
    deviation would blow up noise. Prior and ridge depend on the size of the layer, because the mean over a few units is
    no prior and their covariance says little of what units share. Concepts that CLIP cannot tell apart get the same
    score but for chance; the one in their middle is the one that adds nothing that CLIP does not see.

    P = images texts' has a rank of at most `dim`, so its eigenproblem has at most that many rows, however many
    concepts; that of the activations has as many as the smaller of images and units.

    A layer is scored as a whole: a unit's score depends on the others. A dead unit scores the negative prior.

    Args:
        match: concept activations, images x concepts, dense or factored.
        neurons: activations of a whole layer, images x neurons.
        gain: of the mean match, in nats for one standard deviation.
        match_ridge: of the matches, in means of their eigenvalues that are not zero.
        unit_ridge: of the activations in a large layer, in the same measure.
        few_units: how many units a layer has whose `unit_ridge` is doubled.
        threshold: in robust standard deviations above the median.
        prior_weight: of the prior in a large layer.
        half_prior_units: how many units a layer has whose prior counts half of that.
        shrinkage: in medians of the concepts' standard deviations.
        centre_weight: what a concept loses, in nats, for a cosine of 0 with the middle of its neighbours.
        centre_width: 1 - correlation of two concepts at which the one counts 1/e in the other's middle.
        name_weight: what a concept loses whose name contains another concept's whole name ("red circle" has "red").
        names: of the concepts, by column; needed where `name_weight` is not 0.

    Raises:
        InputError: for activations that are not finite, images that differ, or a setting out of range; more than
            16,384 images and as many units.

    >>> match = torch.tensor([[0.3, 0.1], [0.1, 0.3], [0.1, 0.1], [0.1, 0.1]])
    >>> whitened_wpmi(match, torch.eye(4)[:, :2]).argmax(dim=1)
    tensor([0, 1])
    """
    match, neurons, scored = _prepare(
        match,
        neurons,
        gain=gain,
        match_ridge=match_ridge,
        unit_ridge=unit_ridge,
        few_units=few_units,
        threshold=threshold,
        prior_weight=prior_weight,
        half_prior_units=half_prior_units,
        shrinkage=shrinkage,
        centre_weight=centre_weight,
        centre_width=centre_width,
        name_weight=name_weight,
        names=names,
    )
    return scored(match, neurons)


def _prepare(
    match: DenseOrFactored,
    neurons: Float[Tensor, "images neurons"],
    *,
    gain: float,
    match_ridge: float,
    unit_ridge: float,
    few_units: float,
    threshold: float,
    prior_weight: float,
    half_prior_units: float,
    shrinkage: float,
    centre_weight: float,
    centre_width: float,
    name_weight: float,
    names: Sequence[str] | None,
) -> tuple[ConceptActivations, Float[Tensor, "images neurons"], Callable[..., Tensor]]:
    """The whitened matches as a product, the weights of the images, and what is left to do with some of the rows."""
    match, neurons = check_shapes(match, neurons)
    for name, value in {
        "match_ridge": match_ridge, "unit_ridge": unit_ridge, "few_units": few_units, "shrinkage": shrinkage,
        "half_prior_units": half_prior_units,
    }.items():  # fmt: skip
        check_at_least(name, value, 0)
    check_at_least("gain", gain, 1e-30)
    check_at_least("centre_width", centre_width, 1e-4)
    units = neurons.shape[1]
    penalty = name_penalty(names, match_shape(match)[1], name_weight).to(neurons.device)
    whitened = ConceptActivations(*whiten_match(match, ridge=match_ridge, shrinkage=shrinkage))
    if centre_weight:
        penalty += centre_weight * penalise_off_centre(whitened.texts, width=centre_width)
    weights = weigh_images(neurons, ridge=unit_ridge * (1 + few_units / units), threshold=threshold)
    weight = prior_weight * units / (units + half_prior_units)
    return whitened, weights, partial(_score_block, gain=gain, prior_weight=weight, penalty=penalty)


def _score_block(
    match: ConceptActivations,
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
    for columns in concept_slices(concepts, max(1, 2**23 // units)):
        part = means @ match.texts[columns].T - centre[:, None]
        prior = part.logsumexp(dim=0) - math.log(units)
        scores[:, columns] = part - prior_weight * prior - penalty[columns]
    return scores
