"""SoftWPMI: weighted pointwise mutual information with a soft membership of the strongest images."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.errors import InputError
from cd_exp.similarity.match import ConceptMatch, Neurons, at_least, listed
from cd_exp.similarity.prior import subtract_prior
from cd_exp.similarity.reads import Terms, declare
from cd_exp.similarity.soft_likelihood import soft_likelihood


def _terms(
    *, top_k: int, scale: float, first_membership: float, last_membership: float, min_probability: float, **_: object
) -> Terms:
    def term(ranks: Tensor, cells: Tensor) -> Tensor:
        member = first_membership - ranks / top_k * (first_membership - last_membership)
        return torch.addcmul(1 - member + min_probability, member, cells).log_()

    def position(ranks: Tensor) -> Tensor:  # the term itself where S is 0; log(exp(position) + S) is smooth in it
        return term(ranks, torch.zeros_like(ranks))

    return Terms(top_k, scale, term, position)


@declare(strongest=lambda images, top_k, **_: top_k, terms=_terms)
def soft_wpmi(
    match: ConceptMatch,
    neurons: Neurons,
    *,
    top_k: int = 100,
    scale: float = 10.0,
    prior_weight: float = 1.0,
    first_membership: float = 0.998,
    last_membership: float = 0.97,
    min_probability: float = 1e-7,
    prior_units: str = "all",
    prior: Float[Tensor, " concepts"] | None = None,
    layers: Sequence[int] | None = None,
) -> Float[Tensor, "neurons concepts"]:
    """As `wpmi`, but each of the strongest images belongs to the set only with a probability that falls with its rank.

    score[k, t] = sum_r log(1 + p_r (S[i_r, t] - 1) + min_probability) - prior_weight * prior[t], where S is the softmax
    over concepts of scale * P, i_r the image of rank r for unit k, and p_r falls linearly from `first_membership` at
    rank 0 towards `last_membership` at rank `top_k`, exclusive. prior[t] is the log of the mean over units of exp of
    the first term: one unit alone scores 0 everywhere.

    The prior depends on the units given: pass all units of a layer together (`blocks` does that piece by piece), or the
    layer's own prior. With fewer than `top_k` images all of them count, with the p_r of their rank. A dead unit takes
    any `top_k` images.

    Args:
        match: concept activations, images x concepts, dense or factored.
        neurons: activations, images x neurons, or each unit's strongest.
        top_k: images that count.
        scale: of the softmax over concepts (the paper's a).
        prior_weight: of the prior (the paper's lambda).
        first_membership: probability that the strongest image belongs to the set, from 0 to 1.
        last_membership: the same at rank `top_k`.
        min_probability: keeps the logarithm finite, above 0.
        prior_units: `all`, or `alive` to leave units out of the prior that give the same value for every image.
        prior: of each concept, instead of that of the units given.
        layers: how many of the units, in order, belong to each layer, where several are given together.

    Raises:
        InputError: for activations that are not finite, images that differ, or a setting out of range.

    >>> match = torch.tensor([[0.3, 0.1], [0.1, 0.3]])  # image 0 shows concept 0, image 1 concept 1
    >>> soft_wpmi(match, torch.eye(2), top_k=1).argmax(dim=1)
    tensor([0, 1])

    Source: CLIP-Dissect (arXiv:2204.10965), section 3 and appendix.
    """
    member = membership(top_k, first_membership, last_membership)
    at_least("min_probability", min_probability, 1e-30)
    base = 1 - member + min_probability
    match, lists = listed(match, neurons, top_k)
    likelihood = soft_likelihood(match, lists, scale=scale, base=base, slope=member)
    return subtract_prior(likelihood, neurons, weight=prior_weight, prior=prior, units=prior_units, layers=layers)


def membership(top_k: int, first: float, last: float) -> Float[Tensor, " ranks"]:
    """p_r = first - r / top_k * (first - last), for r = 0 ... top_k - 1."""
    at_least("top_k", top_k, 1)
    if not (0 <= first <= 1 and 0 <= last <= 1):
        raise InputError(f"first_membership={first} and last_membership={last} are probabilities; give 0 to 1")
    return first - torch.arange(top_k, dtype=torch.float64) / top_k * (first - last)
