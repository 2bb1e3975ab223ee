import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from cd_exp import results
from cd_exp.evaluation.evaluate import judge_labels
from cd_exp.metrics import summarise
from cd_exp.results.summary import certainty_name, sample_by_certainty


def printed(outcome, folder, *, width=80, **settings) -> str:
    out = io.StringIO()
    results.show_results(Console(file=out, width=width), outcome, folder, **settings)
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_results_tests_examples_notes_and_place_are_printed(outcome, tmp_path, width):
    text = printed(outcome, tmp_path, width=width, method="soft_wpmi")
    for words in (
        "fc: clip_dissect − netdissect", "58.3 [52.1, 63.8]", "43.7 [37.5, 49.2]", "soft_wpmi", "layer4.1.act2",
        "+14.6 [+2.5, +26.0]", "0.021", "2 units of fc never fire", "total 13.1 s", str(tmp_path),
    ):  # fmt: skip
        assert words in text
    assert "\x1b" not in text
    assert all(len(line) <= width for line in text.splitlines() if not line.startswith("files:"))


def test_the_place_stays_on_one_line_with_the_files_that_are_there(outcome, tmp_path, manifest):
    folder = tmp_path / ("long" * 30)
    results.write_run_files(folder, outcome, manifest=manifest)
    assert f"files: {folder}  labels.csv, metrics.json\n" in printed(outcome, folder, width=40)


def test_a_layer_without_truth_has_units_and_no_accuracy(outcome, tmp_path):
    plain = replace(
        outcome,
        labels={"layer4.1.act2": outcome.labels["layer4.1.act2"]},
        metrics={"layer4.1.act2": {"units": 60}},
        baselines={},
        baseline_metrics={},
        comparisons=(),
    )
    text = printed(plain, tmp_path)
    assert "units" in text
    assert "top-1" not in text
    assert "truth" not in text.partition("files:")[0]


def test_without_a_baseline_one_table_holds_all_layers_at_80_columns(outcome, tmp_path):
    alone = replace(outcome, baselines={}, baseline_metrics={}, comparisons=())
    text = printed(alone, tmp_path)
    (heading,) = [line.split() for line in text.splitlines() if line.strip().startswith("layer [95 %]")]
    assert heading == ["layer", "[95", "%]", "layer4.1.act2", "fc"]
    for row in (
        "units 60 60", "units with known truth 60/60", "top-1 % ↑ 58.3 [52.1, 63.8]", "mean rank ↓ 13.6 [9.1, 18.2]",
        "AUC (similarity) ↑ 0.667", "CLIP cosine to truth ↑ 0.812 [0.790, 0.830]",
        "mean rank mean rank of the truth among all concepts",
    ):  # fmt: skip
        assert row in [" ".join(line.split()) for line in text.splitlines()]


def test_layers_that_find_no_room_stand_in_a_further_table_without_intervals(outcome, tmp_path):
    names = [f"features.{number}.conv" for number in range(9)]
    metrics = dict.fromkeys(names, outcome.metrics["fc"])
    labels = {name: replace(outcome.labels["fc"], layer=name) for name in names}
    many = replace(outcome, labels=labels, metrics=metrics, baselines={}, baseline_metrics={}, comparisons=())
    lines = printed(many, tmp_path).splitlines()
    assert all(len(line) <= 80 for line in lines if not line.startswith("files:"))
    assert [name for line in lines for name in line.split()[1:] if line.strip().startswith("layer ")][-9:] == names
    assert "[52.1, 63.8]" not in "".join(lines)


def test_a_further_table_has_its_own_metrics_and_intervals(outcome, tmp_path):
    hidden = [f"layer{number}.with.a.long.name" for number in range(4)]
    metrics = {**{name: {"units": 60, "stability_mean": 0.5} for name in hidden}, "fc": outcome.metrics["fc"]}
    labels = {name: replace(outcome.labels["fc"], layer=name) for name in metrics}
    many = replace(outcome, labels=labels, metrics=metrics, baselines={}, baseline_metrics={}, comparisons=())
    text = printed(many, tmp_path)
    first, last = text.partition("layer [95 %]")[::2]
    assert "top-1" not in first
    assert "top-1 % ↑" in last
    assert "58.3 [52.1, 63.8]" in last


def test_the_heading_names_intervals_only_where_one_is_printed(outcome, tmp_path):
    """Hidden layers in a narrow terminal have room for the interval of top-1 alone, which they have not."""
    layers = [f"layer{number}" for number in range(1, 6)]
    metrics = {name: {"units": 60, "stability_mean": 0.5, "stability_mean_ci95": [0.41, 0.59]} for name in layers}
    labels = {name: replace(outcome.labels["fc"], layer=name) for name in layers}
    hidden = replace(outcome, labels=labels, metrics=metrics, baselines={}, baseline_metrics={}, comparisons=())
    text = printed(hidden, tmp_path)
    assert ("[0.41, 0.59]" in text, "[95 %]" in text) == (False, False)
    wide = printed(replace(hidden, labels=dict([*labels.items()][:1]), metrics={"layer1": metrics["layer1"]}), tmp_path)
    assert ("[0.41, 0.59]" in wide, "[95 %]" in wide) == (True, True)


def test_a_layer_wider_than_the_terminal_is_printed(outcome, tmp_path):
    name = "a" * 90
    labels = {name: replace(outcome.labels["fc"], layer=name)}
    metrics = {name: outcome.metrics["fc"]}
    wide = replace(outcome, labels=labels, metrics=metrics, baselines={}, baseline_metrics={}, comparisons=())
    assert "58.3" in printed(wide, tmp_path)


def test_a_hidden_layer_has_a_result(outcome, tmp_path):
    hidden = replace(outcome.labels["fc"], truth=(), ranks=None, layer="layer4")
    metrics = summarise(judge_labels(hidden), total_units=60)
    stability = hidden.stability
    assert metrics["stability_mean"] == pytest.approx(stability.mean())
    assert metrics["stability_median"] == pytest.approx(np.median(stability))
    assert metrics["stable_share"] == (stability >= 0.8).mean()
    assert metrics["always_on"] == (stability < 0.5).sum()
    assert metrics["dead"] == 0
    assert "top1" not in metrics
    alone = replace(
        outcome,
        labels={"layer4": hidden},
        metrics={"layer4": metrics},
        baselines={},
        baseline_metrics={},
        comparisons=(),
    )
    lines = [" ".join(line.split()) for line in printed(alone, tmp_path).splitlines()]
    assert any(line.startswith(f"stable share {(stability >= 0.8).mean():.2f} [") for line in lines)
    assert any(line.startswith(f"mean stability {stability.mean():.2f} [") for line in lines)


def test_the_most_and_the_least_certain_units_are_printed(outcome, tmp_path):
    labels = outcome.labels["fc"]
    shown = sample_by_certainty(labels, 6)
    others = np.delete(labels.stability, shown)
    assert (labels.stability[shown[:3]].min(), labels.stability[shown[3:]].max()) == (1.0, others.min()) or (
        labels.stability[shown[:3]].min() >= others.max() and labels.stability[shown[3:]].max() <= others.min()
    )
    believed = replace(labels, p_right=1 - labels.stability)
    assert (certainty_name(labels), certainty_name(believed)) == ("stability", "p(right)")
    assert sample_by_certainty(believed, 2)[0] == int(np.argmin(labels.stability))
    text = printed(replace(outcome, labels={"fc": believed}), tmp_path, width=120)
    assert "most and least certain units, by p(right)" in text


def test_notes_are_logged_too(outcome, tmp_path, caplog):
    with caplog.at_level("INFO", logger="cd_exp"):
        printed(outcome, tmp_path)
    assert [record.message for record in caplog.records] == [f"note: {note}" for note in outcome.notes]


def test_every_test_is_named(outcome, tmp_path):
    lines = [" ".join(line.split()) for line in printed(outcome, tmp_path).splitlines()]
    assert "top-1 % McNemar mid-p, Tango's score interval" in lines
    assert "Holm p adjusted by Holm for all tests of the run" in lines


def test_names_are_printed_as_they_are(outcome, tmp_path):
    assert "naïve 寿司 $x^2$ [bold]" in printed(outcome, tmp_path, width=120)


def test_examples_say_what_is_right(outcome, tmp_path):
    labels = outcome.labels["fc"]
    row = sample_by_certainty(labels, 6)[0]
    line = next(line for line in printed(outcome, tmp_path, width=120).splitlines() if line.startswith(" fc"))
    assert ("✓" in line) is bool(labels.ranks[row] == 1)
    assert labels.descriptions[row] in line
    assert labels.truth[row][0] in line
    assert f"{labels.stability[row]:.2f}" in line


def test_a_job_of_a_sweep_is_one_line(outcome):
    out = io.StringIO()
    results.show_job(Console(file=out, width=80), outcome, "3: similarity=wpmi")
    (line,) = out.getvalue().splitlines()
    assert line.startswith("job 3: similarity=wpmi  ")
    assert "fc top-1 % 58.3" in line
    assert line.endswith("13.1 s")
