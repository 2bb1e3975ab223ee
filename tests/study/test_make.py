"""The folder of a study: what lies in it, and what nobody may learn from it."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from cd_exp.errors import InputError
from cd_exp.referee.__main__ import main as referee
from cd_exp.study import make as making
from cd_exp.study.__main__ import main
from cd_exp.study.make import Plan, Words, draw, make, open_run, read_units, strongest_needed

pytestmark = pytest.mark.slow


def command(*words):
    return main(["make", *map(str, words)])


def refused(capsys, *words):
    assert command(*words) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


def test_the_folder_holds_what_it_should(made):
    folder = made("rating")
    assert {path.name for path in folder.iterdir()} == {
        "study.json",
        "key.json",
        "known.html",
        "page.html",
        "tasks.csv",
        "images",
    }
    study, key = (json.loads((folder / name).read_text()) for name in ("study.json", "key.json"))
    assert study["schema"] == 1
    assert len(study["run_digest"]) == len(study["images_digest"]) == 64
    tasks = [i for batch in study["batches"] for i in batch if key["trials"][i]["kind"] == "task"]
    assert len(tasks) == len(set(tasks))
    assert {(key["trials"][i]["layer"], key["trials"][i]["unit"]) for i in tasks} == {
        (u["layer"], u["unit"]) for u in key["units"]
    }
    for batch in study["batches"]:
        assert sum(key["trials"][i]["kind"] == "catch" for i in batch) == 10
    with (folder / "tasks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["task"] for row in rows] == [i for batch in study["batches"] for i in batch]
    assert all((folder / name).is_file() for row in rows for name in row["images"].split())
    assert json.loads(rows[0]["descriptions"]) == key["trials"][rows[0]["task"]]["texts"]


@pytest.mark.parametrize("design", ["rating", "presence", "choice", "intruder"])
def test_nothing_that_raters_see_names_a_method_unit_layer_or_file(made, run, design):
    folder = made(design)
    key = json.loads((folder / "key.json").read_text())
    seen = "".join(
        re.sub(r"data:image/\w+;base64,[A-Za-z0-9+/=]+", "", path.read_text())
        for path in (*folder.glob("page*.html"), folder / "tasks.csv", folder / "study.json")
    )
    seen += " ".join(path.name for path in (folder / "images").iterdir())
    names = {"clip_dissect", "netdissect", "layer4", "fc", "resnet", key["salt"]}
    names |= {name for trial in key["trials"].values() for name in trial["images"]}  # as `101/17`
    assert not names & set(re.findall(r"[\w/]+", seen))
    assert not any(name in seen for name in ("dissect", "layer4", "resnet", str(run), f" {run.name}/"))
    page = json.loads(
        re.search(r'id="study-data">(.*?)</script>', next(folder.glob("page*.html")).read_text(), re.S)[1]
    )
    assert {frozenset(task) for task in page["tasks"].values()} == {frozenset({"images", "texts"})}


@pytest.mark.parametrize("design", ["rating", "presence", "choice", "intruder"])
def test_who_runs_the_study_can_look_at_trials_of_known_answer(made, design):
    folder = made(design)
    text = (folder / "known.html").read_text()
    assert text.count("<section>") == 34
    assert all((folder / name).is_file() for name in re.findall(r'src="([^"]+)"', text))


def test_images_hold_pixels_and_nothing_else(made):
    for path in sorted((made("rating") / "images").iterdir())[:5]:
        with Image.open(path) as image:
            assert not image.info
            assert not image.getexif()


def test_large_photographs_are_shrunk_and_lose_what_their_files_say(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (900, 1200, 3), dtype=np.uint8))
    exif = image.getexif()
    exif[0x010E] = "secret place"
    image.save(tmp_path / "one.jpg", exif=exif)
    with Image.open(tmp_path / "one.jpg") as picture:
        content = making._encode_image(picture, 224)
    assert b"secret" not in content
    assert content.startswith(b"\xff\xd8")


def test_the_same_seed_draws_the_same_tasks(run):
    plan = Plan("rating", units=6, seed=3)
    opened = open_run(run, (), strongest=strongest_needed(plan))
    first, second = (draw(opened.source, plan) for _ in range(2))
    assert first.tasks == second.tasks
    assert first.batches == second.batches
    assert draw(opened.source, Plan("rating", units=6, seed=4)).tasks != first.tasks


def test_pages_are_split_where_they_grow_too_large(run, tmp_path):
    plan = Plan("rating", units=12, batch=4)
    study, pages = make(run, tmp_path / "out", plan, Words(), largest=700_000)
    assert len(pages) > 1
    batches = []
    for name in pages:
        text = (tmp_path / "out" / name).read_text()
        assert len(text) < 700_000
        data = json.loads(re.search(r'id="study-data">(.*?)</script>', text, re.S)[1])
        assert set(data["tasks"]) == {i for batch in data["batches"].values() for i in batch}
        batches += list(data["batches"].values())
    assert batches == [list(batch) for batch in study.batches]


def test_consent_title_and_contact_are_text(run, tmp_path):
    words = Words(title="<b>&", consent="One.\n\n</script><script>alert(1)</script>", contact="a@b.c", code="CODE1")
    make(run, tmp_path / "out", Plan("rating", units=4), words)
    text = (tmp_path / "out/page.html").read_text()
    assert "<title>&lt;b&gt;&amp;</title>" in text
    assert text.count("<script") == 2
    data = json.loads(re.search(r'id="study-data">(.*?)</script>', text, re.S)[1])
    assert data["consent"] == ["One.", "</script><script>alert(1)</script>"]
    assert data["code"] == "CODE1"


def test_units_of_ones_own_come_from_a_cut_of_labels_csv(run, tmp_path):
    lines = (run / "labels.csv").read_text().splitlines()
    (tmp_path / "mine.csv").write_text("\n".join([lines[0], lines[4], lines[9]]) + "\n")
    among = read_units(tmp_path / "mine.csv")
    assert len(among) == 2
    opened = open_run(run, ("clip_dissect",), strongest=9)
    study = draw(opened.source, Plan("rating", among=among))
    assert [(unit.layer, unit.unit) for unit in study.units] == list(among)


def name_code(folder, run, tmp_path):
    """A copy of a run whose manifest names a file that leaves `ran` behind when it is loaded."""
    shutil.copytree(run, folder)
    (tmp_path / "sim.py").write_text(
        f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
        "def project(match, neurons):\n    return neurons.T @ match.images @ match.texts.T\n"
    )
    manifest = json.loads((folder / "manifest.json").read_text())
    code = f"{tmp_path / 'sim.py'}:project"
    manifest["config"]["similarity"] = {"_target_": "cd_exp.similarity.custom", "function": code, "options": {}}
    manifest["code"] = {"similarity.function": {"code": code, "sha256": "0" * 64}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_code_that_a_run_folder_names_runs_only_with_trust(run, tmp_path, capsys):
    folder = name_code(tmp_path / "theirs", run, tmp_path)
    options = ("--design", "rating", "--units", 3)
    said = refused(capsys, folder, *options, "--out", tmp_path / "out")
    assert "sim.py:project (similarity.function); read it, and add --trust" in said
    assert main(["plan", str(folder), *map(str, options)]) == 2
    capsys.readouterr()
    assert referee([str(folder), "--out", str(tmp_path / "table")]) == 2
    assert "add --trust" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
    open_run(folder, (), strongest=9, trust=True)
    assert "is not the file that the manifest of" in capsys.readouterr().err
    assert (tmp_path / "ran").exists()


def test_what_a_user_can_mend_is_one_line(run, tmp_path, capsys):
    out = ("--out", tmp_path / "out", "--design", "rating")
    assert "holds no metrics.json" in refused(capsys, tmp_path, *out)
    assert "--methods 'netdisect' is not in" in refused(capsys, run, *out, "--methods", "netdisect")
    assert "--catch 9 is too small" in refused(capsys, run, *out, "--catch", 9)
    assert "--units 0 is too small" in refused(capsys, run, *out, "--units", 0)
    assert "--images 2 leaves no group" in refused(capsys, run, *out[:2], "--design", "intruder", "--images", 2)
    assert "the run has 500 images" in refused(capsys, run, *out, "--images", 60)
    assert "is no web address" in refused(capsys, run, *out, "--units", 4, "--submit-to", "example.org")
    assert "cannot be read" in refused(capsys, run, *out, "--units-from", tmp_path / "none.csv")
    (tmp_path / "wrong.csv").write_text("layer,unit\nfc,seven\n")
    assert "'seven' is no unit" in refused(capsys, run, *out, "--units-from", tmp_path / "wrong.csv")
    assert "cannot be read as text" in refused(capsys, run, *out, "--consent", tmp_path / "none.txt")
    assert not (tmp_path / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    assert "is there already and not empty" in refused(capsys, run, "--out", tmp_path / "full", "--design", "rating")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_units_of_a_list_are_taken_once_without_blanks_around_them(tmp_path, encoding):
    (tmp_path / "mine.csv").write_text("layer,unit\n fc , 3 \nfc,03\nfc,0\n", encoding=encoding)
    assert read_units(tmp_path / "mine.csv") == (("fc", 3), ("fc", 0))
    (tmp_path / "mine.csv").write_text("layer,unit,unit\nfc,3,4\n", encoding=encoding)
    with pytest.raises(InputError, match=r"has two columns 'unit'; rename one"):
        read_units(tmp_path / "mine.csv")
