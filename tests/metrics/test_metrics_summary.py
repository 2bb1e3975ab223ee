import time

import numpy as np
import pytest

from cd_exp.metrics import BY_KEY, summarise
from cd_exp.records import UnitResults


def judgement(units: int, *, seed: int = 0, **changes) -> UnitResults:
    rng = np.random.default_rng(seed)
    rank = rng.geometric(0.3, units).astype(float)
    arguments = {
        "units": np.arange(units),
        "top1": rank == 1,
        "top1_published": (rank == 1) & (rng.random(units) < 0.8),
        "top5": rank <= 5,
        "rank": rank,
        "similarity": rng.random(units) - 0.1 * rank,
        "named": np.arange(units),
        "clip_cosine": rng.random(units),
        "sentence_cosine": rng.random(units),
    }
    return UnitResults(**(arguments | changes))


def test_every_figure_with_an_interval_that_holds_it():
    metrics = summarise(judgement(300), total_units=400, resamples=500)
    for name in ("top1", "top5", "top1_published", "mean_rank", "median_rank", "clip_cosine", "sentence_cosine"):
        low, high = metrics[BY_KEY[name].interval_key]
        assert low <= metrics[name] <= high
    assert (metrics["units"], metrics["judged"], metrics["cosine_units"]) == (400, 300, 300)
    assert metrics["top1"] == pytest.approx(100 * judgement(300).top1.mean())
    assert 0.5 < metrics["auc"] < 1
    assert metrics == summarise(judgement(300), total_units=400, resamples=500)


def test_published_labels_have_no_ranks():
    bare = judgement(20, top5=None, rank=None, similarity=None, named=None, clip_cosine=None, sentence_cosine=None)
    metrics = summarise(bare, total_units=20, resamples=100)
    assert set(metrics) == {"units", "judged", "top1", "ci95", "top1_published", "top1_published_ci95"}


def test_nothing_known_leaves_the_count_alone():
    assert summarise(UnitResults(), total_units=64) == {"units": 64}


def test_no_judged_unit_leaves_the_cosines():
    none = np.zeros(0)
    empty = judgement(
        0, top1=none.astype(bool), top1_published=none.astype(bool), top5=none.astype(bool), rank=none, similarity=none,
        named=np.arange(3), clip_cosine=np.array([0.1, 0.2, 0.3]), sentence_cosine=None,
    )  # fmt: skip
    metrics = summarise(empty, total_units=3, resamples=100)
    assert set(metrics) == {"units", "judged", "clip_cosine", "clip_cosine_ci95", "cosine_units"}
    assert metrics["judged"] == 0


@pytest.mark.parametrize("right", [True, False])
def test_all_right_or_all_wrong_is_defined(right):
    alike = np.full(40, right)
    metrics = summarise(judgement(40, top1=alike, top1_published=alike, top5=alike), total_units=40, resamples=100)
    assert "auc" not in metrics
    assert metrics["top1"] == 100 * right
    low, high = metrics["ci95"]
    assert high - low == pytest.approx(100 - 100 * 0.025 ** (1 / 40))
    assert np.isfinite([value for value in metrics.values() if not isinstance(value, list)]).all()


def test_one_unit_has_no_interval_but_of_the_share():
    metrics = summarise(judgement(1), total_units=1, resamples=100)
    assert "mean_rank" in metrics
    assert not {"mean_rank_ci95", "median_rank_ci95", "clip_cosine_ci95", "auc"} & set(metrics)
    assert metrics["ci95"] == pytest.approx([2.5, 100] if metrics["top1"] else [0, 97.5])


def test_units_without_a_score_are_left_out_of_the_auc():
    scores = np.array([np.nan, 0.9, 0.1, 0.2])
    right = np.array([True, True, False, True])
    small = judgement(4, similarity=scores, top1=right, top1_published=right)
    assert summarise(small, total_units=4, resamples=50)["auc"] == 1


def test_a_wide_layer_takes_seconds():
    start = time.perf_counter()
    summarise(judgement(2048), total_units=2048)
    assert time.perf_counter() - start < 30  # 2 s measured alone; the rest is for a busy machine
