"""The figures of a study's results: methods with their intervals, and what orders units as people do."""

from collections.abc import Mapping, Sequence
from typing import Any

from cd_exp.io.text import cut_text
from cd_exp.results.image_strips import encode_png, render_figure
from cd_exp.results.plots import COLOURS, GRID, WIDEST, new_plot


def figures(outcome: Mapping[str, Any]) -> dict[str, bytes]:
    """PNG files by name."""
    everything = outcome["rules"]["all"]
    rows = [row for row in everything["scores"] if not row["layer"]]
    drawn = {}
    for name, meaning in outcome["meaning"].items():
        of_name = [row for row in rows if row["score"] == name and row["method"]]
        if of_name:
            drawn[name] = _dots([(row["method"], row["mean"], row.get("ci95")) for row in of_name], meaning)
    if everything.get("tenths"):
        tenths = [(f"tenth {row['tenth']}", row["mean"], row.get("ci95")) for row in everything["tenths"]]
        drawn["tenths"] = _dots(tenths, "share of intruders recognised; tenth 1 is the strongest")
    if everything["orders"]:
        people = everything.get("people_with_people")
        best = [
            (f"{row['score']}, {row['method']}", row["spearman"], row.get("ci95")) for row in everything["orders"][:12]
        ]
        first = [("people with people", people["spearman"], people.get("ci95"))] if people else []
        drawn["orders"] = _dots([*first, *best], "Spearman's correlation with people over units")
    return drawn


def _dots(rows: Sequence[tuple[str, float, Sequence[float] | None]], label: str) -> bytes:
    figure, axes = new_plot(6.4, 1.1 + 0.34 * len(rows))
    for height, (_, value, interval) in enumerate(rows):
        if interval:
            axes.plot(interval, [height, height], color=COLOURS[0], linewidth=2, solid_capstyle="round")
        axes.plot([value], [height], "o", color=COLOURS[0], markersize=6)
    axes.set_yticks(range(len(rows)), [cut_text(name, WIDEST) for name, _, _ in rows], parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"{label}\nlines: 95 % intervals")  # in one line it is cut beside long names
    return encode_png(render_figure(figure))
