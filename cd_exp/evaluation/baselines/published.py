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

A column `layer` in any of them names the layer of each line.

Labels that others published, read from any of the layouts they come in and matched by layer and unit.
"""

import ast
import csv
import io
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cd_exp.dissection import RunData
from cd_exp.errors import InputError, unknown_name_error
from cd_exp.evaluation.baselines.method import Method
from cd_exp.io.text import decode_text, refuse_repeated
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


def _read_phrases(line: Line) -> dict[str, str]:
    """Noun phrases with their scores as text, in the order of the file; of a phrase that stands twice the first score.

    Raises:
        ValueError: the cell holds no list of pairs of a phrase and a score.
    """
    text = line["concept_set_noun_phrases"]
    wrong = ValueError("expected a list of (phrase, score), as in [('sea', 0.5)]")
    if len(text) > LONGEST or max(text.count("["), text.count("(")) > LONGEST // 10 or re.search(r"[(\[{]{20}", text):
        raise wrong
    try:
        pairs = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError) as error:
        raise wrong from error
    if not isinstance(pairs, (list, tuple)):
        raise wrong
    phrases: dict[str, str] = {}
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], str) or not pair[0].strip():
            raise wrong
        phrases.setdefault(pair[0].strip(), str(pair[1]))
    return phrases


def _numbers_behind(prefix: str, line: Line) -> list[str]:
    """The numbers of the columns `PREFIX0`, `PREFIX1`, ..., in their order."""
    numbers = [name.removeprefix(prefix) for name in line if name.startswith(prefix)]
    return sorted(filter(str.isdecimal, numbers), key=int)


def read_weighted_sum(line: Line) -> list[tuple[str, float]]:
    """The concepts of a weighted sum with their weights, in the order of their numbers; those of weight 0 are unused.

    Raises:
        ValueError: a concept without a weight, a weight without a concept, or one that is no finite number.
    """
    terms = []
    for number in _numbers_behind("concept", line):
        name, weight = line[f"concept{number}"].strip(), line.get(f"weight{number}", "").strip()
        value = _parse_finite(weight) if weight or not name else None
        if value is None and (name or weight):
            raise ValueError(f"weight{number} of {name!r} is {weight!r}; expected a number, 0 where it is unused")
        if value and not name:
            raise ValueError(f"concept{number} of weight {weight} is blank; give it a name, or the weight 0")
        if value:
            terms.append((name, value))
    return terms


def _parse_finite(text: str) -> float | None:
    """A number; None for all else, such as infinity or Python's `1_000`."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def _numbered_labels(line: Line) -> tuple[str, ...]:
    """`Label 1`, `Label 2`, ... in the order of their numbers: blank ones and those said twice are left out."""
    names = (line[f"Label {number}"].strip() for number in _numbers_behind("Label ", line))
    return tuple(dict.fromkeys(name for name in names if name))


def _first_weight(line: Line) -> str:
    return str(next((weight for _, weight in read_weighted_sum(line)), ""))


def _weighted_concepts(line: Line) -> tuple[str, ...]:
    return tuple(name for name, _ in read_weighted_sum(line))


LAYOUTS = (
    LabelFile(
        ("layer", "unit", "description"), "unit", _single_label("description"), lambda line: line.get("similarity", "")
    ),
    LabelFile(("unit", "label", "score"), "unit", _single_label("label"), lambda line: line["score"], 1, complete=True),
    LabelFile(("neuron", "concept", "metric"), "neuron", _single_label("concept"), lambda line: line["metric"]),
    LabelFile(  # CoSy takes the first noun phrase for the label
        ("group", "concept_set_noun_phrases"),
        "group",
        lambda line: tuple(_read_phrases(line)),
        lambda line: next(iter(_read_phrases(line).values()), ""),
    ),
    LabelFile(("unit", "description"), "unit", _single_label("description"), lambda line: line.get("similarity", "")),
    LabelFile(("layer", "unit", "concept0", "weight0"), "unit", _weighted_concepts, _first_weight),
    LabelFile(("unit", "concept0", "weight0"), "unit", _weighted_concepts, _first_weight),
    LabelFile(("Neuron ID", "label"), "Neuron ID", _single_label("label"), lambda line: ""),
    LabelFile(("Neuron ID", "Label 1"), "Neuron ID", _numbered_labels, lambda line: ""),
)


def read_label_lines(path: Path) -> tuple[LabelFile, list[tuple[int, Line]]]:
    """The layout of a file and its lines, numbered as an editor counts them; InputError where it is none."""
    try:
        text = decode_text(path.read_bytes(), path)
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        columns = list(reader.fieldnames or ())
        if text.strip() and not any(columns):
            raise InputError(f"{path}: line 1 is blank; expected the header there: remove blank lines above it")
        refuse_repeated(columns, path)
        lines: list[tuple[int, Line]] = [(reader.line_num, line) for line in reader]
    except (OSError, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read as a file of labels: {getattr(error, 'strerror', None) or error}"
        ) from error
    if not lines:
        what = f"has no line below {text.strip()[:40]!r}" if text.strip() else "is empty"
        raise InputError(f"{path} {what}; expected a header and a line for each unit")
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
    if nearest.has_layer:
        return nearest
    other = next((column for column in columns if column.strip().casefold() == "layer" != column), None)
    if other is not None:
        raise InputError(f"{path} has a column {other!r}; call it 'layer', or take it out and set baseline.layer")
    return replace(nearest, columns=("layer", *nearest.columns)) if "layer" in columns else nearest


def parse_row(path: Path, number: int, line: Line, layout: LabelFile) -> Row:
    """What line `number` of a file says, units counted from 0; InputError names the file, the line and the fault."""
    written = line[layout.unit].strip()
    if not (written.isdecimal() and len(written) < 10 and int(written) >= layout.first_unit):
        raise InputError(
            f"{path}, line {number}: {written!r} is no unit; expected a whole number from {layout.first_unit}"
        )
    if layout.has_layer and not line["layer"].strip():
        raise InputError(f"{path}, line {number}: the layer is blank; name it there")
    try:
        names, score = layout.labels(line), layout.score(line).strip()
    except ValueError as error:
        raise InputError(f"{path}, line {number}: {error}") from error
    similarity = math.nan if score.casefold() in ("", "nan") else _parse_finite(score)
    if similarity is None:
        raise InputError(f"{path}, line {number}: score {score!r} is no finite number; leave it blank for none")
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
    written_as: dict[str, str] = {}
    for number, line in lines:
        of_file = line["layer"].strip() if layout.has_layer else str(layer)
        key = (rename or {}).get(of_file, of_file)
        if written_as.setdefault(key, of_file) != of_file:
            raise InputError(
                f"{path}: baseline.rename makes {key!r} of layer {written_as[key]!r} and of {of_file!r}; give each a "
                "name of its own"
            )
        rows.setdefault(key, []).append(parse_row(path, number, line, layout))
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
