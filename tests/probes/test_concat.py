import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from cd_exp import probes
from cd_exp.errors import InputError
from cd_exp.evaluation.baselines.netdissect.method import netdissect
from cd_exp.records import Probe, Segmentation


@pytest.fixture
def trees(tmp_path):
    for name, greys in (("a", (1, 2)), ("b", (3, 4, 5))):
        (tmp_path / name).mkdir()
        for grey in greys:
            Image.new("RGB", (2, 2), (grey, 0, 0)).save(tmp_path / name / f"{grey}.png")
    return tmp_path


def of(trees, folder, **settings):
    return probes.folder(root=str(trees / folder), **settings)


def test_one_after_the_other(trees):
    probe = probes.concat(probes=[of(trees, "a", name="first"), of(trees, "b", name="second")])
    assert probe.name == "first+second"
    assert probe.ids == ("1.png", "2.png", "3.png", "4.png", "5.png")
    assert [image.getpixel((0, 0))[0] for image in probe] == [1, 2, 3, 4, 5]
    assert len(pickle.loads(pickle.dumps(probe))) == 5


def test_a_mapping_serves_as_well_and_sets_nest(trees):
    inner = probes.concat(probes={"x": of(trees, "b"), "y": of(trees, "a")})
    probe = probes.concat(probes=(inner, probes.shapes(size=2)))
    assert len(probe) == 7
    assert probe.ids[-1] == "0/00001"
    np.testing.assert_array_equal(np.asarray(probe[6]), np.asarray(probes.shapes(size=2)[1]))


def test_ids_that_clash_are_told_apart(trees):
    probe = probes.concat(probes=[of(trees, "a"), of(trees, "a")])
    assert probe.ids == ("0-folder/1.png", "0-folder/2.png", "1-folder/1.png", "1-folder/2.png")


def test_order_counts(trees):
    a, b = of(trees, "a"), of(trees, "b")
    assert probes.concat(probes=[a, b]).fingerprint != probes.concat(probes=[b, a]).fingerprint


def test_notes_of_all(trees):
    (trees / "a/notes.txt").touch()
    assert probes.concat(probes=[probes.shapes(size=1), of(trees, "a")]).notes == of(trees, "a").notes != ()


def test_bounds_and_nothing_to_join(trees):
    probe = probes.concat(probes=[of(trees, "a")])
    for index in (-1, 2):
        with pytest.raises(IndexError):
            probe[index]
    with pytest.raises(InputError, match=r"probe.probes names no probe set"):
        probes.concat(probes=[])


def test_masks_are_kept_and_concepts_of_one_name_and_category_are_one(trees):
    first, second = probes.shapes(size=3), probes.subset(probes.shapes(size=5, seed=9), limit=2)
    probe = probes.concat(probes=[first, of(trees, "a"), second])
    assert probe.has_masks
    assert (probe.concepts, probe.categories) == (first.concepts, first.categories)
    np.testing.assert_array_equal(probe.segmentation(1).maps, first.segmentation(1).maps)
    np.testing.assert_array_equal(probe.segmentation(6).maps, second.segmentation(1).maps)
    assert probe.segmentation(3).maps.shape[0] == 0
    assert probe.segmentation(3).whole == ()
    assert not probes.concat(probes=[of(trees, "a")]).has_masks


class Painted(Probe):
    """Two images of one colour, with masks that are numbered otherwise than elsewhere."""

    fingerprint, concepts, categories, has_masks = "painted", (), (), True

    def __init__(self, name, concepts, categories, maps, whole=()):
        self.name, self.ids, self.fingerprint = name, (f"{name}0", f"{name}1"), name
        self.concepts, self.categories, self._found = concepts, categories, Segmentation(np.array(maps), whole)

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return Image.new("RGB", (2, 1), (index, 0, 0))

    def segmentation(self, index):
        return self._found


def test_concepts_are_told_apart_by_their_category():
    one = Painted("one", ("red", "cup"), ("color", "object"), [[[0, 1]], [[-1, 0]]])
    two = Painted("two", ("cup", "red", "cup"), ("part", "color", "object"), [[[2, 1]]], whole=(0,))
    probe = probes.concat(probes={"one": one, "two": two})
    assert probe.concepts == ("red", "cup", "cup")
    assert probe.categories == ("color", "object", "part")
    assert probe.segmentation(0).maps.tolist() == [[[0, 1]], [[-1, 0]]]
    assert probe.segmentation(2).maps.tolist() == [[[1, 0]]]
    assert probe.segmentation(2).whole == (2,)


def test_network_dissection_counts_an_image_only_for_what_its_set_annotates(trees):
    """Photographs without masks between annotated ones change thresholds, and no count of pixels."""
    one = Painted("one", ("red", "cup"), ("color", "object"), [[[0, 1]]])
    joined = probes.concat(probes=[one, of(trees, "b")])
    alone, both = (
        netdissect(lambda probe=probe: [(range(len(probe)), {"layer": maps(len(probe))})], probe, quantile=0.6)["layer"]
        for probe in (one, joined)
    )
    assert alone.activation.tolist() == [[2, 2]]
    assert torch.equal(alone.truth, both.truth)
    assert torch.equal(alone.activation, both.activation)
    assert torch.equal(alone.intersection, both.intersection)


def maps(images):
    return torch.tensor([[[[0.0, 1.0]]]] * images)
