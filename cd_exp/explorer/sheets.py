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
from cd_exp.records import Probe, has_pictures

SIZES = ((1000, 128), (4000, 96), (10000, 64))
"""Up to how many images, how wide in pixels at most; beyond, `SMALLEST`."""
SMALLEST = 48
SHEET = 2048  # pixels, either way
QUALITY = 78
THREADS = 4


@dataclass(frozen=True)
class Sheets:
    """JPEG files of thumbnails, `size` pixels wide each, in rows of `columns`; named by their content.

    `places` says where each image stands among the thumbnails, counted through all sheets as if each were full.
    """

    size: int
    columns: int
    places: dict[int, int]
    files: dict[str, bytes]

    @property
    def heights(self) -> list[int]:
        """How many rows each sheet has."""
        if not self.files:
            return []
        last = [0] * len(self.files)
        for place in self.places.values():
            sheet, within = divmod(place, self.columns**2)
            last[sheet] = max(last[sheet], within)
        return [1 + within // self.columns for within in last]


def size_for(probe: Probe, indices: Sequence[int]) -> int:
    """How wide thumbnails are: the more there are the smaller, and never larger than the images themselves."""
    most = next((size for most, size in SIZES if len(indices) <= most), SMALLEST)
    sample = {indices[place] for place in np.linspace(0, len(indices) - 1, min(8, len(indices))).astype(int)}
    return min(most, max((min(probe[index].size) for index in sample), default=SMALLEST))


def thumbnails(probe: Probe, groups: Sequence[Sequence[int]], *, store: Store) -> Sheets:
    """The middle square of each image, from the cache where it is there. Each image is decoded once.

    Args:
        probe: the images.
        groups: which of them; a group begins a new sheet, so that runs which share it share its sheets.
        store: where thumbnails are kept between runs.

    Returns:
        The sheets. Images that are known by their ids alone have their places and no sheet.
    """
    if not has_pictures(probe):
        indices = [index for group in groups for index in group]
        return Sheets(SMALLEST, SHEET // SMALLEST, {index: place for place, index in enumerate(indices)}, {})
    size = size_for(probe, [index for group in groups for index in group])
    columns = SHEET // size
    places: dict[int, int] = {}
    files: dict[str, bytes] = {}
    for group in filter(len, groups):
        start = len(files) * columns**2
        places |= {index: start + number for number, index in enumerate(group)}
        for content in _of_group(probe, list(map(int, group)), size=size, store=store):
            files[f"sheet-{len(files)}-{sha256(content).hexdigest()[:12]}"] = content
    return Sheets(size, columns, places, files)


def _of_group(probe: Probe, indices: list[int], *, size: int, store: Store) -> list[bytes]:
    listed = sha256(repr(indices).encode()).hexdigest()
    content = {"probe": probe.fingerprint, "indices": listed, "size": size, "quality": QUALITY}
    entry = Entry("thumbnails", content)

    def make() -> tuple[np.ndarray, dict[str, Any]]:
        made = sheets(decoded(probe, indices, size=size))
        joined, lengths = np.frombuffer(b"".join(made), dtype=np.uint8), [len(file) for file in made]
        return joined, {"says": f"{len(indices)} images of {probe.name}", "lengths": lengths}

    stored = store.obtain(entry, make)
    ends = np.cumsum(store.manifest(entry).facts["lengths"]).tolist()
    return [stored[start:end].tobytes() for start, end in zip([0, *ends], ends, strict=False)]


def decoded(probe: Probe, indices: Sequence[int], *, size: int) -> UInt8[np.ndarray, "chosen size size rgb"]:
    """The middle square of each image as pixels. Pillow decodes without holding the interpreter: threads help."""
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


def sheets(pixels: UInt8[np.ndarray, "chosen size size rgb"]) -> list[bytes]:
    """Thumbnails put together into JPEG files, `SHEET` wide and high; the last has as many rows as it needs."""
    size = pixels.shape[1]
    columns = SHEET // size
    files = []
    for start in range(0, len(pixels), columns**2):
        part = pixels[start : start + columns**2]
        rows = -(-len(part) // columns)
        canvas = np.zeros((columns * rows, size, size, 3), dtype=np.uint8)
        canvas[: len(part)] = part
        plane = canvas.reshape(rows, columns, size, size, 3).swapaxes(1, 2).reshape(rows * size, columns * size, 3)
        files.append(jpeg(Image.fromarray(plane)))
    return files


def jpeg(image: Image.Image) -> bytes:
    """The image as a JPEG file."""
    content = io.BytesIO()
    image.save(content, "JPEG", quality=QUALITY)
    return content.getvalue()
