"""Files that the real packages save, against their own `encode`, and one run's labels against those of their latents.

Each package has an environment of its own, below the folder that `CD_EXP_ENVIRONMENTS` names; one that is not there is
made with uv (`uv venv`, then `uv pip install` of the package beside this project's torch and torchvision):

    CD_EXP_ENVIRONMENTS=~/environments make slow-test

Without that variable the test is skipped. ViT-Prisma, sparsify, OpenAI's and Gemma Scope's layouts, and saev's schemas
1 to 5, are not among the packages that can be installed: `test_autoencoders.py` makes them from their sources.
"""

import os
import re
import shutil
import subprocess
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from cd_exp import clips, concepts, models, probes, similarity
from cd_exp.cache import Store
from cd_exp.dissection import RunInputs, dissect_layers
from cd_exp.errors import InputError
from cd_exp.features import ExtractionSettings, read_maps
from cd_exp.units import ActivationMatrix, sae
from cd_exp.units.autoencoder import read_autoencoder

pytestmark = pytest.mark.slow

QUIET = ExtractionSettings(progress=False, workers=0)
LIBRARIES = {
    "saelens": (["sae-lens==6.54.12"], "write_sae_lens.py", "topk_layer_norm", "sae_weights.safetensors"),
    "dictionary": (["dictionary-learning==0.1.0"], "write_dictionary_learning.py", "BatchTopKSAE", "ae.pt"),
    "overcomplete": (["overcomplete==0.3.0", "matplotlib<3.11"], "write_overcomplete.py", "jump", "state.pt"),
    "saev": (["saev==0.1.0"], "write_saev.py", "relu", "sae.pt"),
}
"""By the name of the environment: packages, the script that saves, and the case whose labels are compared."""

REFUSED = {
    **{"abstopk": "architecture=abstopk", "hidden_blocks": "encoder.mlp_blocks", "quantised": "tensor Q"},
    **{"hidden_layer_norms": "encoder.mlp_blocks", "matching_pursuit": "has no encoder"},
}
"""Cases that are not read, by what the refusal names."""

ANSWERS = {
    "AutoEncoderNew_alone": {"activation": "relu"},
    "AutoEncoderTopK_alone": {"activation": "topk"},
    "BatchTopKSAE_alone": {"activation": "batchtopk"},
    "JumpReluAutoEncoder_alone": {"centred": False},
    **{name: {"activation": "relu"} for name in ("relu", "batch_norm", "layer_norm")},
    **{name: {"activation": "topk", "k": 3} for name in ("topk", "topk_layer_norm", "archetypal")},
}
"""What has to be set for files without a JSON that says so."""


@pytest.fixture(scope="module")
def positions(tmp_path_factory):
    """Positions of layer4 of the built-in network, image after image, as a file."""
    model, probe = models.shapes_model(layers=["layer4"]), probes.shapes(size=60)
    store = Store(tmp_path_factory.mktemp("cache"))
    passes = read_maps(model, probe, layers=["layer4"], kept=range(60), store=store, settings=QUIET)
    values = torch.cat([maps["layer4"].movedim(1, -1).flatten(1, 2) for _, maps in passes()])
    path = tmp_path_factory.mktemp("inputs") / "positions.npy"
    np.save(path, values.flatten(0, 1).numpy())
    return path, values.shape[1], (model, probe, store)


def python_of(name: str, packages: list[str]) -> Path:
    """The interpreter of an environment, which is made where it is not there."""
    folder = os.environ.get("CD_EXP_ENVIRONMENTS")
    if not folder:
        pytest.skip("set CD_EXP_ENVIRONMENTS to a folder in which environments of the packages lie or are made")
    path = Path(folder).expanduser() / name
    if not (path / "bin/python").exists():
        uv = shutil.which("uv") or pytest.skip(f"{path} is not there, and no uv to make it with")
        torches = [f"{package}=={version(package).partition('+')[0]}" for package in ("torch", "torchvision")]
        subprocess.run([uv, "venv", "-q", "--python", "3.11", path], check=True)
        install = [uv, "pip", "install", "-q", "--python", path / "bin/python", *torches, *packages]
        if subprocess.run(install).returncode:
            shutil.rmtree(path)
            pytest.skip(f"{' '.join(packages)} cannot be installed here")
    return path / "bin/python"


@pytest.fixture(scope="module")
def cases(positions, tmp_path_factory):
    made: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in made:
            packages, script, *_ = LIBRARIES[name]
            folder = tmp_path_factory.mktemp(name)
            command = [python_of(name, packages), Path(__file__).parent / "libraries" / script, folder, positions[0]]
            subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": ""})
            made[name] = folder
        return made[name]

    return of


def weights_of(folder: Path) -> Path:
    names = ("state.pt", "sae_weights.safetensors", "ae.pt", "sae.pt")
    return next(folder / name for name in names if (folder / name).exists())


@pytest.mark.parametrize("name", LIBRARIES)
def test_what_is_read_is_what_the_library_computes(cases, positions, name):
    inputs = torch.from_numpy(np.load(positions[0]))
    compared = 0
    for folder in sorted(path.parent for path in cases(name).rglob("encode.npy")):
        answers = {} if (folder / "cfg.json").exists() or name == "saev" else ANSWERS.get(folder.name, {})
        if folder.name == "batchtopk" and name == "overcomplete":
            continue  # its threshold is in the whole module alone: converted below
        if folder.name in REFUSED:
            with pytest.raises(InputError, match=re.escape(REFUSED[folder.name])):
                read_autoencoder(weights_of(folder), activation="relu" if name == "overcomplete" else None)
            continue
        latents = read_autoencoder(weights_of(folder), **answers).encoder(inputs)
        expected = torch.from_numpy(np.load(folder / "encode.npy"))
        torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-4, msg=lambda text, at=folder: f"{at}: {text}")
        compared += 1
    assert compared >= {"saelens": 24, "dictionary": 13, "overcomplete": 7, "saev": 1}[name]


def test_whole_modules_of_overcomplete_are_converted_by_the_line_of_the_error(cases, positions):
    inputs = torch.from_numpy(np.load(positions[0]))
    folder = cases("overcomplete")
    for case in ("topk", "batchtopk", "batch_norm", "archetypal"):
        path = folder / case / "sae.pt"
        with pytest.raises(InputError, match="pickles an object") as refused:
            read_autoencoder(path)
        line = str(refused.value).partition("in Python: ")[2]
        subprocess.run([python_of("overcomplete", []), "-c", line], check=True, env={**os.environ, "PYTHONPATH": ""})
        latents = read_autoencoder(path.with_suffix(".safetensors")).encoder(inputs)
        expected = torch.from_numpy(np.load(folder / case / "encode.npy"))
        torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_labels_of_a_run_are_those_of_the_librarys_own_latents(cases, positions, tmp_path, name):
    *_, case, file = LIBRARIES[name]
    _path, per_image, (model, probe, store) = positions
    latents = np.load(cases(name) / case / "encode.npy").reshape(len(probe), per_image, -1).max(axis=1)
    np.save(tmp_path / "theirs.npy", latents)
    (tmp_path / "images.txt").write_text("\n".join(probe.ids), encoding="utf-8")
    few = partial(similarity.soft_wpmi, top_k=10)
    recipes = {"model": model, "probe": probe, "concepts": concepts.shapes(), "clip": clips.shapes_clip()}
    labels = [
        dissect_layers(RunInputs(**recipes, units=units, store=store, settings=QUIET), few, top=5).labels
        for units in (ActivationMatrix(str(tmp_path)), sae(layer="layer4", weights=str(cases(name) / case / file)))
    ]
    theirs, ours = labels[0]["theirs"], labels[1]["layer4.sae"]
    assert ours.descriptions == theirs.descriptions
