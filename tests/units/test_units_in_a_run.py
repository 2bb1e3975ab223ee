"""Units of every kind through the whole run: latents, the same latents from files, directions."""

import csv
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.sparse import csr_array, save_npz

from cd_exp import clips, concepts, models, probes, similarity
from cd_exp.activation_stats import activation_statistics
from cd_exp.cache import Store
from cd_exp.dissection import RunInputs, dissect_layers, flag_labels, label_units
from cd_exp.errors import InputError
from cd_exp.features import ExtractionSettings, extract
from cd_exp.hooks import Layer
from cd_exp.hooks.pooling import Pooling
from cd_exp.units import ActivationMatrix, Layers, directions, sae

QUIET = ExtractionSettings(progress=False, workers=0)
WIDTH, LATENTS = 96, 40


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def parts():
    return models.shapes_model(layers=["layer4"]), probes.shapes(size=60), clips.shapes_clip()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    generator = torch.Generator().manual_seed(1)
    path = tmp_path_factory.mktemp("sae") / "sae.safetensors"
    save_file({"W_enc": torch.randn(WIDTH, LATENTS, generator=generator), "b_enc": torch.zeros(LATENTS)}, path)
    return str(path)


def inputs_of(parts, units, store):
    model, probe, clip = parts
    recipes = {"model": model, "units": units, "probe": probe, "concepts": concepts.shapes(), "clip": clip}
    return RunInputs(**recipes, store=store, settings=QUIET)


def named(parts, units, store):
    few = partial(similarity.soft_wpmi, top_k=10)
    return dissect_layers(inputs_of(parts, units, store), few, top=5).labels


def test_latents_and_the_same_latents_from_files_have_the_same_labels(parts, store, weights, tmp_path):
    model, probe, clip = parts
    units = sae(layer="layer4", weights=weights, activation="topk", k=5)
    features = extract(model, probe, clip, layers=units, store=store, settings=QUIET)
    values = features.activations["layer4.sae"].numpy()
    assert values.shape == (60, LATENTS)
    (tmp_path / "images.txt").write_text("\n".join([*probe.ids[::-1], "another"]), encoding="utf-8")
    shuffled = np.concatenate([values[::-1], np.zeros((1, LATENTS), np.float32)])
    np.save(tmp_path / "dense.npy", shuffled)
    save_npz(tmp_path / "sparse.npz", csr_array(shuffled))
    expected = named(parts, units, store)["layer4.sae"]
    from_files = named(parts, ActivationMatrix(str(tmp_path)), store)
    assert list(from_files) == ["dense", "sparse"]
    for labels in from_files.values():
        assert labels.top == expected.top
        np.testing.assert_array_equal(labels.similarity, expected.similarity)
    assert "rows of images that are not in the probe, skipped: 1" in store.reports[-1]


def test_latents_are_those_of_every_position_pooled(parts, store, weights):
    model, probe, clip = parts
    encode = torch.relu
    network = model.build()
    kept = {}
    handle = network.module.layer4.register_forward_hook(lambda *arguments: kept.update(output=arguments[2].clone()))
    with torch.inference_mode():
        network.module(torch.stack([network.transform(probe[index]) for index in range(3)]))
    handle.remove()
    from safetensors.torch import load_file

    matrix = load_file(weights)["W_enc"]
    literal = encode(torch.einsum("nchw,cl->nlhw", kept["output"], matrix))
    for pool, reduced in {"max": literal.amax((2, 3)), "fraction": (literal > 0).float().mean((2, 3))}.items():
        units = sae(layer="layer4", weights=weights, activation="relu", pool=pool)
        activations = extract(model, probe, clip, layers=units, store=store, settings=QUIET).activations["layer4.sae"]
        torch.testing.assert_close(activations[:3], reduced, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_settings_and_weights_of_the_encoder_are_part_of_the_key(parts, store, weights, tmp_path):
    model, probe, clip = parts

    def made(**settings):
        before = len(store.made)
        units = sae(**{"layer": "layer4", "weights": weights, "activation": "relu", **settings})
        extract(model, probe, clip, layers=units, store=store, settings=QUIET)
        return len(store.made) - before

    made()
    assert made() == 0
    assert made(pool="mean") == 1
    assert made(activation="topk", k=3) == 1
    assert made(activation="topk", k=4) == 1
    assert made(activation="jumprelu", threshold=0.5) == 1
    other = tmp_path / "other.safetensors"
    save_file({"W_enc": torch.ones(WIDTH, 3)}, other)
    assert made(weights=str(other)) == 1


def test_directions_are_projections_and_carry_the_names_given(parts, store, tmp_path):
    model, probe, clip = parts
    np.save(tmp_path / "unit.npy", np.eye(WIDTH, dtype=np.float32)[:4])
    names = ["red", "", "circle", "star"]
    units = directions(layer="layer4", path=str(tmp_path / "unit.npy"), truth={"layer4.directions": names})
    own = extract(model, probe, clip, layers=Layers(["layer4"]), store=store, settings=QUIET).activations["layer4"]
    activations = extract(model, probe, clip, layers=units, store=store, settings=QUIET).activations[
        "layer4.directions"
    ]
    torch.testing.assert_close(activations, own[:, :4], rtol=1e-5, atol=1e-5)
    labels = named(parts, units, store)["layer4.directions"]
    assert labels.truth == (("red",), None, ("circle",), ("star",))
    with pytest.raises(InputError, match=r"units\.truth\.layer4\.directions has 3 names for 4 units"):
        units.truth_of(model, "layer4.directions", units=4) and named(
            parts,
            directions(layer="layer4", path=str(tmp_path / "unit.npy"), truth={"layer4.directions": names[:3]}),
            store,
        )


def test_names_that_do_not_fit_are_refused_before_any_picture(parts, store, tmp_path):
    np.save(tmp_path / "unit.npy", np.eye(WIDTH, dtype=np.float32)[:4])
    layer = Layer("layer4", "layer4", Pooling("maps_first", "avg"), WIDTH)
    for truth, message in (
        (
            {"layer4": ["red"] * 4},
            r"units\.truth names layer 'layer4', which is none of these units: layer4\.directions",
        ),
        ({"layer4.directions": ["red"]}, r"units\.truth\.layer4\.directions has 1 names for 4 units"),
    ):
        units = directions(layer="layer4", path=str(tmp_path / "unit.npy"), truth=truth)
        with pytest.raises(InputError, match=message):
            units.columns(layer, model="shapes")


def test_a_layer_of_dead_units_has_the_ceiling_of_its_prior():
    match, dead = similarity.concept_activations(torch.rand(9, 4), torch.rand(7, 4)), torch.zeros(9, 6)
    function = similarity.bind(similarity.soft_wpmi, top_k=3, prior_units="alive")
    scored = label_units(function, match, {"fc": dead}, list("abcdefg"), truth={"fc": ()}, top=3)
    assert set(flag_labels(scored.labels["fc"], activation_statistics(dead), function).marks) == {frozenset({"dead"})}


def test_an_encoder_of_another_width_and_a_class_token_that_is_none_are_refused(parts, store, weights):
    model, probe, clip = parts
    with pytest.raises(InputError, match=r"expects input width 96, but layer 'layer3' of shapes gives 192; set"):
        extract(
            model,
            probe,
            clip,
            layers=sae(layer="layer3", weights=weights, activation="relu"),
            store=store,
            settings=QUIET,
        )
    with pytest.raises(InputError, match=r"units\.pool=cls: layer 'layer4' of shapes has no class token"):
        extract(
            *(model, probe, clip),
            layers=sae(layer="layer4", weights=weights, activation="relu", pool="cls"),
            store=store,
            settings=QUIET,
        )


def test_tokens_leave_the_prefix_out_or_take_the_class_token():
    output = torch.randn(2, 6, 4)
    tokens = Layer("blocks.1", "blocks.1", Pooling("tokens", "cls", 1), 4)
    assert torch.equal(tokens.pooling.positions(output), output[:, 1:])
    assert torch.equal(tokens.pooling.positions(output, class_token=True), output[:, :1])
    maps = torch.randn(2, 4, 3, 5)
    assert torch.equal(Pooling("maps_first", "avg").positions(maps), maps.flatten(2).transpose(1, 2))
    assert torch.equal(Pooling("maps_last", "avg").positions(maps), maps.flatten(1, 2))


def test_names_in_a_file_of_matrix_units_are_judged(tmp_path, parts, store):
    _, probe, _ = parts
    (tmp_path / "images.txt").write_text("\n".join(probe.ids), encoding="utf-8")
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).random((60, 3), dtype=np.float32))
    (tmp_path / "names.csv").write_text("red\n\nstar\n")
    with (tmp_path / "names.csv").open() as file:
        assert len(list(csv.reader(file))) == 3
    units = ActivationMatrix(str(tmp_path), truth={"mine": str(tmp_path / "names.csv")})
    labels = named(parts, units, store)["mine"]
    assert labels.truth == (("red",), None, ("star",))
    assert np.isnan(labels.ranks[1])
    assert not np.isnan(labels.ranks[[0, 2]]).any()


@pytest.mark.parametrize(("function", "rows", "said"), [
    ("whitened_wpmi", 49, ["layer4.directions has 49 units, and this similarity function is unsure below 50"]),
    ("whitened_wpmi", 50, []),
    ("soft_wpmi", 3, []),
])  # fmt: skip
def test_a_layer_too_small_for_the_function_is_said(parts, store, tmp_path, function, rows, said):
    np.save(tmp_path / "few.npy", np.random.default_rng(0).standard_normal((rows, WIDTH)).astype(np.float32))
    units = directions(layer="layer4", path=str(tmp_path / "few.npy"))
    named = getattr(similarity, function)
    run_data = dissect_layers(inputs_of(parts, units, store), named, top=5)
    others = ("prior_weight", "similarity.top_k")  # of 60 images the default reads all, and says so
    notes = [note for note in run_data.notes if not note.startswith(others) and "divisions" not in note]
    assert [note.partition(":")[0] for note in notes] == said
    assert (run_data.priors.keys() == {"layer4.directions"}) == (function == "whitened_wpmi")
