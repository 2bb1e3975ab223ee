"""Encoders of every layout and activation against what they give written out, and what is wrong with a file."""

import re

import numpy as np
import pytest
import torch
from small_encoders import (
    LATENTS,
    LAYOUTS,
    POSITIONS,
    THRESHOLD,
    WEIGHT,
    WIDTH,
    linear,
    literal,
    overcomplete,
    w_enc,
    written,
)

from cd_exp.errors import InputError
from cd_exp.units import directions
from cd_exp.units.autoencoder import read_autoencoder
from cd_exp.units.encoder import check_names, make_projection, pool_latents


def same(values, *, activation, **settings):
    expected = [[literal(x, activation=activation, **settings) for x in image] for image in POSITIONS]
    torch.testing.assert_close(values, torch.tensor(expected), rtol=1e-4, atol=1e-5)


def encoder(path, **settings):
    return read_autoencoder(path, **settings).encoder


@pytest.mark.parametrize("kind", [".safetensors", ".pt", ".pth", ".npz"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_latents_of_its_definition(tmp_path, layout, kind):
    path = written(tmp_path, LAYOUTS[layout](), kind)
    centred = None if layout == "overcomplete" else True
    same(encoder(path, activation="relu", centred=centred)(POSITIONS), activation="relu")


def test_topk_keeps_k_latents_and_the_setting_comes_before_the_file(tmp_path):
    path = written(tmp_path, linear(), ".pt")
    same(encoder(path, activation="topk")(POSITIONS), activation="topk", k=3)
    read = read_autoencoder(path, activation="topk", k=2)
    same(read.encoder(POSITIONS), activation="topk", k=2)
    assert "units.k=2 is used in place of k of sae.pt" in read.notes
    assert read.sources["k"] == "units.k"


def test_thresholds_come_from_the_file_or_from_the_setting(tmp_path):
    path = written(tmp_path, w_enc(), ".safetensors")
    nothing = torch.zeros(WIDTH)
    same(encoder(path, centred=False)(POSITIONS), activation="jumprelu", centre=nothing)
    same(encoder(path, centred=True)(POSITIONS), activation="jumprelu")
    same(encoder(path, activation="batchtopk", centred=True)(POSITIONS), activation="batchtopk")
    half = torch.full((LATENTS,), 0.5)
    read = encoder(path, activation="batchtopk", threshold=0.5, centred=True)
    same(read(POSITIONS), activation="batchtopk", threshold=half)
    quarter = torch.full((LATENTS,), 0.25)
    other = written(tmp_path, linear(), ".pt")
    same(encoder(other, activation="batchtopk")(POSITIONS), activation="batchtopk", threshold=quarter)


def test_positions_are_pooled_as_asked():
    latents = torch.tensor([[[0.0, 2.0], [3.0, -1.0], [0.0, 4.0]]])
    assert pool_latents(latents, "max").tolist() == [[3.0, 4.0]]
    assert pool_latents(latents, "cls").tolist() == [[0.0, 2.0]]
    torch.testing.assert_close(pool_latents(latents, "mean"), torch.tensor([[1.0, 5 / 3]]))
    torch.testing.assert_close(pool_latents(latents, "fraction"), torch.tensor([[1 / 3, 2 / 3]]))
    broken = torch.tensor([[[torch.nan, 1.0], [1.0, 1.0]]])  # not half of the positions: it is refused where it is kept
    assert pool_latents(broken, "fraction").isnan().tolist() == [[True, False]]


def test_directions_project_and_a_zero_one_is_named():
    matrix = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    assert make_projection(matrix, path="d.npy")(torch.tensor([[3.0, 4.0, 5.0]])).tolist() == [[3.0, 8.0]]
    with pytest.raises(InputError, match=r"d\.npy: direction 1 of 2 is zero or not finite"):
        make_projection(torch.tensor([[1.0], [0.0]]), path="d.npy")


class Thing:
    """What some libraries pickle beside their weights."""


@pytest.mark.parametrize(
    ("state", "settings", "message"),
    [
        ({"decoder.weight": WEIGHT}, {}, "has no encoder: expected one of W_enc, encoder.weight"),
        ({**linear(), "r_mag": THRESHOLD}, {}, "its tensor r_mag is not read"),
        ({**w_enc(), "b_enc": torch.zeros(3)}, {}, r"b_enc has 3 numbers; its encoder needs 10"),
        ({**w_enc(), "b_dec": torch.zeros(9)}, {"centred": True}, r"b_dec has 9 numbers; its encoder needs 6"),
        ({"W_enc": torch.zeros(4)}, {}, "W_enc is 4; expected a matrix"),
        ({"W_enc": WEIGHT}, {"activation": "topk"}, r"set units\.k=NUMBER"),
        ({"W_enc": WEIGHT}, {"activation": "jumprelu"}, r"has no threshold .*set units\.threshold=NUMBER"),
        ({**linear(), "threshold": torch.tensor(-1.0)}, {"activation": "batchtopk"}, "was never set in training"),
        ({**w_enc(), "threshold": torch.zeros(3)}, {"activation": "batchtopk"}, "expected 1 or 10"),
        ({**w_enc(), "scale": torch.zeros(3)}, {}, "scale is 3; expected one number"),
        ({**w_enc(), "scale": torch.tensor(0.0)}, {}, "scale is 0; expected a number other than 0"),
        ({**w_enc(), "W_enc": WEIGHT * torch.nan}, {}, "the weight of its encoder has numbers that are not finite"),
        ({**w_enc(), "b_enc": torch.full((LATENTS,), torch.inf)}, {}, "the bias of its encoder has numbers that"),
        (
            {**w_enc(), "W_enc": WEIGHT.to(torch.complex64)},
            {},
            r"W_enc is of complex64 .*; expected plain real numbers",
        ),
        ({"W_enc": torch.zeros(WIDTH, 0)}, {}, "its encoder is 6 x 0, with nothing in it"),
        (
            {**w_enc(), "k": torch.tensor(-2)},
            {"activation": "topk"},
            r"says k = -2, and the encoder has 10 latents; set",
        ),
        ({**w_enc(), "k": torch.tensor(2.5)}, {"activation": "topk"}, r"says k = 2\.5, and the encoder has 10 latents"),
        (w_enc(), {"activation": "topk", "k": 11}, r"units\.k=11, and the encoder has 10 latents; set units\.k to"),
        ({**overcomplete(), "encoder.final_block.1.running_mean": torch.zeros(3)}, {}, "running_mean has 3 numbers"),
        (WEIGHT, {}, "has no encoder: expected one of W_enc, .*; it has the tensor"),
        (
            {"settings": Thing()},
            {},
            "pickles an object, which is never loaded; where you trust it, convert it in Python: import json, pathlib",
        ),
        ([1, 2], {}, "it holds a list, not named tensors"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(tmp_path, state, settings, message):
    path = written(tmp_path, state, ".pt")
    with pytest.raises(InputError, match=message):
        read_autoencoder(path, **{"activation": "relu", "centred": False, **settings})


@pytest.mark.parametrize("content", [b"", b"<html>", b"version https://git-lfs.github.com/spec/v1", b"{\n"])
@pytest.mark.parametrize("kind", [".pt", ".safetensors", ".npz"])
def test_a_file_of_something_else_is_one_line(tmp_path, content, kind):
    path = tmp_path / f"sae{kind}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(str(path))):
        read_autoencoder(path, activation="relu")


def test_a_text_is_no_pickle(tmp_path):
    (tmp_path / "sae.txt").write_text("0.1 0.2")
    with pytest.raises(InputError, match=r"it is no file of torch tensors; read are \.safetensors, \.npz, and \.pt"):
        read_autoencoder(tmp_path / "sae.txt", activation="relu")


def test_arrays_of_another_byte_order_are_read_and_texts_beside_them_are_passed_over(tmp_path):
    arrays = {name: tensor.numpy().astype(">f4") for name, tensor in w_enc().items()}
    np.savez(tmp_path / "sae.npz", **arrays, format=np.array("W_enc"))
    same(encoder(tmp_path / "sae.npz", activation="relu", centred=True)(POSITIONS), activation="relu")
    np.save(tmp_path / "one.npy", WEIGHT.numpy())
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(InputError, match=r"cannot be read as tensors: it is a single array"):
        read_autoencoder(tmp_path / "one.npz", activation="relu")


def test_directions_come_as_a_bare_tensor_too(tmp_path):
    torch.save(torch.nn.Parameter(WEIGHT.T), tmp_path / "d.pt")  # a tensor with a gradient, as a module's weight is
    encoding = directions(layer="fc", path=str(tmp_path / "d.pt")).encoding
    torch.testing.assert_close(encoding(POSITIONS), (POSITIONS @ WEIGHT).mean(dim=1))


@pytest.mark.parametrize("matrix", [np.zeros((0, 4)), np.zeros((4, 0)), np.array([["a"]])])
def test_directions_of_nothing_are_one_line(tmp_path, matrix):
    np.savez(tmp_path / "d.npz", matrix)
    with pytest.raises(
        InputError, match=r"d\.npz (is . x .; expected at least one|holds no numbers; expected one matrix)"
    ):
        directions(layer="fc", path=str(tmp_path / "d.npz"))


def test_a_pooling_or_activation_that_there_is_not_is_one_line():
    with pytest.raises(InputError, match=r"units\.pool=median: expected one of max, mean, cls, fraction"):
        check_names(pool="median")
    with pytest.raises(InputError, match=r"units\.activation=tanh: expected one of none, relu, topk"):
        check_names(pool="max", activation="tanh")


def test_numpy_objects_are_never_unpickled(tmp_path):
    np.savez(tmp_path / "o.npz", W_enc=np.array([Thing()], dtype=object))
    with pytest.raises(InputError, match="cannot be read as tensors"):
        read_autoencoder(tmp_path / "o.npz", activation="relu")
