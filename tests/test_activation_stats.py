import doctest
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cd_exp import activation_stats
from cd_exp.activation_stats import BINS, activation_statistics, merge_statistics, merge_strongest, strongest_images
from cd_exp.records import TopActivations

# Few different values, so that ties are the rule; extremes among them, and values across many powers of two.
VALUES = st.sampled_from([0.0, -0.0, 1.0, 0.5, -1.0, 3.7, 1e-40, 1e-3, -2.5e8, 3e38, 0.1])
MATRICES = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=VALUES).map(torch.from_numpy)


def literal_strongest(neurons, k):
    """For each unit, sort pairs of (-value, number)."""
    columns = [
        sorted(range(len(neurons)), key=lambda image, unit=unit: (-float(neurons[image, unit]), image))[:k]
        for unit in range(neurons.shape[1])
    ]
    indices = torch.tensor(columns, dtype=torch.int64).T
    return neurons.gather(0, indices), indices


def literal_counts(values):
    """Where each value lies between the edges."""
    computed = torch.zeros(BINS, dtype=torch.int32)
    reach = 2.0 ** max(np.frexp(max(abs(float(v)) for v in values))[1], activation_stats.SMALLEST)
    for value in values:
        computed[int(np.floor(float(value) / reach * BINS / 2)) + BINS // 2] += 1
    return computed


def test_the_examples_in_the_docstrings():
    assert doctest.testmod(activation_stats).failed == 0


@given(MATRICES, st.integers(0, 15))
def test_the_strongest_images_are_those_of_a_sort(neurons, k):
    top = strongest_images(neurons, k)
    values, indices = literal_strongest(neurons, k)
    assert torch.equal(top.values, values)
    assert torch.equal(top.indices, indices)
    assert top.images == len(neurons)


def test_more_units_than_are_looked_at_at_a_time():
    neurons = torch.randn(20, 10)
    whole, parts = (activation_statistics(neurons, histogram=True, width=width) for width in (10, 4))
    assert torch.equal(whole.counts, parts.counts)
    assert torch.equal(whole.squares, parts.squares)


def parted(neurons, cuts):
    """The rows in pieces, with their numbers."""
    bounds = sorted({0, len(neurons), *(cut % len(neurons) for cut in cuts)})
    return [(start, neurons[start:stop]) for start, stop in pairwise(bounds)]


@given(MATRICES, st.integers(1, 15), st.lists(st.integers(0, 12)), st.randoms())
def test_parts_in_any_order_merge_into_the_whole(neurons, k, cuts, random):
    parts = parted(neurons, cuts)
    random.shuffle(parts)
    lists = []
    for start, rows in parts:
        top = strongest_images(rows, k)
        lists.append(TopActivations(top.values, top.indices + start, top.images))
    merged, whole = merge_strongest(lists, k), strongest_images(neurons, k)
    assert torch.equal(merged.values, whole.values)
    assert torch.equal(merged.indices, whole.indices)
    assert merged.images == whole.images
    summed = merge_statistics(activation_statistics(rows, histogram=True) for _, rows in parts)
    expected = activation_statistics(neurons, histogram=True)
    for field in ("least", "greatest", "firing", "counts", "dead"):
        assert torch.equal(getattr(summed, field), getattr(expected, field)), field
    assert torch.allclose(summed.total, expected.total)
    assert torch.allclose(summed.squares, expected.squares)


@given(MATRICES)
def test_statistics_are_those_of_numpy(neurons):
    statistics = activation_statistics(neurons, histogram=True)
    wide = neurons.double().numpy()
    assert np.allclose(statistics.mean, wide.mean(0))
    assert np.allclose(statistics.deviation, wide.std(0), rtol=1e-6, atol=1e-7 * (1 + np.abs(wide).max()))
    assert np.array_equal(statistics.firing, (wide > 0).sum(0))
    assert np.array_equal(statistics.dead, (wide == wide[:1]).all(0))
    for unit in range(neurons.shape[1]):
        assert torch.equal(statistics.counts[unit], literal_counts(neurons[:, unit]))


def test_the_edges_of_the_bins_hold_the_values():
    neurons = torch.tensor([[0.0, 5.0], [3.0, -1.0]])
    edges = activation_statistics(neurons, histogram=True).edges
    assert edges.shape == (2, BINS + 1)
    assert edges[0, [0, -1]].tolist() == [-4, 4]
    assert edges[1, [0, -1]].tolist() == [-8, 8]


def test_without_a_histogram_none_is_made():
    one = activation_statistics(torch.randn(4, 2))
    assert one.counts is None
    assert merge_statistics([one, one]).counts is None


@pytest.mark.parametrize("k", [1, 40])
def test_a_short_list_is_the_beginning_of_a_longer_one(k):
    neurons = torch.randn(50, 7).relu()
    assert torch.equal(strongest_images(neurons, 45).indices[:k], strongest_images(neurons, k).indices)
