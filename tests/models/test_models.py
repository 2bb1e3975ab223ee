import time
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cd_exp.concepts import place_classes
from cd_exp.errors import InputError
from cd_exp.io import hub
from cd_exp.models import TimmModel, find_truth, places365, read_names, shapes_model

PICTURE = Image.new("RGB", (200, 180), (200, 30, 60))


@pytest.fixture(scope="module")
def state():
    import timm

    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=4).state_dict()


@pytest.fixture
def weights(state, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


def recipe(weights, **settings):
    settings = {"class_names": ["a", "b", "c", "d"], "options": {"num_classes": 4}} | settings
    return TimmModel(
        name="small", architecture="test_resnet", layers=["fc"], final="fc", weights=str(weights), **settings
    )


def test_a_timm_model_is_built_with_its_own_preprocessing(weights, state):
    network = recipe(weights).build()
    assert not network.module.training
    assert torch.equal(network.module.state_dict()["fc.weight"], state["fc.weight"])
    assert network.transform(PICTURE).shape == (3, 160, 160)


def test_the_transform_follows_an_option_that_changes_the_size_of_the_input(tmp_path):
    import timm

    state = timm.create_model("test_vit", img_size=96).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "vit.safetensors")
    weights, options = str(tmp_path / "vit.safetensors"), {"img_size": 96}
    network = TimmModel(name="v", architecture="test_vit", layers=["head"], weights=weights, options=options).build()
    assert network.transform(PICTURE).shape == (3, 96, 96)
    assert network.module(network.transform(PICTURE)[None]).shape == (1, 1000)
    unknown = TimmModel(name="v", architecture="test_vit", layers=["head"], weights=weights, options={"imgsize": 96})
    with pytest.raises(InputError, match=r"model.options: test_vit cannot be built with them: TypeError: .*imgsize"):
        unknown.build()


def test_the_key_follows_the_content_of_the_weights_and_the_options_not_the_path(weights, state, tmp_path):
    before = recipe(weights).key
    copy = tmp_path / "elsewhere.safetensors"
    copy.write_bytes(weights.read_bytes())
    assert recipe(copy).key == before
    changed = {name: tensor.clone().contiguous() for name, tensor in state.items()}
    changed["fc.bias"] += 1
    save_file(changed, copy)
    assert recipe(copy).key != before
    assert recipe(weights, options={"num_classes": 4, "in_chans": 1}).key != before


def test_weights_of_another_shape_are_refused(weights):
    with pytest.raises(InputError, match=r"do not fit the network: size mismatch for fc.weight: 4 x"):
        recipe(weights, options={"num_classes": 5}).build()


def test_what_is_missing_is_named(tmp_path, weights):
    with pytest.raises(InputError, match=r"model.weights=.*nothing.pth: there is no such file"):
        _ = recipe(tmp_path / "nothing.pth").key
    with pytest.raises(InputError, match=r"model 'resnet50' names no weights; write the full tag"):
        _ = TimmModel(name="r", architecture="resnet50", layers=["fc"]).key
    with pytest.raises(InputError, match=r"architecture 'resnet5' is not known; did you mean"):
        TimmModel(name="r", architecture="resnet5", layers=["fc"], weights=str(weights)).build()


def test_hub_weights_out_of_reach_are_a_quick_and_clear_error(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    began = time.monotonic()
    with pytest.raises(InputError, match=r"timm/resnet50.tv_in1k/model.safetensors is not on this machine .*FILE"):
        _ = TimmModel(name="r", architecture="resnet50.tv_in1k", layers=["fc"]).key
    assert time.monotonic() - began < hub.SECONDS + 2
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        hub.fetch_hub_file("timm/x", "y", setting="model.weights=FILE")


def test_the_truth_of_the_final_layer_is_the_class_and_hidden_truth_may_have_gaps(weights, tmp_path):
    (tmp_path / "units.txt").write_text("red\nblue\n")
    model = recipe(weights, hidden_truth={"layer4": str(tmp_path / "units.txt"), "layer3": ["x", ""]})
    assert model.truth["fc"] == (("a",), ("b",), ("c",), ("d",))
    assert model.truth["layer4"] == (("red",), ("blue",))
    assert model.truth["layer3"] == (("x",), None)


def test_names_come_from_lists_files_places_lines_and_imagenet(tmp_path):
    (tmp_path / "places.txt").write_text("/a/airfield 0\n/b/bakery/shop 1\n")
    (tmp_path / "names.txt").write_text("tench\n\ncock\n")
    assert read_names(str(tmp_path / "places.txt")) == ("airfield", "bakery/shop")
    assert read_names(str(tmp_path / "names.txt")) == ("tench", "", "cock")
    imagenet = read_names("imagenet")
    assert len(imagenet) == 1000
    assert imagenet[0] == "tench, Tinca tinca"
    with pytest.raises(InputError, match=r"model\.class_names="):
        read_names(str(tmp_path / "none.txt"))


@pytest.mark.parametrize("blank", [0, 1, 2])
def test_a_blank_line_is_a_unit_of_which_nothing_is_known_and_shifts_nothing(weights, tmp_path, blank):
    names = [None if position == blank else (name,) for position, name in enumerate(("a", "b", "c", "d"))]
    (tmp_path / "names.txt").write_text("".join(f"{name[0] if name else ''}\n" for name in names))
    model = recipe(weights, class_names=str(tmp_path / "names.txt"))
    assert find_truth(model, "fc", units=4) == tuple(names)
    assert find_truth(model, "fc:max", units=4) == tuple(names)
    assert find_truth(model, "layer4", units=9) == ()


def test_blank_lines_at_the_end_of_a_file_are_no_units(weights, tmp_path):
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\n\n\n")
    model = recipe(weights, class_names=str(tmp_path / "names.txt"))
    assert find_truth(model, "fc", units=4) == (("a",), ("b",), ("c",), ("d",))


@pytest.mark.parametrize(
    ("settings", "layer", "units", "message"),
    [
        ({"class_names": ["a", "b"]}, "fc", 4, "model.class_names has 2 names and layer 'fc' of small has 4 units"),
        ({"class_names": list("abcde")}, "fc", 4, "model.class_names has 5 names .* has 4 units"),
        (
            {"class_names": "imagenet"},
            "fc",
            10,
            "model.class_names has 1000 names .* has 10 units; give one line a unit",
        ),
        ({"hidden_truth": {"layer4": ["x"]}}, "layer4:max", 3, "model.hidden_truth.layer4 has 1 names .* has 3 units"),
    ],
)
def test_names_that_are_not_one_a_unit_are_refused(weights, settings, layer, units, message):
    with pytest.raises(InputError, match=message):
        find_truth(recipe(weights, **settings), layer, units=units)


def test_a_pooling_in_the_name_of_a_layer_with_names_does_not_matter(weights):
    model = recipe(weights, hidden_truth={"layer4:mean": ["a", "", "c"]})
    assert find_truth(model, "layer4:max", units=3) == (("a",), None, ("c",))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_truth": {"layer4": ["a"], "layer4:max": ["b"]}}, r"layer4:max: another entry names its units too"),
        ({"class_names": ["a"], "hidden_truth": {"fc": ["b"]}}, r"truth.fc: model.class_names names its units too"),
    ],
)
def test_the_units_of_a_layer_are_named_once(weights, settings, message):
    with pytest.raises(InputError, match=message):
        find_truth(recipe(weights, **settings), "fc", units=1)


def test_a_places_list_goes_by_its_numbers(tmp_path):
    (tmp_path / "places.txt").write_text("/b/bakery/shop 2\n\n/a/airfield 0\n")
    assert read_names(str(tmp_path / "places.txt")) == ("airfield", "", "bakery/shop")
    (tmp_path / "unnumbered.txt").write_text("/a/airfield\n\n/b/bakery/shop\n")
    assert read_names(str(tmp_path / "unnumbered.txt")) == ("airfield", "", "bakery/shop")


def test_the_embedded_network_has_a_line_for_every_unit():
    truth = find_truth(shapes_model(layers=["layer4"]), "layer4", units=96)
    assert len(truth) == 96
    assert sum(names is not None for names in truth) == 28


def test_the_places_network_takes_local_files(tmp_path, weights):
    (tmp_path / "names.txt").write_text("\n".join(f"/a/place{i} {i}" for i in range(365)))
    model = places365(
        layers=["fc"], weights=str(weights), class_names=str(tmp_path / "names.txt"), folder=str(tmp_path)
    )
    assert model.options == {"num_classes": 365}
    assert model.classes[364] == "place364"


def test_class_names_without_a_final_layer_are_those_of_the_layer_they_fit():
    def recipe(**more):
        names = {"name": "mine", "class_names": ["cat", "", "dog"], "final": None, "hidden_truth": {}}
        return replace(shapes_model(layers=["fc"]), **{**names, **more})

    truth, (note,) = place_classes(recipe(), {"a": 8, "b:max": 3})
    assert truth == {"b:max": (("cat",), None, ("dog",))}
    assert note == "b:max: its 3 units are taken for the classes of mine; model.final=LAYER says another"
    truth, (note,) = place_classes(recipe(), {"a": 8, "b": 4})
    assert (dict(truth), note.partition(":")[0]) == ({}, "no layer of the run has as many units as mine has classes, 3")
    truth, (note,) = place_classes(recipe(), {"a": 3, "b": 3})
    assert (dict(truth), note.partition(" as ")[0]) == ({}, "a, b have")
    assert place_classes(recipe(final="b"), {"a": 3, "b": 3}) == ({}, ())  # the remedy
    assert place_classes(recipe(hidden_truth={"b": ["x", "y", "z"]}), {"b": 3})[0] == {}
