"""Trackers: a run recorded by Weights & Biases, or by none.

A record begins once the settings were checked and ends with the run, so that a run that fails is there as a failed one.
What is logged is read from the run folder, so that the record and the files cannot differ.
"""

import csv
import json
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from cd_exp.errors import InputError, unknown_name_error
from cd_exp.io import atomic
from cd_exp.io.text import flatten_dict, make_file_name
from cd_exp.plugins import door, load_function
from cd_exp.records import CLIP_DISSECT, RunResult
from cd_exp.results.image_strips import make_strip
from cd_exp.results.summary import share_over_layers, spread_evenly

if TYPE_CHECKING:
    import wandb

MODES = ("offline", "online", "disabled")
SIZE = 96  # pixels of an image in the table of labels; one strip a unit, for a file an image takes four times as long


@dataclass(frozen=True)
class RunInfo:
    """How a record is filed.

    Attributes:
        config: the settings as plain values.
        name: the run's name.
        group: the sweep the run belongs to; None for a run of its own.
        job_type: what kind of job it is.
    """

    config: Mapping[str, Any]
    name: str | None = None
    group: str | None = None
    job_type: str | None = None


@runtime_checkable
class LoggerRun(Protocol):
    """The record of a run that goes on."""

    def finish(self, outcome: RunResult, *, folder: Path) -> str | None:
        """Log a run whose files lie in `folder`; returns what a reader should know of where the record is."""


class Logger(ABC):
    """Where a run is recorded."""

    def check(self) -> None:  # noqa: B027  refuses nothing by default
        """Raise InputError where nothing can be recorded, before anything is computed."""

    @abstractmethod
    def begin(self, folder: Path, about: RunInfo) -> AbstractContextManager[LoggerRun]:
        """A record that ends with the block, as a failed one after an exception."""


@dataclass(frozen=True)
class NoLogger(Logger):
    """`logger=none`: nothing is recorded, and wandb is not imported."""

    def begin(self, folder: Path, about: RunInfo) -> AbstractContextManager["NoLogger"]:
        """Do nothing."""
        del folder, about
        return nullcontext(self)

    def finish(self, outcome: RunResult, *, folder: Path) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Wandb(Logger):
    """`logger=wandb`: one W&B run for each job, closed before the next begins.

    A run that is begun again in the same folder goes on under the same W&B run id. Host, user and paths of the machine
    are never recorded.

    Args:
        project: the W&B project.
        entity: the user or team; W&B's own default where None.
        mode: `offline`, `online` or `disabled`.
        tags: words to find the run by.
        units: how many units the table of labels shows, spread evenly over the layers, or `all`.
        images: how many top images of each.
        system_metrics: whether W&B samples the use of processors, memory and GPU while the run goes on.
        init_timeout: seconds to wait for the server when a run begins online.
        finish_timeout: seconds to wait for what is left to send when it ends online; the rest stays in the folder.
    """

    project: str = "cd-exp"
    entity: str | None = None
    mode: str = "offline"
    tags: Sequence[str] = ()
    units: int | Literal["all"] = 28
    images: int = 4
    system_metrics: bool = True
    init_timeout: int = 15
    finish_timeout: int = 300

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise unknown_name_error("logger.mode", self.mode, MODES)

    @contextmanager
    def begin(self, folder: Path, about: RunInfo) -> Iterator[LoggerRun]:
        """A W&B run that ends with the block; after an exception it is a failed one, and its summary has the error.

        Raises:
            InputError: online without a key, or where the server does not answer in time.
        """
        if self.mode == "disabled":
            yield NoLogger()
            return
        with self.run(folder=folder, about=about) as run:
            try:
                yield _WandbRecord(self, run)
            except BaseException as error:
                run.summary["error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"
                raise

    @contextmanager
    def run(self, *, folder: Path, about: RunInfo) -> Iterator["wandb.Run"]:
        """A W&B run under `folder/wandb`, finished when the block ends and marked failed after an exception."""
        surroundings = {
            "WANDB_DATA_DIR": str(folder / "wandb"),  # where files are staged, by default outside the run folder
            "WANDB_MODE": self.mode,  # for the process; `online` here looks the server up even for an offline run
            "WANDB_SILENT": "true",
        }
        with _set_environment(surroundings):
            run = self._init(folder, about)
            try:
                yield run
            except BaseException:  # W&B's own context would print a traceback, also of what a user can mend
                run.finish(exit_code=1)
                raise
            run.finish()

    def _init(self, folder: Path, about: RunInfo) -> "wandb.Run":
        import wandb

        try:
            if self.mode == "online":
                wandb.teardown()  # W&B reads the mode of a process once, and an earlier run of it may have been offline
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
                id=_make_run_id(folder / "wandb", f"{self.entity or ''}/{self.project}"),
                resume="allow",
                reinit="create_new",  # else an unfinished run of this process would be handed on, with its old config
                settings=self._settings(),
                config=dict(about.config),
                name=about.name,
                group=about.group,
                job_type=about.job_type,
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
            host="",
            silent=True,
            console="off",  # the tables are in the files
            x_disable_stats=not self.system_metrics,
            x_disable_machine_info=not self.system_metrics,  # without it W&B samples nothing
            x_disable_meta=True,  # the manifest has the versions and the commit
            x_save_requirements=False,
            disable_git=True,
            disable_code=True,
        )

    def _tables(self, outcome: RunResult, folder: Path) -> Iterator[tuple[str, "wandb.Table"]]:
        import wandb

        units = list(self._units(outcome, folder))
        if units:
            yield "labels", wandb.Table(columns=[*units[0]], data=[list(unit.values()) for unit in units])
        yield "metrics", _labels_table(_flat_metrics(json.loads((folder / "metrics.json").read_text())))
        path = folder / "comparisons.json"
        if path.is_file():
            yield "comparisons", _labels_table([flatten_dict(row) for row in json.loads(path.read_text())])

    def _units(self, outcome: RunResult, folder: Path) -> Iterator[dict[str, Any]]:
        """The rows of `labels.csv` that are shown, with one image of the top images each."""
        import wandb

        with (folder / "labels.csv").open(newline="") as file:
            rows = {(row["layer"], int(row["unit"])): row for row in csv.DictReader(file)}
        for layer, positions in self._select_layers(outcome):
            units = outcome.labels[layer].units.tolist()
            for position in positions:
                indices = outcome.top_images[layer][position][: self.images].tolist()
                row = rows[layer, units[position]]
                numbers = {name: float(row[name]) if row[name] else None for name in ("similarity", "rank_of_truth")}
                shown = {**row, "unit": units[position], **numbers}
                if indices:
                    image = wandb.Image(make_strip(outcome.probe, indices, SIZE, gap=0), caption=row["description"])
                    shown["images"] = image
                yield shown

    def _select_layers(self, outcome: RunResult) -> Iterator[tuple[str, list[int]]]:
        """The layers of the table with the indices of their units."""
        sizes = {layer: len(outcome.labels[layer].units) for layer in outcome.labels if layer in outcome.top_images}
        if self.units == "all":
            yield from ((layer, list(range(size))) for layer, size in sizes.items())
        else:
            yield from ((layer, spread_evenly(sizes[layer], n)) for layer, n in share_over_layers(outcome, self.units))


@dataclass(frozen=True, eq=False)
class _WandbRecord:
    """A W&B run that goes on."""

    logger: Wandb
    run: "wandb.Run"

    def finish(self, outcome: RunResult, *, folder: Path) -> str:
        """Log metrics, tables, notes and files, and say where the run is and how an offline one is sent.

        The summary has the numbers of `metrics.json` as `LAYER/top1`, `baselines/NAME/LAYER/top1` and `seconds/total`.
        """
        for method, layers in {"": outcome.metrics, **outcome.baseline_metrics}.items():
            for layer, (figure, summary) in product(layers, metric_directions()):
                key = f"{layer}/{figure}"
                self.run.define_metric(f"baselines/{method}/{key}" if method else key, summary=summary)
        self.run.summary.update(flatten_dict(json.loads((folder / "metrics.json").read_text()), drop=["layers"]))
        self.run.notes = "\n".join(outcome.notes)
        self.run.log(dict(self.logger._tables(outcome, folder)))
        self.run.log_artifact(_make_artifact(self.run, folder))
        return str(self.run.url) if self.run.url else make_sync_command(Path(self.run.dir).parent)


def metric_directions() -> list[tuple[str, str]]:
    """The key of each figure that has a better direction, with what W&B's summary of a metric takes: max or min."""
    from cd_exp.metrics import METRICS

    return [
        (figure.key, "max" if figure.higher_is_better else "min")
        for figure in METRICS
        if figure.higher_is_better is not None
    ]


def make_sync_command(record: Path) -> str:
    """What to type to send an offline run, with the path as seen from the working directory where it lies below."""
    current = Path.cwd()
    return f"wandb sync {record.relative_to(current) if record.is_relative_to(current) else record}"


@dataclass(frozen=True, eq=False)
class CustomLogger(Logger):
    """A tracker of the user's own, every call of it through the one door; a run that failed stays a failed run."""

    logger: Logger
    source: str

    def check(self) -> None:
        """The tracker's own check."""
        with door(f"{self.source}: check failed", seeds=True):
            self.logger.check()

    @contextmanager
    def begin(self, folder: Path, about: RunInfo) -> Iterator[LoggerRun]:
        """The tracker's own record; what it does at the end hides no error of the run."""
        with door(f"{self.source}: begin failed", seeds=True):
            block = self.logger.begin(folder, about)
            is_block = hasattr(type(block), "__enter__") and hasattr(type(block), "__exit__")
            record = block.__enter__() if is_block else None
        if not is_block or not callable(getattr(record, "finish", None)):
            came = f"a record of type {type(record).__name__}" if is_block else type(block).__name__
            raise InputError(
                f"{self.source}: begin gave {came}, expected a context manager of what has finish(outcome, folder=...)"
            )
        assert record is not None
        try:
            yield CustomRecord(record, self.source)
        except BaseException as error:
            with suppress(InputError, RuntimeError), door(f"{self.source}: the end of the record failed", seeds=True):
                block.__exit__(type(error), error, error.__traceback__)
            raise
        with door(f"{self.source}: the end of the record failed", seeds=True):
            block.__exit__(None, None, None)


@dataclass(frozen=True, eq=False)
class CustomRecord:
    """The record of a run that goes on, of a user's own tracker."""

    record: LoggerRun
    source: str

    def finish(self, outcome: RunResult, *, folder: Path) -> str | None:
        """The record's own end; what it returns is where a reader finds it."""
        with door(f"{self.source}: finish failed", seeds=True):
            where = self.record.finish(outcome, folder=folder)
            return None if where is None else str(where)


def custom(*, factory: str, options: Mapping[str, Any] | None = None) -> CustomLogger:
    """The tracker that a function of the user's own returns, `logger=custom`.

    Args:
        factory: `FILE.py:function` or `package.module:function`; it returns a subclass of `Logger`.
        options: its keywords.

    Raises:
        InputError: there is no such function, or it returns something else.
    """
    made = load_function(factory, setting="logger.factory")(options or {})
    if not isinstance(made, Logger):
        raise InputError(
            f"logger.factory={factory} returned {type(made).__name__}, expected an object of a subclass of "
            "cd_exp.results.wandb.Logger: begin(folder, about) gives a context manager, what it yields has "
            "finish(outcome, folder=...)"
        )
    return CustomLogger(made, f"logger.factory={factory}")


def _make_run_id(folder: Path, project: str) -> str:
    """The W&B run id of a run folder and project, made once, so that a run begun again there goes on."""
    path = folder / "run_id.json"
    try:
        ids = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        ids = {}
    ids = ids if isinstance(ids, dict) else {}
    if not isinstance(ids.get(project), str):
        ids = {**ids, project: secrets.token_hex(4)}
        atomic.write_file(path, json.dumps(ids))
    return ids[project]


def _flat_metrics(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each layer and method: what `metrics.json` says of it."""
    methods = {CLIP_DISSECT: content["layers"], **content.get("baselines", {})}
    return [
        {"layer": layer, "method": method, **flatten_dict(metrics)}
        for method, layers in methods.items()
        for layer, metrics in layers.items()
    ]


def _labels_table(rows: Sequence[Mapping[str, Any]]) -> "wandb.Table":
    import wandb

    columns: list[str | int] = [*dict.fromkeys(key for row in rows for key in row)]
    return wandb.Table(columns=columns, data=[[row.get(str(key)) for key in columns] for row in rows])


def _make_artifact(run: "wandb.Run", folder: Path) -> "wandb.Artifact":
    """The files of the run: tables, page and figures; of other methods' labels those that the manifest names."""
    import wandb

    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    names = ["labels.csv", *(f"labels_{make_file_name(name)}.csv" for name in manifest.get("baselines", ()))]
    names += [
        "judged.csv",
        "metrics.json",
        "comparisons.json",
        "manifest.json",
        "report.html",
        *manifest.get("files", ()),
    ]
    figures = sorted(path.relative_to(folder).as_posix() for path in (folder / "figures").glob("*.*"))
    artifact = wandb.Artifact(f"labels-{run.id}", type="labels")
    for name in (*names, *figures):
        if (folder / name).is_file():
            artifact.add_file(str(folder / name), name=name)
    return artifact


@contextmanager
def _set_environment(values: Mapping[str, str]) -> Iterator[None]:
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
