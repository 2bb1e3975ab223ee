"""Sparse autoencoders as files: the layouts that training libraries write, recognised by their keys.

| layout | encoder | bias | centre | threshold |
| --- | --- | --- | --- | --- |
| SAELens, saev, Gemma Scope | `W_enc` [width, latents] | `b_enc` | `b_dec` | `find_threshold` |
| dictionary_learning | `encoder.weight` [latents, width] | `encoder.bias` | `b_dec` or `bias` | `find_threshold` |
| overcomplete | `encoder.final_block.0.weight`, likewise | `encoder.final_block.0.bias` | | `running_threshold` |

overcomplete normalises the pre-codes by a batch norm, which is folded into weight and bias.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cd_exp.errors import InputError
from cd_exp.units.encoder import Activation, Encoder
from cd_exp.units.files import read_tensors

WEIGHTS = {"W_enc": False, "encoder.weight": True, "encoder.final_block.0.weight": True}
"""The keys of an encoder's matrix, and whether it lies as [latents, width]."""

BIASES = ("b_enc", "encoder.bias", "encoder.final_block.0.bias")
CENTRES = ("b_dec", "bias", "pre_bias")
THRESHOLDS = ("threshold", "running_threshold", "log_threshold")
SCALES = ("scale", "input_scale")
NORM = "encoder.final_block.1."
GATED = ("r_mag", "gate_bias")


def read_encoder(
    path: Path,
    *,
    activation: Activation,
    k: int | None = None,
    threshold: float | None = None,
    centred: bool | None = None,
) -> Encoder:
    """The encoder in a file.

    Args:
        path: of tensors, as `cd_exp.units.files.read_tensors` reads them.
        activation: which latents fire.
        k: of `topk`; by default that of the file.
        threshold: of `batchtopk` and `jumprelu`; by default those of the file.
        centred: whether the decoder's bias is taken from the layer's output first. None: as the libraries do, for all
            but `jumprelu`.

    Raises:
        InputError: there is no encoder in the file, its tensors do not fit each other or are not finite, or `k` or a
            threshold is missing.
    """
    found, settings = read_tensors(path, setting="units.weights")
    found = _strip_prefix(found)
    weight, bias = _fold_norm(path, found, *_read_affine(path, found))
    width, latents = weight.shape
    if not weight.numel():
        raise InputError(f"units.weights={path}: its encoder is {width} x {latents}, with nothing in it")
    subtracts = activation != "jumprelu" if centred is None else centred
    centre = _read_vector(path, found, CENTRES, width) if subtracts else None
    encoder = Encoder(
        weight=weight,
        bias=bias,
        centre=weight.new_zeros(width) if centre is None else centre,
        scale=_read_scale(path, found),
        activation=activation,
        k=_read_k(path, found, settings, k, latents) if activation == "topk" else 0,
        threshold=_read_threshold(path, found, threshold, latents) if activation in ("batchtopk", "jumprelu") else None,
    )
    for name in ("weight", "bias", "centre"):
        if not bool(torch.isfinite(getattr(encoder, name)).all()):
            raise InputError(f"units.weights={path}: the {name} of its encoder has numbers that are not finite")
    return encoder


def _strip_prefix(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the first part of all names where they share one that is no layout's own, as in `module.W_enc`."""
    heads = {name.partition(".")[0] for name in found}
    if len(heads) == 1 and not any(key in found for key in WEIGHTS) and all("." in name for name in found):
        return {name.partition(".")[2]: tensor for name, tensor in found.items()}
    return dict(found)


def _read_affine(path: Path, found: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The encoder's matrix as [width, latents], and its bias."""
    if any(name in found for name in GATED):
        raise InputError(
            f"units.weights={path} is a gated autoencoder, which is not read; export its activations for units=matrix"
        )
    key = next((key for key in WEIGHTS if key in found), None)
    if key is None:
        raise InputError(
            f"units.weights={path} has no encoder: expected one of {', '.join(WEIGHTS)}; "
            f"it has {', '.join(list(found)[:8])}"
        )
    weight = found[key].float()
    if weight.ndim != 2:
        raise InputError(f"units.weights={path}: {key} is {_describe_shape(weight)}; expected a matrix")
    weight = weight.T if WEIGHTS[key] else weight
    given = next((found[name] for name in BIASES if name in found), None)
    if given is not None and given.numel() != weight.shape[1] and given.numel() == weight.shape[0]:
        weight = weight.T  # stored the other way round, as the bias shows
    bias = _read_vector(path, found, BIASES, weight.shape[1])
    return weight.contiguous(), weight.new_zeros(weight.shape[1]) if bias is None else bias


def _fold_norm(path: Path, found: Mapping[str, Tensor], weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias with the batch norm that follows them, as it is in evaluation mode."""
    if f"{NORM}running_mean" not in found:
        return weight, bias
    names = ("running_mean", "running_var", "weight", "bias")
    mean, variance, gain, shift = (_read_vector(path, found, (f"{NORM}{name}",), len(bias)) for name in names)
    if mean is None or variance is None:
        raise InputError(f"units.weights={path} has {NORM}running_mean and no {NORM}running_var")
    factor = (variance + 1e-5).rsqrt()  # torch's default
    factor = factor if gain is None else factor * gain
    return weight * factor, (bias - mean) * factor + (0 if shift is None else shift)


def _read_vector(path: Path, found: Mapping[str, Tensor], keys: tuple[str, ...], length: int) -> Tensor | None:
    key = next((key for key in keys if key in found), None)
    if key is None:
        return None
    if found[key].numel() != length:
        raise InputError(f"units.weights={path}: {key} has {found[key].numel()} numbers; its encoder needs {length}")
    return found[key].float().flatten()


def _read_scale(path: Path, found: Mapping[str, Tensor]) -> float:
    key = next((key for key in SCALES if key in found), None)
    if key is None:
        return 1.0
    if found[key].numel() != 1:
        raise InputError(f"units.weights={path}: {key} is {_describe_shape(found[key])}; expected one number")
    scale = float(found[key])
    if not math.isfinite(scale) or not scale:
        raise InputError(f"units.weights={path}: {key} is {scale:g}; expected a number other than 0")
    return scale


def _read_k(
    path: Path, found: Mapping[str, Tensor], settings: Mapping[str, Any], given: int | None, latents: int
) -> int:
    k = _read_k_of_file(found, settings) if given is None else given
    if k is None:
        raise InputError(
            f"units.activation=topk needs the number of latents that fire, and {path} has none; set units.k=NUMBER"
        )
    if k not in range(1, latents + 1):
        whose = f"{path} says k = {k:g}" if given is None else f"units.k={given}"
        raise InputError(
            f"{whose}, and the encoder has {latents} latents; set units.k to a whole number from 1 to that"
        )
    return int(k)


def _read_k_of_file(found: Mapping[str, Tensor], settings: Mapping[str, Any]) -> float | None:
    for key in ("k", "top_k"):
        if key in found and found[key].numel() == 1:
            return float(found[key])
        named = [
            value for name, value in _read_activation_name(settings) if name == key and type(value) in (int, float)
        ]
        if named:
            return float(named[0])
    return None


def _read_activation_name(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _read_activation_name(value)
        else:
            yield name, value


def _read_threshold(path: Path, found: Mapping[str, Tensor], given: float | None, latents: int) -> Tensor:
    if given is not None:
        return torch.full((latents,), given)
    key = next((key for key in THRESHOLDS if key in found), None)
    if key is None:
        raise InputError(f"{path} has no threshold ({', '.join(THRESHOLDS)}); set units.threshold=NUMBER")
    threshold = found[key].float().flatten()
    threshold = threshold.exp() if key == "log_threshold" else threshold
    if threshold.numel() not in (1, latents):
        raise InputError(f"units.weights={path}: {key} has {threshold.numel()} numbers; expected 1 or {latents}")
    if not bool(torch.isfinite(threshold).all()) or math.isclose(float(threshold.max()), -1.0):
        raise InputError(f"units.weights={path}: {key} was never set in training; set units.threshold=NUMBER")
    return threshold.expand(latents).contiguous()


def _describe_shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"
