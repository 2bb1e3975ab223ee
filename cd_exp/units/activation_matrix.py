"""Activations made elsewhere: a matrix a layer, and the images that its rows are of."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.activation_stats import ActivationStatistics, summarise_dense, summarise_sparse
from cd_exp.cache import hash_file
from cd_exp.errors import InputError
from cd_exp.hooks import Layer
from cd_exp.io.checkpoints import ARRAY_ERRORS, describe_array_error
from cd_exp.io.text import describe_near_miss, read_lines, shorten_list
from cd_exp.records import Accepted, TargetModel, TopActivations
from cd_exp.units.encoder import Pool, check_names, pool_latents
from cd_exp.units.files import check_path, open_array
from cd_exp.units.units import check_truth, truth_of_layer

KINDS = (".npy", ".npz")
IMAGES = "images.txt"
COLUMNS_AT_A_TIME = 2048
"""Units: 80 MB for 10,000 images."""
CSR = ("data", "indices", "indptr", "shape")


@dataclass(frozen=True)
class ActivationMatrix:
    """`units=matrix`: activations of a file or a folder of `LAYER.npy` or `LAYER.npz`, with `images.txt` beside them.

    `.npy` is dense; `.npz` is scipy's CSR (`data`, `indices`, `indptr`, `shape`) or holds one dense array. A
    line of
    `images.txt` names the image of a row by its id in the probe set, or of `tokens_per_image` rows.

    Args:
        path: a file or a folder.
        tokens_per_image: rows an image has, one after the other; they are pooled.
        pool: how the rows of an image become one.
        truth: names of units: for each layer a file with one line per unit, or a list.
    """

    path: str
    tokens_per_image: int = 1
    pool: Pool = "max"
    truth: Mapping[str, str | Sequence[str]] | None = None

    def __post_init__(self) -> None:
        """Refuse what no pooling is."""
        check_names(pool=self.pool)
        if self.tokens_per_image < 1:
            raise InputError(f"units.tokens_per_image={self.tokens_per_image}; expected a whole number from 1 on")

    @cached_property
    def key(self) -> Mapping[str, Any]:
        """As `cd_exp.units.Units`."""
        content = {name: hash_file(path) for name, path in self.files.items()}
        return {"matrix": content, "tokens_per_image": self.tokens_per_image, "pool": self.pool}

    @property
    def origin(self) -> Mapping[str, Any]:
        """As `cd_exp.units.Units`."""
        return {}

    def patterns(self, model: TargetModel) -> Sequence[str]:
        """As `cd_exp.units.Units`: no network is needed."""
        del model
        return ()

    def columns(self, layer: Layer, *, model: str) -> Layer:
        """As `cd_exp.units.Units`."""
        del model
        return layer

    def file_activations(
        self, ids: Sequence[str]
    ) -> tuple[Mapping[str, Float[Tensor, "images neurons"]], tuple[str, ...]]:
        """As `cd_exp.units.Units`."""
        rows, notes = self.check(ids)
        return {layer: self.activations(layer, rows) for layer in self.files}, notes

    def check(self, ids: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
        """The rows of these images, and notes; refuses names of units that do not fit."""
        if self.truth:
            check_truth(self.truth, self.widths)
        return self.select_rows(ids)

    def iterate_blocks(
        self, layer: str, ids: Sequence[str], *, width: int = COLUMNS_AT_A_TIME
    ) -> Iterator[Float[Tensor, "images block"]]:
        """The activations of a layer for these images, `width` units at a time: the whole is never made."""
        path = self.files[layer]
        if self.tokens_per_image > 1 or self.pool == "fraction":  # rows have to be pooled first
            yield from self.activations(layer, self.select_rows(ids)[0]).split(width, dim=1)
            return
        rows, source = self.select_rows(ids)[0], self._open(layer)
        for number, part in enumerate(source.columns(rows, width)):
            yield _check_values(part, path, first=number * width)

    def iterate_summaries(
        self, layer: str, ids: Sequence[str], k: int, *, width: int = COLUMNS_AT_A_TIME
    ) -> Iterator[tuple[TopActivations, ActivationStatistics]]:
        """The `k` strongest of these images for each unit of a layer, and its statistics, `width` units at a time."""
        path = self.files[layer]
        pooled = self.tokens_per_image > 1 or self.pool == "fraction"
        source = None if pooled else self._open(layer)
        if not isinstance(source, _Csr):
            for block in self.iterate_blocks(layer, ids, width=width):
                yield summarise_dense(block, k)
            return
        for number, (dense, columns) in enumerate(source.sparse_columns(self.select_rows(ids)[0], width)):
            if not torch.isfinite(columns[0]).all():
                _check_values(dense(), path, first=number * width)
            summary = summarise_sparse(*columns, min(k, len(ids)), total=len(ids))
            yield summary or summarise_dense(dense(), k)

    def truth_of(self, model: TargetModel, layer: str, *, units: int) -> tuple[Accepted, ...]:
        """As `cd_exp.units.Units`."""
        del model
        return truth_of_layer(self.truth or {}, layer, units=units)

    @cached_property
    def files(self) -> dict[str, Path]:
        """The file of each layer."""
        base = check_path(self.path, setting="units.path")
        if base.is_file():
            if base.suffix not in KINDS:
                raise InputError(f"units.path={self.path} is no {' or '.join(KINDS)} file")
            return {base.stem: base}
        paths = [path for path in sorted(base.iterdir()) if path.suffix in KINDS and not path.name.startswith(".")]
        by_layer = {path.stem: path for path in paths}
        if not by_layer:
            raise InputError(f"units.path={self.path} holds no LAYER.npy or LAYER.npz")
        if len(by_layer) != len(paths):
            twice = next(path for path in paths if by_layer[path.stem] != path)
            raise InputError(
                f"{twice} and {by_layer[twice.stem].name} beside it are both layer {twice.stem!r}; keep one"
            )
        return by_layer

    @cached_property
    def rows(self) -> dict[str, int]:
        """The row, or the first of the rows, of each image by its id."""
        listing = next(iter(self.files.values())).parent / IMAGES
        if not listing.is_file():
            raise InputError(f"{listing} is not there; it names the image of each row, one a line")
        lines = read_lines(listing, setting="units.path")
        blank = next((number for number, line in enumerate(lines, 1) if not line.strip()), None)
        if blank is not None:
            raise InputError(f"line {blank} of {listing} is blank; a row has the id of an image: remove the line")
        row_of_name = {line: number for number, line in enumerate(lines)}
        if len(row_of_name) != len(lines):
            twice = next(line for number, line in enumerate(lines) if row_of_name[line] != number)
            raise InputError(f"{listing} names {twice!r} twice; a row has one image")
        return row_of_name

    @cached_property
    def widths(self) -> dict[str, int]:
        """How many units each layer has."""
        return {layer: int(_open_source(path).shape[1]) for layer, path in self.files.items()}

    def select_rows(self, ids: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
        """The rows in `images.txt` of these images, and a note where it names others, which are skipped.

        Raises:
            InputError: an image that has no row.
        """
        missing = [name for name in ids if name not in self.rows]
        if missing:
            raise InputError(
                f"units.path={self.path}: {IMAGES} has no line for {len(missing)} of {len(ids)} probe images "
                f"({shorten_list(missing)}); the probe's ids must be lines of it, as with probe=ids probe.path={IMAGES}"
                f"{describe_near_miss(missing[0], self.rows)}"
            )
        over = len(self.rows) - len(set(ids))
        note = f"{self.path}: rows of images that are not in the probe, skipped: {over}"
        return np.array([self.rows[name] for name in ids], dtype=np.int64), (note,) if over else ()

    def activations(self, layer: str, rows: np.ndarray) -> Float[Tensor, "images neurons"]:
        """The activations of a layer for the images at these rows of `images.txt`.

        Raises:
            InputError: the file is no matrix of numbers, or has another number of rows than there are images.
        """
        path, source = self.files[layer], self._open(layer)
        if self.tokens_per_image == 1 and self.pool != "fraction":
            return _check_values(source.take(rows), path)
        parts = []
        for start in range(0, len(rows), 256):  # as many images at a time, since an image may have hundreds of rows
            part = rows[start : start + 256]
            wanted = (part[:, None] * self.tokens_per_image + np.arange(self.tokens_per_image)).ravel()
            several = _check_values(source.take(wanted), path).view(len(part), self.tokens_per_image, -1)
            parts.append(pool_latents(several, self.pool))
        return torch.cat(parts)

    def _open(self, layer: str) -> "_Dense | _Csr":
        """The file of a layer.

        Raises:
            InputError: it is no matrix of numbers, or has another number of rows than there are images.
        """
        path = self.files[layer]
        source = _open_source(path)
        expected = len(self.rows) * self.tokens_per_image
        if source.shape[0] != expected:
            tokens = f" x {self.tokens_per_image} tokens" if self.tokens_per_image > 1 else ""
            raise InputError(
                f"{path} has {source.shape[0]} rows for {len(self.rows)} images{tokens} of {IMAGES}; "
                f"{_suggest_rows(source.shape, len(self.rows), expected)}"
            )
        if not source.shape[1]:
            raise InputError(f"{path} has no columns; expected [images, units]")
        return source


def _suggest_rows(shape: Sequence[int], images: int, expected: int) -> str:
    """What makes the rows fit: rows of several tokens, a transposed matrix, or as many lines as rows."""
    if images and shape[0] and shape[0] % images == 0:
        return f"set units.tokens_per_image={shape[0] // images} where these are the rows of an image"
    if shape[1] == expected:
        return "it is transposed: save its transpose, [images, units]"
    return f"give {IMAGES} one line per row"


class _Dense:
    """Rows of a dense array."""

    def __init__(self, path: Path, values: np.ndarray | None = None) -> None:
        self.values = open_array(path, setting="units.path") if values is None else values
        _check_real(path, self.values)
        if self.values.ndim != 2:
            raise InputError(f"{path} has {self.values.ndim} axes; expected [images, units]")
        self.shape = self.values.shape

    def take(self, rows: np.ndarray) -> Tensor:
        return _as_single(self.values[rows])

    def columns(self, rows: np.ndarray, size: int) -> Iterator[Tensor]:
        for start in range(0, self.shape[1], size):
            yield _as_single(self.values[:, start : start + size][rows])


def _as_single(values: np.ndarray) -> Tensor:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused by name
        return torch.from_numpy(np.asarray(values, dtype=np.float32))


class _Csr:
    """Rows of a sparse matrix."""

    def __init__(self, matrix: Any) -> None:
        self.matrix, self.shape = matrix, matrix.shape

    def take(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(self.matrix[rows].toarray().astype(np.float32, copy=False))

    def columns(self, rows: np.ndarray, size: int) -> Iterator[Tensor]:
        for dense, _ in self.sparse_columns(rows, size):
            yield dense()

    def sparse_columns(
        self, rows: np.ndarray, size: int
    ) -> Iterator[tuple[Callable[[], Tensor], tuple[Tensor, Tensor, Tensor]]]:
        """Blocks of units: what makes the dense block, and its values, their rows and how many each unit has."""
        everything = len(rows) == self.shape[0] and bool((rows == np.arange(len(rows))).all())
        chosen = (self.matrix if everything else self.matrix[rows]).tocsc()  # once: a block of units is contiguous
        chosen.sum_duplicates()
        for start in range(0, self.shape[1], size):
            part = chosen[:, start : start + size]
            columns = part.data.astype(np.float32, copy=False), part.indices, np.diff(part.indptr)
            yield partial(_make_dense, part), tuple(map(torch.from_numpy, columns))  # type: ignore[misc]


def _make_dense(part: Any) -> Tensor:
    return torch.from_numpy(part.toarray().astype(np.float32, copy=False))


def _open_source(path: Path) -> "_Dense | _Csr":
    return _Dense(path) if path.suffix == ".npy" else _open_npz(path)


def _open_npz(path: Path) -> "_Dense | _Csr":
    """A `.npz` file: scipy's CSR, or one dense array."""
    try:
        with path.open("rb") as file:  # numpy leaves it open where it is no archive
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                right = path.with_suffix(".npy").name
                raise InputError(f"{path} holds a single array, as .npy does; rename it to {right}")
            names = set(archive.files)
            if len(names) == 1:
                return _Dense(path, archive[archive.files[0]])
            missing = [name for name in CSR if name not in names]
            if missing:
                raise InputError(f"{path} has no {missing[0]!r}; a sparse matrix has {', '.join(CSR)} (scipy's CSR)")
            form = archive["format"].item() if "format" in names else "csr"
            if form not in ("csr", b"csr"):
                form = form.decode() if isinstance(form, bytes) else form
                raise InputError(f"{path} is a sparse matrix of format {form}; save it as CSR: matrix.tocsr()")
            return _Csr(_open_csr(path, {name: archive[name] for name in CSR}))
    except InputError:
        raise
    except ARRAY_ERRORS as error:
        raise InputError(f"{path} cannot be read as a matrix: {describe_array_error(path, error)}") from error


def _open_csr(path: Path, parts: Mapping[str, np.ndarray]) -> Any:
    """scipy's matrix in single precision: half is none of its types, and small integers given twice would wrap."""
    from scipy.sparse import csr_array

    _check_real(path, parts["data"])
    for name in CSR[1:]:
        if parts[name].dtype.kind not in "iu":
            raise InputError(f"{path}: {name} holds {parts[name].dtype}; expected whole numbers")
    data = parts["data"] if parts["data"].dtype.kind == "b" else _as_single(parts["data"]).numpy()
    matrix = csr_array((data, parts["indices"], parts["indptr"]), shape=tuple(parts["shape"]))
    matrix.check_format(full_check=True)
    return matrix


def _check_real(path: Path, values: np.ndarray) -> None:
    if values.dtype.kind not in "fiub":
        raise InputError(f"{path} holds {values.dtype}; expected real numbers")


def _check_values(values: Tensor, path: Path, *, first: int = 0) -> Tensor:
    broken = (~torch.isfinite(values)).any(dim=0).nonzero().flatten()
    if len(broken):
        raise InputError(
            f"{path}: unit {first + int(broken[0])} has a value that is not finite in single precision, as have "
            f"{len(broken)} units"
        )
    return values
