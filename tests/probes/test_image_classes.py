"""Every set whose images have classes tells them under one name, and judges and methods read them there."""

import tarfile

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset

from cd_exp import probes
from cd_exp.errors import InputError
from cd_exp.evaluation.judges import AnnotationsJudge, concept_presence
from cd_exp.probes.custom import probe_of_images
from cd_exp.records import Probe


def labels_of(probe: Probe, *names: str) -> list[list[float] | None]:
    values = concept_presence(probe, range(len(probe)))
    return [None if values(name) is None else values(name).tolist() for name in names]


@pytest.fixture
def cifar(tmp_path):
    """Three records a file: the last byte before the pixels is the class, the coarse one of CIFAR-100 is not read."""
    pixels = bytes(3072)
    for number in range(1, 6):
        records = [bytes([label]) + pixels for label in (0, 2, number % 3)]
        (tmp_path / f"data_batch_{number}.bin").write_bytes(b"".join(records))
    (tmp_path / "train.bin").write_bytes(b"".join(bytes([9, label]) + pixels for label in (1, 0, 1)))
    (tmp_path / "batches.meta.txt").write_text("airplane\nautomobile\nbird\n\n")
    (tmp_path / "fine_label_names.txt").write_text("apple\naquarium_fish\n")
    return tmp_path


def test_cifar_by_the_names_in_the_archive(cifar):
    few = probes.cifar100(root=str(cifar))
    assert list(few.image_classes) == ["aquarium_fish", "apple", "aquarium_fish"]
    assert labels_of(few, "aquarium fish", "Apple", "pear") == [[1, 0, 1], [0, 1, 0], None]
    many = probes.cifar10(root=str(cifar))
    assert list(many.image_classes)[:6] == ["airplane", "bird", "automobile", "airplane", "bird", "bird"]
    part = probes.subset(many, limit=4, seed=1)
    assert list(part.image_classes) == [many.image_classes[row] for row in part.rows]
    assert probes.concat(probes=[few, part]).image_classes == [*few.image_classes, *part.image_classes]


def test_cifar_without_its_names_is_refused_before_anything_runs(cifar):
    (cifar / "fine_label_names.txt").write_text("apple\n")
    with pytest.raises(InputError, match=r"fine_label_names.txt names 1 classes, and an image is of 1"):
        AnnotationsJudge().check(probes.cifar100(root=str(cifar)))
    (cifar / "fine_label_names.txt").unlink()
    with pytest.raises(InputError, match=r"fine_label_names.txt is missing: it names the classes"):
        AnnotationsJudge().check(probes.cifar100(root=str(cifar)))


@pytest.mark.filterwarnings("ignore")
def test_the_column_of_a_hugging_face_set(tmp_path):
    datasets = pytest.importorskip("datasets")
    picture = tmp_path / "1.png"
    Image.new("RGB", (3, 2)).save(picture)
    images = [{"bytes": picture.read_bytes(), "path": None}] * 3
    kinds = {
        "image": datasets.Image(),
        "breed": datasets.ClassLabel(names=["poodle", "pug"]),
        "text": datasets.Value("string"),
        "number": datasets.Value("int64"),
    }
    columns = {"image": images, "breed": [1, -1, 0], "text": ["a", None, "b"], "number": [0, 1, 2]}
    datasets.Dataset.from_dict(columns, features=datasets.Features(kinds)).save_to_disk(tmp_path / "saved")
    arguments = {"path": str(tmp_path / "saved"), "split": "train"}
    probe = probes.huggingface(**arguments)
    assert list(probe.image_classes) == ["pug", "", "poodle"]
    assert labels_of(probe, "pug", "poodle", "") == [[1, 0, 0], [0, 0, 1], None]
    assert list(probes.huggingface(**arguments, label="text").image_classes) == ["a", "", "b"]
    assert probe.fingerprint == probes.huggingface(**arguments, label="text").fingerprint
    with pytest.raises(InputError, match=r"probe.label=number of .* holds Value, not the names of classes"):
        probes.huggingface(**arguments, label="number")
    with pytest.raises(InputError, match=r"column 'bred' is not in .*saved; did you mean 'breed'"):
        probes.huggingface(**arguments, label="bred")
    columns["other"], kinds["other"] = [0, 0, 0], datasets.ClassLabel(names=["x"])
    datasets.Dataset.from_dict(columns, features=datasets.Features(kinds)).save_to_disk(tmp_path / "two")
    assert probes.huggingface(path=str(tmp_path / "two"), split="train").image_classes is None, "which is meant?"


def test_folders_of_trees_shards_and_lists(tmp_path):
    for name in ("dog/1.png", "grey_wolf/2.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (3, 2)).save(tmp_path / name)
    assert probes.folder(root=str(tmp_path)).image_classes == ["dog", "grey_wolf"]
    (tmp_path / "images.txt").write_text("dog/1.png\ngrey_wolf/2.png\n")
    assert probes.ids(path=str(tmp_path / "images.txt")).image_classes == ["dog", "grey_wolf"]
    for name, inside in (("sorted", "dog/1.png"), ("flat", "1.png")):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as archive:
            archive.add(tmp_path / "dog/1.png", inside)
    assert probes.tar(path=str(tmp_path / "sorted.tar")).image_classes == ["dog"]
    flat = probes.tar(path=str(tmp_path / "flat.tar"))
    assert flat.image_classes is None, "a shard is no class"
    with pytest.raises(InputError, match="probe 'tar' has neither"):
        AnnotationsJudge().check(flat)


def test_the_numbers_of_imagenets_folders_are_its_names(tmp_path):
    for number in ("n01440764", "n02979186"):
        (tmp_path / number).mkdir()
        Image.new("RGB", (3, 2)).save(tmp_path / number / f"{number}_1.png")
    probe = probes.folder(root=str(tmp_path))
    assert labels_of(probe, "tench", "cassette player", "n01440764") == [[1, 0], [0, 1], None]


def test_a_users_own_set_tells_them_as_torchvisions_do():
    class Own(list):
        pass

    pictures = Own([Image.fromarray(np.zeros((2, 3, 3), np.uint8))] * 3)
    assert probe_of_images(pictures, source="mine", name="own").image_classes is None
    pictures.classes, pictures.targets = ["cat", "dog"], [1, 0, 1]
    assert probe_of_images(pictures, source="mine", name="own").image_classes == ["dog", "cat", "dog"]
    pictures.targets = [1, 0]
    with pytest.raises(InputError, match="mine gives 3 images with 2 classes; give one each"):
        _ = probe_of_images(pictures, source="mine", name="own").image_classes
    pictures.image_classes = ["a", "b"]
    with pytest.raises(InputError, match="mine gives 3 images with 2 classes; give one each"):
        _ = probe_of_images(pictures, source="mine", name="own").image_classes


class Pairs(Dataset):
    """As torchvision's: pairs, the numbers of the items made by `target_transform` where there is one."""

    def __init__(self, *, order=None, target_transform=None):
        self.classes, self.targets, self.target_transform = ["cat", "dog", "owl"], [0, 1, 2, 1], target_transform
        self.order = order or range(4)

    def __len__(self):
        return 4

    def __getitem__(self, index):
        index = self.order[index]
        target = self.targets[index]
        made = self.target_transform(target) if self.target_transform else target
        return Image.fromarray(np.full((4, 4, 3), 50 * index, np.uint8)), made


def classes(dataset) -> list[str] | None:
    return probe_of_images(dataset, source="mine", name="own").image_classes


def test_classes_are_those_of_the_items():
    assert classes(Pairs()) == ["cat", "dog", "owl", "dog"]
    assert classes(Pairs(order=[3, 2, 1, 0])) == ["dog", "owl", "dog", "cat"], "targets are in another order"
    assert classes(Subset(Pairs(), [2, 0])) == ["owl", "cat"]
    assert classes(Subset(Subset(Pairs(), [2, 0, 1]), [1, 2])) == ["cat", "dog"]
    assert classes(ConcatDataset([Subset(Pairs(), [2]), Pairs()])) == ["owl", "cat", "dog", "owl", "dog"]
    assert classes(Pairs(target_transform=lambda number: number % 2)) is None, "names of other numbers"
    assert classes(Subset(Pairs(target_transform=lambda number: number % 2), [0])) is None
    assert classes(Pairs(target_transform=lambda number: "even" if number % 2 == 0 else "odd")) == [
        "even", "odd", "even", "odd",
    ]  # fmt: skip
    assert classes(Pairs(target_transform=lambda number: {"boxes": []})) is None
    assert classes([(Image.new("RGB", (3, 3)), np.int64(1))]) is None


@pytest.mark.filterwarnings("ignore")
def test_a_hugging_face_set_in_hand_goes_by_its_image_column():
    datasets = pytest.importorskip("datasets")
    pictures = [Image.fromarray(np.full((4, 4, 3), 60 * index, np.uint8)) for index in range(3)]
    kinds = {"image": datasets.Image(), "breed": datasets.ClassLabel(names=["poodle", "pug"])}
    table = datasets.Dataset.from_dict({"image": pictures, "breed": [1, 0, 1]}, features=datasets.Features(kinds))
    probe = probe_of_images(table, source="images", name="own")
    assert [probe[index].getpixel((0, 0))[0] for index in range(3)] == [0, 60, 120]
    assert probe.image_classes == ["pug", "poodle", "pug"]
    assert classes(table.select([2, 1])) == ["pug", "poodle"]
    photo = table.rename_column("image", "photo")
    assert probe_of_images(photo, source="images", name="own")[1].getpixel((0, 0))[0] == 60
    with pytest.raises(InputError, match="image 0 is a row with no image but breed"):
        probe_of_images(table.remove_columns("image"), source="images", name="own")
    both = datasets.Dataset.from_dict({"photo": pictures, "mask": pictures}, features=datasets.Features(
        {"photo": datasets.Image(), "mask": datasets.Image()}
    ))  # fmt: skip
    with pytest.raises(InputError, match=r"several images, photo, mask; .*data.rename_column\(NAME, 'image'\) does"):
        probe_of_images(both, source="images", name="own")
    assert probe_of_images(both.rename_column("photo", "image"), source="images", name="own")[2].size == (4, 4)
    with pytest.raises(InputError, match=r"gives DatasetDict.*choose a split of it, as in data\['train'\]"):
        probe_of_images(datasets.DatasetDict({"train": table}), source="images", name="own")
