"""A figure is declared once: whatever is in `METRICS` is in `metrics.json` and in every table."""

import io
import json
import subprocess
import sys
from dataclasses import fields, replace
from itertools import product

import numpy as np
import pytest
from helpers.made_outcomes import make_outcome
from rich.console import Console

from cd_exp import results
from cd_exp.evaluation.evaluate import compare_methods_by_layer
from cd_exp.metrics import BY_KEY, METRICS, compare_methods, summarise
from cd_exp.metrics.intervals import bootstrap_interval, clopper_pearson_interval
from cd_exp.metrics.metrics import FAITHFULNESS, UNITS, metric_field, metric_values, with_bootstrap_interval
from cd_exp.metrics.significance import compare_shares
from cd_exp.records import UnitResults
from cd_exp.results.summary import CLIP_DISSECT
from cd_exp.results.wandb import RunInfo, Wandb, metric_directions
from cd_exp.sweep import gather_sweep
from experiments import against_published

COUNTS = {"units", "judged", "cosine_units", "faithfulness_units"}
SHARES = ("distinct_labels", "shared_label", "commonest_share")


def full(seed: int, units: int = 40) -> UnitResults:
    """A judgement to which every figure applies; of two more units nothing is known."""
    rng = np.random.default_rng(seed)
    rank = rng.geometric(0.3, units).astype(float)
    stability = rng.integers(0, 41, units) / 40
    scores = {name: np.append(rng.random(units + 1), np.nan) for name in FAITHFULNESS}
    return UnitResults(
        units=np.arange(units),
        top1=rank == 1,
        top1_published=(rank == 1) & (rng.random(units) < 0.8),
        top5=rank <= 5,
        rank=rank,
        similarity=rng.random(units),
        stability=stability,
        named=np.arange(units - 1),
        clip_cosine=rng.random(units - 1),
        sentence_cosine=rng.random(units - 1),
        labelled=np.arange(units + 2),
        layer_stability=np.append(stability, [0.1, 0.9]),
        dead=np.arange(units + 2) % 7 == 0,
        always_on=np.arange(units + 2) % 5 == 0,
        names=np.append(rng.choice(["red", "blue", "a dog"], units + 1), ""),
        p_right=rng.random(units + 2),
        general_right=np.append((rng.random(units) < 0.8).astype(float), [np.nan, np.nan]),
        general_bits=3 * rng.random(units + 2),
        graded=np.append(rng.random(units), [np.nan, np.nan]),
        faithfulness=scores,
        floor={name: values / 3 for name, values in scores.items()},
    )


@pytest.fixture(scope="module")
def outcome():
    judgements = {CLIP_DISSECT: {"fc": full(0)}, "other": {"fc": full(1)}}
    metrics = {name: {"fc": summarise(by["fc"], total_units=42, resamples=99)} for name, by in judgements.items()}
    outcome = make_outcome(units=42)
    labels = {"fc": outcome.labels["fc"]}
    return replace(
        outcome,
        labels=labels,
        metrics=metrics.pop(CLIP_DISSECT),
        baselines={"other": labels},
        baseline_metrics=metrics,
        comparisons=compare_methods_by_layer({CLIP_DISSECT: labels, "other": labels}, judgements, seed=0),
    )


@pytest.fixture(scope="module")
def sweep(outcome, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    for number in range(2):
        about = {"config": {"seed": number}, "choices": {}, "overrides": [f"seed={number}"]}
        results.write_run_files(folder / str(number), outcome, manifest=about)
        results.write_report(folder / str(number), outcome, manifest=about)
    return folder


def test_every_figure_applies_to_a_layer_of_which_all_is_known(outcome):
    metrics = outcome.metrics["fc"]
    keys = [key for figure in METRICS for key in (figure.key, figure.interval and figure.interval_key) if key]
    assert list(metrics) == ["units", *keys]
    for figure in METRICS:
        if figure.interval:
            low, high = metrics[figure.interval_key]
            assert low <= metrics[figure.key] <= high
    assert json.loads(json.dumps(metrics)) == metrics


def test_new_shares_lie_between_0_and_1(outcome):
    for layer in outcome.metrics.values():
        assert all(0 <= layer[key] <= 1 for key in SHARES)
        assert layer["commonest_label"] in ("red", "blue", "a dog")


def test_the_floor_is_taken_off_unit_by_unit(outcome):
    layer = outcome.metrics["fc"]
    for name in FAITHFULNESS:
        expected = layer[f"faithfulness.{name}"] * 2 / 3
        assert layer[f"faithfulness.{name}_over_floor"] == pytest.approx(expected)
        low, high = layer[f"faithfulness.{name}_over_floor_ci95"]
        assert low < expected < high


def test_every_key_of_metrics_is_in_metrics_json(outcome, sweep):
    written = json.loads((sweep / "0" / "metrics.json").read_text())
    assert written["layers"]["fc"] == outcome.metrics["fc"]
    assert {figure.key for figure in METRICS} <= written["layers"]["fc"].keys()


@pytest.mark.parametrize("width", [80, 400])
@pytest.mark.parametrize("alone", [True, False])
def test_every_figure_is_in_the_terminal(outcome, tmp_path, width, alone):
    out = io.StringIO()
    results.show_results(
        Console(file=out, width=width), replace(outcome, baseline_metrics={}) if alone else outcome, tmp_path
    )
    text = out.getvalue()
    for figure in METRICS:
        assert figure.heading in text
        assert figure.meaning in " ".join(text.split())
        assert figure.key == "judged" or figure.text(outcome.metrics["fc"], interval=False) in text


def test_every_figure_is_on_the_page(outcome, sweep):
    text = (sweep / "0" / "report.html").read_text().replace("\N{NO-BREAK SPACE}", " ")
    for figure in METRICS:
        assert f">{figure.heading}{figure.arrow}</th>" in text
        assert figure.meaning.replace("'", "&#39;") in text
        assert figure.key == "judged" or figure.text(outcome.metrics["fc"]) in text


@pytest.mark.slow
def test_every_figure_is_logged_to_wandb(outcome, sweep):
    with Wandb(units=0).begin(sweep / "1", RunInfo(config={})) as record:
        record.finish(outcome, folder=sweep / "1")
    (log,) = (sweep / "1").glob("wandb/offline-run-*/run-*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(log)]
    shown = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout
    records = [json.loads(line) for line in shown.splitlines()]
    summary: dict = {}
    for record in records:
        summary |= record["summary"]["update"] if record["type"] == "summary" else {}
    for figure in METRICS:
        assert summary[f"fc/{figure.key}"] == outcome.metrics["fc"][figure.key]
        if figure.interval:
            assert summary[f"fc/{figure.interval_key}_low"] == outcome.metrics["fc"][figure.interval_key][0]


def test_every_figure_has_a_column_in_the_table_of_a_sweep(outcome, sweep):
    gather_sweep(sweep, console=Console(quiet=True))
    header = (sweep / "sweep.csv").read_text().splitlines()[0].split(",")
    for figure, prefix in product(METRICS, ("", "other/")):
        assert f"{prefix}{figure.key}" in header
        assert not figure.interval or {f"{prefix}{figure.interval_key}_{end}" for end in ("low", "high")} <= {*header}


def test_every_figure_has_a_column_in_the_table_of_an_experiment(outcome, sweep):
    rows = list(against_published.rows(against_published.jobs([sweep / "0"]), axes=[], expected={"rows": []}))
    header, _, first, _ = against_published.markdown(rows).splitlines()
    for figure in METRICS:
        assert f" {figure.heading} |" in header
        assert f" {figure.text(outcome.metrics['fc'])} |" in first


def test_every_figure_with_a_test_is_compared_and_shown(outcome):
    (row,) = outcome.comparisons
    shown = {difference.metric: difference for difference in results.summary.method_differences(outcome)}
    for figure in METRICS:
        assert (figure.test is not None) == (f"{figure.key}_difference" in row)
        if figure.test:
            parts = ("difference_ci95", "least_detectable", "p", "p_adjusted", "n")
            assert {f"{figure.key}_{what}" for what in parts} <= row.keys()
            assert shown[figure.heading].units == str(row[f"{figure.key}_n"])
    assert row["judged"] == 40
    assert row["faithfulness.f1_n"] == 41


def test_a_figure_is_declared_whole():
    scores = {f"faithfulness.{name}{over}" for name in FAITHFULNESS for over in ("", "_over_floor")}
    names = {entry.name for entry in fields(UnitResults)} | scores | COUNTS
    for figure in (UNITS, *METRICS):
        assert set(figure.of) <= names
        assert figure.n in COUNTS
        assert figure.heading
        assert figure.meaning
        format(1, figure.digits)
    assert len({figure.key for figure in METRICS}) == len({figure.heading for figure in METRICS}) == len(METRICS)


AXES = ("units", "named", "labelled", "candidates")  # never missing alone


@pytest.mark.parametrize("entry", [entry.name for entry in fields(UnitResults) if entry.name not in AXES])
def test_what_a_method_does_not_give_leaves_its_figures_out(entry):
    emptied = replace(full(0), **{entry: {} if entry in ("faithfulness", "floor") else None})
    metrics = summarise(emptied, total_units=42, resamples=9)
    for figure in METRICS:
        needs = {"faithfulness" if name.startswith("faithfulness") else name for name in figure.of}
        needs |= {"floor" for name in figure.of if name.endswith("_over_floor")}
        assert (figure.key in metrics) == (entry not in needs)


def test_a_metric_of_ones_own_has_the_interval_and_the_test_of_its_own_statistic():
    """Mean reciprocal rank, one row; the interval of another statistic of the ranks was [1.58, 18.2] beside .895."""
    row = replace(BY_KEY["mean_rank"], key="reciprocal", each=lambda rank: 1 / rank, higher_is_better=True)
    a, b = full(0), full(1)
    numbers, expected = summarise(a, total_units=42, resamples=200, figures=[row]), 1 / a.rank
    assert numbers["reciprocal"] == pytest.approx(expected.mean())
    assert numbers["reciprocal_ci95"] == list(bootstrap_interval(expected, seed=0, resamples=200))
    assert compare_methods(a, b, figures=[row])["reciprocal_difference"] == pytest.approx(
        (1 / a.rank - 1 / b.rank).mean()
    )


@pytest.mark.parametrize("key", ["stable_share", "p_right_share", "general_right", "general_vague"])
@pytest.mark.parametrize("right", [0, 1, 48, 96])
def test_a_share_of_units_has_the_exact_interval_of_a_share(key, right):
    """None of 96 units gave [0, 0] by a bootstrap, which draws nothing but what is there."""
    statistic = BY_KEY[key].statistic
    units = np.arange(96) < right
    low, high = statistic.interval.of(units.astype(float), seed=0, resamples=9)
    assert (100 * low, 100 * high) == pytest.approx(clopper_pearson_interval(units))
    assert high - low > 0.03
    if statistic.test is not None:
        difference = statistic.test.of(units.astype(float), np.roll(units, 7).astype(float), seed=0, resamples=9)
        points = compare_shares(units, np.roll(units, 7))
        assert (100 * difference.value, difference.p) == pytest.approx((points.value, points.p))
        assert [100 * end for end in difference.interval] == pytest.approx(points.interval)


def test_a_statistic_that_does_not_reduce_its_axis_has_no_interval():
    with pytest.raises(ValueError, match=r"gave \(\), expected one for each row"):
        with_bootstrap_interval(lambda ranks, axis: (1 / ranks).mean()).interval.of(
            np.arange(1.0, 9.0), seed=0, resamples=9
        )


def test_tables_and_wandb_read_which_direction_is_better(outcome, sweep):
    out = io.StringIO()
    results.show_results(Console(file=out, width=400), outcome, sweep / "0")
    assert "mean rank ↓" in out.getvalue()
    assert "top-1 % ↑" in out.getvalue()
    assert "mean rank of the truth among all concepts (lower is better)" in (sweep / "0" / "report.html").read_text()
    assert dict(metric_directions())["mean_rank"] == "min"
    assert dict(metric_directions())["top1"] == "max"
    assert not {"judged", "coverage"} & dict(metric_directions()).keys()


def test_units_without_a_value_are_left_out():
    judgement = full(0)
    similarity = judgement.similarity.copy()
    similarity[:10] = np.nan
    partly = replace(judgement, similarity=similarity)
    (auc,) = [figure for figure in METRICS if figure.key == "auc"]
    score, right = metric_values(auc, partly)
    assert np.array_equal(score, similarity[10:])
    assert np.array_equal(right, judgement.top1[10:])
    assert metric_field(partly, "faithfulness_units").tolist() == list(range(41))
