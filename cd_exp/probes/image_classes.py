"""The class of each image, where a probe set knows it: `probe.image_classes`, a name an image, or None."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from cd_exp.concepts.imagenet import of_wordnet

WORDNET = re.compile(r"n\d{8}")


def folder_classes(paths: Iterable[str]) -> list[str] | None:
    """The name of the folder that each picture lies in, as trees of class folders have it; None where one lies in none.

    Where all are WordNet's numbers, as ImageNet's folders are called, they are replaced by the names of the classes.

    >>> folder_classes(["train/dog/1.png", "train/grey_wolf/2.png"])
    ['dog', 'grey_wolf']
    """
    found = [path.replace("\\", "/").rpartition("/")[0].rpartition("/")[2] for path in paths]
    if not found or not all(found):
        return None
    names = {folder: folder for folder in found}  # a million images share a thousand strings
    if all(WORDNET.fullmatch(folder) for folder in names):
        known = of_wordnet()
        names = {folder: known.get(folder, folder) for folder in names}
    return [names[folder] for folder in found]


def of_dataset(dataset: Any) -> list[str] | None:
    """Those of a user's data set: `image_classes`, or `classes` and `targets` as torchvision's have them."""
    own: Sequence[str] | None = getattr(dataset, "image_classes", None)
    if own is not None:
        return [str(name) for name in own]
    names, numbers = getattr(dataset, "classes", None), getattr(dataset, "targets", None)
    return None if names is None or numbers is None else [str(names[int(number)]) for number in numbers]
