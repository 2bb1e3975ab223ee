"""`plan=true`: what a run would download, read, hold in memory and store, without doing it."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.table import Table

from cd_exp.dissection import bind_names
from cd_exp.features.features import count_images_needed
from cd_exp.io.text import as_terminal_text
from cd_exp.plan.features import (
    COMPUTED,
    AvailableParts,
    FeatureSteps,
    Step,
    plan_images,
    plan_matrix,
    plan_network,
    plan_texts,
)
from cd_exp.plan.networks import Outline, Target
from cd_exp.similarity.scoring import RESULT_BYTES
from cd_exp.similarity.top_images import BLOCK_BYTES
from cd_exp.units import ActivationMatrix

PATIENCE = 4.0


def download_size(address: str) -> int | None:
    """Bytes that a server announces for an address; None where it does not, or cannot be reached."""
    import requests

    if os.environ.get("HF_HUB_OFFLINE"):
        return None
    try:
        answer = requests.head(address, allow_redirects=True, timeout=PATIENCE, headers={"Accept-Encoding": "identity"})
        return int(answer.headers["content-length"]) if answer.ok else None
    except (requests.RequestException, KeyError, ValueError):
        return None


PROCESS = 900_000_000
"""Bytes that Python and the libraries take with nothing loaded."""


@dataclass(frozen=True)
class Download:
    """Something to be downloaded; `bytes` is None where nobody says how much it is."""

    name: str
    address: str
    bytes: int | None


@dataclass(frozen=True)
class RunPlan:
    """What a run would do.

    Attributes:
        downloads: what has to be fetched first.
        steps: what is read, computed and scored, in order.
        images: how many; None where the probe set has to be downloaded first.
        memory: bytes at the peak, about.
        disk: below which folder features are kept, and the bytes free there.
        notes: what the bytes leave out, and what a reader should know.
    """

    downloads: tuple[Download, ...]
    steps: tuple[Step, ...]
    images: int | None
    memory: int
    disk: tuple[Path, int]
    notes: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """That all steps add to the cache."""
        return sum(step.bytes for step in self.steps)


def plan_run(config: DictConfig, choices: Mapping[str, str]) -> RunPlan:
    """The plan of a run.

    Raises:
        InputError: whatever the run itself would refuse before it begins.
    """
    pieces = AvailableParts.of(config, choices)
    downloads = tuple(
        Download(download.name, download.address, download_size(download.address)) for download in pieces.downloads
    )
    disk = pieces.store.root, _free_bytes(pieces.store.root)
    notes = [_list_left_out(config)]
    probe, clip, concepts, model = pieces.probe, pieces.clip, pieces.concepts, pieces.model
    if probe is None or clip is None or concepts is None or model is None:
        notes.append("Time and size can be estimated once these files are downloaded.")
        return RunPlan(downloads, (), None if probe is None else len(probe), PROCESS, disk, tuple(notes))
    resamples = config.stability.resamples
    similarity = bind_names(pieces.similarity, concepts.names)
    strongest = count_images_needed(similarity, len(probe), resamples, shown=config.report.images)
    strongest = None if pieces.everything else strongest
    target: Target | None = None
    if isinstance(pieces.units, ActivationMatrix):
        features = plan_matrix(pieces.units, probe)
    else:
        features, target = plan_network(pieces, model, probe, strongest=strongest)
    images, dim, tower = plan_images(pieces, clip, probe)
    texts = plan_texts(pieces, clip, concepts, dim)
    steps, networks = _add_pass([*features.steps, images], target, tower, images=len(probe))
    units = sum(features.layers.values())
    steps += [texts, Step("similarity", choices.get("similarity", ""), f"{units:,} x {len(concepts.names):,}")]
    if resamples:
        steps.append(Step("stability", f"{resamples} resamples"))
    memory = _peak_memory(features, networks, images=len(probe), units=units, concepts=len(concepts.names), dim=dim)
    built = [outline for outline in networks if outline.device.type != "meta"]
    notes += ["a network was built to look at it: it comes from code of its own"] if built else []
    notes += ["all activations are read: features.keep=lists will not do"] if strongest is None else []
    return RunPlan(downloads, tuple(steps), len(probe), memory, disk, (*notes, *features.notes, *pieces.store.reports))


def _add_pass(
    steps: Sequence[Step], target: Target | None, tower: Outline | None, *, images: int
) -> tuple[list[Step], list[Outline]]:
    """The steps with the pass over the images that makes what is missing, and the networks that it needs."""
    missing = [step for step in steps if step.how.startswith(COMPUTED)]
    if not missing:
        return list(steps), []
    of_layers = target is not None and any(step.what in {layer.name for layer in target.layers} for step in missing)
    networks = [target.outline()] if of_layers and target is not None else []
    networks += [tower] if tower is not None else []
    return [*steps, Step("one pass over the images", COMPUTED, f"{images:,} images")], networks


def _peak_memory(
    features: FeatureSteps, networks: Sequence[Outline], *, images: int, units: int, concepts: int, dim: int
) -> int:
    """About the peak: the networks with a batch, or else the scoring with what it reads."""
    passing_by = sum(outline.weights + 2 * outline.largest for outline in networks)
    tiles = min(BLOCK_BYTES, 4 * images * concepts)
    scores = min(RESULT_BYTES, 4 * units * concepts)
    embeddings = 8 * dim * (images + concepts)
    read = 0 if features.listed else 4 * images * units
    return PROCESS + max(passing_by + features.memory, tiles + 2 * scores + embeddings + read)


def _list_left_out(config: DictConfig) -> str:
    """What the bytes do not count."""
    pages = config.report.explorer != "none"
    return "not in the bytes: the run folder" + (" and the explorer's thumbnails" if pages else "")


def _free_bytes(folder: Path) -> int:
    """Bytes free on the disk of a folder that may not be there yet."""
    there = next(ancestor for ancestor in (folder, *folder.parents) if ancestor.exists())
    return shutil.disk_usage(there).free


def describe_plan(plan: RunPlan) -> dict[str, Any]:
    """A plan as one document; sizes in bytes."""
    folder, free = plan.disk
    return {
        "downloads": [asdict(download) for download in plan.downloads],
        "steps": [asdict(step) for step in plan.steps],
        "images": plan.images,
        "memory": plan.memory,
        "cache": {"folder": str(folder), "growth": plan.bytes, "free": free, "fits": plan.bytes <= free},
        "notes": list(plan.notes),
    }


def show_plan(console: Console, plan: RunPlan) -> None:
    """Print what a run would download, read, compute and store, and whether that fits."""
    for download in plan.downloads:
        size = "of unknown size" if download.bytes is None else format_written(download.bytes)
        console.print(as_terminal_text(f"download: {download.name}, {size}, from {download.address}"), soft_wrap=True)
    if plan.steps:
        console.print(_make_table(plan))
    for note in plan.notes:
        console.print(as_terminal_text(f"note: {note}", style="yellow"))
    images = (
        "number of images unknown until the downloads are there" if plan.images is None else f"{plan.images:,} images"
    )
    folder, free = plan.disk
    line = f"plan: {images}, cache growth {format_written(plan.bytes)} below {folder} ({format_written(free)} free)"
    if plan.steps:
        line += f", about {format_written(plan.memory)} of memory"
    console.print(as_terminal_text(line), soft_wrap=True)
    if plan.bytes > free:
        console.print(as_terminal_text(
            f"it does not fit: set cache.dir to a larger disk, features.keep=lists, or fewer model.layers ({folder} "
            f"lacks {format_written(plan.bytes - free)})", style="red"), soft_wrap=True)  # fmt: skip


def _make_table(plan: RunPlan) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, side in (
        ("step", "left"),
        ("how", "left"),
        ("size", "right"),
        ("disk", "right"),
    ):
        table.add_column(heading, justify=side)  # type: ignore[arg-type]
    for step in plan.steps:
        disk = format_written(step.bytes) if step.bytes else ""
        table.add_row(*(as_terminal_text(cell) for cell in (step.what, step.how, step.size, disk)))
    return table


def format_written(count: int) -> str:
    """Bytes in words.

    >>> format_written(1_234), format_written(56_700_000)
    ('1.2 kB', '56.7 MB')
    """
    for size, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
