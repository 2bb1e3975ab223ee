"""Trackers: a run told to Weights & Biases, or to nobody.

What is logged is read from the run folder, so that the record and the files cannot differ.
"""

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image, ImageOps

from cd_exp.errors import InputError, unknown
from cd_exp.types import Outcome

if TYPE_CHECKING:
    import wandb

MODES = ("offline", "online", "disabled")


@runtime_checkable
class Logger(Protocol):
    """Where a finished run is told of."""

    def log(
        self,
        outcome: Outcome,
        *,
        folder: Path,
        config: Mapping[str, Any],
        group: str | None = None,
        job_type: str | None = None,
        name: str | None = None,
    ) -> str | None:
        """Log a run whose files lie in `folder`; returns where the record is, for the reader."""


@dataclass(frozen=True)
class Nothing:
    """`logger=none`: nobody is told, and wandb is not imported."""

    def log(self, outcome: Outcome, **about: Any) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Wandb:
    """`logger=wandb`: one W&B run for each job, closed before the next begins.

    Args:
        project: the W&B project.
        entity: the user or team; W&B's own default where None.
        mode: `offline`, `online` or `disabled`.
        tags: words to find the run by.
        units: how many units the table of labels shows, spread evenly over the layers.
        images: how many top images of each.
        init_timeout: seconds to wait for the server when a run begins online.
        finish_timeout: seconds to wait for what is left to send when it ends online; the rest stays in the folder.
    """

    project: str = "cd-exp"
    entity: str | None = None
    mode: str = "offline"
    tags: Sequence[str] = ()
    units: int = 28
    images: int = 4
    init_timeout: int = 15
    finish_timeout: int = 300

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise unknown("logger.mode", self.mode, MODES)

    def log(
        self,
        outcome: Outcome,
        *,
        folder: Path,
        config: Mapping[str, Any],
        group: str | None = None,
        job_type: str | None = None,
        name: str | None = None,
    ) -> str | None:
        """Log settings, metrics, tables and files of a run.

        The summary has the numbers of `metrics.json` as `LAYER/top1`, `baselines/NAME/LAYER/top1` and `seconds/total`.

        Args:
            outcome: what the run found; its images are shown in the table of labels.
            folder: the run folder, with its files written.
            config: the settings as plain values.
            group: the sweep the run belongs to.
            job_type: what kind of job it is, as in `dissect`.
            name: the run's name; W&B makes one up where None.

        Returns:
            The address of the run online, its folder offline, None where disabled.

        Raises:
            InputError: online without a key, or where the server does not answer in time.
        """
        if self.mode == "disabled":
            return None
        with self.run(folder=folder, config=config, group=group, job_type=job_type, name=name) as run:
            run.summary.update(flat(json.loads((folder / "metrics.json").read_text())))
            run.log(dict(self._tables(outcome, folder)))
            run.log_artifact(_artifact(run, folder))
            return run.url or str(Path(run.dir).parent)

    @contextmanager
    def run(
        self,
        *,
        folder: Path,
        config: Mapping[str, Any],
        group: str | None = None,
        job_type: str | None = None,
        name: str | None = None,
    ) -> Iterator["wandb.Run"]:
        """A W&B run under `folder/wandb`, finished when the block ends and marked failed after an exception."""
        surroundings = {
            "WANDB_DATA_DIR": str(folder / "wandb"),  # where files are staged, by default outside the run folder
            "WANDB_MODE": "online",  # of the process, read once; the run's own mode is given to init, and comes first
            "WANDB_SILENT": "true",
        }
        with _environment(surroundings):
            about = {"config": dict(config), "group": group, "job_type": job_type, "name": name}
            with self._begin(folder, about) as run:
                yield run

    def _begin(self, folder: Path, about: Mapping[str, Any]) -> "wandb.Run":
        import wandb

        try:
            # verify: of the key, by the server, which init asks anyway
            if self.mode == "online" and not wandb.login(prompt=False, verify=False):
                remedy = "run `wandb login`, set WANDB_API_KEY, or use logger.mode=offline"
                raise InputError(f"logger.mode=online, but W&B knows no key: {remedy}")
            return wandb.init(
                project=self.project,
                entity=self.entity,
                tags=list(self.tags),
                mode=self.mode,  # type: ignore[arg-type]  # one of MODES, as checked
                dir=folder,
                reinit="create_new",  # else an unfinished run of this process would be handed on, with its old config
                settings=self._settings(),
                **about,
            )
        except wandb.Error as error:
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"W&B did not begin a run with logger.mode={self.mode}: {reason}; logger.mode=offline needs no network"
            ) from error

    def _settings(self) -> "wandb.Settings":
        import wandb

        return wandb.Settings(
            init_timeout=self.init_timeout if self.mode == "online" else 90,  # offline only a busy machine is slow
            finish_timeout=self.finish_timeout,
            silent=True,
            console="off",  # the run is over when it is logged: there is no output to capture, no machine to watch
            x_disable_stats=True,
            x_disable_meta=True,  # the manifest has the versions and the commit
            x_disable_machine_info=True,
            x_save_requirements=False,
            disable_git=True,
            disable_code=True,
        )

    def _tables(self, outcome: Outcome, folder: Path) -> Iterator[tuple[str, "wandb.Table"]]:
        import wandb

        units = list(self._units(outcome, folder))
        if units:
            yield "labels", wandb.Table(columns=[*units[0]], data=[list(unit.values()) for unit in units])
        path = folder / "comparisons.json"
        if path.is_file():
            rows = [flat(row) for row in json.loads(path.read_text())]
            columns: list[str | int] = [*dict.fromkeys(key for row in rows for key in row)]
            yield (
                "comparisons",
                wandb.Table(columns=columns, data=[[row.get(str(key)) for key in columns] for row in rows]),
            )

    def _units(self, outcome: Outcome, folder: Path) -> Iterator[dict[str, Any]]:
        """The rows of `labels.csv` that are shown, with one picture of the top images each."""
        import wandb

        with (folder / "labels.csv").open(newline="") as file:
            rows = {(row["layer"], int(row["unit"])): row for row in csv.DictReader(file)}
        layers = [layer for layer in outcome.labels if layer in outcome.top_images][-self.units :] if self.units else []
        bounds = np.linspace(0, self.units, len(layers) + 1).astype(int).tolist()
        for layer, (low, high) in zip(layers, pairwise(bounds), strict=True):
            units = outcome.labels[layer].units.tolist()
            for place in np.linspace(0, len(units) - 1, min(high - low, len(units))).round().astype(int).tolist():
                indices = outcome.top_images[layer][place][: self.images].tolist()
                row = rows[layer, units[place]]
                numbers = {name: float(row[name]) if row[name] else None for name in ("similarity", "rank_of_truth")}
                picture = wandb.Image(_strip(outcome, indices), caption=row["description"])
                yield {**row, "unit": units[place], **numbers, "images": picture}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values under one name each, keys joined by `/`, without `layers/`; intervals as `KEY/low`, `KEY/high`."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = prefix + key
        if isinstance(value, Mapping):
            found |= flat(value, "" if name == "layers" else f"{name}/")
        elif isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
            found |= {f"{name}/low": value[0], f"{name}/high": value[1]}
        else:
            found[name] = value
    return found


def _artifact(run: "wandb.Run", folder: Path) -> "wandb.Artifact":
    import wandb

    artifact = wandb.Artifact(f"labels-{run.id}", type="labels")
    paths = [folder / "labels.csv", *sorted(folder.glob("labels_*.csv")), folder / "metrics.json"]
    for path in [*paths, folder / "comparisons.json", folder / "manifest.json"]:
        if path.is_file():
            artifact.add_file(str(path))
    return artifact


def _strip(outcome: Outcome, indices: Sequence[int], *, size: int = 96) -> Image.Image:
    """The images side by side: one file a unit, where one a picture would take four times the time to stage."""
    canvas = Image.new("RGB", (len(indices) * size, size))
    for place, index in enumerate(indices):
        canvas.paste(ImageOps.fit(outcome.probe[index], (size, size)), (place * size, 0))
    return canvas


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables as given within the block, and as before after it."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
