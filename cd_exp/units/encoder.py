"""Encoders on a layer's output: latents of sparse autoencoders, and directions."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.errors import InputError

Activation = Literal["none", "relu", "topk", "batchtopk", "jumprelu"]
Normalisation = Literal["none", "layer_norm", "constant_norm"]
Pool = Literal["max", "mean", "cls", "fraction"]

LATENTS_AT_ONCE = 2**26
"""256 MiB of them in float32; 24,576 latents of 196 positions are 19 MB an image."""


@dataclass(frozen=True, eq=False)
class Encoder:
    """Latents of each position of a layer's output: an affine map, and what decides which latents fire.

    z = scale * (normalise(x) - centre) @ weight + bias, where `layer_norm` is (x - mean) / (std + 1e-5) over the width,
    with the unbiased standard deviation, and `constant_norm` is sqrt(width) x / |x|, as SAELens and ViT-Prisma have
    them. Where `gain` is given, z goes through torch's layer norm over the latents. The latents are

    - `none`: z, for directions;
    - `relu`: max(z, 0);
    - `topk`: of max(z, 0), the `k` largest of each position (Gao et al., arXiv:2406.04093); with `signed`, of z itself,
      as saev has it;
    - `batchtopk`: max(z, 0) where it exceeds the threshold of training, else 0 (Bussmann et al.,
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
        normalisation: of the layer's output at each position.
        signed: whether `topk` keeps what is below 0.
        gain: of a layer norm over the latents, before they fire; None for no such norm.
        shift: of the same.
    """

    weight: Float[Tensor, "width latents"]
    bias: Float[Tensor, " latents"]
    centre: Float[Tensor, " width"]
    scale: float = 1.0
    activation: Activation = "none"
    k: int = 0
    threshold: Float[Tensor, " latents"] | None = None
    normalisation: Normalisation = "none"
    signed: bool = False
    gain: Float[Tensor, " latents"] | None = None
    shift: Float[Tensor, " latents"] | None = None

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
            x = _normalise(positions.float(), self.normalisation)
            latents = (self.scale * (x - self.centre)) @ self.weight + self.bias
            if self.gain is not None:
                latents = torch.nn.functional.layer_norm(latents, self.gain.shape, self.gain, self.shift)
        if self.activation == "none":
            return latents
        fired = latents.clamp(min=0)
        if self.activation == "topk":
            kept = (latents if self.signed else fired).topk(self.k, dim=-1)
            return torch.zeros_like(fired).scatter_(-1, kept.indices, kept.values)
        if self.threshold is not None:
            return fired * (latents > self.threshold)
        return fired


def _normalise(x: Float[Tensor, "*batch width"], normalisation: Normalisation) -> Float[Tensor, "*batch width"]:
    if normalisation == "layer_norm":
        x = x - x.mean(dim=-1, keepdim=True)
        return x / (x.std(dim=-1, keepdim=True) + 1e-5)
    if normalisation == "constant_norm":
        return x * (x.shape[-1] ** 0.5 / x.norm(dim=-1, keepdim=True))
    return x


def check_names(*, pool: str, activation: str = "none") -> None:
    """Refuse a pooling or an activation that there is not."""
    for setting, name, choices in (("pool", pool, get_args(Pool)), ("activation", activation, get_args(Activation))):
        if name not in choices:
            raise InputError(f"units.{setting}={name}: expected one of {', '.join(choices)}")


def _single_precision(device: str) -> AbstractContextManager[object]:
    """The network may run in half precision, this not; on torch's `meta` device nothing does."""
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


@cache
def _copy_to(encoder: Encoder, device: torch.device) -> Encoder:
    values = {entry.name: getattr(encoder, entry.name) for entry in fields(encoder)}
    moved: dict[str, Any] = {name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)}
    return replace(encoder, **moved)


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
