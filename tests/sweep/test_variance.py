"""The analysis of variance against the textbook's formulas for balanced designs."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_sweeps import finished
from scipy import stats

from cd_exp.sweep import read_sweep, tables
from cd_exp.sweep.anova import EQUAL, INTERACTION, SATURATED, UNBALANCED, explain_axes, partition_variance
from cd_exp.sweep.gather import describe_sweep

sizes = st.lists(st.integers(2, 4), min_size=1, max_size=3)
percents = st.floats(0, 100).map(lambda value: round(value, 2))


def design(counts, repeats=1):
    cells = [cell for cell in product(*map(range, counts)) for _ in range(repeats)]
    return {f"axis{n}": [f"level{cell[n]}" for cell in cells] for n in range(len(counts))}


@settings(deadline=None, max_examples=60)
@given(st.data(), sizes, st.integers(1, 2))
def test_of_a_balanced_design_the_parts_and_the_residual_add_up_to_the_total(data, counts, repeats):
    runs = repeats * int(np.prod(counts))
    accuracy = np.array(data.draw(st.lists(percents, min_size=runs, max_size=runs)))
    analysis = partition_variance(accuracy, design(counts, repeats))
    parts = sum(part["ss"] for part in analysis["axes"].values())
    assert analysis["balanced"]
    assert parts + analysis["residual"]["ss"] == pytest.approx(analysis["total"]["ss"], rel=1e-6, abs=1e-6)
    assert sum(part["df"] for part in analysis["axes"].values()) + analysis["residual"]["df"] == analysis["total"]["df"]
    if analysis["total"]["ss"]:
        shares = [part["eta_squared"] for part in (*analysis["axes"].values(), analysis["residual"])]
        assert sum(shares) == pytest.approx(1)


@settings(deadline=None, max_examples=30)
@given(st.data(), sizes)
def test_a_part_is_the_textbook_sum_of_squares_between_the_means_of_the_levels(data, counts):
    runs = int(np.prod(counts))
    accuracy = np.array(data.draw(st.lists(percents, min_size=runs, max_size=runs)))
    axes = design(counts)
    analysis = partition_variance(accuracy, axes)
    for axis, values in axes.items():
        expected = 0.0
        for level in set(values):
            chosen = accuracy[[value == level for value in values]]
            expected += len(chosen) * (chosen.mean() - accuracy.mean()) ** 2
        assert analysis["axes"][axis]["ss"] == pytest.approx(expected, rel=1e-6, abs=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(12)))
def test_the_order_of_the_runs_changes_nothing(order):
    axes, accuracy = design([3, 4]), np.random.default_rng(0).uniform(20, 80, 12)
    analysis = partition_variance(accuracy, axes)
    moved = partition_variance(
        accuracy[list(order)], {axis: [values[n] for n in order] for axis, values in axes.items()}
    )
    for axis in axes:
        assert moved["axes"][axis] == pytest.approx(analysis["axes"][axis])


def test_one_axis_with_several_runs_a_level_is_scipys_one_way_analysis():
    accuracy = np.array([41.0, 45.0, 44.0, 52.0, 50.0, 55.0, 61.0, 60.0, 66.0])
    analysis = partition_variance(accuracy, {"clip": list("aaabbbccc")})
    expected = stats.f_oneway(accuracy[:3], accuracy[3:6], accuracy[6:])
    assert analysis["axes"]["clip"]["f"] == pytest.approx(expected.statistic)
    assert analysis["axes"]["clip"]["p"] == pytest.approx(expected.pvalue)
    assert INTERACTION not in analysis["notes"]


def test_two_axes_by_hand():
    # Rows 10 and 20 apart, columns 4 apart, one cell 4 off: by hand SS 400, 36, 4.
    analysis = partition_variance(np.array([10.0, 14.0, 30.0, 38.0]), {"row": list("aabb"), "column": list("xyxy")})
    assert [analysis["axes"][axis]["ss"] for axis in ("row", "column")] == pytest.approx([484, 36])
    assert analysis["residual"]["ss"] == pytest.approx(4)
    assert analysis["axes"]["column"]["f"] == pytest.approx(9)
    assert analysis["axes"]["column"]["p"] == pytest.approx(stats.f.sf(9, 1, 1))
    assert analysis["axes"]["row"]["eta_squared"] == pytest.approx(484 / 524)
    assert INTERACTION in analysis["notes"]


def test_one_run_a_level_leaves_nothing_to_test_against():
    analysis = partition_variance(np.array([10.0, 20.0, 40.0]), {"similarity": list("abc")})
    assert analysis["axes"]["similarity"] == {
        "levels": 3, "df": 2, "separable": True, "ss": pytest.approx(1400 / 3),
        "eta_squared": pytest.approx(1.0, abs=1e-12),
    }  # fmt: skip
    assert SATURATED in analysis["notes"]


def test_equal_accuracies_have_nothing_to_explain():
    analysis = partition_variance(np.full(4, 33.3), design([2, 2]))
    assert all("eta_squared" not in part and "p" not in part for part in analysis["axes"].values())
    assert EQUAL in analysis["notes"]


def test_an_unbalanced_sweep_is_said_to_be_one_and_an_axis_gets_what_it_adds_to_the_others():
    accuracy, axes = np.array([10.0, 14.0, 30.0]), {"row": list("aab"), "column": list("xyx")}
    analysis = partition_variance(accuracy, axes)
    assert not analysis["balanced"]
    assert UNBALANCED in analysis["notes"]
    assert analysis["axes"]["row"]["ss"] == pytest.approx(200)


def test_axes_that_change_together_are_not_separable():
    # Accuracy follows both: neither explains nothing, and neither explains all.
    analysis = partition_variance(
        np.array([1.0, 5.0, 2.0, 6.0]), {"model": list("abab"), "clip": list("xyxy"), "seed": list("0011")}
    )
    for axis in ("model", "clip"):
        assert analysis["axes"][axis] == {"levels": 2, "df": 0, "separable": False}
    assert analysis["axes"]["seed"]["separable"]
    assert analysis["axes"]["seed"]["ss"] == pytest.approx(1)
    assert "model, clip not separable: the runs change them together with others" in " ".join(analysis["notes"])


def test_an_axis_is_not_separable_where_others_tell_some_of_its_levels():
    # Level c of the model has a backbone of its own: what is the model's there and what the backbone's, nobody knows.
    axes = {"model": list("aabbcc"), "clip": list("xyxyzz")}
    analysis = partition_variance(np.arange(6.0), axes)
    assert analysis["axes"]["model"]["df"] == 1 < analysis["axes"]["model"]["levels"] - 1
    assert not analysis["axes"]["model"]["separable"]
    assert "eta_squared" not in analysis["axes"]["model"]


def test_p_is_adjusted_over_the_axes():
    accuracy = np.random.default_rng(0).uniform(20, 80, 24)
    analysis = partition_variance(accuracy, design([2, 3, 4]))["axes"]
    raw = {axis: part["p"] for axis, part in analysis.items()}
    smallest = min(raw, key=raw.get)
    assert analysis[smallest]["p_adjusted"] == pytest.approx(min(1, 3 * raw[smallest]))
    assert all(part["p_adjusted"] >= part["p"] for part in analysis.values())


def test_a_sweep_has_one_analysis_for_each_layer_with_truth(tmp_path):
    for number, similarity in enumerate(["cos", "wpmi"]):
        finished(tmp_path, number, f"similarity={similarity}", accuracy=25 * (number + 1), layers=("act", "fc"))
    analysis = explain_axes(read_sweep(tmp_path))
    assert list(analysis) == ["act", "fc"]
    assert analysis["fc"]["axes"]["similarity"]["ss"] == pytest.approx(312.5)


def test_the_page_shows_what_the_terminal_shows_and_no_share_that_arithmetic_alone_gives(tmp_path):
    jobs = [("cos", 20, 10), ("cos", 100, 30), ("wpmi", 20, 50), ("wpmi", 100, 55)]
    for number, (similarity, top_k, accuracy) in enumerate(jobs):
        finished(tmp_path, number, f"similarity={similarity}", f"similarity.top_k={top_k}", accuracy=accuracy)
        page = describe_sweep(read_sweep(tmp_path), "Sweep")
        assert bool(page["explained"]) == bool(page["notes"]) == (number == 3)
    assert [part["axis"] for part in page["explained"]] == ["similarity", "similarity.top_k", "residual"]
    assert page["explained"][0]["p_adjusted"] > page["explained"][0]["p"]
    assert INTERACTION in page["notes"]


def test_a_single_job_is_no_sweep_to_analyse(tmp_path):
    finished(tmp_path, 0, "similarity=cos")
    assert explain_axes(read_sweep(tmp_path)) == {}


def test_the_table_prints_the_raw_and_the_adjusted_p():
    tested = {"levels": 2, "df": 1, "eta_squared": 0.5, "f": 9.0, "p": 0.012, "p_adjusted": 0.024}
    table = tables.variance_table("fc", {"axes": {"clip": tested}, "residual": {"df": 6, "eta_squared": 0.5}})
    columns = {str(column.header): [str(cell) for cell in column.cells] for column in table.columns}
    assert columns["p"] == ["0.012", ""]
    assert columns["Holm"] == ["0.024", ""]
