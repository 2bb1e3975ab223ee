"""`labels.csv`: one row per unit, written, read back, and as a pandas table."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from cd_exp.errors import InputError
from cd_exp.io.text import format_csv, join_names, split_names
from cd_exp.records import FLAGS, Accepted, Labels

if TYPE_CHECKING:
    import pandas as pd

FIRST = ("layer", "unit", "description", "similarity", "top5", "truth", "rank_of_truth")
"""Published tools read the first four."""
BELIEF = ("margin", "stability", "stable_set")
PROBABILITY = "p_right"
GENERAL = ("general_label", "general_p", "general_bits")
JUDGED = "judged_label"
FAITHFULNESS = "faithfulness_"
LAST = "marks"
JUDGED_COLUMNS = ("layer", "unit", "method", "right")
TOP = 5
AGAIN = "it was edited or cut off: take the file that the run wrote, or run it again"

Numbers = Float[np.ndarray, " neurons"]


def label_columns(layers: Mapping[str, Labels]) -> tuple[str, ...]:
    """The header: probabilities, general labels and scores of a judge only where some layer has them."""
    names = dict.fromkeys(name for labels in layers.values() for name in labels.faithfulness)
    judged = any(labels.judged_label for labels in layers.values())
    belief = [PROBABILITY] if any(labels.p_right is not None for labels in layers.values()) else []
    general = GENERAL if any(labels.general_label for labels in layers.values()) else ()
    scores = [*([JUDGED] if judged else []), *(FAITHFULNESS + name for name in names)]
    return (*FIRST, *BELIEF, *belief, *general, *scores, LAST)


def format_labels(layers: Mapping[str, Labels]) -> str:
    """One row a unit under `columns`; a cell is empty where nothing is known."""
    header = label_columns(layers)
    return format_csv([header, *(row for labels in layers.values() for row in label_rows(labels, header))])


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
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    if (
        not rows
        or tuple(rows[0]) != JUDGED_COLUMNS
        or any(len(row) != 4 or row[3] not in ("0", "1") for row in rows[1:])
    ):
        raise InputError(f"{path} is not a table of {', '.join(JUDGED_COLUMNS)}; {AGAIN}")
    verdicts = {(method, layer, unit): int(right) for layer, unit, method, right in rows[1:]}
    return {
        method: {
            layer: replace(
                labels, right=np.array([verdicts.get((method, layer, str(unit)), -1) for unit in labels.units])
            )
            for layer, labels in layers.items()
        }
        for method, layers in methods.items()
    }


def label_rows(labels: Labels, header: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The cells of each unit of one layer, in the order of `header`."""
    count = len(labels.units)
    blank = [""] * count
    written = {
        "layer": [labels.layer] * count,
        "unit": [str(unit) for unit in labels.units],
        "description": labels.descriptions,
        "similarity": _format_cell(labels.similarity),
        "top5": [join_names(top[:TOP]) for top in labels.top],
        "truth": [join_names(truth or ()) for truth in labels.truth] or blank,
        "rank_of_truth": blank if labels.ranks is None else _format_cell(labels.ranks, ".0f"),
        "margin": blank if labels.margin is None else _format_cell(labels.margin),
        "stability": blank if labels.stability is None else _format_cell(labels.stability),
        "stable_set": [join_names(names) for names in labels.stable_set] or blank,
        PROBABILITY: blank if labels.p_right is None else _format_cell(labels.p_right),
        "general_label": labels.general_label or blank,
        "general_p": blank if labels.general_p is None else _format_cell(labels.general_p),
        "general_bits": blank if labels.general_bits is None else _format_cell(labels.general_bits),
        JUDGED: labels.judged_label or blank,
        LAST: [" ".join(mark for mark in FLAGS if mark in marks) for marks in labels.marks] or blank,
    }
    written |= {FAITHFULNESS + name: _format_cell(values) for name, values in labels.faithfulness.items()}
    return zip(*(written.get(name, blank) for name in header), strict=True)


def _format_cell(values: Numbers, form: str = ".6g") -> list[str]:
    return ["" if np.isnan(value) else format(value, form) for value in values]


def read_labels_csv(path: Path) -> dict[str, Labels]:
    """The labels of a run by layer, as far as `format_labels` wrote them: five names a unit, numbers to six digits.

    Raises:
        InputError: there is no such file, it lacks the columns that a run writes, or a row was cut off or edited.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows, header = list(reader), tuple(reader.fieldnames or ())
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

    similarity = numbers("similarity")
    return Labels(
        layer=layer,
        units=np.array([int(unit) for unit in cells("unit")]),
        top=tuple(split_names(cell) for cell in cells("top5")),
        similarity=np.full(len(rows), np.nan) if similarity is None else similarity,
        truth=tuples("truth", parse_accepted),
        ranks=numbers("rank_of_truth"),
        margin=numbers("margin"),
        stability=numbers("stability"),
        stable_set=tuples("stable_set", split_names),
        p_right=numbers(PROBABILITY),
        general_label=tuples("general_label", str),
        general_p=numbers("general_p"),
        general_bits=numbers("general_bits"),
        marks=tuples(LAST, lambda cell: frozenset(cell.split())),
        judged_label=tuples(JUDGED, str),
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
    header = label_columns({labels.layer: labels})
    texts = dict(zip(header, zip(*label_rows(labels, header), strict=True), strict=True))
    numbers: dict[str, Any] = {"unit": labels.units, "similarity": labels.similarity, "rank_of_truth": labels.ranks}
    numbers |= {"margin": labels.margin, "stability": labels.stability}
    numbers |= {FAITHFULNESS + name: values for name, values in labels.faithfulness.items()}
    present = {name: values for name, values in numbers.items() if values is not None}
    empty = {name: [float("nan")] * len(labels.units) for name in numbers if name not in present}
    return pd.DataFrame({**texts, **empty, **present}, columns=list(header))
