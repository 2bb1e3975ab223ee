"""A tiny Broden: all six categories, several masks in one image, images without some categories, differing sizes."""

import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.serving import serving
from PIL import Image

from cd_exp import probes
from cd_exp.errors import InputError
from cd_exp.io.download import BRODEN

LABELS = """number,name,category,frequency,coverage,syns
1,red-c,color(3),3,1.5,
2,car,object(2),2,0.9,automobile;auto
3,wheel,part(2),2,0.2,
4,door,part(1);object(1),2,0.4,
5,metal,material(2),2,0.5,
6,street-s,scene(2),2,2.0,
7,striped,texture(1),1,1.0,
8,dotted,texture(1),1,1.0,
300,far away,object(1),1,0.1,
"""
CATEGORIES = """name,first,last,count,frequency
color,1,1,1,3
object,2,300,3,4
part,3,4,2,3
material,5,5,1,2
scene,6,6,1,2
texture,7,8,2,2
"""
CODES = {
    "color": [(1, "red-c", 1.5)],
    "object": [(2, "car", 0.9), (4, "door", 0.1), (300, "far away", 0.1)],
    "part": [(3, "wheel", 0.2), (4, "door", 0.3)],
    "material": [(5, "metal", 0.5)],
    "scene": [(6, "street-s", 2.0)],
    "texture": [(7, "striped", 1.0), (8, "dotted", 1.0)],
}
INDEX = """image,split,ih,iw,sh,sw,color,object,part,material,scene,texture
a/1.jpg,train,8,8,4,4,a/1_color.png,a/1_object.png,a/1_part_1.png;a/1_part_2.png,a/1_material.png,6,
a/2.jpg,val,8,8,4,6,,a/2_object.png,,,,
b/3.jpg,train,8,8,5,4,,,,,,7;8
b/bare.jpg,train,8,8,4,4,,,,,,
b/4.jpg,val,8,8,4,4,,,,,6,a/1_part_1.png;7
"""


def mask(path: Path, labels: np.ndarray) -> None:
    """The published coding: red + 256 * green."""
    pixels = np.stack([labels % 256, labels // 256, np.zeros_like(labels)], axis=-1)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def corner(label: int, height: int = 4, width: int = 4) -> np.ndarray:
    labels = np.zeros((height, width), int)
    labels[: height // 2, : width // 2] = label
    return labels


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "broden1_227"
    for folder in ("a", "b"):
        (root / "images" / folder).mkdir(parents=True)
    for grey, name in enumerate(("a/1.jpg", "a/2.jpg", "b/3.jpg", "b/4.jpg")):
        Image.new("RGB", (8, 8), (grey * 60,) * 3).save(root / "images" / name)
    Image.new("RGB", (8, 8)).save(root / "images/b/bare.jpg")
    mask(root / "images/a/1_color.png", corner(1))
    mask(root / "images/a/1_object.png", corner(2) + corner(300)[::-1, ::-1])
    mask(root / "images/a/1_part_1.png", corner(3))
    mask(root / "images/a/1_part_2.png", corner(4))
    mask(root / "images/a/1_material.png", corner(5))
    mask(root / "images/a/2_object.png", corner(4, 4, 6))
    (root / "index.csv").write_text(INDEX)
    (root / "label.csv").write_text(LABELS)
    (root / "category.csv").write_text(CATEGORIES)
    for category, labels in CODES.items():
        rows = [f"{code},{number},{name},1,{coverage}\n" for code, (number, name, coverage) in enumerate(labels, 1)]
        (root / f"c_{category}.csv").write_text("code,number,name,frequency,coverage\n" + "".join(rows))
    return root


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def names(probe, numbers) -> set[str]:
    return {probe.concepts[number] for number in np.unique(numbers) if number >= 0}


def test_only_the_photographs_are_images(root):
    probe = probes.broden(root=str(root))
    assert probe.ids == ("a/1.jpg", "a/2.jpg", "b/3.jpg", "b/4.jpg")
    assert probe.notes == (f"{root}/index.csv: images without any annotation, left out: 1",)
    assert probe[1].size == (8, 8)
    assert len(probe.fingerprint) == 64


def test_concepts_are_the_labels_with_the_category_they_cover_most(root):
    probe = probes.broden(root=str(root))
    assert dict(zip(probe.concepts, probe.categories, strict=True)) == {
        "red-c": "color",
        "car": "object",
        "wheel": "part",
        "door": "part",  # .3 as a part, .1 as an object
        "metal": "material",
        "street-s": "scene",
        "striped": "texture",
        "dotted": "texture",
        "far away": "object",
    }


def test_equal_coverage_goes_to_the_later_category(root):
    edit(root / "c_object.csv", "2,4,door,1,0.1", "2,4,door,1,0.3")
    probe = probes.broden(root=str(root))
    assert probe.categories[probe.concepts.index("door")] == "part"


def test_masks_of_all_categories(root):
    probe = probes.broden(root=str(root))
    segmentation = probe.segmentation(0)
    assert segmentation.maps.shape == (5, 4, 4)
    assert [names(probe, segmentation.maps[i]) for i in range(5)] == [
        {"red-c"},
        {"car", "far away"},
        {"wheel"},
        {"door"},
        {"metal"},
    ]
    assert names(probe, segmentation.whole) == {"street-s"}
    car = probe.concepts.index("car")
    np.testing.assert_array_equal(segmentation.maps[1] == car, corner(1).astype(bool))


def test_images_without_some_categories_and_of_other_sizes(root):
    probe = probes.broden(root=str(root))
    assert probe.segmentation(1).maps.shape == (1, 4, 6)
    assert probe.segmentation(1).whole == ()
    textures = probe.segmentation(2)
    assert textures.maps.shape == (0, 5, 4)
    assert names(probe, textures.whole) == {"striped", "dotted"}
    mixed = probe.segmentation(3)
    assert names(probe, mixed.maps) == {"wheel"}
    assert names(probe, mixed.whole) == {"street-s", "striped"}


def test_a_mask_that_a_tool_made_smaller_without_loss(root):
    with Image.open(root / "images/a/2_object.png") as image:
        palette = image.convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(root / "images/a/2_object.png")
    probe = probes.broden(root=str(root))
    assert names(probe, probe.segmentation(1).maps) == {"door"}


def test_splits_and_parts(root):
    assert probes.broden(root=str(root), split="train").ids == ("a/1.jpg", "b/3.jpg")
    part = probes.subset(probes.broden(root=str(root), split="val"), limit=1)
    assert part.ids == ("a/2.jpg",)
    assert names(part, part.segmentation(0).maps) == {"door"}
    with pytest.raises(InputError, match=r"split 'test' is not in broden; choose from train, val"):
        probes.broden(root=str(root), split="test")


def test_travels_to_another_process(root):
    probe = pickle.loads(pickle.dumps(probes.broden(root=str(root))))
    assert names(probe, probe.segmentation(1).maps) == {"door"}


def test_downloads_itself_and_records_a_checksum(root, tmp_path):
    (tmp_path / "served").mkdir()
    with zipfile.ZipFile(tmp_path / "served/broden1_227.zip", "w") as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(tmp_path))
    with serving(tmp_path / "served") as site:
        probe = probes.broden(
            data_dir=str(tmp_path / "data"), archive=replace(BRODEN, url=site.url + "broden1_227.zip")
        )
    assert names(probe, probe.segmentation(0).whole) == {"street-s"}
    assert (tmp_path / "data/broden1_227.zip.sha256").exists()


def test_bad_masks_name_the_file(root):
    probe = probes.broden(root=str(root))
    path = root / "images/a/2_object.png"
    mask(path, corner(4))
    with pytest.raises(InputError, match=r"mask .*a/2_object.png is 4 x 4 pixels, but line 3 of index.csv says 6 x 4"):
        probe.segmentation(1)
    mask(path, corner(299, 4, 6))
    with pytest.raises(InputError, match=r"mask .*a/2_object.png holds label 299, which label.csv does not list"):
        probe.segmentation(1)
    mask(path, corner(65000, 4, 6))
    with pytest.raises(InputError, match=r"mask .*a/2_object.png holds label 65000"):
        probe.segmentation(1)
    path.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"the mask .*a/2_object.png cannot be read as an image"):
        probe.segmentation(1)
    path.unlink()
    with pytest.raises(InputError, match=r"the mask .*a/2_object.png is missing, which line 3 of index.csv names"):
        probe.segmentation(1)


def test_a_whole_image_label_that_is_not_listed(root):
    edit(root / "index.csv", "7;8", "7;299")
    with pytest.raises(InputError, match=r"index.csv of .*, line 4 holds label 299, which label.csv does not list"):
        probes.broden(root=str(root)).segmentation(2)


def test_unknown_categories(root):
    edit(root / "index.csv", "color,", "colour,")
    with pytest.raises(
        InputError, match=r"category 'colour' is not in .*category.csv, but index.csv has it; did you mean 'color'"
    ):
        probes.broden(root=str(root))
    edit(root / "index.csv", "colour,", "color,")
    edit(root / "label.csv", "material(2)", "stuff(2)")
    with pytest.raises(
        InputError, match=r"category 'stuff' is not in .*category.csv, but label 'metal' of label.csv has it"
    ):
        probes.broden(root=str(root))


def test_tables_that_do_not_fit(root):
    edit(root / "c_material.csv", "1,5,metal,1,0.5\n", "1,1,metal,1,0.5\n")
    with pytest.raises(InputError, match=r"no c_\*.csv lists 'metal' \(1 such labels of label.csv\)"):
        probes.broden(root=str(root))
    (root / "c_material.csv").unlink()
    with pytest.raises(InputError, match=r"c_material.csv: there is no such file"):
        probes.broden(root=str(root))


def test_index_errors(root):
    edit(root / "index.csv", "val,8,8,4,6", "val,8,8,four,6")
    with pytest.raises(InputError, match=r"index.csv, line 3: sh is 'four', expected a whole number"):
        probes.broden(root=str(root))
    edit(root / "index.csv", "val,8,8,four,6", "val,8,8,4,6")
    (root / "images/a/2.jpg").unlink()
    (root / "images/b/4.jpg").unlink()
    with pytest.raises(InputError, match=r"2 of 4 images of .*index.csv are not below .*images: a/2.jpg, b/4.jpg;"):
        probes.broden(root=str(root))
    (root / "index.csv").write_text(INDEX.splitlines()[0] + "\n")
    with pytest.raises(InputError, match=r"index.csv has no rows with a column image"):
        probes.broden(root=str(root))
    (root / "index.csv").write_text("image,split\na/1.jpg,train\n")
    with pytest.raises(
        InputError, match=r"index.csv has no rows with a column ih, iw, sh, sw; it is not Broden's index.csv"
    ):
        probes.broden(root=str(root))
    (root / "index.csv").write_text("\n".join([INDEX.splitlines()[0], INDEX.splitlines()[4]]))
    with pytest.raises(InputError, match=r"index.csv lists no annotated image"):
        probes.broden(root=str(root))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("label.csv", "2,car,", ",car,", "label.csv, line 3: the number is '', expected a whole number from 1"),
        ("label.csv", "2,car,", "0,car,", "line 3: the number is '0'"),
        ("label.csv", "2,car,", "-1,car,", "line 3: the number is '-1'"),
        ("label.csv", "2,car,", "99999999999,car,", "line 3: the number is '99999999999'"),
        ("label.csv", "2,car,", "1,car,", "line 3: label 1 stands there twice"),
        ("label.csv", "2,car,", "2,,", "label 2 has no name"),
        ("label.csv", "syns", "name", "has two columns 'name'"),
        ("label.csv", "1.0,\n8", "1.0,,\n8", "line 8: not the 6 cells of the header"),
        ("index.csv", "8,8,4,6", "8,8,-4,6", r"index.csv, line 3: sh is '-4', expected a whole number from 1 to 16384"),
        ("index.csv", "8,8,4,6", "8,8,4,99999999999", "line 3: sw is '99999999999'"),
        ("index.csv", "a/2_object.png,,,,", "a/2_object.png", "line 3: not the 12 cells of the header"),
        ("index.csv", "a/2.jpg", '"a/2.jpg', "line 2 is no table: unexpected end of data"),
        ("c_color.csv", "1.5", "nan", "c_color.csv: the coverage of label 1 is 'nan', expected a number from 0 on"),
        ("c_color.csv", "1.5", "-1", "coverage of label 1 is '-1'"),
        ("c_color.csv", "1.5", "x", "coverage of label 1 is 'x'"),
        ("c_color.csv", "1,1,red", "1,x,red", "c_color.csv, line 2: the number is 'x'"),
    ],
)
def test_cells_that_are_wrong_are_named(root, file, old, new, message):
    edit(root / file, old, new)
    with pytest.raises(InputError, match=message):
        probes.broden(root=str(root))


def test_lines_are_counted_as_an_editor_does_and_images_listed_twice_are_noted(root):
    edit(root / "index.csv", "a/2.jpg", "\n\na/2.jpg")
    edit(root / "index.csv", "b/bare.jpg", "b/3.jpg")
    edit(root / "index.csv", "4,4,,,,,,\n", "4,4,,,,,6,\n")
    probe = probes.broden(root=str(root))
    assert [row.line for row in probe.rows] == [2, 5, 6, 7, 8]
    assert probe.notes == (f"{root}/index.csv: images listed more than once, and kept: 1 (b/3.jpg)",)
