import numpy as np
import pytest

from cd_exp import shapes
from cd_exp.evaluation.judges.images import is_drawable, render_label


def attributes(picture):
    return dict(zip(shapes.KINDS, picture.attributes, strict=True))


def test_the_scenes_of_a_label_show_it_and_pairs_differ_in_one_attribute():
    drawn = render_label(["red", "striped circle", "octagon"], scenes=20, pairs=5)
    assert list(drawn.rows) == ["red", "striped circle"]
    assert len(drawn) == 2 * (20 + 5 * 4)
    for label, rows in drawn.rows.items():
        named = shapes.named_attributes(label)
        assert len({drawn.images[row].index for row in rows}) == 20
        for row in rows:
            assert named.items() <= attributes(drawn.images[row]).items()
        changed = {"named": set(), "other": set()}
        for kind, pairs in zip(changed, drawn.pairs_of(label), strict=True):
            for first, second in pairs:
                before, after = drawn.images[first], drawn.images[second]
                assert before.index == after.index
                differs = [key for key in shapes.KINDS if attributes(before)[key] != attributes(after)[key]]
                assert len(differs) == 1
                changed[kind].add(differs[0])
        assert changed["named"] == set(named)
        assert changed["other"] == set(shapes.KINDS) - set(named)


def test_a_picture_is_the_scene_with_these_attributes():
    drawn = render_label(["red"], scenes=3, pairs=1)
    assert len(drawn.ids) == len(set(drawn.ids)) == len(drawn)
    one = drawn.images[1]
    expected = shapes.make_scene(one.index, seed=3003, fixed=attributes(one))
    np.testing.assert_array_equal(np.asarray(drawn[1]), expected.pixels)


def test_formulas_and_sums_are_drawn_where_they_predict_most():
    rendered = render_label(["red AND NOT circle", "1.00 red + 0.50 circle", "NOT red"], scenes=30, pairs=1)
    drawn = {label: [attributes(rendered.images[row]) for row in rows] for label, rows in rendered.rows.items()}
    assert all(one["colour"] == 0 and one["shape"] != 0 for one in drawn["red AND NOT circle"])
    assert all(one["colour"] == 0 and one["shape"] == 0 for one in drawn["1.00 red + 0.50 circle"])
    assert all(one["colour"] != 0 for one in drawn["NOT red"])


@pytest.mark.parametrize("label", ["octagon", "red AND octagon", "red AND blue", "", "red OR NOT red"])
def test_what_the_world_cannot_draw(label):
    assert not is_drawable(label)


def test_the_scenes_of_a_label_do_not_depend_on_the_others():
    alone, beside = render_label(["red"], scenes=5, pairs=2), render_label(["blue", "red"], scenes=5, pairs=2)
    assert [alone.images[row] for row in alone.rows["red"]] == [beside.images[row] for row in beside.rows["red"]]
    assert alone.fingerprint != beside.fingerprint
