"""Tar shards in webdataset's layout."""

import io
import pickle
import tarfile
from importlib import import_module

import numpy as np
import pytest
from PIL import Image

from cd_exp import probes
from cd_exp.errors import InputError


def encoded(grey: int, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 3), (grey, 0, 0)).save(stream, kind)
    return stream.getvalue()


def write(path, members):
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


@pytest.fixture
def shards(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in range(3):
        members = []
        for sample in range(4):
            key = f"{shard}{sample:05d}"
            members += [
                (f"{key}.cls", b"7"),
                (f"{key}.png", encoded(shard * 40 + sample)),
                (f"{key}.json", b"{}"),
                (f"{key}.txt", b"a cat"),
            ]
        write(folder / f"train-{shard:04d}.tar", [("._000.png", b"x"), *members])
    return folder


def test_pictures_in_order_at_random_and_nothing_else(shards):
    probe = probes.tar(path=str(shards))
    assert len(probe) == 12
    assert probe.ids[:2] == ("train-0000/000000.png", "train-0000/000001.png")
    assert [probe[index].getpixel((0, 0))[0] for index in (11, 0, 5)] == [83, 0, 41]
    assert pickle.loads(pickle.dumps(probe))[11].getpixel((0, 0))[0] == 83


@pytest.mark.parametrize("pattern", ["train-{0001..0002}.tar", "train-000[12].tar"])
def test_patterns(shards, pattern):
    assert len(probes.tar(path=str(shards / pattern))) == 8
    assert len(probes.tar(path=str(shards / "train-0002.tar"))) == 4


def test_the_fingerprint_is_of_the_pictures_alone(shards, tmp_path):
    probe = probes.tar(path=str(shards))
    plain = tmp_path / "plain"
    plain.mkdir()
    for index in range(len(probe)):
        (plain / f"{index:02d}.png").write_bytes(probe.source(index))
    assert probes.folder(root=str(plain)).fingerprint == probe.fingerprint
    part = probes.subset(probe, limit=5, seed=2)
    assert part.fingerprint == probes.subset(probes.folder(root=str(plain)), limit=5, seed=2).fingerprint


def test_shards_are_looked_through_and_digested_once(shards, tmp_path, monkeypatch):
    settings = {"path": str(shards), "cache": str(tmp_path / "cache")}
    first = probes.with_common_settings(probes.tar, settings)
    digest = first.fingerprint
    monkeypatch.setattr(import_module("cd_exp.probes.tar"), "_members", None)  # `tar` is also the function
    monkeypatch.setattr(type(first), "_read", None)
    again = probes.with_common_settings(probes.tar, settings)
    assert (again.ids, again.fingerprint) == (first.ids, digest)
    monkeypatch.undo()
    for memory in (tmp_path / "cache/tar").iterdir():
        memory.write_bytes(memory.read_bytes()[:-40])  # damaged: looked through again
    assert probes.with_common_settings(probes.tar, settings).ids == first.ids
    write(shards / "train-0000.tar", [("new.png", encoded(9))])
    changed = probes.with_common_settings(probes.tar, settings)
    assert len(changed) == 9
    assert changed.fingerprint != digest


def test_samples_of_several_pictures(shards):
    write(
        shards / "two.tar",
        [
            ("a.left.png", encoded(1)),
            ("a.right.png", encoded(2)),
            ("a.jpg", encoded(3, "JPEG")),
            ("a.webp", encoded(4, "WEBP")),
        ],
    )
    with pytest.raises(InputError, match=r"two.tar: sample a has 2 images \(jpg, webp\); choose one: probe.column=jpg"):
        probes.tar(path=str(shards / "two.tar"))
    assert probes.tar(path=str(shards / "two.tar"), column="right.png").ids == ("two/a.right.png",)
    with pytest.raises(InputError, match=r"no member of 1 shards ends in .gif; images there end in jpg, left.png, ri"):
        probes.tar(path=str(shards / "two.tar"), column="gif")


def test_broken_shards_are_one_line(shards, tmp_path):
    whole = (shards / "train-0000.tar").read_bytes()
    for name, data, message in (
        (
            "cut.tar",
            whole[: whole.rindex(b"IEND") - 20],
            r"cut.tar is (cut off within 000003.png|no tar file, or a damaged one)",
        ),
        ("text.tar", b"hello" * 200, r"text.tar is no tar file, or a damaged one"),
        ("empty.tar", b"", r"empty.tar is no tar file, or a damaged one"),
        ("packed.tar", __import__("gzip").compress(whole), r"packed.tar is compressed, and cannot be read at random"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=message) as caught:
            probes.tar(path=str(tmp_path / name))
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"there is no tar file"):
        probes.tar(path=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"1 of 4 shards are not there: train-0003.tar"):
        probes.tar(path=str(shards / "train-{0000..0003}.tar"))
    write(tmp_path / "words.tar", [("a.txt", b"a")])
    with pytest.raises(InputError, match=r"no member of 1 shards ends in avif, bmp"):
        probes.tar(path=str(tmp_path / "words.tar"))


def test_a_damaged_member_and_a_shard_that_went_away_are_unreadable_pictures(shards):
    write(shards / "bad.tar", [("a.png", b"no picture"), ("b.png", encoded(1))])
    probe = probes.tar(path=str(shards / "bad.tar"))
    with pytest.raises(OSError, match=r"tar bad/a.png cannot be read as an image"):
        probe[0]
    (shards / "bad.tar").write_bytes((shards / "bad.tar").read_bytes()[:1600])
    with pytest.raises(OSError, match=r"ends within bad/b.png"):
        probe[1]
    np.testing.assert_array_equal(probe.size, [10, len(encoded(1))])


def test_a_name_with_dots_between_numbers_is_no_column(tmp_path):
    data = io.BytesIO()
    Image.new("RGB", (3, 2)).save(data, "PNG")
    names = ["IMG.2023.05.01.png", "IMG.2023.05.02.png", "a.png", "b.0.png", "v1.5.png", "c.seg.png", "c.png"]
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(data.getvalue())
            archive.addfile(member, io.BytesIO(data.getvalue()))
    probe = probes.tar(path=str(tmp_path / "0.tar"))
    assert list(probe.ids) == [f"0/{name}" for name in names if name != "c.seg.png"]
    (note,) = probe.notes
    assert "images of other columns, left out: 1 (.seg.png 1); probe.column=ENDING takes another" in note
    assert list(probes.tar(path=str(tmp_path / "0.tar"), column="seg.png").ids) == ["0/c.seg.png"]  # the remedy
