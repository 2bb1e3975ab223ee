"""Thumbnails of the images that the pages show, each distinct image once, many to a file; and read back from pages."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from cd_exp.cache import Entry, Store
from cd_exp.explorer.payload import PageContent, decode_array
from cd_exp.records import Probe, has_images
from cd_exp.results.image_strips import encode_jpeg

SIZES = ((1000, 128), (4000, 96), (10000, 64))
"""Up to how many images, how wide in pixels at most; beyond, `SMALLEST`."""
SMALLEST = 48
SHEET = 2048  # pixels of a sheet, either way
QUALITY = 78
THREADS = 4


@dataclass(frozen=True)
class ThumbnailSheets:
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
        for position in self.places.values():
            sheet, within = divmod(position, self.columns**2)
            last[sheet] = max(last[sheet], within)
        return [1 + within // self.columns for within in last]


def choose_size(probe: Probe, indices: Sequence[int]) -> int:
    """How wide thumbnails are: the more there are the smaller, and never larger than the images themselves."""
    most = next((size for most, size in SIZES if len(indices) <= most), SMALLEST)
    sample = {indices[row] for row in np.linspace(0, len(indices) - 1, min(8, len(indices))).astype(int)}
    return min(most, max((min(probe[index].size) for index in sample), default=SMALLEST))


def make_thumbnails(
    probe: Probe, groups: Sequence[Sequence[int]], *, store: Store, sheet: int = SHEET
) -> ThumbnailSheets:
    """The middle square of each image, from the cache where it is there. Each image is decoded once.

    Args:
        probe: the images.
        groups: which of them; a group begins a new sheet, so that runs which share it share its sheets.
        store: where thumbnails are kept between runs.
        sheet: how many pixels wide and high a sheet is at most.

    Returns:
        The sheets. Images that are known by their ids alone have their places and no sheet.
    """
    if not has_images(probe):
        indices = [index for group in groups for index in group]
        return ThumbnailSheets(
            SMALLEST, sheet // SMALLEST, {index: position for position, index in enumerate(indices)}, {}
        )
    size = choose_size(probe, [index for group in groups for index in group])
    columns = sheet // size
    positions: dict[int, int] = {}
    files: dict[str, bytes] = {}
    for group in filter(len, groups):
        start = len(files) * columns**2
        positions |= {index: start + number for number, index in enumerate(group)}
        for content in _make_group(probe, list(map(int, group)), size=size, store=store, sheet=sheet):
            files[f"sheet-{len(files)}-{sha256(content).hexdigest()[:12]}"] = content
    return ThumbnailSheets(size, columns, positions, files)


def _make_group(probe: Probe, indices: list[int], *, size: int, store: Store, sheet: int) -> list[bytes]:
    listed = sha256(repr(indices).encode()).hexdigest()
    content = {"probe": probe.fingerprint, "indices": listed, "size": size, "quality": QUALITY}
    if sheet != SHEET:  # sheets of the usual size keep the key that caches hold
        content["sheet"] = sheet
    entry = Entry("thumbnails", content)

    def make() -> tuple[np.ndarray, dict[str, Any]]:
        made = make_sheets(decode_images(probe, indices, size=size), sheet=sheet)
        joined, lengths = np.frombuffer(b"".join(made), dtype=np.uint8), [len(file) for file in made]
        return joined, {"says": f"{len(indices)} images of {probe.name}", "lengths": lengths}

    stored = store.obtain(entry, make)
    ends = np.cumsum(store.manifest(entry).facts["lengths"]).tolist()
    return [stored[start:end].tobytes() for start, end in zip([0, *ends], ends, strict=False)]


def decode_images(probe: Probe, indices: Sequence[int], *, size: int) -> UInt8[np.ndarray, "chosen size size rgb"]:
    """The middle square of each image as pixels. Pillow decodes without holding the interpreter: threads help."""
    pixels = np.empty((len(indices), size, size, 3), dtype=np.uint8)

    def put(row: int) -> None:
        pixels[row] = np.asarray(crop_square(probe[indices[row]], size))

    with ThreadPoolExecutor(THREADS) as threads:
        for _ in threads.map(put, range(len(indices))):
            pass
    return pixels


def crop_square(image: Image.Image, size: int) -> Image.Image:
    """The middle square of an image; a tiny one keeps its pixels, a large one is shrunk by averaging first."""
    method = Image.Resampling.NEAREST if max(image.size) < size else Image.Resampling.BICUBIC
    if min(image.size) > 4 * size:
        image = ImageOps.contain(image, (2 * size, 2 * size), Image.Resampling.BOX)
    return ImageOps.fit(image, (size, size), method)


def make_sheets(pixels: UInt8[np.ndarray, "chosen size size rgb"], *, sheet: int = SHEET) -> list[bytes]:
    """Thumbnails put together into JPEG files, `sheet` pixels wide and high; the last has as many rows as it needs."""
    size = pixels.shape[1]
    columns = sheet // size
    files = []
    for start in range(0, len(pixels), columns**2):
        part = pixels[start : start + columns**2]
        rows = -(-len(part) // columns)
        canvas = np.zeros((columns * rows, size, size, 3), dtype=np.uint8)
        canvas[: len(part)] = part
        plane = canvas.reshape(rows, columns, size, size, 3).swapaxes(1, 2).reshape(rows * size, columns * size, 3)
        files.append(encode_jpeg(Image.fromarray(plane), quality=QUALITY))
    return files


class StoredThumbnails(Probe):
    """A probe set of thumbnails. Only the images that the explorer shows can be opened."""

    fingerprint = "pictures of a stored explorer"

    def __init__(self, content: PageContent | None) -> None:
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
        index = decode_array(self._images["index"]).tolist() if self._images else []
        return {image: position for position, image in enumerate(index) if image >= 0}

    @property
    def ids(self) -> Sequence[str]:
        """Of every image of the probe set; empty for one that is not shown."""
        names = [""] * len(self)
        for image, position in self._places.items():
            names[image] = self._images["ids"][position]
        return names

    def __len__(self) -> int:
        return int(self._images.get("total", 0))

    def __getitem__(self, index: int) -> Image.Image:
        """The thumbnail; raises OSError where the explorer does not hold it."""
        if index not in self._places or not self._sheets:
            raise OSError(f"image {index} is not among the images of the explorer")
        layout, position = self._images, self._places[index]
        columns, size = layout["columns"], layout["size"]
        number, within = divmod(position, columns**2)
        name = layout["sheets"][number]
        if name not in self._opened:
            self._opened[name] = Image.open(BytesIO(self._sheets[name])).convert("RGB")
        row, column = divmod(within, columns)
        return self._opened[name].crop((column * size, row * size, (column + 1) * size, (row + 1) * size))


def read_top_images(content: PageContent) -> dict[str, np.ndarray]:
    """By layer the images that excite each unit most, as indices into the probe set."""
    run = content.parts["run"]
    index = decode_array(run["images"]["index"]).astype(np.int64)
    images = {layer["name"]: decode_array(layer["pictures"]) for layer in run["layers"]}
    return {layer: index[positions] for layer, positions in images.items() if positions.size}
