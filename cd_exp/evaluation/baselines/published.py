"""The layouts that labels are published in, recognised by the header, and a reader for their lines.

| layout | columns needed | units from | layer |
| --- | --- | --- | --- |
| labels (CLIP-Dissect, MILAN, CoSy, our own `labels.csv`) | layer, unit, description, [similarity] | 0 | in the file |
| Network Dissection's tally, every unit of a layer | unit, label, score | 1 | to be given |
| INVERT (CoSy) | neuron, concept, metric | 0 | to be given |
| FALCON (CoSy), only the units it explains | group, concept_set_noun_phrases | 0 | to be given |
| the first, of one layer (Linear Explanations' copies of others' labels) | unit, description | 0 | to be given |
| Linear Explanations | layer, unit, concept0, weight0, ... | 0 | in the file, or to be given |
| Describe-and-Dissect | Neuron ID, label; or Neuron ID, Label 1, ... | 0 | to be given |


Labels that others published, read from any of the layouts they come in and matched by layer and unit.
"""

import ast
import csv
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cd_exp.dissection import RunData
from cd_exp.errors import InputError, unknown_name_error
from cd_exp.evaluation.baselines.method import Method
from cd_exp.records import Labels, Probe

Line = Mapping[str, str]
Row = tuple[int, tuple[str, ...], float]
"""A unit, counted from 0, its labels, best first, and the score of the first (NaN where the file gives none)."""


@dataclass(frozen=True)
class LabelFile:
    """One way of writing labels down: the columns it is known by, and what a line says."""

    columns: tuple[str, ...]
    unit: str
    labels: Callable[[Line], tuple[str, ...]]
    score: Callable[[Line], str]
    first_unit: int = 0
    complete: bool = False  # every unit of the layer has a line

    @property
    def has_layer(self) -> bool:
        """Whether each line names its layer."""
        return "layer" in self.columns


def _single_label(column: str) -> Callable[[Line], tuple[str, ...]]:
    """One label; a blank one is a unit left unlabelled."""
    return lambda line: (line[column].strip(),) if line[column].strip() else ()


LONGEST = 100_000  # characters of a cell of noun phrases; Python's parser takes hundreds of bytes for each


def _read_phrases(line: Line) -> list[tuple[str, float]]:
    text = line["concept_set_noun_phrases"]
    if len(text) > LONGEST or max(text.count("["), text.count("(")) > LONGEST // 10 or re.search(r"[(\[{]{20}", text):
        raise ValueError(f"its noun phrases have {len(text)} characters and are no list of pairs")
    return ast.literal_eval(text)


def _weighted_concepts(line: Line) -> tuple[str, ...]:
    """The concepts of a weighted sum, in the order of the file: columns without a concept hold a weight of 0."""
    numbers = [name.removeprefix("concept") for name in line if name.removeprefix("concept").isdecimal()]
    held = [(line[f"concept{number}"].strip(), line.get(f"weight{number}") or "0") for number in numbers]
    return tuple(name for name, weight in held if name and float(weight) != 0)


def _numbered_labels(line: Line) -> tuple[str, ...]:
    """`Label 1`, `Label 2`, ...: blank ones and those said twice are left out."""
    names = (text.strip() for column, text in line.items() if column.startswith("Label "))
    return tuple(dict.fromkeys(name for name in names if name))


LAYOUTS = (
    LabelFile(
        ("layer", "unit", "description"), "unit", _single_label("description"), lambda line: line.get("similarity", "")
    ),
    LabelFile(("unit", "label", "score"), "unit", _single_label("label"), lambda line: line["score"], 1, complete=True),
    LabelFile(("neuron", "concept", "metric"), "neuron", _single_label("concept"), lambda line: line["metric"]),
    LabelFile(  # CoSy takes the first noun phrase for the label
        ("group", "concept_set_noun_phrases"),
        "group",
        lambda line: tuple(str(phrase) for phrase, _ in _read_phrases(line)),
        lambda line: str(next((score for _, score in _read_phrases(line)), "")),
    ),
    LabelFile(("unit", "description"), "unit", _single_label("description"), lambda line: line.get("similarity", "")),
    LabelFile(("layer", "unit", "concept0", "weight0"), "unit", _weighted_concepts, lambda line: line["weight0"]),
    LabelFile(("unit", "concept0", "weight0"), "unit", _weighted_concepts, lambda line: line["weight0"]),
    LabelFile(("Neuron ID", "label"), "Neuron ID", _single_label("label"), lambda line: ""),
    LabelFile(("Neuron ID", "Label 1"), "Neuron ID", _numbered_labels, lambda line: ""),
)


def read_label_lines(path: Path) -> tuple[LabelFile, list[tuple[int, Line]]]:
    """The layout of a file and its lines, numbered as an editor counts them; InputError where it is none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        lines: list[tuple[int, Line]] = [(reader.line_num, line) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read as a file of labels: {getattr(error, 'strerror', None) or error}"
        ) from error
    if not lines:
        raise InputError(f"{path} is empty; expected a header and a line for each unit")
    columns = list(reader.fieldnames or ())
    for number, line in lines:
        if None in line or None in line.values():
            raise InputError(
                f"{path}, line {number}: not the {len(columns)} columns of the header; quote labels that hold commas"
            )
    return _find_layout(path, columns), lines


def _find_layout(path: Path, columns: list[str]) -> LabelFile:
    nearest = max(LAYOUTS, key=lambda layout: len(set(layout.columns) & set(columns)) / len(layout.columns))
    missing = [column for column in nearest.columns if column not in columns]
    if missing:
        wanted = "; ".join(",".join(layout.columns) for layout in LAYOUTS)
        raise InputError(f"{path} has no column {missing[0]!r} but {','.join(columns[:8])}; expected one of: {wanted}")
    return nearest


def parse_row(path: Path, number: int, line: Line, layout: LabelFile) -> Row:
    """What line `number` of a file says, units counted from 0; InputError names the file, the line and the fault."""
    written = line[layout.unit].strip()
    if not (written.isdecimal() and len(written) < 10 and int(written) >= layout.first_unit):
        raise InputError(
            f"{path}, line {number}: {written!r} is no unit; expected a whole number from {layout.first_unit}"
        )
    try:
        names, score = layout.labels(line), layout.score(line).strip()
    except (ValueError, SyntaxError, TypeError) as error:
        raise InputError(f"{path}, line {number}: expected a list of (phrase, score), as in [('sea', 0.5)]") from error
    try:
        similarity = float(score) if score else float("nan")
    except ValueError as error:
        raise InputError(f"{path}, line {number}: score {score!r} is no number") from error
    return int(written) - layout.first_unit, names, similarity


def published(
    path: str | Path | Mapping[str, str | Path],
    *,
    layer: str | None = None,
    rename: Mapping[str, str] | None = None,
) -> "Published":
    """Labels that others published, read when they are asked for.

    Args:
        path: a file; or a file for each layer.
        layer: the layer of a file that names none; of a file that names several, the only one to read.
        rename: the model's name for a layer that a file calls otherwise.
    """
    if isinstance(path, Mapping):
        if layer is not None:
            raise InputError(f"layer {layer!r} stands beside a file for each layer; leave one of the two out")
        paths: dict[str | None, Path] = {key: Path(file).expanduser() for key, file in path.items()}
    else:
        paths = {layer: Path(path).expanduser()}
    return Published(paths, rename=dict(rename or {}))


@dataclass(frozen=True)
class Published(Method):
    """Files of labels by layer, None where the file says it."""

    paths: Mapping[str | None, Path]
    rename: Mapping[str, str] = field(default_factory=dict)

    def check(self, probe: Probe) -> None:
        """Refuse files that are not there, or are in no layout that is read."""
        del probe
        layers: set[str] = set()
        for layer, path in self.paths.items():
            read_published_labels(path, layer=layer, rename=self.rename)
            layers |= layers_in(path)
        for layer in self.rename:
            if layer not in layers:
                raise unknown_name_error(
                    "baseline.rename of layer", layer, layers, where="in the files of baseline.path"
                )

    def __call__(self, run: RunData) -> dict[str, Labels]:
        """The published labels of the run's layers."""
        return self.labels({layer: len(labels.units) for layer, labels in run.labels.items()})

    def labels(self, units: Mapping[str, int] | None = None) -> dict[str, Labels]:
        """The labels by layer, as the model names it, in unit order; units that a file leaves out are absent.

        Args:
            units: how many units each layer in question has: other layers of the files are left out.

        Raises:
            InputError: naming the file, where it has none of the layouts of `LAYOUTS`, lists a unit
                twice, holds what is no number, is a tally with units missing, or does not fit `units`.
        """
        by_layer: dict[str, Labels] = {}
        for layer, path in self.paths.items():
            read = read_published_labels(path, layer=layer, rename=self.rename, units=units)
            if units is not None and not read.keys() & units.keys():
                raise InputError(
                    f"{path} labels {', '.join(read)} and no layer of this run, {', '.join(units)}; "
                    "name the same one with baseline.rename or baseline.layer"
                )
            by_layer |= {key: labels for key, labels in read.items() if units is None or key in units}
        for layer in self.rename.values():
            if units is not None and layer not in units:
                raise unknown_name_error("baseline.rename to layer", layer, units, where="in this run")
        return by_layer


def read_published_labels(
    path: Path,
    *,
    layer: str | None = None,
    rename: Mapping[str, str] | None = None,
    units: Mapping[str, int] | None = None,
) -> dict[str, Labels]:
    """One file's labels by layer, in unit order: arguments as of `published`, errors as of `Published.labels`."""
    layout, lines = read_label_lines(path)
    if not (layer or layout.has_layer):
        raise InputError(f"{path} does not say which layer it labels; give it, as in baseline.layer=fc")
    rows: dict[str, list[Row]] = {}
    for number, line in lines:
        of_file = line["layer"].strip() if layout.has_layer else str(layer)
        rows.setdefault((rename or {}).get(of_file, of_file), []).append(parse_row(path, number, line, layout))
    if layer is not None and layer not in rows:
        raise unknown_name_error("layer", layer, rows, where=f"in {path}")
    chosen = rows if layer is None else {layer: rows[layer]}
    by_layer = {}
    for key, of_layer in chosen.items():
        by_layer[key] = _as_labels(path, key, sorted(of_layer))
        _check_units(path, by_layer[key], expected=(units or {}).get(key), complete=layout.complete)
    return by_layer


def layers_in(path: Path) -> set[str]:
    """The layers that a file names, as it calls them."""
    layout, lines = read_label_lines(path)
    return {line["layer"].strip() for _, line in lines} if layout.has_layer else set()


def _as_labels(path: Path, layer: str, rows: list[Row]) -> Labels:
    units = np.array([unit for unit, _, _ in rows])
    twice = units[1:][np.diff(units) == 0]
    if len(twice):
        raise InputError(f"{path} labels unit {twice[0]} of {layer} twice")
    return Labels(
        layer=layer,
        units=units,
        top=tuple(names for _, names, _ in rows),
        similarity=np.array([similarity for _, _, similarity in rows]),
    )


def _check_units(path: Path, labels: Labels, *, expected: int | None, complete: bool) -> None:
    """Raise where the units are not those of the layer, or a tally lacks some (it counts them from 1)."""
    last = int(labels.units[-1])
    if expected is not None and last >= expected:
        raise InputError(f"{path} labels unit {last} of {labels.layer}, which has units 0 to {expected - 1}")
    if not complete:
        return
    if last + 1 > len(labels.units):
        first = int((labels.units != np.arange(len(labels.units))).argmax())
        which = f"unit {first + 1}, one of {last + 1 - len(labels.units)} missing"
        raise InputError(f"{path} is a tally of {labels.layer} without {which}; a tally lists every unit")
    if expected is not None and last + 1 != expected:
        raise InputError(f"{path} is a tally of {last + 1} units, but {labels.layer} has {expected}")
