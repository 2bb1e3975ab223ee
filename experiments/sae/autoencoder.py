"""A top-k sparse autoencoder on the positions of a hidden layer, trained on scenes that the probe set does not hold.

Source: Gao et al., Scaling and evaluating sparse autoencoders (arXiv:2406.04093), without the auxiliary loss.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from cd_exp.cache import Store
from cd_exp.features import ExtractionSettings, read_maps
from cd_exp.models import TargetModel
from cd_exp.records import Probe


@dataclass(frozen=True, eq=False)
class TopK:
    """An autoencoder that lets `k` latents of each position fire."""

    encoder: Float[Tensor, "width latents"]
    bias: Float[Tensor, " latents"]
    decoder: Float[Tensor, "latents width"]
    centre: Float[Tensor, " width"]
    k: int

    def save(self, path: Path) -> Path:
        """Write it in the layout that training libraries use."""
        names = {"W_enc": self.encoder, "b_enc": self.bias, "W_dec": self.decoder, "b_dec": self.centre}
        state = {name: tensor.detach().contiguous() for name, tensor in names.items()}
        save_file({**state, "k": torch.tensor(self.k)}, path, {"activation": "topk", "centred": "true"})
        return path


def positions(
    model: TargetModel, probe: Probe, *, layer: str, store: Store, settings: ExtractionSettings
) -> Float[Tensor, "positions width"]:
    """The layer's output at every position of every image."""
    passes = read_maps(model, probe, layers=[layer], kept=range(len(probe)), store=store, settings=settings)
    return torch.cat([maps[layer].movedim(1, -1).flatten(0, 2) for _, maps in passes()])


def untrained(data: Float[Tensor, "positions width"], *, latents: int, k: int, seed: int) -> TopK:
    """Random unit vectors for the decoder, their transpose for the encoder, the mean for the centre."""
    generator = torch.Generator().manual_seed(seed)
    decoder = torch.nn.functional.normalize(torch.randn(latents, data.shape[1], generator=generator), dim=1)
    return TopK(decoder.T.clone(), torch.zeros(latents), decoder, data.mean(dim=0), k)


def trained(
    data: Float[Tensor, "positions width"], *, latents: int, k: int, steps: int, seed: int, rate: float = 1e-3
) -> tuple[TopK, float]:
    """The autoencoder after Adam on the squared error, and the share of variance it explains.

    Args:
        data: what it learns to rebuild.
        latents: how many there are.
        k: how many fire at a position.
        steps: of 2,048 positions each.
        seed: of the start and of the batches.
        rate: of learning.
    """
    start = untrained(data, latents=latents, k=k, seed=seed)
    scale = (data - start.centre).square().mean().sqrt()
    parameters = [start.encoder, start.bias, start.decoder, start.centre / scale]
    parameters = [parameter.clone().requires_grad_(True) for parameter in parameters]
    encoder, bias, decoder, centre = parameters
    optimiser = torch.optim.Adam(parameters, lr=rate)
    generator = torch.Generator().manual_seed(seed + 1)
    for _ in range(steps):
        batch = data[torch.randint(len(data), (2048,), generator=generator)] / scale
        loss = (_rebuilt(batch, encoder, bias, decoder, centre, k) - batch).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            decoder.copy_(torch.nn.functional.normalize(decoder, dim=1))
    with torch.no_grad():
        sample = data[torch.randint(len(data), (20_000,), generator=generator)] / scale
        error = (_rebuilt(sample, encoder, bias, decoder, centre, k) - sample).square().sum()
        explained = 1 - error / (sample - sample.mean(dim=0)).square().sum()
        # In the units of the layer: (x / s - c / s) W + b = (x - c) (W / s) + b, so that files need no scale.
        encoder_decoder = TopK(encoder / scale, bias, decoder, centre * scale, k)
    return encoder_decoder, float(explained)


def _rebuilt(batch: Tensor, encoder: Tensor, bias: Tensor, decoder: Tensor, centre: Tensor, k: int) -> Tensor:
    latents = ((batch - centre) @ encoder + bias).relu()
    kept = latents.topk(k, dim=1)
    return torch.zeros_like(latents).scatter(1, kept.indices, kept.values) @ decoder + centre
