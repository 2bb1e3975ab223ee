"""Run where saev 0.1.0 is installed: `sae.pt` as its `dump` writes it, with what its forward pass calls `f_x`."""

import sys
from pathlib import Path

import numpy as np
import torch
from saev import config, nn


def main():
    """Write the case."""
    folder, inputs = Path(sys.argv[1]), torch.from_numpy(np.load(sys.argv[2]))
    generator = torch.Generator().manual_seed(7)
    module = nn.SparseAutoencoder(config.SparseAutoencoder(d_vit=inputs.shape[1], exp_factor=2))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        nn.dump(str(folder / "relu" / "sae.pt"), module)
        np.save(folder / "relu" / "encode.npy", module(inputs)[1].numpy())


main()
