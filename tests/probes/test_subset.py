"""One view takes a part of any probe set."""

import pickle

import numpy as np
import pytest
from PIL import Image

from cd_exp import probes
from cd_exp.errors import InputError
from cd_exp.probes.image_files import JoinedIds, NamedIds, NumberedIds, SelectedIds


@pytest.fixture
def tree(tmp_path):
    for number in range(6):
        Image.new("RGB", (4, 3), (number * 40, 200, 0)).save(tmp_path / f"{number}.png")
    return tmp_path


def test_limit_takes_the_first_or_draws_in_order(tree):
    probe = probes.folder(root=str(tree))
    assert probes.subset(probe, limit=2).ids == probe.ids[:2]
    assert probes.subset(probe, limit=99) is probe
    assert probes.subset(probe, limit=None) is probe
    drawn = {tuple(probes.subset(probe, limit=2, seed=seed).ids) for seed in range(10)}
    assert len(drawn) > 3
    assert all(sorted(ids) == list(ids) for ids in drawn)
    again = [probes.subset(probe, limit=2, seed=1) for _ in range(2)]
    assert again[0].ids == again[1].ids
    assert again[0].fingerprint == again[1].fingerprint
    with pytest.raises(InputError, match=r"probe.limit=0 leaves no image"):
        probes.subset(probe, limit=0)


def test_a_part_reads_only_its_own_files(tree):
    probe = probes.folder(root=str(tree))
    part = probes.subset(probe, limit=2)
    before = part.fingerprint
    (tree / "5.png").write_bytes(b"another")
    assert probes.subset(probes.folder(root=str(tree)), limit=2).fingerprint == before
    (tree / "1.png").write_bytes(b"another")
    assert probes.subset(probes.folder(root=str(tree)), limit=2).fingerprint != before


def test_a_part_of_rendered_scenes_keeps_masks(tree):
    whole = probes.shapes(size=9)
    part = probes.subset(whole, limit=4, seed=3)
    rows = [whole.ids.index(name) for name in part.ids]
    assert (part.concepts, part.categories, part.name) == (whole.concepts, whole.categories, "shapes")
    for position, row in enumerate(rows):
        np.testing.assert_array_equal(np.asarray(part[position]), np.asarray(whole[row]))
        np.testing.assert_array_equal(part.segmentation(position).maps, whole.segmentation(row).maps)
    assert not probes.subset(probes.folder(root=str(tree)), limit=2).has_masks
    with pytest.raises(IndexError):
        part[4]
    assert pickle.loads(pickle.dumps(part)).ids == part.ids


def test_every_set_takes_the_settings_of_all(tree):
    rendered = probes.with_common_settings(probes.shapes, {"size": 8, "seed": 5, "limit": 3})
    assert rendered.ids == ("5/00000", "5/00001", "5/00002")  # its own seed: other scenes
    joined = probes.with_common_settings(
        probes.concat, {"probes": {"a": probes.shapes(size=4), "b": probes.folder(root=str(tree))}, "limit": 5}
    )
    assert joined.ids == ("0/00000", "0/00001", "0/00002", "0/00003", "0.png")
    drawn = probes.with_common_settings(probes.folder, {"root": str(tree), "limit": 3, "seed": 1})
    assert drawn.ids == probes.subset(probes.folder(root=str(tree)), limit=3, seed=1).ids


def test_settings_that_are_of_no_use_are_refused(tree):
    for wrong, message in (
        ({"url": "http://x/y.zip"}, r"probe.url cannot be used with probe=folder, which downloads no archive"),
        ({"checksum": "md5:0"}, r"probe.checksum cannot be used with probe=folder"),
        ({"orient": "exiv"}, r"probe.orient 'exiv' is not a way to turn images; did you mean 'exif'"),
        ({"range": [1]}, r"probe.range=\[1\] must be two numbers"),
        ({"range": [5, 5]}, r"probe.range=\[5,5\] must be two numbers"),
        ({"range": [0, float("inf")]}, r"must be two numbers"),
    ):
        with pytest.raises(InputError, match=message):
            probes.with_common_settings(probes.folder, {"root": str(tree), **wrong})
    with pytest.raises(InputError, match=r"probe.range and probe.orient need a set of image files; shapes has none"):
        probes.with_common_settings(probes.shapes, {"size": 3, "range": [0, 1]})


def test_ids_of_a_million_images_are_not_a_million_strings():
    names = [f"train/n{i % 1000:08d}/n{i % 1000:08d}_{i}.JPEG" for i in range(20_000)]
    kept = NamedIds(names)
    assert list(kept) == names
    assert kept[-1] == kept[np.int64(19_999)] == names[-1]
    assert kept[3:5] == tuple(names[3:5])
    assert kept == names
    assert kept != names[1:]
    assert len(kept._text) + kept._ends.nbytes == sum(map(len, names)) + 8 * len(names)  # half of what strings take
    for bad in (20_000, -20_001):
        with pytest.raises(IndexError):
            kept[bad]
    assert list(NamedIds([])) == []
    assert list(NamedIds(["", "ü寿", ""])) == ["", "ü寿", ""]
    assert list(NumberedIds("val/", 2)) == ["val/00000", "val/00001"]
    assert list(SelectedIds(kept, np.array([5, 1]))) == [names[5], names[1]]
    assert list(JoinedIds([["a"], [], ["b", "c"]], ["", "x", "2/"])) == ["a", "2/b", "2/c"]
    assert kept.index(names[7]) == 7
    assert names[9] in kept
