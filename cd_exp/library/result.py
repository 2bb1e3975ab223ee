"""What `dissect` returns: the labels of each layer, with tables, pictures, metrics and files."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cd_exp.config.compose import Invocation
from cd_exp.errors import InputError
from cd_exp.experiment import Parts, collected, publish
from cd_exp.library import notebook
from cd_exp.records import Labels, Outcome
from cd_exp.results import as_frame, run_folder
from cd_exp.run_data import RunData

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class LayerLabels(Labels):
    """The labels of one layer, which show themselves as a table."""

    def to_frame(self) -> "pd.DataFrame":
        """The columns of `labels.csv`, a row a unit; needs the extra `pandas`."""
        return as_frame(self)

    def _repr_html_(self) -> str:
        return notebook.labels(self)


@dataclass(frozen=True, eq=False, repr=False)
class Result(Mapping[str, Labels]):
    """The labels of a network's layers: `result["layer4"]` is `result.labels["layer4"]`.

    Attributes:
        labels: by layer.
    """

    labels: Mapping[str, LayerLabels]
    _parts: Parts
    _found: RunData
    _invocation: Invocation
    _seconds: Mapping[str, float]

    @staticmethod
    def of(parts: Parts, found: RunData, invocation: Invocation, *, began: float) -> "Result":
        """The result of parts that were put together at `began` (of `time.perf_counter`)."""
        labels = {layer: LayerLabels(**vars(labels)) for layer, labels in found.labels.items()}
        seconds = {**found.seconds, "total": time.perf_counter() - began}
        return Result(labels, parts, found, invocation, seconds)

    @cached_property
    def outcome(self) -> Outcome:
        """The labels held against the truth, where it is known, with the images that excite each unit most."""
        with torch.random.fork_rng(devices=()):  # the caller's random numbers go on as they were
            return replace(collected(self._parts, self._found), seconds=self._seconds)

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
        with run_folder.own(path, setting="folder", timed=False) as own:
            publish(self._parts, self._found, self.outcome, self._invocation, folder=own)
        return path

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
        return notebook.result(self.outcome, title=repr(self._parts.model.name).strip("'"))
