"""Thumbnails of the images that the pages show, each distinct image once, many to a file."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from cd_exp.cache import Entry, Store
from cd_exp.types import Probe

SIZES = ((1000, 128), (4000, 96), (10000, 64))
"""Up to how many images, how wide in pixels; beyond, `SMALLEST`."""
SMALLEST = 48
SHEET = 2048  # pixels, either way
QUALITY = 78
THREADS = 4


@dataclass(frozen=True)
class Sheets:
    """JPEG files of `columns` x `rows` thumbnails in reading order, `size` pixels wide each; named by their content."""

    size: int
    columns: int
    rows: int
    files: dict[str, bytes]


def size_for(count: int) -> int:
    """At most how wide thumbnails are where there are so many of them."""
    return next((size for most, size in SIZES if count <= most), SMALLEST)


def thumbnails(probe: Probe, indices: Sequence[int], *, store: Store) -> Sheets:
    """The middle square of each image, from the cache where it is there. Each image is decoded once.

    Args:
        probe: the images.
        indices: which of them.
        store: where thumbnails are kept between runs.
    """
    listed = sha256(repr(list(map(int, indices))).encode()).hexdigest()
    content = {"probe": probe.fingerprint, "images": listed, "size": size_for(len(indices)), "quality": QUALITY}
    entry = Entry("thumbnails", content)

    def make() -> tuple[np.ndarray, dict[str, Any]]:
        made = sheets(decoded(probe, indices))
        layout = {"size": made.size, "columns": made.columns, "rows": made.rows}
        lengths = {name: len(file) for name, file in made.files.items()}
        joined = np.frombuffer(b"".join(made.files.values()), dtype=np.uint8)
        return joined, {"says": f"{len(indices)} images of {probe.name}", "layout": layout, "lengths": lengths}

    stored = store.obtain(entry, make)
    facts, start, files = store.manifest(entry).facts, 0, {}
    for name, length in facts["lengths"].items():
        files[name] = stored[start : start + length].tobytes()
        start += length
    return Sheets(**facts["layout"], files=files)


def decoded(probe: Probe, indices: Sequence[int]) -> UInt8[np.ndarray, "chosen size size rgb"]:
    """The middle square of each image as pixels, no larger than the images are.

    Pillow decodes without holding the interpreter, so that threads help.
    """
    sample = [probe[indices[place]] for place in np.linspace(0, len(indices) - 1, min(16, len(indices))).astype(int)]
    size = min([size_for(len(indices)), max((min(image.size) for image in sample), default=SMALLEST)])
    pixels = np.empty((len(indices), size, size, 3), dtype=np.uint8)

    def put(place: int) -> None:
        pixels[place] = np.asarray(square(probe[indices[place]], size))

    with ThreadPoolExecutor(THREADS) as threads:
        for _ in threads.map(put, range(len(indices))):
            pass
    return pixels


def square(image: Image.Image, size: int) -> Image.Image:
    """The middle square of an image; a tiny one keeps its pixels, a large one is shrunk by averaging first."""
    method = Image.Resampling.NEAREST if max(image.size) < size else Image.Resampling.BICUBIC
    if min(image.size) > 4 * size:
        image = ImageOps.contain(image, (2 * size, 2 * size), Image.Resampling.BOX)
    return ImageOps.fit(image, (size, size), method)


def sheets(pixels: UInt8[np.ndarray, "chosen size size rgb"]) -> Sheets:
    """Thumbnails put together into JPEG files."""
    count, size = len(pixels), pixels.shape[1]
    columns = max(1, min(SHEET // size, count))
    rows = max(1, min(SHEET // size, -(-count // columns)))
    files = {}
    for start in range(0, count, columns * rows):
        part = pixels[start : start + columns * rows]
        canvas = np.zeros((columns * rows, size, size, 3), dtype=np.uint8)
        canvas[: len(part)] = part
        plane = canvas.reshape(rows, columns, size, size, 3).swapaxes(1, 2).reshape(rows * size, columns * size, 3)
        content = jpeg(Image.fromarray(plane))
        files[f"sheet-{start // (columns * rows)}-{sha256(content).hexdigest()[:12]}"] = content
    return Sheets(size, columns, rows, files)


def jpeg(image: Image.Image) -> bytes:
    """The image as a JPEG file."""
    content = io.BytesIO()
    image.save(content, "JPEG", quality=QUALITY)
    return content.getvalue()
