import numpy as np
import pytest

from cd_exp import probes, shapes
from cd_exp.errors import InputError


def test_two_figures_lie_in_two_halves_and_the_first_keeps_its_attributes():
    for index in range(60):
        one, two = shapes.make_scene(index, seed=3), shapes.make_scene(index, seed=3, objects=2)
        assert two.attributes == one.attributes
        assert len(one.figures) == 1
        first, second = (figure.mask for figure in two.figures)
        assert not (first & second).any()
        assert first.sum() > 30
        assert second.sum() > 30
        rows, columns = ([mask.any(axis=axis).nonzero()[0] for mask in (first, second)] for axis in (1, 0))
        apart = [min(side[0].max(), side[1].max()) < max(side[0].min(), side[1].min()) for side in (rows, columns)]
        assert any(apart)


def test_what_is_drawn_is_what_the_scene_shows():
    for objects in (1, 2):
        for index in range(20):
            scene = shapes.make_scene(index, seed=4, objects=objects)
            drawn = shapes.draw_scene(index, seed=4, objects=objects)
            assert [(f["colour"], f["shape"], f["texture"]) for f in drawn] == [
                (figure.colour, figure.shape, figure.texture) for figure in scene.figures
            ]
            assert {figure["background"] for figure in drawn} == {scene.background}


def test_a_fixed_attribute_changes_nothing_else():
    free = shapes.make_scene(5, seed=9)
    same = shapes.make_scene(5, seed=9, fixed={"colour": free.colour})
    np.testing.assert_array_equal(free.pixels, same.pixels)
    other = (free.colour + 1) % 10
    changed = shapes.make_scene(5, seed=9, fixed={"colour": other})
    assert changed.attributes[1:] == free.attributes[1:]
    assert changed.colour == other
    np.testing.assert_array_equal(changed.mask, free.mask)
    differs = (changed.pixels != free.pixels).any(axis=2)
    assert differs[free.mask].mean() > 0.9
    assert not differs[~free.mask].all()
    moved = shapes.make_scene(5, seed=9, fixed={"background": (free.background + 1) % 4})
    assert (moved.pixels[free.mask] == free.pixels[free.mask]).mean() > 0.8


def test_the_masks_of_two_figures():
    scene = shapes.make_scene(2, seed=6, objects=2)
    maps = shapes.segment_scene(scene).maps
    for figure in scene.figures:
        assert {shapes.ANNOTATED[n] for n in np.unique(maps[0][figure.mask])} == {shapes.COLOURS[figure.colour]}
        assert {shapes.ANNOTATED[n] for n in np.unique(maps[3][figure.mask])} == {shapes.CLASSES[figure.label]}
        assert (maps[4][figure.mask] == -1).all()
    outside = ~(scene.figures[0].mask | scene.figures[1].mask)
    assert {shapes.ANNOTATED[n] for n in np.unique(maps[4][outside])} == {shapes.BACKGROUNDS[scene.background]}
    assert (maps[:4, outside] == -1).all()


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("red", {"colour": 0}),
        ("a red circle", {"colour": 0, "shape": 0}),
        ("striped red circle on waves", {"texture": 1, "colour": 0, "shape": 0, "background": 1}),
        ("octagon", None),
        ("red octagon", None),
        ("red green", None),
        ("on", None),
        ("", None),
    ],
)
def test_a_name_says_its_attributes_or_nothing(name, attributes):
    assert shapes.named_attributes(name) == attributes


def test_the_probe_knows_what_its_scenes_show():
    probe = probes.shapes(size=200, objects=2)
    shown = probe.shows("red circle", range(200))
    masks = [shapes.CLASSES.index("red circle") + 28 in probe.segmentation(index).maps for index in range(200)]
    assert shown.tolist() == masks
    apart = probe.shows("red", range(200)) & probe.shows("circle", range(200))
    assert (apart & ~shown).any()
    assert probe.shows("octagon", range(3)) is None


def test_two_objects_are_another_probe_set():
    one, two = probes.shapes(size=4), probes.shapes(size=4, objects=2)
    assert one.fingerprint != two.fingerprint
    assert (one.ids[0], two.ids[0]) == ("0/00000", "0/00000/2")
    assert (np.asarray(one[0]) != np.asarray(two[0])).any()
    with pytest.raises(InputError, match=r"probe.objects=3 cannot be drawn; a scene has 1 object or 2"):
        probes.shapes(objects=3)
