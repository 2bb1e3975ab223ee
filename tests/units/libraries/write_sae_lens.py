"""Run where sae-lens is installed: every kind of autoencoder that it saves, with what its own `encode` gives.

`python write_sae_lens.py FOLDER INPUTS.npy` makes one folder per case with the files as the library writes them, and
`encode.npy`. Numbers are random in place of trained; biases, thresholds and decoder norms are far from 0 and 1.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from sae_lens import saes

LATENTS = 10


def randomised(module):
    """The module with every parameter random."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        if hasattr(module, "threshold"):
            module.threshold.abs_()
    return module


def cases(width):
    """Each kind by name."""
    common = {"d_in": width, "d_sae": LATENTS}
    kinds = {
        "standard": (saes.StandardSAE, saes.StandardSAEConfig, {}),
        "jumprelu": (saes.JumpReLUSAE, saes.JumpReLUSAEConfig, {}),
        "topk": (saes.TopKSAE, saes.TopKSAEConfig, {"k": 3}),
        "gated": (saes.GatedSAE, saes.GatedSAEConfig, {}),
        "abstopk": (saes.AbsTopKSAE, saes.AbsTopKSAEConfig, {"k": 3}),
        "transcoder": (saes.Transcoder, saes.TranscoderConfig, {"d_out": 4, "apply_b_dec_to_input": False}),
        "jumprelu_transcoder": (
            saes.JumpReLUTranscoder,
            saes.JumpReLUTranscoderConfig,
            {"d_out": 4, "apply_b_dec_to_input": False},
        ),
        "skip_transcoder": (
            saes.SkipTranscoder,
            saes.SkipTranscoderConfig,
            {"d_out": 4, "apply_b_dec_to_input": False},
        ),
    }
    for name, (module, config, options) in kinds.items():
        yield name, module(config(**common, **options))
    for name in ("standard", "jumprelu", "topk", "gated"):
        module, config, options = kinds[name]
        yield f"{name}_not_centred", module(config(**common, **options, apply_b_dec_to_input=False))
        for norm in ("layer_norm", "constant_norm_rescale", "expected_average_only_in"):
            yield f"{name}_{norm}", module(config(**common, **options, normalize_activations=norm))
    module, config, options = kinds["topk"]
    yield "topk_decoder_norm", module(config(**common, **options, rescale_acts_by_decoder_norm=True))


def main():
    """Write all cases."""
    folder, inputs = Path(sys.argv[1]), torch.from_numpy(np.load(sys.argv[2]))
    for name, module in cases(inputs.shape[1]):
        randomised(module).save_model(folder / name)
        with torch.no_grad():
            np.save(folder / name / "encode.npy", module.encode(inputs).numpy())
    config = saes.BatchTopKTrainingSAEConfig(d_in=inputs.shape[1], d_sae=LATENTS, k=3)
    trained = randomised(saes.BatchTopKTrainingSAE(config))
    trained.topk_threshold = torch.tensor(0.7, dtype=torch.double)
    trained.save_inference_model(folder / "batchtopk")
    loaded = saes.SAE.load_from_disk(folder / "batchtopk")
    with torch.no_grad():
        np.save(folder / "batchtopk" / "encode.npy", loaded.encode(inputs).numpy())


main()
