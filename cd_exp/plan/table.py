"""A plan for a terminal."""

from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from cd_exp.io.text import as_terminal_text
from cd_exp.plan.planning import RunPlan


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
