"""A plan for a terminal."""

from rich import box
from rich.console import Console
from rich.table import Table

from cd_exp.io.text import terminal_text
from cd_exp.plan.planning import Plan


def show(console: Console, plan: Plan) -> None:
    """Print what a run would download, read, compute and store, and whether that fits."""
    for download in plan.downloads:
        size = "of unknown size" if download.bytes is None else written(download.bytes)
        console.print(terminal_text(f"download: {download.name}, {size}, from {download.address}"), soft_wrap=True)
    if plan.steps:
        console.print(_table(plan))
    for note in plan.notes:
        console.print(terminal_text(f"note: {note}", style="yellow"))
    images = "images unknown" if plan.images is None else f"{plan.images:,} images"
    folder, free = plan.disk
    line = f"plan: {images}, {written(plan.bytes)} more below {folder} ({written(free)} free)"
    if plan.steps:
        line += f", about {written(plan.memory)} of memory"
    console.print(terminal_text(line), soft_wrap=True)
    if plan.bytes > free:
        console.print(terminal_text(
            f"it does not fit: set cache.dir to a larger disk, features.keep=lists, or fewer model.layers ({folder} "
            f"lacks {written(plan.bytes - free)})", style="red"), soft_wrap=True)  # fmt: skip


def _table(plan: Plan) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, side in (
        ("step", "left"),
        ("how", "left"),
        ("size", "right"),
        ("disk", "right"),
    ):
        table.add_column(heading, justify=side)  # type: ignore[arg-type]
    for step in plan.steps:
        disk = written(step.bytes) if step.bytes else ""
        table.add_row(*(terminal_text(cell) for cell in (step.what, step.how, step.size, disk)))
    return table


def written(count: int) -> str:
    """Bytes in words.

    >>> written(1_234), written(56_700_000)
    ('1.2 kB', '56.7 MB')
    """
    for size, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
