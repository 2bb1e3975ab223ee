"""The mean image embedding of the images that a unit responds to most, matched with each text."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import embedding_bag

from cd_exp.records import ConceptActivations
from cd_exp.similarity.match import Activations, DenseOrFactored, as_top_activations, check_at_least
from cd_exp.similarity.registry import RankSum, similarity_function


def _mean_terms(*, top_k: int, images: int | None = None) -> RankSum:
    counted = top_k if images is None else min(top_k, images)
    return RankSum(top_k, None, lambda ranks, cells: cells / counted, position=None)


@similarity_function(strongest=lambda images, top_k, **_: top_k, terms=_mean_terms)
def mean_embedding(
    match: DenseOrFactored, neurons: Activations, *, top_k: int = 30
) -> Float[Tensor, "neurons concepts"]:
    """Mean match of each concept over the images that a unit responds to most.

    score[k, t] = mean over the `top_k` images of P[i, t] = <mean embedding of these images, t>: the cosine of the two
    but for the length of the mean embedding, which all concepts of a unit share. No concept's prior is taken off. With
    fewer than `top_k` images all of them count.

    Args:
        match: concept activations, images x concepts, dense or factored.
        neurons: activations, images x neurons, or each unit's strongest.
        top_k: images that count.

    Raises:
        InputError: for activations that are not finite, images that differ, or a setting out of range.

    >>> import torch
    >>> match = torch.tensor([[0.3, 0.1], [0.1, 0.3], [0.2, 0.2]])
    >>> mean_embedding(match, torch.tensor([[0.9], [0.1], [0.5]]), top_k=2)
    tensor([[0.2500, 0.1500]])

    Source: SemanticLens (arXiv:2501.05398), WWW (arXiv:2402.18956) and others name units by such means.
    """
    check_at_least("top_k", top_k, 1)
    match, lists = as_top_activations(match, neurons, top_k)
    images = lists.indices.T.contiguous()
    if isinstance(match, ConceptActivations):
        return embedding_bag(images, match.images, mode="mean") @ match.texts.T
    return embedding_bag(images, match, mode="mean")
