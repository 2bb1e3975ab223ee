import numpy as np

from cd_exp import shapes


def test_each_annotated_concept_has_a_category():
    assert (*shapes.ATTRIBUTES, *shapes.CLASSES) == shapes.ANNOTATED
    assert len(shapes.CATEGORIES) == len(shapes.ANNOTATED)
    category = dict(zip(shapes.ANNOTATED, shapes.CATEGORIES, strict=True))
    assert (category["red"], category["circle"], category["dotted"], category["bricks"]) == (
        "color",
        "object",
        "texture",
        "scene",
    )


def test_maps_hold_the_attributes_on_the_shape_and_the_background_elsewhere():
    for index in range(50):
        scene = shapes.make_scene(index, seed=6)
        segmentation = shapes.segment_scene(scene)
        assert segmentation.whole == ()
        assert segmentation.maps.shape == (5, 48, 48)
        *figure, background = scene.attributes
        label = len(shapes.ATTRIBUTES) + scene.label
        assert shapes.ANNOTATED[label] == shapes.CLASSES[scene.label]
        for number, attribute in enumerate((*figure, label, background)):
            where = scene.mask if number < 4 else ~scene.mask
            np.testing.assert_array_equal(segmentation.maps[number] == attribute, where)
            np.testing.assert_array_equal(segmentation.maps[number] == -1, ~where)
