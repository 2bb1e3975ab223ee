"""Where in a picture a unit is active, on the embedded network."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from cd_exp import clips, concepts, models, probes, similarity
from cd_exp.cache import Store
from cd_exp.dissection import RunInputs, dissect_layers
from cd_exp.explorer.heatmaps import LEVELS, MISSING, find_rows, make_heat_maps, select_maps
from cd_exp.features import ExtractionSettings, read_maps
from cd_exp.features.strongest_maps import crop_region


def run_with(folder, *, maps):
    model = models.shapes_model(layers=["layer4", "fc"], final="fc")
    inputs = RunInputs(
        model=model,
        probe=probes.shapes(size=60),
        concepts=concepts.shapes(),
        clip=clips.shapes_clip(),
        store=Store(folder),
        settings=ExtractionSettings(device="cpu", progress=False, batch_size=16, workers=0, maps=maps),
    )
    return dissect_layers(inputs, similarity.cos, top=5)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose features were made without maps."""
    return run_with(tmp_path_factory.mktemp("cache"), maps=False)


@pytest.fixture(scope="module")
def shown(run):
    strongest = {layer: run.features.strongest(layer, 4).indices for layer in ("layer4", "fc")}
    return find_rows(strongest, run.features.kept)


@pytest.mark.slow
def test_each_map_is_that_of_the_units_image_scaled_to_the_unit(run, shown):
    heat_maps, region = make_heat_maps(run, shown, again=True)
    assert list(heat_maps) == ["layer4"]  # a vector has no extent
    assert region is not None
    images = list(range(60))
    one_pass = read_maps(run.model, run.probe, layers=["layer4"], kept=images, store=run.store, settings=run.settings)
    every = torch.cat([values["layer4"] for _, values in one_pass()])
    for unit in (0, 17, 95):
        expected = every[shown["layer4"][unit].tolist(), unit].numpy()
        low, high = expected.min(), expected.max()
        scaled = (expected - low) / (high - low) * LEVELS
        np.testing.assert_allclose(heat_maps["layer4"][unit], scaled, atol=0.51)


def test_maps_are_made_once(run, shown, monkeypatch):
    first, _ = make_heat_maps(run, shown, again=True)
    monkeypatch.setattr("cd_exp.explorer.heatmaps._pass_again", None)
    again, _ = make_heat_maps(run, shown, again=True)
    assert (first["layer4"] == again["layer4"]).all()


def test_without_maps_in_the_cache_there_is_no_pass_that_was_not_asked_for(run, shown):
    assert make_heat_maps(run, shown, again=False) == ({}, None)


def test_maps_kept_with_the_features_are_those_of_another_pass(run, shown, tmp_path, monkeypatch):
    kept_run = run_with(tmp_path, maps=True)
    expected, region = make_heat_maps(run, shown, again=True)
    monkeypatch.setattr("cd_exp.explorer.heatmaps._pass_again", None)
    kept, seen = make_heat_maps(kept_run, {"layer4": shown["layer4"]}, again=True)
    assert [seen.left, seen.top, seen.right, seen.bottom] == [region.left, region.top, region.right, region.bottom]
    differences = np.abs(kept["layer4"].astype(int) - expected["layer4"])
    assert differences.max() <= 1
    assert (differences > 0).mean() < 0.01  # between two levels, and rounded the other way


def test_an_image_without_a_map_is_given_none_and_the_others_are_scaled_over_those_shown():
    maps = np.array([[[[0, 40]], [[10, 60]], [[20, 65535]]]], dtype=np.uint16)
    selected = select_maps(maps, np.array([[7, 3, 5]]), np.array([[3, 8, 7]]))
    assert selected.tolist() == [
        [[[round(10 / 60 * LEVELS), LEVELS]], [[MISSING, MISSING]], [[0, round(40 / 60 * LEVELS)]]]
    ]
    assert (select_maps(maps, np.array([[7, 3, 5]]), np.array([[1, 2]])) == MISSING).all()


def normalised(*steps):
    return v2.Compose([*steps, v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.2] * 3)])


def test_what_the_network_sees_of_a_picture_is_found_out():
    region = crop_region(normalised(v2.Resize(256), v2.CenterCrop(224)))
    assert [region.left, region.top, region.right, region.bottom] == pytest.approx(
        [1 / 16, 1 / 16, 15 / 16, 15 / 16], abs=0.01
    )
    whole = crop_region(normalised(v2.Resize(64), v2.CenterCrop(64)))
    assert [whole.left, whole.top, whole.right, whole.bottom] == pytest.approx([0, 0, 1, 1], abs=0.02)


def test_where_that_depends_on_the_picture_there_are_no_maps():
    assert crop_region(normalised(v2.Resize((64, 64)))) is None  # squashes: a wide picture is seen whole
    assert crop_region(normalised(v2.Resize(64), v2.CenterCrop(64), v2.Grayscale())) is None
    assert crop_region(normalised(v2.Resize(64), v2.CenterCrop(64), v2.RandomHorizontalFlip(1.0))) is None
    assert crop_region(lambda picture: torch.zeros(3, 8, 8)) is None
