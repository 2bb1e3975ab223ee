"""The Broadly and Densely Labelled Dataset: photographs with pixel masks, for Network Dissection."""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from cd_exp.errors import InputError, unknown_name_error
from cd_exp.io.download import BRODEN, Archive, locate_archive
from cd_exp.io.text import read_lines, refuse_repeated, shorten_list
from cd_exp.probes.decoding import decode_rgb
from cd_exp.probes.image_files import ImageFiles, NamedIds, require_files
from cd_exp.records import Segmentation

META = ("image", "split", "ih", "iw", "sh", "sw")
SPLITS = ("train", "val")
NONE, UNKNOWN = -1, -2
CODES = 2**16 - 1
"""The largest number of a label that a mask can hold, in red and green."""
LARGEST = 2**14
"""Pixels along a side of a mask: published ones have 112."""


@dataclass(frozen=True)
class BrodenRow:
    """One line of `index.csv`: an image, the size of its masks, and what is annotated, by label number."""

    image: str
    line: int
    height: int
    width: int
    masks: tuple[str, ...]
    whole: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Broden(ImageFiles):
    """The photographs that `index.csv` lists, with their masks. Concepts are the lines of `label.csv`, in order."""

    rows: tuple[BrodenRow, ...]
    concepts: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    numbers: Int[np.ndarray, " labels"]  # by label number: the concept's index, NONE for 0, UNKNOWN

    @property
    def has_masks(self) -> bool:
        """Of every image that is listed."""
        return True

    def segmentation(self, index: int) -> Segmentation:
        """The masks of one image, in their own size, and what holds for all of it.

        Raises:
            InputError: a mask is missing, unreadable, of another size than `index.csv` says, or holds an unknown label.
        """
        row = self.rows[index]
        maps = np.full((len(row.masks), row.height, row.width), NONE, np.int32)
        for i, mask in enumerate(row.masks):
            maps[i] = self._mask(self.root / mask, row)
        whole = self._concepts(np.array(row.whole, np.int64), f"index.csv of {self.root.parent}, line {row.line}")
        return Segmentation(maps, tuple(int(concept) for concept in whole if concept != NONE))

    def _mask(self, path: Path, row: BrodenRow) -> Int[np.ndarray, "height width"]:
        if not path.is_file():
            raise InputError(f"the mask {path} is missing, which line {row.line} of index.csv names")
        try:
            pixels = np.asarray(decode_rgb(path, where=str(path)))
        except OSError as error:
            raise InputError(f"the mask {error}") from error
        if pixels.shape[:2] != (row.height, row.width):
            came, wanted = f"{pixels.shape[1]} x {pixels.shape[0]}", f"{row.width} x {row.height}"
            raise InputError(f"the mask {path} is {came} pixels, but line {row.line} of index.csv says {wanted}")
        codes = pixels[..., 0] + 256 * pixels[..., 1].astype(np.int64)
        return self._concepts(codes, f"the mask {path}")

    def _concepts(self, codes: Int[np.ndarray, "*any"], where: str) -> Int[np.ndarray, "*any"]:
        numbers = self.numbers[np.minimum(codes, len(self.numbers) - 1)]  # the last one is UNKNOWN
        if (numbers == UNKNOWN).any():
            raise InputError(f"{where} holds label {codes[numbers == UNKNOWN].max()}, which label.csv does not list")
        return numbers


def broden(
    *,
    root: str | None = None,
    data_dir: str = "data",
    split: str | None = None,
    archive: Archive = BRODEN,
) -> Broden:
    """63,305 photographs with masks of colours, objects, parts, materials, scenes and textures.

    Images and masks lie side by side on disk; only `index.csv` tells which is which. Images without any annotation are
    left out, as the original leaves them out, and noted. A label that several categories use counts as one concept, of
    the category where it covers most.

    Source: Bau et al., Network Dissection, CVPR 2017 (`loadseg.py`).

    Args:
        root: the unpacked archive, the folder with `index.csv`; by default it is downloaded.
        data_dir: directory to download into.
        split: train or val; None takes all.
        archive: what is downloaded, for a copy elsewhere.

    Raises:
        InputError: it is not on this disk and cannot be downloaded, or its tables do not fit each other.
    """
    base = locate_archive(archive, root=root, data_dir=data_dir, setting="probe.root")
    if split not in (None, *SPLITS):
        raise unknown_name_error("split", str(split), SPLITS, where="in broden")
    names, categories, numbers = _read_labels(base)
    table = read_table(base / "index.csv", META)
    listed_categories = [row["name"] for _, row in read_table(base / "category.csv", ("name",))]
    columns = [column for column in table[0][1] if column not in META]
    for column in columns:
        if column not in listed_categories:
            raise unknown_name_error(
                "category", column, listed_categories, where=f"in {base / 'category.csv'}, but index.csv has it"
            )
    listed = [_parse_row(cells, line, columns, base) for line, cells in table if split in (None, cells["split"])]
    rows = tuple(row for row in listed if row.masks or row.whole)
    if not rows:
        raise InputError(f"{base / 'index.csv'} lists no annotated image" + (f" of split {split}" if split else ""))
    images = [row.image for row in rows]
    require_files(base / "images", images, listed_in=str(base / "index.csv"))
    return Broden(
        name="broden",
        root=base / "images",
        ids=NamedIds(images),
        notes=tuple(_describe_index(base / "index.csv", images, bare=len(listed) - len(rows))),
        rows=rows,
        concepts=names,
        categories=categories,
        numbers=numbers,
    )


def _describe_index(path: Path, images: Sequence[str], *, bare: int) -> Iterator[str]:
    """What a reader should know of the list: images that are left out, or stand there twice."""
    if bare:
        yield f"{path}: images without any annotation, left out: {bare}"
    twice = [image for image, count in Counter(images).items() if count > 1]
    if twice:
        yield f"{path}: images listed more than once, and kept: {len(twice)} ({shorten_list(twice)})"


def _parse_row(cells: Mapping[str, str], line: int, columns: list[str], base: Path) -> BrodenRow:
    """Reads one line; a number in a category's cell holds for the whole image, anything else is a mask."""
    items = [item for column in columns for item in cells[column].split(";") if item]
    whole = tuple(int(item) for item in items if item.isdecimal())
    masks = tuple(item for item in items if not item.isdecimal())
    where = f"{base / 'index.csv'}, line {line}"
    height, width = (_parse_number(cells[name], f"{where}: {name}", most=LARGEST) for name in ("sh", "sw"))
    return BrodenRow(cells["image"], line, height, width, masks, whole)


def _parse_number(cell: str, where: str, *, most: int) -> int:
    """A whole number from 1 on."""
    if not cell.isdecimal() or not 1 <= int(cell) <= most:
        raise InputError(f"{where} is {cell!r}, expected a whole number from 1 to {most}")
    return int(cell)


def _read_labels(base: Path) -> tuple[tuple[str, ...], tuple[str, ...], Int[np.ndarray, " labels"]]:
    """Names, their categories, and the concept index of each label number."""
    by_number = _read_by_number(base / "label.csv", ("name", "category"))
    table = [by_number[number] for number in sorted(by_number)]
    categories = [row["name"] for _, row in read_table(base / "category.csv", ("name",))]
    for row in table:
        if not row["name"].strip():
            raise InputError(f"{base / 'label.csv'}: label {row['number']} has no name; fetch the file again")
        for category in re.findall(r"([^;(]+)\(", row["category"]):
            if category not in categories:
                where = f"in {base / 'category.csv'}, but label {row['name']!r} of label.csv has it"
                raise unknown_name_error("category", category, categories, where=where)
    numbers = np.full(max(by_number) + 2, UNKNOWN, np.int32)
    numbers[0] = NONE
    numbers[sorted(by_number)] = np.arange(len(table))
    main = _find_main_categories(base, categories)
    missing = [by_number[number]["name"] for number in sorted(by_number) if number not in main]
    if missing:
        raise InputError(f"{base}: no c_*.csv lists {missing[0]!r} ({len(missing)} such labels of label.csv)")
    return tuple(row["name"] for row in table), tuple(main[number] for number in sorted(by_number)), numbers


def _read_by_number(path: Path, columns: tuple[str, ...]) -> dict[int, dict[str, str]]:
    """The rows of a table of labels by their number, each once."""
    rows: dict[int, dict[str, str]] = {}
    for line, row in read_table(path, ("number", *columns)):
        number = _parse_number(row["number"], f"{path}, line {line}: the number", most=CODES)
        if number in rows:
            raise InputError(f"{path}, line {line}: label {number} stands there twice; fetch the file again")
        rows[number] = row
    return rows


def _find_main_categories(base: Path, categories: list[str]) -> dict[int, str]:
    """The category in which each label number covers most; between equals the later one, as in the original."""
    best: dict[int, tuple[float, int]] = {}
    for rank, category in enumerate(categories):
        path = base / f"c_{category}.csv"
        for line, row in read_table(path, ("number", "coverage")):
            number = _parse_number(row["number"], f"{path}, line {line}: the number", most=CODES)
            coverage = row["coverage"].strip() or "0"
            if not re.fullmatch(r"\d*\.?\d+([eE][-+]?\d+)?|\d+\.", coverage):
                raise InputError(f"{path}: the coverage of label {number} is {coverage!r}, expected a number from 0 on")
            best[number] = max(best.get(number, (0.0, -1)), (float(coverage), rank))
    return {number: categories[rank] for number, (_, rank) in best.items()}


def read_table(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with a header, each with its line.

    Raises:
        InputError: the file, a column or every row is missing, or a row has not the cells of the header.
    """
    reader = csv.DictReader(read_lines(path, setting="probe.root"), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num} is no table: {error}; fetch the file again") from error
    header = list(reader.fieldnames or ())
    missing = [column for column in columns if not rows or column not in header]
    if missing:
        raise InputError(f"{path} has no rows with a column {', '.join(missing)}; it is not Broden's {path.name}")
    refuse_repeated(header, path)
    wrong = next((line for line, row in rows if None in row or None in row.values()), None)
    if wrong is not None:
        raise InputError(f"{path}, line {wrong}: not the {len(header)} cells of the header; fetch the file again")
    return rows
