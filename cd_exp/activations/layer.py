"""One layer of a network as a run reads it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cd_exp.pooling import Pooling


@dataclass(frozen=True)
class Layer:
    """One layer as a run reports it.

    Attributes:
        name: as it was asked for: the module's path, with the call, the element and the pooling where they were named.
        module: the module's path.
        pooling: how its output becomes one number a unit and image.
        units: how many numbers an image has.
        call: which call of the module in one forward pass, from 1.
        element: which tensor of a tuple or dictionary, as `1` or `logits`; empty where the module gives one tensor.
        grid: rows and columns of the positions, where tokens are known to be the patches of the image row by row.
    """

    name: str
    module: str
    pooling: Pooling
    units: int
    call: int = 1
    element: str = ""
    grid: tuple[int, int] | None = None

    @property
    def source(self) -> str:
        """What is read, whatever it was called: the module's path with the call and the element that are not plain."""
        call = f"@{self.call}" if self.call > 1 else ""
        return self.module + call + (f"/{self.element}" if self.element else "")

    def plain(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @staticmethod
    def of(plain: Mapping[str, Any]) -> "Layer":
        """From plain JSON values."""
        grid = plain["grid"]
        return Layer(**{**plain, "pooling": Pooling(**plain["pooling"]), "grid": tuple(grid) if grid else None})
