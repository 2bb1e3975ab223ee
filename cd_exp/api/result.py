"""What `dissect` returns: the labels of each layer, with tables, images, metrics and files; names are escaped as
HTML.

A saved manifest shows the configuration that the call stands for: that of the command line, with what the program holds
put in. It takes .3 s to compose: a call does without.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from hydra import version
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from cd_exp.config.compose import RunRequest, make_composer, parse_arguments
from cd_exp.config.construct import HELD
from cd_exp.config.resolved import as_plain_config
from cd_exp.dissection import RunData
from cd_exp.errors import InputError
from cd_exp.experiment import Experiment, evaluate_run, write_run
from cd_exp.io.digests import write_digests
from cd_exp.records import Labels, RunResult, has_images
from cd_exp.results import make_frame, run_folder
from cd_exp.results.image_strips import as_data_uri, encode_jpeg, make_strip
from cd_exp.results.labels_csv import label_columns, label_rows
from cd_exp.results.summary import choose_units, is_label_right

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Template

FEATURES = ("precision", "batch_size", "workers", "progress", "keep", "dense_limit", "decode")


def describe_call(parts: Experiment, names: Mapping[str, str]) -> dict[str, Any]:
    """The settings of a call as plain values, as a saved manifest shows them; objects stand by their names.

    Args:
        parts: of the call.
        names: by group, of the choices that were named.
    """
    with _isolated_hydra():
        hydra = make_composer(parse_arguments([])[0])
        overrides = [f"{group}={name}" for group, name in names.items()]
        whole = hydra.compose_config("config", overrides, RunMode.RUN, with_log_configuration=False)
    config = OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])
    OmegaConf.set_struct(config, False)
    for group in names:
        OmegaConf.resolve(config[group])
    for group in ("model", "units", "concepts", "probe", "clip", "similarity", "judge"):
        if group not in names:
            part = getattr(parts, group)
            config[group] = None if part is None else _as_plain_values(part)
    config.baseline = {name: _as_plain_values(method) for name, method in parts.baselines.items()} or None
    config.logger, config.top, config.seed = None, parts.options.top, parts.seed
    config.stability.resamples = parts.options.resamples
    config.device, config.probe.on_error = parts.settings.device, parts.settings.on_error
    for key in FEATURES:
        config.features[key] = getattr(parts.settings, key)
    return as_plain_config(config)


@contextmanager
def _isolated_hydra() -> Iterator[None]:
    """Use Hydra without disturbing the calling program, which may be a Hydra application itself."""
    running, base = GlobalHydra.instance(), version.VersionBase.instance()
    theirs, their_base = running.hydra, base.version_base
    running.hydra = None
    try:
        yield
    finally:
        running.hydra, base.version_base = theirs, their_base


def _as_plain_values(part: Any) -> dict[str, Any]:
    """What an object is, as plain values."""
    function = getattr(part, "func", part)  # with settings bound
    named = function if hasattr(function, "__qualname__") else type(part)
    plain: dict[str, Any] = {HELD: f"{named.__module__}.{named.__qualname__}"}
    plain |= {key: str(value) for key in ("name", "root") if (value := getattr(part, key, None)) is not None}
    layers = getattr(part, "layers", None)
    return plain | ({"layers": list(layers)} if layers is not None else {})


CARDS, IMAGES, SIZE = 12, 5, 72
"""Units shown with images, images of each, and pixels of an image."""

ROWS = 24
SHOWN = ("layer", "unit", "description", "similarity", "top5", "truth", "stability", "marks")
"""Columns of `labels.csv` that the table has, where some unit has anything there."""


def render_result(outcome: RunResult, *, title: str) -> str:
    """A grid of units with the images that excite them most, and a table of units."""
    shown = choose_units(outcome, CARDS, images=IMAGES) if has_images(outcome.probe) else ()
    cards = [
        (unit, as_data_uri(encode_jpeg(make_strip(outcome.probe, unit.images, SIZE, gap=3)), "image/jpeg"))
        for unit in shown
    ]
    each = max(1, ROWS // max(1, len(outcome.labels)))
    rows = [row for labels in outcome.labels.values() for row in _table_rows(labels, each)]
    units = sum(len(labels.units) for labels in outcome.labels.values())
    return _fill_template(rows, units=units, cards=cards, title=title, notes=outcome.notes)


def render_labels(labels: Labels) -> str:
    """A table of the units of one layer."""
    return _fill_template(
        list(_table_rows(labels, ROWS)), units=len(labels.units), cards=(), title=labels.layer, notes=()
    )


def _fill_template(
    rows: Sequence[Mapping[str, Any]], *, units: int, cards: Sequence[Any], title: str, notes: Sequence[str]
) -> str:
    heads = [name for name in SHOWN if any(row[name] for row in rows)]
    return _load_template().render(
        heads=heads, rows=rows, more=units - len(rows), cards=cards, title=title, notes=notes
    )


def _table_rows(labels: Labels, most: int) -> Iterator[Mapping[str, Any]]:
    header = label_columns({labels.layer: labels})
    for row, cells in zip(range(most), label_rows(labels), strict=False):
        yield {**dict(zip(header, cells, strict=True)), "right": is_label_right(labels, row)}


@cache
def _load_template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("cd_exp.api", ".")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("notebook.html")


@dataclass(frozen=True, eq=False, repr=False)
class LayerLabels(Labels):
    """The labels of one layer, which show themselves as a table."""

    def to_frame(self) -> "pd.DataFrame":
        """The columns of `labels.csv`, one row per unit; needs the extra `pandas`."""
        return make_frame(self)

    def _repr_html_(self) -> str:
        return render_labels(self)


@dataclass(frozen=True, eq=False, repr=False)
class Result(Mapping[str, Labels]):
    """The labels of a network's layers: `result["layer4"]` is `result.labels["layer4"]`.

    Attributes:
        labels: by layer.
    """

    labels: Mapping[str, LayerLabels]
    _parts: Experiment
    _found: RunData
    _names: Mapping[str, str]
    _seconds: Mapping[str, float]

    @staticmethod
    def of(parts: Experiment, run_data: RunData, choices: Mapping[str, Any], *, began: float) -> "Result":
        """The result of a call that began at `began` (of `time.perf_counter`).

        Args:
            parts: what goes in.
            run_data: what came out.
            choices: by group, as the caller gave them: a name, or an object.
            began: when.
        """
        labels = {layer: LayerLabels(**vars(labels)) for layer, labels in run_data.labels.items()}
        seconds = {**run_data.seconds, "total": time.perf_counter() - began}
        names = {group: name for group, name in choices.items() if isinstance(name, str)}
        return Result(labels, parts, run_data, names, seconds)

    @cached_property
    def outcome(self) -> RunResult:
        """The labels compared with the truth, where it is known, with the images that excite each unit most."""
        with torch.random.fork_rng(devices=()):  # the caller's random numbers go on as they were
            return replace(evaluate_run(self._parts, self._found), seconds=self._seconds)

    @property
    def metrics(self) -> Mapping[str, Mapping[str, Any]]:
        """By layer, what `metrics.json` has of it: without truth the number of units alone."""
        return self.outcome.metrics

    @property
    def notes(self) -> Sequence[str]:
        """What a reader of the labels should know: a transform that was not given, images left out, dead units."""
        return self.outcome.notes

    def save(self, folder: Any) -> Path:
        """Write the run folder that the command line writes: labels.csv, metrics.json, report.html, explorer/ ...

        Args:
            folder: made where it is missing; results of an earlier run in it go.

        Raises:
            InputError: it cannot be made, or a run is at work in it.
        """
        if not isinstance(folder, (str, Path)):
            raise InputError(f"folder is of type {type(folder).__name__}, expected the path of a folder")
        path = Path(folder).expanduser()
        if path.exists() and not path.is_dir():
            raise InputError(f"folder={folder} is a file, expected the path of a folder")
        with run_folder.open_run_folder(path, setting="folder", timed=False) as run_path:
            options = replace(self._parts.options, settings=describe_call(self._parts, self._names))
            parts = replace(self._parts, options=options)
            write_run(parts, self._found, self.outcome, RunRequest(self._name_choices()), folder=run_path)
            write_digests(run_path)
        return path

    def _name_choices(self) -> dict[str, str]:
        """What each part is called, instead of the choices of a command line."""
        groups = ("model", "probe", "concepts", "clip", "similarity")
        return {**{group: getattr(self._parts, group).name for group in groups}, **self._names}

    def __getitem__(self, layer: str) -> LayerLabels:
        return self.labels[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        layers = ", ".join(f"{layer!r}: {len(labels.units)} units" for layer, labels in self.labels.items())
        return f"<Result of {self._parts.model.name} with {{{layers}}}; .labels[LAYER].to_frame(), .save(FOLDER)>"

    def _repr_html_(self) -> str:
        return render_result(self.outcome, title=repr(self._parts.model.name).strip("'"))
