"""Any picture file as 8-bit RGB, and any fault in one as OSError."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

# What Pillow's readers raise on damaged files besides OSError.
DAMAGE = (
    *(OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, RuntimeError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)


@dataclass(frozen=True)
class DecodeOptions:
    """How pictures become 8-bit RGB.

    Attributes:
        range: the values that become black and white, whatever the pictures' type; None takes the upper 8 of 16 bits,
            and floating point as numbers from 0 to 255.
        orient: `exif` turns pictures as their orientation tag says; None leaves them as they are stored.
    """

    range: tuple[float, float] | None = None
    orient: str | None = None

    def key(self) -> tuple[str, ...]:
        """What of it changes the pictures, as part of a fingerprint: nothing where all is as published."""
        return () if self == AS_PUBLISHED else (f"range={self.range} orient={self.orient}",)


AS_PUBLISHED = DecodeOptions()


@dataclass(frozen=True)
class Values:
    """The numbers that a picture file holds: its mode in Pillow's terms, the smallest and the largest."""

    mode: str
    low: float
    high: float

    @property
    def wide(self) -> bool:
        """Whether they are more than 8 bits each."""
        return self.mode.startswith(("I", "F"))


def decode_rgb(source: Path | bytes, *, where: str, reading: DecodeOptions = AS_PUBLISHED) -> Image.Image:
    """Decodes a picture; as published: the first frame, orientation tags ignored, transparency dropped.

    16-bit greys are scaled to 8 bits; Pillow's own conversion would cut them off at 255.

    Args:
        source: a file, or its content.
        where: what names it in the error.
        reading: a range of values, or an orientation, that is not the published one.

    Raises:
        OSError: it cannot be read, or is not a whole picture.
    """
    try:
        with _open_image(source) as picture:
            return convert_to_rgb(picture, reading)
    except DAMAGE as error:
        raise OSError(f"{where} cannot be read as a picture: {error}") from error


def read_value_range(source: Path | bytes, *, where: str) -> Values:
    """The numbers of a picture before anything is done to them.

    Raises:
        OSError: it cannot be read, or is not a whole picture.
    """
    try:
        with _open_image(source) as picture:
            numbers = np.asarray(picture if picture.mode != "P" else picture.convert("RGB"))
            return Values(picture.mode, float(np.nanmin(numbers)), float(np.nanmax(numbers)))
    except DAMAGE as error:
        raise OSError(f"{where} cannot be read as a picture: {error}") from error


@contextmanager
def _open_image(source: Path | bytes) -> Iterator[Image.Image]:
    """An opened picture, without warnings of odd metadata; what can't be read is an error all the same."""
    if isinstance(source, Path) and source.exists() and not source.is_file():
        raise OSError("it is no ordinary file")  # a named pipe would be waited for
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as picture:
            yield picture


def convert_to_rgb(picture: Image.Image, reading: DecodeOptions = AS_PUBLISHED) -> Image.Image:
    """An open picture as 8-bit RGB, as `decode_rgb` gives that of a file."""
    if reading.orient == "exif":
        picture = ImageOps.exif_transpose(picture)
    if reading.range is not None:
        return _map_range(picture, *reading.range)
    if picture.mode.startswith("I"):
        grey = np.clip(np.asarray(picture).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    return picture.convert("RGB")


def _map_range(picture: Image.Image, low: float, high: float) -> Image.Image:
    """The values from low to high as those from 0 to 255, rounded; what lies outside is black or white."""
    wide = picture.mode.startswith(("I", "F"))
    numbers = np.asarray(picture if wide else picture.convert("RGB"), dtype=np.float64)
    scaled = np.clip(np.nan_to_num((numbers - low) / (high - low) * 255), 0, 255)
    return Image.fromarray(np.rint(scaled).astype(np.uint8)).convert("RGB")
