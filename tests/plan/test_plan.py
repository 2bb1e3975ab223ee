"""A plan against what the run then did, and what a plan leaves alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from scipy import sparse

from cd_exp import plan
from cd_exp.config.compose import RunRequest
from cd_exp.config.construct import config_folder, register_schema
from cd_exp.errors import InputError
from cd_exp.experiment import Experiment, run_experiment
from cd_exp.plan.networks import outline_forward
from cd_exp.plan.planning import RunPlan, format_written

ROOT = Path(__file__).parents[2]
SMALL = ["probe.size=600", "similarity.top_k=20", "stability.resamples=10"]
PLAIN = ["logger=none", "features.progress=false", "report.figures=false", "report.html=false", "report.explorer=none"]
FEATURES = ("activations", "lists", "images", "texts")
CHOICES = {"model": "shapes", "probe": "shapes", "clip": "shapes", "similarity": "soft_wpmi", "baseline": "null"}


@pytest.fixture(scope="module", autouse=True)
def configuration():
    register_schema()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        yield


def planned(*words: str) -> RunPlan:
    return plan.plan_run(compose("config", overrides=[*words, *PLAIN]), CHOICES)


def execute(folder: Path, *words: str) -> None:
    config = compose("config", overrides=[*words, *PLAIN])
    folder.mkdir()
    run_experiment(Experiment.build(config, CHOICES), RunRequest(CHOICES, ()), folder=folder)


def on_disk(cache: Path) -> int:
    return sum(path.stat().st_size for kind in FEATURES for path in (cache / kind).rglob("values.np[yz]"))


def step(plan: RunPlan, what: str):
    return next(one for one in plan.steps if one.what == what)


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["features.keep=lists"]])
def test_a_run_takes_what_its_plan_says(tmp_path, more):
    words = [*SMALL, f"cache.dir={tmp_path}/cache", *more]
    before = planned(*words)
    assert not (tmp_path / "cache").exists()
    execute(tmp_path / "run", *words)
    assert before.bytes == pytest.approx(on_disk(tmp_path / "cache"), rel=0.1)
    after = planned(*words)
    assert after.bytes == 0
    assert step(after, "layer4").how == "cached"
    assert [one.what for one in after.steps if one.what == "one pass over the images"] == []


def test_no_picture_and_no_network_are_needed_for_activations_from_files(tmp_path, matrix):
    words = [*matrix, f"cache.dir={tmp_path}/cache"]
    before = planned(*words)
    assert step(before, "wide").size == "300 x 40"
    assert {one.how for one in before.steps[:3]} == {"cached"}
    assert "rows of images that are not in the probe, skipped: 20" in " ".join(before.notes)
    execute(tmp_path / "run", *words)
    assert before.bytes == pytest.approx(on_disk(tmp_path / "cache"), rel=0.1)


@pytest.fixture
def matrix(tmp_path) -> list[str]:
    """A dense layer and a sparse one, of more images than the probe set has."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "acts"
    folder.mkdir()
    values = generator.standard_normal((320, 40)).astype(np.float32).clip(0)
    np.save(folder / "wide.npy", values)
    sparse.save_npz(folder / "thin.npz", sparse.csr_array(values[:, :7]))
    names = [f"{number}.jpg" for number in range(320)]
    (folder / "images.txt").write_text("\n".join(names))
    (tmp_path / "images.txt").write_text("\n".join(names[:300]))
    np.save(tmp_path / "image_embeddings.npy", generator.standard_normal((300, 16)).astype(np.float32))
    np.save(tmp_path / "some_text.npy", generator.standard_normal((50, 16)).astype(np.float32))
    (tmp_path / "some_names.txt").write_text("\n".join(f"word {number}" for number in range(50)))
    return [
        "units=matrix", f"units.path={folder}", "probe=ids", f"probe.path={tmp_path}/images.txt", "clip=precomputed",
        f"clip.folder={tmp_path}", "concepts=file", f"concepts.path={tmp_path}/some_names.txt",
    ]  # fmt: skip


def test_latents_have_the_size_of_the_autoencoder(tmp_path):
    from safetensors.torch import save_file

    weights, said = {"W_enc": torch.randn(192, 500), "b_enc": torch.zeros(500)}, {"activation": "relu"}
    save_file(weights, tmp_path / "sae.safetensors", said)  # no setting has to repeat what the file says
    plan = planned(*SMALL, "units=sae", "units.layer=layer3", f"units.weights={tmp_path}/sae.safetensors",
                    f"cache.dir={tmp_path}/cache")  # fmt: skip
    assert step(plan, "layer3.sae").bytes == 4 * 600 * 500


def test_what_is_missing_is_named_and_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a plan downloads nothing"))
    plan = planned("model=resnet50", f"data_dir={tmp_path}/data", f"cache.dir={tmp_path}/cache")
    assert [one.name for one in plan.downloads] == [
        "timm/resnet50.tv_in1k/model.safetensors",
        "timm/vit_base_patch16_clip_224.openai/open_clip_model.safetensors",
        "cifar-100-binary.tar.gz",
    ]
    assert plan.images is None
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_missing_leave_the_rest_to_be_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    words = ["model=resnet18", "probe=shapes", "clip=shapes", "concepts=shapes", "probe.size=64"]
    plan = planned(*words, f"cache.dir={tmp_path}/cache", "model.layers=[layer1,layer4]")
    assert [one.name for one in plan.downloads] == ["timm/resnet18.tv_in1k/model.safetensors"]
    assert step(plan, "layer4").bytes == 4 * 64 * 512


def test_what_the_run_refuses_its_plan_refuses(tmp_path):
    with pytest.raises(InputError, match="layer 'layer9' is not in"):
        planned(*SMALL, "model.layers=[layer9]", f"cache.dir={tmp_path}/cache")


@pytest.mark.parametrize(("choice", "whole"), [("soft_wpmi", False), ("whitened_wpmi", True), ("cos", True)])
def test_a_function_that_reads_all_activations_is_told(tmp_path, choice, whole):
    plan = planned("probe.size=600", f"similarity={choice}", f"cache.dir={tmp_path}/cache")
    assert ("all activations are read: features.keep=lists will not do" in plan.notes) == whole


@pytest.mark.slow
def test_the_command_prints_it_and_leaves_nothing(tmp_path):
    words = [*SMALL, "plan=true", f"cache.dir={tmp_path}/cache", "hydra.run.dir=out"]
    command = [sys.executable, str(ROOT / "run.py"), *words]
    printed = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True).stdout
    assert "one pass over the images" in printed
    assert "plan: 600 images, " in " ".join(printed.split())
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cd_exp.plan.planning._free_bytes", lambda folder: 1000)
    run_plan = planned(*SMALL, f"cache.dir={tmp_path}/cache")
    from rich.console import Console

    plan.show_plan(Console(width=200), run_plan)
    assert "it does not fit: set cache.dir to a larger disk" in capsys.readouterr().out


def test_the_memory_of_a_network_is_that_of_its_largest_output():
    network = torch.nn.Sequential(torch.nn.Linear(10, 20), torch.nn.ReLU(), torch.nn.Linear(20, 5)).to("meta")
    assert outline_forward(network, torch.empty(3, 10, device="meta")) == (4 * 3 * 20, (3, 5))


def test_sizes_are_written_for_people():
    assert (format_written(999), format_written(1_500), format_written(2_000_000_000)) == ("999 B", "1.5 kB", "2.0 GB")
