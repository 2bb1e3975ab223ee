import math

import numpy as np

from cd_exp.labels import flag_units, is_always_on, largest_top_k, many_images, note_flags
from cd_exp.records import FLAGS, Labels


def test_a_unit_carries_every_mark_that_holds():
    flags = flag_units(
        dead=np.array([True, False, False]),
        always=np.array([True, True, False]),
        second=np.array([0.2, math.log(3) - 5e-5, 1.0]),
        ceiling=math.log(3),
    )
    assert flags == (frozenset({"dead", "always_on"}), frozenset({"always_on", "ceiling"}), frozenset())
    assert set().union(*flags) <= set(FLAGS)


def test_one_unit_is_a_layer_without_a_prior():
    (flags,) = flag_units(dead=np.array([False]), always=np.array([False]), second=np.zeros(1), ceiling=0.0)
    assert flags == {"one_unit"}


def test_without_a_ceiling_none_is_at_it():
    assert flag_units(dead=np.zeros(2, bool), always=np.zeros(2, bool), second=np.full(2, 9.0), ceiling=None) == (
        frozenset(),
        frozenset(),
    )


def test_firing_counts_only_where_silence_is_normal():
    firing = np.array([0.81, 0.8, 0.1])
    assert is_always_on(firing, np.zeros(3)).tolist() == [True, False, False]
    assert not is_always_on(firing, np.array([0.0, 0.0, -0.1])).any()  # logits, or before the ReLU
    assert not is_always_on(np.array([0.9, 0.95, 0.1]), np.zeros(3)).any()  # means of maps after a ReLU


def test_a_note_for_each_layer_and_mark():
    def layer(name, *flags):
        empty = np.zeros(len(flags))
        return Labels(name, np.arange(len(flags)), ((),) * len(flags), empty, marks=tuple(map(frozenset, flags)))

    said = list(note_flags({"fc": layer("fc", {"dead"}, set(), {"dead"}), "one": layer("one", {"one_unit"})}))
    assert said[0] == "2 of 3 units of fc are dead (the same value for every image): ignore their labels"
    assert said[1].startswith("one has one unit, so there is no prior over its layer")
    assert len(said) == 2


def test_a_label_that_many_units_share_is_noted():
    def layer(*labels):
        return Labels("fc", np.arange(len(labels)), tuple((label, "other") for label in labels), np.zeros(len(labels)))

    (said,) = note_flags({"fc": layer("red", "dog", "red", "cat", "red", "owl", "fox", "bee", "ant", "elk")})
    assert said.startswith("3 of 10 units of fc are called 'red'")
    assert not list(note_flags({"fc": layer("red", "dog", "red", "cat")}))  # two that share one are no pattern
    assert not list(note_flags({"fc": layer(*"aaabcdefghijklmn")}))  # three of sixteen


def test_strongest_images_are_at_most_a_tenth_and_the_note_says_how_many_that_is():
    for images in (1, 5, 28, 100, 280, 3000):
        for top_k in (1, 28, 100):
            said = list(many_images(top_k, images))
            assert bool(said) == (top_k > max(1, images / 10))  # no note names what was typed
            assert not list(many_images(largest_top_k(images), max(images, 10)))
            assert not said or f"similarity.top_k={largest_top_k(images)} fits" in said[0]
    assert not list(many_images(None, 3))
