"""What every table and figure shows: a row for each layer and method, and which units are shown with images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float

from cd_exp.metrics.metrics import METRICS, UNITS, Metric, format_interval, select_metrics
from cd_exp.records import CLIP_DISSECT, Labels, RunResult


@dataclass(frozen=True)
class MetricsRow:
    """The metrics of one method on one layer. Without truth only `units` is among them."""

    layer: str
    method: str
    metrics: Mapping[str, Any]


def format_cell(row: MetricsRow, figure: Metric, *, interval: bool) -> str:
    """The text of a figure, with its 95 % interval if wanted and there; empty where it does not apply."""
    if figure.key == "judged" and "judged" in row.metrics:
        return f"{row.metrics['judged']}/{row.metrics['units']}"
    return figure.text(row.metrics, interval=interval)


def metric_columns(table: Sequence[MetricsRow]) -> tuple[Metric, ...]:
    """The figures that some row has; those of `Figure.unless_equal` only where a row differs."""
    present = select_metrics([row.metrics for row in table])
    if not all("judged" in row.metrics for row in table):
        return (UNITS, *present)
    return present


def metrics_rows(outcome: RunResult, method: str = CLIP_DISSECT) -> tuple[MetricsRow, ...]:
    """Layer by layer: our own labels first, then each baseline that has labels there."""
    layers = dict.fromkeys([*outcome.metrics, *(layer for ours in outcome.baseline_metrics.values() for layer in ours)])
    methods = {method: outcome.metrics, **outcome.baseline_metrics}
    return tuple(
        MetricsRow(layer, name, metrics[layer])
        for layer in layers
        for name, metrics in methods.items()
        if layer in metrics
    )


SURE = 0.5  # a label that is given less often, or is right with a lower probability, is shown grey


@dataclass(frozen=True)
class ShownUnit:
    """A unit chosen to be shown with its top images; `right` is None where the truth is unknown.

    `certainty` is how far its label can be trusted, by `certainty_name`; NaN where that is not known.
    """

    layer: str
    unit: int
    description: str
    truth: str
    right: bool | None
    images: tuple[int, ...]
    certainty: float = float("nan")
    certainty_name: str = ""
    others: tuple[tuple[str, str, bool | None], ...] = ()
    """By every other method that has the unit: its name, label and whether that is right."""

    @property
    def is_unsure(self) -> bool:
        """Whether the label is more likely to change, or to be wrong, than not."""
        return self.certainty < SURE

    @property
    def certainty_text(self) -> str:
        """As in `p(right) 0.83`, or `unsure, stability 0.20`; empty where it is not known."""
        if not self.certainty_name or self.certainty != self.certainty:
            return ""
        return ("unsure, " if self.is_unsure else "") + f"{self.certainty_name} {self.certainty:.2f}"


def choose_units(outcome: RunResult, cap: int, *, images: int = 5) -> tuple[ShownUnit, ...]:
    """At most `cap` units, spread evenly over the layers, of each those whose labels are believed most."""
    return tuple(
        _show_unit(outcome, layer, row, images)
        for layer, count in share_over_layers(outcome, cap)
        for row in first_believed(outcome.labels[layer], count)
    )


def share_over_layers(outcome: RunResult, cap: int) -> Iterator[tuple[str, int]]:
    """How many of at most `cap` units with images each layer gets: equal shares; the last layers where `cap` is less.

    A layer may have fewer units than its share.
    """
    layers = [layer for layer in outcome.labels if layer in outcome.top_images][-cap:] if cap > 0 else []
    bounds = np.linspace(0, cap, len(layers) + 1).astype(int).tolist()
    yield from ((layer, high - low) for layer, (low, high) in zip(layers, pairwise(bounds), strict=True))


def _show_unit(outcome: RunResult, layer: str, row: int, images: int) -> ShownUnit:
    labels = outcome.labels[layer]
    values = certainty(labels)
    return ShownUnit(
        layer=layer,
        unit=int(labels.units[row]),
        description=labels.descriptions[row],
        truth=", ".join(format_truth(labels, row)),
        right=is_label_right(labels, row),
        images=tuple(int(index) for index in outcome.top_images[layer][row][:images]),
        certainty=float("nan") if values is None else float(values[row]),
        certainty_name=certainty_name(labels),
        others=tuple(_label_by_others(outcome, layer, int(labels.units[row]))),
    )


def _label_by_others(outcome: RunResult, layer: str, unit: int) -> Iterator[tuple[str, str, bool | None]]:
    for method, by_layer in outcome.baselines.items():
        if layer in by_layer and len(rows := np.flatnonzero(by_layer[layer].units == unit)):
            labels, row = by_layer[layer], int(rows[0])
            yield method, labels.descriptions[row], is_label_right(labels, row)


def format_truth(labels: Labels, row: int) -> tuple[str, ...]:
    """The accepted names of the unit at `row`; none where nothing is known."""
    return (labels.truth[row] or ()) if labels.truth else ()


def is_label_right(labels: Labels, row: int) -> bool | None:
    """Whether the label is the truth; None where the truth is unknown or no concept names it."""
    return {1: True, 0: False}.get(int(labels.verdicts[row]))


def certainty(labels: Labels) -> Float[np.ndarray, " neurons"] | None:
    """How far each label can be trusted: the probability that it is right, else its stability; None without either."""
    return labels.stability if labels.p_right is None else labels.p_right


def certainty_name(labels: Labels) -> str:
    """What `certainty` is of these labels; empty without."""
    return "" if certainty(labels) is None else "stability" if labels.p_right is None else "p(right)"


def first_believed(labels: Labels, wanted: int) -> list[int]:
    """The rows of the most certain units; spread evenly over the layer where there is no certainty."""
    values = certainty(labels)
    if values is None:
        return spread_evenly(len(labels.units), wanted)
    return np.argsort(-np.nan_to_num(values, nan=-1.0), kind="stable")[:wanted].tolist()


def sample_by_certainty(labels: Labels, wanted: int) -> list[int]:
    """The rows of the most and of the least certain units, half each, the most certain first.

    Without a certainty, units spread evenly over the layer.
    """
    values = certainty(labels)
    if values is None:
        return spread_evenly(len(labels.units), wanted)
    order = np.argsort(-np.nan_to_num(values, nan=-1.0), kind="stable").tolist()
    return order if len(order) <= wanted else order[: wanted - wanted // 2] + order[len(order) - wanted // 2 :]


def spread_evenly(count: int, wanted: int) -> list[int]:
    """`wanted` indices (or all, where there are fewer) evenly from 0 to `count - 1`.

    >>> spread_evenly(10, 4)
    [0, 3, 6, 9]
    """
    return np.linspace(0, count - 1, min(wanted, count)).round().astype(int).tolist()


@dataclass(frozen=True)
class MethodDifference:
    """A figure of two methods compared on the units in common, or how often they say the same."""

    layer: str
    first: str
    second: str
    metric: str
    difference: str
    interval: str
    p: str
    adjusted: str
    units: str
    test: str


def method_differences(outcome: RunResult) -> tuple[MethodDifference, ...]:
    """Every difference in `comparisons`: `layer`, `first` and `second` with the result of `metrics.compare_methods`.

    Before them, where a row has it, `agreement`: the share of units with identical labels.
    """
    return describe_differences(outcome.comparisons)


def describe_differences(rows: Sequence[Mapping[str, Any]]) -> tuple[MethodDifference, ...]:
    """Every difference in rows of a comparison, as text: the same digits in every table."""
    differences = []
    for row in rows:
        if "agreement" in row:
            same = format(row["agreement"], ".1f")
            differences.append(
                MethodDifference(
                    row["layer"], row["first"], row["second"], "identical labels (%)", same, "", "", "", "", ""
                )
            )
        differences += [_describe_difference(row, figure) for figure in METRICS if f"{figure.key}_difference" in row]
    return tuple(differences)


def _describe_difference(row: Mapping[str, Any], figure: Metric) -> MethodDifference:
    bounds, digits = row.get(f"{figure.key}_difference_ci95"), "+" + figure.digits.lstrip("+")

    def p_of(key: str) -> str:
        return format(row[key], ".2g") if key in row else ""

    return MethodDifference(
        layer=row["layer"],
        first=row["first"],
        second=row["second"],
        metric=figure.heading,
        difference=format(row[f"{figure.key}_difference"], digits),
        interval=format_interval(bounds, digits) if bounds else "",
        p=p_of(f"{figure.key}_p"),
        adjusted=p_of(f"{figure.key}_p_adjusted"),
        units=str(row[f"{figure.key}_n"]),
        test=figure.test.name if figure.test else "",
    )
