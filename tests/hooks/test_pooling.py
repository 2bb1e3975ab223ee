import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cd_exp.errors import InputError
from cd_exp.hooks.pooling import Pooling, choose_pooling


def pool(output, asked="auto", *, axis, **facts):
    return choose_pooling(tuple(output.shape), asked, axis=axis, layer="x", **facts)(output)


def test_maps_are_averaged_over_positions_whichever_axis_holds_the_units():
    first = torch.randn(2, 5, 4, 4)
    last = first.movedim(1, 3)
    assert torch.allclose(pool(first, axis=1), first.mean((2, 3)))
    assert torch.allclose(pool(last, axis=3), first.mean((2, 3)))
    assert torch.equal(pool(last, "max", axis=3), first.amax((2, 3)))


def test_tokens_give_the_class_token_where_there_is_one_and_else_the_mean_of_the_patches():
    tokens = torch.randn(3, 10, 6)
    classed = {"axis": 2, "prefix": 1, "class_token": True}
    assert torch.equal(pool(tokens, **classed), tokens[:, 0])
    assert torch.equal(pool(tokens, "cls", **classed), tokens[:, 0])
    assert torch.allclose(pool(tokens, axis=2), tokens.mean(1))
    assert torch.allclose(pool(tokens, axis=2, prefix=4), tokens[:, 4:].mean(1))
    assert torch.allclose(pool(tokens, "patch_mean", **classed), tokens[:, 1:].mean(1))
    assert torch.equal(pool(tokens, "max", **classed), tokens[:, 1:].amax(1))


def test_positions_behind_the_units_are_pooled():
    values = torch.randn(3, 6, 10)
    assert torch.allclose(pool(values, axis=1), values.mean(2))
    assert torch.equal(pool(values, "max", axis=1), values.amax(2))


def test_a_vector_is_kept():
    vector = torch.randn(3, 7)
    assert torch.equal(pool(vector, axis=1), vector)


@pytest.mark.parametrize(
    ("shape", "axis", "asked", "message"),
    [
        ((1, 10, 6), 2, "cls", "has no class token; use pool patch_mean or max"),
        ((1, 5, 4, 4), 1, "cls", "pool 'cls' does not apply; choose from auto, avg, max"),
        ((1, 5, 4), 1, "patch_mean", "does not apply; choose from auto, avg, max"),
        ((1, 5), 1, "cls", "does not apply"),
    ],
)
def test_what_does_not_fit_is_refused(shape, axis, asked, message):
    with pytest.raises(InputError) as error:
        choose_pooling(shape, asked, axis=axis, layer="x")
    assert message in str(error.value)


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))
def test_maps_keep_units_and_positions(images, units, height, width):
    first = torch.randn(images, units, height, width)
    layouts = {
        "maps_first": (first, 1),
        "maps_last": (first.movedim(1, 3), 3),
        "positions": (first.flatten(2), 1),
        "tokens": (first.flatten(2).transpose(1, 2), 2),
    }
    for kind, (output, axis) in layouts.items():
        pooling = choose_pooling(tuple(output.shape), "auto", axis=axis, layer="x")
        assert pooling.kind == kind
        assert pooling.axis == axis
        assert torch.equal(pooling.maps(output, grid=(height, width), layer="x"), first)


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
def test_patch_tokens_become_maps_without_their_prefix(prefix):
    patches = torch.arange(2 * 6 * 3.0).reshape(2, 6, 3)
    tokens = torch.cat([torch.full((2, prefix, 3), -1.0), patches], 1)
    maps = Pooling("tokens", "patch_mean", prefix).maps(tokens, grid=(2, 3), layer="x")
    assert maps.shape == (2, 3, 2, 3)
    assert torch.equal(maps[1, 2].flatten(), patches[1, :, 2])


def test_positions_that_are_no_grid_give_no_maps():
    with pytest.raises(
        InputError, match="layer 'x' are not known to be a grid over the image; Network Dissection needs"
    ):
        Pooling("tokens", "patch_mean").maps(torch.zeros(1, 6, 3), grid=None, layer="x")
    assert Pooling("vector", "none").maps(torch.zeros(1, 3), grid=None, layer="x").shape == (1, 3, 1, 1)


def test_half_precision_is_averaged_in_float32():
    maps = torch.full((1, 2, 64, 64), 2049.0).half()
    maps[..., 0] = 1.0
    pooled = pool(maps, axis=1)
    assert pooled.dtype == torch.float32
    assert torch.allclose(pooled, maps.float().mean((2, 3)))
