"""A sweep read from its folder: its jobs, how each ended, the settings in which they differ, and its table."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cd_exp.config.resolved import rename_targets, without_private_parts
from cd_exp.io.text import flatten_dict, format_csv

OK, FAILED, UNFINISHED = "ok", "failed", "unfinished"
METHOD = ("model", "probe", "concepts", "clip", "similarity", "baseline")
"""The order in which the axes of a sweep are shown; others follow as they come."""


@dataclass(frozen=True, eq=False)
class Job:
    """One job: its folder, how it ended, its settings and, where it is finished, its metrics by layer.

    `config` is the composed configuration; empty where none can be read. `baselines` is by method, then layer.
    """

    name: str
    folder: Path
    status: str
    reason: str = ""
    overrides: Mapping[str, str] = field(default_factory=dict)
    choices: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    baselines: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    model: str = ""

    def value(self, key: str) -> str | None:
        """What the job has for a config group or a dotted setting: `-` where it has no such, None where unknown."""
        if key in self.choices:
            return self.choices[key]
        node: Any = self.config
        for part in key.split("."):
            node = node.get(part, self) if isinstance(node, Mapping) else self
        if node is not self and not isinstance(node, Mapping | list):
            return format_setting(node)
        if key in self.overrides:
            return self.overrides[key]
        if node is not self:
            return json.dumps(node, ensure_ascii=False)
        return "-" if self.config else None


@dataclass(frozen=True, eq=False)
class Sweep:
    """The jobs in order, and the axes: the settings in which they differ."""

    folder: Path
    jobs: tuple[Job, ...]
    axes: tuple[str, ...]

    @property
    def finished(self) -> tuple[Job, ...]:
        """The jobs with results."""
        return tuple(job for job in self.jobs if job.status == OK)

    @property
    def troubled(self) -> tuple[Job, ...]:
        """The jobs that failed or are not finished."""
        return tuple(job for job in self.jobs if job.status != OK)

    def levels(self, axis: str) -> tuple[str, ...]:
        """The values of an axis: numbers by size, others as they come."""
        values = list(dict.fromkeys(value for job in self.jobs if (value := job.value(axis)) is not None))
        try:
            return tuple(sorted(values, key=float))
        except ValueError:
            return tuple(values)

    def describe_job(self, job: Job, *, without: str = "") -> str:
        """The axes' values of a job in words, as in `cifar10 · wpmi`."""
        return " · ".join(job.value(axis) or "?" for axis in self.axes if axis != without)


def find_axes(jobs: Sequence[Job]) -> tuple[str, ...]:
    """The settings in which jobs differ.

    Settings that the command line varies come first. A config group that nobody named but that differs (a model
    brings its own concepts) is an axis only where two jobs are otherwise alike.
    """
    named = dict.fromkeys(key for job in jobs for key in job.overrides)
    groups = dict.fromkeys(key for job in jobs for key in job.choices)
    axes: list[str] = []
    for key in [*named, *groups]:
        if key in axes or len({job.value(key) for job in jobs} - {None}) < 2:
            continue
        if key in named or not _follows_from(key, axes, jobs):
            axes.append(key)
    return tuple(sorted(axes, key=lambda key: METHOD.index(key) if key in METHOD else len(METHOD)))


def _follows_from(key: str, axes: Sequence[str], jobs: Sequence[Job]) -> bool:
    """Whether the axes already tell the value of `key`."""
    with_key = [job for job in jobs if job.value(key) is not None]
    combinations = {tuple(job.value(axis) for axis in axes) for job in with_key}
    return len(combinations) == len({(*(job.value(axis) for axis in axes), job.value(key)) for job in with_key})


def format_setting(value: Any) -> str:
    """A setting as the command line writes it."""
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


MARKS = (".hydra", "metrics.json", "error.json", "manifest.json")
NOT_JOBS = ("figures", "wandb")
DEPTH = 3  # hydra.sweep.subdir may nest folders; a home directory by mistake is not searched whole
OVERRIDE = re.compile(r"(?:\+\+|\+|~)?([^=]+)(?:=(.*))?", re.DOTALL)


def describe_finished_sweep(sweep: Sweep) -> dict[str, Any]:
    """A sweep as one document: its axes, and each job with how it ended, its values and its metrics by layer."""
    return {
        "folder": str(sweep.folder),
        "axes": {axis: sweep.levels(axis) for axis in sweep.axes},
        "finished": len(sweep.finished),
        "failed": len(sweep.troubled),
        "jobs": [
            {
                "name": job.name,
                "folder": str(job.folder),
                "status": job.status,
                **({"reason": job.reason} if job.reason else {}),
                "values": {axis: job.value(axis) for axis in sweep.axes},
                "layers": job.layers,
                "baselines": job.baselines,
            }
            for job in sweep.jobs
        ],
        "files": sorted(path.name for path in sweep.folder.iterdir() if path.is_file()),
    }


def read_sweep(folder: Path) -> Sweep:
    """The sweep in a folder; without jobs where the folder has none or is not there."""
    folders = sorted(_job_folders(folder, DEPTH), key=lambda path: _natural_key(str(path.relative_to(folder))))
    jobs = tuple(_read_job(path, name=path.relative_to(folder).as_posix()) for path in folders)
    return Sweep(folder, jobs, find_axes(jobs))


def _job_folders(folder: Path, depth: int) -> Iterator[Path]:
    for child in folder.iterdir() if folder.is_dir() else ():
        if child.name.startswith(".") or child.name in NOT_JOBS or not child.is_dir():
            continue
        if any((child / mark).exists() for mark in MARKS):
            yield child
        elif depth > 1 and not child.is_symlink():
            yield from _job_folders(child, depth - 1)


def _natural_key(text: str) -> list[tuple[int, str]]:
    """10 after 9, and numbers before words."""
    return [(int(part), "") if part.isdecimal() else (10**18, part) for part in re.split(r"(\d+)", text) if part]


def _read_job(folder: Path, *, name: str) -> Job:
    manifest, metrics, error = (_read_json(folder / f"{what}.json") for what in ("manifest", "metrics", "error"))
    begun = _read_yaml(folder / ".hydra" / "overrides.yaml")
    if isinstance(begun, list):
        # A folder may be used again: results of an earlier job are not those of the one begun last.
        if manifest is not None and manifest.get("overrides", begun) not in (
            begun,
            [without_private_parts(str(text)) for text in begun],
        ):
            manifest = metrics = None
        error = error if error is None or error.get("overrides", begun) == begun else None
    if (
        error is not None
        and metrics is not None
        and _modified_time(folder / "metrics.json") >= _modified_time(folder / "error.json")
    ):
        error = None
    texts = begun if isinstance(begun, list) else (error or manifest or {}).get("overrides", [])
    about: dict[str, Any] = {"overrides": dict(_parse_override(rename_targets(str(text))) for text in texts)}
    if metrics is not None and error is None:
        about |= {"layers": metrics.get("layers", {}), "baselines": metrics.get("baselines", {})}
    about["status"], about["reason"] = _how_it_ended(folder, metrics, error)
    return Job(name=name, folder=folder, **about, **_read_config(folder, manifest))


def _how_it_ended(folder: Path, metrics: Any, error: Any) -> tuple[str, str]:
    if error is not None:
        kind, words = error.get("kind", ""), str(error.get("error", ""))
        return FAILED, words if kind == "InputError" else f"{kind}: {words}".strip(": ")
    if metrics is not None:
        return OK, ""
    for name in ("error.json", "metrics.json"):
        if (folder / name).exists() and _read_json(folder / name) is None:
            return (FAILED if name == "error.json" else UNFINISHED), f"{name} cannot be read"
    return UNFINISHED, "no metrics.json: still running, or stopped midway"


def _read_config(folder: Path, manifest: Mapping[str, Any] | None) -> dict[str, Any]:
    """Configuration and choices, from the manifest of a finished job or from what Hydra wrote when it began."""
    if manifest is not None:
        config, choices = manifest.get("config", {}), manifest.get("choices", {})
        model = str(manifest.get("fingerprints", {}).get("model", ""))
    else:
        config = _read_yaml(folder / ".hydra" / "config.yaml") or {}
        hydra = _read_yaml(folder / ".hydra" / "hydra.yaml", resolve=False) or {}
        choices = hydra.get("hydra", {}).get("runtime", {}).get("choices", {})
        model = ""
    named = {group: format_setting(choice) for group, choice in choices.items() if "/" not in group}
    return {"config": rename_targets(config), "choices": named, "model": model}


def _parse_override(text: str) -> tuple[str, str]:
    """The key and value of `key=value`, `+key=value` or `~key`."""
    match = OVERRIDE.fullmatch(text)
    key, value = match.groups() if match else (text, None)
    return key, "none" if value is None else value


def _modified_time(path: Path) -> int:
    return path.stat().st_mtime_ns


def _read_json(path: Path) -> dict[str, Any] | None:
    """None where there is no file, or none that can be read: a job may be killed while it writes."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _read_yaml(path: Path, *, resolve: bool = True) -> Any:
    """As `_read_json`; interpolations stay as they are written where they cannot be resolved."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError  # type: ignore[import-untyped]

    try:
        config = OmegaConf.load(path)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException):
        return None
    try:
        return OmegaConf.to_container(config, resolve=resolve)
    except OmegaConfBaseException:
        return OmegaConf.to_container(config)


LAST = "last judged layer"


@dataclass(frozen=True, eq=False)
class LayerAcrossJobs:
    """One layer across the jobs: the metrics of those that judged it, by the job's name."""

    title: str
    metrics: Mapping[str, Mapping[str, Any]]

    def cell(self, job: Job, *, line: str = " ") -> str:
        """Top-1 with its interval, or how a job without one ended; empty for a job that has no such layer."""
        if job.name not in self.metrics:
            return "" if job.layers else job.status
        from cd_exp.metrics import BY_KEY  # brings torch with it

        return BY_KEY["top1"].text(self.metrics[job.name]).replace(" [", f"{line}[")


def common_layers(sweep: Sweep) -> tuple[LayerAcrossJobs, ...]:
    """Every layer with a truth; where models differ so that none is common to all, each job's last such layer."""
    judged = {job.name: {layer: row for layer, row in job.layers.items() if "top1" in row} for job in sweep.finished}
    judged = {name: layers for name, layers in judged.items() if layers}
    if not judged:
        return ()
    everywhere = dict.fromkeys(layer for layers in judged.values() for layer in layers)
    if not any(all(layer in layers for layers in judged.values()) for layer in everywhere):
        return (LayerAcrossJobs(LAST, {name: list(layers.values())[-1] for name, layers in judged.items()}),)
    return tuple(
        LayerAcrossJobs(layer, {name: layers[layer] for name, layers in judged.items() if layer in layers})
        for layer in everywhere
    )


def sweep_table(sweep: Sweep) -> tuple[list[str], list[list[Any]]]:
    """The header and the rows of `sweep.csv`: one a job and layer, one for a job without results; None where empty."""
    rows = [row for job in sweep.jobs for row in _job_rows(sweep, job)]
    fullest_first = sorted(rows, key=len, reverse=True)  # a job of an older version lacks keys in the middle
    columns = list(dict.fromkeys(key for row in fullest_first for key in row))
    return columns, [[row.get(key) for key in columns] for row in rows]


def format_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The text of a CSV file; None is an empty cell."""
    return format_csv([columns, *rows])


def _job_rows(sweep: Sweep, job: Job) -> Iterator[dict[str, Any]]:
    about = {"job": job.name, **{axis: job.value(axis) for axis in sweep.axes}}
    about |= {"status": job.status, "reason": job.reason or None}
    layers = dict.fromkeys([*job.layers, *(layer for method in job.baselines.values() for layer in method)])
    for layer in layers or [None]:
        row = about | {"layer": layer} | (flatten_dict(job.layers.get(layer, {})) if layer else {})
        for method, by_layer in job.baselines.items():
            row |= flatten_dict({method: by_layer[layer]}) if layer and layer in by_layer else {}
        yield row
