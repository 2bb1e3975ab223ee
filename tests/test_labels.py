import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cd_exp.labels import best_concepts, flag_units, label_layer, rank_of_concepts

NAMES = tuple("fbgahced")  # not in the order of the alphabet


@st.composite
def layers(draw):
    """Scores with many ties, and for each unit some accepted columns, none, or nothing known."""
    units, concepts = draw(st.integers(1, 9)), draw(st.integers(1, 8))
    value = st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 2.0])
    scores = draw(st.lists(st.lists(value, min_size=concepts, max_size=concepts), min_size=units, max_size=units))
    columns = st.none() | st.lists(st.integers(0, concepts - 1), unique=True).map(lambda c: np.array(c, dtype=int))
    accepted = draw(st.lists(columns, min_size=units, max_size=units))
    return torch.tensor(scores), NAMES[:concepts], accepted


def literal_order(row) -> list[int]:
    return sorted(range(len(row)), key=lambda column: (-row[column], NAMES[column]))


@given(layers())
@settings(deadline=None, max_examples=80)
def test_labels_and_ranks_follow_one_order(layer):
    scores, names, accepted = layer
    labels = label_layer(scores, names, layer="fc", accepted=accepted, k=3)
    for unit, row in enumerate(scores.tolist()):
        order = literal_order(row)
        assert labels.top[unit] == tuple(names[column] for column in order[:3])
        assert labels.similarity[unit] == row[order[0]]
        if accepted[unit] is None or not len(accepted[unit]):
            assert np.isnan(labels.ranks[unit])
        else:
            assert labels.ranks[unit] == 1 + min(order.index(column) for column in accepted[unit])
            assert (labels.ranks[unit] == 1) == (order[0] in accepted[unit])


@given(layers(), st.integers(1, 4))
@settings(deadline=None, max_examples=40)
def test_blocks_give_what_the_whole_gives(layer, size):
    scores, names, accepted = layer
    starts = range(0, len(scores), size)
    blocks = ((slice(start, start + size), scores[start : start + size]) for start in starts)
    whole = label_layer(scores, names, layer="fc", accepted=accepted)
    streamed = label_layer(blocks, names, layer="fc", accepted=accepted)
    assert streamed.top == whole.top
    np.testing.assert_array_equal(streamed.units, whole.units)
    np.testing.assert_array_equal(streamed.similarity, whole.similarity)
    np.testing.assert_array_equal(streamed.ranks, whole.ranks)


def test_ties_across_the_last_place_kept_go_to_the_lowest_places():
    scores = torch.zeros(2, 5000)
    scores[1, 4000] = 1
    values, columns = best_concepts(scores, torch.arange(5000).flip(0), k=3)
    assert columns.tolist() == [[4999, 4998, 4997], [4000, 4999, 4998]]
    assert values.tolist() == [[0, 0, 0], [1, 0, 0]]


def test_a_dead_unit_gets_no_rank_for_free():
    labels = label_layer(torch.zeros(3, 3), ("b", "a", "c"), layer="fc", accepted=[np.array([i]) for i in range(3)])
    assert labels.descriptions == ("a", "a", "a")
    assert labels.ranks.tolist() == [2, 1, 3]


def test_the_best_of_several_accepted_concepts_gives_the_rank():
    scores = torch.tensor([[0.9, 0.5, 0.7, 0.1]])
    assert rank_of_concepts(scores, [np.array([3, 1])], torch.arange(4)).tolist() == [3]
    assert rank_of_concepts(scores, [np.array([3, 2, 1])], torch.arange(4)).tolist() == [2]


def test_without_truth_there_are_no_ranks():
    labels = label_layer(torch.rand(4, 8), NAMES, layer="layer1")
    assert labels.ranks is None
    assert labels.truth == ()
    assert all(len(names) == 5 for names in labels.top)


def test_truth_stays_with_the_labels():
    truth = (("a",), None)
    assert label_layer(torch.rand(2, 8), NAMES, layer="fc", truth=truth).truth == truth


def test_a_small_set_gives_fewer_labels():
    assert label_layer(torch.tensor([[0.0, 1.0]]), ("a", "b"), layer="fc").top == (("b", "a"),)


def test_no_units_give_no_labels():
    labels = label_layer(iter([]), NAMES, layer="fc")
    assert (labels.top, len(labels.units), len(labels.similarity)) == ((), 0, 0)


def test_bugs_in_the_scores_are_refused():
    scores = torch.rand(4, 8)
    nan = scores.clone()
    nan[2, 5] = torch.nan
    with pytest.raises(ValueError, match="scores of unit 2 of fc hold NaN"):
        label_layer(nan, NAMES, layer="fc")
    with pytest.raises(ValueError, match="unit 3 of fc hold NaN"):
        label_layer([(slice(0, 1), scores[:1]), (slice(1, 4), nan[[0, 1, 2]])], NAMES, layer="fc")
    with pytest.raises(ValueError, match="scores of fc have 8 columns for 7 concepts"):
        label_layer(scores, NAMES[:7], layer="fc")
    with pytest.raises(ValueError, match="a block starts at unit 2, expected unit 0"):
        label_layer([(slice(2, 4), scores[2:])], NAMES, layer="fc")
    with pytest.raises(ValueError, match="fc has 4 units but 3 truths"):
        label_layer(scores, NAMES, layer="fc", truth=(None,) * 3)
    with pytest.raises(ValueError, match="fc has 4 units but 5 accepted columns"):
        label_layer(scores, NAMES, layer="fc", accepted=[None] * 5)


@given(layers(), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_the_order_of_the_concept_set_changes_no_label(layer, seed):
    scores, names, _ = layer
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))
    shuffled = label_layer(scores[:, order], [names[column] for column in order], layer="fc")
    assert shuffled.top == label_layer(scores, names, layer="fc").top


def test_the_margin_is_to_the_second_score_even_where_one_is_kept():
    labels = label_layer(torch.tensor([[0.25, 1.0, 0.5], [2.0, 2.0, 1.0]]), NAMES[:3], layer="fc", k=1)
    assert labels.top == (("b",), ("b",))
    assert labels.margin.tolist() == [0.5, 0.0]
    assert label_layer(torch.ones(2, 1), NAMES[:1], layer="fc").margin is None


def test_units_of_the_same_flags_share_one_set():
    """A set for each of a million units takes 200 MB."""
    always = np.arange(1000) % 2 == 0
    marks = flag_units(dead=~always, always=always, second=np.zeros(1000), ceiling=None)
    assert [set(marks[0]), set(marks[1])] == [{"always_on"}, {"dead"}]
    assert len({id(flags) for flags in marks}) == 2
