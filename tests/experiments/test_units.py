"""The experiments on latents and directions, small."""

import numpy as np
import pytest
import torch

from cd_exp import probes
from cd_exp.cache import Store
from cd_exp.features import ExtractionSettings
from cd_exp.units import sae
from experiments.directions import analysis as on_directions
from experiments.sae import analysis as on_latents
from experiments.sae.attributes import f1, masks
from experiments.sae.autoencoder import trained, untrained

QUIET = ExtractionSettings(progress=False, workers=0)


def test_an_autoencoder_finds_the_directions_that_data_is_made_of(tmp_path):
    generator = torch.Generator().manual_seed(0)
    true = torch.nn.functional.normalize(torch.randn(12, 16, generator=generator), dim=1)
    on = torch.rand(4000, 12, generator=generator)
    codes = torch.where(on > 0.9, on + torch.rand(4000, 12, generator=generator), 0.0)
    data = codes @ true
    autoencoder, explained = trained(data, latents=24, k=3, steps=400, seed=5, rate=3e-3)
    assert explained > 0.9
    decoder = torch.nn.functional.normalize(autoencoder.decoder, dim=1)
    matched = (true @ decoder.T).amax(dim=1)
    chance = (true @ untrained(data, latents=24, k=3, seed=5).decoder.T).amax(dim=1)
    assert (matched > 0.9).sum() >= 9 > (chance > 0.9).sum()
    units = sae(layer="x", weights=str(autoencoder.save(tmp_path / "sae.safetensors")), activation="topk")
    latents = units.encoding.latents(data[:5])
    assert (latents > 0).sum(dim=1).max() <= 3


def test_f1_is_that_of_the_strongest_positions():
    units = torch.tensor([[0.9, 0.0], [0.8, 0.0], [0.1, 0.7], [0.0, 0.0]])
    present = torch.tensor([[True, False], [True, False], [False, True], [False, True]])
    torch.testing.assert_close(f1(units, present), torch.tensor([[1.0, 0.0], [0.0, 2 / 3]]))


def test_masks_of_cells_are_those_of_the_pixels():
    probe = probes.shapes(size=2)
    maps = masks(probe, side=8).reshape(2, 8, 8, -1)
    annotated = probe.segmentation(1).maps
    number = int(annotated[0].max())  # a colour
    cell = annotated.shape[1] // 8
    pixels = (annotated == number).any(0).reshape(8, cell, 8, cell).mean((1, 3))
    np.testing.assert_array_equal(maps[1, ..., number].numpy(), pixels >= 0.5)


@pytest.mark.slow
def test_the_table_of_latents_has_a_row_for_each_kind(tmp_path):
    sizes = on_latents.Sizes(training=40, probe=60, masks=40, latents=32, k=4, steps=30, top_k=10)
    text = on_latents.table("layer3", tmp_path, Store(tmp_path / "cache"), sizes, QUIET)
    rows = [line for line in text.splitlines() if line.startswith(("| neurons", "| latents"))]
    assert [row.split("|")[2].strip() for row in rows] == ["192", "32", "32"]


@pytest.mark.long
def test_directions_of_probes_are_named_and_random_ones_are_not(tmp_path):
    store = Store(tmp_path / "cache")
    text = on_directions.table("layer3", tmp_path, store, QUIET, training=800, size=800)
    (probed, chance) = (float(line.split("|")[3].split("[")[0]) for line in text.splitlines()[2:])
    assert probed >= 60 > 20 >= chance


def test_probes_find_what_is_linear():
    generator = torch.Generator().manual_seed(0)
    activations = torch.randn(500, 6, generator=generator)
    present = (activations[:, :2] > 0).float()
    probes_read = torch.nn.functional.normalize(on_directions.linear_probes(activations, present), dim=1)
    assert (probes_read[:, :2].diagonal() > 0.95).all()
