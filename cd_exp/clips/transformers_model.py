"""CLIP models of Hugging Face transformers, from the folder that `save_pretrained` wrote."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cd_exp.cache import hash_file
from cd_exp.clips.base import Clip, ImageTower
from cd_exp.errors import InputError, describe_error
from cd_exp.io.text import shorten_list
from cd_exp.records import Concepts

if TYPE_CHECKING:
    from PIL.Image import Image

NEEDED = ("config.json", "preprocessor_config.json")
READ = (".json", ".txt", ".model", ".safetensors", ".bin")
"""The ends of the names of all files that `from_pretrained` reads."""
BATCH = 256


@dataclass(frozen=True)
class Transformers(Clip):
    """A model with `get_image_features` and `get_text_features`: CLIP, SigLIP, ALIGN, Chinese CLIP, dual encoders.

    Code that lies in the folder is not run (`trust_remote_code` is off), and nothing is downloaded.

    Args:
        folder: what `save_pretrained` of the model, its image processor and its tokenizer wrote.
        name: for tables.
    """

    folder: str
    name: str = "transformers"

    @cached_property
    def key(self) -> Mapping[str, Any]:
        """All that changes what the backbone computes, as plain JSON values."""
        files = {path.name: hash_file(path) for path in sorted(self._place.iterdir()) if path.suffix in READ}
        return {"transformers": version("transformers"), "files": files}

    def check(self) -> None:
        """Refuse a folder that lacks a file, before any image is opened."""
        _ = self._place

    def image_tower(self) -> ImageTower:
        """The image tower in evaluation mode, on the CPU in float32."""
        return ImageTower(_Images(self._model).eval(), self._prepare)

    def embed(self, concepts: Concepts, *, device: torch.device) -> Float[Tensor, "concepts dim"]:
        """The text embedding of each concept; several templates are averaged after normalising."""
        model = self._model.to(device)
        by_template = []
        for template in concepts.templates:
            prompts = [template.replace("{}", name) for name in concepts.names]
            batches = [prompts[start : start + BATCH] for start in range(0, len(prompts), BATCH)]
            by_template.append(torch.cat([self._texts(model, batch, device) for batch in batches]))
        model.to("cpu")
        if len(by_template) == 1:
            return by_template[0]
        return torch.stack([nn.functional.normalize(embedded, dim=1) for embedded in by_template]).mean(0)

    def logits(self) -> tuple[float, float | None]:
        """The scale of the cosine and the bias as trained: SigLIP's loss has a bias, CLIP's has none."""
        scale, bias = getattr(self._model, "logit_scale", None), getattr(self._model, "logit_bias", None)
        if scale is None:
            return super().logits()
        return float(scale.detach().exp()), None if bias is None else float(bias.detach())

    @cached_property
    def _place(self) -> Path:
        folder = Path(self.folder).expanduser()
        if not folder.is_dir():
            raise InputError(f"clip.folder={self.folder}: there is no such folder (seen from {Path.cwd()})")
        missing = [name for name in NEEDED if not (folder / name).is_file()]
        if missing:
            raise InputError(
                f"clip.folder={self.folder} has no {', '.join(missing)}; expected what save_pretrained of the model, "
                "its image processor and its tokenizer writes"
            )
        if find_spec("transformers") is None:
            raise InputError("clip=transformers needs the package: pip install transformers")
        return folder

    def _load(self, kind: str, **options: Any) -> Any:
        """What transformers' class of that name reads from the folder."""
        import transformers

        try:
            return getattr(transformers, kind).from_pretrained(str(self._place), local_files_only=True, **options)
        except Exception as error:  # whatever class reads this kind of model raises what it likes
            raise InputError(
                f"clip.folder={self.folder} cannot be read by {kind}: {describe_error(error)[:300]}"
            ) from error

    @cached_property
    def _model(self) -> nn.Module:
        model, info = self._load("AutoModel", output_loading_info=True)
        missing = sorted(str(name) for name in info["missing_keys"])
        if missing:  # transformers fills them with random numbers
            raise InputError(f"clip.folder={self.folder} lacks weights of its model: {shorten_list(missing)}")
        wanted = [name for name in ("get_image_features", "get_text_features") if not hasattr(model, name)]
        if wanted:
            raise InputError(f"clip.folder={self.folder} holds a {type(model).__name__} without {' and '.join(wanted)}")
        return model.eval().float()

    @cached_property
    def _processor(self) -> Any:
        return self._load("AutoImageProcessor")

    def _prepare(self, image: "Image") -> Tensor:
        return torch.as_tensor(self._processor(images=image, return_tensors="pt")["pixel_values"])[0].float()

    @cached_property
    def _tokenizer(self) -> Any:
        return self._load("AutoTokenizer")

    @torch.inference_mode()
    def _texts(self, model: nn.Module, prompts: list[str], device: torch.device) -> Tensor:
        config = json.loads((self._place / "config.json").read_text(encoding="utf-8"))
        # SigLIP was trained on texts of full length; CLIP reads up to the end of the text, whatever follows.
        fixed = str(config.get("model_type", "")).startswith("siglip")
        length = self._context(model)
        options: dict[str, Any] = {"padding": "max_length" if fixed else True, "truncation": True, "max_length": length}
        tokens = self._tokenizer(prompts, return_tensors="pt", **options).to(device)
        return _rows(model.get_text_features(**tokens)).cpu()  # type: ignore[operator]

    def _context(self, model: nn.Module) -> int:
        """How many tokens the text tower reads."""
        text = getattr(model.config, "text_config", model.config)
        lengths = (getattr(text, "max_position_embeddings", None), getattr(self._tokenizer, "model_max_length", None))
        return min(int(length) for length in lengths if length)


class _Images(nn.Module):
    """The image tower of a model as a module of its own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return _rows(self.model.get_image_features(pixel_values=images))  # type: ignore[operator]


def _rows(output: Any) -> Tensor:
    """The embeddings; since its version 5 transformers gives them within a record."""
    return (output if isinstance(output, Tensor) else output.pooler_output).float()
