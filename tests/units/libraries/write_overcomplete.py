"""Run where overcomplete is installed: its kinds of autoencoder as whole modules, with what their own `encode` gives.

`python write_overcomplete.py FOLDER INPUTS.npy` makes one folder per case with `sae.pt` (the whole module, as
`torch.save(sae)` writes it), `state.pt` (its state dict) and `encode.npy` of its evaluation mode.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from overcomplete import sae

LATENTS = 10


def cases(width):
    """Each kind by name."""
    yield "relu", sae.SAE(width, LATENTS)
    yield "batch_norm", sae.SAE(width, LATENTS, encoder_module="mlp_bn_1")
    yield "layer_norm", sae.SAE(width, LATENTS, encoder_module="mlp_ln_1")
    yield "hidden_blocks", sae.SAE(width, LATENTS, encoder_module="mlp_bn_3")
    yield "hidden_layer_norms", sae.SAE(width, LATENTS, encoder_module="mlp_ln_3")
    yield "topk", sae.TopKSAE(width, LATENTS, top_k=3)
    yield "topk_layer_norm", sae.TopKSAE(width, LATENTS, top_k=3, encoder_module="mlp_ln_1")
    yield "batchtopk", sae.BatchTopKSAE(width, LATENTS, top_k=60)
    yield "jump", sae.JumpSAE(width, LATENTS)
    yield "archetypal", sae.RATopKSAE(width, LATENTS, points=torch.rand(LATENTS + 2, width), top_k=3)
    yield "quantised", sae.QSAE(width, LATENTS)
    yield "matching_pursuit", sae.MpSAE(width, LATENTS, k=2)


def main():
    """Write all cases."""
    folder, inputs = Path(sys.argv[1]), torch.from_numpy(np.load(sys.argv[2]))
    generator = torch.Generator().manual_seed(7)
    for name, module in cases(inputs.shape[1]):
        with torch.no_grad():
            for parameter in module.encoder.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            module.train()
            module.encode(inputs)  # running statistics of a batch norm, and the running threshold
            module.eval()
            expected = module.encode(inputs)[1].numpy()
        (folder / name).mkdir(parents=True)
        module.dictionary._fused_dictionary = None  # a tensor with a history, which torch does not save
        torch.save(module, folder / name / "sae.pt")
        torch.save(module.state_dict(), folder / name / "state.pt")
        np.save(folder / name / "encode.npy", expected)


main()
