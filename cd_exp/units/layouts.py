"""How libraries save sparse autoencoders: what each tensor and each switch means to their own `encode`.

One row of `LAYOUTS` per library and kind. A row is chosen by what the JSON beside or inside a file says (`when`), else
by the names of the tensors where they leave no doubt (`alone`). Whatever a row does not name is refused by name.

Sources, read and run in November 2026: SAELens 6.54 (and its rules for files before 6.0), dictionary_learning 0.1.0,
overcomplete 0.3.0, saev 0.1.0 (no `schema`) and its repository (schemas 1 to 5), ViT-Prisma's `sae.py`; OpenAI's
sparse_autoencoder, sparsify and Gemma Scope from their documented form.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cd_exp.units.encoder import Activation, Normalisation

ABSENT = None
"""In `when`: the switch is not there, or null."""

PRESENT = object()
"""In `when`: the switch is there, with any value."""

# Roles of tensors. A role ending in `_rows` is a matrix [latents, width], as nn.Linear keeps it.
WEIGHT_NAMES = ("W_enc", "encoder.weight", "encoder.final_block.0.weight")
"""The encoder's matrix: the first is [width, latents], the others [latents, width]."""

PARAMETERS = {"W_enc": "weight", "b_enc": "bias", "W_dec": "decoder", "b_dec": "centre"}
LINEAR = {"encoder.weight": "weight_rows", "encoder.bias": "bias", "decoder.weight": "unused"}
GATES = {"r_mag": "gate_scale", "b_gate": "gate_bias", "b_mag": "magnitude_bias"}
GATE_ROLES = ("magnitude_bias", "gate_scale", "gate_bias")
FINAL_BLOCK = {
    "encoder.final_block.0.weight": "weight_rows",
    "encoder.final_block.0.bias": "bias",
    "encoder.final_block.1.weight": "norm_gain",
    "encoder.final_block.1.bias": "norm_shift",
    "encoder.final_block.1.running_mean": "norm_mean",
    "encoder.final_block.1.running_var": "norm_variance",
    "encoder.final_block.1.num_batches_tracked": "unused",
    "dictionary": "unused",  # the decoder: `dictionary._weights`, `.multiplier`, and RA-SAE's `.C`, `.W`, `.Relax`
}

TRAINING = frozenset(
    # what any of the libraries writes about training, data and hardware; no encoder reads it
    [
        "pytorch-lightning_version",
        "global_step",
        "loops",
        "callbacks",
        "optimizer",
        "scheduler",
        "act_store_device",
        "activations_mixing_fraction",
        "adam_beta1",
        "adam_beta2",
        "anneal_start",
        "aux_loss_coefficient",
        "auxk_alpha",
        "autocast",
        "autocast_lm",
        "b_dec_init_method",
        "batch_size",
        "best_loss",
        "buffer",
        "cached_activations_path",
        "checkpoint_path",
        "cls_token_only",
        "commit",
        "compile_llm",
        "compile_sae",
        "context_size",
        "d_head",
        "data",
        "dataset",
        "dataset_name",
        "dataset_path",
        "dataset_train_path",
        "dataset_trust_remote_code",
        "dataset_val_path",
        "date",
        "dead_feature_threshold",
        "dead_feature_window",
        "decay_start",
        "decoder_heads_init",
        "decoder_init_norm",
        "device",
        "disable_concat_sequences",
        "dtype",
        "epoch",
        "epochs",
        "eval_batch_size_prompts",
        "eval_every_n_wandb_logs",
        "exclude_special_tokens",
        "expansion_factor",
        "feature_sampling_window",
        "feature_sampling_method",
        "finetuning_method",
        "finetuning_tokens",
        "format",
        "from_pretrained_path",
        "ghost_grads",
        "hook_eval",
        "hook_head_index",
        "hook_layer",
        "hook_name",
        "hook_point",
        "hook_point_head_index",
        "hook_point_layer",
        "image_size",
        "init_encoder_as_decoder_transpose",
        "initialization_method",
        "is_dataset_tokenized",
        "jumprelu_bandwidth",
        "jumprelu_init_threshold",
        "jumprelu_sparsity_loss_mode",
        "jumprelu_ste_to_input",
        "jumprelu_tanh_scale",
        "l0_coefficient",
        "l0_warm_up_steps",
        "l1_coefficient",
        "l1_penalty",
        "l1_warm_up_steps",
        "lib",
        "llm_compilation_mode",
        "llm_device",
        "lm_name",
        "log_activations_store_to_wandb",
        "log_optimizer_state_to_wandb",
        "log_to_wandb",
        "log_weights_to_wandb",
        "logger",
        "loss",
        "lp_norm",
        "lr",
        "lr_decay_steps",
        "lr_end",
        "lr_scheduler_name",
        "lr_warm_up_steps",
        "max_grad_norm",
        "metadata",
        "model_class_name",
        "model_from_pretrained_kwargs",
        "model_kwargs",
        "model_name",
        "model_path",
        "mse_loss_normalization",
        "n_batches_for_norm_estimate",
        "n_batches_in_buffer",
        "n_checkpoints",
        "n_eval_batches",
        "n_reinit_samples",
        "n_restart_cycles",
        "n_sparsity_updates",
        "n_validation_runs",
        "neuronpedia_id",
        "noise_scale",
        "normalize_sae_decoder",
        "normalize_w_dec",
        "num_epochs",
        "num_workers",
        "output_path",
        "p_end",
        "p_start",
        "pre_act_loss_coefficient",
        "prefetch_llm_batches",
        "prepend_bos",
        "reinit_blend",
        "reinit_enc_dec_tranpose",
        "remove_parallel_grads",
        "resample_steps",
        "resume_from_checkpoint",
        "run_name",
        "sae_compilation_mode",
        "sae_lens_training_version",
        "sae_lens_version",
        "save_final_checkpoint",
        "scale_sparsity_penalty_by_decoder_norm",
        "seed",
        "seqpos_slice",
        "sequence_separator_token",
        "sparsity_coeff",
        "sparsity_function",
        "sparsity_penalty",
        "sparsity_queue_length",
        "sparsity_warmup_steps",
        "step",
        "steps",
        "store_batch_size",
        "store_batch_size_prompts",
        "streaming",
        "submodule_name",
        "target_l0",
        "threshold_beta",
        "threshold_start_step",
        "tokens_per_buffer",
        "top_k_aux",
        "total_training_images",
        "total_training_steps",
        "total_training_tokens",
        "train_batch_size",
        "train_batch_size_tokens",
        "trainer_class",
        "training_tokens",
        "use_cached_activations",
        "use_chat_formatting",
        "use_ghost_grads",
        "use_patches_only",
        "verbose",
        "vit_model_cfg",
        "wandb_entity",
        "wandb_id",
        "wandb_log_frequency",
        "wandb_name",
        "wandb_project",
        "warmup_steps",
    ]
)


@dataclass(frozen=True)
class Layout:
    """How one library saves one kind of autoencoder.

    Attributes:
        library: its name, for errors and the manifest.
        tensors: the role of each tensor; a name stands for all that begin with it and a dot, too.
        activation: which latents fire; None where nothing in such a file says so.
        centred: whether the decoder's bias is taken from the input where no switch says otherwise; None where nothing
            in such a file says so.
        when: the switches, and the values of them, that tell the layout; None for one that no switch tells.
        switches: the role of each switch, `TRAINING` and those of `when` apart.
        normalisation: of the input, where no switch says otherwise; None where one has to.
        signed: `topk` takes the k largest pre-activations, and those below 0 stay.
        inclusive: a latent fires at its threshold, not only above it.
        alone: the names of the tensors tell the layout without any switch.
    """

    library: str
    tensors: Mapping[str, str]
    activation: Activation | None = None
    centred: bool | None = None
    when: Mapping[str, tuple[Any, ...]] | None = None
    switches: Mapping[str, str] = field(default_factory=dict)
    normalisation: Normalisation | None = "none"
    signed: bool = False
    inclusive: bool = False
    alone: bool = False


SIZES = {"d_in": "width", "d_sae": "latents"}
SAELENS_SWITCHES = {
    **SIZES,
    "apply_b_dec_to_input": "centred",
    "normalize_activations": "normalisation",
    "activation_fn_kwargs": "off",
    "reshape_activations": "unused",  # the layer's output comes with its heads side by side already
    "class": "unused",
    "finetuning_scaling_factor": "unused",  # concerns the decoder
    "use_error_term": "unused",  # concerns the decoder
    "d_out": "unused",
}
RELU = ("relu", ABSENT)
SAELENS = {"schema": (ABSENT,), "activation_fn": RELU}
SCALED = {"scaling_factor": "unused", "finetuning_scaling_factor": "unused"}  # concerns the decoder
JUMP = {"threshold": "threshold", "log_threshold": "log_threshold"}


def _saelens(architectures: tuple[str | None, ...], activation: Activation, **more: Any) -> Layout:
    tensors = {**PARAMETERS, **SCALED, **more.pop("tensors", {})}
    when = {"architecture": architectures, **SAELENS, **more.pop("when", {})}
    switches = {**SAELENS_SWITCHES, **more.pop("switches", {})}
    return Layout("SAELens", tensors, activation, more.pop("centred", True), when, switches, **more)


BEFORE_6 = {"d_sae": (PRESENT,), "hook_name": (PRESENT,)}
TOPK = {"k": "k", "rescale_acts_by_decoder_norm": "decoder_norm", "activation_fn_kwargs.k": "k"}
TOPK["use_sparse_activations"] = "unused"
SAELENS_LAYOUTS = (
    _saelens(("standard",), "relu"),
    _saelens((ABSENT,), "relu", when=BEFORE_6),
    _saelens(("jumprelu",), "jumprelu", tensors=JUMP),
    _saelens(("topk",), "topk", switches=TOPK, when={"activation_fn": (*RELU, "topk")}),
    _saelens(("standard",), "topk", switches=TOPK, when={"activation_fn": ("topk",)}),  # before 6.0
    _saelens((ABSENT,), "topk", switches=TOPK, when={**BEFORE_6, "activation_fn": ("topk",)}),
    _saelens(("gated",), "jumprelu", tensors=GATES),
    # A transcoder's b_dec belongs to another layer than the one that it reads.
    _saelens(
        ("transcoder",), "relu", tensors={"b_dec": "unused"}, centred=False, switches={"apply_b_dec_to_input": "off"}
    ),
    _saelens(
        ("jumprelu_transcoder",),
        "jumprelu",
        tensors={**JUMP, "b_dec": "unused"},
        centred=False,
        switches={"apply_b_dec_to_input": "off"},
    ),
    _saelens(
        ("skip_transcoder",),
        "relu",
        tensors={"b_dec": "unused", "W_skip": "unused"},
        centred=False,
        switches={"apply_b_dec_to_input": "off"},
    ),
)

PRISMA_SWITCHES = {
    **SIZES,
    "normalize_activations": "normalisation",
    "activation_fn_kwargs": "off",
    "is_transcoder": "off",
    "class": "unused",
    **dict.fromkeys(
        ("transcoder_with_skip_connection", "out_hook_point_layer", "layer_out_subtype", "d_out"), "unused"
    ),
    **dict.fromkeys(("layer_subtype", "min_l0", "min_explained_variance"), "unused"),
}


def _prisma(architecture: str, activation: Activation, function: str, **more: Any) -> Layout:
    when = {"vit_model_cfg": (PRESENT,), "architecture": (architecture,), "activation_fn": (function,)}
    tensors = {**PARAMETERS, **more.pop("tensors", {})}
    switches = {**PRISMA_SWITCHES, **more}
    return Layout("ViT-Prisma", tensors, activation, True, when, switches, normalisation=None)


PRISMA_LAYOUTS = (
    _prisma("standard", "relu", "relu"),
    _prisma("standard", "topk", "topk", **{"activation_fn_kwargs.k": "k"}),
    _prisma("gated", "jumprelu", "relu", tensors={**GATES, "b_enc": "unused"}),
)

DICTIONARY_SWITCHES = {
    "trainer.activation_dim": "width",
    "trainer.dict_size": "latents",
    "trainer.k": "k_of_tensor",
    # a whole module that was converted has these
    **{"activation_dim": "width", "dict_size": "latents", "training": "unused"},
    **dict.fromkeys(("trainer.group_fractions", "trainer.group_weights", "trainer.group_sizes"), "unused"),
    **{f"trainer.{name}": "unused" for name in (*TRAINING, "layer", "bandwidth")},
}
COUNTED = {"b_dec": "centre", "k": "k", "threshold": "threshold"}


def _dictionary(name: str, tensors: Mapping[str, str], activation: Activation, centred: bool, **more: Any) -> Layout:
    when = {"trainer.dict_class": (name,)}
    switches = {**DICTIONARY_SWITCHES, **more.pop("switches", {})}
    return Layout(f"dictionary_learning {name}", tensors, activation, centred, when, switches, **more)


DICTIONARY_LAYOUTS = (
    _dictionary("AutoEncoder", {**LINEAR, "bias": "centre"}, "relu", True, alone=True),
    _dictionary("AutoEncoderNew", {**LINEAR, "decoder.bias": "unused"}, "relu", False),
    _dictionary(
        "GatedAutoEncoder",
        {
            **{"encoder.weight": "weight_rows", "decoder.weight": "unused", "decoder_bias": "centre"},
            **{"r_mag": "gate_scale", "gate_bias": "gate_bias", "mag_bias": "magnitude_bias"},
        },
        "jumprelu",
        True,
        alone=True,
    ),
    _dictionary(
        "JumpReluAutoEncoder",
        {**PARAMETERS, "threshold": "threshold"},
        "jumprelu",
        False,
        switches={"apply_b_dec_to_input": "centred"},  # the only one that reads it
    ),
    # The same tensors for two kinds: of a file alone, the number of latents or the threshold may count.
    _dictionary("AutoEncoderTopK", {**LINEAR, **COUNTED, "threshold": "unused"}, "topk", True, alone=True),
    _dictionary("BatchTopKSAE", {**LINEAR, **COUNTED, "k": "unused"}, "batchtopk", True, alone=True),
    _dictionary(
        "MatryoshkaBatchTopKSAE",
        {**PARAMETERS, "k": "unused", "threshold": "threshold", "group_sizes": "unused"},
        "batchtopk",
        True,
        alone=True,
    ),
)

OVERCOMPLETE_SWITCHES = {
    **{"class": "unused", "nb_concepts": "latents", "training": "unused", "fitted": "unused", "bandwidth": "unused"},
    **{"threshold_momentum": "unused", "delta": "unused", "use_multiplier": "unused"},
}


def _overcomplete(names: tuple[str, ...], activation: Activation, *, alone: bool = False, **more: Any) -> Layout:
    tensors = {**FINAL_BLOCK, **more.pop("tensors", {})}
    switches = {**OVERCOMPLETE_SWITCHES, **more}
    return Layout("overcomplete", tensors, activation, False, {"class": names}, switches, inclusive=True, alone=alone)


OVERCOMPLETE_LAYOUTS = (
    _overcomplete(("SAE",), "relu"),
    _overcomplete(("TopKSAE", "RATopKSAE"), "topk", top_k="k"),
    _overcomplete(("BatchTopKSAE",), "batchtopk", top_k="unused", running_threshold="threshold"),
    _overcomplete(("JumpSAE", "RAJumpSAE"), "jumprelu", tensors={"thresholds": "log_threshold"}, alone=True),
)

SAEV_SIZES = {
    **dict.fromkeys(("d_vit", "d_model"), "width"),
    **{"d_sae": "latents", "exp_factor": "unused", "cls": "unused", "schema": "unused", "class": "unused"},
}
SAEV_SWITCHES = {
    **SAEV_SIZES,
    **dict.fromkeys(("activation.params.sparsity", "activation.params.kind", "activation.params.key"), "unused"),
    **dict.fromkeys(("activation.params.momentum", "activation.params.aux"), "unused"),
}


def _saev(
    schemas: tuple[int | None, ...], name: str | None, activation: Activation, centred: bool | None, **more: Any
) -> Layout:
    # Since commit e7ca004 (July 2025) `encode` leaves b_dec in; schema 1 was written before and after it.
    when: dict[str, tuple[Any, ...]] = {"schema": schemas, "architecture": (ABSENT,)}
    when |= {"d_vit": (PRESENT,)} if schemas == (ABSENT,) else {}
    when |= more.pop("when", {"activation.cls": (name,)})
    tensors = {**PARAMETERS, **more.pop("tensors", {})}
    return Layout("saev", tensors, activation, centred, when, {**SAEV_SWITCHES, **more.pop("switches", {})}, **more)


SAEV_COUNT = {"activation.params.top_k": "k"}
SAEV_THRESHOLD = {"activation.threshold": "threshold"}
SAEV_LAYOUTS = (
    _saev((ABSENT,), ABSENT, "relu", True),
    _saev((1,), ABSENT, "relu", None, when={"cls": ("Relu",), "activation.cls": (ABSENT,)}),
    _saev(
        (1,),
        ABSENT,
        "topk",
        None,
        when={"cls": ("TopK",), "activation.cls": (ABSENT,)},
        switches={"top_k": "k"},
        signed=True,
    ),
    _saev((1, 2, 3, 4, 5), "Relu", "relu", False),
    _saev((1, 2, 3, 4, 5), "TopK", "topk", False, switches=SAEV_COUNT, signed=True),
    _saev((2,), "BatchTopK", "topk", False, switches=SAEV_COUNT, signed=True),  # that version counts for each position
    _saev(
        (3, 4, 5),
        "BatchTopK",
        "batchtopk",
        False,
        switches={"activation.params.top_k": "unused"},
        tensors=SAEV_THRESHOLD,
    ),
    Layout("saev", {**PARAMETERS, **SAEV_THRESHOLD}, "batchtopk", False, alone=True),
)

DOCUMENTED_LAYOUTS = (  # from their documented form: no package of theirs was run
    Layout(
        "sparsify",
        {"encoder.weight": "weight_rows", "encoder.bias": "bias", "W_dec": "unused", "b_dec": "centre"},
        "topk",
        True,
        {"expansion_factor": (PRESENT,), "k": (PRESENT,), "architecture": (ABSENT,), "activation": ("topk", ABSENT)},
        {
            **{"d_in": "width", "num_latents": "unused", "k": "k", "normalize_decoder": "unused"},
            **{"signed": "off", "transcode": "off", "skip_connection": "off", "multi_topk": "unused"},
        },
    ),
    Layout(
        "OpenAI",
        {
            **{"encoder.weight": "weight_rows", "latent_bias": "bias", "pre_bias": "centre"},
            **{"decoder.weight": "unused", "stats_last_nonzero": "unused"},
        },
        "topk",
        True,
        {"activation": ("TopK",), "activation_state_dict.k": (PRESENT,)},
        {"activation_state_dict.k": "k", "activation_state_dict.postact_fn": "relu"},
        normalisation="layer_norm",
    ),
)

GEMMA_SCOPE = Layout("Gemma Scope", {**PARAMETERS, "threshold": "threshold"}, "jumprelu", False)
"""`params.npz`, recognised by being an .npz."""

PLAIN_SWITCHES = {
    **{"activation": "activation", "k": "k", "top_k": "k", "threshold": "threshold", "centred": "centred"},
    **{"normalisation": "normalisation", **SIZES},
}
PLAIN_TENSORS = {
    **{"scale": "scale", "input_scale": "scale", "k": "k", "top_k": "k", **JUMP},
    **dict.fromkeys(("b_dec", "bias", "pre_bias"), "centre"),
}
PLAIN_LAYOUTS = {
    "W_enc": Layout("", {**PLAIN_TENSORS, **PARAMETERS, **SCALED}, switches=PLAIN_SWITCHES),
    "encoder.weight": Layout(
        "", {**PLAIN_TENSORS, **LINEAR, "decoder.bias": "unused", "W_dec": "unused"}, switches=PLAIN_SWITCHES
    ),
    "encoder.final_block.0.weight": Layout(
        "overcomplete",
        {**FINAL_BLOCK, "running_threshold": "threshold"},
        centred=False,
        switches={**PLAIN_SWITCHES, **OVERCOMPLETE_SWITCHES},
        inclusive=True,
    ),
}
"""For a file whose library is not known, by the name of its matrix: what it leaves open has to be set."""

LAYOUTS = (  # ViT-Prisma before SAELens, whose switches it took over with some of its own
    *PRISMA_LAYOUTS,
    *SAELENS_LAYOUTS,
    *DICTIONARY_LAYOUTS,
    *OVERCOMPLETE_LAYOUTS,
    *SAEV_LAYOUTS,
    *DOCUMENTED_LAYOUTS,
)

ALIASES = {"activation_fn_str": "activation_fn", "hook_point": "hook_name", "dict_class": "trainer.dict_class"}
"""Switches that had another name in another version."""

TELLING = (
    *("architecture", "trainer.dict_class", "class", "schema", "cls", "activation.cls", "activation_fn", "activation"),
    *("activation_fn_kwargs", "apply_b_dec_to_input", "normalize_activations", "k", "top_k", "threshold", "centred"),
    *("normalisation", "d_sae", "vit_model_cfg"),
)
"""Switches that show a JSON file to describe an autoencoder, and not something else in the same folder."""

NORMALISATIONS: Mapping[Any, Normalisation] = {
    **{"none": "none", "None": "none", None: "none", False: "none"},
    **{"layer_norm": "layer_norm", "constant_norm_rescale": "constant_norm"},
    # SAELens' encode leaves the input as it is: the factor, or the whitening, is folded into the weights when known.
    **{"expected_average_only_in": "none", True: "none", "covariance_whitening": "none"},
}
FOLDED = ("expected_average_only_in", True, "covariance_whitening")
"""Normalisations whose numbers are not in the file."""
