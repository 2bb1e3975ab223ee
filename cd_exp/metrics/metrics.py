"""Every metric of a layer, declared once: its values, its statistic with interval and test, and how it is shown.

`metrics.json`, the terminal, the pages, W&B, the tables of sweeps and experiments and the comparison of methods all
read
`METRICS`: a new metric is a row here and, where its values are new, a field of `cd_exp.records.UnitResults`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from cd_exp.metrics import selective
from cd_exp.metrics.intervals import (
    bootstrap_interval,
    bootstrap_interval_of_mean,
    clopper_pearson_interval,
    median_interval,
)
from cd_exp.metrics.name_matching import NameMatcher, are_same_name
from cd_exp.metrics.significance import Difference, compare_means, compare_shares, holm_adjust, least_detectable
from cd_exp.records import Labels, UnitResults

# How many units share their label. A good score is no remedy for labels that many units share: of 2,048 units of a
# ResNet-50's layer4, 154 are `dog` to Network Dissection, and 98 in 100 share their label with another unit.

Names = Shaped[np.ndarray, " units"]
"""The label of each labelled unit, compared letter by letter."""


def distinct_labels(names: Names) -> float:
    """Different labels over labelled units: 1 where each unit has its own.

    >>> distinct_labels(np.array(["dog", "dog", "cat", "sea"]))
    0.75
    """
    return len(np.unique(names)) / len(names)


def shared_label(names: Names) -> float:
    """The share of units whose label another unit has too.

    >>> shared_label(np.array(["dog", "dog", "cat", "sea"]))
    0.5
    """
    counts = _counts(names)
    return float(counts[counts > 1].sum() / len(names))


def label_bits(names: Names) -> float:
    """The entropy of the label over units, in bits: log2(units) where each has its own, 0 where all have the same.

    H = -sum over labels of n/N log2(n/N), with n the units of a label and N all labelled ones.

    >>> label_bits(np.array(["dog", "dog", "cat", "sea"]))
    1.5
    """
    shares = _counts(names) / len(names)
    return float(max(0.0, -(shares * np.log2(shares)).sum()))


def commonest_label(names: Names) -> str:
    """The label that most units have; of several such ones the first by the alphabet.

    >>> commonest_label(np.array(["dog", "dog", "cat", "sea"]))
    'dog'
    """
    labels, counts = np.unique(names, return_counts=True)
    return str(labels[counts.argmax()])


def commonest_share(names: Names) -> float:
    """The share of units that have the commonest label.

    >>> commonest_share(np.array(["dog", "dog", "cat", "sea"]))
    0.5
    """
    return float(_counts(names).max() / len(names))


def _counts(names: Names) -> np.ndarray:
    return np.unique(names, return_counts=True)[1]


def upper_median(ranks: Float[np.ndarray, "..."], axis: int = -1) -> Float[np.ndarray, "..."] | np.floating:
    """The middle value, the higher of the two middle ones for an even number of units.

    >>> float(upper_median(np.array([1.0, 2.0, 3.0, 9.0])))
    3.0

    Source: CLIP-Dissect's notebook of table 3, `sorted(ranks)[500]` of 1,000.
    """
    middle = ranks.shape[axis] // 2
    return np.take(np.partition(ranks, middle, axis=axis), middle, axis=axis)


def rowwise_cosines(
    a: Float[np.ndarray, "units dim"], b: Float[np.ndarray, "units dim"]
) -> Float[np.ndarray, " units"]:
    """The cosine of each pair of rows; 0 where a row is all zeros.

    >>> rowwise_cosines(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[3.0, 4.0], [1.0, 1.0]])).tolist()
    [0.6, 0.0]
    """
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.einsum("ud,ud->u", a, b) / np.where(norms > 0, norms, 1)


Values = np.ndarray
Bounds = tuple[float, float] | None


@dataclass(frozen=True)
class Interval:
    """A kind of 95 % interval over units: its name, and the function from the values, seed and resamples."""

    name: str
    of: Callable[..., Bounds]


@dataclass(frozen=True)
class PairedTest:
    """A kind of paired test with the interval that agrees with it: from both methods' values, seed and resamples."""

    name: str
    of: Callable[..., Difference]


@dataclass(frozen=True)
class Statistic:
    """One number from the values of the units, with the interval and the paired test that are of this very number.

    Attributes:
        of: from the values; None where it is not defined.
        interval: the kind of its 95 % interval; None where it has none.
        test: the kind of test of a difference between two methods; None where there is none.
    """

    of: Callable[..., float | str | None]
    interval: Interval | None = None
    test: PairedTest | None = None


@dataclass(frozen=True)
class Metric:
    """One figure of one method on one layer.

    Attributes:
        key: in `metrics.json`; a key that does not apply is absent.
        of: the fields of `UnitResults` it is computed from, an entry for each unit. Units for which one is NaN are left
            out, and without a unit the figure is absent.
        statistic: of those values, with its interval and its test.
        higher_is_better: None where neither is.
        heading: of a row or a wide column; `short`: of a narrow one.
        meaning: for a reader who sees the heading.
        digits: the format of the number.
        n: the key that counts the units it runs over.
        unless_equal: tables show it only where some row differs from this other key.
        compare_candidates: whether two methods may only be compared where they chose among as many concepts.
        each: what a unit's value becomes before the statistic, its interval and its test, as 1 / rank; elementwise.
    """

    key: str
    of: tuple[str, ...]
    statistic: Statistic
    higher_is_better: bool | None
    heading: str
    short: str
    meaning: str
    digits: str
    n: str = "judged"
    unless_equal: str = ""
    compare_candidates: bool = False
    each: Callable[..., Values] | None = None

    @property
    def interval(self) -> Interval | None:
        """The kind of its interval, which is that of its statistic."""
        return self.statistic.interval

    @property
    def test(self) -> PairedTest | None:
        """The kind of its paired test, which is that of its statistic."""
        return self.statistic.test

    @property
    def direction(self) -> str:
        """`higher is better`, `lower is better`, or an empty text where neither is."""
        return {True: "higher is better", False: "lower is better", None: ""}[self.higher_is_better]

    @property
    def arrow(self) -> str:
        """The direction as a mark beside a heading: ↑ where higher is better, ↓ where lower is."""
        return {True: " ↑", False: " ↓", None: ""}[self.higher_is_better]

    def best(self, numbers: Iterable[float]) -> float | None:
        """The best of several numbers; None of no numbers, and where neither direction is better.

        >>> BY_KEY["mean_rank"].best([3.0, 1.5]), BY_KEY["top1"].best([40.0, 60.0]), BY_KEY["judged"].best([1.0])
        (1.5, 60.0, None)
        """
        if self.higher_is_better is None:
            return None
        return (max if self.higher_is_better else min)(numbers, default=None)

    @property
    def interval_key(self) -> str:
        """The key of its interval in `metrics.json`; top-1's is plain `ci95`."""
        return "ci95" if self.key == "top1" else f"{self.key}_ci95"

    def text(self, metrics: Mapping[str, Any], *, interval: bool = True) -> str:
        """The number as tables show it, with its interval if wanted and there; empty where it does not apply."""
        if self.key not in metrics:
            return ""
        text = format(metrics[self.key], self.digits)
        bounds = metrics.get(self.interval_key) if interval else None
        return f"{text} {format_interval(bounds, self.digits)}" if bounds else text


def format_interval(bounds: Sequence[float], digits: str) -> str:
    """An interval as `[low, high]`.

    >>> format_interval((12.345, 67.8), ".1f")
    '[12.3, 67.8]'
    """
    return f"[{', '.join(format(bound, digits) for bound in bounds)}]"


def _share_metric(right: Values) -> float:
    return 100 * float(right.mean())


def with_bootstrap_interval(statistic: Callable[..., Any], *, test: PairedTest | None = None) -> Statistic:
    """A statistic of one value per unit, and the bootstrap interval of this same statistic over units.

    Args:
        statistic: `(values, axis) -> numbers`, which reduces one axis, as `np.mean` does.
        test: a paired test of this very statistic.

    >>> middle = with_bootstrap_interval(np.median)
    >>> middle.of(np.array([1.0, 2.0, 9.0])), middle.interval.of(np.full(5, 2.0), seed=0, resamples=99)
    (2.0, (2.0, 2.0))
    """

    def number(values: Values) -> float:
        return float(statistic(values, axis=-1))

    def bounds(values: Values, *, seed: int, resamples: int) -> Bounds:
        return bootstrap_interval(values, statistic, seed=seed, resamples=resamples)

    return Statistic(number, Interval("bootstrap over units", bounds), test)


BELIEVED = 0.8
"""A label is believed from this probability on."""

EXACT = Interval("Clopper-Pearson", lambda right, **_: clopper_pearson_interval(right))
BOOTSTRAP_AREA = Interval("bootstrap over units", selective.risk_coverage_area_interval)
BOOTSTRAP_COVERAGE = Interval("bootstrap over units", selective.coverage_at_interval)
DELONG = Interval("DeLong, logit", lambda score, right, **_: selective.auc_interval(score, right))
DELONG_PAIRED = Interval("DeLong, paired", lambda a, b, right, **_: selective.auc_difference_interval(a, b, right))

STABLE = 0.8
"""A label is stable where at least this share of the resamples of the images give it."""


def _divide_by_100(bounds: tuple[float, float]) -> tuple[float, float]:
    return bounds[0] / 100, bounds[1] / 100


def _compare_proportions(a: Values, b: Values) -> Difference:
    value, interval, p = compare_shares(a.astype(bool), b.astype(bool))
    return Difference(value / 100, interval and _divide_by_100(interval), p)


def _number_of_flagged(flagged: Values) -> int:
    return int(flagged.sum())


COUNT = Statistic(len)
SHARE = Statistic(
    _share_metric, EXACT, PairedTest("McNemar mid-p, Tango's score interval", lambda a, b, **_: compare_shares(a, b))
)
PROPORTION = Statistic(
    lambda right: float(right.mean()),
    Interval("Clopper-Pearson", lambda right, **_: _divide_by_100(clopper_pearson_interval(right.astype(bool)))),
    PairedTest("McNemar mid-p, Tango's score interval", lambda a, b, **_: _compare_proportions(a, b)),
)
MEAN = with_bootstrap_interval(np.mean, test=PairedTest("sign flips, and the means they accept", compare_means))
MEAN_WITHOUT_TEST = with_bootstrap_interval(np.mean)
UPPER_MEDIAN = with_bootstrap_interval(upper_median)
MEAN_OF_SHARES = Statistic(
    lambda shares: float(shares.mean()), Interval("bootstrap over units", bootstrap_interval_of_mean)
)
MEDIAN = Statistic(
    lambda values: float(np.median(values)), Interval("order statistics", lambda values, **_: median_interval(values))
)
AUC = Statistic(selective.auc, DELONG)
AUC_DIFFERENCE = Statistic(selective.auc_difference, DELONG_PAIRED)
RISK_COVERAGE_AREA = Statistic(selective.risk_coverage_area, BOOTSTRAP_AREA)
COVERAGE_AT_80 = Statistic(selective.coverage_at, BOOTSTRAP_COVERAGE)
"""What a row of `METRICS` names: a statistic whose interval and test are its own, so that no row can mix two."""

FAITHFULNESS = {
    "whitened": ("whitened", "whit.", "correlation with the label's match, both less what they share with others"),
    "which_unit": ("which unit", "which", "share of the layer's other units that fit the label less well"),
    "pearson": ("correlation", "corr.", "correlation of the unit with what its label predicts, on held-out images"),
    "auprc": ("AUPRC", "AUPRC", "area under precision and recall of the label for the unit's strongest images"),
    "f1": ("F1", "F1", "of the label for the unit's strongest images"),
    "iou": ("IoU", "IoU", "of the label with the unit's strongest images"),
    "cosine": ("cosine", "cos.", "of the unit with what its label predicts, as (1 + cos) / 2"),
    "cosy_auc": ("CoSy AUC", "CoSy", "how well the unit tells images of its label from held-out images"),
    "cosy_mad": ("CoSy MAD", "MAD", "how far images of the label excite the unit beyond held-out images, in spreads"),
    "activation_rate": ("act. rate", "rate", "share of images of the label among the unit's strongest 1 %"),
    "selectivity": ("selectivity", "sel.ty", "response to what the label names, of the response to all that changes"),
}


def _faithfulness_metric(name: str) -> Metric:
    heading, short, meaning = FAITHFULNESS[name]
    return Metric(
        f"faithfulness.{name}", (f"faithfulness.{name}",), MEAN, True,
        f"faithfulness: {heading}", short, f"faithfulness, {meaning}", ".3f", n="faithfulness_units",
    )  # fmt: skip


def _layer_metric(key: str, of: str, statistic: Callable[..., Any], heading: str, meaning: str, digits: str) -> Metric:
    """A number about every unit of a layer, judged or not; without an interval, because no unit is left out."""
    return Metric(key, (of,), Statistic(statistic), None, heading, heading, meaning, digits, n="units")


def _stability_metric(
    key: str, statistic: Statistic, heading: str, meaning: str, *, each: Callable[..., Values] | None = None
) -> Metric:
    # No test: only labels of this package have a stability.
    return Metric(
        key, ("layer_stability",), replace(statistic, test=None), None, heading, heading, meaning, ".2f", n="units",
        each=each,
    )  # fmt: skip


def _over_floor(name: str) -> Metric:
    # Without a test: two methods differ over their floors by what they differ by without, less noise of two floors.
    key = f"faithfulness.{name}_over_floor"
    return Metric(
        key, (key,), MEAN_WITHOUT_TEST, True, f"{FAITHFULNESS[name][0]} over floor", f"{FAITHFULNESS[name][1]} over",
        f"{FAITHFULNESS[name][0]} less that of the same labels shuffled among the units", "+.3f",
        n="faithfulness_units",
    )  # fmt: skip


def _collision(statistic: Callable[..., Any], heading: str, short: str, meaning: str, digits: str = ".3f") -> Metric:
    # No interval: units drawn with replacement share labels that they do not share.
    better = {"distinct_labels": True, "shared_label": False, "label_bits": True, "commonest_share": False}
    key = statistic.__name__
    return Metric(key, ("names",), Statistic(statistic), better.get(key), heading, short, meaning, digits, n="units")


def _count_metric(key: str, of: str, heading: str, meaning: str, *, unless_equal: str = "") -> Metric:
    return Metric(key, (of,), COUNT, None, heading, heading, meaning, "d", n=key, unless_equal=unless_equal)


UNITS = _count_metric("units", "labelled", "units", "of the layer")
METRICS = (
    _stability_metric("stability_mean", MEAN_OF_SHARES, "mean stability",
                      "mean over all units of the share of bootstrap resamples of the images that give the same label"),
    _stability_metric("stability_median", MEDIAN, "median stability", "median over all units of the same share"),
    _stability_metric("stable_share", PROPORTION, "stable share", "share of units with a stability of at least 0.8",
                      each=lambda stability: stability >= STABLE),
    _layer_metric("dead", "dead", _number_of_flagged, "dead units",
                  "units that give the same value for every image", "d"),
    _layer_metric("always_on", "always_on", _number_of_flagged, "always-on units",
                  "units that fire on more than 80 % of the images, in a layer where that is not the rule", "d"),
    _count_metric("judged", "units", "units with known truth", "units with known ground truth / all units"),
    Metric("top1", ("top1",), SHARE, True,
           "top-1 %", "top-1 %", "units whose label is right, of those with known truth", ".1f"),
    Metric("top1_published", ("top1_published",), SHARE, True, "top-1 % as published", "publ.",
           "top-1 %, names compared by the published rule", ".1f", unless_equal="top1"),
    Metric("top5", ("top5",), SHARE, True,
           "top-5 %", "top-5", "units whose truth is among the five best concepts", ".1f"),
    Metric("mean_rank", ("rank",), MEAN, False,
           "mean rank", "rank", "mean rank of the truth among all concepts", ".1f", compare_candidates=True),
    Metric("median_rank", ("rank",), UPPER_MEDIAN, False,
           "median rank", "median", "median rank of the truth", "g", compare_candidates=True),
    Metric("auc", ("similarity", "top1"), AUC, True, "AUC (similarity)", "AUC",
           "AUC of the similarity as a detector of correct labels (0.5 = chance)", ".3f"),
    Metric("stability_auc", ("stability", "top1"), AUC, True, "AUC (stability)", "AUC (stability)",
           "AUC of the stability as a detector of correct labels (0.5 = chance)", ".3f"),
    Metric("stability_auc_gain", ("stability", "similarity", "top1"), AUC_DIFFERENCE, True,
           "AUC (stability − similarity)", "AUC difference",
           "AUC of the stability minus AUC of the similarity", "+.3f"),
    Metric("risk_coverage_area", ("stability", "top1"), RISK_COVERAGE_AREA, False, "AURC", "AURC",
           "area under the risk-coverage curve: mean share of wrong labels, most stable units first", ".3f"),
    Metric("coverage_at_80", ("stability", "top1"), COVERAGE_AT_80, True, "% kept at 80 % right", "kept",
           "how many units can be kept, most stable first, while 80 % are right", ".1f"),
    Metric("p_right_mean", ("p_right",), MEAN, None, "mean p(right)", "p(right)",
           "mean probability that a label is right", ".3f", n="units"),
    Metric("p_right_share", ("p_right",), PROPORTION, None, "share with p(right) from .8", "p .8+",
           "share of units whose label is right with a probability of at least .8", ".3f", n="units",
           each=lambda p: p >= BELIEVED),
    Metric("general_right", ("general_right",), PROPORTION, True, "general label right", "gen.",
           "share of judged units whose truth is below their general label", ".3f", n="units"),
    Metric("general_bits", ("general_right", "general_bits"), MEAN, True, "bits of general label", "bits",
           "log2(concepts / concepts below it), 0 where it is wrong", ".2f", n="units",
           each=lambda right, bits: right * bits),
    Metric("general_vague", ("general_bits",), PROPORTION, False, "general label under one bit", "<1 bit",
           "share of units whose general label says less than one bit", ".3f", n="units",
           each=lambda bits: bits < 1),
    Metric("graded_accuracy", ("graded",), MEAN, True, "graded accuracy", "graded",
           "depth of the deepest common ancestor of label and truth, as a share of the deeper one's", ".3f", n="units"),
    Metric("clip_cosine", ("clip_cosine",), MEAN, True,
           "CLIP cosine to truth", "CLIP cosine",
           "cosine of label and truth in CLIP's text space", ".3f", n="cosine_units"),
    Metric("sentence_cosine", ("sentence_cosine",), MEAN, True,
           "sentence cosine to truth", "sentence cosine",
           "cosine of label and truth by a sentence encoder", ".3f", n="cosine_units"),
    _count_metric("cosine_units", "cosine_units", "units with cosines", "units with a known truth and a label",
           unless_equal="judged"),
    _collision(distinct_labels, "distinct labels", "distinct", "different labels, as a share of the units"),
    _collision(shared_label, "shared label", "shared", "share of units whose label another unit has too"),
    _collision(label_bits, "label bits", "bits", "entropy of the label over units", ".2f"),
    _collision(commonest_label, "commonest label", "commonest", "the label that most units have", ""),
    _collision(commonest_share, "commonest share", "its share", "share of units that have it"),
    *map(_faithfulness_metric, FAITHFULNESS),
    *map(_over_floor, FAITHFULNESS),
    _count_metric("faithfulness_units", "faithfulness_units", "units with faithfulness",
                  "units whose label could be scored",
           unless_equal="units"),
)  # fmt: skip
"""In the order of every table."""

BY_KEY = {figure.key: figure for figure in (UNITS, *METRICS)}


def select_metrics(table: Sequence[Mapping[str, Any]]) -> tuple[Metric, ...]:
    """The figures that some row of metrics has; those of `unless_equal` only where a row differs."""
    present = (figure for figure in METRICS if any(figure.key in row for row in table))
    return tuple(figure for figure in present if not figure.unless_equal or _differs_somewhere(table, figure))


def _differs_somewhere(table: Sequence[Mapping[str, Any]], figure: Metric) -> bool:
    return any(row[figure.key] != row.get(figure.unless_equal) for row in table if figure.key in row)


def metric_values(figure: Metric, judgement: UnitResults) -> tuple[Values, ...] | None:
    """The values of the units that have all of them, an array a field; None where a method does not give a field."""
    fields = [metric_field(judgement, name) for name in figure.of]
    columns = [np.asarray(column) for column in fields if column is not None]
    if len(columns) < len(fields):
        return None
    present = np.logical_and.reduce([_is_present(column) for column in columns])
    values = tuple(column[present] for column in columns)
    return values if figure.each is None else (figure.each(*values),)


def _is_present(column: Values) -> Values:
    return column != "" if column.dtype.kind == "U" else ~np.isnan(column)


def metric_units(figure: Metric, judgement: UnitResults) -> Values:
    """The numbers of the units that `metric_values` has values for, in their order."""
    columns = [np.asarray(metric_field(judgement, name)) for name in figure.of]
    present = np.logical_and.reduce([_is_present(column) for column in columns])
    return np.asarray(getattr(judgement, AXES.get(figure.n, "labelled")))[present]


AXES = {"judged": "units", "cosine_units": "named"}
"""The field of `UnitResults` that holds the unit numbers of what a count runs over; `labelled` otherwise."""


def metric_field(judgement: UnitResults, name: str) -> Values | None:
    """A field of `UnitResults` by name.

    Also `faithfulness.NAME`, with or without `_over_floor`, and the numbers of the units behind the counts of units.
    """
    if name.startswith("faithfulness."):
        return _score(judgement, name.removeprefix("faithfulness."))
    if name == "cosine_units":
        has_cosine = judgement.clip_cosine is not None or judgement.sentence_cosine is not None
        return judgement.named if has_cosine and judgement.named is not None and len(judgement.named) else None
    if name == "faithfulness_units":
        scores = list(judgement.faithfulness.values())
        return judgement.labelled[~np.isnan(scores).all(axis=0)] if scores else None
    return getattr(judgement, name)


def _score(judgement: UnitResults, name: str) -> Values | None:
    score = name.removesuffix("_over_floor")
    values, floor = judgement.faithfulness.get(score), judgement.floor.get(score)
    if score == name:
        return values
    return None if values is None or floor is None else values - floor


def summarise(
    judgement: UnitResults,
    *,
    total_units: int,
    seed: int = 0,
    resamples: int = 9999,
    figures: Sequence[Metric] = METRICS,
) -> dict[str, Any]:
    """Every figure of `METRICS` that applies to a layer, with its 95 % interval over units. What does not is absent.

    Args:
        judgement: of the layer.
        total_units: of the layer, judged or not.
        seed: of the bootstrap.
        resamples: of the bootstrap.
        figures: all that a run has, or others.

    Returns:
        `units` of the layer, then for each figure its `key` and `interval_key`: [low, high].

    >>> import numpy as np
    >>> judgement = UnitResults(units=np.arange(4), top1=np.array([True, True, True, False]))
    >>> row = summarise(judgement, total_units=5)
    >>> row["units"], row["judged"], row["top1"], [round(end, 1) for end in row["ci95"]]
    (5, 4, 75.0, [19.4, 99.4])
    """
    summary: dict[str, Any] = {"units": total_units}
    for figure in figures:
        values = metric_values(figure, judgement)
        if values is None or not (len(values[0]) or figure.n == figure.key):
            continue
        number = figure.statistic.of(*values)
        if number is None:
            continue
        summary[figure.key] = number
        bounds = figure.interval.of(*values, seed=seed, resamples=resamples) if figure.interval else None
        summary |= {figure.interval_key: list(bounds)} if bounds else {}
    return summary


ALPHA = 0.05
"""From this adjusted p on, two methods are not distinguished."""
SPELLED = 3
"""Up to so many pairs each is spelled out."""


def compare_methods(
    a: UnitResults, b: UnitResults, *, seed: int = 0, resamples: int = 9999, figures: Sequence[Metric] = METRICS
) -> dict[str, Any]:
    """The difference a - b of every figure that has a test and both methods have, on the units in common.

    Ranks are compared only where both methods chose among as many concepts.

    Returns:
        For each such figure `KEY_difference`, `KEY_difference_ci95`, `KEY_least_detectable`, `KEY_p`, two-sided, and
        `KEY_n`, the units in common; `judged`, how many units both are judged on, where both are.

    >>> def right_on(*units):
    ...     return UnitResults(units=np.arange(8), top1=np.isin(np.arange(8), units))
    >>> row = compare_methods(right_on(0, 1, 2, 3, 4, 5), right_on(0))
    >>> row["judged"], row["top1_difference"], round(row["top1_p"], 4)
    (8, 62.5, 0.0312)
    """
    comparison: dict[str, Any] = {}
    if a.units is not None and b.units is not None:
        comparison["judged"] = len(_common_units(a.units, b.units)[0])
    for figure in figures:
        if figure.test is not None and (a.candidates == b.candidates or not figure.compare_candidates):
            comparison |= _paired_difference(figure, a, b, seed=seed, resamples=resamples)
    return comparison


def _paired_difference(figure: Metric, a: UnitResults, b: UnitResults, *, seed: int, resamples: int) -> dict[str, Any]:
    left, right = metric_values(figure, a), metric_values(figure, b)
    if figure.test is None or left is None or right is None:
        return {}
    in_a, in_b = _common_units(metric_units(figure, a), metric_units(figure, b))
    if not len(in_a):
        return {}
    test = figure.test.of(left[0][in_a], right[0][in_b], seed=seed, resamples=resamples)
    interval = {f"{figure.key}_difference_ci95": list(test.interval)} if test.interval else {}
    least = least_detectable(left[0][in_a], right[0][in_b])
    return {
        f"{figure.key}_difference": test.value,
        **interval,
        **({} if least is None else {f"{figure.key}_least_detectable": least}),
        f"{figure.key}_p": test.p,
        f"{figure.key}_n": len(in_a),
    }


def adjust_p_values(rows: Sequence[Mapping[str, Any]], *, by_metric: bool = False) -> list[dict[str, Any]]:
    """The rows of a table of comparisons with `KEY_p_adjusted` beside each `KEY_p`: Holm's over all these tests.

    Args:
        rows: of the table.
        by_metric: adjust the tests of each metric for themselves, over the rows: each answers a question of its own.

    >>> adjust_p_values([{"layer": "fc", "top1_p": 0.01}, {"layer": "layer4", "top1_p": 0.04}])[0]
    {'layer': 'fc', 'top1_p': 0.01, 'top1_p_adjusted': 0.02}
    """
    tests = [(number, key) for number, row in enumerate(rows) for key in row if key.endswith("_p")]
    adjusted = [dict(row) for row in rows]
    keys = dict.fromkeys(key for _, key in tests)
    families = [[test for test in tests if test[1] == key] for key in keys] if by_metric else [tests]
    for family in families:
        for (number, key), p in zip(family, holm_adjust([rows[number][key] for number, key in family]), strict=True):
            adjusted[number][f"{key}_adjusted"] = p
    return adjusted


def describe_ranking(rows: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    """A sentence per layer: which methods a metric tells apart at 5 % after Holm's adjustment, and which it cannot.

    Of more than three methods, their order stands in place of each pair that differs, and pairs that cannot be ranked
    stand together by their first method.

    Args:
        rows: of a table of comparisons, adjusted.
        key: of the metric, of which higher is better.

    >>> row = {"layer": "fc", "first": "ours", "second": "theirs", "f1_difference": 0.02, "f1_least_detectable": 0.05}
    >>> describe_ranking([row | {"f1_p_adjusted": 0.3}], "f1")
    ['fc, f1: cannot rank ours and theirs (+0.020; differences below 0.050 are mostly missed)']
    """
    tested = [row for row in rows if f"{key}_p_adjusted" in row]
    sentences = []
    for layer in dict.fromkeys(row["layer"] for row in tested):
        own = [row for row in tested if row["layer"] == layer]
        apart = [row for row in own if row[f"{key}_p_adjusted"] < ALPHA]
        same = [row for row in own if row.get(f"{key}_least_detectable") == 0 == row[f"{key}_difference"]]
        alike = [row for row in own if row[f"{key}_p_adjusted"] >= ALPHA and row not in same]
        if len(own) <= SPELLED:
            parts = [*(_is_above(row, key) for row in apart), *(_cannot_rank(row, key) for row in alike)]
        else:
            parts = [_order(own, len(apart), key), *_cannot_rank_many(alike, key)]
        parts += [f"{row['first']} and {row['second']} have the same scores" for row in same]
        sentences.append(f"{layer}, {key.removeprefix('faithfulness.')}: {'; '.join(parts)}")
    return sentences


def _is_above(row: Mapping[str, Any], key: str) -> str:
    difference = row[f"{key}_difference"]
    better, worse = (row["first"], row["second"]) if difference > 0 else (row["second"], row["first"])
    return f"{better} is above {worse} ({abs(difference):+.3f}, p {row[f'{key}_p_adjusted']:.2g})"


def _cannot_rank(row: Mapping[str, Any], key: str) -> str:
    least = row.get(f"{key}_least_detectable")
    missed = "" if least is None else f"; differences below {least:.3f} are mostly missed"
    return f"cannot rank {row['first']} and {row['second']} ({row[f'{key}_difference']:+.3f}{missed})"


def _cannot_rank_many(rows: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    """One part of a sentence for all pairs whose difference is not beyond chance, those of a method together."""
    partners: dict[str, list[str]] = {}
    for row in rows:
        partners.setdefault(row["first"], []).append(row["second"])
    least = [row[f"{key}_least_detectable"] for row in rows if f"{key}_least_detectable" in row]
    missed = f" (differences below {min(least):.3f} to {max(least):.3f} are mostly missed)" if least else ""
    pairs = [f"{first} with {', '.join(others)}" for first, others in partners.items()]
    return [f"cannot rank {'; '.join(pairs)}{missed}"] if pairs else []


def _order(rows: Sequence[Mapping[str, Any]], apart: int, key: str) -> str:
    """All methods, the best by its mean differences first, and how many pairs differ."""
    lead: dict[str, float] = {}
    for row in rows:
        for name, sign in ((row["first"], 1), (row["second"], -1)):
            lead[name] = lead.get(name, 0.0) + sign * row[f"{key}_difference"]
    names = sorted(lead, key=lambda name: -lead[name])
    return f"{apart} of {len(rows)} pairs differ, in the order {', '.join(names)}"


def label_agreement(a: Labels, b: Labels) -> float | None:
    """The share, in per cent, of the units both methods list on which they give the same name by the documented rule.

    A unit that either leaves unlabelled counts as disagreement. None where they list no unit in common.

    >>> def labels(*names):
    ...     return Labels("fc", np.arange(len(names)), tuple((name,) for name in names), np.zeros(len(names)))
    >>> label_agreement(labels("red", "dog"), labels("Red", "cat"))
    50.0
    """
    in_a, in_b = _common_units(a.units, b.units)
    if not len(in_a):
        return None
    first, second = NameMatcher.of(a.descriptions), NameMatcher.of(b.descriptions)
    pairs = [(a.descriptions[i], b.descriptions[j]) for i, j in zip(in_a, in_b, strict=True)]
    alike = [bool(left and right) and are_same_name(left, right, first=first, second=second) for left, right in pairs]
    return 100 * float(np.mean(alike))


def _common_units(
    a: Int[np.ndarray, " units_a"], b: Int[np.ndarray, " units_b"]
) -> tuple[Int[np.ndarray, " common"], Int[np.ndarray, " common"]]:
    """The indices of the units in common, in each of the two."""
    _, in_a, in_b = np.intersect1d(a, b, assume_unique=True, return_indices=True)
    return in_a, in_b
