"""What holds for every function: order, edge cases, errors, memory."""

import importlib
import math
from functools import partial

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_similarity import FUNCTIONS, draw
from torch.testing import assert_close

from cd_exp import similarity
from cd_exp.activation_stats import strongest_images
from cd_exp.errors import InputError
from cd_exp.labels import label_layer
from cd_exp.records import ConceptActivations
from cd_exp.similarity import Inputs
from cd_exp.similarity.prior import subtract_prior
from cd_exp.similarity.scoring import BlockSizes
from cd_exp.testing import SimilarityTests

CLOSE = {"rtol": 1e-4, "atol": 2e-4}

worlds = st.builds(
    draw, images=st.integers(15, 40), concepts=st.integers(2, 9), units=st.integers(2, 6), seed=st.integers(0, 99)
)
names = st.sampled_from(list(FUNCTIONS))


def shuffled(count, seed):
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


class TestEveryFunction(SimilarityTests):
    @pytest.fixture(params=FUNCTIONS)
    def function(self, request):
        return FUNCTIONS[request.param]


@given(worlds, names, st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_blocks_of_units_score_as_the_whole_layer(world, name, units):
    match, neurons = world
    pieces = list(similarity.score_blocks(FUNCTIONS[name], match, neurons, units=units))
    size = neurons.shape[1] if similarity.bind(FUNCTIONS[name]).spec.whole_layer else units
    assert [piece.start for piece, _ in pieces] == list(range(0, neurons.shape[1], size))
    scores, whole = torch.cat([scores for _, scores in pieces]), FUNCTIONS[name](match, neurons)
    assert_close(scores, whole, **CLOSE)
    assert torch.equal(scores.argmax(dim=1), whole.argmax(dim=1)) or name == "cos_cubed"


def labels(function, match, neurons, names):
    return label_layer(similarity.score_blocks(function, match, neurons), names, layer="fc").descriptions


@given(worlds, names, st.integers(0, 99), st.booleans())
@example(draw(images=16, concepts=2, units=2, seed=17), "soft_wpmi", 0, True)  # every score is exactly 0
@settings(max_examples=40, deadline=None)
def test_no_label_hangs_on_the_order_of_units_images_or_concepts(world, name, seed, saturated):
    match, neurons = world
    if saturated:  # each unit's images show one concept alone, so that many scores reach the ceiling
        match = ConceptActivations(8 * match.images, 8 * match.texts)
    words = [f"word {number}" for number in range(len(match.texts))]
    kept = labels(FUNCTIONS[name], match, neurons, words)
    for order in (shuffled(len(words), seed), torch.arange(len(words)).flip(0)):
        moved = ConceptActivations(match.images, match.texts[order])
        assert labels(FUNCTIONS[name], moved, neurons, [words[column] for column in order]) == kept
    order = shuffled(len(neurons), seed)
    assert labels(FUNCTIONS[name], ConceptActivations(match.images[order], match.texts), neurons[order], words) == kept
    order = shuffled(neurons.shape[1], seed)
    assert labels(FUNCTIONS[name], match, neurons[:, order], words) == tuple(kept[unit] for unit in order)


@pytest.mark.parametrize("name", ["wpmi", "soft_wpmi"])
def test_equal_scores_at_the_ceiling_go_to_the_higher_likelihood(name):
    """Two units far apart: many concepts of either one are at log(2), however well they fit."""
    match, _ = draw(images=60, concepts=30, dim=4)
    match = ConceptActivations(40 * match.images, match.texts)
    neurons = torch.zeros(60, 2)
    by_concept = (match.images @ match.texts[0]).argsort()
    neurons[by_concept[:20], 0] = torch.arange(20.0) + 1
    neurons[by_concept[-20:], 1] = torch.arange(20.0) + 1
    function = partial(getattr(similarity, name), match, neurons, top_k=20, scale=30.0)
    likelihood, scores = function(prior_weight=0.0), function(prior_weight=1.0)
    assert (scores.topk(2).values > math.log(2) - 1e-4).all()
    for unit in range(2):
        tied = scores[unit] >= math.log(2) - 1e-6
        assert likelihood[unit][tied].max() == likelihood[unit][scores[unit].argmax()]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("likelihood", [[0.0, -48.893], [-0.125, -0.25], [-3e-7, -4e-7]])
def test_exactly_equal_scores_go_to_the_higher_likelihood_whichever_comes_first(likelihood, flip):
    """Two units alike: every score is exactly 0, however small the likelihoods and their rounding are."""
    order = [1, 0] if flip else [0, 1]
    twice = torch.tensor([likelihood, likelihood])[:, order]
    scores = subtract_prior(twice, torch.tensor([[1.0, 2.0], [3.0, 4.0]]), weight=1.0)
    assert scores.abs().max() <= 4e-6
    assert [order[column] for column in scores.argmax(dim=1).tolist()] == [0, 0]
    assert (scores[:, order.index(0)] > scores[:, order.index(1)]).all()


@pytest.mark.parametrize("name", ["wpmi", "soft_wpmi"])
def test_scores_are_those_of_double_precision(name):
    """The prior cancels against the likelihood where a unit is far above all others."""
    match, neurons = draw(images=200, concepts=50, units=30)
    function = getattr(similarity, name)
    likelihood = function(match, neurons, prior_weight=0.0).double()
    exact = likelihood - (likelihood.logsumexp(dim=0) - math.log(30))
    off = (function(match, neurons, prior_weight=1.0) - exact).abs().max()
    assert off < 1.2e-7 * likelihood.abs().max()


@pytest.mark.parametrize("name", ["wpmi", "soft_wpmi"])
def test_dead_units_stay_out_of_the_prior_when_told_to(world, name):
    match, neurons = world
    with_dead = torch.cat([neurons, torch.full((60, 2), 3.0)], dim=1)
    function = partial(FUNCTIONS[name], prior_units="alive")
    assert_close(function(match, with_dead)[:9], FUNCTIONS[name](match, neurons), **CLOSE)
    blocks = torch.cat([part for _, part in similarity.score_blocks(function, match, with_dead, units=4)])
    assert_close(blocks, function(match, with_dead), **CLOSE)
    assert not torch.allclose(FUNCTIONS[name](match, with_dead)[:9], FUNCTIONS[name](match, neurons))
    assert function(match, with_dead[:, 9:]).isfinite().all()
    with pytest.raises(InputError, match="prior_units='living': expected all, or alive"):
        getattr(similarity, name)(match, neurons, prior_units="living")


@given(worlds, names, st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_lists_of_the_strongest_images_give_what_all_activations_give(world, name, more):
    match, neurons = world
    wanted = similarity.bind(FUNCTIONS[name]).inputs(len(neurons)).strongest
    if wanted is None:
        with pytest.raises(InputError, match=r"reads all activations and got the 5 strongest .*features.keep=den"):
            next(similarity.score_blocks(FUNCTIONS[name], match, strongest_images(neurons, 5)))
        return
    assert torch.equal(
        FUNCTIONS[name](match, strongest_images(neurons, wanted + more)), FUNCTIONS[name](match, neurons)
    )
    if wanted > 1:
        with pytest.raises(InputError, match=f"hold the {wanted - 1} strongest images of each unit and {wanted} are"):
            FUNCTIONS[name](match, strongest_images(neurons, wanted - 1))


def test_rank_reorder_scores_some_concepts_of_each_unit(world):
    match, neurons = world
    columns = torch.stack([torch.arange(17).roll(unit)[:5] for unit in range(9)])
    for either in (match, match.images @ match.texts.T):
        whole = FUNCTIONS["rank_reorder"](either, neurons)
        assert_close(FUNCTIONS["rank_reorder"](either, neurons, columns=columns), whole.gather(1, columns), **CLOSE)


def test_what_a_function_reads_follows_its_settings():
    assert similarity.bind(similarity.soft_wpmi).inputs(1000) == Inputs(strongest=100, everything=False)
    assert similarity.bind(partial(similarity.soft_wpmi, top_k=7)).inputs(1000) == Inputs(strongest=7, everything=False)
    assert similarity.bind(similarity.soft_wpmi).inputs(60) == Inputs(strongest=60, everything=False)
    assert similarity.bind(similarity.rank_reorder).inputs(1990) == Inputs(strongest=99, everything=False)
    for function in (similarity.cos, similarity.whitened_wpmi, lambda match, neurons: neurons):
        assert similarity.bind(function).inputs(60) == Inputs(strongest=None, everything=True)


@given(worlds, names, st.lists(st.integers(1, 5), min_size=1, max_size=4), st.sampled_from([2**29, 2000, 1]))
@settings(max_examples=40, deadline=None)
def test_layers_scored_together_are_as_those_scored_alone(world, name, sizes, limit):
    match, _ = world
    generator = torch.Generator().manual_seed(1)
    layers = {f"layer{n}": torch.randn(len(match.images), size, generator=generator) for n, size in enumerate(sizes)}
    pieces = list(similarity.score_layers(FUNCTIONS[name], match, layers, sizes=BlockSizes(result_bytes=limit)))
    assert list(dict.fromkeys(layer for layer, _, _ in pieces)) == list(layers)
    for layer, neurons in layers.items():
        scores = torch.cat([part for own, _, part in pieces if own == layer])
        assert_close(scores, FUNCTIONS[name](match, neurons), **CLOSE)


def test_tiles_are_made_once_for_all_layers(world, monkeypatch):
    match, neurons = world
    module, made = importlib.import_module("cd_exp.similarity.top_images"), []
    whole = module.softmax_tiles
    monkeypatch.setattr(module, "softmax_tiles", lambda *a, **k: made.append(len(a[0].images)) or whole(*a, **k))
    list(similarity.score_layers(similarity.soft_wpmi, match, {"a": neurons, "b": neurons[:, :3] + 1, "c": neurons}))
    assert made == [60]


def test_a_function_that_says_nothing_of_itself_is_called_layer_by_layer(world):
    """It may call soft_wpmi, whose prior over the units of several layers is that of none."""
    match, neurons = world
    layers = {"a": neurons, "b": neurons[:, :3] + 1}
    for own in (lambda match, neurons: similarity.soft_wpmi(match, neurons, top_k=11), similarity.cos):
        pieces = similarity.score_layers(own, match, layers)
        for layer, _, scores in pieces:
            assert_close(scores, own(match, layers[layer]), **CLOSE)


def test_every_function_of_the_package_says_that_it_goes_with_several_layers():
    for name, function in FUNCTIONS.items():
        assert similarity.bind(function).is_declared, name


def test_blocks_keep_a_prior_that_is_bound(world):
    match, neurons = world
    bound = partial(similarity.soft_wpmi, prior=torch.zeros(len(match.texts)))
    scores = torch.cat([scores for _, scores in similarity.score_blocks(bound, match, neurons, units=2)])
    assert_close(scores, bound(match, neurons), **CLOSE)


def test_blocks_are_one_where_the_layer_fits(world):
    ((units, scores),) = similarity.score_blocks(similarity.soft_wpmi, *world)
    assert units == slice(0, 9)
    assert torch.equal(scores, similarity.soft_wpmi(*world))


def test_blocks_take_a_function_of_ones_own(world):
    match, neurons = world
    scores = similarity.score_blocks(
        lambda match, neurons: neurons.T @ match.images @ match.texts.T, match, neurons, units=4
    )
    assert [len(part) for _, part in scores] == [4, 4, 1]


def test_a_dead_unit_has_no_cosine(world):
    match, neurons = world
    neurons[:, 2] = 0
    assert (similarity.cos(match, neurons)[2] == 0).all()
    assert (similarity.cos_cubed(match, neurons)[2] == 0).all()


def test_a_dead_unit_is_no_better_ordered_than_chance(world):
    match, neurons = world
    neurons[:, 2] = 0
    assert (similarity.rank_reorder(match, neurons, scale_power=0.0)[2] == -1).all()


def test_a_negative_mean_match_is_worse_than_any_positive_one():
    match, neurons = draw(images=40)
    dense = match.images @ match.texts.T
    dense[:, 3] = -dense[:, 3].abs()
    scores = similarity.rank_reorder(dense, neurons, top_fraction=0.5)
    assert (scores.argmin(dim=1) == 3).all()


def test_equal_matches_are_ordered_against_the_concept():
    neurons = torch.rand(20, 2, generator=torch.Generator().manual_seed(0))
    worst = -neurons[:, :1]
    scores = similarity.rank_reorder(
        torch.cat([torch.ones(20, 1), worst], dim=1), neurons, top_fraction=1.0, scale_power=0.0
    )
    assert_close(scores[0, 0], scores[0, 1])


def test_rank_reorder_is_seeded_and_blind_to_other_units(world):
    match, neurons = world
    run = partial(similarity.rank_reorder, match, top_fraction=0.5)
    assert torch.equal(run(neurons, seed=1), run(neurons, seed=1))
    assert not torch.equal(run(neurons, seed=1), run(neurons, seed=2))
    assert torch.equal(run(neurons[:, 4:5]), run(neurons)[4:5])


@pytest.mark.parametrize("name", ["wpmi", "soft_wpmi"])
def test_one_unit_alone_scores_nothing_under_its_own_prior_and_its_likeliest_concept_comes_first(world, name):
    match, neurons = world
    function = partial(getattr(similarity, name), match, neurons[:, :1])
    scores = function(prior_weight=1.0)
    assert (scores.abs() < 1e-4).all()
    assert scores.argsort(dim=1, descending=True).tolist() == function(prior_weight=0.0).argsort(1, True).tolist()


def test_a_probe_smaller_than_top_k_counts_whole(world):
    match, neurons = world
    assert_close(similarity.wpmi(match, neurons, top_k=1000), similarity.wpmi(match, neurons, top_k=60), **CLOSE)
    ranks = similarity.soft_wpmi(match, neurons, top_k=1000, last_membership=0.998 - 0.5)
    cut = similarity.soft_wpmi(match, neurons, top_k=60, last_membership=0.998 - 0.5 * 60 / 1000)
    assert_close(ranks, cut, **CLOSE)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_scores_as_the_cpu(world, function):
    match, neurons = world
    scores = function(ConceptActivations(match.images.cuda(), match.texts.cuda()), neurons.cuda())
    assert scores.is_cuda
    assert_close(scores.cpu(), function(match, neurons), rtol=1e-3, atol=1e-3)


def test_activations_that_are_not_finite_name_the_unit(world, function):
    match, neurons = world
    neurons[7, 5] = float("nan")
    neurons[8, 6] = float("inf")
    with pytest.raises(InputError, match="unit 5 has an activation of nan on image 7, and 2 of 9 units"):
        function(match, neurons)
    with pytest.raises(InputError, match="unit 5 has an activation of nan"):
        list(similarity.score_blocks(function, match, neurons, units=2))


def test_images_that_differ_in_number_are_refused(world, function):
    match, neurons = world
    with pytest.raises(InputError, match="the match has 60 images and the activations 59; both need the same images"):
        function(match, neurons[1:])


@pytest.mark.parametrize(("images", "concepts"), [(0, 3), (3, 0)])
def test_an_empty_match_is_refused(function, images, concepts):
    with pytest.raises(InputError, match=f"the match has {images} images and {concepts} concepts; it needs at least"):
        function(ConceptActivations(torch.zeros(images, 4), torch.zeros(concepts, 4)), torch.zeros(images, 2))


def test_a_layer_without_units_is_refused(world, function):
    with pytest.raises(InputError, match="the activations have no units"):
        function(world[0], torch.zeros(60, 0))


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("wpmi", {"top_k": 0}, "top_k=0 is too small; it must be at least 1"),
        ("soft_wpmi", {"top_k": -1}, "top_k=-1 is too small"),
        ("soft_wpmi", {"min_probability": 0.0}, "min_probability=0.0 is too small"),
        ("soft_wpmi", {"first_membership": 1.5}, "are probabilities; give 0 to 1"),
        ("mean_embedding", {"top_k": 0}, "top_k=0 is too small"),
        ("whitened_wpmi", {"match_ridge": -1.0}, "match_ridge=-1.0 is too small"),
        ("whitened_wpmi", {"unit_ridge": -1.0}, "unit_ridge=-1.0 is too small"),
        ("whitened_wpmi", {"centre_width": 0.0}, "centre_width=0.0 is too small"),
        ("whitened_wpmi", {"spread": 0.0}, "spread=0.0 is too small"),
        ("whitened_wpmi", {"leak": -0.1}, "leak=-0.1 is too small"),
        ("whitened_wpmi", {"prior_weight": "much"}, "prior_weight='much' is not known; give a number, or auto"),
        (
            "whitened_wpmi",
            {"name_weight": 0.2},
            "name_weight=0.2 needs the names of the 17 concepts",
        ),
        ("rank_reorder", {"top_fraction": 0.0}, "top_fraction=0.0 is no share of the images"),
        ("rank_reorder", {"top_fraction": 1.1}, "top_fraction=1.1 is no share of the images"),
        ("rank_reorder", {"permutations": 0}, "permutations=0 is too small"),
    ],
)
def test_settings_out_of_range_are_refused(world, name, setting, message):
    with pytest.raises(InputError, match=message):
        getattr(similarity, name)(*world, **setting)


def test_blocks_of_no_units_are_refused(world):
    with pytest.raises(InputError, match="units=0 is too small"):
        next(similarity.score_blocks(similarity.cos, *world, units=0))


def test_embeddings_of_two_backbones_are_refused():
    with pytest.raises(InputError, match="image embeddings have 4 dimensions and text embeddings 5; both must come"):
        similarity.concept_activations(torch.ones(2, 4), torch.ones(2, 5))


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_an_embedding_without_direction_is_refused(value):
    texts = torch.ones(3, 4)
    texts[1] = value
    with pytest.raises(InputError, match="the embedding of concept 1 is zero or not finite, and 1 of 3 are"):
        similarity.concept_activations(torch.ones(2, 4), texts)


def test_concept_activations_are_rows_of_length_one():
    match = similarity.concept_activations(torch.randn(5, 8).half(), torch.randn(3, 8))
    assert match.images.dtype == torch.float32
    assert_close(match.images.norm(dim=1), torch.ones(5))
    assert_close(match.texts.norm(dim=1), torch.ones(3))
