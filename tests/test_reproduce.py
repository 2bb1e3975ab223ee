"""`python -m cd_exp.reproduce`: ten kinds of real runs made again, and changes planted in what they rest on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.finished_runs import run_small

from cd_exp import probes
from cd_exp.errors import InputError
from cd_exp.io.digests import read_digests
from cd_exp.reproduce import compare_inputs, compare_results, differing_versions, main, reproduce_run
from cd_exp.verify import main as verify

OF_0_2_0 = Path(__file__).parent / "fixtures" / "of_0_2_0"
WORDS = ("red", "green", "blue", "yellow", "circle", "square", "star", "striped")
NET = """import torch
from torchvision import transforms


def build():
    torch.manual_seed(0)
    net = torch.nn.Sequential()
    net.add_module("conv", torch.nn.Conv2d(3, 8, 3))
    net.add_module("pool", torch.nn.AdaptiveAvgPool2d(1))
    return net, transforms.ToTensor(), None
"""
SIMILARITY = """def score(match, neurons, *, power=1):
    centred = neurons - neurons.mean(0)
    return centred.sign().T.float() @ (match.images @ match.texts.T) ** power
"""
OWN = (
    "model=custom", "model.factory=net.py:build", "model.layers=[conv]", "model.weights=weights.pt", "probe=folder",
    "probe.root=photos", "concepts=file", "concepts.path=words.txt", "similarity=custom",
    "clip=shapes", "similarity.function=sim.py:score", "similarity.options.power=1", "~probe.size", "~similarity.top_k",
    "stability.resamples=20",
)  # fmt: skip
FILES = (
    "units=matrix", "units.path=acts", "probe=ids", "probe.path=acts/images.txt", "clip=precomputed",
    "clip.folder=embeddings", "concepts=file", "concepts.path=words.txt", "~probe.size", "similarity.top_k=3",
)  # fmt: skip
KINDS = {
    "default": (),
    "methods_and_a_judge": ("baseline=netdissect", "judge=annotations"),
    "a_clip_as_judge": ("judge=clip", "judge.clip=shapes", "judge.untrained=true"),
    "our_function": ("similarity=whitened_wpmi", "~similarity.top_k", "judge=whitened"),
    "random_orders": ("similarity=rank_reorder", "~similarity.top_k", "model.layers=[fc]"),
    "linear": ("baseline=linear_explanations", "model.layers=[fc]"),
    "lists": ("features.keep=lists", "similarity=wpmi", "seed=3"),
    "directions": ("units=directions", "units.layer=layer4", "units.path=directions.npy"),
    "files": FILES,
    "own": OWN,
}


def furnish(folder: Path) -> None:
    """Images, words, weights, code, directions, activations and embeddings of a user's own."""
    (folder / "photos").mkdir()
    for number, image in enumerate(probes.shapes(size=24, seed=5)):
        image.save(folder / "photos" / f"{number:02d}.png")
    (folder / "words.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "net.py").write_text(NET)
    (folder / "sim.py").write_text(SIMILARITY)
    draw = torch.Generator().manual_seed(1)
    weights = {"conv.weight": torch.randn(8, 3, 3, 3, generator=draw), "conv.bias": torch.randn(8, generator=draw)}
    torch.save(weights, folder / "weights.pt")
    numbers = np.random.default_rng(0)
    np.save(folder / "directions.npy", numbers.normal(size=(5, 96)).astype(np.float32))
    for name in ("acts", "embeddings"):
        (folder / name).mkdir()
        (folder / name / "images.txt").write_text("".join(f"{number:02d}.png\n" for number in range(24)))
    np.save(folder / "acts" / "layer4.npy", numbers.random((24, 12), dtype=np.float32))
    np.save(folder / "embeddings" / "image_embeddings.npy", numbers.normal(size=(24, 16)).astype(np.float32))
    np.save(folder / "embeddings" / "words_text.npy", numbers.normal(size=(len(WORDS), 16)).astype(np.float32))
    (folder / "embeddings" / "words_names.txt").write_text("\n".join(WORDS) + "\n")


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    furnish(folder)
    return folder


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_made_again_is_the_same_bit_for_bit(world, kind, monkeypatch, capsys):
    monkeypatch.chdir(world)
    run = run_small(world / kind, *KINDS[kind])
    capsys.readouterr()
    assert main([str(run), "--trust", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["same"], said["stage"], said["unknown"], said["versions"], said["notes"]) == (True, "", [], {}, [])
    again = Path(said["out"])
    assert again == world / f"{kind}_again"
    for name in ("labels.csv", "judged.csv"):
        assert not (run / name).exists() or (again / name).read_bytes() == (run / name).read_bytes()
    assert not (again / "cache").exists()
    assert verify([str(again)]) == 0


@pytest.fixture(scope="session")
def own_run(world):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        return run_small(world / "own_run", *OWN)


def edit_manifest(run: Path, **settings: object) -> None:
    """Set values of the stored configuration, by dotted name with `__` for the dot."""
    manifest = json.loads((run / "manifest.json").read_text())
    for name, value in settings.items():
        *above, last = name.split("__")
        node = manifest["config"]
        for key in above:
            node = node[key]
        node[last] = value
    (run / "manifest.json").write_text(json.dumps(manifest))


def plant(change: str, folder: Path) -> None:
    if change == "image":
        pixels = np.array(probes.shapes(size=24, seed=5)[7])
        pixels[0, 0, 0] ^= 1
        from PIL import Image

        Image.fromarray(pixels).save(folder / "photos" / "07.png")
    elif change == "weight":
        weights = torch.load(folder / "weights.pt")
        weights["conv.weight"][3, 1, 1, 1] += 1e-6
        torch.save(weights, folder / "weights.pt")
    elif change == "word":
        (folder / "words.txt").write_text((folder / "words.txt").read_text().replace("star", "stars"))
    elif change == "seed":
        edit_manifest(folder / "own_run", seed=1)
    elif change == "setting":
        edit_manifest(folder / "own_run", similarity__options__power=2)
    else:
        (folder / "sim.py").write_text(SIMILARITY.replace("mean(0)", "median(0).values"))


CHANGES = {
    "image": ("images", ()),
    "weight": ("weights", ("model",)),
    "word": ("words", ("concepts",)),
    "seed": ("labels", ("labels.csv",)),
    "setting": ("scores", ("conv",)),
    "line": ("scores", ("conv",)),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_the_first_stage_that_a_planted_change_reaches_is_named(world, own_run, change, tmp_path, monkeypatch):
    folder = shutil.copytree(world, tmp_path / "copy", ignore=shutil.ignore_patterns("cache", "*_again"))
    monkeypatch.chdir(folder)
    plant(change, folder)
    result = reproduce_run(folder / "own_run", trust=True)
    stage, details = CHANGES[change]
    assert result.stage == stage
    assert set(details) <= set(result.details)
    assert not result.same
    notes = " ".join(result.notes)
    assert ("manifest.json" in notes) == (change in ("seed", "setting"))
    assert ("sim.py" in notes) == (change == "line")
    assert (folder / "own_run_again").exists() == (stage in ("scores", "labels"))


@pytest.mark.slow
def test_code_runs_with_trust_alone_and_a_new_folder_is_new(own_run, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(own_run.parent)
    assert main([str(own_run), "--out", str(tmp_path / "new")]) == 2
    assert "names code that would run" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError, match="is there already and not empty; give the name of a new folder"):
        reproduce_run(own_run, out=own_run, trust=True)


@pytest.mark.slow
def test_a_run_of_0_2_0_is_made_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([str(OF_0_2_0 / "run"), "--out", str(tmp_path / "again")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("same, bit for bit: images, weights, words, labels\n")
    assert "the run recorded nothing of its features and scores" in out


def test_inputs_differ_by_content_and_not_by_the_version_of_a_library():
    then = {"images": "a", "model": {"timm": "1.0", "weights": "w"}, "units": {}, "clip": {}, "concepts": "c"}
    assert compare_inputs(then, {**then, "model": {"timm": "1.1", "weights": "w"}}) == ("", ())
    assert compare_inputs(then, {**then, "model": {"timm": "1.0", "weights": "v"}, "concepts": "d"})[0] == "weights"
    assert compare_inputs(then, {**then, "concepts": "d"}) == ("words", ("concepts",))
    assert compare_inputs(then, {**then, "images": "b", "clip": 1}) == ("images", ("images",))
    assert differing_versions({"versions": {"a": "1"}, "threads": 1}, {"versions": {"a": "1"}, "threads": 2}) == {
        "threads": (1, 2)
    }


@pytest.fixture
def two(tmp_path):
    """A run, the same again, and what a newer manifest has of both."""
    folders = [shutil.copytree(OF_0_2_0 / "run", tmp_path / name) for name in ("then", "now")]
    manifest = json.loads((folders[0] / "manifest.json").read_text())
    manifest |= {"schema": 1, "digests": {"features": {"fc": "a", "texts": "b"}, "scores": {"fc": "c"}}}
    return *folders, manifest


def test_the_first_result_that_differs_is_named(two):
    then, now, manifest = two
    assert compare_results(then, manifest, now, manifest) == ("", (), ())
    other = {**manifest, "digests": {"features": {"fc": "a", "texts": "x"}, "scores": {"fc": "y"}}}
    assert compare_results(then, manifest, now, other) == ("features", ("texts",), ())
    other["digests"] = {**manifest["digests"], "scores": {"fc": "y"}}
    assert compare_results(then, manifest, now, other) == ("scores", ("fc",), ())
    (now / "tally_fc.csv").write_text("")
    (now / "labels.csv").unlink()
    assert compare_results(then, manifest, now, manifest) == ("labels", ("labels.csv", "tally_fc.csv"), ())
    other["images"] = {"used": 59, "skipped": ["7"]}
    assert compare_results(then, manifest, now, other)[0] == "images"


def test_seconds_and_answers_of_people_are_no_difference(two):
    then, now, manifest = two
    metrics = json.loads((now / "metrics.json").read_text())
    (now / "metrics.json").write_text(json.dumps(metrics | {"seconds": {"total": 1e6}}))
    lines = (then / "labels.csv").read_text().splitlines()
    asked = [f"{line},human_rating" if not number else f"{line},3" for number, line in enumerate(lines)]
    (then / "labels.csv").write_text("\n".join(asked) + "\n")
    assert compare_results(then, manifest, now, manifest) == ("", (), ())
    metrics["layers"]["fc"]["top1"] += 1e-9
    (now / "metrics.json").write_text(json.dumps(metrics))
    assert compare_results(then, manifest, now, manifest) == ("labels", ("metrics.json",), ())


def test_of_an_older_run_only_what_both_have_is_compared(two):
    then, now, manifest = two
    old = json.loads((OF_0_2_0 / "run" / "manifest.json").read_text())
    metrics = json.loads((now / "metrics.json").read_text())
    metrics["layers"]["fc"]["dead"] = 0
    (now / "metrics.json").write_text(json.dumps(metrics))
    assert compare_results(then, old, now, manifest) == ("", (), ("features", "scores"))
    assert compare_results(then, manifest, now, manifest)[0] == "labels"


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_what_is_no_run_is_one_line(tmp_path, capsys, words):
    assert main([str(tmp_path), *words]) == 2
    said = capsys.readouterr()
    message = json.loads(said.out)["error"] if words else said.err
    assert "holds no metrics.json; give the folder of a finished run" in message
    with pytest.raises(InputError, match=r"has no digests\.json"):
        read_digests(tmp_path)
