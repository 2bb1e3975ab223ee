"""The sets that are trees of files: folder, files, imagenet_val, dtd, places365."""

import os
import pickle
import socket
import tarfile
from pathlib import Path

import numpy as np
import pytest
from helpers.serving import serving
from PIL import Image

from cd_exp import probes
from cd_exp.errors import InputError
from cd_exp.io.download import Archive
from cd_exp.probes.folder import way_in


def picture(path: Path, grey: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (grey, 0, 0)).save(path)


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    for grey, name in enumerate(["b/2.png", "b/10.PNG", "a.jpg", "ünï/寿司 1.webp", "B/x.tiff"]):
        picture(root / name, grey)
    (root / "notes.txt").write_text("no image")
    (root / ".hidden.png").write_text("no image")
    (root / ".git").mkdir()
    picture(root / ".git/x.png")
    return root


def test_folder_is_sorted_by_path_and_passes_over_the_rest(tree):
    probe = probes.folder(root=str(tree))
    assert probe.ids == ("B/x.tiff", "a.jpg", "b/10.PNG", "b/2.png", "ünï/寿司 1.webp")
    assert probe.notes == (f"{tree}: files skipped because they are no images: 1 (.txt 1)",)
    assert (probe.name, len(probe)) == ("folder", 5)
    assert probe[3].getpixel((0, 0)) == (0, 0, 0)
    assert probe[2].getpixel((0, 0)) == (1, 0, 0)


def test_a_probe_travels_to_another_process(tree):
    probe = probes.subset(probes.folder(root=str(tree)), limit=3)
    again = pickle.loads(pickle.dumps(probe))
    assert (again.ids, again.fingerprint, again[0].size) == (probe.ids, probe.fingerprint, (4, 3))


def test_fingerprint_follows_content_and_order_only(tree, tmp_path):
    probe = probes.with_common_settings(probes.folder, {"root": str(tree), "cache": str(tmp_path / "cache")})
    moved = tmp_path / "moved"
    for name in probe.ids:
        (moved / name).parent.mkdir(parents=True, exist_ok=True)
        (moved / name).write_bytes((tree / name).read_bytes())
    assert probes.folder(root=str(moved)).fingerprint == probe.fingerprint
    picture(moved / "a.jpg", 99)
    assert probes.folder(root=str(moved)).fingerprint != probe.fingerprint
    assert probes.subset(probe, limit=4).fingerprint != probe.fingerprint


def test_folder_follows_links_and_says_what_is_there_twice(tree, tmp_path):
    picture(tmp_path / "elsewhere/1.png")
    (tree / "link").symlink_to(tmp_path / "elsewhere")
    (tree / "link2").symlink_to(tmp_path / "elsewhere")
    (tree / "b/up").symlink_to(tree)
    probe = probes.folder(root=str(tree))
    assert "link/1.png" in probe.ids
    assert "link2/1.png" in probe.ids
    assert len(probe) == 7
    assert probe.notes[1:] == (
        f"{tree}: folders that a link gives twice, their images taken twice: link2",
        f"{tree}: links back to a folder above or to themselves, not followed: b/up",
    )


def test_links_that_lead_to_themselves_are_noted(tree):
    before = list(probes.folder(root=str(tree)).ids)
    (tree / "loop.jpg").symlink_to("loop.jpg")
    (tree / "b/to").symlink_to("fro")
    (tree / "b/fro").symlink_to("to")
    probe = probes.folder(root=str(tree))
    assert list(probe.ids) == before
    note = "links back to a folder above or to themselves, not followed: b/fro, b/to, loop.jpg"
    assert f"{tree}: {note}" in probe.notes


def test_named_pipes_sockets_and_devices_are_passed_over_and_never_waited_for(tree):
    os.mkfifo(tree / "pipe.png")
    (tree / "zero.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(os.path.relpath(tree / "socket.png"))
        probe = probes.folder(root=str(tree))
    assert len(probe) == 5
    assert len(probe.fingerprint) == 64
    assert probe.notes[1] == f"{tree}: no ordinary files, skipped: 3 (pipe.png, socket.png, zero.png)"
    (tree / "a.jpg").unlink()
    os.mkfifo(tree / "a.jpg")  # what was a picture when the folder was read
    with pytest.raises(
        InputError, match=r"a.jpg could be read when the run began, and not now \(it is no ordinary file"
    ):
        probe[1]
    (tree / "list.txt").write_text("pipe.png")
    with pytest.raises(InputError, match=r"1 of 1 images of .* are not below .*: pipe.png"):
        probes.files(path=str(tree / "list.txt"))


def test_what_is_passed_over_is_named_by_its_ending(tree):
    for name in ("a.TXT", "b.csv", "README", "c.heic"):
        (tree / name).touch()
    assert probes.folder(root=str(tree)).notes == (
        f"{tree}: files skipped because they are no images: 5 (.txt 2, no ending 1, .csv 1, .heic 1)",
    )


def test_folder_errors(tree, tmp_path):
    with pytest.raises(InputError, match=r"probe.root=.*nowhere: there is no such folder \(seen from"):
        probes.folder(root=str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty holds no image; their names end in avif, bmp"):
        probes.folder(root=str(tmp_path / "empty"))
    (tmp_path / "empty/words.txt").touch()
    with pytest.raises(InputError, match=r"empty holds no image \(1 other files\)"):
        probes.folder(root=str(tmp_path / "empty"))


def test_a_dangling_link_is_an_unreadable_picture(tree, tmp_path):
    (tree / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    probe = probes.folder(root=str(tree))
    assert len(probe.fingerprint) == 64
    with pytest.raises(OSError, match=r"dangling.png cannot be read as an image"):
        probe[probe.ids.index("dangling.png")]


def test_a_name_that_is_not_utf8(tree):
    Path(os.fsdecode(os.fsencode(tree) + b"/na\xefve.png")).write_bytes((tree / "a.jpg").read_bytes())
    with pytest.raises(InputError, match=r"holds a file whose name is not UTF-8: b'na\\xefve.png'; rename it"):
        probes.folder(root=str(tree))


def test_unreadable_pictures_are_told_when_they_are_opened(tree):
    (tree / "a.jpg").write_bytes(b"no picture")
    probe = probes.folder(root=str(tree))
    assert len(probe) == 5
    assert len(probe.fingerprint) == 64
    with pytest.raises(OSError, match=r"a.jpg cannot be read as an image"):
        probe[1]


def test_files_keeps_the_order_and_the_lines(tree, tmp_path):
    listing = tmp_path / "list.txt"
    listing.write_text("\nb/2.png\nünï/寿司 1.webp\n  \nB/x.tiff\nb/2.png\n\n", encoding="utf-8")
    probe = probes.files(path=str(listing), root=str(tree), name="mine")
    assert probe.ids == ("b/2.png", "ünï/寿司 1.webp", "B/x.tiff", "b/2.png")
    assert [probe[i].getpixel((0, 0))[0] for i in (0, 2, 3)] == [0, 4, 0]
    assert probe.notes == (
        f"{listing}: blank lines left out: 3 (1, 4, 7)",
        f"{listing}: images listed more than once, and kept: 1 (b/2.png)",
    )
    assert probe.name == "mine"


def test_files_starts_from_the_list_or_from_anywhere(tree):
    (tree / "list.txt").write_text(f"a.jpg\n{tree}/b/2.png\n")
    assert [image.size for image in probes.files(path=str(tree / "list.txt"))] == [(4, 3), (4, 3)]


def test_files_reports_all_that_is_missing_at_once(tree):
    names = [f"gone/{i}.png" for i in range(7)]
    (tree / "list.txt").write_text("\n".join(["a.jpg", "b", *names]))
    with pytest.raises(InputError) as caught:
        probes.files(path=str(tree / "list.txt"))
    assert str(caught.value) == (
        f"8 of 9 images of {tree}/list.txt are not below {tree}: b, gone/0.png, gone/1.png, gone/2.png, gone/3.png and "
        "3 more; probe.root must be the folder the paths start from"
    )


def test_files_errors(tmp_path):
    with pytest.raises(InputError, match=r"probe.path=.*list.txt: there is no such file"):
        probes.files(path=str(tmp_path / "list.txt"))
    (tmp_path / "list.txt").write_text("\n\n")
    with pytest.raises(InputError, match=r"list.txt lists no image; it must hold one path a line"):
        probes.files(path=str(tmp_path / "list.txt"))


def test_imagenet_val_is_the_same_flat_and_in_class_folders(tmp_path):
    for number, folder in enumerate(["n02", "n01", "n02"], 1):
        picture(tmp_path / f"flat/ILSVRC2012_val_{number:08d}.JPEG", number * 50)
        picture(tmp_path / f"sorted/{folder}/ILSVRC2012_val_{number:08d}.JPEG", number * 50)
    flat, classes = (probes.imagenet_val(root=str(tmp_path / name)) for name in ("flat", "sorted"))
    assert flat.ids[0] == "ILSVRC2012_val_00000001.JPEG"
    assert classes.ids[0] == "n02/ILSVRC2012_val_00000001.JPEG"
    assert flat.fingerprint == classes.fingerprint
    assert flat.notes == (f"{tmp_path}/flat: 3 images, where ImageNet has 50000",)


def test_imagenet_val_errors(tmp_path):
    with pytest.raises(
        InputError, match=r"probe.root is not set, .* set probe.root=DIR to a copy of the validation images"
    ):
        probes.imagenet_val()
    with pytest.raises(InputError, match=r"holds no image; it must hold ILSVRC2012_val_00000001.JPEG"):
        probes.imagenet_val(root=str(tmp_path))


@pytest.fixture
def published(tmp_path):
    """Archives as they are published: DTD with its lists, Places365 flat."""
    source = tmp_path / "source"
    for grey, name in enumerate(["banded/banded_1.jpg", "dotted/dotted_1.jpg", "dotted/dotted_2.jpg"]):
        picture(source / "dtd/images" / name, grey * 80)
    (source / "dtd/labels").mkdir()
    (source / "dtd/labels/train2.txt").write_text("dotted/dotted_2.jpg\nbanded/banded_1.jpg\n")
    for number in (2, 1):
        picture(source / f"val_256/Places365_val_0000000{number}.jpg", number)
    served = tmp_path / "served"
    served.mkdir()
    for name, folder in (("dtd-r1.0.1.tar.gz", "dtd"), ("val_256.tar", "val_256")):
        with tarfile.open(served / name, "w:gz" if name.endswith("gz") else "w") as archive:
            archive.add(source / folder, folder)
    with serving(served) as site:
        yield site


def test_dtd(published, tmp_path):
    settings = {
        "data_dir": str(tmp_path / "data"),
        "archive": Archive(published.url + "dtd-r1.0.1.tar.gz", None, "images"),
    }
    probe = probes.dtd(**settings)
    assert probe.ids == ("banded/banded_1.jpg", "dotted/dotted_1.jpg", "dotted/dotted_2.jpg")
    assert probes.dtd(**settings, split="train", partition=2).ids == ("dotted/dotted_2.jpg", "banded/banded_1.jpg")
    assert probes.dtd(root=str(tmp_path / "source/dtd")).fingerprint == probe.fingerprint
    assert published.asked == ["/dtd-r1.0.1.tar.gz"]
    with pytest.raises(InputError, match=r"split 'trian' is not in dtd; did you mean 'train'\?"):
        probes.dtd(**settings, split="trian")
    with pytest.raises(InputError, match=r"probe.partition=.*train11.txt: there is no such file"):
        probes.dtd(**settings, split="train", partition=11)


def test_places365(published, tmp_path):
    probe = probes.places365(data_dir=str(tmp_path / "data"), archive=Archive(published.url + "val_256.tar", None, "."))
    assert [Path(name).name for name in probe.ids] == ["Places365_val_00000001.jpg", "Places365_val_00000002.jpg"]
    assert probes.subset(probes.places365(root=str(tmp_path / "source/val_256")), limit=1).ids == (
        "Places365_val_00000001.jpg",
    )
    (tmp_path / "bare").mkdir()
    with pytest.raises(InputError, match=r"bare holds no image; probe.root must be the folder"):
        probes.places365(root=str(tmp_path / "bare"))


@pytest.mark.parametrize("name", ["dtd", "places365", "cifar10", "cifar100", "broden"])
def test_without_a_network_one_line_says_what_to_do(name, tmp_path):
    archives = {"dtd": "dtd-r1.0.1.tar.gz", "places365": "val_256.tar", "broden": "broden1_227.zip"}
    file = archives.get(name, f"{name.replace('cifar', 'cifar-')}-binary.tar.gz")
    with pytest.raises(InputError) as caught:
        probes.with_common_settings(
            getattr(probes, name), {"data_dir": str(tmp_path), "url": f"http://127.0.0.1:9/{file}"}
        )
    assert str(caught.value) == (
        f"{file} is not in {tmp_path} and http://127.0.0.1:9/{file} cannot be had (no connection); "
        f"set probe.root=DIR to a local copy, or put {file} into {tmp_path}"
    )


@pytest.mark.shared
def test_the_real_photographs():
    root = Path(__file__).parents[2] / "../shared/real"
    if not root.is_dir():
        pytest.skip("../shared/real is not here")
    probe = probes.files(path=str(root / "clip_vit_b_32/images.txt"), root=str(root))
    assert len(probe) == 904
    assert not probe.notes
    assert len(probe.fingerprint) == 64
    sizes = np.array([probe[i].size for i in range(0, 904, 60)])
    assert (sizes > 0).all()


def in_mode(path: Path, mode: str = "RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (9, 90, 200)).convert(mode).save(path)


def test_masks_beside_photographs_are_passed_over_and_said(tmp_path):
    for number in range(3):  # as VOC
        in_mode(tmp_path / f"voc/JPEGImages/{number}.jpg")
        in_mode(tmp_path / f"voc/SegmentationClass/{number}.png", "P")
        in_mode(tmp_path / f"voc/SegmentationObject/{number}.png", "L")
        in_mode(tmp_path / f"ade/{number}.jpg")
        in_mode(tmp_path / f"ade/{number}_seg.png")
        in_mode(tmp_path / f"ade/{number}_parts_1.png")
        in_mode(tmp_path / f"city/leftImg8bit/{number}_leftImg8bit.png")
        in_mode(tmp_path / f"city/gtFine/{number}_gtFine_labelIds.png", "L")
        in_mode(tmp_path / f"photos/a/{number}.jpg")
        in_mode(tmp_path / f"photos/b/{number}.png")
        in_mode(tmp_path / f"grey/{number}.png", "L")
        in_mode(tmp_path / f"named/the_mask{number}.png")
    voc = probes.folder(root=str(tmp_path / "voc"))
    assert list(voc.ids) == [f"JPEGImages/{number}.jpg" for number in range(3)]
    (note,) = voc.notes
    assert "masks of other images, skipped: 6 (in SegmentationClass, SegmentationObject)" in note
    assert len(probes.folder(root=str(tmp_path / "voc/SegmentationClass"))) == 3  # the remedy
    assert list(probes.folder(root=str(tmp_path / "ade")).ids) == ["0.jpg", "1.jpg", "2.jpg"]
    assert len(probes.folder(root=str(tmp_path / "city"))) == 3
    for plain, count in (("photos", 6), ("grey", 3), ("named", 3)):
        probe = probes.folder(root=str(tmp_path / plain))
        assert (len(probe), probe.notes) == (count, ())


def test_pictures_that_other_readers_read_are_sent_to_code_of_your_own(tmp_path):
    for name in ("a.dcm", "b.nii.gz", "c.npy", "notes.md"):
        (tmp_path / name).write_bytes(b"x")
    way = r"; \.dcm, \.nii\.gz, \.npy are read by code of your own: probe=custom probe\.factory=FILE\.py:name"
    with pytest.raises(InputError, match=way):
        probes.folder(root=str(tmp_path))
    assert way_in(["a.NII.gz"]).startswith("; .nii.gz are read by code of your own: probe=custom")
    assert way_in(["a.png"]) == ""


@pytest.mark.parametrize("line", ['"b/2.png"', "b\\2.png", " b/2.png", "b/2.png,cat", "b/2.png\t0", "b/2.png 0"])
def test_a_line_that_holds_more_than_a_path_is_told_so(tree, line):
    (tree / "list.txt").write_text(f"a.jpg\n{line}\n")
    with pytest.raises(InputError, match=r"lies there as 'b/2.png': write the lines so"):
        probes.files(path=str(tree / "list.txt"))


def test_an_accent_that_is_encoded_otherwise_is_told_so(tree):
    (tree / "cafe\u0301.png").write_bytes((tree / "b" / "2.png").read_bytes())
    (tree / "list.txt").write_text("caf\u00e9.png\n")
    with pytest.raises(InputError, match=r"'caf\\xe9.png' lies there as 'cafe\\u0301.png': write the lines so"):
        probes.files(path=str(tree / "list.txt"))
