from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd_exp.metrics import BY_KEY
from cd_exp.results.summary import (
    MetricsRow,
    choose_units,
    first_believed,
    format_cell,
    is_label_right,
    method_differences,
    metric_columns,
    metrics_rows,
    spread_evenly,
)


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 3000), wanted=st.integers(1, 100))
def test_a_spread_is_even_without_repeats_and_holds_both_ends(count, wanted):
    positions = spread_evenly(count, wanted)
    assert len(set(positions)) == len(positions) == min(count, wanted)
    assert positions[0] == 0
    assert len(positions) == 1 or positions[-1] == count - 1


@settings(max_examples=20, deadline=None)
@given(cap=st.integers(0, 30))
def test_never_more_units_are_shown_than_asked_for(cap):
    from helpers.made_outcomes import make_outcome

    shown = choose_units(make_outcome(units=8, images=3), cap)
    assert len(shown) == min(cap, 16)
    assert len({(unit.layer, unit.unit) for unit in shown}) == len(shown)


def test_a_layer_without_top_images_is_not_shown(outcome):
    partly = replace(outcome, top_images={"fc": outcome.top_images["fc"]})
    assert {unit.layer for unit in choose_units(partly, 10)} == {"fc"}


def test_a_shown_unit_carries_its_label_its_truth_and_its_images(outcome):
    unit = choose_units(outcome, 2, images=3)[1]
    labels = outcome.labels["fc"]
    first = int(labels.stability.argmax())
    assert (unit.layer, unit.unit, unit.description) == ("fc", first, labels.descriptions[first])
    assert unit.truth == labels.truth[first][0]
    assert unit.right is bool(labels.ranks[first] == 1)
    assert unit.images == tuple(outcome.top_images["fc"][first][:3])


def test_units_are_shown_by_belief_which_is_probability_before_stability(outcome):
    labels = outcome.labels["fc"]
    stable = first_believed(labels, 5)
    assert stable == np.argsort(-labels.stability, kind="stable")[:5].tolist()
    likely = replace(labels, p_right=1 - np.arange(60) / 60)
    likely.p_right[1] = np.nan
    assert first_believed(likely, 3) == [0, 2, 3]
    assert first_believed(replace(labels, stability=None), 3) == spread_evenly(60, 3)
    assert len(first_believed(labels, 100)) == 60


def test_nobody_is_right_or_wrong_where_the_truth_has_no_rank(outcome):
    assert is_label_right(outcome.labels["layer4.1.act2"], 0) is None
    labels = replace(outcome.labels["fc"], ranks=np.full(60, np.nan))
    assert is_label_right(labels, 0) is None


def test_rows_are_by_layer_with_our_own_method_first(outcome):
    assert [(row.layer, row.method) for row in metrics_rows(outcome, "soft_wpmi")] == [
        ("layer4.1.act2", "soft_wpmi"),
        ("fc", "soft_wpmi"),
        ("fc", "netdissect"),
    ]


def test_a_layer_that_only_a_baseline_labels_has_a_row(outcome):
    more = replace(outcome, baseline_metrics={"published": {"conv1": {"units": 3}}})
    assert ("conv1", "published") in [(row.layer, row.method) for row in metrics_rows(more)]


@pytest.mark.parametrize(
    ("key", "with_interval", "without"),
    [
        ("judged", "60/60", "60/60"),
        ("top1", "58.3 [52.1, 63.8]", "58.3"),
        ("top5", "81.5 [75.0, 88.0]", "81.5"),
        ("median_rank", "3", "3"),
        ("clip_cosine", "0.812 [0.790, 0.830]", "0.812"),
        ("sentence_cosine", "", ""),
    ],
)
def test_the_text_of_a_cell(outcome, key, with_interval, without):
    row = MetricsRow("fc", "ours", outcome.metrics["fc"])
    assert format_cell(row, BY_KEY[key], interval=True) == with_interval
    assert format_cell(row, BY_KEY[key], interval=False) == without


def test_a_column_is_shown_where_some_row_has_it_and_the_published_rule_where_it_differs(outcome):
    keys = [metric.key for metric in metric_columns(metrics_rows(outcome))]
    assert keys == [
        "units",
        "judged",
        "top1",
        "top1_published",
        "top5",
        "mean_rank",
        "median_rank",
        "auc",
        "clip_cosine",
    ]
    ours = metric_columns([MetricsRow("fc", "ours", outcome.metrics["fc"])])
    assert "top1_published" not in [metric.key for metric in ours]
    assert [metric.heading for metric in metric_columns([MetricsRow("conv1", "ours", {"units": 3})])] == ["units"]


def test_a_paired_test_is_read_from_the_row_of_its_pair(outcome):
    accuracy, cosine = method_differences(outcome)
    assert (accuracy.metric, accuracy.difference, accuracy.interval) == ("top-1 %", "+14.6", "[+2.5, +26.0]")
    assert (accuracy.p, accuracy.adjusted, accuracy.units) == ("0.021", "0.021", "60")
    assert (cosine.p, cosine.adjusted, cosine.units) == ("0.0004", "0.0008", "59")
    assert accuracy.test.startswith("McNemar")


def test_a_paired_test_of_too_few_units_has_no_interval(outcome):
    row = {
        "layer": "fc",
        "first": "a",
        "second": "b",
        "mean_rank_difference": -2.0,
        "mean_rank_p": 1.0,
        "mean_rank_n": 1,
    }
    (test,) = method_differences(replace(outcome, comparisons=[row]))
    assert (test.difference, test.interval, test.p) == ("-2.0", "", "1")


def test_without_truth_two_methods_still_agree_or_not(outcome):
    row = {"layer": "conv1", "first": "a", "second": "b", "agreement": 12.5}
    (same,) = method_differences(replace(outcome, comparisons=[row]))
    assert (same.metric, same.difference, same.units) == ("identical labels (%)", "12.5", "")
