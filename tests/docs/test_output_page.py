"""*Understand the output* explains every key, column and heading that a run or a sweep writes."""

import re
from pathlib import Path

import pytest

from cd_exp.metrics.metrics import METRICS, UNITS
from cd_exp.results import labels_csv
from cd_exp.results.run_folder import DRAWN
from cd_exp.sweep.consensus import COLUMNS
from cd_exp.sweep.gather import EFFECT
from cd_exp.sweep.plots import FAMILIES

PAGE = (Path(__file__).parents[2] / "docs" / "output.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("metric", [UNITS, *METRICS], ids=lambda metric: metric.key)
def test_every_metric_is_explained_by_key_heading_and_meaning(metric):
    assert f"| `{metric.key}` | {metric.heading} | {metric.meaning} |" in PAGE


@pytest.mark.parametrize(
    "name",
    [
        *(column.name for column in (*labels_csv.COLUMNS, labels_csv.MARKS)),
        *COLUMNS,
        *EFFECT,
        "runs",
        "balanced",
        "total",
        "axes",
        "residual",
        "notes",
    ],
)
def test_every_column_and_key_is_explained(name):
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("suffix", ["ci95", "ci95_low", "ci95_high", "difference", "difference_ci95", "p_adjusted"])
def test_what_is_added_to_a_key_is_explained(suffix):
    assert f"_{suffix}`" in PAGE


@pytest.mark.parametrize("name", [*DRAWN, *(f"{family}_LAYER" for family in FAMILIES)])
def test_every_figure_is_explained(name):
    assert f"`{name}`" in PAGE


def headings() -> list[str]:
    """The fixed headings of every table of the terminal, the report and the explorer, as their sources have them."""
    package = Path(__file__).parents[2] / "cd_exp"
    scripts = "".join(path.read_text(encoding="utf-8") for path in sorted((package / "explorer/assets").glob("*.js")))
    lists = re.findall(r"\[([^\[\]]*)\]\.map\(\(?head", scripts) + re.findall(r"const SHORT = \{(.*?)\}", scripts)
    items = [text for part in lists for text in re.findall(r'"([^"]+)"', part)]
    items += re.findall(r"<th[^>]*>([^<{]+)<", (package / "results/page.html").read_text(encoding="utf-8"))
    for path in ("results/terminal.py", "sweep/tables.py"):
        tables = re.findall(r"_make_table\(([^\n]*)", (package / path).read_text(encoding="utf-8"))
        items += [text for part in tables for text in re.findall(r'(?<!f)"([^"{}]+)"', part)]
    return sorted({text.strip(" [%]95:") if text.startswith(" [") else text for text in items} - {", ", "", "Table"})


@pytest.mark.parametrize("heading", headings())
def test_every_heading_of_terminal_report_and_explorer_is_explained(heading):
    rows = re.findall(r"^\| (.+?) \| .+ \|$", PAGE.partition("## Headings that are no key of a file")[2], re.MULTILINE)
    assert any(heading in (row, *row.split(", ")) for row in rows), heading


def test_all_tables_are_looked_at():
    assert {"rank of the phrase", "only A right", "p, Holm", "df", "gen. p", "difference [95 %]"} <= set(headings())
