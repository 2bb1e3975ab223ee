import io
from dataclasses import replace

import pytest
from rich.console import Console

from cd_exp import results


def printed(outcome, folder, *, width=80, **settings) -> str:
    out = io.StringIO()
    results.show_results(Console(file=out, width=width), outcome, folder, **settings)
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_results_tests_examples_notes_and_place_are_printed(outcome, tmp_path, width):
    text = printed(outcome, tmp_path, width=width, method="soft_wpmi")
    for words in (
        "58.3 [52.1, 63.8]", "43.7 [37.5, 49.2]", "soft_wpmi", "netdissect", "layer4.1.act2",
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


def test_without_a_baseline_there_is_one_row_a_layer_that_fits_80_columns(outcome, tmp_path):
    alone = replace(outcome, baselines={}, baseline_metrics={}, comparisons=())
    narrow, wide = printed(alone, tmp_path), printed(alone, tmp_path, width=160)
    line = next(line for line in narrow.splitlines() if "58.3" in line)
    for value in ("fc", "60/60", "58.3 [52.1, 63.8]", "81.5", "13.6", "3", "0.667", "0.812"):
        assert value in line
    assert "13.6 [9.1, 18.2]" not in narrow
    assert "13.6 [9.1, 18.2]" in wide


def test_names_are_printed_as_they_are(outcome, tmp_path):
    assert "naïve 寿司 $x^2$ [bold]" in printed(outcome, tmp_path, width=120)


def test_examples_say_what_is_right(outcome, tmp_path):
    labels = outcome.labels["fc"]
    line = next(
        line for line in printed(outcome, tmp_path, width=120).splitlines() if line.startswith(" fc") and " 59 " in line
    )
    assert ("✓" in line) is bool(labels.ranks[59] == 1)
    assert labels.descriptions[59] in line
    assert labels.truth[59][0] in line
