"""`report.html`: one file that opens anywhere, with its figures, images, styles and script inside."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cd_exp.io.atomic import write_file as write_file
from cd_exp.io.text import flatten_dict
from cd_exp.records import CLIP_DISSECT, FLAGS, RunResult
from cd_exp.results.image_strips import as_data_uri, encode_jpeg, make_thumbnail
from cd_exp.results.run_folder import format_json
from cd_exp.results.summary import (
    SURE,
    ShownUnit,
    certainty,
    choose_units,
    format_cell,
    format_truth,
    is_label_right,
    method_differences,
    metric_columns,
    metrics_rows,
)

CAP = 5000  # rows of the list of units; about 350 bytes each
FIGURES = {
    "accuracy": "Accuracy of the labels by layer and method, with intervals of 95 %",
    "ranks": "Share of units whose truth is among the k best concepts",
    "risk_coverage": "Share of wrong labels among the most stable ones, by how many units they are",
    "reliability": "Share of labels that are right by the probability they were given, with intervals of 95 %",
    "agreement": "Share of units with identical labels by two methods",
}


@dataclass(frozen=True)
class PageRow:
    """A unit in the list: its label, the truth, and what each baseline calls it."""

    layer: str
    unit: int
    description: str
    similarity: float
    top: str
    truth: str
    rank: float
    right: bool | None
    stability: float
    marks: tuple[str, ...]
    others: tuple[str, ...]
    is_unsure: bool

    @property
    def verdict(self) -> str:
        """What the list can be narrowed to."""
        return {True: "right", False: "wrong", None: "unknown"}[self.right]


def write_report(
    folder: Path,
    outcome: RunResult,
    *,
    manifest: Mapping[str, Any],
    units: int = 24,
    images: int = 5,
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
        units: how many units are shown with their top images.
        images: how many top images of each.
        method: what our own labels are called beside those of a baseline.
        title: the heading; the folder's name where none is given.

    Returns:
        The page.
    """
    table = metrics_rows(outcome, method)
    gallery = choose_units(outcome, units, images=images)
    total = sum(len(labels.units) for labels in outcome.labels.values())
    text = _read_template().render(
        title=title or folder.resolve().name,
        outcome=outcome,
        columns=metric_columns(table),
        rows=table,
        cell=format_cell,
        several=len({row.method for row in table}) > 1,
        tests=method_differences(outcome),
        figures=list(_embed_figures(folder)),
        gallery=[(unit, [(index, str(outcome.probe.ids[index])) for index in unit.images]) for unit in gallery],
        pictures=list(_embed_images(outcome, gallery)),
        others=tuple(outcome.baselines),
        lines=(lines := _page_rows(outcome)),
        stable=any(labels.stability is not None for labels in outcome.labels.values()),
        marked=any(line.marks for line in lines),
        capped=max(0, total - CAP),
        settings=_list_settings(manifest),
        manifest=format_json(manifest, "manifest"),
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


def _embed_figures(folder: Path) -> Iterator[tuple[str, str]]:
    """The address and the words of each figure that lies in the folder; `units` is on the page as text and images."""
    for name, words in FIGURES.items():
        path = folder / "figures" / f"{name}.png"
        if path.is_file():
            yield as_data_uri(path.read_bytes(), "image/png"), words


def _embed_images(outcome: RunResult, gallery: Sequence[ShownUnit]) -> Iterator[tuple[int, str]]:
    """Each distinct image of the gallery once: units share most of theirs."""
    for index in sorted({index for unit in gallery for index in unit.images}):
        yield index, as_data_uri(encode_jpeg(make_thumbnail(outcome.probe, index, 88)), "image/jpeg")


def _page_rows(outcome: RunResult) -> list[PageRow]:
    return [line for layer in outcome.labels for line in _describe_layer(outcome, layer)][:CAP]


def _describe_layer(outcome: RunResult, layer: str) -> Iterator[PageRow]:
    labels = outcome.labels[layer]
    named = [
        dict(zip(by_layer[layer].units.tolist(), by_layer[layer].descriptions, strict=True))
        if layer in by_layer
        else {}
        for by_layer in outcome.baselines.values()
    ]
    values = certainty(labels)
    for row, (unit, description) in enumerate(zip(labels.units.tolist(), labels.descriptions, strict=True)):
        yield PageRow(
            layer=layer,
            unit=unit,
            description=description,
            similarity=float(labels.similarity[row]),
            top=" · ".join(labels.top[row][1:5]),
            truth=", ".join(format_truth(labels, row)),
            rank=float("nan") if labels.ranks is None else float(labels.ranks[row]),
            right=is_label_right(labels, row),
            stability=float("nan") if labels.stability is None else float(labels.stability[row]),
            marks=tuple(mark for mark in FLAGS if labels.marks and mark in labels.marks[row]),
            others=tuple(names.get(unit, "") for names in named),
            is_unsure=values is not None and bool(values[row] < SURE),
        )


def _format_value(value: Any) -> str:
    """A setting as the command line writes it, but for brackets."""
    return ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
