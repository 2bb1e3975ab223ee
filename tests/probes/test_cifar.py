import hashlib
import io
import pickle
import tarfile

import numpy as np
import pytest
from helpers.serving import serving

from cd_exp import probes
from cd_exp.errors import InputError
from cd_exp.io.download import Archive


def planes(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def records(images: np.ndarray, labels: int) -> bytes:
    """The published layout: labels, then the red, the green and the blue plane, row by row."""
    return b"".join(bytes([7] * labels) + image.tobytes() for image in images)


TRAIN, TEST = planes(5, 0), planes(3, 1)
FILES = {
    "cifar100": ("cifar-100-binary", {"train.bin": records(TRAIN, 2), "test.bin": records(TEST, 2)}),
    "cifar10": (
        "cifar-10-batches-bin",
        {f"data_batch_{i + 1}.bin": records(TRAIN[i : i + 1], 1) for i in range(5)}
        | {"test_batch.bin": records(TEST, 1)},
    ),
}


@pytest.fixture
def served(tmp_path):
    """Both archives as they are published, from a server on this machine."""
    (tmp_path / "served").mkdir()
    for name, (folder, files) in FILES.items():
        with tarfile.open(tmp_path / f"served/{name.replace('cifar', 'cifar-')}-binary.tar.gz", "w:gz") as archive:
            for file, data in files.items():
                member = tarfile.TarInfo(f"{folder}/{file}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    with serving(tmp_path / "served") as site:
        yield site


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_downloads_itself_and_reads_every_image(served, tmp_path, name):
    archive = f"{name.replace('cifar', 'cifar-')}-binary.tar.gz"
    checksum = "md5:" + hashlib.md5((tmp_path / "served" / archive).read_bytes()).hexdigest()
    settings = {"data_dir": str(tmp_path / "data"), "archive": Archive(served.url + archive, checksum, "")}
    make = getattr(probes, name)
    train, val = make(**settings), make(**settings, split="val")
    for probe, images in ((train, TRAIN), (val, TEST)):
        assert len(probe) == len(images)
        for index, image in enumerate(images):
            np.testing.assert_array_equal(np.asarray(probe[index]), image.transpose(1, 2, 0))
        assert probe[0].mode == "RGB"
    assert train.ids == tuple(f"train/0000{i}" for i in range(5))
    assert val.ids[-1] == "val/00002"
    assert served.asked == [f"/{archive}"]


@pytest.fixture
def root(tmp_path):
    for folder, files in FILES.values():
        (tmp_path / folder).mkdir()
        for file, data in files.items():
            (tmp_path / folder / file).write_bytes(data)
    return str(tmp_path)


def test_a_part_keeps_its_ids_and_changes_the_fingerprint(root, tmp_path):
    whole = probes.with_common_settings(probes.cifar100, {"root": root, "cache": str(tmp_path / "cache")})
    first, drawn = probes.subset(whole, limit=3), probes.subset(whole, limit=3, seed=1)
    assert first.ids == whole.ids[:3]
    assert set(drawn.ids) < set(whole.ids)
    np.testing.assert_array_equal(np.asarray(drawn[2]), TRAIN[drawn.rows[2]].transpose(1, 2, 0))
    prints = {probe.fingerprint for probe in (whole, first, drawn, probes.cifar100(root=root, split="val"))}
    assert len(prints) == 4
    assert probes.cifar100(root=root).fingerprint == whole.fingerprint


def test_travels_to_another_process(root):
    probe = pickle.loads(pickle.dumps(probes.cifar10(root=root)))
    np.testing.assert_array_equal(np.asarray(probe[4]), TRAIN[4].transpose(1, 2, 0))
    assert len(pickle.dumps(probe)) < 5_000


def test_beyond_the_end(root):
    with pytest.raises(IndexError):
        probes.cifar10(root=root)[5]
    assert len(list(probes.cifar10(root=root))) == 5


def test_errors(root, tmp_path):
    with pytest.raises(InputError, match=r"split 'test' is not in cifar100; choose from train, val"):
        probes.cifar100(root=root, split="test")
    with pytest.raises(
        InputError, match=r"holds no data_batch_1.bin, as cifar-10-binary.tar.gz has; probe.root must be"
    ):
        probes.cifar10(root=str(tmp_path / "cifar-100-binary"))
    path = tmp_path / "cifar-10-batches-bin/data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        InputError, match=r"data_batch_3.bin has 3072 bytes, not a multiple of 3073: it is missing or cut"
    ):
        probes.cifar10(root=root)
    path.unlink()
    with pytest.raises(InputError, match=r"data_batch_3.bin has 0 bytes"):
        probes.cifar10(root=root)


def test_a_file_cut_off_later_is_an_unreadable_image(root, tmp_path):
    probe = probes.cifar100(root=root)
    path = tmp_path / "cifar-100-binary/train.bin"
    path.write_bytes(path.read_bytes()[:-1])
    assert probe[3].size == (32, 32)
    with pytest.raises(OSError, match=r"train.bin ends within image 4"):
        probe[4]
