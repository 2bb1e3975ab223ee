"""What a sweep left on disk: the folders of its jobs, and how each ended."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cd_exp.config.resolved import sheltered
from cd_exp.sweep.jobs import FAILED, OK, UNFINISHED, Job, Sweep, axes_of, text_of

MARKS = (".hydra", "metrics.json", "error.json", "manifest.json")
NOT_JOBS = ("figures", "wandb")
DEPTH = 3  # hydra.sweep.subdir may nest folders; a home directory given by mistake is not searched whole
OVERRIDE = re.compile(r"(?:\+\+|\+|~)?([^=]+)(?:=(.*))?", re.DOTALL)


def read(folder: Path) -> Sweep:
    """The sweep in a folder; without jobs where the folder has none or is not there."""
    places = sorted(_folders(folder, DEPTH), key=lambda place: _natural(str(place.relative_to(folder))))
    jobs = tuple(_job(place, name=place.relative_to(folder).as_posix()) for place in places)
    return Sweep(folder, jobs, axes_of(jobs))


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    for child in folder.iterdir() if folder.is_dir() else ():
        if child.name.startswith(".") or child.name in NOT_JOBS or not child.is_dir():
            continue
        if any((child / mark).exists() for mark in MARKS):
            yield child
        elif depth > 1 and not child.is_symlink():
            yield from _folders(child, depth - 1)


def _natural(text: str) -> list[tuple[int, str]]:
    """10 after 9, and numbers before words."""
    return [(int(part), "") if part.isdecimal() else (10**18, part) for part in re.split(r"(\d+)", text) if part]


def _job(folder: Path, *, name: str) -> Job:
    manifest, metrics, error = (_json(folder / f"{what}.json") for what in ("manifest", "metrics", "error"))
    begun = _yaml(folder / ".hydra" / "overrides.yaml")
    if isinstance(begun, list):
        # A folder may be used again: results of an earlier job are not those of the one begun last.
        if manifest is not None and manifest.get("overrides", begun) not in (
            begun,
            [sheltered(str(text)) for text in begun],
        ):
            manifest = metrics = None
        error = error if error is None or error.get("overrides", begun) == begun else None
    if error is not None and metrics is not None and _age(folder / "metrics.json") >= _age(folder / "error.json"):
        error = None
    texts = begun if isinstance(begun, list) else (error or manifest or {}).get("overrides", [])
    about: dict[str, Any] = {"overrides": dict(_override(str(text)) for text in texts)}
    if metrics is not None and error is None:
        about |= {"layers": metrics.get("layers", {}), "baselines": metrics.get("baselines", {})}
    about["status"], about["reason"] = _ending(folder, metrics, error)
    return Job(name=name, folder=folder, **about, **_composed(folder, manifest))


def _ending(folder: Path, metrics: Any, error: Any) -> tuple[str, str]:
    if error is not None:
        kind, words = error.get("kind", ""), str(error.get("error", ""))
        return FAILED, words if kind == "InputError" else f"{kind}: {words}".strip(": ")
    if metrics is not None:
        return OK, ""
    for name in ("error.json", "metrics.json"):
        if (folder / name).exists() and _json(folder / name) is None:
            return (FAILED if name == "error.json" else UNFINISHED), f"{name} cannot be read"
    return UNFINISHED, "no metrics.json: still running, or stopped midway"


def _composed(folder: Path, manifest: Mapping[str, Any] | None) -> dict[str, Any]:
    """Configuration and choices, from the manifest of a finished job or from what Hydra wrote when it began."""
    if manifest is not None:
        config, choices = manifest.get("config", {}), manifest.get("choices", {})
        model = str(manifest.get("fingerprints", {}).get("model", ""))
    else:
        config = _yaml(folder / ".hydra" / "config.yaml") or {}
        hydra = _yaml(folder / ".hydra" / "hydra.yaml", resolve=False) or {}
        choices = hydra.get("hydra", {}).get("runtime", {}).get("choices", {})
        model = ""
    named = {group: text_of(choice) for group, choice in choices.items() if "/" not in group}
    return {"config": config, "choices": named, "model": model}


def _override(text: str) -> tuple[str, str]:
    """The key and value of `key=value`, `+key=value` or `~key`."""
    match = OVERRIDE.fullmatch(text)
    key, value = match.groups() if match else (text, None)
    return key, "none" if value is None else value


def _age(path: Path) -> int:
    return path.stat().st_mtime_ns


def _json(path: Path) -> dict[str, Any] | None:
    """None where there is no file, or none that can be read: a job may be killed while it writes."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _yaml(path: Path, *, resolve: bool = True) -> Any:
    """As `_json`; interpolations stay as they are written where they cannot be resolved."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError  # type: ignore[import-untyped]

    try:
        found = OmegaConf.load(path)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException):
        return None
    try:
        return OmegaConf.to_container(found, resolve=resolve)
    except OmegaConfBaseException:
        return OmegaConf.to_container(found)
