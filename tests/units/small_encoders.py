"""Small encoders in every layout, made from the layouts' definitions, and what they give, written out literally."""

import numpy as np
import torch

WIDTH, LATENTS = 6, 10
GENERATOR = torch.Generator().manual_seed(3)
WEIGHT = torch.randn(WIDTH, LATENTS, generator=GENERATOR)
BIAS = 0.3 * torch.randn(LATENTS, generator=GENERATOR)
CENTRE = torch.randn(WIDTH, generator=GENERATOR)
THRESHOLD = torch.rand(LATENTS, generator=GENERATOR)
POSITIONS = torch.randn(4, 5, WIDTH, generator=GENERATOR)


def literal(x, *, activation, centre=CENTRE, k=3, threshold=THRESHOLD):
    """The latents of one position, a number at a time."""
    z = [
        sum(float(x[i] - centre[i]) * float(WEIGHT[i, j]) for i in range(WIDTH)) + float(BIAS[j])
        for j in range(LATENTS)
    ]
    if activation == "none":
        return z
    if activation == "relu":
        return [max(value, 0.0) for value in z]
    if activation == "topk":
        kept = sorted(range(LATENTS), key=lambda j: -max(z[j], 0.0))[:k]
        return [max(z[j], 0.0) if j in kept else 0.0 for j in range(LATENTS)]
    return [max(value, 0.0) if value > float(limit) else 0.0 for value, limit in zip(z, threshold, strict=True)]


def w_enc():
    """SAELens, saev, Gemma Scope."""
    return {"W_enc": WEIGHT, "b_enc": BIAS, "b_dec": CENTRE, "W_dec": WEIGHT.T.contiguous(), "threshold": THRESHOLD}


def linear():
    """dictionary_learning's top-k encoders."""
    return {
        "encoder.weight": WEIGHT.T.contiguous(),
        "encoder.bias": BIAS,
        "decoder.weight": WEIGHT.contiguous(),
        "b_dec": CENTRE,
        "k": torch.tensor(3),
        "threshold": torch.tensor(0.25),
    }


def plain_linear():
    """dictionary_learning's first autoencoder, whose centre is called bias."""
    return {"encoder.weight": WEIGHT.T.contiguous(), "encoder.bias": BIAS, "bias": CENTRE}


def overcomplete():
    """overcomplete, with its batch norm: (z - mean) / sqrt(variance + 1e-5) * gain + shift equals the same z again."""
    mean, variance = torch.full((LATENTS,), 0.5), torch.full((LATENTS,), 4.0)
    deviation = (variance + 1e-5).sqrt()
    return {
        "encoder.final_block.0.weight": WEIGHT.T.contiguous(),
        "encoder.final_block.0.bias": BIAS - CENTRE @ WEIGHT,
        "encoder.final_block.1.weight": deviation,
        "encoder.final_block.1.bias": mean.clone(),
        "encoder.final_block.1.running_mean": mean,
        "encoder.final_block.1.running_var": variance,
        "encoder.final_block.1.num_batches_tracked": torch.tensor(1),
        "dictionary._weights": WEIGHT.T.contiguous(),
    }


LAYOUTS = {"w_enc": w_enc, "linear": linear, "plain_linear": plain_linear, "overcomplete": overcomplete}


def written(folder, state, kind):
    """The file of a state dict."""
    from safetensors.torch import save_file

    path = folder / f"sae{kind}"
    if kind == ".safetensors":
        save_file(state, path)
    elif kind == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in state.items()})
    else:
        torch.save(state, path)
    return path
