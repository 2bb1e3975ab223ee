"""A probe set from the user's own code."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from cd_exp.errors import InputError
from cd_exp.io.download import show_progress
from cd_exp.io.text import shorten_list
from cd_exp.plugins import door, load_function
from cd_exp.probes.decoding import DAMAGE, convert_to_rgb
from cd_exp.probes.hashing import UNREADABLE, fingerprint_images
from cd_exp.probes.image_files import of_items, read_folder_classes
from cd_exp.records import Probe, Segmentation

READ_TWICE = 8  # images spread over the set, which tell a set that draws its images at random
DAMAGED = (OSError, SyntaxError, ValueError)  # what a damaged image raises: it is counted with the unreadable ones
MASKS = ("concepts", "categories", "segmentation")


@dataclass(frozen=True, eq=False)
class CustomProbe(Probe):
    """A torch `Dataset`, or any sequence of PIL images, of the user's own."""

    name: str
    images: Any
    ids: tuple[str, ...]
    source: str  # what gave them, for errors

    @cached_property
    def fingerprint(self) -> str:
        """A hash of every image's pixels and their order: code can give anything, so each run looks at all."""
        return fingerprint_images(self._digests())

    @cached_property
    def image_classes(self) -> Sequence[str] | None:
        """The class of each image, where the user's object has them or the ids are paths with folders."""
        with door(f"{self.source}: its classes failed"):
            listed = getattr(self.images, "image_classes", None)
            classes = None if listed is None else [str(name) for name in listed]
        if classes is None:
            _ = self.fingerprint  # every item was read
            classes = of_items([self._targets.get(index) for index in range(len(self))], self.images)
        if classes is not None and len(classes) != len(self):
            raise InputError(f"{self.source} gives {len(self)} images with {len(classes)} classes; give one each")
        return classes or read_folder_classes(self.ids)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """Ids that several images have."""
        twice = [name for name, count in Counter(self.ids).items() if count > 1]
        return (f"{self.source}: ids of more than one image: {len(twice)} ({shorten_list(twice)})",) if twice else ()

    @cached_property
    def _annotations(self) -> Any:
        with door(f"{self.source}: annotations failed"):
            return getattr(self.images, "annotations", None)

    @property
    def has_masks(self) -> bool:
        """Whether the user's object has them, under `annotations`."""
        return self._annotations is not None

    @property
    def concepts(self) -> Sequence[str]:
        """The annotated concepts, by number."""
        return tuple(self._annotations.concepts) if self.has_masks else ()

    @property
    def categories(self) -> Sequence[str]:
        """The category of each concept."""
        return tuple(self._annotations.categories) if self.has_masks else ()

    def segmentation(self, index: int) -> Segmentation:
        """The masks of one image."""
        if not self.has_masks:
            return super().segmentation(index)
        with door(f"{self.source}: annotations.segmentation failed"):
            masks = self._annotations.segmentation(index)
        if not isinstance(masks, Segmentation):
            raise InputError(
                f"{self.source}: annotations.segmentation({index}) is of type {type(masks).__name__}, "
                "expected a cd_exp.records.Segmentation"
            )
        return masks

    def _digests(self) -> Iterator[str]:
        again = {*np.linspace(0, len(self) - 1, READ_TWICE).astype(int).tolist()}
        with show_progress("reading the probe images", len(self)) as advance:
            for index in range(len(self)):
                self._fingerprinted[index] = self.require_same(index) if index in again else self._digest(index)
                yield self._fingerprinted[index]
                advance(1)

    def order_keys(self, rows: Sequence[int]) -> Sequence[str]:
        """The digests, which the fingerprint takes."""
        _ = self.fingerprint
        return [self._fingerprinted[row] for row in rows]

    def require_same(self, index: int) -> str:
        """The digest of an image; InputError where it is another one at the next read."""
        digest = self._digest(index)
        self._require(digest, self._digest(index), index)
        return digest

    def _require(self, digest: str, again: str, index: int) -> None:
        if again != digest:
            raise InputError(
                f"{self.source}: image {index} is another one at every read, and both networks must see the same; "
                "leave out random transforms, or seed them by the index"
            )

    def _digest(self, index: int) -> str:
        try:
            image = self._image(index)
        except InputError:
            raise
        except (OSError, SyntaxError, ValueError):  # reported when the image is opened
            return UNREADABLE
        return _pixels(image)

    def _parts(self, item: Any, index: int) -> tuple[Any, Any]:
        """The image of an item, and what says its class: of a pair, or of a row of a table by its columns."""
        if isinstance(item, (tuple, list)) and item:
            return item[0], item[1] if len(item) > 1 else None
        if not isinstance(item, Mapping):
            return item, None
        columns = [str(key) for key, value in item.items() if isinstance(value, Image.Image)]
        chosen = next((name for name in ("image", "img") if name in columns), columns[0] if len(columns) == 1 else None)
        if chosen is None:
            held = f"several images, {', '.join(columns)}" if columns else f"no image but {', '.join(map(str, item))}"
            raise InputError(
                f"{self.source}: image {index} is a row with {held}; keep the column with the images as 'image', as "
                "data.rename_column(NAME, 'image') does"
            )
        kinds = getattr(self.images, "features", None) or {}
        named = [key for key, kind in kinds.items() if hasattr(kind, "names") and hasattr(kind, "int2str")]
        label = named[0] if len(named) == 1 else "label"
        return item[chosen], item.get(label)

    @cached_property
    def _targets(self) -> dict[int, Any]:
        """What says the class of each image that was read."""
        return {}

    @cached_property
    def _fingerprinted(self) -> dict[int, str]:
        """The digest of each image, once it was taken: what is decoded later has to be the same."""
        return {}

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Image.Image:
        """The image as RGB; InputError where it is not the one that was fingerprinted."""
        before = self._fingerprinted.get(index)
        try:
            image = self._image(index)
        except OSError as error:
            if before in (None, UNREADABLE):
                raise
            raise InputError(
                f"{self.source}: image {index} could be read when the run began, and not now ({error}); run again"
            ) from error
        if before is not None:
            self._require(before, _pixels(image), index)
        return image

    def _image(self, index: int) -> Image.Image:
        """The image as RGB; of a pair, as data sets of images and classes give, the first."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        with door(f"{self.source}: image {index} failed", passed=DAMAGED):
            item = self.images[index]
        image, target = self._parts(item, index)
        self._targets[index] = target
        if not isinstance(image, Image.Image):
            raise InputError(
                f"{self.source}: image {index} is of type {type(image).__name__}, expected a PIL "
                "image; leave out the transform of a data set, which is the network's own"
            )
        try:
            return convert_to_rgb(image)
        except DAMAGE as error:  # an image that was opened, and is read only now
            raise OSError(f"{self.source}: image {index} cannot be read as an image: {error}") from error


def _pixels(image: Image.Image) -> str:
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()


def custom(*, factory: str, options: Mapping[str, Any] | None = None, name: str = "custom") -> CustomProbe:
    """The images that a function of the user's own returns.

    Args:
        factory: `FILE.py:function` or `package.module:function`; it returns a torch `Dataset` or a sequence of PIL
            images, with `.ids`, `.image_classes` (or pairs of an image and its class: a name, or a number of
            `.classes` as torchvision's sets have, those that a `Subset` wraps too) and `.annotations` (`concepts`,
            `categories`, `segment_scene(index)`) where it has any. Rows of a Hugging Face set go by their image column.
        options: its keywords.
        name: how the set is called in tables.

    Raises:
        InputError: there is no such function, or it returns something else.
    """
    made = load_function(factory, setting="probe.factory")(options or {})
    return probe_of_images(made, source=f"probe.factory={factory}", name=name)


def probe_of_images(made: Any, *, source: str, name: str) -> CustomProbe:
    """A probe set of images in memory, or of a data set's.

    Args:
        made: a torch `Dataset` or a sequence of PIL images, with `.ids` and `.annotations` where it has any.
        source: what gave it, for errors.
        name: how the set is called in tables.

    Raises:
        InputError: it is something else.
    """
    if isinstance(made, (str, bytes, Mapping)) or not (hasattr(made, "__getitem__") and hasattr(made, "__len__")):
        kind = type(made).__name__
        split = "; choose a split of it, as in data['train']" if kind == "DatasetDict" else ""
        raise InputError(
            f"{source} gives {kind}, expected a torch Dataset with a length, or a list of PIL images{split}"
        )
    with door(f"{source} failed"):
        count, image_ids = len(made), getattr(made, "ids", None)
    if not isinstance(image_ids, Iterable) and image_ids is not None:
        raise InputError(f"{source}: its ids are of type {type(image_ids).__name__}, expected a list of texts")
    ids = tuple(f"{index:05d}" for index in range(count)) if image_ids is None else tuple(map(str, image_ids))
    if len(ids) != count:
        raise InputError(f"{source} gives {count} images with {len(ids)} ids; give one each")
    with door(f"{source}: annotations failed"):
        annotations = getattr(made, "annotations", None)
    missing = [key for key in MASKS if annotations is not None and not hasattr(annotations, key)]
    if missing:
        raise InputError(f"{source}: annotations lack {', '.join(missing)}; they need {', '.join(MASKS)}")
    probe = CustomProbe(name, made, ids, source)
    if len(probe):
        probe.require_same(0)  # a wrong kind of item is refused before anything runs
    return probe
