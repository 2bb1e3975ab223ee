"""A CLIP backbone from the user's own code."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from cd_exp.clips.base import Clip, ImageTower
from cd_exp.errors import InputError
from cd_exp.plugins import UserFunction, door, load_function
from cd_exp.records import Concepts

NEEDED = ("preprocess", "encode_image", "encode_text")
BATCH = 256


@dataclass(frozen=True)
class CustomClip(Clip):
    """An object of the user's own with `preprocess(image)`, `encode_image(batch)` and `encode_text(list of str)`.

    Since code can compute anything, the key covers the source, the options, the weights it holds, and what it makes of
    a few fixed images and words; the backbone is therefore always built.
    """

    factory: str
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = "custom"

    def __post_init__(self) -> None:
        _ = self.key  # errors are raised before anything runs

    @property
    def own_code(self) -> bool:
        """No key can cover all that such code depends on: it is asked for a few of the run's own words and images."""
        return True

    @cached_property
    def _function(self) -> UserFunction:
        return load_function(self.factory, setting="clip.factory")

    @cached_property
    def _made(self) -> Any:
        made = self._function(self.options)
        missing = [name for name in NEEDED if not callable(getattr(made, name, None))]
        if missing:
            raise InputError(
                f"clip.factory={self.factory} returned {type(made).__name__} without {', '.join(missing)}; expected an "
                "object with preprocess(image), encode_image(batch) and encode_text(list of str)"
            )
        for module in _list_modules(made).values():
            module.eval()
        return made

    @cached_property
    def key(self) -> Mapping[str, Any]:
        """All that changes what the backbone computes, as plain JSON values."""
        return {
            "custom": self._function.key,
            "options": {key: repr(value) for key, value in sorted(self.options.items())},
            "weights": _hash_weights(_list_modules(self._made)),
            "gives": self._behaviour(),
        }

    def stored_images(self, ids: Sequence[str]) -> None:
        """None: the image tower computes them."""

    def image_tower(self) -> ImageTower:
        """The image tower in evaluation mode, on the CPU in float32."""
        return ImageTower(_Images(self._made, self.factory).eval(), self._prepare)

    def embed(self, concepts: Concepts, *, device: torch.device) -> Float[Tensor, "concepts dim"]:
        """The text embedding of each concept; several templates are averaged after normalising."""
        del device  # where its text tower runs is the object's own business
        by_template = []
        for template in concepts.templates:
            prompts = [template.replace("{}", name) for name in concepts.names]
            batches = [prompts[start : start + BATCH] for start in range(0, len(prompts), BATCH)]
            by_template.append(torch.cat([self._texts(batch) for batch in batches]))
        if len(by_template) == 1:
            return by_template[0]
        return torch.stack([nn.functional.normalize(embedded, dim=1) for embedded in by_template]).mean(0)

    @torch.inference_mode()
    def _texts(self, prompts: list[str]) -> Tensor:
        with door(f"clip.factory={self.factory}: encode_text failed"):
            rows = self._made.encode_text(prompts)
        return _check_rows(rows, len(prompts), f"clip.factory={self.factory}: encode_text").cpu()

    def _prepare(self, image: Image.Image) -> Tensor:
        with door(f"clip.factory={self.factory}: preprocess failed"):
            values = self._made.preprocess(image)
        values = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
        if not (isinstance(values, Tensor) and values.ndim == 3):
            came = f"{values.ndim} axes" if isinstance(values, Tensor) else type(values).__name__
            raise InputError(
                f"clip.factory={self.factory}: preprocess gives {came}, expected a tensor of channels x height x width"
            )
        return values.float()

    @torch.inference_mode()
    def _behaviour(self) -> str:
        """A digest of embeddings to two decimals of their length: machines differ in the seventh."""
        images = torch.stack([self._prepare(image) for image in _test_images()])
        rows = [_Images(self._made, self.factory)(images).cpu(), self._texts(["a photo of a dog", "striped", "red"])]
        if rows[0].shape[1] != rows[1].shape[1]:
            raise InputError(
                f"clip.factory={self.factory}: images have {rows[0].shape[1]} dimensions and texts {rows[1].shape[1]}; "
                "both must lie in one space"
            )
        coarse = nn.functional.normalize(torch.cat(rows), dim=1).mul(100).round().to(torch.int32)
        return hashlib.sha256(coarse.contiguous().numpy().tobytes()).hexdigest()


class _Images(nn.Module):
    """The image tower as a module of its own; what networks the object holds move with it."""

    def __init__(self, made: Any, factory: str) -> None:
        super().__init__()
        self.encode: Callable[[Tensor], Any] = made.encode_image
        self.factory = factory
        self.held = nn.ModuleDict({name.replace(".", "_"): module for name, module in _list_modules(made).items()})

    def forward(self, images: Tensor) -> Tensor:
        with door(f"clip.factory={self.factory}: encode_image failed"):
            rows = self.encode(images)
        return _check_rows(rows, len(images), f"clip.factory={self.factory}: encode_image")


def _list_modules(made: Any) -> dict[str, nn.Module]:
    """The networks that an object is or holds."""
    if isinstance(made, nn.Module):
        return {"whole": made}
    return {name: value for name, value in vars(made).items() if isinstance(value, nn.Module)}


def _hash_weights(modules: Mapping[str, nn.Module]) -> str:
    seen = hashlib.sha256()
    for module_name, module in sorted(modules.items()):
        for name, tensor in sorted(module.state_dict().items()):
            seen.update(f"{module_name}.{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            seen.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return seen.hexdigest()


def _check_rows(values: Any, count: int, where: str) -> Float[Tensor, "rows dim"]:
    values = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    if not (isinstance(values, Tensor) and values.ndim == 2 and len(values) == count):
        came = f"a tensor {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise InputError(f"{where} gives {came} for {count} inputs, expected a tensor of {count} x dimensions")
    if values.is_complex():
        raise InputError(f"{where} gives complex numbers, {values.dtype}; give real ones, as their .real or .abs()")
    return values.float()


def _test_images() -> list[Image.Image]:
    """Noise and a gradient: two different backbones, or settings of one, embed them differently."""
    noise = np.random.default_rng(0).integers(0, 256, (240, 260, 3), dtype=np.uint8)
    ramp = np.broadcast_to(np.linspace(0, 255, 260, dtype=np.uint8)[None, :, None], (240, 260, 3))
    return [Image.fromarray(noise), Image.fromarray(np.ascontiguousarray(ramp))]
