"""Labels that others published, read from any of the layouts they come in and matched by layer and unit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cd_exp.baselines.layouts import Row, read_lines, read_row
from cd_exp.baselines.method import Method
from cd_exp.errors import InputError, unknown
from cd_exp.records import Labels, Probe
from cd_exp.run_data import RunData


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
            raise InputError(f"layer {layer!r} is given beside a file for each layer; leave one of the two out")
        paths: dict[str | None, Path] = {key: Path(file).expanduser() for key, file in path.items()}
    else:
        paths = {layer: Path(path).expanduser()}
    return Published(paths, rename=dict(rename or {}))


@dataclass(frozen=True)
class Published(Method):
    """Files of labels by the layer given for each, None where the file says it."""

    paths: Mapping[str | None, Path]
    rename: Mapping[str, str] = field(default_factory=dict)

    def check(self, probe: Probe) -> None:
        """Refuse files that are not there, or are in no layout that is read."""
        del probe
        for layer, path in self.paths.items():
            read_labels(path, layer=layer, rename=self.rename)

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
        found: dict[str, Labels] = {}
        for layer, path in self.paths.items():
            read = read_labels(path, layer=layer, rename=self.rename, units=units)
            if units is not None and not read.keys() & units.keys():
                raise InputError(
                    f"{path} labels {', '.join(read)} and no layer of this run, {', '.join(units)}; "
                    "name the same one with baseline.rename or baseline.layer"
                )
            found |= {key: labels for key, labels in read.items() if units is None or key in units}
        return found


def read_labels(
    path: Path,
    *,
    layer: str | None = None,
    rename: Mapping[str, str] | None = None,
    units: Mapping[str, int] | None = None,
) -> dict[str, Labels]:
    """One file's labels by layer, in unit order: arguments as of `published`, errors as of `Published.labels`."""
    layout, lines = read_lines(path)
    if not (layer or layout.has_layer):
        raise InputError(f"{path} does not say which layer it labels; give it, as in baseline.layer=fc")
    rows: dict[str, list[Row]] = {}
    for number, line in lines:
        of_file = line["layer"].strip() if layout.has_layer else str(layer)
        rows.setdefault((rename or {}).get(of_file, of_file), []).append(read_row(path, number, line, layout))
    if layer is not None and layer not in rows:
        raise unknown("layer", layer, rows, where=f"in {path}")
    chosen = rows if layer is None else {layer: rows[layer]}
    found = {}
    for key, of_layer in chosen.items():
        found[key] = _labels(path, key, sorted(of_layer))
        _check_units(path, found[key], expected=(units or {}).get(key), complete=layout.complete)
    return found


def _labels(path: Path, layer: str, rows: list[Row]) -> Labels:
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
