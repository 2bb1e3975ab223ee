"""Runs on the command line with sets that are read in another way."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from cd_exp import probes
from cd_exp.cli.run_command_line import run_command_line
from cd_exp.errors import InputError

QUIET = ("logger=none", "report.html=false", "report.explorer=none", "features.progress=false", "features.workers=0")
COMMON = ("model=shapes", "model.layers=[layer4]", "similarity.top_k=10", "report.figures=false", "cache.dir=cache")


@pytest.fixture(autouse=True)
def pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for index, picture in enumerate(probes.shapes(size=30)):
        picture.save(f"photos/{index:02d}.png")
    (tmp_path / "words.txt").write_text("red\ncircle\nstripes\nblue\n")
    return tmp_path


def run(name, *words):
    run_command_line([*COMMON, *QUIET, "concepts=file", "concepts.path=words.txt", f"hydra.run.dir={name}", *words])


@pytest.mark.slow
def test_a_tar_gives_the_labels_and_the_cache_entries_of_its_folder(pictures):
    with tarfile.open("shard.tar", "w") as archive:
        for path in sorted((pictures / "photos").iterdir()):
            archive.add(path, path.name)
    run("a", "probe=folder", "probe.root=photos")
    run("b", "probe=tar", "probe.path=shard.tar")
    assert (pictures / "a/labels.csv").read_bytes() == (pictures / "b/labels.csv").read_bytes()
    assert json.loads((pictures / "b/manifest.json").read_text())["cache"]["made"] == []  # the same pictures


@pytest.mark.slow
def test_a_part_and_a_range_are_other_pictures(pictures, capsys):
    for path in (pictures / "photos").iterdir():
        with Image.open(path) as picture:
            grey = np.asarray(picture.convert("L")).astype(np.uint16) * 16
        stream = io.BytesIO()
        Image.fromarray(grey).save(stream, "PNG")
        path.write_bytes(stream.getvalue())
    run("dark", "probe=folder", "probe.root=photos", "probe.limit=20", "probe.seed=1")
    said = " ".join(capsys.readouterr().out.split())
    assert "16 of 16 sampled images hold more than 8 bits a value" in said
    assert "nearly black or of one grey" in said
    run("mapped", "probe=folder", "probe.root=photos", "probe.limit=20", "probe.seed=1", "probe.range=[0,4080]")
    assert "sampled images" not in capsys.readouterr().out
    used = [json.loads((pictures / f"{name}/manifest.json").read_text()) for name in ("dark", "mapped")]
    assert [each["images"]["used"] for each in used] == [20, 20]
    assert used[0]["fingerprints"]["images"] != used[1]["fingerprints"]["images"]


def test_ids_alone_are_refused_where_pictures_are_needed(pictures):
    (pictures / "images.txt").write_text("a.png\nb.png\n")
    with pytest.raises(InputError, match=r"probe=ids has no images, and this needs them: use units and a clip whose"):
        run("ids", "probe=ids", "probe.path=images.txt", "similarity.top_k=1")


@pytest.mark.slow
def test_joined_sets_are_dissected_where_one_has_masks(pictures):
    joined = ("probe=concat", "~probe.probes.broden", "~probe.probes.imagenet_val",
              "+probe@probe.probes.rendered=shapes", "probe.probes.rendered.size=25",
              "+probe@probe.probes.photos=folder", "probe.probes.photos.root=photos")  # fmt: skip
    run("joined", *joined, "baseline=netdissect")
    assert (pictures / "joined/tally_layer4.csv").exists()
    assert json.loads((pictures / "joined/manifest.json").read_text())["images"]["used"] == 55
