import numpy as np
import pytest
from PIL import Image

from cd_exp import probes
from cd_exp.cache import Store
from cd_exp.errors import InputError
from cd_exp.evaluation.judges import content_digests, held_out_split, split_images
from cd_exp.records import Probe

DIGESTS = [f"content {number}" for number in range(100)]


def test_every_image_is_on_one_side_and_a_fifth_is_scored_on():
    chosen, scored = split_images(DIGESTS, seed=0)
    assert sorted([*chosen, *scored]) == list(range(100))
    assert len(scored) == 20
    assert len(split_images(DIGESTS, seed=0, share=0.5)[1]) == 50


def test_the_side_follows_the_content_whatever_the_order():
    order = np.random.default_rng(0).permutation(100)
    scored = {DIGESTS[row] for row in split_images(DIGESTS, seed=0)[1]}
    assert {DIGESTS[order[row]] for row in split_images([DIGESTS[row] for row in order], seed=0)[1]} == scored
    assert {DIGESTS[row] for row in split_images(DIGESTS, seed=1)[1]} != scored


def test_copies_stay_on_one_side():
    several = [f"content {number // 5}" for number in range(100)]
    chosen, scored = split_images(several, seed=0)
    assert not {several[row] for row in chosen} & {several[row] for row in scored}
    assert len(scored) == 20


@pytest.mark.parametrize("digests", [[], ["a", "b", "c"], ["same"] * 50])
def test_too_few_images_for_both_sides(digests):
    with pytest.raises(InputError, match=r"images leave \d+ to choose labels on and \d+ to score them on"):
        split_images(digests, seed=0)


def test_the_content_of_pictures_not_their_names(tmp_path):
    for name, grey in (("a.png", 10), ("b.png", 20), ("c.png", 10)):
        Image.new("RGB", (4, 4), (grey, grey, grey)).save(tmp_path / name)
    probe = probes.folder(root=str(tmp_path))
    first, second, third = content_digests(probe, [0, 1, 2])
    assert first == third != second
    pictures = _Pictures([probe[index] for index in range(3)])
    first, second, third = content_digests(pictures, [0, 1, 2])
    assert first == third != second


def test_a_picture_that_cannot_be_read_goes_by_its_id():
    pictures = _Pictures([Image.new("RGB", (2, 2)), OSError("no image")])
    assert content_digests(pictures, [1]) == ["1"]


def test_the_division_is_remembered(tmp_path):
    probe, store = probes.shapes(size=30), Store(tmp_path)
    first = held_out_split(probe, range(30), store=store, seed=0)
    again = held_out_split(probe, range(30), store=Store(tmp_path), seed=0)
    assert [side.tolist() for side in first] == [side.tolist() for side in again]
    assert len(list((tmp_path / "contents").iterdir())) == 1
    assert held_out_split(probe, range(20), store=store, seed=0)[0].max() < 20


class _Pictures(Probe):
    """A probe of images in memory, some of which cannot be opened."""

    name = "pictures"
    fingerprint = "none"

    def __init__(self, pictures):
        self.pictures = pictures
        self.ids = [str(number) for number in range(len(pictures))]

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        if isinstance(self.pictures[index], OSError):
            raise self.pictures[index]
        return self.pictures[index]
