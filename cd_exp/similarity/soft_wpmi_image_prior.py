"""SoftWPMI whose prior comes from the probe images and not from the layer."""

import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.similarity.match import ConceptMatch, at_least, checked
from cd_exp.similarity.soft_likelihood import soft_likelihood
from cd_exp.similarity.soft_wpmi import membership
from cd_exp.similarity.softmax import mean_probability


def soft_wpmi_image_prior(
    match: ConceptMatch,
    neurons: Float[Tensor, "images neurons"],
    *,
    top_k: int = 100,
    scale: float = 10.0,
    prior_weight: float = 1.0,
    first_membership: float = 0.998,
    last_membership: float = 0.97,
    min_probability: float = 1e-7,
) -> Float[Tensor, "neurons concepts"]:
    """As `soft_wpmi`, but a concept's prior is what images drawn from the probe set at random would give it.

    score[k, t] = sum_r log(1 + p_r (S[i_r, t] - 1) + min_probability)
                  - prior_weight * sum_r log(1 + p_r (mean_i S[i, t] - 1) + min_probability)

    The published prior is the log of the mean likelihood over the units given. Here the mean is over images drawn
    independently, one for each rank, so it factors into the mean p(t | image) of the probe set. A unit's score depends
    on no other unit: one unit can be labelled alone, and layers compare.

    Args:
        match: concept activations, images x concepts, dense or factored.
        neurons: activations, images x neurons.
        top_k: images that count; all of them where there are fewer.
        scale: of the softmax over concepts.
        prior_weight: of the prior.
        first_membership: probability that the most exciting image belongs to the set, from 0 to 1.
        last_membership: the same at rank `top_k`.
        min_probability: keeps the logarithm finite, above 0.

    Raises:
        InputError: for activations that are not finite, images that differ, or a setting out of range.
    """
    match, neurons = checked(match, neurons)
    member = membership(top_k, first_membership, last_membership)
    at_least("min_probability", min_probability, 1e-30)
    base = 1 - member + min_probability
    likelihood = soft_likelihood(match, neurons, scale=scale, base=base, slope=member)
    mean = mean_probability(match, scale=scale).double()
    prior = torch.zeros_like(mean)
    for low, slope in zip(base[: len(neurons)].tolist(), member[: len(neurons)].tolist(), strict=True):
        prior += torch.log(low + slope * mean)
    return likelihood.sub_((prior_weight * prior).float())
