"""Priors, probabilities and general labels through whole runs: files, metrics, notes, and what is refused."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers.reading import read_rows

from cd_exp import clips, concepts, models, probes, similarity
from cd_exp.cache import Store
from cd_exp.calibration import Belief, Fitted, p_right
from cd_exp.cli import entry
from cd_exp.dissection import RunInputs, dissect_layers
from cd_exp.features import ExtractionSettings
from cd_exp.hierarchy import File
from cd_exp.shapes import CLASSES

ROOT = Path(__file__).parents[1]
QUIET = ExtractionSettings(progress=False, workers=0)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """Each class of the built-in scenes is a kind of its shape."""
    path = tmp_path_factory.mktemp("kinds") / "kinds.csv"
    lines = [f"{name},{name.split()[1]}s" for name in CLASSES]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Type the command: (exit status, standard error, run folder)."""

    def command(*words):
        monkeypatch.chdir(ROOT)
        monkeypatch.setenv("CD_EXP_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("sys.argv", ["run.py", *words, "logger=none", f"hydra.run.dir={tmp_path / 'run'}"])
        status = 0
        try:
            entry.main()
        except SystemExit as leaving:
            status = leaving.code or 0
        return status, capsys.readouterr().err, tmp_path / "run"

    return command


def dissect(store, function, **more):
    recipes = {"model": models.shapes_model(layers=["fc"]), "probe": probes.shapes(size=200)}
    recipes |= {"concepts": concepts.shapes(), "clip": clips.shapes_clip()}
    return dissect_layers(RunInputs(**recipes, store=store, settings=QUIET), function, top=5, resamples=6, **more)


@pytest.mark.slow
def test_general_labels_of_a_layer(store, kinds):
    result = dissect(store, partial(similarity.soft_wpmi), hierarchy=File(str(kinds), precision=0.7))
    labels = result.labels["fc"]
    assert len(labels.general_label) == 100
    assert {"anything"} < set(labels.general_label)
    narrow = labels.general_bits > 0
    assert (labels.general_p[narrow] < 1).all()
    for name, right, truth in zip(labels.general_label, labels.general_right, labels.truth, strict=True):
        whole = name == "anything" or name in truth or name == f"{truth[0].split()[1]}s"
        assert right == float(whole)
    assert any("of 565 concepts are not in it" in note for note in result.notes)


@pytest.mark.slow
def test_each_layer_has_the_probability_of_its_own_prior(store):
    result = dissect(store, similarity.whitened_wpmi)
    labels, choice = result.labels["fc"], result.priors["fc"]
    fixed = dissect(store, partial(similarity.whitened_wpmi, prior_weight=choice.weight)).labels["fc"]
    assert labels.descriptions == fixed.descriptions
    np.testing.assert_allclose(labels.stability, fixed.stability)
    np.testing.assert_allclose(labels.p_right, fixed.p_right)
    assert dissect(store, similarity.cos).labels["fc"].p_right is None


@pytest.mark.slow
def test_constants_of_a_users_own_are_taken(store):
    own = Fitted("soft_wpmi", {"prior_weight": 1.0}, Belief(1.0, 2.0, 3.0))
    labels = dissect(store, similarity.soft_wpmi, calibration=own).labels["fc"]
    np.testing.assert_allclose(labels.p_right, p_right(labels.stability, labels.margin, own.belief))


@pytest.mark.slow
def test_a_run_says_what_it_chose_and_believes(run, kinds):
    words = ["probe.size=300", "similarity=whitened_wpmi", "hierarchy=file", f"hierarchy.path={kinds}"]
    status, _, folder = run(*words, "stability.resamples=8", "features.progress=false", "report.explorer=single")
    assert status == 0
    metrics = json.loads((folder / "metrics.json").read_text())
    fc = metrics["layers"]["fc"]
    assert {"prior_weight", "prior_agreement", "prior_margin", "p_right_mean", "p_right_share", "general_right",
            "general_bits", "general_vague", "graded_accuracy"} <= fc.keys()  # fmt: skip
    assert 0 <= fc["general_right"] <= 1
    assert "prior" in metrics["seconds"]
    priors = json.loads((folder / "manifest.json").read_text())["priors"]
    assert priors["fc"]["prior_weight"] == fc["prior_weight"]
    assert set(priors["fc"]["agreement"]) == set(priors["fc"]["information"]) == {"0", "0.4", "0.85"}
    rows = read_rows(folder / "labels.csv")
    assert list(rows[0])[9:14] == ["stable_set", "p_right", "general_label", "general_p", "general_bits"]
    assert (folder / "figures/reliability.png").is_file()


@pytest.mark.parametrize(("words", "message"), [
    (["similarity=cos", "hierarchy=wordnet"], "hierarchy needs constants, and there are none for similarity=cos"),
    (["similarity.scale=30", "hierarchy=wordnet"], "take whitened_wpmi, soft_wpmi, wpmi with default settings"),
    (["hierarchy=wordnet", "hierarchy.precision=0.99"], "hierarchy.precision=0.99 is out of range"),
    (["calibration.path=none.json"], "calibration.path=none.json cannot be read as constants"),
    (["similarity=whitened_wpmi", "similarity.prior_weight=automatic"], "did you mean 'auto'?"),
])  # fmt: skip
def test_what_does_not_go_together_is_one_line(run, words, message):
    status, error, folder = run(*words)
    assert status == 2
    assert message in error
    assert error.count("\n") == 1
    assert not folder.exists()
