from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from cd_exp.cache import Store
from cd_exp.clips import Precomputed, shapes_clip
from cd_exp.errors import InputError
from cd_exp.features import ExtractionSettings, extract, find_layers, read_maps, text_embeddings
from cd_exp.features.dataloader import split_transform
from cd_exp.models import TimmModel
from cd_exp.records import Concepts, Probe

QUIET = ExtractionSettings(device="cpu", progress=False, workers=0, batch_size=4)


@dataclass(frozen=True)
class Pictures(Probe):
    """A probe of `count` noise images; those in `broken` cannot be read."""

    count: int
    broken: tuple[int, ...] = ()
    name: str = "pictures"

    @property
    def ids(self):
        return [f"{index}.png" for index in range(self.count)]

    @property
    def fingerprint(self):
        return f"{self.count} {self.broken}"

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index in self.broken:
            raise OSError("cannot identify image file")
        noise = np.random.default_rng(index).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        return Image.fromarray(noise)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import timm

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet.safetensors"
    overlay = {"input_size": (3, 32, 32), "crop_pct": 1.0}
    network = timm.create_model("test_resnet", num_classes=5, pretrained_cfg_overlay=overlay)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)
    options = {"num_classes": 5, "pretrained_cfg_overlay": overlay}
    return TimmModel(
        name="tiny", architecture="test_resnet", layers=["fc"], final="fc", weights=str(path), options=options
    )


@pytest.fixture
def clip(tmp_path):
    return embedded(tmp_path, 200)


def embedded(folder, count):
    np.save(folder / "image_embeddings.npy", np.random.default_rng(0).normal(size=(count, 6)).astype(np.float32))
    (folder / "images.txt").write_text("".join(f"{index}.png\n" for index in range(count)))
    return Precomputed(str(folder))


def test_features_are_what_the_bare_network_gives(model, clip, tmp_path):
    probe, store = Pictures(10), Store(tmp_path / "cache")
    features = extract(model, probe, clip, layers=["layer4", "fc"], store=store, settings=QUIET)
    network = model.build()
    with torch.inference_mode():
        images = torch.stack([network.transform(probe[index]) for index in range(10)])
        assert torch.allclose(features.activations["fc"], network.module(images), atol=1e-4)
        expected = network.module.forward_features(images).mean((2, 3))
        assert torch.allclose(features.activations["layer4"], expected, atol=1e-4)
    assert features.images.shape == (10, 6)


def test_a_second_run_reads_and_an_added_layer_is_all_that_is_computed(model, clip, tmp_path):
    probe = Pictures(6)
    extract(model, probe, clip, layers=["fc"], store=Store(tmp_path / "cache"), settings=QUIET)
    store = Store(tmp_path / "cache")
    extract(model, probe, clip, layers=["fc", "layer4:max"], store=store, settings=QUIET)
    assert [len(store.read), len(store.made)] == [1, 1]
    store = Store(tmp_path / "cache")
    extract(model, probe, clip, layers=["fc", "layer4:max"], store=store, settings=QUIET)
    assert [len(store.read), len(store.made)] == [2, 0]


@pytest.fixture(scope="module")
def transformer(tmp_path_factory):
    import timm

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    network = timm.create_model("test_vit", img_size=32)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)
    return TimmModel(
        name="tiny_vit", architecture="test_vit", layers=["norm"], weights=str(path), options={"img_size": 32}
    )


def test_pooling_and_prefix_tokens_are_part_of_the_key(transformer, clip, tmp_path):
    """Each reading of one layer is computed anew, and gives what the bare network gives."""
    network, probe = transformer.build(), Pictures(4)
    with torch.inference_mode():
        tokens = network.module.forward_features(torch.stack([network.transform(probe[index]) for index in range(4)]))
    expected = {
        ("norm", None): tokens[:, 0],
        ("norm:patch_mean", None): tokens[:, 1:].mean(1),
        ("norm:max", None): tokens[:, 1:].amax(1),
        ("norm:max", 0): tokens.amax(1),
        ("norm:patch_mean", 0): tokens.mean(1),
    }
    for (layer, prefix), values in expected.items():
        model = TimmModel(**{**vars_of(transformer), "prefix_tokens": prefix})
        store = Store(tmp_path / "cache")
        features = extract(model, probe, clip, layers=[layer], store=store, settings=QUIET)
        assert torch.allclose(features.activations[layer], values, atol=1e-4)
        assert any(name.startswith("activations") for name in store.made)


def test_two_names_of_one_reading_are_both_reported(model, clip, tmp_path):
    names = ["layer4", "layer4:avg", "fc", "fc@1"]
    features = extract(model, Pictures(4), clip, layers=names, store=Store(tmp_path / "cache"), settings=QUIET)
    assert set(features.layers) == set(names)
    assert torch.equal(features.activations["layer4"], features.activations["layer4:avg"])
    assert torch.equal(features.activations["fc"], features.activations["fc@1"])


def test_the_pooling_is_part_of_the_key(model, clip, tmp_path):
    """Of a network whose key covers it all, so that nothing else tells the two apart."""
    first = extract(model, Pictures(6), clip, layers=["layer1"], store=Store(tmp_path / "cache"), settings=QUIET)
    store = Store(tmp_path / "cache")
    features = extract(model, Pictures(6), clip, layers=["layer1:max"], store=store, settings=QUIET)
    assert len(store.made) == 1
    assert not torch.equal(features.activations["layer1:max"], first.activations["layer1"])


@pytest.mark.parametrize("change", ["weights", "images", "precision", "decode"])
def test_whatever_changes_the_numbers_is_computed_anew(model, clip, tmp_path, change):
    probe = Pictures(6)
    extract(model, probe, clip, layers=["fc"], store=Store(tmp_path / "cache"), settings=QUIET)
    settings = QUIET
    if change == "weights":
        from safetensors.torch import load_file

        weights = load_file(model.weights)
        weights["fc.bias"] += 1
        save_file(weights, tmp_path / "other.safetensors")
        model = TimmModel(**{**vars_of(model), "weights": str(tmp_path / "other.safetensors")})
    elif change == "images":
        probe = Pictures(7)
    else:
        settings = replace(QUIET, **({"precision": "bfloat16"} if change == "precision" else {"decode": "fast"}))
    store = Store(tmp_path / "cache")
    extract(model, probe, clip, layers=["fc"], store=store, settings=settings)
    assert len(store.made) == 1


def test_the_precision_of_image_embeddings_is_part_of_their_key(model, tmp_path):
    made = []
    for precision in ("float32", "bfloat16"):
        store = Store(tmp_path / "cache")
        settings = replace(QUIET, precision=precision)
        extract(model, Pictures(3), shapes_clip(), layers=["fc"], store=store, settings=settings)
        made.append({name for name in store.made if name.startswith("images/")})
    assert all(made)
    assert made[0].isdisjoint(made[1])


def vars_of(model):
    return {name: getattr(model, name) for name in model.__dataclass_fields__}


def test_batches_and_workers_change_nothing(model, clip, tmp_path):
    probe = Pictures(11)
    one = extract(model, probe, clip, layers=["fc"], store=Store(tmp_path / "one"), settings=QUIET)
    settings = ExtractionSettings(device="cpu", progress=False, workers=2, batch_size=4)
    other = extract(model, probe, clip, layers=["fc"], store=Store(tmp_path / "other"), settings=settings)
    assert torch.equal(one.activations["fc"], other.activations["fc"])


def test_unreadable_images_are_listed_or_left_out_and_recorded(model, clip, tmp_path):
    probe, store = Pictures(8, broken=(2, 5)), Store(tmp_path / "cache")
    with pytest.raises(InputError, match=r"2 of 8 images of probe 'pictures' cannot be read: 2.png, 5.png; .*skip"):
        extract(model, probe, clip, layers=["fc"], store=store, settings=QUIET)
    skipping = ExtractionSettings(device="cpu", progress=False, workers=0, batch_size=4, on_error="skip")
    features = extract(model, probe, clip, layers=["fc"], store=store, settings=skipping)
    assert features.skipped == ["2.png", "5.png"]
    assert list(features.kept) == [0, 1, 3, 4, 6, 7]
    assert len(features.images) == len(features.activations["fc"]) == 6
    assert torch.isfinite(features.activations["fc"]).all()
    assert torch.equal(features.images[2], torch.from_numpy(clip.stored_images(["3.png"]))[0])


def test_one_image_is_refused(model, clip, tmp_path):
    with pytest.raises(InputError, match="has 1 image; at least two are needed"):
        extract(model, Pictures(1), clip, layers=["fc"], store=Store(tmp_path / "cache"), settings=QUIET)


def test_activations_that_are_not_finite_name_layer_and_unit(model, clip, tmp_path):
    from safetensors.torch import load_file

    weights = load_file(model.weights)
    weights["fc.bias"][3] = float("nan")
    save_file(weights, tmp_path / "nan.safetensors")
    broken = TimmModel(**{**vars_of(model), "weights": str(tmp_path / "nan.safetensors")})
    with pytest.raises(InputError, match="fc of tiny gives values that are not finite, first at unit 3"):
        extract(broken, Pictures(4), clip, layers=["fc"], store=Store(tmp_path / "cache"), settings=QUIET)
    assert not list((tmp_path / "cache").glob("activations/*"))


def test_unknown_settings_are_refused(model, clip, tmp_path):
    with pytest.raises(InputError, match="precision='half' is none of"):
        ExtractionSettings(device="cpu", precision="half").resolve_device()
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA device is available; set device=cpu"):
            ExtractionSettings(device="cuda").resolve_device()


def test_the_layers_are_remembered_so_that_the_network_need_not_be_built(model, tmp_path, monkeypatch):
    store = Store(tmp_path / "cache")
    first = find_layers(model, Pictures(3), ["layer*", "fc"], store)
    monkeypatch.setattr(TimmModel, "build", lambda _self: pytest.fail("the network was built"))
    assert find_layers(model, Pictures(3), ["layer*", "fc"], store) == first
    assert [layer.name for layer in first] == ["layer1", "layer2", "layer3", "layer4", "fc"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"final": "nope"}, "layer 'nope' is not in tiny"),
        ({"hidden_truth": {"layr4": ["x"]}}, "layer 'layr4' is not in tiny .*did you mean 'layer4'"),
        ({"class_names": ["a", "b"]}, "model.class_names has 2 names and layer 'fc' of tiny has 5 units"),
    ],
)
def test_what_the_settings_say_of_layers_is_checked_before_anything_is_computed(model, clip, tmp_path, change, message):
    other, store = TimmModel(**{**vars_of(model), **change}), Store(tmp_path / "cache")
    for _ in range(2):  # the second time the layers are remembered
        with pytest.raises(InputError, match=message):
            extract(other, Pictures(3), clip, layers=["layer4", "fc"], store=store, settings=QUIET)
    assert not list((tmp_path / "cache").glob("activations/*"))
    unlabelled = TimmModel(**{**vars_of(model), "class_names": ["a", "b"]})
    extract(unlabelled, Pictures(3), clip, layers=["layer4"], store=store, settings=QUIET)  # fc is there, not labelled


def test_pictures_of_several_sizes_without_a_resize_are_refused(model):
    from cd_exp.features.dataloader import make_loader
    from cd_exp.features.layers import readable_images

    whole = transforms.ToTensor()

    class Sizes(Pictures):
        def __getitem__(self, index):
            return super().__getitem__(index).resize((40 + index, 40))

    with pytest.raises(InputError, match=r"inputs of several sizes, 3 x 40 x 40 and 3 x 40 x 41; .* resize and crop"):
        readable_images(Sizes(3), whole)
    for workers in (0, 1):
        settings = ExtractionSettings(device="cpu", progress=False, workers=workers)
        with pytest.raises(InputError, match=r"^the transform gives inputs of several sizes"):
            list(make_loader(Sizes(3), [whole], [[0, 1, 2]], settings, torch.device("cpu")))


def test_a_transform_that_fails_says_on_which_picture(model):
    from cd_exp.features.dataloader import make_loader

    def own(picture):
        raise KeyError("no such channel")

    for workers in (0, 1):
        settings = ExtractionSettings(device="cpu", progress=False, workers=workers)
        with pytest.raises(InputError, match=r"^the transform fails on 0.png \(40 x 40\): KeyError: 'no such channel'"):
            list(make_loader(Pictures(3), [own], [[0, 1, 2]], settings, torch.device("cpu")))


def test_unreadable_images_take_the_size_of_the_readable_ones():
    from cd_exp.features.dataloader import make_loader

    (batch,) = make_loader(Pictures(3, broken=(0,)), [transforms.ToTensor()], [[0, 1, 2]], QUIET, torch.device("cpu"))
    assert batch[1][0].shape == (3, 3, 40, 40)
    assert batch[2] == [False, True, True]


def test_maps_average_to_the_pooled_activations(model, clip, tmp_path):
    probe, store = Pictures(6), Store(tmp_path / "cache")
    features = extract(model, probe, clip, layers=["layer4", "fc"], store=store, settings=QUIET)
    passes = read_maps(model, probe, layers=["layer4", "fc"], kept=range(6), store=store, settings=QUIET)
    for _ in range(2):
        batches = list(passes())
        assert [index for indices, _ in batches for index in indices] == list(range(6))
        outputs = torch.cat([layers["layer4"] for _, layers in batches])
        assert torch.allclose(outputs.mean((2, 3)), features.activations["layer4"], atol=1e-5)
        assert batches[0][1]["fc"].shape[2:] == (1, 1)


def test_texts_are_embedded_once(tmp_path):
    clip = embedded(tmp_path, 3)
    np.save(tmp_path / "x_text.npy", np.eye(6, dtype=np.float32)[:2])
    (tmp_path / "x_names.txt").write_text("a\nb\n")
    store = Store(tmp_path / "cache")
    first = text_embeddings(clip, Concepts(("a", "b")), store=store, device="cpu")
    again = text_embeddings(clip, Concepts(("a", "b")), store=store, device="cpu")
    assert torch.equal(first, again)
    assert [len(store.made), len(store.read)] == [1, 1]


class Inverted(transforms.ToTensor):
    def __call__(self, picture):
        return 1 - super().__call__(picture)


@pytest.mark.parametrize(("numbers", "taken_apart"), [(transforms.ToTensor, True), (Inverted, False)])
def test_a_transform_taken_apart_gives_the_same_numbers(numbers, taken_apart):
    normalise = transforms.Normalize((0.48, 0.45, 0.41), (0.27, 0.26, 0.28))
    whole = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(32), numbers(), normalise])
    first, rest = split_transform(whole)
    assert (first is not whole) == taken_apart
    pictures = [Pictures(3)[index] for index in range(3)]
    batch = rest(torch.stack([first(picture) for picture in pictures]))
    assert torch.equal(batch, torch.stack([whole(picture) for picture in pictures]))


@pytest.mark.parametrize("mode", [InterpolationMode.BILINEAR, InterpolationMode.BICUBIC])
@pytest.mark.parametrize("size", [(300, 211), (90, 417), (40, 40)])  # columns and rows; the last is enlarged
def test_fast_decoding_is_the_same_but_for_a_grey_level_here_and_there(mode, size):
    numbers = [transforms.ToTensor(), transforms.Normalize((0.0,) * 3, (1 / 255,) * 3)]
    whole = transforms.Compose([transforms.Resize(64, mode), transforms.CenterCrop(56), *numbers])
    waves = np.sin(np.arange(size[0] * size[1] * 3) / 50).reshape(size[1], size[0], 3)
    picture = Image.fromarray((127.5 + 127.5 * waves).astype(np.uint8))
    first, rest = split_transform(whole, decode="fast")
    apart = (rest(first(picture)[None])[0] - whole(picture)).abs()
    assert apart.shape == (3, 56, 56)
    assert apart.max() <= 2.01
    assert apart.mean() < 0.6


@pytest.mark.parametrize(
    "whole",
    [
        transforms.Compose([transforms.Resize(32), transforms.ToTensor()]),
        transforms.Compose([transforms.Grayscale(3), transforms.ToTensor(), transforms.Normalize(0.5, 0.5)]),
        transforms.Compose(
            [transforms.Resize(32, InterpolationMode.LANCZOS), transforms.ToTensor(), transforms.Normalize(0.5, 0.5)]
        ),
        lambda picture: torch.zeros(3, 8, 8),
    ],
)
def test_fast_decoding_of_a_transform_that_does_something_else_is_refused(whole):
    with pytest.raises(InputError, match=r"set features\.decode=exact"):
        split_transform(whole, decode="fast")


def test_a_transform_of_the_users_own_is_left_whole():
    def own(picture):
        return torch.zeros(3, 8, 8)

    assert split_transform(own)[0] is own


def test_strongest_images_and_statistics_of_a_layer(model, clip, tmp_path):
    features = extract(model, Pictures(9), clip, layers=["fc"], store=Store(tmp_path / "cache"), settings=QUIET)
    values = features.activations["fc"]
    best = features.strongest("fc", 3)
    assert torch.equal(best.values, values.topk(3, dim=0).values)
    assert torch.equal(values.gather(0, best.indices), best.values)
    assert torch.equal(features.statistics("fc").greatest, values.max(0).values)
    assert (features.layers, features.units("fc")) == (("fc",), 5)
