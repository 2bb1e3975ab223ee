import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cd_exp.metrics.name_matching import (
    NameMatcher,
    _columns_of,
    accepted_columns,
    are_same_as_published,
    are_same_name,
    find_in_names,
    matcher_for,
    plain_name,
    read_places_classes,
)

REFERENCE = Path(__file__).parents[2] / "../shared/reference"

words = st.text(alphabet="abcs-_/ ,AB'é", max_size=12)


@given(words, words)
@settings(deadline=None)
def test_the_rule_is_reflexive_and_symmetric(a, b):
    assert are_same_name(a, a)
    assert are_same_name(a, b) == are_same_name(b, a)


@given(words, words)
@settings(deadline=None)
@example("", "-s")
def test_the_published_rule_is_the_narrower_one(a, b):
    assert are_same_name(a, b) or not are_same_as_published(a, b)


@given(st.lists(words, min_size=1, max_size=8), st.lists(words, max_size=4))
@settings(deadline=None)
def test_accepted_columns_are_those_of_the_pairwise_rule(names, truths):
    accepted = accepted_columns([(truth,) for truth in truths], names)
    if list(truths) != names:
        listed, true = NameMatcher.of(names), matcher_for([(truth,) for truth in truths])
        pairwise = [
            [column for column, name in enumerate(names) if are_same_name(name, truth, first=listed, second=true)]
            for truth in truths
        ]
        assert [columns.tolist() for columns in accepted] == pairwise


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Bakery Shop", "bakery-shop-s"),
        ("bakery/shop", "/b/bakery/shop 23"),
        ("airplane_cabin", "airplane cabin"),
        ("green-c", "green"),
        ("tench, Tinca tinca", "Tench"),
        ("Tinca tinca", "tench, Tinca tinca"),
        ("crawfish", "crayfish, crawfish, crawdad, crawdaddy"),
        ("ice  skating - rink", "ice_skating_rink"),
    ],
)
def test_the_same_name(a, b):
    assert are_same_name(a, b)


@pytest.mark.parametrize(
    ("a", "b"),
    [("dog", "dogs"), ("bus", "bu"), ("bakery", "bakery/shop"), ("colour", "color"), ("", "abbey"), ("a-t", "a")],
)
def test_different_names(a, b):
    assert not are_same_name(a, b)


def test_normal_forms_of_a_line():
    assert NameMatcher().normal_forms("Great White Shark, man-eater,, ") == {"great white shark", "man eater"}
    assert NameMatcher().normal_forms(" , ") == {""}


@pytest.mark.parametrize("name", ["vitamin-c", "hepatitis-C", "type-c", "blue-green-c", "factor-c, clotting factor"])
def test_only_broden_marks_colours(name):
    word = name.partition(",")[0].rpartition("-")[0]
    assert not are_same_name(name, word)
    assert [columns.tolist() for columns in accepted_columns([(word,)], (name, "red", "street"))] == [[]]
    # In Broden's own list neither: it has no such colour.
    broden = (name, "red-c", "street-s", "cat")
    assert [columns.tolist() for columns in accepted_columns([(word,)], broden)] == [[]]


def test_the_list_says_whether_it_is_brodens():
    words = [f"word{number}" for number in range(100)]
    assert NameMatcher.of(["street-s", "red-c", *words[:20]]).broden
    assert not NameMatcher.of(["model-s", *words]).broden
    assert not NameMatcher.of(["street-s", "vitamin-c"]).broden
    assert not NameMatcher.of(words).broden
    assert not NameMatcher.of([]).broden
    columns = accepted_columns([("model",), ("red",)], ["model-s", "red-c", *words])
    assert [accepted.tolist() for accepted in columns] == [[], []]
    assert [accepted.tolist() for accepted in accepted_columns([("model",), ("red",)], ["model-s", "red-c"])] == [
        [0],
        [1],
    ]


@pytest.mark.parametrize(
    ("names", "truth", "right"),
    [
        (("tractor_(farm_equipment)", "cow"), "tractor", [0]),
        (("crab_(animal)", "crab_(food)"), "crab", []),
        (("crab_(animal)", "crab"), "crab", [1]),
        (("crab_(animal)", "crab_(food)"), "crab (animal)", [0]),
        (("pop_(soda)", "pop, soda pop"), "soda pop", [1]),
        (("pop_(soda)", "pop, soda pop"), "pop", [1]),
        (("bow_(decorative_ribbons)", "bow_(weapon)", "bow-tie"), "bow tie", [2]),
        (("crane (bird)", "heron"), "crane, hoist", [0]),
        (("(unnamed)", "cat"), "cat", [1]),
    ],
)
def test_a_name_in_front_of_brackets_is_a_synonym_where_no_other_name_is_it(names, truth, right):
    (accepted,) = accepted_columns([tuple(truth.split(", "))], names)
    assert accepted.tolist() == right
    # It is the same the other way round: true names with brackets, concepts without.
    rows = accepted_columns([(name,) for name in names], (truth, "another", "third"))
    assert [row for row, columns in enumerate(rows) if 0 in columns] == right


def test_plain_takes_off_the_dressing_only():
    assert plain_name("/b/bakery/shop 23") == "bakery/shop"
    assert plain_name("bakery-shop-s") == "bakery-shop"
    assert plain_name("vitamin-c") == "vitamin-c"
    assert plain_name("Tinca tinca") == "Tinca tinca"


def test_published_rule_turns_the_hyphens_of_the_truth_alone():
    assert are_same_as_published("airport_terminal-s", "airport terminal")
    assert not are_same_as_published("bakery-shop-s", "bakery/shop")
    assert not are_same_as_published("bakery-shop-s", "bakery-shop-s")
    assert not are_same_as_published("Abbey", "abbey")


def test_places_classes_by_their_numbers():
    lines = ["/b/bakery/shop 1\n", "\n", "/a/airfield 0\n", "/z/zen_garden 2"]
    assert read_places_classes(lines) == ("airfield", "bakery/shop", "zen_garden")
    assert read_places_classes(["/b/bar", "/a/abbey"]) == ("bar", "abbey")


def test_a_class_list_is_matched_by_place():
    names = ("crane", "tench, Tinca tinca", "crane")
    assert [columns.tolist() for columns in accepted_columns([(name,) for name in names], names)] == [[0], [1], [2]]
    split = [("crane",), ("tench", "Tinca tinca"), ("crane",)]
    assert [columns.tolist() for columns in accepted_columns(split, names)] == [[0], [1], [2]]


def test_another_set_is_matched_by_name():
    truth = [("crane",), None, ("tench, Tinca tinca",), ("abbey",)]
    accepted = accepted_columns(truth, ("Crane", "tinca-tinca", "tench", "crane"))
    assert accepted[1] is None
    assert [columns.tolist() for columns in (accepted[0], accepted[2], accepted[3])] == [[0, 3], [1, 2], []]


def test_named_in():
    assert find_in_names([("bakery/shop",), ("sea",), None], ["bakery-shop-s", "abbey-s"]) == (True, False, False)
    assert find_in_names([("sea",)], []) == (False,)


@pytest.mark.shared
@pytest.mark.skipif(not REFERENCE.is_dir(), reason="../shared/reference is absent")
def test_twenty_thousand_words_against_a_thousand_classes():
    words = (REFERENCE / "20k.txt").read_text().split("\n")
    classes = (REFERENCE / "imagenet_labels.txt").read_text().split("\n")
    accepted = accepted_columns([(name,) for name in classes], words)
    assert sum(len(columns) > 0 for columns in accepted) == 291
    assert words[accepted[classes.index("banana")][0]] == "banana"
    same_list = accepted_columns([(name,) for name in classes], classes)
    np.testing.assert_array_equal(np.concatenate(same_list), np.arange(1000))


@pytest.mark.shared
@pytest.mark.skipif(not REFERENCE.is_dir(), reason="../shared/reference is absent")
def test_both_rules_on_the_published_tally_of_places365():
    with (REFERENCE / "NetDissect_results/resnet18_places365_fc.csv").open() as file:
        labels = [row["label"] for row in csv.DictReader(file)]
    classes = read_places_classes((REFERENCE / "categories_places365.txt").read_text().splitlines())
    scenes = (REFERENCE / "broden_scenes.txt").read_text().split()
    judged = [i for i, columns in enumerate(find_in_names([(name,) for name in classes], scenes)) if columns]
    assert (len(classes), len(judged)) == (365, 268)
    assert sum(are_same_name(labels[i], classes[i]) for i in judged) == 141
    assert sum(are_same_as_published(labels[i], classes[i]) for i in judged) == 117
    assert sum("/" in classes[i] for i in judged) == 61


def test_the_concepts_are_read_once_for_all_layers_and_not_at_all_where_nothing_is_known():
    names = tuple(f"word {number} of a list" for number in range(50))
    _columns_of.cache_clear()
    assert accepted_columns((None,) * 3, names) == (None,) * 3
    assert _columns_of.cache_info().misses == 0
    for truth in ([("word 3 of a list",)], [None, ("word 4 of a list",), ("none",)]):
        accepted_columns(truth, names)
    assert _columns_of.cache_info().misses == 1


def test_an_accent_is_the_same_however_it_is_encoded():
    composed, decomposed = "caf\u00e9 au lait", "Cafe\u0301-au-lait"
    assert are_same_name(composed, decomposed)
    assert [columns.tolist() for columns in accepted_columns([(decomposed,)], ["tea", composed])] == [[1]]
    assert not are_same_name(composed, "cafe au lait")
