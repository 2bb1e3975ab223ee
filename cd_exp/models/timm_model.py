"""timm's models, and the two that are built from them: that of `shapes` and the Places365 network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cd_exp import shapes
from cd_exp.cache import hash_file
from cd_exp.errors import InputError, describe_error, unknown_name_error
from cd_exp.io.download import fetch_file
from cd_exp.io.hub import fetch_hub_file
from cd_exp.models.base import Recipe
from cd_exp.models.checkpoints import check_weights_file, load_weights
from cd_exp.models.transforms import make_timm_transform
from cd_exp.records import Network

PLACES365 = {
    "weights": "http://places2.csail.mit.edu/models_places365/resnet18_places365.pth.tar",
    "classes": "https://raw.githubusercontent.com/csailvision/places365/master/categories_places365.txt",
}


@dataclass(frozen=True)
class TimmModel(Recipe):
    """Any timm model by its full tag, such as `resnet50.tv_in1k`; `weights` names a local file instead of the hub's."""

    architecture: str = ""

    @cached_property
    def weights_file(self) -> Path:
        """The local file of the weights; from timm's repository on the hub unless `checkpoint` names a file."""
        if self.weights is not None:
            return check_weights_file(self.weights, "model.weights")
        if "." not in self.architecture:
            raise InputError(
                f"model {self.architecture!r} names no weights; write the full tag, as in resnet50.tv_in1k, "
                "or set model.weights=FILE"
            )
        return fetch_hub_file(f"timm/{self.architecture}", "model.safetensors", setting="model.weights=FILE")

    @cached_property
    def key(self) -> Mapping[str, Any]:
        """All that changes what the network computes, as plain JSON values."""
        return {
            "timm": version("timm"),
            "architecture": self.architecture,
            "options": dict(self.options),
            "weights": hash_file(self.weights_file),
            "checkpoint": [self.checkpoint_key, self.checkpoint_prefix],
        }

    def build(self) -> Network:
        """The network in evaluation mode, on the CPU in float32."""
        weights = self.weights_file
        module = self._create_network()
        notes = load_weights(module, weights, key=self.checkpoint_key, prefix=self.checkpoint_prefix)
        return replace(self._network(module), notes=notes)

    def outline(self) -> Network:
        """The network without any numbers, on torch's `meta` device: enough for shapes and cost."""
        with torch.device("meta"):
            module = self._create_network()
        return self._network(module)

    def _network(self, module: nn.Module) -> Network:
        return Network(
            module.eval(), make_timm_transform(module, size=self.options.get("img_size")), self.prefix_tokens
        )

    def _create_network(self) -> nn.Module:
        import timm  # 8 s, and not needed where the features are stored

        try:
            return timm.create_model(self.architecture, pretrained=False, **dict(self.options))
        except RuntimeError as error:
            if "Unknown model" not in str(error):
                raise
            raise unknown_name_error("architecture", self.architecture, timm.list_models(pretrained=True)) from error
        except TypeError as error:
            raise InputError(
                f"model.options: {self.architecture} cannot be built with them: {describe_error(error)}"
            ) from error


def shapes_model(*, layers: Sequence[str], final: str = "fc") -> TimmModel:
    """The classifier of `shapes`, whose `layer4` holds units trained to detect its attributes."""
    return TimmModel(
        name="shapes",
        architecture=shapes.RESNET,
        options=shapes.resnet_arguments(),
        weights=str(shapes.resnet_weights()),
        layers=tuple(layers),
        final=final,
        class_names=shapes.CLASSES,
        hidden_truth={"layer4": [*shapes.ATTRIBUTES, *[""] * (shapes.LAYER4 - len(shapes.ATTRIBUTES))]},
    )


def places365(
    *,
    layers: Sequence[str],
    final: str = "fc",
    weights: str | None = None,
    class_names: str | None = None,
    folder: str,
) -> TimmModel:
    """The ResNet-18 trained on Places365, from its authors' server; both files can be local copies instead.

    Source: the Places365 models (Zhou et al., TPAMI 2017), the target of Table 2 of CLIP-Dissect.
    """
    checkpoint = weights or fetch_file(PLACES365["weights"], None, Path(folder), setting="model.weights=FILE")
    names = class_names or fetch_file(PLACES365["classes"], None, Path(folder), setting="model.class_names=FILE")
    return TimmModel(
        name="resnet18_places",
        architecture="resnet18.tv_in1k",
        options={"num_classes": 365},
        weights=str(checkpoint),
        layers=tuple(layers),
        final=final,
        class_names=str(names),
    )
