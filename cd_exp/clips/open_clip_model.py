"""open_clip's models, the built-in synthetic data set's among them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cd_exp import shapes
from cd_exp.cache import hash_file
from cd_exp.clips import preprocessing, tokenizers
from cd_exp.clips.base import Clip, ImageTower
from cd_exp.clips.building import (
    ModelFiles,
    build_clip,
    build_without_weights,
    locate_folder_model,
    locate_hub_model,
    locate_library_model,
    read_tag_settings,
)
from cd_exp.errors import InputError
from cd_exp.io.download import MissingDownload
from cd_exp.io.hub import fetch_hub_file
from cd_exp.io.text import shorten_list
from cd_exp.records import Concepts

if TYPE_CHECKING:
    from PIL.Image import Image

HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


@dataclass(frozen=True)
class OpenClip(Clip):
    """An open_clip model.

    Args:
        architecture: open_clip's name, as in `ViT-B-16-quickgelu`; `hf-hub:OWNER/NAME` or `local-dir:FOLDER` with
            open_clip's own layout (`open_clip_config.json` beside the weights), which need no other setting.
        pretrained: the tag of its weights, as in `openai`.
        weights: a local file with these weights instead; with `pretrained` as well, the file must match what
            open_clip knows of that tag, and images are prepared as that tag says.
        hub: the hub repository of the weights, where known; else open_clip is asked.
        config: a JSON model config for an architecture that open_clip does not ship.
        bpe: the merges of the tokenizer, where they are not OpenAI's.
        tokenizer: a local folder with the tokenizer of a model whose tokenizer is on a hub (SigLIP, BiomedCLIP), and
            with the `config.json` of its text tower where that is on a hub too.
        preprocess: `mean`, `std`, `interpolation`, `resize_mode` of its images; the rest is as the tag has
            it, and without a tag as most tags of the architecture have it.
        name: for tables.
    """

    architecture: str
    pretrained: str | None = None
    weights: str | None = None
    hub: str | None = None
    config: str | None = None
    bpe: str | None = None
    tokenizer: str | None = None
    preprocess: Mapping[str, Any] | None = None
    name: str = "open_clip"

    @cached_property
    def source(self) -> ModelFiles:
        """The local files of the model."""
        schema, _, identifier = self.architecture.partition(":")
        if schema in ("hf-hub", "local-dir") and identifier:
            if self.pretrained or self.weights or self.hub or self.config:
                wrong = next(key for key in ("pretrained", "weights", "hub", "config") if getattr(self, key))
                raise InputError(
                    f"clip.{wrong} cannot be used with clip.architecture={self.architecture}, which has its own weights"
                )
            return locate_hub_model(identifier) if schema == "hf-hub" else locate_folder_model(Path(identifier))
        return locate_library_model(self.architecture, self._weights(), self.config)

    @cached_property
    def key(self) -> Mapping[str, Any]:
        """All that changes what the backbone computes, as plain JSON values.

        The tag stands for the preprocessing it has in this version of open_clip: asking costs 10 s of import. A hub
        tokenizer goes by the architecture; the published ones never changed.
        """
        source = self.source
        return {
            "open_clip": version("open_clip_torch"),
            "architecture": source.architecture,
            "weights": hash_file(source.weights),
            "config": hash_file(source.config) if source.config else None,
            "bpe": hash_file(Path(self.bpe)) if self.bpe and Path(self.bpe).is_file() else None,
            "tokenizer": tokenizers.hash_tokenizer_folder(self.tokenizer) if self.tokenizer else None,
            "preprocessing": {"tag": self.pretrained, **preprocessing.drop_null_settings(self.preprocess)},
        }

    @property
    def dim(self) -> int:
        """The length of an embedding."""
        return int(self.source.settings()["embed_dim"])

    def check(self) -> None:
        """Refuse what is missing for texts, before any image is opened: above all a tokenizer of the hub.

        Raises:
            InputError: says what is missing, and the setting that points to a local copy.
        """
        _ = self._tokenizer_folder

    def stored_images(self, ids: Sequence[str]) -> None:
        """None: the image tower computes them."""

    def image_tower(self) -> ImageTower:
        """The image tower in evaluation mode, on the CPU in float32."""
        model, transform = self._built
        return ImageTower(_Images(model).eval(), transform)

    def outline(self) -> "tuple[nn.Module, Callable[[Image], Tensor]]":
        """The model without any numbers, on torch's `meta` device, and what it does to an image."""
        try:
            source = self.source
        except MissingDownload:
            if ":" in self.architecture:  # only the download says what it is
                raise
            source = locate_library_model(self.architecture, Path(), self.config)
        return build_without_weights(source, tag=self.pretrained, settings=self.preprocess, text_folder=self.tokenizer)

    def embed(self, concepts: Concepts, *, device: torch.device) -> Float[Tensor, "concepts dim"]:
        """The text embedding of each concept; several templates are averaged after normalising."""
        tokenizer = self._tokenizer  # first: a missing file is reported before the model is built
        model, _ = self._built
        model.to(device)
        by_template = []
        for prompts in _format_prompts(concepts):
            rows = [_encode_texts(model, tokenizer(batch).to(device)).cpu() for batch in _split_batches(prompts, 256)]
            by_template.append(torch.cat(rows))
        model.to("cpu")
        if len(by_template) == 1:
            return by_template[0]
        return torch.stack([nn.functional.normalize(embedded, dim=1) for embedded in by_template]).mean(0)

    def notes(self, concepts: Concepts) -> tuple[str, ...]:
        """What a reader should know of the embedded texts: the prompts that are longer than CLIP reads."""
        long = tokenizers.find_long_prompts(
            self._tokenizer, (prompt for prompts in _format_prompts(concepts) for prompt in prompts)
        )
        if not long:
            return ()
        shown = shorten_list([repr(prompt if len(prompt) <= 60 else prompt[:57] + "...") for prompt in long])
        context = self._tokenizer.context_length
        return (f"{self.name}: prompts longer than its context of {context} tokens, cut there: {len(long)} ({shown})",)

    def logits(self) -> tuple[float, float | None]:
        """The scale of the cosine and the bias as trained: SigLIP's loss has a bias, CLIP's has none."""
        model, _ = self._built
        bias = getattr(model, "logit_bias", None)
        return float(model.logit_scale.detach().exp()), None if bias is None else float(bias.detach())  # type: ignore[operator]

    @cached_property
    def _built(self) -> "tuple[nn.Module, Callable[[Image], Tensor]]":
        return build_clip(self.source, tag=self.pretrained, settings=self.preprocess, text_folder=self.tokenizer)

    @cached_property
    def _tokenizer(self) -> Any:
        text = self.source.settings()["text_cfg"]
        return tokenizers.build_tokenizer(
            text, architecture=self.architecture, folder=self._tokenizer_folder, bpe=self.bpe
        )

    @cached_property
    def _tokenizer_folder(self) -> Path | None:
        if self.tokenizer:
            return tokenizers.check_tokenizer_folder(self.tokenizer)
        return self.source.tokenizer or tokenizers.download_tokenizer(self.source.settings()["text_cfg"])

    def _weights(self) -> Path:
        """The local file of the weights, downloaded where it is not there."""
        if self.weights is not None:
            if not Path(self.weights).is_file():
                raise InputError(f"clip.weights={self.weights}: there is no such file (seen from {Path.cwd()})")
            return Path(self.weights)
        if self.pretrained is None:
            raise InputError(f"clip {self.architecture}: set clip.pretrained=TAG or clip.weights=FILE")
        if self.hub is not None:
            return fetch_hub_file(self.hub, *HUB_FILES, setting="clip.weights=FILE")
        repository, _, filename = read_tag_settings(self.architecture, self.pretrained)["hf_hub"].rpartition("/")
        return fetch_hub_file(repository, *([filename] if filename else HUB_FILES), setting="clip.weights=FILE")


def shapes_clip() -> OpenClip:
    """The CLIP of the built-in synthetic data set."""
    return OpenClip(
        architecture=shapes.CLIP,
        config=str(shapes.clip_config()),
        weights=str(shapes.clip_weights()),
        bpe=str(shapes.tokenizer_merges()),
        name="shapes",
    )


class _Images(nn.Module):
    """The image tower of a model as a module of its own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.encode_image(images)  # type: ignore[operator]


@torch.inference_mode()
def _encode_texts(model: nn.Module, tokens: Tensor) -> Tensor:
    return model.encode_text(tokens).float()  # type: ignore[operator]


def _format_prompts(concepts: Concepts) -> list[list[str]]:
    return [[template.replace("{}", name) for name in concepts.names] for template in concepts.templates]


def _split_batches(items: list[str], size: int) -> list[list[str]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
