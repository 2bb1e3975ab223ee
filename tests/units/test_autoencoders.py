"""Files of the libraries against what their own `encode` gives, and whatever else may lie in such a file."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from library_formulas import BLOCK, COUNT, FILES, INPUTS, LINEAR, THRESHOLD, K, W, overcomplete, write
from safetensors.torch import save_file

from cd_exp.errors import InputError
from cd_exp.units import sae
from cd_exp.units.autoencoder import read_autoencoder
from cd_exp.units.layouts import LAYOUTS, TRAINING


def same(computed, expected):
    torch.testing.assert_close(computed, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FILES)
def test_a_file_gives_what_its_library_does(tmp_path, name):
    formula, tensors, said, relative_path = FILES[name]
    read = read_autoencoder(write(tmp_path, tensors, said, relative_path))
    same(read.encoder(INPUTS), formula(INPUTS, tensors, said))
    assert read.library.partition(" ")[0] in name
    assert all(read.sources.values())


def test_numbers_of_gemma_scope_are_told_by_their_file(tmp_path):
    tensors = {**W, **THRESHOLD}
    np.savez(tmp_path / "params.npz", **{name: tensor.numpy() for name, tensor in tensors.items()})
    z = INPUTS @ W["W_enc"] + W["b_enc"]
    same(read_autoencoder(tmp_path / "params.npz").encoder(INPUTS), torch.relu(z) * (z > THRESHOLD["threshold"]))


ADDED = st.sampled_from(
    sorted(
        {name for layout in LAYOUTS for name in layout.tensors} | {"foo", "encoder.mlp_blocks.0.0.weight", "Q", "bias2"}
    )
)
SWITCHES = sorted(
    {name for layout in LAYOUTS for name in (*layout.switches, *(layout.when or ()))}
    | {"frobnicate", "use_ln", "activation_fn_str", "activation_fn_kwargs.jump", "metadata.model_name", "lr"}
)
VALUES = [True, False, None, 0, 1, 2, 5, 0.3, "relu", "topk", "layer_norm", "none", "gated", "TopK"]
SHAPES = st.sampled_from([(), (6,), (10,), (6, 10), (10, 6), (3,)])


@pytest.mark.slow
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(kind=st.sampled_from(sorted(FILES)), name=ADDED, shape=SHAPES)
def test_whatever_tensor_is_added_the_result_is_the_librarys_or_a_refusal_that_names_it(
    tmp_path_factory, kind, name, shape
):
    formula, tensors, said, relative_path = FILES[kind]
    if name in tensors:
        return
    more = {**tensors, name: torch.full(shape, 0.37)}
    path = write(tmp_path_factory.mktemp("sae"), more, said, relative_path)
    try:
        latents = read_autoencoder(path).encoder(INPUTS)
    except InputError as refused:
        assert name in str(refused)  # noqa: PT017  a refusal is one of two right answers
    else:
        same(latents, formula(INPUTS, more, said))


def nested(settings, path, value):
    """The settings with one more, at a path; None where a value stands in its way."""
    first, _, rest = path.partition(".")
    if not rest:
        return {**settings, first: value}
    inner = settings.get(first, {})
    deeper = nested(inner, rest, value) if isinstance(inner, dict) else None
    return None if deeper is None else {**settings, first: deeper}


def check_switch(folder, kind, name, value):
    """With one more switch a file gives what its library does, or a refusal that names it."""
    formula, tensors, said, relative_path = FILES[kind]
    more = nested(said, name, value)
    if more is None:
        return
    path = write(folder, tensors, more, relative_path)
    try:
        read = read_autoencoder(path)
    except InputError as refused:
        message = str(refused)
        assert any(word in message for word in (name.rpartition(".")[2], str(value), "nothing says", *tensors, *said))
        return
    if name.rpartition(".")[2] in TRAINING:
        same(read.encoder(INPUTS), formula(INPUTS, tensors, said))
        return
    try:
        expected = formula(INPUTS, tensors, more)
    except (KeyError, TypeError, AttributeError):  # nor can the library read that: the value stands for its default
        expected = formula(INPUTS, tensors, said)
    same(read.encoder(INPUTS), expected)


@pytest.mark.slow
@settings(max_examples=160, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(kind=st.sampled_from(sorted(FILES)), name=st.sampled_from(SWITCHES), value=st.sampled_from(VALUES))
def test_whatever_switch_is_set_the_result_is_the_librarys_or_a_refusal_that_names_it(
    tmp_path_factory, kind, name, value
):
    check_switch(tmp_path_factory.mktemp("sae"), kind, name, value)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("ViT-Prisma", "normalize_activations", None),
        ("SAELens before 6, topk", "vit_model_cfg", True),
        ("SAELens gated", "apply_b_dec_to_input", None),
        ("dictionary_learning topk", "apply_b_dec_to_input", False),
        ("dictionary_learning jumprelu", "apply_b_dec_to_input", True),
        ("saev schema 2", "d_vit", 5),
        ("saev schema 2", "schema", 5),
    ],
)
def test_switches_that_samples_did_not_meet(tmp_path, kind, name, value):
    check_switch(tmp_path, kind, name, value)


@pytest.mark.long
@pytest.mark.parametrize("kind", FILES)
def test_every_switch_with_every_value(tmp_path, kind):
    """All 102,060 of them, in three minutes: samples of 160 had not met 28 pairs of a kind and a switch that failed."""
    for name in SWITCHES:
        for value in VALUES:
            check_switch(tmp_path, kind, name, value)


@pytest.mark.parametrize("name", ["model", "sae", "state_dict", "ema.model", "net.state_dict"])
@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module.", "sae._orig_mod."])
def test_a_nested_state_is_found_as_for_a_network(tmp_path, name, prefix):
    tensors = {f"{prefix}{key}": tensor for key, tensor in {**LINEAR, "bias": W["b_dec"]}.items()}
    held = tensors
    for part in reversed(name.split(".")):
        held = {part: held}
    torch.save({**held, "epoch": 3, "optimizer": {"state": {"encoder.weight": torch.zeros(3)}}}, tmp_path / "sae.pt")
    read = read_autoencoder(tmp_path / "sae.pt")
    same(read.encoder(INPUTS), torch.relu((INPUTS - W["b_dec"]) @ W["W_enc"] + W["b_enc"]))


class Module(torch.nn.Module):
    """A whole module that is pickled, as overcomplete's are."""

    def __init__(self):
        super().__init__()
        self.top_k, self.nb_concepts, self.fitted = K, 10, False
        self.encoder = torch.nn.Module()
        self.encoder.final_block = torch.nn.Sequential(torch.nn.Linear(6, 10), torch.nn.Identity())


class Config:
    """A configuration that is pickled beside a state dict, as ViT-Prisma's are."""

    def __init__(self):
        vars(self).update(FILES["ViT-Prisma topk"][2], dtype=torch.float32, device=torch.device("cpu"))


TopKSAE = type("TopKSAE", (Module,), {"__module__": __name__})


@pytest.mark.parametrize("kind", ["module", "cfg and state_dict"])
def test_the_line_that_converts_a_pickle_works(tmp_path, kind):
    if kind == "module":
        held, tensors, said, formula = TopKSAE(), {}, {"class": "TopKSAE", "top_k": K}, overcomplete
        tensors = held.state_dict()
    else:
        formula, tensors, said, _ = FILES["ViT-Prisma topk"]
        held = {"cfg": Config(), "state_dict": tensors}
    torch.save(held, tmp_path / "sae.pt")
    with pytest.raises(InputError, match="pickles an object, which is never loaded") as refused:
        read_autoencoder(tmp_path / "sae.pt")
    exec(str(refused.value).partition("in Python: ")[2], {})  # the advice, as it stands in the error
    read = read_autoencoder(tmp_path / "sae.safetensors")
    same(read.encoder(INPUTS), formula(INPUTS, tensors, said))


OPEN = {
    "which latents": ({**LINEAR, "decoder.bias": W["b_dec"]}, "set units.activation=relu", {"activation": "relu"}),
    "overcomplete's": (BLOCK, "set units.activation=relu, topk (with units.k)", {"activation": "topk", "k": K}),
    "topk or batchtopk": ({**LINEAR, **COUNT}, "set units.activation=topk or batchtopk", {"activation": "batchtopk"}),
    "centred": ({**W, **THRESHOLD}, "set units.centred=true or units.centred=false", {"centred": False}),
}


@pytest.mark.parametrize("name", OPEN)
def test_what_nothing_says_is_asked_for_and_the_answer_is_taken(tmp_path, name):
    tensors, remedy, answer = OPEN[name]
    path = write(tmp_path, tensors, {}, "metadata")
    with pytest.raises(InputError, match=re.escape(remedy)):
        read_autoencoder(path)
    read = read_autoencoder(path, **answer)
    assert {name: read.settings[name] for name in answer} == answer
    assert [read.sources[name] for name in answer] == [f"units.{name}" for name in answer]


def test_a_schema_that_was_written_before_and_after_the_change_has_to_be_told(tmp_path):
    said = {"schema": 1, "cls": "Relu", "cfg": {"d_vit": 6, "exp_factor": 2, "seed": 0}, "commit": "a", "lib": "0.1.0"}
    path = write(tmp_path, W, said, "header")
    with pytest.raises(InputError, match=r"nothing says whether b_dec is taken from .*set units\.centred=true or"):
        read_autoencoder(path)
    same(read_autoencoder(path, centred=False).encoder(INPUTS), torch.relu(INPUTS @ W["W_enc"] + W["b_enc"]))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"architecture": "abstopk", "k": 3}, "cfg.json says architecture=abstopk, which is not read"),
        (
            {"architecture": "standard", "activation_fn_str": "tanh-relu"},
            "activation_fn_str=tanh-relu, which is not read",
        ),
        (
            {"architecture": "standard", "d_sae": 12},
            r"cfg.json says d_sae=12, its encoder has 10; cfg.json may belong to",
        ),
        ({"architecture": "standard", "normalize_activations": "new"}, "normalize_activations=new, which is not read"),
        ({"architecture": "standard", "apply_b_dec_to_input": 1}, "apply_b_dec_to_input=1; expected true or false"),
        ({"architecture": "topk"}, "set units.k=NUMBER"),
        ({"schema": 9, "cfg": {"d_model": 6}}, "schema=9, which is not read"),
        ({"activation": "softmax"}, "activation=softmax, which is not read; set units.activation="),
        ({"trainer": {"dict_class": "CrossCoder"}}, "dict_class=CrossCoder, which is not read"),
    ],
)
def test_what_a_library_says_and_is_not_read_is_named(tmp_path, said, message):
    path = write(tmp_path, W, said, "beside")
    with pytest.raises(InputError, match=re.escape(message) if "may belong" not in message else message):
        read_autoencoder(path)


def test_the_json_of_something_else_is_passed_over_and_that_is_said(tmp_path):
    path = write(tmp_path, {**LINEAR, "bias": W["b_dec"]}, {"model_type": "vit", "hidden_size": 6}, "beside")
    assert read_autoencoder(path).notes == (
        "cfg.json beside sae.safetensors does not describe an autoencoder and is not read",
    )
    (tmp_path / "cfg.json").write_text("{")
    with pytest.raises(InputError, match=r"cfg\.json beside .* is no JSON .*; mend it or move it away"):
        read_autoencoder(path)
    (tmp_path / "cfg.json").unlink()
    assert read_autoencoder(path).notes == ()  # the remedy


def test_two_descriptions_are_one_too_many(tmp_path):
    path = write(tmp_path, W, {"architecture": "standard"}, "beside")
    (tmp_path / "sae.json").write_text(json.dumps({"architecture": "topk", "k": 3}))
    with pytest.raises(
        InputError, match=r"sae\.json and cfg\.json beside it both describe an autoencoder; move one away"
    ):
        read_autoencoder(path)
    (tmp_path / "cfg.json").unlink()
    assert read_autoencoder(path).settings["activation"] == "topk"  # the remedy


def test_a_tensor_that_is_refused_can_be_left_out_and_a_switch_taken_out(tmp_path):
    path = write(tmp_path, {**W, "foo": torch.zeros(3)}, {"architecture": "standard"}, "beside")
    with pytest.raises(
        InputError, match=r"its tensor foo is not read, .*; where it does not matter, save the file without it"
    ):
        read_autoencoder(path)
    save_file(W, path)
    read_autoencoder(path)
    (tmp_path / "cfg.json").write_text(json.dumps({"architecture": "standard", "use_ln": True}))
    with pytest.raises(InputError, match=r"use_ln=True, which is not read, .* where it does not matter, take it out"):
        read_autoencoder(path)


def test_several_encoders_in_a_file_are_named_and_one_saved_alone_is_read(tmp_path):
    state = {**LINEAR, "bias": W["b_dec"]}
    torch.save({"model": state, "ema": {name: 2 * tensor for name, tensor in state.items()}}, tmp_path / "sae.pt")
    with pytest.raises(
        InputError,
        match=r"holds several encoders: model.encoder.weight, ema.encoder.weight; save one of them in a file",
    ):
        read_autoencoder(tmp_path / "sae.pt")
    torch.save(torch.load(tmp_path / "sae.pt")["ema"], tmp_path / "one.pt")
    read_autoencoder(tmp_path / "one.pt")


def test_a_setting_that_contradicts_the_file_is_used_and_noted(tmp_path):
    _formula, tensors, said, relative_path = FILES["SAELens topk"]
    path = write(tmp_path, tensors, said, relative_path)
    read = read_autoencoder(path, activation="relu", centred=False, threshold=0.5)
    same(read.encoder(INPUTS), torch.relu(INPUTS @ W["W_enc"] + W["b_enc"]))
    assert read.notes == (
        "units.activation=relu is used, and cfg.json: architecture=topk (SAELens) says topk",
        "units.activation=relu does not use k of sae.safetensors",
        "units.threshold=0.5 is not used: the activation is relu (units.activation)",
        "units.centred=false is used, and SAELens says true",
    )
    assert read_autoencoder(path, activation="topk", k=K, centred=True).notes == ()


def test_normalisations_whose_numbers_are_elsewhere_are_said(tmp_path):
    formula, tensors, said, relative_path = FILES["SAELens standard"]
    path = write(tmp_path, tensors, {**said, "normalize_activations": "expected_average_only_in"}, relative_path)
    read = read_autoencoder(path)
    same(read.encoder(INPUTS), formula(INPUTS, tensors, said))
    assert "normalize_activations=expected_average_only_in, whose numbers are not in the file" in read.notes[0]


def test_units_say_what_was_used_and_from_where(tmp_path):
    _formula, tensors, said, relative_path = FILES["SAELens topk"]
    path = write(tmp_path, tensors, said, relative_path)
    units = sae(layer="layer4", weights=str(path))
    assert units.origin["activation"] == {"value": "topk", "from": "cfg.json: architecture=topk (SAELens)"}
    assert units.origin["k"] == {"value": K, "from": "cfg.json: k"}
    assert units.origin["centred"] == {"value": True, "from": "SAELens"}
    assert units.key["reads"]["k"] == K
    noted = sae(layer="layer4", weights=str(path), k=2)
    assert noted.file_activations([])[1] == ("units.k=2 is used, and cfg.json says k=3",)
    (tmp_path / "cfg.json").write_text(json.dumps({**said, "k": 2}))  # the JSON alone changes what is computed
    assert sae(layer="layer4", weights=str(path)).key == noted.key != units.key
    assert replace(units, notes=()).file_activations([]) == ({}, ())
