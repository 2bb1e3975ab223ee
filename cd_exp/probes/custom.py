"""A probe set from the user's own code."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from PIL import Image

from cd_exp.errors import InputError
from cd_exp.io.download import show_progress
from cd_exp.plugins import load_function
from cd_exp.probes.decoding import DAMAGE, convert_to_rgb
from cd_exp.probes.hashing import fingerprint_images
from cd_exp.probes.image_files import read_dataset_classes, read_folder_classes
from cd_exp.records import Probe, Segmentation

MASKS = ("concepts", "categories", "segmentation")


@dataclass(frozen=True, eq=False)
class CustomProbe(Probe):
    """A torch `Dataset`, or any sequence of PIL pictures, of the user's own."""

    name: str
    pictures: Any
    ids: tuple[str, ...]
    source: str  # what gave them, for errors

    @cached_property
    def fingerprint(self) -> str:
        """A hash of every picture's pixels and their order: code can give anything, so each run looks at all."""
        return fingerprint_images(self._digests())

    @cached_property
    def image_classes(self) -> Sequence[str] | None:
        """The class of each picture, where the user's object has them or the ids are paths with folders."""
        own = read_dataset_classes(self.pictures)
        if own is not None and len(own) != len(self):
            raise InputError(f"{self.source} gives {len(self)} pictures with {len(own)} classes; give one each")
        return own or read_folder_classes(self.ids)

    @cached_property
    def _annotations(self) -> Any:
        return getattr(self.pictures, "annotations", None)

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
        masks = self._annotations.segmentation(index)
        if not isinstance(masks, Segmentation):
            raise InputError(
                f"{self.source}: annotations.segmentation({index}) is of type {type(masks).__name__}, "
                "expected a cd_exp.records.Segmentation"
            )
        return masks

    def _digests(self) -> Iterator[str]:
        with show_progress("reading the probe images", len(self)) as advance:
            for index in range(len(self)):
                try:
                    picture = self[index]
                    yield hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()
                except InputError:
                    raise
                except (OSError, SyntaxError, ValueError):  # reported when the picture is opened
                    yield "unreadable"
                advance(1)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Image.Image:
        """The picture as RGB; of a pair, as data sets of pictures and classes give, the first."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        item = self.pictures[index]
        picture = item[0] if isinstance(item, tuple) and item else item
        if not isinstance(picture, Image.Image):
            raise InputError(
                f"{self.source}: image {index} is of type {type(picture).__name__}, expected a PIL "
                "picture; leave out the transform of a data set, which is the network's own"
            )
        try:
            return convert_to_rgb(picture)
        except DAMAGE as error:  # a picture that was opened, and is read only now
            raise OSError(f"{self.source}: image {index} cannot be read as a picture: {error}") from error


def custom(*, factory: str, options: Mapping[str, Any] | None = None, name: str = "custom") -> CustomProbe:
    """The pictures that a function of the user's own returns.

    Args:
        factory: `FILE.py:function` or `package.module:function`; it returns a torch `Dataset` or a sequence of PIL
            pictures, with `.ids`, `.image_classes` (or `.classes` and `.targets` as torchvision's sets have) and
            `.annotations` (`concepts`, `categories`, `segment_scene(index)`) where it has any.
        options: its keywords.
        name: how the set is called in tables.

    Raises:
        InputError: there is no such function, or it returns something else.
    """
    made = load_function(factory, setting="probe.factory")(options or {})
    return probe_of_images(made, source=f"probe.factory={factory}", name=name)


def probe_of_images(made: Any, *, source: str, name: str) -> CustomProbe:
    """A probe set of pictures in memory, or of a data set's.

    Args:
        made: a torch `Dataset` or a sequence of PIL pictures, with `.ids` and `.annotations` where it has any.
        source: what gave it, for errors.
        name: how the set is called in tables.

    Raises:
        InputError: it is something else.
    """
    if isinstance(made, (str, bytes, Mapping)) or not (hasattr(made, "__getitem__") and hasattr(made, "__len__")):
        raise InputError(
            f"{source} gives {type(made).__name__}, expected a torch Dataset with a length, or a list of PIL pictures"
        )
    given = getattr(made, "ids", None)
    ids = tuple(f"{index:05d}" for index in range(len(made))) if given is None else tuple(map(str, given))
    if len(ids) != len(made):
        raise InputError(f"{source} gives {len(made)} pictures with {len(ids)} ids; give one each")
    annotations = getattr(made, "annotations", None)
    missing = [key for key in MASKS if annotations is not None and not hasattr(annotations, key)]
    if missing:
        raise InputError(f"{source}: annotations lack {', '.join(missing)}; they need {', '.join(MASKS)}")
    probe = CustomProbe(name, made, ids, source)
    if len(probe):
        probe[0]  # a wrong kind of item is told before anything runs
    return probe
