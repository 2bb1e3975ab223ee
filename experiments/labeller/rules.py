"""The rules that are compared, the terms of ours taken away one by one, and the values its constants are tried at."""

from collections.abc import Mapping
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.records import ConceptActivations, Similarity
from cd_exp.similarity import soft_wpmi, whitened_wpmi
from experiments.labeller.first_form import first_form

NAME_WEIGHT = 0.2
"""Of `similarity=whitened_wpmi_names`."""
NONE = 1e9
"""A ridge that leaves nothing of whitening but the standard deviations."""


def pearson(match: ConceptActivations, neurons: Float[Tensor, "images neurons"]) -> Float[Tensor, "neurons concepts"]:
    """The plain correlation of activations and matches; 0 for a unit or a concept that does not vary."""

    def standard(columns: Tensor) -> Tensor:
        centred = columns.double() - columns.double().mean(dim=0)
        return centred / torch.linalg.vector_norm(centred, dim=0).clamp(min=1e-12)

    return standard(neurons).T @ standard(match.images @ match.texts.T)


RULES: Mapping[str, Similarity] = {
    "soft_wpmi": soft_wpmi,
    "soft_wpmi, scale 30, top_k 200": partial(soft_wpmi, scale=30.0, top_k=200),
    "pearson": pearson,
    "whitened_wpmi, first form": first_form,
    "whitened_wpmi": whitened_wpmi,
    "whitened_wpmi_names": partial(whitened_wpmi, name_weight=NAME_WEIGHT),
}

ABLATIONS: Mapping[str, Similarity] = {
    "whitened_wpmi": whitened_wpmi,
    "matches not whitened": partial(whitened_wpmi, match_ridge=NONE),
    "activations not whitened": partial(whitened_wpmi, unit_ridge=NONE),
    "neither whitened": partial(whitened_wpmi, match_ridge=NONE, unit_ridge=NONE),
    "silent images do not count": partial(whitened_wpmi, silence=0.0),
    "silent images count fully": partial(whitened_wpmi, silence=1.0),
    "absence does not count": partial(whitened_wpmi, leak=0.0),
    "absence counts fully": partial(whitened_wpmi, leak=1.0),
    "prior 0": partial(whitened_wpmi, prior_weight=0.0),
    "prior 0.4": partial(whitened_wpmi, prior_weight=0.4),
    "prior 0.85": partial(whitened_wpmi, prior_weight=0.85),
    "the same prior whatever the layer": partial(whitened_wpmi, half_prior_units=0.0),
    "the same ridge whatever the layer": partial(whitened_wpmi, few_units=0.0),
    "no weight on the spread of matches": partial(whitened_wpmi, shrinkage=0.0),
    "no look for the middle of near synonyms": partial(whitened_wpmi, centre_weight=0.0),
    "the term on names besides": partial(whitened_wpmi, name_weight=NAME_WEIGHT),
    "the term on names instead of the middle": partial(whitened_wpmi, name_weight=NAME_WEIGHT, centre_weight=0.0),
}

VALUES: Mapping[str, tuple[float, ...]] = {
    "match_ridge": (0.3, 0.5, 1, 2, 5),
    "unit_ridge": (1, 2, 5, 10, 20),
    "few_units": (0, 25, 50, 100, 200),
    "spread": (1, 1.5, 2, 2.5, 3),
    "leak": (0, 0.1, 0.25, 0.5, 1),
    "silence": (0, 0.1, 0.25, 0.5, 1),
    "prior_weight": (0.5, 0.8, 0.85, 0.9, 0.95, 1),
    "half_prior_units": (0, 2, 5, 10, 20),
    "shrinkage": (0, 0.1, 0.2, 0.4),
    "centre_weight": (0, 60, 120, 240),
    "centre_width": (0.005, 0.01, 0.015, 0.02, 0.03, 0.05),
}
