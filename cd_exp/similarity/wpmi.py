"""Weighted pointwise mutual information."""

import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.similarity.exciting import Bags, exciting
from cd_exp.similarity.match import ConceptMatch, at_least, checked, shape
from cd_exp.similarity.prior import subtract_prior


def wpmi(
    match: ConceptMatch,
    neurons: Float[Tensor, "images neurons"],
    *,
    top_k: int = 28,
    scale: float = 2.0,
    prior_weight: float = 0.6,
    min_probability: float = 1e-7,
    prior: Float[Tensor, " concepts"] | None = None,
) -> Float[Tensor, "neurons concepts"]:
    """How likely the concept is in the images that excite a unit, against how likely it is for units in general.

    score[k, t] = sum_B log(S[i, t] + min_probability) - prior_weight * prior[t], where S is the softmax over concepts
    of scale * P, B the `top_k` images that excite unit k most, and prior[t] the log of the mean over units of exp of
    the first term.

    The prior depends on the units given: pass all units of a layer together (`blocks` does that piece by piece), or the
    layer's own prior. With fewer than `top_k` images all of them count. A dead unit takes any `top_k` images.

    Args:
        match: concept activations, images x concepts, dense or factored.
        neurons: activations, images x neurons.
        top_k: images that count.
        scale: of the softmax over concepts (the paper's a).
        prior_weight: of the prior (the paper's lambda).
        min_probability: keeps the logarithm finite, above 0.
        prior: of each concept, instead of that of the units given.

    Raises:
        InputError: for activations that are not finite, images that differ, or a setting out of range.

    Source: CLIP-Dissect (arXiv:2204.10965), section 3 and appendix.
    """
    match, neurons = checked(match, neurons)
    at_least("top_k", top_k, 1)
    at_least("min_probability", min_probability, 1e-30)
    likelihood = neurons.new_zeros(neurons.shape[1], shape(match)[1])
    for block in exciting(match, neurons, top_k=top_k, scale=scale):
        bags = Bags.of(block, torch.ones_like(neurons[:top_k, 0]))
        for columns, tile in block.tiles:
            likelihood[:, columns] += bags.sums(tile.add_(min_probability).log_())
    return subtract_prior(likelihood, weight=prior_weight, prior=prior)
