"""Maps kept while features are computed: those of the strongest images, whatever the run goes through."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from test_kill import NETWORK

from cd_exp.activation_stats import strongest_images
from cd_exp.cache import Entry, Store
from cd_exp.clips import Precomputed
from cd_exp.features import ExtractionSettings, extract, find_layers, read_maps
from cd_exp.features.strongest_maps import (
    FEWEST,
    LARGEST,
    SHOWN,
    STEPS,
    MapKeeper,
    StrongestMaps,
    bytes_of_maps,
    choose_map_layers,
    merge_maps,
    quantise_maps,
    shrink_maps,
)
from cd_exp.hooks import Layer
from cd_exp.hooks.pooling import Pooling
from cd_exp.models import CustomModel
from cd_exp.records import Probe

COUNT, SMALL = 43, 8
SETTINGS = ExtractionSettings(device="cpu", progress=False, workers=0, batch_size=4, maps=True)


TRANSFORMER = """
def transformer():
    from timm.models.vision_transformer import VisionTransformer
    torch.manual_seed(0)
    network = VisionTransformer(img_size=8, patch_size=2, embed_dim=8, depth=1, num_heads=2, num_classes=3)
    return network, tiny()[1], None
"""


class Noise(Probe):
    """Images of noise, few of them different, so that many activations are equal; the run stops after `last`."""

    name = "noise"
    ids = ()
    fingerprint = ""

    def __init__(self, broken=(), last=FEWEST, count=COUNT):
        self.broken, self.last, self.shown, self.fingerprint = broken, last, [], f"noise {broken} {count}"
        self.ids = tuple(f"{index}.png" for index in range(count))

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        from PIL import Image

        if index > self.last:
            raise KeyboardInterrupt
        self.shown.append(index)
        if index in self.broken:
            raise OSError("cannot identify image file")
        return Image.fromarray(np.random.default_rng(index % 23).integers(0, 255, (8, 8, 3), dtype=np.uint8))


@pytest.fixture
def take(tmp_path):
    """`take(cache, settings=..., probe=...)`: the features of a small network, and what the cache has of its maps."""
    network = NETWORK.replace("picture.resize((8, 8))", "square(picture).resize((8, 8))")
    square = "def square(picture):\n    from torchvision.transforms import CenterCrop\n"
    square += "    return CenterCrop(min(picture.size))(picture)\n"
    (tmp_path / "network.py").write_text(square + network + TRANSFORMER)
    np.save(tmp_path / "image_embeddings.npy", np.random.default_rng(0).normal(size=(FEWEST, 6)).astype(np.float32))
    (tmp_path / "images.txt").write_text("\n".join(Noise(count=FEWEST).ids))
    return partial(taken, tmp_path)


def taken(folder, cache, *, settings=SETTINGS, probe=None, layers=("1", "3"), network="tiny", shard=SMALL):
    model = CustomModel(name="tiny", factory=f"{folder / 'network.py'}:{network}", layers=list(layers))
    store, probe = Store(folder / cache), probe or Noise()
    clip = Precomputed(str(folder))
    how = {"settings": settings, "strongest": SHOWN, "shard": shard}
    features = extract(model, probe, clip, layers=layers, store=store, **how)
    return features, store.find_arrays(features.maps[layers[0]]), (model, probe, store)


def assert_those_of_another_pass(features, arrays, run, layer="1"):
    """The images are the strongest, and their maps those that the network gives when it sees them again."""
    model, probe, store = run
    kept = list(features.kept)
    passes = read_maps(model, probe, layers=[layer], kept=kept, store=store, settings=SETTINGS)
    maps = torch.cat([batch[layer] for _, batch in passes()])
    strongest = features.strongest(layer, SHOWN).indices
    for unit in range(features.units(layer)):
        rows = strongest[:, unit]
        assert arrays["images"][unit].tolist() == [kept[row] for row in rows]
        expected = maps[rows, unit].numpy()
        scaled = (expected - expected.min()) / (expected.max() - expected.min()) * STEPS
        np.testing.assert_allclose(arrays["maps"][unit], scaled, atol=1)


@pytest.mark.parametrize("keep", ["dense", "lists"])
def test_maps_are_those_that_another_pass_gives(take, keep):
    features, arrays, run = take("cache", settings=replace(SETTINGS, keep=keep))
    assert list(features.maps) == ["1"], "a vector has no extent"
    assert_those_of_another_pass(features, arrays, run)
    assert not list((run[-1].root / "partial").iterdir())
    assert arrays["region"] == pytest.approx([0, 0, 1, 1], abs=0.05)


def test_the_entry_takes_what_a_plan_counts_for_it(take):
    _, arrays, (model, probe, store) = take("cache")
    layer = find_layers(model, probe, ["1"], store)[0]
    assert bytes_of_maps(layer) == arrays["images"].nbytes + arrays["maps"].nbytes


def test_tokens_have_maps_where_their_order_is_that_of_the_image(take, monkeypatch):
    of_tokens = {
        "probe": Noise(count=FEWEST),
        "layers": ("blocks.0",),
        "network": "transformer",
        "settings": replace(SETTINGS, batch_size=64),
        "shard": 256,
    }
    features, arrays, run = take("cache", **of_tokens)
    assert arrays["maps"].shape == (8, SHOWN, 4, 4)
    assert_those_of_another_pass(features, arrays, run, layer="blocks.0")
    monkeypatch.setattr("cd_exp.features.strongest_maps.are_tokens_in_order", scatter)
    assert take("scattered", **of_tokens)[1] is None


def scatter(network, layers, pictures, *, name):
    return [replace(layer, grid=None) for layer in layers]


def test_images_that_cannot_be_read_have_no_map(take):
    broken = Noise(broken=(0, 9, 10, 42))
    features, arrays, run = take("cache", probe=broken, settings=replace(SETTINGS, on_error="skip"))
    assert_those_of_another_pass(features, arrays, run)


@pytest.mark.parametrize("keep", ["dense", "lists"])
def test_a_run_that_was_stopped_goes_on_with_the_maps_that_it_has(take, keep):
    settings = replace(SETTINGS, keep=keep)
    for last in (12, 30):
        with pytest.raises(KeyboardInterrupt):
            take("cache", probe=Noise(last=last), settings=settings)
    features, arrays, run = take("cache", settings=settings)
    assert run[1].shown[3:] == list(range(24, COUNT))
    assert_those_of_another_pass(features, arrays, run)
    assert not list((run[-1].root / "partial").iterdir())


def test_features_begun_or_made_without_maps_are_not_computed_again_for_them(take):
    without = replace(SETTINGS, maps=False)
    with pytest.raises(KeyboardInterrupt):
        take("begun", probe=Noise(last=20), settings=without)
    features, arrays, run = take("begun")
    assert run[1].shown[3:] == list(range(16, COUNT))
    assert list(features.maps) == ["1"]
    assert arrays is None
    assert not list((run[-1].root / "partial").iterdir())
    take("made", settings=without)
    _, arrays, run = take("made")
    assert run[1].shown == [0, 1, 2]
    assert arrays is None


def test_where_the_network_sees_other_parts_of_wide_images_no_maps_are_kept(take, monkeypatch):
    monkeypatch.setattr("cd_exp.features.strongest_maps.crop_region", lambda transform: None)
    assert take("cache")[1] is None


small = st.integers(0, 3).map(float)


@given(
    st.lists(st.lists(small, min_size=5, max_size=5), min_size=1, max_size=40),
    st.integers(1, 9),
    st.integers(1, 7),
    st.data(),
)
@examples(max_examples=40, deadline=None)
def test_in_batches_shards_and_processes_the_strongest_stay_and_of_equal_ones_the_first(rows, size, shard, data):
    values = torch.tensor(rows)
    maps = values[:, :, None, None] + torch.arange(6.0).view(2, 3) + 10 * torch.arange(len(rows))[:, None, None, None]
    bad = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    values = values.masked_fill(bad[:, None], -torch.inf)
    parts = []
    for process in range(2):
        held = StrongestMaps()
        for first in range(process * shard, len(rows), 2 * shard):
            for start in range(first, min(first + shard, len(rows)), size):
                images = torch.arange(start, min(start + size, first + shard, len(rows)))
                held.add(values[images], maps[images], images)
            parts.append(held.of_images(first, first + shard))
    merged = merge_maps(parts)
    expected = strongest_images(values, SHOWN)
    for unit in range(5):
        good = expected.values[:, unit] > -torch.inf
        of_unit = merged["units"] == unit
        assert merged["images"][of_unit].tolist() == expected.indices[good, unit].tolist()
        assert (merged["maps"][of_unit] == maps[expected.indices[good, unit], unit].numpy()).all()
    arrays = quantise_maps(merged, 5)
    assert arrays["images"].shape == (5, SHOWN)
    assert arrays["maps"].shape == (5, SHOWN, 2, 3)


def test_what_was_not_written_is_forgotten_before_smaller_batches(tmp_path):
    layer = Layer("a", "a", Pooling("maps_first", "avg"), 2, grid=(2, 2))
    keeper = MapKeeper({"a": Store(tmp_path).pieces(Entry("maps", {}))}, None)
    outputs = torch.rand(8, 2, 2, 2)
    for start, size in ((0, 4), (4, 4), (0, 2), (2, 2), (4, 4)):  # the second batch did not fit in a later layer
        keeper.begin(range(start, start + size), [True] * size)
        part = outputs[start : start + size]
        keeper.watch(layer, part.mean((2, 3)), part)
    rows = keeper.held["a"].of_images(0, 8)
    assert sorted(rows["images"].tolist()) == sorted([*range(8)] * 2)


def test_a_map_has_at_most_twelve_rows_and_columns():
    maps = torch.arange(4 * 24 * 6.0).view(4, 24, 6)
    assert torch.equal(shrink_maps(maps), maps.view(4, 12, 2, 6).mean(2))
    assert torch.equal(shrink_maps(maps[:, :5]), maps[:, :5])


def test_maps_of_too_many_units_and_of_tokens_of_few_images_are_not_kept():
    def layer(units, kind="maps_first", grid=(14, 14), name=None):
        return Layer(name or kind, kind, Pooling(kind, "avg"), units, grid=grid)

    assert choose_map_layers([layer(2048, grid=(7, 7)), layer(5, "vector", None)], 2) == {"maps_first"}
    most = LARGEST // (4 * SHOWN * 144)
    assert choose_map_layers([layer(most)], 2) == {"maps_first"}
    assert choose_map_layers([layer(most), layer(1, name="b")], 2) == set()
    assert choose_map_layers([layer(768, "tokens")], FEWEST - 1) == set()
    assert choose_map_layers([layer(768, "tokens")], FEWEST) == {"tokens"}
