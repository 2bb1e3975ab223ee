"""`python -m cd_exp.convert IN OUT --to FORMAT`: labels of units from one published layout into another.

| format | columns | layer | labels per unit | score | weights |
| --- | --- | --- | --- | --- | --- |
| clip_dissect | layer,unit,description,similarity | in the file | one | yes | no |
| milan | layer,unit,description | in the file | one | no | no |
| linear_explanations | layer,unit,weight0,concept0,... | in the file | a weighted sum | no | yes |
| describe_and_dissect | Neuron ID,Label 1,... | a file each | several, best first | no | no |
| netdissect | unit,category,label,score; units from 1, none left out | a file each | one | yes | no |

What a format cannot hold is left out, and said. What is read: a file in any layout that `baseline=published` takes, a
run folder, or a folder of one file per layer as this writes it. What this module does not know: what a label means.
"""

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from cd_exp.errors import InputError, OneLineParser, unknown_name_error
from cd_exp.evaluation.baselines.published import parse_row, read_label_lines, read_weighted_sum
from cd_exp.io.atomic import report_disk_errors, write_file
from cd_exp.io.command import print_json, report_error
from cd_exp.io.text import escape_for_terminal, format_csv, split_names


@dataclass(frozen=True)
class UnitLabels:
    """What one source says of a unit: labels, best first; the score of the first (NaN: none); weights of a sum."""

    layer: str
    unit: int
    labels: tuple[str, ...]
    score: float = math.nan
    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class LabelFormat:
    """What a format can hold, and its columns; `first` is the number of the first unit."""

    columns: tuple[str, ...]
    by_layer: bool = False
    several: bool = False
    score: bool = False
    weights: bool = False
    first: int = 0
    every_unit: bool = False


FORMATS: Mapping[str, LabelFormat] = {
    "clip_dissect": LabelFormat(("layer", "unit", "description", "similarity"), score=True),
    "milan": LabelFormat(("layer", "unit", "description")),
    "linear_explanations": LabelFormat(("layer", "unit"), several=True, weights=True),
    "describe_and_dissect": LabelFormat(("Neuron ID",), by_layer=True, several=True),
    "netdissect": LabelFormat(
        ("unit", "category", "label", "score"), by_layer=True, score=True, first=1, every_unit=True
    ),
}
SAFE = " .:@+,=()[]"
"""Characters of a layer's name that stand in a file name as they are; others as %XX, so that the name can be read."""


def read_unit_labels(path: Path, *, layer: str | None = None) -> tuple[list[UnitLabels], list[str]]:
    """The labels of a file, a run folder or a folder of one file per layer, by layer in the order of the source.

    Args:
        path: what to read.
        layer: of a file that names none; of several, the only one to read.

    Returns:
        The labels, and the columns of the source that no format holds.

    Raises:
        InputError: it is missing, has no known layout, lists a unit twice, or names no layer.
    """
    files: dict[Path, str | None] = {path: None}
    if (path / "labels.csv").is_file():
        files = {path / "labels.csv": None}
    elif path.is_dir():
        files = {file: unquote(file.stem) for file in sorted(path.glob("*.csv"))}
    if not files:
        raise InputError(f"{path} holds neither labels.csv nor files of labels; give a run folder or a file")
    rows: list[UnitLabels] = []
    columns: dict[str, None] = {}
    for file, of_file in files.items():
        read, more = _read_file(file, layer=of_file or layer)
        rows += read
        columns |= dict.fromkeys(more)
    layers = {row.layer for row in rows}
    if layer is not None and layer not in layers:
        raise unknown_name_error("layer", layer, layers, where=f"in {path}")
    chosen = [row for row in rows if layer in (None, row.layer)]
    _refuse_twice(chosen, path)
    return chosen, list(columns)


HELD = {"layer", "unit", "description", "similarity", "label", "score", "neuron", "concept", "metric", "Neuron ID",
        "group", "concept_set_noun_phrases", "top5"}  # fmt: skip


def _read_file(path: Path, *, layer: str | None) -> tuple[list[UnitLabels], list[str]]:
    layout, lines = read_label_lines(path)
    if not (layer or layout.has_layer):
        raise InputError(f"{path} does not say which layer it labels; add --layer NAME")
    rows = []
    for number, line in lines:
        unit, labels, score = parse_row(path, number, line, layout)
        weights: tuple[float, ...] = ()
        if "concept0" in layout.columns:  # whose score is the first weight
            score, weights = math.nan, tuple(weight for _, weight in read_weighted_sum(line))
        elif labels and line.get("top5", "").startswith(labels[0]):
            labels = split_names(line["top5"])
        rows.append(UnitLabels(line["layer"].strip() if layout.has_layer else str(layer), unit, labels, score, weights))
    numbered = ("concept", "weight", "Label ")
    further = [name for name in lines[0][1] if name not in HELD and not _is_numbered(name, numbered)]
    return rows, [name for name in further if any(line[name] for _, line in lines)]


def _is_numbered(column: str, names: Iterable[str]) -> bool:
    return any(column.startswith(name) and column.removeprefix(name).isdecimal() for name in names)


def _refuse_twice(rows: Sequence[UnitLabels], path: Path) -> None:
    seen: set[tuple[str, int]] = set()
    for row in rows:
        if (row.layer, row.unit) in seen:
            raise InputError(f"{path} labels unit {row.unit} of {row.layer} twice")
        seen.add((row.layer, row.unit))


def what_is_left_out(rows: Sequence[UnitLabels], name: str, columns: Sequence[str] = ()) -> dict[str, int]:
    """What a format cannot hold of some labels: in words, with the number of units that have it.

    >>> what_is_left_out([UnitLabels("fc", 0, ("cat", "dog"), 0.5)], "milan")
    {'labels after the first': 1, 'scores': 1}
    """
    held = FORMATS[name]
    counts = {
        "labels after the first": sum(len(row.labels) > 1 for row in rows if not _holds_all_labels(held, row)),
        "scores": sum(not math.isnan(row.score) for row in rows if not held.score),
        "weights": sum(bool(row.weights) for row in rows if not held.weights),
    }
    if columns:
        counts[f"the columns {', '.join(columns)}"] = len(rows)
    return {what: count for what, count in counts.items() if count}


def _holds_all_labels(held: LabelFormat, row: UnitLabels) -> bool:
    return held.several and (bool(row.weights) or not held.weights)  # a list of words without weights is no sum


def format_unit_labels(rows: Sequence[UnitLabels], name: str) -> dict[str, str]:
    """Labels as the text of a file, or of a file per layer, by file name ("" for the only one).

    >>> print(format_unit_labels([UnitLabels("fc", 0, ("cat",), 0.5)], "clip_dissect")[""], end="")
    layer,unit,description,similarity
    fc,0,cat,0.5
    """
    written = FORMATS[name]
    if not written.by_layer:
        return {"": format_csv(_table(rows, name))}
    layers = dict.fromkeys(row.layer for row in rows)
    return {
        f"{quote(layer, safe=SAFE)}.csv": format_csv(_table([row for row in rows if row.layer == layer], name))
        for layer in layers
    }


def _table(rows: Sequence[UnitLabels], name: str) -> Iterator[Sequence[object]]:
    most = max((len(row.labels) for row in rows), default=1) or 1
    if name in ("clip_dissect", "milan"):
        yield FORMATS[name].columns
        for row in rows:
            score = [_number(row.score)] if FORMATS[name].score else []
            yield [row.layer, row.unit, *(row.labels[:1] or ("",)), *score]
    elif name == "linear_explanations":
        most = max((len(row.weights) for row in rows), default=1) or 1
        yield ["layer", "unit", *(f"{what}{number}" for number in range(most) for what in ("weight", "concept"))]
        for row in rows:
            pairs = list(zip(row.weights or (1.0,), row.labels, strict=False))  # a label alone is a sum of one
            yield [row.layer, row.unit, *(cell for weight, label in pairs for cell in (_number(weight), label)),
                   *(["0", ""] * (most - len(pairs)))]  # fmt: skip
    elif name == "describe_and_dissect":
        yield ["Neuron ID", *(["label"] if most == 1 else (f"Label {number + 1}" for number in range(most)))]
        for row in rows:
            yield [row.unit, *row.labels, *([""] * (most - len(row.labels)))]
    else:
        by_unit = {row.unit: row for row in rows}
        yield FORMATS[name].columns
        for unit in range(max(by_unit) + 1):
            row = by_unit.get(unit, UnitLabels("", unit, ()))
            yield [unit + 1, "", *(row.labels[:1] or ("",)), _number(row.score)]


def _number(value: float) -> str:
    return "" if math.isnan(value) else repr(value)


def convert_labels(source: Path, out: Path, *, to: str, layer: str | None = None) -> dict[str, Any]:
    """Write the labels of a source in another format.

    Args:
        source: a file, a run folder, or a folder of one file per layer.
        out: a new file; for a format of one file per layer a new folder, or a file where there is one layer.
        to: one of `FORMATS`.
        layer: as of `read_unit_labels`.

    Returns:
        What was done, as plain values: the files, units by layer, and what was left out of how many units.

    Raises:
        InputError: as `read_unit_labels`; `out` is there already, or several layers do not go into one file.
    """
    if to not in FORMATS:
        raise unknown_name_error("--to", to, FORMATS)
    if out.exists():
        raise InputError(f"{out} is there already; give a new path, or remove it")
    rows, columns = read_unit_labels(source, layer=layer)
    texts = format_unit_labels(rows, to)
    if out.suffix == ".csv" and len(texts) > 1:
        layers = ", ".join(dict.fromkeys(row.layer for row in rows))
        raise InputError(
            f"{to} has a file per layer, and {source} has {layers}; give a folder for OUT, or --layer NAME"
        )
    single = len(texts) == 1 and (out.suffix == ".csv" or "" in texts)
    files = {out if single else out / name: text for name, text in texts.items()}
    with report_disk_errors(out.parent):
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, text)
    units: dict[str, int] = {}
    for row in rows:
        units[row.layer] = units.get(row.layer, 0) + 1
    left_out = what_is_left_out(rows, to, columns)
    if single and FORMATS[to].by_layer:
        left_out[f"the name of the layer, {rows[0].layer}"] = len(rows)
    return {"format": to, "files": [str(path) for path in files], "layers": units, "left_out": left_out} | (
        {"added": {"units without a label": gaps}} if FORMATS[to].every_unit and (gaps := _gaps(rows)) else {}
    )


def _gaps(rows: Sequence[UnitLabels]) -> int:
    last: dict[str, int] = {}
    for row in rows:
        last[row.layer] = max(row.unit, last.get(row.layer, 0))
    return sum(unit + 1 for unit in last.values()) - len(rows)


def main(arguments: list[str] | None = None) -> int:
    """Convert what the command line names.

    Returns:
        The exit status: 0, or 2 for what the user can mend.
    """
    parser = OneLineParser(prog="python -m cd_exp.convert", description="Labels of units from one layout into another.")
    parser.add_argument("source", type=Path, metavar="IN", help="a file of labels, a run folder, or a folder of files")
    parser.add_argument("out", type=Path, metavar="OUT", help="a new file; a new folder for a file per layer")
    parser.add_argument("--to", required=True, metavar="FORMAT", help=", ".join(FORMATS))
    parser.add_argument("--layer", metavar="NAME", help="of a file that names none; of several, the only one")
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")
    options = parser.parse_args(arguments)
    try:
        done = convert_labels(options.source, options.out, to=options.to, layer=options.layer)
    except InputError as error:
        return report_error(error, as_json=options.json)
    if options.json:
        print_json(done)
        return 0
    units: Any = done["layers"]
    print(escape_for_terminal(f"{sum(units.values())} units of {', '.join(units)} -> {', '.join(done['files'])}"))
    for what, count in {**done["left_out"], **done.get("added", {})}.items():
        verb = "added" if what in done.get("added", {}) else f"left out, {options.to} does not hold"
        print(escape_for_terminal(f"note: {verb} {what}: {count} units"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
