"""One layer of a network as a run reads it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from cd_exp.hooks.pooling import Pooling


@runtime_checkable
class Encoding(Protocol):
    """What makes other units of a layer's output: latents, projections."""

    @property
    def key(self) -> Mapping[str, Any]:
        """All that changes what it makes, as plain JSON values."""

    @property
    def class_token(self) -> bool:
        """Whether it reads the class token instead of the positions of the image."""

    def latents(self, positions: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch latents"]:
        """The units of each position."""

    def __call__(self, positions: Float[Tensor, "images positions width"]) -> Float[Tensor, "images latents"]:
        """One number per unit and image."""


@dataclass(frozen=True)
class Layer:
    """One layer as a run reports it.

    Attributes:
        name: as it was asked for: the module's path, with the call, the element and the pooling where they were named.
        module: the module's path.
        pooling: how its output becomes one number per unit and image.
        units: how many numbers an image has.
        call: which call of the module in one forward pass, from 1.
        element: which tensor of a tuple or dictionary, as `1` or `logits`; empty where the module gives one tensor.
        width: of the output where the units are made from it by an encoder; None where they are its own.
        encoding: that encoder.
        grid: rows and columns of the positions, where tokens are known to be the patches of the image row by row.
        behaviour: for a network of the user's own code, what it gave for a few images (`cd_exp.features.layers`).
    """

    name: str
    module: str
    pooling: Pooling
    units: int
    call: int = 1
    element: str = ""
    grid: tuple[int, int] | None = None
    width: int | None = None
    encoding: Encoding | None = None
    behaviour: str = ""

    @property
    def source(self) -> str:
        """What is read, whatever it was called: the module's path with the call and the element that are not plain."""
        call = f"@{self.call}" if self.call > 1 else ""
        return self.module + call + (f"/{self.element}" if self.element else "")

    @property
    def key(self) -> dict[str, Any]:
        """All of the layer that changes its numbers, as plain JSON values."""
        key: dict[str, Any] = {"layer": self.source, "pooling": asdict(self.pooling)}
        if self.encoding is not None:
            key["encoding"] = self.encoding.key
        return {**key, "behaviour": self.behaviour} if self.behaviour else key

    def reduce(self, output: Tensor) -> Float[Tensor, "images neurons"]:
        """One number per unit and image."""
        if self.encoding is None:
            return self.pooling(output)
        return self.encoding(self.pooling.positions(output, class_token=self.encoding.class_token))

    def maps(self, output: Tensor) -> Float[Tensor, "images neurons height width"]:
        """The units at each position, for Network Dissection."""
        pooled = self.pooling.maps(output, grid=self.grid, layer=self.name)
        return pooled if self.encoding is None else self.encoding.latents(pooled.movedim(1, -1)).movedim(-1, 1)

    def plain(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @staticmethod
    def of(plain: Mapping[str, Any]) -> "Layer":
        """From plain JSON values."""
        grid = plain["grid"]
        return Layer(**{**plain, "pooling": Pooling(**plain["pooling"]), "grid": tuple(grid) if grid else None})
