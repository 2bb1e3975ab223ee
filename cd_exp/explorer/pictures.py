"""The pictures that a stored explorer holds, as a probe set from which other pages can be made."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from cd_exp.explorer.content import Content
from cd_exp.explorer.encoding import unpacked
from cd_exp.records import Probe


class Pictures(Probe):
    """A probe set of thumbnails. Only the images that the explorer shows can be opened."""

    fingerprint = "pictures of a stored explorer"

    def __init__(self, content: Content | None) -> None:
        self._images: Mapping[str, Any] = content.parts["run"]["images"] if content else {}
        self._sheets = content.sheets if content else {}
        self._opened: dict[str, Image.Image] = {}

    @property
    def name(self) -> str:
        """Of the probe set that they are from."""
        return str(self._images.get("probe", ""))

    @cached_property
    def _places(self) -> dict[int, int]:
        """Where each image of the probe set stands among the thumbnails."""
        index = unpacked(self._images["index"]).tolist() if self._images else []
        return {image: place for place, image in enumerate(index) if image >= 0}

    @property
    def ids(self) -> Sequence[str]:
        """Of every image of the probe set; empty for one that is not shown."""
        found = [""] * len(self)
        for image, place in self._places.items():
            found[image] = self._images["ids"][place]
        return found

    def __len__(self) -> int:
        return int(self._images.get("total", 0))

    def __getitem__(self, index: int) -> Image.Image:
        """The thumbnail; raises OSError where the explorer does not hold it."""
        if index not in self._places or not self._sheets:
            raise OSError(f"image {index} is not among the pictures of the explorer")
        layout, place = self._images, self._places[index]
        columns, size = layout["columns"], layout["size"]
        number, within = divmod(place, columns**2)
        name = layout["sheets"][number]
        if name not in self._opened:
            self._opened[name] = Image.open(BytesIO(self._sheets[name])).convert("RGB")
        row, column = divmod(within, columns)
        return self._opened[name].crop((column * size, row * size, (column + 1) * size, (row + 1) * size))


def top_images(content: Content) -> dict[str, np.ndarray]:
    """By layer the images that excite each unit most, as indices into the probe set."""
    run = content.parts["run"]
    index = unpacked(run["images"]["index"]).astype(np.int64)
    pictures = {layer["name"]: unpacked(layer["pictures"]) for layer in run["layers"]}
    return {layer: index[places] for layer, places in pictures.items() if places.size}
