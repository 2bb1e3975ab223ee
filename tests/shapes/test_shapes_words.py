from collections import Counter

import numpy as np
import pytest

from cd_exp import shapes
from cd_exp.shapes import descriptions, lexicon


def test_concepts_hold_all_that_is_rendered_and_much_that_is_not():
    assert len(set(shapes.CONCEPTS)) == len(shapes.CONCEPTS) > 400
    assert set(shapes.ATTRIBUTES) | set(shapes.CLASSES) < set(shapes.CONCEPTS)
    assert len(shapes.CLASSES) == len(shapes.COLOURS) * len(shapes.SHAPES) == 100
    rendered = set(shapes.ATTRIBUTES) | {"on"}
    strangers = [name for name in shapes.CONCEPTS if not set(name.split()) <= rendered]
    assert len(strangers) > 200


def test_no_distractor_is_a_rendered_name():
    others = lexicon.OTHER_COLOURS + lexicon.OTHER_SHAPES + lexicon.OTHER_TEXTURES + lexicon.OTHER_PLACES
    assert not set(others + shapes.EVERYDAY) & set(shapes.ATTRIBUTES)
    assert not set(others) & set(shapes.EVERYDAY)


def test_names_are_plain_lower_case_words():
    for name in shapes.CONCEPTS:
        assert name == " ".join(name.lower().split())
        assert name.isascii()


@pytest.fixture(scope="module")
def written():
    rng = np.random.default_rng(3)
    return [(scene, shapes.caption_scene(scene, rng)) for scene in (shapes.make_scene(i, seed=8) for i in range(3000))]


@pytest.mark.slow
def test_a_caption_names_only_what_is_there(written):
    unrelated = 0
    for scene, text in written:
        there = {shapes.ATTRIBUTES[attribute] for attribute in scene.attributes}
        named = set(text.split()) & set(shapes.ATTRIBUTES)
        assert named <= there, text
        unrelated += not named
    assert unrelated / len(written) == pytest.approx(descriptions.UNRELATED, abs=0.02)


@pytest.mark.slow
def test_captions_differ_in_what_they_leave_out(written):
    counts = Counter(len(set(text.split()) & set(shapes.ATTRIBUTES)) for _, text in written)
    assert all(counts[named] > 100 for named in (0, 1, 2, 3, 4))


@pytest.mark.slow
def test_captions_hold_concepts_as_the_concept_set_writes_them(written):
    texts = {text for _, text in written}
    assert len(texts & set(shapes.CLASSES)) > 80
    assert set(shapes.COLOURS + shapes.SHAPES) < texts


def test_a_caption_follows_from_its_generator():
    scene = shapes.make_scene(1, seed=2)
    first, second = (np.random.default_rng(5) for _ in range(2))
    assert [shapes.caption_scene(scene, first) for _ in range(20)] == [
        shapes.caption_scene(scene, second) for _ in range(20)
    ]
