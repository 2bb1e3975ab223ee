"""`report.html`: tables and figures of a run in one file that opens anywhere and prints; units are in the explorer."""

from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image

from cd_exp.io.atomic import write_file as write_file
from cd_exp.io.text import flatten_dict
from cd_exp.records import CLIP_DISSECT, RunResult
from cd_exp.results.image_strips import as_data_uri, encode_jpeg
from cd_exp.results.plots import DPI, read_captions
from cd_exp.results.summary import format_cell, method_differences, metric_columns, metrics_rows

PHOTOGRAPHS = ("units",)  # figures made of images: as JPEG in the page, a fifth of a PNG's bytes


def write_report(
    folder: Path,
    outcome: RunResult,
    *,
    manifest: Mapping[str, Any],
    method: str = CLIP_DISSECT,
    title: str = "",
) -> Path:
    """Write `folder/report.html`, with what `draw_figures` drew there before and a link to `explorer/`.

    Text that comes from concept files, models or probe sets is escaped, and the page's own policy refuses anything from
    a network.

    Args:
        folder: the run folder.
        outcome: the results of the run.
        manifest: what it was made with; `config` in it becomes the table of settings.
        method: what our own labels are called beside those of a baseline.
        title: the heading; the folder's name where none is given.

    Returns:
        The page.
    """
    table = metrics_rows(outcome, method)
    text = _read_template().render(
        title=title or folder.resolve().name,
        outcome=outcome,
        columns=metric_columns(table),
        rows=table,
        layers=[list(rows) for _, rows in groupby(table, key=lambda row: row.layer)],
        cell=format_cell,
        has=lambda cells, metric: any(format_cell(row, metric, interval=False) for row in cells),
        several=len({row.method for row in table}) > 1,
        tests=method_differences(outcome),
        figures=list(_embed_figures(folder)),
        settings=_list_settings(manifest),
        seconds=outcome.seconds,
        explored=(folder / "explorer" / "index.html").is_file(),
    )
    path = folder / "report.html"
    write_file(path, text)
    return path


def _read_template() -> Any:
    """The page's template, which escapes whatever it is given and refuses a name that it is not."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("cd_exp.results", ".")
    strict = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return strict.get_template("page.html")


def _list_settings(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    settings = flatten_dict(manifest.get("config", {}), separator=".")
    return [(key, _format_value(value)) for key, value in settings.items()]


def _embed_figures(folder: Path) -> Iterator[tuple[str, str, str, int]]:
    """Of each figure in the folder its name, address, caption and width in CSS pixels, as wide as on paper."""
    for name, caption in read_captions(folder).items():
        content = (folder / "figures" / f"{name}.png").read_bytes()
        with Image.open(BytesIO(content)) as image:
            width, kind = round(image.width * 96 / DPI), "image/png"
            if name in PHOTOGRAPHS:
                content, kind = encode_jpeg(image.convert("RGB"), quality=75), "image/jpeg"
        yield name, as_data_uri(content, kind), caption, width


def _format_value(value: Any) -> str:
    """A setting as the command line writes it, but for brackets."""
    return ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
