import sys

import pytest
from PIL import Image

from cd_exp.errors import InputError
from cd_exp.probes import huggingface, subset


@pytest.fixture
def tree(tmp_path):
    for grey in (1, 2, 3):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", (3, 2), (grey, 0, 0)).save(tmp_path / f"images/{grey}.png")
    return tmp_path / "images"


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)  # as where it is not installed
    with pytest.raises(InputError, match=r"probe=huggingface needs the extra: pip install 'cd-exp\[huggingface\]'"):
        huggingface(path="x", split="y")


@pytest.mark.filterwarnings("ignore")
def test_local_images_saved_tables_and_errors(tree, tmp_path, monkeypatch):
    import datasets

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    probe = huggingface(path=str(tree), split="train")
    assert [image.getpixel((0, 0))[0] for image in probe] == [1, 2, 3]
    assert probe.ids == ("train/00000", "train/00001", "train/00002")
    part = subset(probe, limit=2)
    assert (len(part), part[1].getpixel((0, 0))) == (2, (2, 0, 0))
    assert part.fingerprint != probe.fingerprint

    embedded = [{"bytes": file.read_bytes(), "path": None} for file in sorted(tree.iterdir())]
    features = datasets.Features({"picture": datasets.Image(), "label": datasets.Value("int64")})
    table = datasets.Dataset.from_dict({"picture": embedded, "label": [0, 1, 2]}, features=features)
    table.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"val": table}).save_to_disk(tmp_path / "several")
    one = huggingface(path=str(tmp_path / "one"), split="train", column="picture")
    several = huggingface(path=str(tmp_path / "several"), split="val", column="picture")
    assert one.fingerprint == several.fingerprint == probe.fingerprint

    with pytest.raises(InputError, match=r"column 'image' is not in .*one; choose from label, picture"):
        huggingface(path=str(tmp_path / "one"), split="train")
    with pytest.raises(InputError, match=r"probe.column=label of .*one holds Value, not images"):
        huggingface(path=str(tmp_path / "one"), split="train", column="label")
    for path in (tree, tmp_path / "several"):
        with pytest.raises(InputError, match=r"probe.split=nope cannot be loaded: "):
            huggingface(path=str(path), split="nope")
    with pytest.raises(
        InputError, match=r"probe.path=.*nowhere is no folder here and http://127.0.0.1:9 cannot be reached"
    ):
        huggingface(path=str(tmp_path / "nowhere"), split="train")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["parquet", "arrow", "json", "jsonl"])
def test_a_single_file_is_read(tree, tmp_path, monkeypatch, kind):
    import json

    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    path = tmp_path / f"photos.{kind}"
    if kind.startswith("json"):  # paths, seen from the file
        rows = [{"image": f"images/{grey}.png", "label": "x"} for grey in (1, 2, 3)]
        path.write_text(json.dumps(rows) if kind == "json" else "\n".join(map(json.dumps, rows)))
    else:
        pictures = [{"bytes": file.read_bytes(), "path": None} for file in sorted(tree.iterdir())]
        features = datasets.Features({"image": datasets.Image()})
        table = datasets.Dataset.from_dict({"image": pictures}, features=features)
        if kind == "parquet":
            table.to_parquet(path)
        else:
            table.save_to_disk(tmp_path / "saved")
            (tmp_path / "saved/data-00000-of-00001.arrow").rename(path)
    probe = huggingface(path=str(path), split="train")
    assert [image.getpixel((0, 0))[0] for image in probe] == [1, 2, 3]
    (tmp_path / "photos.csv").write_text("image\n")
    with pytest.raises(
        InputError, match=r"photos\.csv is a file; read are \.arrow, \.parquet, \.json, \.jsonl, or a fold"
    ):
        huggingface(path=str(tmp_path / "photos.csv"), split="train")
