import pickle

import numpy as np
import pytest

from cd_exp import probes
from cd_exp import shapes as world
from cd_exp.errors import InputError


def test_the_images_are_the_scenes():
    probe = probes.shapes(size=3, seed=5)
    assert (probe.name, len(probe), probe.ids) == ("shapes", 3, ("5/00000", "5/00001", "5/00002"))
    for index, image in enumerate(probe):
        np.testing.assert_array_equal(np.asarray(image), world.make_scene(index, seed=5).pixels)
    assert pickle.loads(pickle.dumps(probe)).fingerprint == probe.fingerprint


def test_the_masks_name_what_the_scene_shows():
    probe = probes.shapes(size=20)
    for index in range(20):
        segmentation = probe.segmentation(index)
        height, width = segmentation.maps.shape[1:]
        assert (width, height) == probe[index].size
        shown = {*np.unique(segmentation.maps).tolist(), *segmentation.whole} - {-1}
        scene = world.make_scene(index, seed=world.PROBE_SEED)
        assert shown == {*scene.attributes, len(world.ATTRIBUTES) + scene.label}
    assert len(probe.concepts) == len(probe.categories) == len(world.ANNOTATED)


def test_fingerprint_follows_size_and_seed():
    prints = {probes.shapes(size=size, seed=seed).fingerprint for size in (2, 3) for seed in (0, 1)}
    assert len(prints) == 4


def test_no_image():
    with pytest.raises(InputError, match=r"probe.size=0 leaves no image"):
        probes.shapes(size=0)
