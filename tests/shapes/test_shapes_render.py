import hashlib
import shutil
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd_exp import shapes
from cd_exp.shapes import render

COUNT = 1500


@pytest.fixture(scope="module")
def scenes():
    return [shapes.make_scene(index, seed=77) for index in range(COUNT)]


@settings(deadline=None, max_examples=25)
@given(index=st.integers(0, 2**31), seed=st.integers(0, 2**31))
def test_scene_depends_on_seed_and_index_alone(index, seed):
    first = shapes.make_scene(index, seed=seed)
    shapes.make_scene(index + 1, seed=seed)
    again = shapes.make_scene(index, seed=seed)
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert first.attributes == again.attributes
    assert (first.pixels != shapes.make_scene(index + 1, seed=seed).pixels).any()
    assert (first.pixels != shapes.make_scene(index, seed=seed + 1).pixels).any()


@pytest.mark.parametrize("size", [32, 48, 64])
def test_scene_has_the_size_asked_for(size):
    scene = shapes.make_scene(3, seed=4, size=size)
    assert scene.pixels.shape == (size, size, 3)
    assert scene.pixels.dtype == np.uint8
    assert scene.pixels.flags.c_contiguous
    assert scene.mask.shape == (size, size)


def test_label_and_attributes_name_the_same_thing(scenes):
    for scene in scenes[:300]:
        colour, shape, texture, background = (shapes.ATTRIBUTES[attribute] for attribute in scene.attributes)
        assert shapes.CLASSES[scene.label] == f"{colour} {shape}"
        assert texture == shapes.TEXTURES[scene.texture]
        assert background == shapes.BACKGROUNDS[scene.background]


def test_every_class_texture_and_background_is_rendered_about_evenly(scenes):
    assert {scene.label for scene in scenes} == set(range(len(shapes.CLASSES)))
    for attribute, name in enumerate(shapes.ATTRIBUTES):
        choices = len(shapes.COLOURS) if attribute < 20 else len(shapes.TEXTURES)
        share = np.mean([attribute in scene.attributes for scene in scenes])
        assert abs(share - 1 / choices) < 5 * np.sqrt((choices - 1) / choices**2 / COUNT), name


def test_shape_is_whole_and_large_enough_to_see(scenes):
    for scene in scenes:
        assert 0.02 < scene.mask.mean() < 0.5
        border = np.concatenate([scene.mask[0], scene.mask[-1], scene.mask[:, 0], scene.mask[:, -1]])
        assert border.sum() <= 8  # no more than two corners, cut by a pixel or two


def test_pixels_well_inside_the_mask_have_the_colour(scenes):
    # Textures darken a colour, and the light scales it, so the direction in RGB is what names it.
    direction = render.PALETTE / np.linalg.norm(render.PALETTE, axis=1, keepdims=True)
    right = []
    for scene in scenes:
        inner = scene.mask.copy()
        for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
            inner &= np.roll(scene.mask, step, axis)
        if inner.any():
            median = np.median(scene.pixels[inner], axis=0)
            right.append((direction @ (median / np.linalg.norm(median))).argmax() == scene.colour)
    assert np.mean(right) > 0.97  # a dark orange and a light brown meet


def test_mask_is_where_the_shape_was_painted(scenes):
    """The same scene with a shape of another colour differs inside the mask, and nowhere but at the edge outside it."""
    for index, scene in enumerate(scenes[:200]):
        other = {"colour": (scene.colour - 1) % len(shapes.COLOURS)}
        changed = (shapes.make_scene(index, seed=77, fixed=other).pixels != scene.pixels).any(axis=2)
        assert changed[scene.mask].mean() > 0.97
        near = scene.mask.copy()
        for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
            near |= np.roll(scene.mask, step, axis)
        assert changed[~near].mean() < 0.01


def test_outline_of_each_shape_covers_its_own_part_of_a_disc():
    """No two shapes share an outline: their areas or symmetries differ at the same place and turn."""
    draws = np.array([0.5, 0.1, 0.5, 0.5], dtype=np.float32)
    whole = render._bounding_boxes(np.zeros(24, np.float32), 48, objects=1)[0]
    masks = [render._coverage(shape, draws, whole) >= 0.5 for shape in shapes.SHAPES]
    for first in range(len(masks)):
        for second in range(first):
            union = (masks[first] | masks[second]).sum()
            assert (masks[first] & masks[second]).sum() / union < 0.93, (shapes.SHAPES[first], shapes.SHAPES[second])


RENDERED = "227bb88139578d63c95a147e0db708ffce41c67d303ec0b530e0257d6f4b1e17"


def test_what_is_rendered_is_of_this_version():
    """Where this fails because the renderer was changed, give `render.VERSION` another text, and write both here."""
    seen = hashlib.sha256()
    for objects, index in product((1, 2), range(64)):
        one = shapes.make_scene(index, seed=3, objects=objects)
        seen.update(one.pixels.tobytes() + one.mask.tobytes() + repr((one.label, one.attributes)).encode())
        seen.update(repr([(figure.label, figure.texture) for figure in one.figures]).encode())
    seen.update(repr((shapes.CLASSES, shapes.ATTRIBUTES)).encode())
    assert seen.hexdigest() == RENDERED
    assert shapes.shapes_fingerprint() == "d04d4cf434ed05795e543f77d67d576a8d7272c304b7647bb5aeffcb8ea3c97c"


def test_a_comment_changes_no_fingerprint(tmp_path):
    """As a hash of the sources it changed which images a judge scores on."""
    left_out = shutil.ignore_patterns("weights", "__pycache__")
    shutil.copytree(Path(shapes.__file__).parents[1], tmp_path / "cd_exp", ignore=left_out)
    with (tmp_path / "cd_exp/shapes/lexicon.py").open("a") as file:
        file.write("# a comment\n")
    code = "from cd_exp import shapes; print(shapes.__file__, shapes.shapes_fingerprint())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert said.stdout.split() == [str(tmp_path / "cd_exp/shapes/__init__.py"), shapes.shapes_fingerprint()]


def test_rendering_is_fast():
    started = time.process_time()
    for index in range(300):
        shapes.make_scene(index, seed=5)
    assert (
        time.process_time() - started < 300 * 0.004
    )  # a half of a millisecond on an idle core; much slack for a busy one


def test_import_loads_neither_torch_nor_pillow():
    check = "import sys, cd_exp.shapes; print(*{'torch', 'PIL', 'timm', 'open_clip', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
