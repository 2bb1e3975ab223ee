"""What every CLIP backbone is."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cd_exp.records import Concepts

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class ImageTower:
    """CLIP's image tower ready to run: a batch of transformed images to [images, dim], not normalised."""

    module: nn.Module
    transform: "Callable[[Image], Tensor]"


SCALE = 100.0
"""Of the cosine, for a backbone that does not say its own: CLIP's training ends at this one."""


class Clip(ABC):
    """A CLIP backbone: image and text embeddings in one space, not normalised."""

    name: str

    def check(self) -> None:  # noqa: B027  refuses nothing by default
        """Raise InputError where texts cannot be embedded, before any image is opened."""

    def notes(self, concepts: Concepts) -> Sequence[str]:
        """What a reader should know of these texts: prompts longer than the backbone reads."""
        del concepts
        return ()

    @property
    def own_code(self) -> bool:
        """Whether it comes from code that no key can cover, so that what it gives has to be compared."""
        return False

    @property
    def dim(self) -> int:
        """Numbers in an embedding; 0 where that is known only once the backbone is built."""
        return 0

    def logits(self) -> tuple[float, float | None]:
        """The scale of the cosine and the bias that the backbone was trained with; None for no bias."""
        return SCALE, None

    @property
    @abstractmethod
    def key(self) -> Mapping[str, Any]:
        """All that changes what the backbone computes, as plain JSON values."""

    def stored_images(self, ids: Sequence[str]) -> Float[np.ndarray, "images dim"] | None:
        """The embeddings of these images where somebody made them already, else None: they are to be computed."""
        del ids
        return None

    @abstractmethod
    def image_tower(self) -> ImageTower:
        """The image tower in evaluation mode, on the CPU in float32."""

    @abstractmethod
    def embed(self, concepts: Concepts, *, device: torch.device) -> Float[Tensor, "concepts dim"]:
        """The text embedding of each concept; several templates are averaged after normalising."""
