"""Run where dictionary-learning is installed: its kinds of autoencoder, with what their own `encode` gives.

`python write_dictionary_learning.py FOLDER INPUTS.npy` makes one folder per case with `ae.pt` and, as its training
writes it, `config.json`; cases named `NAME_alone` have no `config.json`.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from dictionary_learning import dictionary
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from dictionary_learning.trainers.top_k import AutoEncoderTopK

LATENTS = 10


def cases(width):
    """Each kind by name."""
    yield dictionary.AutoEncoder(width, LATENTS)
    yield dictionary.AutoEncoderNew(width, LATENTS)
    yield dictionary.GatedAutoEncoder(width, LATENTS)
    yield dictionary.JumpReluAutoEncoder(width, LATENTS)
    yield AutoEncoderTopK(width, LATENTS, k=3)
    yield BatchTopKSAE(width, LATENTS, k=3)
    yield MatryoshkaBatchTopKSAE(width, LATENTS, k=3, group_sizes=[4, 6])


def main():
    """Write all cases."""
    folder, inputs = Path(sys.argv[1]), torch.from_numpy(np.load(sys.argv[2]))
    generator = torch.Generator().manual_seed(7)
    for module in cases(inputs.shape[1]):
        name = type(module).__name__
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            if "threshold" in dict(module.named_parameters()):
                module.threshold.abs_()
            if "threshold" in dict(module.named_buffers()):
                module.threshold.fill_(0.6)
            expected = module.encode(inputs).numpy()
        for path in (folder / name, folder / f"{name}_alone"):
            path.mkdir(parents=True)
            torch.save(module.state_dict(), path / "ae.pt")
            np.save(path / "encode.npy", expected)
        trainer = {"dict_class": name, "trainer_class": "T", "lr": 1e-3, "steps": 5, "layer": 3, "lm_name": "m"}
        trainer |= {"activation_dim": inputs.shape[1], "dict_size": LATENTS, "device": "cpu", "wandb_name": "w"}
        trainer |= {"k": 3} if hasattr(module, "k") else {}
        config = {"trainer": trainer, "buffer": {"d_submodule": 6, "ctx_len": 128}}
        (folder / name / "config.json").write_text(json.dumps(config))


main()
