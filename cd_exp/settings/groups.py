"""What the settings of the groups take, where their constructor's signature says less than a user can get wrong.

A key is `GROUP.SETTING`, or `GROUP.CONSTRUCTOR.SETTING` where constructors of one group differ. What is not here takes
what the annotation in its constructor's signature says, which may be as exact: `Annotated[int, Ge(1)]`.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt, MinLen

from cd_exp.settings.values import Count, NotNegative, OneOf, Pattern, Positive, Share, Text, Texts, Whole

TAG = r"[^/\\#?%:]{1,128}"  # what W&B takes as the name of a project

OF_EVERY: Mapping[str, tuple[str, ...]] = {
    "probe": ("limit", "seed", "range", "orient", "cache", "url", "checksum"),
}
"""Settings that every choice of a group takes, and one function instead of each constructor."""

OF_THE_RUN: Mapping[str, tuple[str, ...]] = {"probe": ("on_error",)}
"""Settings that lie in a group and are the run's own."""

DECLARED: Mapping[str, Any] = {
    "model.name": Text,
    "model.layers": Texts,
    "model.final": Text | None,
    "model.architecture": Text,
    "model.weights": Text | None,
    "model.class_names": Text | list[str] | None,
    "model.hidden_truth": Mapping[str, str | list[str]],
    "model.options": Mapping[str, Any],
    "model.prefix_tokens": Whole | None,
    "model.units_axis": Annotated[int, Ge(1), Le(3)] | None,
    "probe.range": list[float] | None,
    "probe.orient": Annotated[str, OneOf("exif")] | None,
    "probe.cache": Text | None,
    "probe.url": Annotated[str, Pattern(r"https?://\S+", "an address that begins with http:// or https://")] | None,
    "probe.checksum": Annotated[str, Pattern(r"(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})", "md5:... or sha256:...")]
    | None,
    "probe.column": Text | None,
    "probe.size": Count,
    "probe.seed": Whole | None,
    "probe.shapes.seed": Whole,
    "probe.limit": Count | None,
    "probe.split": Text | None,
    "probe.partition": Count,
    "probe.root": Text | None,
    "probe.path": Text,
    "probe.folder.root": Text,
    "probe.name": Text,
    "probe.options": Mapping[str, Any],
    "concepts.words.names": Annotated[list[Any], MinLen(1)],
    "concepts.imagenet.names": Annotated[str, OneOf("published", "lemmas", "openai")],
    "concepts.count": Count,
    "concepts.path": Text,
    "concepts.name": Text,
    "concepts.templates": Text | Texts | None,
    "concepts.options": Mapping[str, Any],
    "clip.name": Text,
    "clip.architecture": Text,
    "clip.pretrained": Text | None,
    "clip.weights": Text | None,
    "clip.hub": Text | None,
    "clip.config": Text | None,
    "clip.bpe": Text | None,
    "clip.tokenizer": Text | None,
    "clip.preprocess": Mapping[str, Any] | None,
    "clip.folder": Text,
    "clip.options": Mapping[str, Any],
    "similarity.top_k": Annotated[Count, Le(10**7)],
    "similarity.scale": Positive,
    "similarity.prior_weight": float,
    "similarity.first_membership": Share,
    "similarity.last_membership": Share,
    "similarity.min_probability": Positive,
    "similarity.prior_units": Annotated[str, OneOf("all", "alive")],
    "similarity.gain": Positive,
    "similarity.match_ridge": NotNegative,
    "similarity.unit_ridge": NotNegative,
    "similarity.few_units": NotNegative,
    "similarity.centre_weight": NotNegative,
    "similarity.centre_width": Positive,
    "similarity.threshold": float,
    "similarity.half_prior_units": NotNegative,
    "similarity.shrinkage": NotNegative,
    "similarity.name_weight": float,
    "similarity.min_norm": Positive,
    "similarity.top_fraction": Annotated[float, Gt(0), Le(1)],
    "similarity.power": Positive,
    "similarity.scale_power": float,
    "similarity.permutations": Count,
    "similarity.seed": Whole,
    "similarity.options": Mapping[str, Any],
    "units.layer": Text,
    "units.weights": Text,
    "units.path": Text,
    "units.activation": Annotated[str, OneOf("none", "relu", "topk", "batchtopk", "jumprelu")],
    "units.k": Count | None,
    "units.threshold": float | None,
    "units.pool": Annotated[str, OneOf("max", "mean", "cls", "fraction")],
    "units.tokens_per_image": Count,
    "units.truth": Mapping[str, str | list[str]],
    "units.names": Texts | None,
    "baseline.quantile": Annotated[float, Gt(0), Lt(1)],
    "baseline.min_iou": Annotated[float, Gt(0), Lt(1)],
    "baseline.rename": Mapping[str, str],
    "baseline.layer": Text | None,
    "baseline.published.path": Text | Annotated[Mapping[str, Text], MinLen(1)],
    "baseline.name": Text,
    "baseline.options": Mapping[str, Any],
    "judge.options": Mapping[str, Any],
    "logger.options": Mapping[str, Any],
    "baseline.length": Count,
    "baseline.beam": Count,
    "baseline.categories": Texts | None,
    "baseline.source": Annotated[str, OneOf("clip", "annotations")],
    "baseline.gain": Share,
    "baseline.candidates": Count,
    "baseline.penalty": Annotated[float, Gt(0), Le(1)],
    "baseline.lasso": Annotated[float, Gt(0), Le(1)],
    "baseline.min_share": Annotated[float, Ge(0), Lt(1)],
    "baseline.max_share": Annotated[float, Gt(0), Le(1)],
    "judge.clip": Text,
    "judge.folder": Text | None,
    "judge.held_out": Annotated[float, Gt(0), Lt(1)],
    "judge.share": Annotated[float, Gt(0), Lt(1)] | None,
    "judge.scale": Positive | None,
    "judge.bias": float | None,
    "judge.scenes": Count,
    "judge.pairs": Count,
    "logger.project": Annotated[str, Pattern(TAG, "a name of at most 128 characters without / \\ # ? % :")],
    "logger.entity": Text | None,
    "logger.mode": Annotated[str, OneOf("offline", "online", "disabled")],
    "logger.tags": list[Text],
    "logger.units": Whole | Annotated[str, OneOf("all")],
    "logger.system_metrics": bool,
    "logger.images": Whole,
    "logger.init_timeout": Count,
    "logger.finish_timeout": Count,
}

ON_ERROR = Annotated[str, OneOf("error", "skip")]
"""Of `probe.on_error`, which is the run's business and no constructor's."""


def declared(group: str, constructor: str, setting: str) -> Any | None:
    """What a setting takes; None where only the constructor's signature says it."""
    return DECLARED.get(f"{group}.{constructor}.{setting}", DECLARED.get(f"{group}.{setting}"))
