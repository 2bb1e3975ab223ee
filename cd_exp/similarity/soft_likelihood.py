"""The sum of logarithms that soft_wpmi and its variants share, without a logarithm for every factor.

For unit k with its strongest images i_0, i_1, ..., and S = softmax over concepts of scale * P:

    likelihood[k, t] = sum_r log(base_r + slope_r S[i_r, t])
                     = sum_r log base_r + sum_r log(1 + x_r),   x_r = slope_r / base_r * S[i_r, t]

With thousands of concepts every S is small, and so is x. There log(1 + x) is a polynomial of low degree up to less than
what float32 can tell apart, and the sum over ranks of x^j = ratio_r^j S^j is a weighted sum of rows of the tile S^j. A
rank whose x may be larger (few concepts, the first ranks) takes its logarithms one by one.
"""

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from numpy.polynomial import Chebyshev, Polynomial
from torch import Tensor

from cd_exp.records import Strongest
from cd_exp.similarity.match import ConceptMatch, shape
from cd_exp.similarity.top_images import Bags, Block, top_images

LIMITS = (8e-4, 0.016, 0.07, 0.175, 0.33, 0.53)
"""Up to which x the polynomial of degree 1, 2, ... is within `ERROR` of log(1 + x)."""

ERROR = 2e-7
"""About what rounding to float32 does to a factor near 1."""


def soft_likelihood(
    match: ConceptMatch,
    lists: Strongest,
    *,
    scale: float,
    base: Float[Tensor, " ranks"],
    slope: Float[Tensor, " ranks"],
) -> Float[Tensor, "neurons concepts"]:
    """sum over ranks r of log(base[r] + slope[r] * S[image of rank r, concept]).

    Args:
        match: checked.
        lists: each unit's strongest images, as many as there are ranks or all.
        scale: of the softmax over concepts.
        base: of each rank, above 0, best rank first; ranks beyond the number of images are left out.
        slope: of each rank, not negative.
    """
    images, concepts = shape(match)
    base, slope = base[:images].double().cpu(), slope[:images].double().cpu()
    likelihood = lists.values.new_zeros(lists.shape[1], concepts)
    for block in top_images(match, lists, scale=scale):
        _add_logs(likelihood, block, slope / base)
    return likelihood.add_(base.log().sum().item())


def _add_logs(likelihood: Float[Tensor, "neurons concepts"], block: Block, ratio: Float[Tensor, " ranks"]) -> None:
    """Add log(1 + ratio * S) of the images of one block, in place."""
    greatest = torch.stack([tile.max() for _, tile in block.tiles]).max().item()
    degrees = np.searchsorted(LIMITS, ratio.numpy() * greatest).tolist()
    orders = [Bags.of(block, weights.to(likelihood)) for weights in _weights(ratio, degrees)]
    large = [rank for rank, degree in enumerate(degrees) if degree == len(LIMITS)]
    power = torch.empty_like(block.tiles[0][1]).flatten()
    for columns, tile in block.tiles:
        scores = likelihood[:, columns]
        for rank in large:
            units = block.here[:, rank].nonzero().flatten()
            factors = tile.index_select(0, block.rows[units, rank]).mul_(ratio[rank].item())
            scores.index_add_(0, units, factors.log1p_())
        raised = tile
        for order, bags in enumerate(orders):
            if order:
                raised = torch.mul(raised, tile, out=power[: tile.numel()].view_as(tile))
            scores += bags.sums(raised)


def _weights(ratio: Float[Tensor, " ranks"], degrees: list[int]) -> list[Float[Tensor, " ranks"]]:
    """Of S, S^2, ... in the polynomial of each rank; 0 where it has no such term."""
    weights = torch.zeros(len(LIMITS), len(ratio), dtype=torch.float64)
    for rank, degree in enumerate(degrees):
        if degree < len(LIMITS):
            weights[: degree + 1, rank] = _polynomial(degree + 1)
    weights *= ratio ** torch.arange(1, len(LIMITS) + 1)[:, None]
    return [terms for terms in weights if terms.any()]


@cache
def _polynomial(degree: int) -> Float[Tensor, " degree"]:
    """c_1, c_2, ... of log(1 + x) = c_1 x + c_2 x^2 + ... for 0 <= x <= LIMITS[degree - 1]."""
    domain = [0, LIMITS[degree - 1]]
    quotient = Chebyshev.interpolate(lambda x: np.log1p(x) / x, degree - 1, domain=domain)
    return torch.from_numpy(quotient.convert(kind=Polynomial).coef)
