"""The analyses on the built-in synthetic data set, and their arithmetic on cases small enough to see through."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from cd_exp import similarity
from cd_exp.errors import InputError
from experiments.activation_range import analysis as activation_range
from experiments.class_from_description import analysis as class_from_description
from experiments.compositional import analysis as compositional
from experiments.missing_concepts import analysis as missing_concepts
from experiments.qualitative import grid
from experiments.reopening import reopen
from experiments.weights_and_similarity import analysis as weights_and_similarity

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def where_the_run_was_started(monkeypatch, world):
    """Relative paths and variables of the environment in a manifest mean what they meant to the run."""
    monkeypatch.chdir(__file__.rpartition("/tests/")[0])
    monkeypatch.setenv("CD_EXP_CACHE", str(world / "cache"))


def test_a_run_opened_again_has_the_labels_it_wrote_whatever_newer_code_would_say(small, tmp_path):
    table = (small / "labels.csv").read_text()
    shutil.copytree(small, tmp_path / "run")
    (tmp_path / "run" / "labels.csv").write_text(table.replace("red circle", "a name of old"))
    assert "a name of old" in reopen(tmp_path / "run").data.labels["fc"].descriptions
    run = reopen(small)
    written = [line.split(",")[2] for line in (small / "labels.csv").read_text().splitlines()[1:]]
    assert [name for labels in run.data.labels.values() for name in labels.descriptions] == written
    assert not run.parts.store.made


def test_the_most_contributing_unit_is_that_of_the_predicted_class():
    activations = torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.0, 0.0]])
    weight = torch.tensor([[3.0, 1.0, 9.0], [1.0, 1.0, 9.0]])
    assert class_from_description.contributing(activations, weight, torch.tensor([0, 1])).tolist() == [0, 1]


def test_class_from_description_on_shapes(small):
    text = class_from_description.main([str(small)])
    assert "| predicted | 500 |" in text
    assert "| true | 500 |" in text
    with pytest.raises(InputError, match="layer 'layer3' is not in this run"):
        class_from_description.main([str(small), "--layer", "layer3"])


def test_correlation_is_pearsons():
    generator = np.random.default_rng(0)
    a = generator.normal(size=(5, 40))
    b = a + generator.normal(size=(5, 40))
    r, (low, high) = weights_and_similarity.correlation(a, b, resamples=500, seed=0)
    assert r == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    assert low < r < high


def test_weights_and_similarity_on_shapes(small):
    assert "| 9600 |" in weights_and_similarity.main([str(small)])


def test_missing_concepts_on_shapes(small):
    text = missing_concepts.main([str(small)])
    assert "| all images |" in text
    assert "| none of its true class |" in text


def test_the_strongest_images_are_passed_over():
    neurons = torch.tensor([[5.0, 1.0], [4.0, 2.0], [3.0, 3.0], [2.0, 4.0]])
    passed = activation_range.passed_over(neurons, share=0.25)
    assert passed.tolist() == [[2.0, 1.0], [4.0, 2.0], [3.0, 3.0], [2.0, 1.0]]
    assert torch.equal(activation_range.passed_over(neurons, share=0), neurons)


def test_activation_range_on_shapes(small):
    lines = activation_range.main([str(small), "--skip", "0", "0.05"]).splitlines()
    assert lines[2].endswith("| 100.0 |")
    assert len(lines) == 4


def test_compositional_pairs_are_built_from_words_and_judged_in_either_order(small):
    text = compositional.main([str(small), "--top", "5"])
    assert "of 100 units of fc get a pair" in text
    assert "of 100 units whose truth is two words" in text
    assert compositional.with_pairs(["a", "b", "c"]) == ("a", "b", "c", "a b", "a c", "b c")


def test_compositional_takes_the_hundred_best_words_and_scores_a_unit_whatever_else_is_asked(small):
    run = reopen(small)
    assert len(compositional.with_pairs([str(word) for word in range(compositional.TOP)])) == 100 + 4950
    assert compositional.composed(run, "fc", units=[7]) == compositional.composed(run, "fc", top=100, units=[7])
    whole = compositional.composed(run, "fc", top=6)
    assert compositional.composed(run, "fc", top=6, limit=50) == whole
    assert compositional.composed(run, "fc", top=6, units=[9, 3], limit=50) == [whole[9], whole[3]]
    with pytest.raises(InputError, match="fc has units 0 to 99, not 100"):
        compositional.composed(run, "fc", units=[100])


@pytest.mark.parametrize("function", [similarity.soft_wpmi, similarity.cos])
def test_compositional_scores_are_the_functions_own(function):
    match, neurons = torch.rand(40, 12), torch.rand(40, 5)
    whole = function(match, neurons)
    assert torch.allclose(compositional.scores(function, match, neurons, 3), whole[3], atol=1e-6)


def test_qualitative_grid_is_a_picture(small, tmp_path):
    grid.main([str(small), str(tmp_path / "grid.png"), "--units", "0", "7"])
    with Image.open(tmp_path / "grid.png") as picture:
        assert min(picture.size) > 100
    with pytest.raises(InputError, match="layer4 has units 0 to 95, not 96"):
        grid.main([str(small), str(tmp_path / "grid.png"), "--units", "96"])


def test_a_folder_without_a_run_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"holds no metrics.json; give the folder of a finished run"):
        reopen(tmp_path)


def test_features_that_are_gone_are_said_to_be_and_never_made(small, tmp_path):
    shutil.copytree(small, tmp_path / "run")
    manifest = json.loads((small / "manifest.json").read_text())
    manifest["config"]["cache"]["dir"] = str(tmp_path / "cache")
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        InputError,
        match=r"cache holds no features of clip images, fc, layer4 for probe .*; make them with the command of",
    ):
        reopen(tmp_path / "run")
    assert not list((tmp_path / "cache").rglob("*.npy"))
