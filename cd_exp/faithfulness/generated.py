"""Scores from pictures generated for a label: do they activate the unit more than others, because of what is named?"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def cosy_auc(
    shown: Float[Tensor, "shown neurons"], control: Float[Tensor, "control neurons"]
) -> Float[Tensor, " neurons"]:
    """The probability that a picture of the label excites a unit more than a control image; equal ones count half.

    AUC = mean over pairs of [a(shown) > a(control)] + [a(shown) = a(control)] / 2.

    Args:
        shown: activations on pictures of the label.
        control: activations on other images.

    Source: Kopf et al., CoSy, NeurIPS 2024 (arXiv:2405.20331), section 4.
    """
    below, upto = _counts(shown, control, right=False), _counts(shown, control, right=True)
    return (below + upto).double().mean(dim=0) / (2 * len(control))


def cosy_mad(
    shown: Float[Tensor, "shown neurons"], control: Float[Tensor, "control neurons"]
) -> Float[Tensor, " neurons"]:
    """The mean activation difference, in standard deviations of the control images.

    MAD = (mean a(shown) - mean a(control)) / std a(control), the standard deviation with denominator n; 0 where the
    control images all excite the unit alike.

    Args:
        shown: activations on pictures of the label.
        control: activations on other images.

    Source: Kopf et al., CoSy, NeurIPS 2024 (arXiv:2405.20331), section 4.
    """
    shown, varies = shown.double(), control.amax(dim=0) > control.amin(dim=0)
    control = control.double()
    spread = control.std(dim=0, correction=0)
    return torch.where(varies, (shown.mean(dim=0) - control.mean(dim=0)) / torch.where(varies, spread, 1), 0)


def selectivity(
    named: Float[Tensor, "pairs neurons"], other: Float[Tensor, "others neurons"]
) -> Float[Tensor, " neurons"]:
    """The response to what a label names, against the response to everything else that changes.

    s = r / (r + mean |other|) with r = max(0, mean named): 1 where only the named attribute moves the unit;
    1/2 where others move it as much; 0 where the named one does not excite it.

    Args:
        named: activation with the named attribute less that of the same scene without it.
        other: differences of scenes that differ in an attribute which is not named.
    """
    wanted = named.double().mean(dim=0).clamp(min=0)
    total = wanted + other.double().abs().mean(dim=0)
    return torch.where(total > 0, wanted / torch.where(total > 0, total, 1), 0)


def _counts(
    shown: Float[Tensor, "shown neurons"], control: Float[Tensor, "control neurons"], *, right: bool
) -> Int[Tensor, "shown neurons"]:
    """How many control images excite a unit less than each picture, or at most as much."""
    ordered = control.T.contiguous().sort(dim=1).values
    return torch.searchsorted(ordered, shown.T.contiguous(), right=right).T
