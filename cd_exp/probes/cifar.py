"""CIFAR-10 and CIFAR-100, from the binary archives: plain bytes, nothing to unpickle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from cd_exp.errors import InputError, unknown_name_error
from cd_exp.io.download import Archive, locate_archive
from cd_exp.io.text import read_lines
from cd_exp.probes.hashing import fingerprint_images, hash_files
from cd_exp.probes.image_files import NumberedIds
from cd_exp.records import Probe

SITE = "https://www.cs.toronto.edu/~kriz/"
CIFAR10 = Archive(f"{SITE}cifar-10-binary.tar.gz", "md5:c32a1d4ab5d03f1284b67883e8d87530", "data_batch_1.bin")
CIFAR100 = Archive(f"{SITE}cifar-100-binary.tar.gz", "md5:03b5dce01913d631647c71ecec9e9cb8", "train.bin")
FILES10 = {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "val": ("test_batch.bin",)}
FILES100 = {"train": ("train.bin",), "val": ("test.bin",)}
SIDE = 32
NAMES10, NAMES100 = "batches.meta.txt", "fine_label_names.txt"  # files of class names in the archives
PIXELS = 3 * SIDE * SIDE  # bytes of one record: the red plane, the green, the blue


@dataclass(frozen=True, eq=False, kw_only=True)
class Cifar(Probe):
    """Images in files of records: a byte or two of labels, then the pixels. Each is read from its offset on demand."""

    name: str
    split: str
    root: Path
    files: tuple[str, ...]
    sizes: tuple[int, ...]  # records in each file
    record: int  # bytes
    names: str  # the file with the names of the classes
    cache: str | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def ids(self) -> Sequence[str]:
        """Split and number of each image, counted from 0 in the published order."""
        return NumberedIds(f"{self.split}/", len(self))

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the files' content."""
        return fingerprint_images(hash_files(self.root, self.files, self.cache), str(self.record))

    @cached_property
    def image_classes(self) -> Sequence[str]:
        """The class of each image; the fine one of CIFAR-100, the last byte of the labels.

        Raises:
            InputError: the file with the names of the classes is missing, or has no name for an image's class.
        """
        if not (self.root / self.names).is_file():
            raise InputError(f"{self.root / self.names} is missing: it names the classes, and the archive holds it")
        names = [line.strip() for line in read_lines(str(self.root / self.names), setting="probe.root") if line.strip()]
        label = self.record - PIXELS - 1
        columns = [np.memmap(self.root / file, np.uint8, "r").reshape(-1, self.record)[:, label] for file in self.files]
        numbers = np.concatenate(columns)
        if numbers.max() >= len(names):
            raise InputError(f"{self.root / self.names} names {len(names)} classes, and an image is of {numbers.max()}")
        return [names[number] for number in numbers]

    def __len__(self) -> int:
        return sum(self.sizes)

    def __getitem__(self, index: int) -> Image.Image:
        """The image, 32 x 32; raises OSError where it cannot be read."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        file, row = 0, index
        while row >= self.sizes[file]:
            row -= self.sizes[file]
            file += 1
        path = self.root / self.files[file]
        with path.open("rb") as stream:
            stream.seek((row + 1) * self.record - PIXELS)
            pixels = stream.read(PIXELS)
        if len(pixels) < PIXELS:
            raise OSError(f"{path} ends within image {row}")
        planes = np.frombuffer(pixels, np.uint8).reshape(3, SIDE, SIDE)
        return Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))


def cifar100(
    *, split: str = "train", root: str | None = None, data_dir: str = "data", archive: Archive = CIFAR100
) -> Cifar:
    """50,000 training or 10,000 validation images of 100 classes, 160 MB to download.

    Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.

    Args:
        split: train or val.
        root: the unpacked binary archive, the folder with `train.bin` and `test.bin`; by default it is downloaded.
        data_dir: directory to download into.
        archive: what is downloaded, for a copy elsewhere.

    Raises:
        InputError: it is not on this disk and cannot be downloaded, a file is cut off, or there is no such split.
    """
    return _cifar("cifar100", split, FILES100, archive, root=root, data_dir=data_dir, names=NAMES100, labels=2)


def cifar10(
    *, split: str = "train", root: str | None = None, data_dir: str = "data", archive: Archive = CIFAR10
) -> Cifar:
    """50,000 training or 10,000 validation images of 10 classes, 160 MB to download; all as for `cifar100`.

    The folder is the one with `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`.
    """
    return _cifar("cifar10", split, FILES10, archive, root=root, data_dir=data_dir, names=NAMES10, labels=1)


def _cifar(
    name: str,
    split: str,
    splits: Mapping[str, tuple[str, ...]],
    archive: Archive,
    *,
    root: str | None,
    data_dir: str,
    names: str,
    labels: int,
) -> Cifar:
    if split not in splits:
        raise unknown_name_error("split", split, splits, where=f"in {name}")
    files = splits[split]
    base = locate_archive(replace(archive, marker=files[0]), root=root, data_dir=data_dir, setting="probe.root")
    sizes, record = [], labels + PIXELS
    for file in files:
        length = (base / file).stat().st_size if (base / file).is_file() else 0
        if length == 0 or length % record:
            raise InputError(f"{base / file} has {length} bytes, not a multiple of {record}: it is missing or cut off")
        sizes.append(length // record)
    return Cifar(name=name, split=split, root=base, files=files, sizes=tuple(sizes), record=record, names=names)
