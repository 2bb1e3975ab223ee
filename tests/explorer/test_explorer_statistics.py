import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cd_exp.activation_stats import activation_statistics
from cd_exp.explorer.unit_statistics import (
    BINS,
    SIMILAR,
    Limits,
    activation_percentiles,
    nearest_concepts,
    nearest_units,
    select_shown_images,
    top_units_per_image,
)


@pytest.fixture
def activations():
    return torch.rand(101, 7, generator=torch.Generator().manual_seed(3))


def test_weaker_images_stand_about_their_percentiles(activations):
    percentiles = activation_percentiles(activations)
    for unit in range(7):
        order = activations[:, unit].argsort().tolist()  # of 101 images number 75 and 50 are those percentiles exactly
        assert percentiles.weaker[unit].tolist() == [
            [order[76], order[75], order[74]],
            [order[51], order[50], order[49]],
        ]
    assert (
        percentiles.weaker_values == np.take_along_axis(activations.T.numpy()[:, None], percentiles.weaker, axis=2)
    ).all()


def test_the_histogram_counts_every_image_between_the_smallest_and_the_largest(activations):
    percentiles = activation_percentiles(activations)
    for unit in range(7):
        column = activations[:, unit].numpy()
        counts, edges = np.histogram(column, bins=BINS)
        assert (percentiles.low[unit], percentiles.high[unit]) == (pytest.approx(edges[0]), pytest.approx(edges[-1]))
        assert percentiles.histogram[unit].tolist() == counts.tolist()


def test_a_unit_that_never_changes_has_a_histogram_and_no_neighbour():
    activations = torch.rand(50, 3)
    activations[:, 1] = 0.5
    percentiles = activation_percentiles(activations)
    assert percentiles.histogram[1].tolist() == [50, *[0] * (BINS - 1)]
    assert nearest_units(activations).correlation[1].tolist() == [0.0, 0.0]


def test_units_that_act_alike_are_those_of_highest_correlation(activations):
    neighbours = nearest_units(activations)
    expected = np.corrcoef(activations.T.numpy())
    np.fill_diagonal(expected, -2)
    for unit in range(7):
        assert neighbours.nearest[unit].tolist() == np.argsort(-expected[unit])[:6].tolist()
        assert neighbours.correlation[unit] == pytest.approx(np.sort(expected[unit])[::-1][:6], abs=1e-5)
    assert neighbours.images == 101


def test_a_wide_layer_is_compared_on_some_of_the_images_and_says_so(activations):
    limits = Limits(products=7.0 * 7 * 80)
    neighbours = nearest_units(activations, limits=limits)
    assert neighbours.images == 80
    rows = np.linspace(0, 100, 80).round().astype(int)
    assert neighbours.nearest.tolist() == nearest_units(activations[rows], limits=limits).nearest.tolist()


@pytest.fixture
def families():
    """600 units in families of eight that share a signal; every hundredth unit never changes."""
    generator = torch.Generator().manual_seed(5)
    signals = torch.randn(200, 75, generator=generator).repeat_interleave(8, dim=1)
    activations = signals + 0.3 * torch.randn(200, 600, generator=generator)
    activations[:, ::100] = 1.0
    return activations[:, torch.randperm(600, generator=generator)]


def test_of_more_units_than_all_pairs_are_compared_of_the_nearest_are_still_found(families):
    exact = nearest_units(families)
    assert exact.exact
    neighbours = nearest_units(families, limits=Limits(exact=599, group=40))
    assert not neighbours.exact
    alive = families.std(dim=0) > 0
    shared = [len({*a} & {*b}) / 6 for a, b in zip(neighbours.nearest[alive], exact.nearest[alive], strict=True)]
    assert np.mean(shared) > 0.95
    expected = np.corrcoef(families.T.numpy()[alive])  # what is listed has the correlation of the activations
    rows = np.cumsum(alive.numpy()) - 1
    for unit in np.flatnonzero(alive.numpy())[::7]:
        others = neighbours.nearest[unit]
        assert len({*others.tolist(), unit}) == 7
        kept = alive.numpy()[others]
        assert neighbours.correlation[unit][kept] == pytest.approx(expected[rows[unit], rows[others[kept]]], abs=1e-4)


def test_groups_smaller_than_the_list_are_filled_up_with_other_units(families):
    neighbours = nearest_units(families, limits=Limits(exact=10, largest_group=3))
    assert all(len({*row, unit}) == 7 for unit, row in enumerate(neighbours.nearest.tolist()))
    normal = torch.nn.functional.normalize(families - families.mean(dim=0), dim=0).T
    for unit in range(0, 600, 50):
        others = torch.from_numpy(neighbours.nearest[unit])
        assert neighbours.correlation[unit] == pytest.approx((normal[others] @ normal[unit]).numpy(), abs=1e-4)


@given(block=st.integers(1, 400))
def test_blocks_do_not_change_the_evidence(block):
    activations = torch.rand(40, 9, generator=torch.Generator().manual_seed(1))
    whole = activation_percentiles(activations)
    limits = Limits(block=block, cached=block)
    percentiles, near = activation_percentiles(activations, limits=limits), nearest_units(activations, limits=limits)
    assert (percentiles.weaker == whole.weaker).all()
    assert (percentiles.histogram == whole.histogram).all()
    assert (near.nearest == nearest_units(activations).nearest).all()


def test_an_image_excites_units_in_standard_deviations_above_their_mean(activations):
    units, above = top_units_per_image(activations, [5, 80], statistics=activation_statistics(activations))
    scores = ((activations - activations.mean(0)) / activations.std(0, correction=0)).numpy()
    for row, image in enumerate((5, 80)):
        assert units[row].tolist() == np.argsort(-scores[image])[:6].tolist()
        assert above[row] == pytest.approx(np.sort(scores[image])[::-1][:6], abs=1e-4)


def test_a_dead_unit_is_excited_by_nothing():
    activations = torch.rand(30, 3)
    activations[:, 0] = 1.0
    counted = activation_statistics(activations)
    units, above = top_units_per_image(activations, [int(activations[:, 1].argmin())], statistics=counted)
    assert above[0][units[0].tolist().index(0)] == 0


def test_clip_shows_the_images_with_the_highest_cosine():
    images, texts = torch.randn(20, 5), 3 * torch.randn(4, 5)
    shown, cosines = select_shown_images(images, texts, count=3)
    expected = torch.cosine_similarity(texts[:, None], images[None], dim=2)
    assert shown.tolist() == expected.topk(3).indices.tolist()
    assert cosines == pytest.approx(expected.topk(3).values.numpy(), abs=1e-5)
    assert select_shown_images(images, texts[:0], count=3)[0].shape == (0, 0)


def test_similar_concepts_are_the_nearest_once_what_all_share_is_off():
    texts = torch.randn(40, 16, generator=torch.Generator().manual_seed(5)) + 3
    centred = (texts - texts.mean(dim=0)).numpy()
    for concept, row in enumerate(nearest_concepts(texts, limits=Limits(block=120)).tolist()):  # three at a time
        cosines = [
            np.dot(centred[concept], other) / np.linalg.norm(centred[concept]) / np.linalg.norm(other)
            for other in centred
        ]
        order = np.argsort(-np.array(cosines)).tolist()
        assert row == [other for other in order if other != concept][:SIMILAR]


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_few_concepts_have_fewer_similar_ones(count):
    assert nearest_concepts(torch.randn(count, 4)).shape == (count, max(0, count - 1))


def test_of_very_many_concepts_those_of_a_group_are_compared():
    texts = torch.randn(60, 200, generator=torch.Generator().manual_seed(5))
    texts[30:] = texts[:30] + 0.05 * texts[30:]  # pairs of nearly the same meaning
    assert nearest_concepts(texts, limits=Limits(exact=20))[:, 0].tolist() == [*range(30, 60), *range(30)]
