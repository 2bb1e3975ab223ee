"""What the libraries' own `encode` computes, written again from their sources, for files as they save them.

Each `FILES` entry is one kind of file: its tensors, its settings, and where the settings lie (`beside`: a JSON file;
`header`: a line before the state dict; `inside`: plain values in the same dictionary).
"""

import json
import math

import torch
from safetensors.torch import save_file

WIDTH, LATENTS, K = 6, 10, 3


def numbers(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


INPUTS = numbers(30, WIDTH, seed=0)
W = {
    "W_enc": numbers(WIDTH, LATENTS, seed=1),
    "b_enc": numbers(LATENTS, seed=2),
    "W_dec": numbers(LATENTS, WIDTH, seed=3),
    "b_dec": numbers(WIDTH, seed=4),
}
THRESHOLD = {"threshold": numbers(LATENTS, seed=5).abs()}
GATES = {"b_gate": numbers(LATENTS, seed=6), "r_mag": numbers(LATENTS, seed=7), "b_mag": numbers(LATENTS, seed=8)}
LINEAR = {"encoder.weight": W["W_enc"].T.contiguous(), "encoder.bias": W["b_enc"]}
LINEAR["decoder.weight"] = numbers(WIDTH, LATENTS, seed=9)


def top(values, k, *, relu=True):
    """The k largest of each row, in place."""
    kept = values.topk(int(k), dim=-1)
    shown = kept.values.relu() if relu else kept.values
    return torch.zeros_like(values).scatter(-1, kept.indices, shown)


def normalised(x, how):
    if how == "layer_norm":
        x = x - x.mean(-1, keepdim=True)
        return x / (x.std(-1, keepdim=True) + 1e-5)
    if how == "constant_norm_rescale":
        return x * math.sqrt(x.shape[-1]) / x.norm(dim=-1, keepdim=True)
    return x


def gated(x, t):
    opens = x @ t["W_enc"] + t["b_gate"] > 0
    return opens * torch.relu(x @ (t["W_enc"] * t["r_mag"].exp()) + t["b_mag"])


def sae_lens(x, t, cfg):
    """SAELens 6: `process_sae_in`, then the architecture's own."""
    x = normalised(x, cfg.get("normalize_activations", "none"))
    kind = cfg.get("architecture", "standard")
    if "transcoder" not in kind and cfg.get("apply_b_dec_to_input", True):
        x = x - t["b_dec"]
    if kind == "gated":
        return gated(x, t)
    z = x @ t["W_enc"] + t["b_enc"]
    kwargs = cfg.get("activation_fn_kwargs") or {}
    if kind == "topk" or cfg.get("activation_fn_str", cfg.get("activation_fn")) == "topk":
        z = z * t["W_dec"].norm(dim=-1) if cfg.get("rescale_acts_by_decoder_norm") else z
        return top(z, cfg.get("k", kwargs.get("k")))
    if "jumprelu" in kind:
        return torch.relu(z) * (z > (t["threshold"] if "threshold" in t else t["log_threshold"].exp()))
    return torch.relu(z)


def prisma(x, t, cfg):
    """ViT-Prisma: normalised, always centred."""
    x = normalised(x, cfg.get("normalize_activations", "layer_norm")) - t["b_dec"]
    if cfg["architecture"] == "gated":
        return gated(x, t)
    z = x @ t["W_enc"] + t["b_enc"]
    return top(z, cfg["activation_fn_kwargs"]["k"]) if cfg["activation_fn_str"] == "topk" else torch.relu(z)


def dictionary_learning(x, t, cfg):
    """dictionary_learning 0.1.0."""
    name = cfg["trainer"]["dict_class"]
    if name == "GatedAutoEncoder":
        z = (x - t["decoder_bias"]) @ t["encoder.weight"].T
        return (z + t["gate_bias"] > 0) * torch.relu(t["r_mag"].exp() * z + t["mag_bias"])
    if name == "JumpReluAutoEncoder":
        z = (x - t["b_dec"] if cfg.get("apply_b_dec_to_input") else x) @ t["W_enc"] + t["b_enc"]
        return torch.relu(z * (z > t["threshold"]))
    if name == "MatryoshkaBatchTopKSAE":
        z = torch.relu((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"])
        return z * (z > t["threshold"])
    centre = t.get("b_dec", t.get("bias", torch.zeros(WIDTH)))
    z = torch.relu((x - centre) @ t["encoder.weight"].T + t["encoder.bias"])
    if name == "AutoEncoderTopK":
        return top(z, t["k"])
    return z * (z > t["threshold"]) if name == "BatchTopKSAE" else z


def overcomplete(x, t, cfg):
    """overcomplete 0.3.0, in evaluation mode."""
    z = x @ t["encoder.final_block.0.weight"].T + t["encoder.final_block.0.bias"]
    name = "encoder.final_block.1."
    if f"{name}running_mean" in t:
        z = (z - t[f"{name}running_mean"]) / (t[f"{name}running_var"] + 1e-5).sqrt() * t[f"{name}weight"] + t[
            f"{name}bias"
        ]
    elif f"{name}weight" in t:
        centred = z - z.mean(-1, keepdim=True)
        spread = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        z = centred / spread * t[f"{name}weight"] + t[f"{name}bias"]
    codes = torch.relu(z)
    kind = cfg["class"]
    if kind == "TopKSAE":
        return top(codes, cfg["top_k"])
    if kind == "BatchTopKSAE":
        return codes * (codes >= cfg["running_threshold"])
    return torch.where(codes < t["thresholds"].exp(), 0.0, codes) if kind == "JumpSAE" else codes


def saev(x, t, header):
    """saev 0.1.0 where the header has no schema; its repository since July 2025 for schemas 2 to 5."""
    if "schema" not in header:
        return torch.relu((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"])
    z = x @ t["W_enc"] + t["b_enc"]
    activation = header["cfg"]["activation"]
    if activation["cls"] == "Relu":
        return torch.relu(z)
    if activation["cls"] == "TopK" or header["schema"] == 2:
        return top(z, activation["params"]["top_k"], relu=False)
    threshold = t["activation.threshold"].clamp(min=0)
    return torch.where(z > threshold, z, 0.0)


def sparsify(x, t, cfg):
    """sparsify, from its documented form."""
    return top(torch.relu((x - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"]), cfg["k"])


def openai(x, t, cfg):
    """OpenAI's sparse_autoencoder, from its documented form: TopK files are those that normalise."""
    z = (normalised(x, "layer_norm") - t["pre_bias"]) @ t["encoder.weight"].T + t["latent_bias"]
    return top(z, cfg["activation_state_dict"]["k"])


def plain(x, t, cfg):
    """A file that describes itself."""
    z = (x - t["b_dec"] if cfg["centred"] else x) @ t["W_enc"] + t["b_enc"]
    return top(z, cfg["k"]) if str(cfg["activation"]).lower() == "topk" else torch.relu(z)


COUNT = {"b_dec": W["b_dec"], "k": torch.tensor(K, dtype=torch.int32), "threshold": torch.tensor(0.6)}
BLOCK = {
    "encoder.final_block.0.weight": W["W_enc"].T.contiguous(),
    "encoder.final_block.0.bias": W["b_enc"],
    "dictionary._weights": W["W_dec"],
    "dictionary.multiplier": torch.tensor(0.0),
}
NORM = {
    "encoder.final_block.1.weight": numbers(LATENTS, seed=10),
    "encoder.final_block.1.bias": numbers(LATENTS, seed=11),
}
BATCH_NORM = {
    **NORM,
    "encoder.final_block.1.running_mean": numbers(LATENTS, seed=12),
    "encoder.final_block.1.running_var": numbers(LATENTS, seed=13).abs(),
    "encoder.final_block.1.num_batches_tracked": torch.tensor(4),
}
PRISMA = {
    "d_in": WIDTH,
    "d_sae": LATENTS,
    "vit_model_cfg": None,
    "architecture": "standard",
    "activation_fn_str": "relu",
}
PRISMA |= {"activation_fn_kwargs": {}, "layer_subtype": "hook_resid_post", "is_transcoder": False, "lr": 1e-3}
PRISMA |= {"device": {"__type__": "torch.device", "value": "cuda"}, "normalize_activations": "layer_norm"}
SIZES = {"d_in": WIDTH, "d_sae": LATENTS, "dtype": "float32", "device": "cpu", "metadata": {"model_name": "vit"}}
OLD = {**SIZES, "hook_name": "blocks.3", "model_name": "vit", "prepend_bos": True}


def _trainer(name, **more):
    return {"trainer": {"dict_class": name, "activation_dim": WIDTH, "dict_size": LATENTS, "lr": 1e-3, **more}}


def _header(schema, name, **params):
    cfg = {"d_model": WIDTH, "d_sae": LATENTS, "activation": {"cls": name, "params": params}, "normalize_w_dec": True}
    return {"schema": schema, "cfg": cfg, "commit": "abc", "lib": "0.1.0"}


SPARSITY = {"sparsity": {"cls": "NoSparsity", "params": {}}}
FILES = {
    "SAELens standard": (sae_lens, W, {**SIZES, "architecture": "standard"}, "beside"),
    "SAELens jumprelu": (sae_lens, {**W, **THRESHOLD}, {**SIZES, "architecture": "jumprelu"}, "beside"),
    "SAELens topk": (sae_lens, W, {**SIZES, "architecture": "topk", "k": K}, "beside"),
    "SAELens gated": (
        sae_lens,
        {**{name: W[name] for name in ("W_enc", "W_dec", "b_dec")}, **GATES},
        {**SIZES, "architecture": "gated"},
        "beside",
    ),
    "SAELens before 6": (
        sae_lens,
        W,
        {**OLD, "activation_fn_str": "relu", "finetuning_scaling_factor": False},
        "beside",
    ),
    "SAELens before 6, topk": (
        sae_lens,
        W,
        {**OLD, "architecture": "standard", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}},
        "beside",
    ),
    "SAELens in a header": (sae_lens, W, {**SIZES, "architecture": "topk", "k": K}, "metadata"),
    "ViT-Prisma": (prisma, W, PRISMA, "beside"),
    "ViT-Prisma topk": (prisma, W, {**PRISMA, "activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}}, "inside"),
    "ViT-Prisma gated": (prisma, {**W, **GATES}, {**PRISMA, "architecture": "gated"}, "beside"),
    "dictionary_learning AutoEncoder": (
        dictionary_learning,
        {**LINEAR, "bias": W["b_dec"]},
        _trainer("AutoEncoder"),
        "beside",
    ),
    "dictionary_learning AutoEncoderNew": (
        dictionary_learning,
        {**LINEAR, "decoder.bias": W["b_dec"]},
        _trainer("AutoEncoderNew"),
        "beside",
    ),
    "dictionary_learning gated": (
        dictionary_learning,
        {
            **{"encoder.weight": LINEAR["encoder.weight"], "decoder.weight": LINEAR["decoder.weight"]},
            **{"decoder_bias": W["b_dec"], "r_mag": GATES["r_mag"], "gate_bias": GATES["b_gate"]},
            "mag_bias": GATES["b_mag"],
        },
        _trainer("GatedAutoEncoder"),
        "beside",
    ),
    "dictionary_learning jumprelu": (
        dictionary_learning,
        {**W, **THRESHOLD},
        _trainer("JumpReluAutoEncoder"),
        "beside",
    ),
    "dictionary_learning topk": (dictionary_learning, {**LINEAR, **COUNT}, _trainer("AutoEncoderTopK", k=K), "beside"),
    "dictionary_learning batchtopk": (
        dictionary_learning,
        {**LINEAR, **COUNT},
        _trainer("BatchTopKSAE", k=K),
        "beside",
    ),
    "dictionary_learning matryoshka": (
        dictionary_learning,
        {**W, "k": COUNT["k"], "threshold": COUNT["threshold"], "group_sizes": torch.tensor([4, 6])},
        _trainer("MatryoshkaBatchTopKSAE", group_sizes=[4, 6]),
        "beside",
    ),
    "overcomplete": (overcomplete, BLOCK, {"class": "SAE", "nb_concepts": LATENTS}, "beside"),
    "overcomplete batch norm": (overcomplete, {**BLOCK, **BATCH_NORM}, {"class": "SAE"}, "beside"),
    "overcomplete layer norm": (overcomplete, {**BLOCK, **NORM}, {"class": "TopKSAE", "top_k": K}, "beside"),
    "overcomplete batchtopk": (overcomplete, BLOCK, {"class": "BatchTopKSAE", "running_threshold": 0.5}, "beside"),
    "overcomplete jump": (
        overcomplete,
        {**BLOCK, "thresholds": numbers(LATENTS, seed=14)},
        {"class": "JumpSAE"},
        "beside",
    ),
    "saev 0.1.0": (saev, W, {"d_vit": WIDTH, "exp_factor": 2, "sparsity_coeff": 4e-4, "ghost_grads": False}, "header"),
    "saev schema 2": (saev, W, _header(2, "BatchTopK", top_k=K), "header"),
    "saev schema 4": (saev, W, _header(4, "TopK", top_k=K), "header"),
    "saev schema 5": (saev, W, _header(5, "Relu", **SPARSITY), "header"),
    "saev schema 5 batchtopk": (
        saev,
        {**W, "activation.threshold": torch.tensor(0.7)},
        _header(5, "BatchTopK", top_k=K, momentum=0.1, **SPARSITY),
        "header",
    ),
    "sparsify": (
        sparsify,
        {
            "encoder.weight": LINEAR["encoder.weight"],
            "encoder.bias": W["b_enc"],
            "W_dec": W["W_dec"],
            "b_dec": W["b_dec"],
        },
        {"d_in": WIDTH, "expansion_factor": 2, "normalize_decoder": True, "num_latents": 0, "k": K, "signed": False},
        "beside",
    ),
    "OpenAI": (
        openai,
        {
            **{"encoder.weight": LINEAR["encoder.weight"], "decoder.weight": LINEAR["decoder.weight"]},
            **{"latent_bias": W["b_enc"], "pre_bias": W["b_dec"], "stats_last_nonzero": torch.zeros(LATENTS)},
        },
        {"activation": "TopK", "activation_state_dict": {"k": K, "postact_fn": "ReLU"}},
        "inside",
    ),
    "a file that describes itself": (plain, W, {"activation": "topk", "k": K, "centred": True}, "metadata"),
}
"""By name: the formula, the tensors, the settings, and where these lie."""


def write(folder, tensors, settings, relative_path):
    """The file of one kind."""
    folder.mkdir(parents=True, exist_ok=True)
    if relative_path in ("beside", "metadata"):
        header = {name: json.dumps(value) for name, value in settings.items()} if relative_path == "metadata" else None
        path = folder / "sae.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, header)
        if relative_path == "beside":
            (folder / "cfg.json").write_text(json.dumps(settings))
        return path
    path = folder / "sae.pt"
    torch.save({"state_dict": tensors, "cfg": settings} if relative_path == "inside" else tensors, path)
    if relative_path == "header":
        path.write_bytes(json.dumps(settings).encode() + b"\n" + path.read_bytes())
    return path
