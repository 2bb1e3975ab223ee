"""`labels.csv`: one row per unit, written, read back, and as a pandas table."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from cd_exp.errors import InputError
from cd_exp.io.text import format_csv, join_names, refuse_repeated, split_names
from cd_exp.records import FLAGS, Accepted, Labels

if TYPE_CHECKING:
    import pandas as pd

FAITHFULNESS = "faithfulness_"
JUDGED_COLUMNS = ("layer", "unit", "method", "right")
TOP = 5
AGAIN = "it was edited or cut off: take the file that the run wrote, or run it again"

Numbers = Float[np.ndarray, " neurons"]


@dataclass(frozen=True)
class Column:
    """A column of `labels.csv`; one of numbers stands in the explorer and in `to_frame()` too.

    Attributes:
        name: in the header.
        of: its cells from the labels of a layer, texts or numbers; None or empty where nothing is known.
        always: whether it stands in the header where no layer has it.
        form: the format of its numbers.
    """

    name: str
    of: Callable[[Labels], Sequence[str] | Numbers | None]
    always: bool = False
    form: str = ".6g"

    def has_cells(self, labels: Labels) -> bool:
        """Whether anything is known of the layer."""
        values = self.of(labels)
        return values is not None and len(values) > 0

    def cells(self, labels: Labels) -> Sequence[str]:
        """The cells of each unit; empty where nothing is known."""
        values = self.of(labels)
        if isinstance(values, np.ndarray):
            return ["" if np.isnan(value) else format(value, self.form) for value in values]
        return values or [""] * len(labels.units)


COLUMNS = (
    Column("layer", lambda labels: [labels.layer] * len(labels.units), always=True),
    Column("unit", lambda labels: [str(unit) for unit in labels.units], always=True),
    Column("description", lambda labels: labels.descriptions, always=True),
    Column("similarity", lambda labels: labels.similarity, always=True),
    Column("top5", lambda labels: [join_names(top[:TOP]) for top in labels.top], always=True),
    Column("truth", lambda labels: [join_names(truth or ()) for truth in labels.truth], always=True),
    Column("rank_of_truth", lambda labels: labels.ranks, always=True, form=".0f"),
    Column("margin", lambda labels: labels.margin, always=True),
    Column("stability", lambda labels: labels.stability, always=True),
    Column("stable_set", lambda labels: [join_names(names) for names in labels.stable_set], always=True),
    Column("p_right", lambda labels: labels.p_right),
    Column("general_label", lambda labels: labels.general_label),
    Column("general_p", lambda labels: labels.general_p),
    Column("general_bits", lambda labels: labels.general_bits),
    Column("judged_label", lambda labels: labels.judged_label),
)
"""All columns in their order, but for the scores of a judge and the marks, which come last."""
MARKS = Column("marks", lambda labels: [" ".join(flag for flag in FLAGS if flag in flags) for flags in labels.marks])
FIRST = tuple(column.name for column in COLUMNS[:7])
"""What every table of labels has; published tools read the first four."""


def columns_of(layers: Iterable[Labels]) -> list[Column]:
    """The columns of these layers: probabilities, general labels and scores of a judge where some layer has them."""
    layers = list(layers)
    scores = dict.fromkeys(name for labels in layers for name in labels.faithfulness)
    return [
        *(column for column in COLUMNS if column.always or any(map(column.has_cells, layers))),
        *map(_score_column, scores),
        MARKS,
    ]


def _score_column(name: str) -> Column:
    return Column(FAITHFULNESS + name, lambda labels: labels.faithfulness.get(name))


def number_columns(labels: Labels) -> dict[str, Numbers]:
    """The columns of numbers that are known of a layer, by name."""
    columns = {column.name: column.of(labels) for column in columns_of([labels])}
    return {name: values for name, values in columns.items() if isinstance(values, np.ndarray)}


def label_columns(layers: Mapping[str, Labels]) -> tuple[str, ...]:
    """The header."""
    return tuple(column.name for column in columns_of(layers.values()))


def format_labels(layers: Mapping[str, Labels]) -> str:
    """One row per unit under `label_columns`; a cell is empty where nothing is known."""
    columns = columns_of(layers.values())
    rows = (row for labels in layers.values() for row in label_rows(labels, columns))
    return format_csv([[column.name for column in columns], *rows])


def judged_csv(methods: Mapping[str, Mapping[str, Labels]]) -> str | None:
    """`judged.csv`: one row per judged unit and method, `right` 1 or 0; None where no unit is judged."""
    rows = [
        (layer, str(unit), method, str(right))
        for method, layers in methods.items()
        for layer, labels in layers.items()
        for unit, right in zip(labels.units.tolist(), labels.verdicts.tolist(), strict=True)
        if right >= 0
    ]
    return format_csv([JUDGED_COLUMNS, *rows]) if rows else None


def read_judged(path: Path, methods: Mapping[str, Mapping[str, Labels]]) -> dict[str, dict[str, Labels]]:
    """The labels of each method with what `judged.csv` says of them; a run of an earlier version has no such file.

    Raises:
        InputError: the file is not as a run writes it.
    """
    if not path.is_file():
        return {method: dict(layers) for method, layers in methods.items()}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets put a byte order mark in front
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no table as a run writes it: {error}; {AGAIN}") from error
    if (
        not rows
        or tuple(rows[0]) != JUDGED_COLUMNS
        or any(len(row) != 4 or row[3] not in ("0", "1") for row in rows[1:])
    ):
        raise InputError(f"{path} is not a table of {', '.join(JUDGED_COLUMNS)}; {AGAIN}")
    verdicts = {(method, layer, unit): int(right) for layer, unit, method, right in rows[1:]}
    labels_of = ((method, layer, of) for method, layers in methods.items() for layer, of in layers.items())
    units = {(method, layer, str(unit)) for method, layer, of in labels_of for unit in of.units}
    if len(verdicts) < len(rows) - 1 or not verdicts.keys() <= units:
        raise InputError(f"{path} judges a unit twice, or one that no table of labels has; {AGAIN}")
    return {
        method: {
            layer: replace(
                labels, right=np.array([verdicts.get((method, layer, str(unit)), -1) for unit in labels.units])
            )
            for layer, labels in layers.items()
        }
        for method, layers in methods.items()
    }


def label_rows(labels: Labels, columns: Sequence[Column] | None = None) -> Iterator[tuple[str, ...]]:
    """The cells of each unit of one layer, in the order of `columns`; without, those that the layer has."""
    return zip(*(column.cells(labels) for column in columns or columns_of([labels])), strict=True)


def read_labels_csv(path: Path) -> dict[str, Labels]:
    """The labels of a run by layer, as far as `format_labels` wrote them: five names a unit, numbers to six digits.

    Raises:
        InputError: there is no such file, it lacks the columns that a run writes, or a row was cut off or edited.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets put a byte order mark in front
            reader = csv.DictReader(file)
            rows, header = list(reader), tuple(reader.fieldnames or ())
            refuse_repeated(header, path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; give the folder of a finished run") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no table as a run writes it: {error}; {AGAIN}") from error
    missing = [name for name in FIRST if name not in header]
    if missing:
        raise InputError(f"{path} has no column {missing[0]!r}; expected {', '.join(FIRST)} as a run writes them")
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise InputError(f"row {number} of {path} has not the {len(header)} cells of the header; {AGAIN}")
    layers = dict.fromkeys(row["layer"] for row in rows)
    try:
        labels_by_layer = {
            layer: _parse_labels(layer, [row for row in rows if row["layer"] == layer]) for layer in layers
        }
    except ValueError as error:
        raise InputError(f"{path} holds what no run writes: {error}; {AGAIN}") from error
    for layer, labels in labels_by_layer.items():
        if len(labels.units) and (labels.units[0] < 0 or (np.diff(labels.units) <= 0).any()):
            raise InputError(f"{path} does not have the units of {layer} in their order, each once; {AGAIN}")
    return labels_by_layer


def _parse_labels(layer: str, rows: Sequence[Mapping[str, str]]) -> Labels:
    def cells(name: str) -> list[str]:
        return [row.get(name) or "" for row in rows]

    def numbers(name: str) -> Numbers | None:
        column = cells(name)
        return np.array([float(cell) if cell else np.nan for cell in column]) if any(column) else None

    def tuples(name: str, of: Callable[[str], object]) -> tuple:
        column = cells(name)
        return tuple(of(cell) for cell in column) if any(column) else ()

    def parse_accepted(cell: str) -> Accepted:
        return split_names(cell) or None

    top = tuple(split_names(cell) for cell in cells("top5"))
    for unit, label, names in zip(cells("unit"), cells("description"), top, strict=True):
        if label != (names[0] if names else ""):
            raise ValueError(f"unit {unit} of {layer} is called {label!r}, and the first of its top5 is another")
    similarity = numbers("similarity")
    return Labels(
        layer=layer,
        units=np.array([int(unit) for unit in cells("unit")]),
        top=top,
        similarity=np.full(len(rows), np.nan) if similarity is None else similarity,
        truth=tuples("truth", parse_accepted),
        ranks=numbers("rank_of_truth"),
        margin=numbers("margin"),
        stability=numbers("stability"),
        stable_set=tuples("stable_set", split_names),
        p_right=numbers("p_right"),
        general_label=tuples("general_label", str),
        general_p=numbers("general_p"),
        general_bits=numbers("general_bits"),
        marks=tuples("marks", lambda cell: frozenset(cell.split())),
        judged_label=tuples("judged_label", str),
        faithfulness={
            name.removeprefix(FAITHFULNESS): values
            for name in rows[0]
            if name.startswith(FAITHFULNESS) and (values := numbers(name)) is not None
        },
    )


def make_frame(labels: Labels) -> "pd.DataFrame":
    """The columns of `labels.csv`, one row per unit: numbers as they are, several names in one cell as in the file.

    Raises:
        InputError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise InputError("to_frame() needs the extra: pip install 'cd-exp[pandas]'") from error
    columns = columns_of([labels])
    texts = dict(zip((column.name for column in columns), zip(*label_rows(labels, columns), strict=True), strict=True))
    numbers = {"unit": labels.units, **number_columns(labels)}
    always = ("similarity", "rank_of_truth", "margin", "stability")
    unknown = {name: [float("nan")] * len(labels.units) for name in always if name not in numbers}
    return pd.DataFrame({**texts, **unknown, **numbers}, columns=list(texts))
