"""Embeddings that somebody made already."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.cache import hash_file
from cd_exp.clips.base import Clip, ImageTower
from cd_exp.errors import InputError, MissingTexts
from cd_exp.io.checkpoints import ARRAY_ERRORS
from cd_exp.io.text import describe_near_miss, read_lines, shorten_list
from cd_exp.records import Concepts

IMAGES, IDS = "image_embeddings.npy", "images.txt"
TEXTS, NAMES = "_text.npy", "_names.txt"
_AGREE = 0.995  # cosine; 159 names that two published files of one prompt share agree to .9973 and more


@dataclass(frozen=True)
class Precomputed(Clip):
    """Embeddings made elsewhere: `image_embeddings.npy`, `images.txt`, and `NAME_text.npy` with `NAME_names.txt`.

    Images are looked up by their id (a line of `images.txt`), concepts by their text. What prompt the texts had is
    the folder's own matter, so other templates are refused.
    """

    folder: str
    name: str = "precomputed"

    @cached_property
    def key(self) -> Mapping[str, Any]:
        """The content of the files, those with names included."""
        root = Path(self.folder)
        texts = [path for names in sorted(root.glob(f"*{NAMES}")) for path in (names, self._texts_of(names))]
        return {"precomputed": {path.name: hash_file(path) for path in (self._file(IMAGES), self._file(IDS), *texts)}}

    def stored_images(self, ids: Sequence[str]) -> Float[np.ndarray, "images dim"]:
        """The rows of these images.

        Raises:
            InputError: an image that has no row, rows that are not numbers, or not as many rows as lines.
        """
        lines = read_lines(self._file(IDS), setting="clip.folder")
        embeddings = _open_matrix(self._file(IMAGES))
        if len(lines) != len(embeddings):
            raise InputError(
                f"{self.folder}: {len(lines)} lines in {IDS}{_mention_blank(lines)}, {len(embeddings)} embeddings in "
                f"{IMAGES}; give one line per embedding"
            )
        twice = [line for line, count in Counter(lines).items() if count > 1]
        if twice:
            raise InputError(f"{self.folder}/{IDS} has {len(twice)} lines more than once: {shorten_list(twice)}")
        rows = {line: row for row, line in enumerate(lines)}
        missing = [name for name in ids if name not in rows]
        if missing:
            raise InputError(
                f"{self.folder}/{IDS} has no line for {len(missing)} of {len(ids)} probe images, "
                f"the first {missing[0]!r}; the probe's ids must be the lines of {IDS}"
                f"{describe_near_miss(missing[0], rows)}"
            )
        return _check_finite(embeddings[[rows[name] for name in ids]], self._file(IMAGES), ids)

    def image_tower(self) -> ImageTower:
        """There is none: the rows were made elsewhere."""
        raise InputError(f"clip=precomputed has no image tower; {self.folder} holds finished embeddings")

    def embed(self, concepts: Concepts, *, device: torch.device) -> Float[Tensor, "concepts dim"]:
        """The stored text embedding of each concept, from a file that holds them in this order, or all of them, or any.

        Raises:
            MissingTexts: a concept that no file names.
            InputError: templates, files that do not fit each other, or rows of one name that differ.
        """
        del device
        if concepts.templates != ("{}",):
            raise InputError(
                "clip=precomputed: the prompts were fixed when the texts were embedded; drop the templates"
            )
        files = {file: self._name_rows(file) for file in sorted(Path(self.folder).glob(f"*{NAMES}"))}
        whole = {file: texts for file, (names, texts) in files.items() if tuple(names) == concepts.names}
        for file, texts in whole.items():
            first = next(iter(whole.values()))
            for name, row, other in zip(concepts.names, first, texts, strict=True):
                self._refuse_another(name, row, other, file)
        if whole:
            file, texts = next(iter(whole.items()))
            return torch.from_numpy(_check_finite(texts, self._texts_of(file), concepts.names))
        wanted = set(concepts.names)
        row_of_name: dict[str, np.ndarray] = {}
        holding = {file: held for file, held in files.items() if wanted.issubset(held[0])}
        for file, (names, texts) in (holding or files).items():
            for name, row in zip(names, texts, strict=True):
                if name in wanted:
                    self._refuse_another(name, row_of_name.setdefault(name, row), row, file)
        missing = [name for name in concepts.names if name not in row_of_name]
        if missing:
            raise MissingTexts(
                f"{self.folder} has no text embedding of {len(missing)} of {len(concepts.names)} concepts, "
                f"the first {missing[0]!r}; choose concepts from its *{NAMES}, or a clip that embeds texts"
                f"{describe_near_miss(missing[0], [name for listed, _ in files.values() for name in listed])}"
            )
        rows = [row_of_name[name] for name in concepts.names]
        if len({len(row) for row in rows}) > 1:
            raise InputError(f"{self.folder}: the *{TEXTS} files differ in their number of columns")
        return torch.from_numpy(_check_finite(np.stack(rows), Path(self.folder), concepts.names))

    def _refuse_another(self, name: str, row: np.ndarray, other: np.ndarray, file: Path) -> None:
        """Two rows of one name must be one embedding: those of other prompts are another concept set."""
        if not _have_same_direction(row, other):
            raise InputError(
                f"{self.folder} has several text embeddings of {name!r} that differ (the last in "
                f"{self._texts_of(file).name}); keep one for each name, as of one prompt"
            )

    def _name_rows(self, names_file: Path) -> tuple[list[str], np.ndarray]:
        """The names of a file without blanks around them, and the row of each."""
        names = [name.strip() for name in read_lines(names_file, setting="clip.folder")]
        texts = _open_matrix(self._texts_of(names_file))
        if len(names) != len(texts):
            raise InputError(
                f"{names_file}: {len(names)} names{_mention_blank(names)} for {len(texts)} embeddings; give one each"
            )
        width = _open_matrix(self._file(IMAGES)).shape[1]
        if texts.shape[1] != width:
            made = f"{texts.shape[1]} columns, {IMAGES} has {width}"
            raise InputError(f"{self._texts_of(names_file)} has {made}; both must come from the same CLIP")
        return names, texts

    def _texts_of(self, names_file: Path) -> Path:
        return self._file(names_file.name.removesuffix(NAMES) + TEXTS)

    def _file(self, name: str) -> Path:
        path = Path(self.folder) / name
        if not path.is_file():
            raise InputError(f"clip.folder={self.folder} has no {name} (seen from {Path.cwd()})")
        return path


def _open_matrix(path: Path) -> np.ndarray:
    """A table of numbers, memory-mapped.

    Raises:
        InputError: the file is something else.
    """
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            raise InputError(f"{path} is an archive of several arrays; one is expected, written with numpy.save")
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except ARRAY_ERRORS as error:  # numpy then advises to allow pickles, which would run their code
        raise InputError(f"{path} is no array of numbers in numpy's format; write it with numpy.save") from error
    if values.ndim != 2 or 0 in values.shape:
        raise InputError(f"{path} has the shape {tuple(values.shape)}; a row of numbers for each line is expected")
    if values.dtype.kind not in "fiu":
        raise InputError(f"{path} holds {values.dtype}; real numbers are expected, as float32")
    return values


def _have_same_direction(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two embeddings of a text agree; their lengths are of no use."""
    if a.shape != b.shape or np.array_equal(a, b, equal_nan=True):
        return True  # files of another width, and rows that are not finite, are refused together
    first, second = a.astype(np.float64), b.astype(np.float64)
    return bool(first @ second >= _AGREE * np.linalg.norm(first) * np.linalg.norm(second))


def _mention_blank(lines: Sequence[str]) -> str:
    blank = next((number for number, line in enumerate(lines, 1) if not line.strip()), None)
    return "" if blank is None else f" (line {blank} is blank)"


def _check_finite(values: np.ndarray, path: Path, names: Sequence[str]) -> Float[np.ndarray, "rows dim"]:
    """The rows as float32, each a direction: finite and not zero. Errors name the image or concept: the number of a row
    in a run is not its line in the file.
    """
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        rows = np.array(values, dtype=np.float32, order="C")
    wrong = np.flatnonzero(~np.isfinite(rows).all(1) | ~rows.any(1))
    if len(wrong):
        raise InputError(
            f"{path}: {len(wrong)} rows are zero, infinite or not a number, the first is that of {names[wrong[0]]!r}"
        )
    return rows
