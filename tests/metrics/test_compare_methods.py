from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd_exp.metrics import adjust_p_values, compare_methods, describe_ranking, label_agreement
from cd_exp.records import Labels, UnitResults

FAST = {"seed": 0, "resamples": 500}


def judged(units, right, **more) -> UnitResults:
    right = np.array(right, dtype=bool)
    return UnitResults(units=np.array(units), top1=right, top1_published=right, **more)


def labels(units, names) -> Labels:
    top = tuple((name,) if name else () for name in names)
    return Labels(layer="fc", units=np.array(units), top=top, similarity=np.full(len(top), np.nan))


def test_only_units_in_common_are_compared():
    a = judged([0, 1, 2, 5], [True, True, False, False], rank=np.array([1.0, 1.0, 4.0, 9.0]))
    b = judged([5, 2, 7], [True, False, True], rank=np.array([1.0, 2.0, 1.0]))
    difference = compare_methods(a, b, **FAST)
    assert difference["judged"] == 2
    assert difference["top1_difference"] == -50
    assert difference["mean_rank_difference"] == 5
    assert difference["top1_p"] == 0.5  # one discordant unit: mid-p is half of its two-sided 1
    assert "top5_difference" not in difference


def test_no_unit_in_common_leaves_the_count():
    assert compare_methods(judged([0], [True]), judged([1], [True]), **FAST) == {"judged": 0}


def test_the_same_method_does_not_differ_from_itself():
    cosine = np.random.default_rng(0).random(30)
    a = judged(range(30), cosine > 0.5, top5=cosine > 0.1, named=np.arange(30), clip_cosine=cosine)
    difference = compare_methods(a, a, **FAST)
    assert {value for name, value in difference.items() if name.endswith("_p")} == {1.0}
    assert difference["clip_cosine_difference_ci95"] == [0, 0]
    assert difference["clip_cosine_n"] == 30


def test_a_clear_difference_is_found_by_every_test():
    rng = np.random.default_rng(0)
    units = np.arange(200)
    better = {
        "rank": rng.geometric(0.8, 200).astype(float),
        "named": units,
        "sentence_cosine": rng.normal(0.6, 0.1, 200),
    }
    worse = {
        "rank": rng.geometric(0.1, 200).astype(float),
        "named": units,
        "sentence_cosine": rng.normal(0.4, 0.1, 200),
    }
    a, b = (judged(units, values["rank"] == 1, top5=values["rank"] <= 5, **values) for values in (better, worse))
    difference = compare_methods(a, b, **FAST)
    assert difference["judged"] == difference["sentence_cosine_n"] == 200
    for name in ("top1", "top5", "mean_rank", "sentence_cosine"):
        low, high = difference[f"{name}_difference_ci95"]
        assert low <= difference[f"{name}_difference"] <= high
        assert low > 0 or high < 0
        assert 0 < difference[f"{name}_p"] < 0.01


def test_cosines_are_compared_on_units_that_are_not_judged():
    none = np.zeros(0, dtype=int)
    a = judged(none, none, named=np.array([3, 4]), clip_cosine=np.array([0.5, 0.7]))
    b = judged(none, none, named=np.array([4, 9]), clip_cosine=np.array([0.1, 0.2]))
    assert compare_methods(a, b, **FAST) == {
        "judged": 0, "clip_cosine_difference": pytest.approx(0.6), "clip_cosine_p": 1, "clip_cosine_n": 1,
    }  # fmt: skip


@pytest.mark.slow
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=30))
@settings(deadline=None, max_examples=25)
def test_turning_the_pair_round_turns_the_sign(pairs):
    a, b = (judged(range(len(pairs)), [pair[side] for pair in pairs]) for side in (0, 1))
    forth, back = compare_methods(a, b, **FAST), compare_methods(b, a, **FAST)
    assert forth["top1_difference"] == -back["top1_difference"]
    assert forth["top1_p"] == pytest.approx(back["top1_p"])
    assert forth["top1_difference_ci95"] == pytest.approx([-end for end in reversed(back["top1_difference_ci95"])])


def test_agreement_by_the_rule_over_common_units():
    a = labels([0, 1, 2, 3], ["Bakery shop", "sea", "", "sky"])
    b = labels([0, 1, 2, 9], ["bakery-shop-s", "sky", "", "sky"])
    assert label_agreement(a, b) == pytest.approx(100 / 3)
    assert label_agreement(a, a) == 75
    assert label_agreement(labels([0], ["sea"]), labels([1], ["sea"])) is None


def test_ranks_among_other_candidates_are_not_compared():
    rank = np.arange(1.0, 31)
    a, b = (judged(range(30), rank == 1, rank=rank, candidates=count) for count in (128, 565))
    assert "mean_rank_difference" not in compare_methods(a, b, **FAST)
    assert "top1_difference" in compare_methods(a, b, **FAST)
    assert "mean_rank_difference" in compare_methods(a, a, **FAST)


def test_the_seed_draws_other_signs():
    rng = np.random.default_rng(0)
    a, b = (judged(range(30), np.ones(30), rank=rng.integers(1, 99, 30).astype(float)) for _ in range(2))
    assert compare_methods(a, b, **FAST) == compare_methods(a, b, **FAST)
    assert compare_methods(a, b, seed=0, resamples=500) != compare_methods(a, b, seed=1, resamples=500)


def test_every_p_of_a_table_is_adjusted_for_all_of_them():
    rows = [{"layer": "a", "top1_p": 0.01, "auc_p": 0.04}, {"layer": "b"}, {"layer": "c", "top1_p": 0.02}]
    assert adjust_p_values(rows) == [
        {"layer": "a", "top1_p": 0.01, "top1_p_adjusted": 0.03, "auc_p": 0.04, "auc_p_adjusted": 0.04},
        {"layer": "b"},
        {"layer": "c", "top1_p": 0.02, "top1_p_adjusted": 0.04},
    ]


def scored(seed, more=0.0, units=200):
    values = np.random.default_rng(seed).normal(0.3 + more, 0.1, units)
    return UnitResults(labelled=np.arange(units), faithfulness={"whitened": values})


def test_the_least_detectable_difference_is_its_formula():
    a, b = scored(0), scored(1)
    difference = compare_methods(a, b, **FAST)
    differences = a.faithfulness["whitened"] - b.faithfulness["whitened"]
    expected = 2.8 * differences.std(ddof=1) / np.sqrt(200)
    assert difference["faithfulness.whitened_least_detectable"] == pytest.approx(expected)
    shares = compare_methods(judged(range(40), [True] * 40), judged(range(40), [True] * 30 + [False] * 10), **FAST)
    assert shares["top1_least_detectable"] == pytest.approx(2.8 * 100 * np.std([0] * 30 + [1] * 10, ddof=1) / 40**0.5)


def test_methods_are_ranked_where_they_are_told_apart_and_not_elsewhere():
    methods = {"a": scored(0), "b": scored(1), "c": scored(2, more=0.2)}
    rows = [
        {"layer": "fc", "first": first, "second": second} | compare_methods(methods[first], methods[second], **FAST)
        for first, second in (("a", "b"), ("a", "c"), ("b", "c"))
    ]
    (sentence,) = describe_ranking(adjust_p_values(rows), "faithfulness.whitened")
    assert sentence.startswith("fc, whitened: c is above a (+0.198, p 0.012)")
    assert "c is above b (+0.2" in sentence
    assert "cannot rank a and b (" in sentence
    assert f"differences below {rows[0]['faithfulness.whitened_least_detectable']:.3f} are mostly missed" in sentence
    assert describe_ranking(rows, "faithfulness.f1") == []


def test_pairs_of_many_methods_that_cannot_be_ranked_stand_together():
    methods = {"a": scored(0), "b": scored(1), "c": scored(2), "d": scored(3, more=0.2), "copy": scored(0)}
    rows = [
        {"layer": "fc", "first": first, "second": second} | compare_methods(methods[first], methods[second], **FAST)
        for first, second in combinations(methods, 2)
    ]
    (sentence,) = describe_ranking(adjust_p_values(rows), "faithfulness.whitened")
    assert sentence.startswith("fc, whitened: 4 of 10 pairs differ, in the order d, ")
    assert "; cannot rank a with b, c; b with c, copy; c with copy (differences below 0.0" in sentence
    assert sentence.endswith("; a and copy have the same scores")
