"""`whitened_wpmi` as it was at first, to compare with: hard threshold, linear matches, one gain for all units."""

import math

from jaxtyping import Float
from torch import Tensor

from cd_exp.records import ConceptActivations
from cd_exp.similarity.whitened_wpmi import penalise_off_centre
from cd_exp.similarity.whitening import inverse_root, normalise_rows, whiten_match


def first_form(
    match: ConceptActivations, neurons: Float[Tensor, "images neurons"], *, prior_weight: float = 0.85
) -> Float[Tensor, "neurons concepts"]:
    """score[k, t] = M - prior_weight units / (units + 5) (log mean over units of exp M) - 60 off[t], where

    M[k, t] = 10 sum_i w[i, k] X[i, t], each unit's mean over concepts subtracted; X = whiten(P, 5), columns scaled;
    w[i, k] = max(B[i, k] - median - .5 1.4826 MAD, 0) as shares; B = whiten(neurons, 5 (1 + 50 / units)).
    """
    images, loadings = whiten_match(match, ridge=5.0, shrinkage=0.2)
    count, units = neurons.shape
    columns = neurons.double() - neurons.double().mean(dim=0)
    columns = normalise_rows(columns.T).T * math.sqrt(count)
    ridge = 5 * (1 + 50 / units)
    if units <= count:
        white = columns @ inverse_root(columns.T @ columns / count, ridge)
    else:
        white = inverse_root(columns @ columns.T / count, ridge) @ columns
    centred = white - white.median(dim=0).values
    weights = (centred - 0.5 * 1.4826 * centred.abs().median(dim=0).values).clamp(min=0)
    means = 10 * (weights / weights.sum(dim=0).clamp(min=1e-30)).T @ images @ loadings.T
    means -= means.mean(dim=1, keepdim=True)
    prior = means.logsumexp(dim=0) - math.log(units)
    weight = prior_weight * units / (units + 5)
    return (means - weight * prior - 60 * penalise_off_centre(loadings, width=0.015)).float()
