"""Labels as HTML for a notebook. Names may hold anything and are escaped."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from cd_exp.records import Labels, Outcome, has_pictures
from cd_exp.results.image_strips import data_uri, jpeg, strip
from cd_exp.results.labels_csv import columns, unit_rows
from cd_exp.results.summary import chosen, right

if TYPE_CHECKING:
    from jinja2 import Template

CARDS, PICTURES, SIZE = 12, 5, 72
"""Units shown with pictures, pictures of each, and pixels of a picture."""

ROWS = 24
SHOWN = ("layer", "unit", "description", "similarity", "top5", "truth", "stability", "marks")
"""Columns of `labels.csv` that the table has, where some unit has anything there."""


def result(outcome: Outcome, *, title: str) -> str:
    """A grid of units with the pictures that excite them most, and a table of units."""
    shown = chosen(outcome, CARDS, images=PICTURES) if has_pictures(outcome.probe) else ()
    cards = [(unit, data_uri(jpeg(strip(outcome.probe, unit.images, SIZE, gap=3)), "image/jpeg")) for unit in shown]
    each = max(1, ROWS // max(1, len(outcome.labels)))
    rows = [row for labels in outcome.labels.values() for row in _rows(labels, each)]
    units = sum(len(labels.units) for labels in outcome.labels.values())
    return _filled(rows, units=units, cards=cards, title=title, notes=outcome.notes)


def labels(found: Labels) -> str:
    """A table of the units of one layer."""
    return _filled(list(_rows(found, ROWS)), units=len(found.units), cards=(), title=found.layer, notes=())


def _filled(
    rows: Sequence[Mapping[str, Any]], *, units: int, cards: Sequence[Any], title: str, notes: Sequence[str]
) -> str:
    heads = [name for name in SHOWN if any(row[name] for row in rows)]
    return _template().render(heads=heads, rows=rows, more=units - len(rows), cards=cards, title=title, notes=notes)


def _rows(labels: Labels, most: int) -> Iterator[Mapping[str, Any]]:
    header = columns({labels.layer: labels})
    for row, cells in zip(range(most), unit_rows(labels, header), strict=False):
        yield {**dict(zip(header, cells, strict=True)), "right": right(labels, row)}


@cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("cd_exp.library", ".")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("notebook.html")
