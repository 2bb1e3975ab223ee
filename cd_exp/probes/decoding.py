"""Any image file as 8-bit RGB, and any fault in one as OSError.

Pillow gives 16-bit colour as its upper bytes, and scales PPM's and JPEG 2000's numbers to 16 bits, without a word. A
range of values is a statement about the file's own numbers, so these are read here: the lower bytes of 16-bit colour by
decoding once more with the bytes swapped.
"""

import re
import struct
import sys
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile

# What Pillow's readers raise on damaged files besides OSError.
DAMAGE = (
    *(OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, RuntimeError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)


@dataclass(frozen=True)
class DecodeOptions:
    """How images become 8-bit RGB.

    Attributes:
        range: the values of the file that become black and white; it is not applied to images whose depth does not
            reach its upper end. None takes the upper 8 of 16 bits, and floating point as numbers from 0 to 255.
        orient: `exif` turns images as their orientation tag says; None leaves them as they are stored.
    """

    range: tuple[float, float] | None = None
    orient: str | None = None

    def key(self) -> tuple[str, ...]:
        """What of it changes the images, as part of a fingerprint: nothing where all is as published."""
        if self == AS_PUBLISHED:
            return ()
        depth = " of the file" if self.range else ""  # until November 2026 the range was of what Pillow gave
        return (f"range={self.range}{depth} orient={self.orient}",)


AS_PUBLISHED = DecodeOptions()


@dataclass(frozen=True)
class Values:
    """What an image file holds.

    Attributes:
        low: the smallest of its numbers.
        high: the largest.
        full: the largest that its depth can hold; None for floating point.
        white: the number that becomes white where no range says another.
        frames: images in the file, of which the first is read.
        bands: numbers of each pixel that are stored.
        bands_read: how many of these are read.
        transparent: whether pixels are transparent, which is dropped.
    """

    low: float
    high: float
    full: float | None
    white: float = 255.0
    frames: int = 1
    bands: int = 3
    bands_read: int = 3
    transparent: bool = False

    @property
    def wide(self) -> bool:
        """Whether they are more than 8 bits each."""
        return self.full is None or self.full > BYTE


def decode_rgb(source: Path | bytes, *, where: str, reading: DecodeOptions = AS_PUBLISHED) -> Image.Image:
    """Decodes an image; as published: the first frame, orientation tags ignored, transparency dropped.

    16-bit greys are scaled to 8 bits; Pillow's own conversion would cut them off at 255.

    Args:
        source: a file, or its content.
        where: what names it in the error.
        reading: a range of values, or an orientation, that is not the published one.

    Raises:
        OSError: it cannot be read, or is not a whole image.
    """
    try:
        with _open_image(source) as image:
            if reading.range is None:
                return convert_to_rgb(image, orient=reading.orient)
            numbers, full = _numbers(image, source)
            mapped = _map_range(numbers, *reading.range) if reaches(full, reading.range) else convert_to_rgb(image)
            return _orient(mapped, image, reading.orient)
    except DAMAGE as error:
        raise OSError(f"{where} cannot be read as an image: {error}") from error


def reaches(full: float | None, limits: tuple[float, float]) -> bool:
    """Whether a range can be meant for numbers of this depth: no 8-bit image has values up to 4095."""
    return full is None or limits[1] <= full


def read_value_range(source: Path | bytes, *, where: str) -> Values:
    """The numbers of an image before anything is done to them, and what of the file is not read.

    Raises:
        OSError: it cannot be read, or is not a whole image.
    """
    try:
        with _open_image(source) as image:
            frames, (bands, bands_read) = int(getattr(image, "n_frames", 1)), _bands(image)
            try:
                numbers, full = _numbers(image, source)
            except _Cut as cut:  # its numbers cannot be had; the image without a range can
                numbers, full = np.asarray(image.convert("RGB")) / BYTE * cut.full, cut.full
            limits = float(np.nanmin(numbers)), float(np.nanmax(numbers)), full, _white(image, full)
            transparent = "A" in image.getbands() and int(np.asarray(image.getchannel("A")).min()) < BYTE
            return Values(*limits, frames, bands, bands_read, transparent)
    except DAMAGE as error:
        raise OSError(f"{where} cannot be read as an image: {error}") from error


@contextmanager
def _open_image(source: Path | bytes) -> Iterator[ImageFile]:
    """An opened image, without warnings of odd metadata; what can't be read is an error all the same."""
    if isinstance(source, Path) and source.exists() and not source.is_file():
        raise OSError("it is no ordinary file")  # a named pipe would be waited for
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            tags = getattr(image, "tag_v2", {})
            # Pillow 13 takes the bytes of the first half of such a row for a row of 8 bits.
            if tags.get(TIFF_PLANES) == 2 and max(tags.get(TIFF_BITS, (8,))) > 8 and tags.get(TIFF_PACKING, 1) == 1:
                raise OSError("it holds 16 bits a value in separate planes; save it with interleaved colours")
            yield image


def convert_to_rgb(image: Image.Image, *, orient: str | None = None) -> Image.Image:
    """An open image as 8-bit RGB, as `decode_rgb` gives that of a file without a range."""
    image = _orient(image, image, orient)
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    return image.convert("RGB")


def _orient(image: Image.Image, tagged: Image.Image, orient: str | None) -> Image.Image:
    """The image turned as the tag of the file says."""
    if orient != "exif":
        return image
    if image is not tagged:
        image.getexif()[ORIENTATION] = tagged.getexif().get(ORIENTATION, 1)
    return ImageOps.exif_transpose(image)


def _map_range(numbers: Shaped[np.ndarray, "rows columns *bands"], low: float, high: float) -> Image.Image:
    """The values from low to high as those from 0 to 255, rounded; what lies outside is black or white."""
    scaled = np.clip(np.nan_to_num((numbers.astype(np.float64) - low) / (high - low) * BYTE), 0, BYTE)
    return Image.fromarray(np.rint(scaled).astype(np.uint8)).convert("RGB")


# --- The file's own numbers -----------------------------------------------------------------------------------------

BYTE = 255.0  # the largest number of 8 bits
ORIENTATION = 0x0112
TIFF_BITS, TIFF_PACKING, TIFF_SAMPLES, TIFF_PLANES, TIFF_FORMAT = 258, 259, 277, 284, 339  # tags
SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}  # the other order of two bytes


class _Cut(OSError):
    """An image of more than 8 bits of which Pillow gives only 8."""

    def __init__(self, bits: int) -> None:
        super().__init__(
            f"it holds {bits} bits a value, of which only 8 can be read, and probe.range is of all of them; "
            "save it as PNG or TIFF of 16 bits"
        )
        self.full = 2.0**bits - 1


def _numbers(image: ImageFile, source: Path | bytes) -> tuple[Shaped[np.ndarray, "rows columns *bands"], float | None]:
    """The numbers of a file, grey or RGB, and the largest that its depth can hold; None for floating point.

    Raises:
        OSError: Pillow gives 8 of more bits, and the others cannot be had.
    """
    kind = image.format or ""
    arguments = image.tile[0].args if image.tile else ""
    raw = str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)
    if image.mode.startswith("F"):
        return np.asarray(image), None
    if kind == "PPM":
        return _of_ppm(image, arguments)
    if image.mode.startswith("I"):
        return _of_wide(image, _header_bits(source) if kind == "JPEG2000" else 0)
    if ";16" in raw and kind in ("PNG", "TIFF"):
        return _of_colour(image, source, raw), 2.0**16 - 1
    bits = 16 if ";16" in raw else _header_bits(source) if kind in ("JPEG2000", "AVIF") else 8
    if bits > 8:
        raise _Cut(bits)
    return np.asarray(image.convert("RGB")), BYTE


def _white(image: Image.Image, full: float | None) -> float:
    """What becomes white without a range: Pillow's mode I is taken as 16 bits, where it was not moved up to them."""
    if full is None:
        return BYTE
    return 2.0**16 - 1 if image.mode.startswith("I") and image.format not in ("PPM", "JPEG2000") else full


def _of_wide(image: Image.Image, bits: int) -> tuple[Shaped[np.ndarray, "rows columns"], float]:
    """Grey of more than 8 bits, which Pillow keeps; JPEG 2000's is moved up to 16 bits, a TIFF's sign is not read."""
    tags = getattr(image, "tag_v2", {})
    signed = tags.get(TIFF_FORMAT, (1,))[0] == 2
    depth = int(tags.get(TIFF_BITS, (16,))[0])
    numbers = np.asarray(image)
    if bits:
        return numbers >> (16 - bits), 2.0**bits - 1
    if depth == 32 and not signed:
        numbers = numbers.view(np.uint32)
    return numbers, 2.0 ** (depth - signed) - 1


def _of_ppm(image: ImageFile, arguments: Any) -> tuple[Shaped[np.ndarray, "rows columns *bands"], float]:
    """PPM's and PGM's numbers, which Pillow scales to 8 or 16 bits."""
    full = arguments[1] if isinstance(arguments, tuple) else 2**16 - 1 if ";16" in str(arguments) else BYTE
    full = float(full)
    if full <= BYTE:
        return np.asarray(image.convert("RGB")), BYTE
    if not image.mode.startswith("RGB"):
        return np.rint(np.asarray(image) * (full / (2**16 - 1))), full
    name, _, offset, _ = image.tile[0]
    assert image.fp is not None
    image.fp.seek(offset)
    data, count = image.fp.read(), image.width * image.height * 3
    if name == "ppm_plain":
        numbers = np.array(re.sub(rb"#[^\n\r]*", b"", data).split()[:count], np.int64)
    else:
        numbers = np.frombuffer(data[: 2 * count], ">u2")
    return numbers.reshape(image.height, image.width, 3), full


def _of_colour(image: ImageFile, source: Path | bytes, raw: str) -> Shaped[np.ndarray, "rows columns bands"]:
    """16-bit colour of PNG and TIFF: upper bytes as Pillow reads them, lower ones from reading them swapped."""
    if getattr(image, "tag_v2", {}).get(TIFF_PLANES, 1) != 1 or raw.startswith(("RGBa", "CMYK")):
        raise _Cut(16)
    if raw == "LA;16B":  # grey and transparency: its four bytes as they are
        image.tile = [tile._replace(args="RGBA") for tile in image.tile]
        four = np.asarray(image).astype(np.uint16)
        return four[..., 0] << 8 | four[..., 1]
    upper = np.asarray(image)[..., :3].astype(np.uint16)
    swapped = raw[:-1] + SWAPPED[raw[-1]]
    with _open_image(source) as again:
        again.tile = [
            tile._replace(args=swapped if isinstance(tile.args, str) else (swapped, *(tile.args or ())[1:]))
            for tile in again.tile
        ]
        return upper << 8 | np.asarray(again)[..., :3]


def _header_bits(source: Path | bytes) -> int:
    """The bits of each number that the header of a JPEG 2000 or an AVIF gives."""
    if isinstance(source, bytes):
        head = source[:65536]
    else:
        with source.open("rb") as file:
            head = file.read(65536)
    size, pixels = head.find(b"\xff\x4f\xff\x51"), head.find(b"pixi")
    if size >= 0 and len(head) > size + 42:
        return (head[size + 42] & 127) + 1
    return head[pixels + 9] if pixels >= 0 and len(head) > pixels + 9 else 8


def _bands(image: Image.Image) -> tuple[int, int]:
    """The numbers that a file stores for each pixel, and how many of them are read; transparency apart."""
    read = len([band for band in image.getbands() if band != "A"])
    stored = int(getattr(image, "tag_v2", {}).get(TIFF_SAMPLES, read))
    return max(read, stored - ("A" in image.getbands())), read
