"""Scores of a concept's values against the activations themselves."""

import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.faithfulness.binary import Paired


def pearson(activations: Paired, concept: Paired) -> Float[Tensor, " neurons"]:
    """Pearson's correlation of activations and concept values: the simulation score.

    r = <a - mean a, c - mean c> / (|a - mean a| |c - mean c|); 0 where one of the two does not vary.

    Args:
        activations: of each unit.
        concept: of each unit's concept.

    Source: Bills et al. 2023, "Language models can explain neurons in language models"; for vision Oikarinen and Weng,
    ICML 2024 (arXiv:2405.06855), section 4.
    """
    return _cosines(_centred(activations), _centred(concept))


def cosine(activations: Paired, concept: Paired) -> Float[Tensor, " neurons"]:
    """The cosine of activations and concept values, not centred, moved to [0, 1].

    (1 + <a, c> / (|a| |c|)) / 2; 1/2 where one of the two is zero everywhere.

    Args:
        activations: of each unit.
        concept: of each unit's concept.

    Source: Oikarinen, Yan and Weng, ICML 2025 (arXiv:2506.05774), section 3, there on [-1, 1].
    """
    return (1 + _cosines(activations.double(), concept.double())) / 2


def _centred(values: Paired) -> Float[Tensor, "images neurons"]:
    # A constant column is zero afterwards, which rounding of its mean would spoil.
    varies = values.amax(dim=0) > values.amin(dim=0)
    values = values.double()
    return (values - values.mean(dim=0)) * varies


def _cosines(a: Float[Tensor, "images neurons"], b: Float[Tensor, "images neurons"]) -> Float[Tensor, " neurons"]:
    norms = torch.linalg.vector_norm(a, dim=0) * torch.linalg.vector_norm(b, dim=0)
    return torch.where(norms > 0, (a * b).sum(dim=0) / torch.where(norms > 0, norms, 1), 0).clamp(-1, 1)
