"""The ids of images without the images: for activations and embeddings that were made elsewhere."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

from cd_exp.errors import InputError
from cd_exp.probes.hashing import fingerprint_images
from cd_exp.probes.image_files import NamedIds, read_folder_classes, read_listed_ids
from cd_exp.records import Probe


@dataclass(frozen=True, eq=False, kw_only=True)
class Ids(Probe):
    """Images that are known by their ids alone; whatever shows images is left out of the results."""

    name: str
    ids: Sequence[str]
    notes: tuple[str, ...] = ()
    ids_only: bool = True

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the ids and their order: nothing else is known of the images."""
        return self.fingerprint_of(range(len(self)))

    def fingerprint_of(self, rows: Sequence[int]) -> str:
        """The fingerprint of a set of these images alone."""
        return fingerprint_images((self.ids[row] for row in rows), "ids")

    def digests(self, rows: Sequence[int]) -> Iterator[str]:
        """The ids: nothing else is known of the images."""
        return (self.ids[row] for row in rows)

    @cached_property
    def image_classes(self) -> Sequence[str] | None:
        """The folder in each id; None where one has none."""
        return read_folder_classes(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> NoReturn:
        """There is no image; InputError for a part of a run that needs one."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        raise InputError(
            "probe=ids has no images, and this needs them: use units and a clip whose files hold these images "
            "(units=matrix, clip=precomputed), or a probe with images, such as probe=files"
        )


def ids(*, path: str, name: str = "ids") -> Ids:
    """The images that a list names, one id a line; none of them is opened.

    Args:
        path: the list; its lines must be those of `images.txt` beside the activations and the embeddings.
        name: how the set is called in tables.

    Raises:
        InputError: there is no such file, or it lists nothing.
    """
    listed, notes = read_listed_ids(path)
    return Ids(name=name, ids=NamedIds(listed), notes=notes)
