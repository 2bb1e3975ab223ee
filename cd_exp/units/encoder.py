"""Encoders on a layer's output: latents of sparse autoencoders, and directions."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.errors import InputError

Activation = Literal["none", "relu", "topk", "batchtopk", "jumprelu"]
Pool = Literal["max", "mean", "cls", "fraction"]

LATENTS_AT_ONCE = 2**26
"""256 MiB of them in float32; 24,576 latents of 196 positions are 19 MB an image."""


@dataclass(frozen=True, eq=False)
class Encoder:
    """Latents of each position of a layer's output: an affine map, and what decides which latents fire.

    z = scale * (x - centre) @ weight + bias, and the latents are

    - `none`: z, for directions;
    - `relu`: max(z, 0);
    - `topk`: of max(z, 0), the `k` largest of each position (Gao et al., arXiv:2406.04093);
    - `batchtopk`: max(z, 0) where it exceeds the threshold found in training, else 0 (Bussmann et al.,
      arXiv:2412.06410): the rule for a single position, whatever batch it comes in;
    - `jumprelu`: max(z, 0) where z exceeds the latent's threshold, else 0 (Rajamanoharan et al., arXiv:2407.14435).

    Attributes:
        weight: the encoder's matrix.
        bias: of each latent.
        centre: taken from the layer's output first; zeros where the file has none.
        scale: of the layer's output.
        activation: which latents fire.
        k: of `topk`.
        threshold: of `batchtopk` and `jumprelu`, for each latent.
    """

    weight: Float[Tensor, "width latents"]
    bias: Float[Tensor, " latents"]
    centre: Float[Tensor, " width"]
    scale: float = 1.0
    activation: Activation = "none"
    k: int = 0
    threshold: Float[Tensor, " latents"] | None = None

    @property
    def width(self) -> int:
        """Of the layer that it reads."""
        return self.weight.shape[0]

    @property
    def units(self) -> int:
        """How many latents or directions there are."""
        return self.weight.shape[1]

    def on(self, device: torch.device) -> "Encoder":
        """The same on a device, copied there once."""
        return self if self.weight.device == device else _copy_to(self, device)

    def __call__(self, positions: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch latents"]:
        """The latents of each position."""
        with _single_precision(positions.device.type):
            latents = (self.scale * (positions.float() - self.centre)) @ self.weight + self.bias
        if self.activation == "none":
            return latents
        fired = latents.clamp(min=0)
        if self.activation == "topk":
            kept = fired.topk(self.k, dim=-1)
            return torch.zeros_like(fired).scatter_(-1, kept.indices, kept.values)
        if self.threshold is not None:
            return fired * (latents > self.threshold)
        return fired


def check_names(*, pool: str, activation: str = "none") -> None:
    """Refuse a pooling or an activation that there is not."""
    for setting, name, known in (("pool", pool, get_args(Pool)), ("activation", activation, get_args(Activation))):
        if name not in known:
            raise InputError(f"units.{setting}={name}: expected one of {', '.join(known)}")


def _single_precision(device: str) -> AbstractContextManager[object]:
    """The network may run in half precision, this not; on torch's `meta` device nothing does."""
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


@cache
def _copy_to(encoder: Encoder, device: torch.device) -> Encoder:
    threshold = None if encoder.threshold is None else encoder.threshold.to(device)
    weight, bias, centre = (tensor.to(device) for tensor in (encoder.weight, encoder.bias, encoder.centre))
    return replace(encoder, weight=weight, bias=bias, centre=centre, threshold=threshold)


def encode_positions(
    encoder: Encoder, positions: Float[Tensor, "images positions width"], pool: Pool
) -> Float[Tensor, "images latents"]:
    """The pooled latents of some images, a few images at a time: all positions' latents take as much as they may."""
    size = max(1, LATENTS_AT_ONCE // (positions.shape[1] * encoder.units))
    return torch.cat([pool_latents(encoder(part), pool) for part in positions.split(size)])


def pool_latents(latents: Float[Tensor, "images positions latents"], pool: Pool) -> Float[Tensor, "images latents"]:
    """One number a latent and image from its positions.

    Args:
        latents: of each position; a class token comes first where there is one.
        pool: `max`, `mean`, `cls` (the first position), or `fraction`: the share of positions that fire (above 0).
    """
    if pool == "max":
        return latents.amax(dim=1)
    if pool == "cls":
        return latents[:, 0]
    if pool == "fraction":
        return ((latents > 0) + 0 * latents).mean(dim=1)  # what is not finite stays so, and is refused
    return latents.mean(dim=1)


def make_projection(matrix: Float[Tensor, "directions width"], *, path: str) -> Encoder:
    """The encoder that projects onto each row of a matrix, as it is: neither centred nor normalised.

    Raises:
        InputError: a row that is zero or not finite.
    """
    if not matrix.numel():
        raise InputError(f"{path} is {len(matrix)} x {matrix.shape[1]}; expected at least one direction")
    broken = (~torch.isfinite(matrix).all(dim=1) | ~matrix.any(dim=1)).nonzero().flatten()
    if len(broken):
        raise InputError(f"{path}: direction {int(broken[0])} of {len(matrix)} is zero or not finite; leave it out")
    zeros = matrix.new_zeros
    return Encoder(matrix.T.contiguous(), zeros(len(matrix)), zeros(matrix.shape[1]))
