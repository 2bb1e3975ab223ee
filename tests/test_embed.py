"""Anybody's photographs embedded once, and labelled from the folder with the same result."""

import json

import numpy as np
import pytest
from PIL import Image

from cd_exp import embed, probes
from cd_exp.cli.run_command_line import run_command_line
from cd_exp.clips import Precomputed

WORDS = ("red", "circle", "stripes", "blue", "square", "zebra")
QUIET = ("logger=none", "report.html=false", "report.figures=false", "features.progress=false", "features.workers=0")


@pytest.fixture
def photographs(tmp_path):
    (tmp_path / "photos").mkdir()
    for index, picture in enumerate(probes.shapes(size=40)):
        picture.save(tmp_path / f"photos/{index:02d}.png")
    (tmp_path / "words.txt").write_text("\n".join((*WORDS, "red", "")))
    return tmp_path


@pytest.mark.slow
def test_labels_from_the_folder_are_those_from_the_clip(photographs, monkeypatch, capsys):
    monkeypatch.chdir(photographs)
    quiet = ["--set", "features.progress=false", "--set", "features.workers=0"]
    assert embed.main(["photos", "--clip", "shapes", "--concepts", "words.txt", "out", *quiet]) == 0
    said = capsys.readouterr().out
    assert "40 images and 6 words: clip.folder=out" in said
    assert "note: words.txt: duplicate lines left out: 1 (7)" in said
    assert sorted(path.name for path in (photographs / "out").iterdir()) == [
        "image_embeddings.npy", "images.txt", "words_names.txt", "words_text.npy",
    ]  # fmt: skip
    for name, clip in (("a", ["clip=shapes"]), ("b", ["clip=precomputed", "clip.folder=out"])):
        words = ["model=shapes", "probe=folder", "probe.root=photos", "concepts=file", "concepts.path=words.txt"]
        run_command_line([*words, *clip, "similarity.top_k=10", *QUIET, f"hydra.run.dir={name}", "cache.dir=cache"])
    assert (photographs / "a/labels.csv").read_bytes() == (photographs / "b/labels.csv").read_bytes()
    ours, finished = (json.loads((photographs / f"{name}/metrics.json").read_text()) for name in "ab")
    # The truth's names are not among the words: a folder of finished embeddings has no text for them.
    for layer, figures in finished["layers"].items():
        lacking = {"clip_cosine", "clip_cosine_ci95", "cosine_units"} & set(ours["layers"][layer])
        assert set(figures) == set(ours["layers"][layer]) - lacking
    assert "clip_cosine" in ours["layers"]["fc"]
    said = " ".join(capsys.readouterr().out.split())
    assert "clip precomputed has no text of some true names: their CLIP cosine is absent" in said


def test_a_list_of_paths_and_templates(photographs, monkeypatch):
    monkeypatch.chdir(photographs)
    (photographs / "photos/list.txt").write_text("03.png\n01.png\n03.png\n")
    arguments = ["photos/list.txt", "out", "--clip", "shapes", "--concepts", "words.txt", "--template", "a {}"]
    assert embed.main([*arguments, "--set", "features.progress=false"]) == 0
    assert (photographs / "out/images.txt").read_text() == "03.png\n01.png\n"
    assert np.load(photographs / "out/words_text.npy").shape == (6, 128)
    assert len(Precomputed("out").stored_images(["01.png"])) == 1


USUAL = {"images": "photos", "out": "out", "clip": "shapes", "concepts": ["words.txt"], "set": []}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"clip": "shapez"}, "clip 'shapez' is not known; did you mean 'shapes'"),
        ({"images": "nowhere"}, "probe.path=nowhere: there is no such file"),
        ({"concepts": ["none.txt"]}, "concepts.path=none.txt: there is no such file"),
        ({"out": "photos"}, "photos exists and is not empty"),
        ({"concepts": ["words.txt", "photos/words.txt"]}, "two files of --concepts"),
        ({"set": ["clap=1"]}, "clap"),
        ({"set": ["features.workers=0"]}, "2 of 42 images cannot be read: 90.png, 91.png; mend or remove them"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(photographs, monkeypatch, capsys, wrong, message):
    monkeypatch.chdir(photographs)
    if "42 images" in message:
        for name in ("90.png", "91.png"):
            (photographs / "photos" / name).write_bytes(b"no picture")
    else:
        (photographs / "photos/words.txt").write_text("a\n")
    arguments = USUAL | wrong
    options = [word for key in ("concepts", "set") for value in arguments[key] for word in (f"--{key}", value)]
    assert embed.main([arguments["images"], "--clip", arguments["clip"], *options, arguments["out"]]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert message in error
    assert "\n" not in error
    assert not (photographs / "out").exists()


def test_names_that_no_line_can_hold_are_refused(photographs, monkeypatch, capsys):
    monkeypatch.chdir(photographs)
    Image.new("RGB", (4, 4)).save(photographs / "photos/a\nb.png")
    assert embed.main(["photos", "out", "--clip", "shapes", "--concepts", "words.txt"]) == 2
    assert "1 images have control characters in their names: 'a\\nb.png'" in capsys.readouterr().err
