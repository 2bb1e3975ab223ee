import base64
import hashlib
import re
from dataclasses import replace
from io import BytesIO
from typing import ClassVar

import numpy as np
import pytest
from helpers.made_outcomes import HOSTILE, Discs
from made_runs import MANIFEST, made_run
from PIL import Image

from cd_exp.cache import Store
from cd_exp.errors import InputError
from cd_exp.explorer import collect_pages, find_page, list_runs, read_pages, remove_old_pages, write_pages
from cd_exp.explorer.payload import decode_array
from cd_exp.explorer.thumbnails import crop_square, make_thumbnails
from cd_exp.probes.ids import Ids


@pytest.mark.parametrize("layout", ["single", "folder"])
def test_what_was_written_is_read_back(content, tmp_path, layout):
    whole = find_page({"a": content, "b": content}, title="two")
    assert write_pages(tmp_path, whole, layout=layout) == tmp_path / "explorer" / "index.html"
    pages = read_pages(tmp_path)
    assert pages == whole
    assert list_runs(pages).keys() == {"a", "b"}
    first = list_runs(pages)["a"]
    assert {**first.parts["run"], "key": ""} == {**content.parts["run"], "key": ""}
    assert first.parts["layer-0"] == content.parts["layer-0"]
    assert first.sheets == content.sheets


def test_layouts_follow_the_size_and_leave_nothing_of_each_other(content, tmp_path):
    whole = find_page({"a": content}, title="one")
    write_pages(tmp_path, whole, layout="folder")
    assert (tmp_path / "explorer" / "data").is_dir()
    write_pages(tmp_path, whole)
    assert not (tmp_path / "explorer" / "data").exists()
    write_pages(tmp_path, whole, largest=1000)
    assert (tmp_path / "explorer" / "data").is_dir()
    remove_old_pages(tmp_path)
    assert not (tmp_path / "explorer").exists()


def test_what_a_user_put_beside_the_explorer_stays(content, tmp_path):
    (tmp_path / "explorer").mkdir()
    (tmp_path / "explorer" / "notes.txt").write_text("mine")
    write_pages(tmp_path, find_page({"a": content}, title="one"))
    remove_old_pages(tmp_path)
    assert [path.name for path in (tmp_path / "explorer").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("layout", ["single", "folder"])
def test_the_policy_lets_run_what_the_page_brings_and_nothing_else(content, tmp_path, layout):
    text = write_pages(tmp_path, find_page({"a": content}, title=f"one {HOSTILE}"), layout=layout).read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    for part in (script, style):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert HOSTILE not in text


def test_a_folder_without_an_explorer_says_how_to_make_one(tmp_path):
    with pytest.raises(InputError, match=r"report\.explorer=auto"):
        read_pages(tmp_path)
    (tmp_path / "explorer").mkdir()
    (tmp_path / "explorer" / "index.html").write_text("<p>something else</p>")
    with pytest.raises(InputError, match="was not written by this program"):
        read_pages(tmp_path)


class Counting(Discs):
    """Counts how often an image is opened."""

    opened: ClassVar[list[int]] = []

    def __getitem__(self, index):
        self.opened.append(index)
        return super().__getitem__(index)


def test_every_distinct_image_is_decoded_once_and_then_cached(tmp_path):
    probe, store = Counting(30, 40), Store(tmp_path)
    Counting.opened.clear()
    first = make_thumbnails(probe, [[1, 5, 29], [2, 7]], store=store)
    sample = Counting.opened[:5]  # whose sizes are looked at before
    assert sorted(Counting.opened[5:]) == sorted(sample) == [1, 2, 5, 7, 29]
    Counting.opened.clear()
    assert make_thumbnails(probe, [[1, 5, 29], [2, 7]], store=store) == first
    assert sorted(Counting.opened) == sorted(sample)
    assert first.size == 40  # no larger than the images are


def test_runs_with_the_same_units_share_their_sheets(tmp_path):
    one, other = (make_thumbnails(Discs(30, 40), [[1, 5], last], store=Store(tmp_path)) for last in ([2, 7], [9, 11]))
    assert [a == b for a, b in zip(one.files, other.files, strict=True)] == [True, False]


@pytest.mark.parametrize("wide", [2048, 256, 100])
def test_a_thumbnail_lies_where_the_page_looks_for_it(tmp_path, wide):
    probe = Discs(90, 64)
    made = make_thumbnails(probe, [list(range(7, 90)), [0, 3]], store=Store(tmp_path), sheet=wide)
    for image in (0, 3, 7, 31, 89):
        number, within = divmod(made.places[image], made.columns**2)
        sheet = Image.open(BytesIO(list(made.files.values())[number]))
        assert sheet.size == (made.columns * 64, made.heights[number] * 64)
        y, x = divmod(within, made.columns)
        cut = sheet.crop((x * 64, y * 64, x * 64 + 64, y * 64 + 64))
        difference = np.asarray(cut, dtype=float) - np.asarray(crop_square(probe[image], 64), dtype=float)
        assert np.abs(difference).mean() < 8


def test_pictures_of_a_unit_are_its_strongest_images(content):
    run = content.parts["run"]
    index = decode_array(run["images"]["index"])
    pictures = decode_array(run["layers"][1]["pictures"])
    values = decode_array(content.parts["layer-1"]["values"])
    assert pictures.shape == (150, 10)
    assert (np.diff(values, axis=1) <= 0).all()
    shown = index[index >= 0].tolist()
    assert len(set(shown)) == len(shown)
    assert run["images"]["ids"] == [f"discs/{image:04d} & <b>.png" if image >= 0 else "" for image in index]


def test_with_very_many_images_fewer_of_each_unit_are_kept(tmp_path):
    run, outcome = made_run({"fc": 40}, tmp_path, images=60)
    content = collect_pages(run, outcome, manifest=MANIFEST, title="many", limit=50)
    shown = decode_array(content.parts["run"]["layers"][0]["pictures"])
    assert shown.shape[1] < 10
    assert (decode_array(content.parts["run"]["images"]["index"]) >= 0).sum() <= 50
    assert "weaker" in content.parts["layer-0"]


def test_of_images_without_pictures_the_labels_are_shown(tmp_path):
    run, outcome = made_run({"fc": 12}, tmp_path)
    known_by_id = replace(run, probe=Ids(name="ids", ids=[f"{row}.png" for row in range(60)]))
    content = collect_pages(known_by_id, outcome, manifest=MANIFEST, title="ids")
    assert not content.sheets
    assert not decode_array(content.parts["run"]["layers"][0]["pictures"]).size
    assert content.parts["run"]["names"]


def test_files_of_others_and_what_is_behind_links_stay(content, tmp_path):
    whole = find_page({"a": content}, title="one")
    write_pages(tmp_path, whole, layout="folder")
    data = tmp_path / "explorer" / "data"
    ours = {path.name for path in data.iterdir()}
    (data / "thesis.txt").write_text("three years")
    (data / "mine.js").write_text("let x = 1")
    (data / "photo.jpg").write_bytes(b"a photograph")
    (tmp_path / "outside.jpg").write_bytes(b"another's")
    listed = next(name for name in ours if name.endswith(".jpg"))
    (data / listed).unlink()
    (data / listed).symlink_to(tmp_path / "outside.jpg")
    write_pages(tmp_path, whole, layout="folder")
    remove_old_pages(tmp_path)
    assert {path.name for path in data.iterdir()} == {"thesis.txt", "mine.js", "photo.jpg"}
    assert (tmp_path / "outside.jpg").read_bytes() == b"another's"


def test_an_explorer_without_a_list_is_removed_by_what_its_files_hold(content, tmp_path):
    write_pages(tmp_path, find_page({"a": content}, title="one"), layout="folder")
    data = tmp_path / "explorer" / "data"
    (data / "written.json").unlink()
    (data / "thesis.txt").write_text("three years")
    remove_old_pages(tmp_path)
    assert [path.name for path in data.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("linked", ["explorer", "explorer/data"])
def test_nothing_is_written_or_removed_through_a_link(content, tmp_path, linked):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "0-run.js").write_text('explorer.receive("0-run",{});')
    folder = tmp_path / "run"
    (folder / linked).parent.mkdir(parents=True)
    (folder / linked).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is a link"):
        write_pages(folder, find_page({"a": content}, title="one"), layout="folder")
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["0-run.js"]
