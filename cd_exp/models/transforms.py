"""Whatever a user's factory returns for a transform, as a function from an image to a float32 tensor."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from cd_exp.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

ImageTransform = Callable[["Image"], Tensor]


def adapt_transform(transform: object, network: nn.Module, *, name: str) -> tuple[ImageTransform, tuple[str, ...]]:
    """The transform to use, and a note where the caller named none.

    Args:
        transform: a function of one image; a transformers image processor; or None, for the preprocessing that a
            timm network says of itself, and that of ImageNet for any other.
        network: the network that it feeds.
        name: of the network, for the note.

    Raises:
        InputError: it cannot be called.
    """
    if transform is None:
        return _default_transform(network, name)
    if hasattr(transform, "model_input_names") and callable(transform):
        return Processor(transform), ()
    if not callable(transform):
        raise InputError(f"the transform of {name} is a {type(transform).__name__}; expected a function of one image")
    return (transform if _ends_in_numbers(transform) else Adapter(transform)), ()


def make_timm_transform(network: nn.Module, *, size: int | Sequence[int] | None = None) -> ImageTransform:
    """The preprocessing that a timm network says of itself, for the size of input that it was built for.

    Args:
        network: made by timm.
        size: the option `img_size` that it was made with; timm leaves it out of what the network says of itself.
    """
    import timm

    config = timm.data.resolve_model_data_config(network)
    embedding: object = getattr(network, "patch_embed", None)
    if size is None and getattr(embedding, "strict_img_size", False):
        size = getattr(embedding, "img_size", None)
    if size is not None:
        pair = (size, size) if isinstance(size, int) else tuple(size)
        config["input_size"] = (config["input_size"][0], *pair)
    return timm.data.create_transform(**config, is_training=False)


def _default_transform(network: nn.Module, name: str) -> tuple[ImageTransform, tuple[str, ...]]:
    import timm

    without = f"{name} came without a transform"
    if getattr(network, "pretrained_cfg", None):
        return make_timm_transform(network), (f"{without}; that of its timm architecture was used",)
    transform = timm.data.create_transform((3, 224, 224), crop_pct=0.875, interpolation="bicubic", is_training=False)
    return transform, (f"{without}; ImageNet's was used: 224 x 224 from the middle, its mean and deviation",)


def _ends_in_numbers(transform: object) -> bool:
    """Whether it is torchvision's usual chain, whose steps can be split and whose output is known."""
    from torchvision import transforms

    steps = transform.transforms if isinstance(transform, transforms.Compose) else []
    return len(steps) > 1 and type(steps[-2]) is transforms.ToTensor and type(steps[-1]) is transforms.Normalize


@dataclass(frozen=True)
class Adapter:
    """A function of one image, whose output may be an array, of another type, or a batch of one."""

    transform: Callable[[Any], Any]

    def __call__(self, image: "Image") -> Tensor:
        """The image as a float32 tensor."""
        return as_network_input(self.transform(image))


@dataclass(frozen=True)
class Processor:
    """An image processor of transformers."""

    processor: Callable[..., Mapping[str, Any]]

    def __call__(self, image: "Image") -> Tensor:
        """The image as a float32 tensor."""
        return as_network_input(self.processor(images=image, return_tensors="pt"))


def as_network_input(value: object) -> Tensor:
    """What a transform gave as a float32 tensor without a batch axis.

    Raises:
        InputError: it is no numbers, or its channels are on the last axis.
    """
    if isinstance(value, Mapping):
        if "pixel_values" not in value:
            raise InputError(f"the transform gives {', '.join(map(str, value)) or 'nothing'}, no pixel_values")
        value = value["pixel_values"]
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value))
    if not isinstance(value, Tensor):
        raise InputError(f"the transform gives a {type(value).__name__}; expected a tensor (end it with ToTensor)")
    if value.ndim == 4 and value.shape[0] == 1:
        value = value[0]
    if value.ndim == 3 and value.shape[2] in (1, 3) and value.shape[0] not in (1, 3, 4):
        shape = " x ".join(map(str, value.shape))
        raise InputError(f"the transform gives {shape}, channels last; expected channels first (end it with ToTensor)")
    return value.to(torch.float32)
