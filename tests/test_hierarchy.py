"""Hierarchies of concepts: WordNet's files, tables, general labels and nearness to the truth."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cd_exp.concepts.imagenet import class_synsets, published_names
from cd_exp.errors import InputError
from cd_exp.hierarchy import FOLDERS, File, WordNet, back_off, holds, name_of, read_wordnet, taxonomy_of

PARENTS = {
    "cat": ["feline"], "lion": ["feline"], "feline": ["animal"], "dog": ["animal"], "animal": ["thing"],
    "car": ["vehicle"], "bus": ["vehicle"], "vehicle": ["thing"],
}  # fmt: skip
WORDS = ("cat", "lion", "dog", "car", "bus")
TREE = taxonomy_of(WORDS, PARENTS.get)

DATA = """\
  1 a licence, which begins with two blanks
00000100 03 n 01 entity 0 001 ~ 00000200 n 0000 | what is
00000200 03 n 02 animal 0 beast 0 001 @ 00000100 n 0000 | lives
00000300 05 n 01 dog 0 002 @ 00000200 n 0000 + 00000200 v 0101 | barks
00000400 05 n 02 polar_bear 0 ice_bear 0 001 @i 00000200 n 0000 | white
"""


def wordnet(folder):
    """Four synsets in the form of WordNet's files; offsets are true."""
    offsets, data = {}, ""
    for line in DATA.splitlines(keepends=True):
        offsets[line[:8]] = f"{len(data):08d}"
        data += line
    for old, new in offsets.items():
        if old.strip().isdigit():
            data = data.replace(old, new)
    senses = {"animal": "00000200", "beast": "00000200", "dog": "00000300", "polar_bear": "00000400"}
    index = "  1 a licence\n" + "".join(
        f"{w} n 2 1 @ 2 1 {offsets[k]} {offsets['00000100']}  \n" for w, k in senses.items()
    )
    folder.mkdir(exist_ok=True)
    for name, text in {"data.noun": data, "index.noun": index, "noun.exc": "beastes beast\n"}.items():
        (folder / name).write_text(text, encoding="ascii")
    return folder


def test_nodes_are_those_above_two_concepts_and_say_as_much_as_they_exclude():
    assert TREE.nodes == ("thing", "animal", "feline", "vehicle")
    assert TREE.widths.tolist() == [5, 3, 2, 2]
    assert TREE.bits.tolist() == pytest.approx(np.log2([1, 5 / 3, 5 / 2, 5 / 2]).tolist())
    assert TREE.strays == ()


def test_a_node_with_the_concepts_of_another_is_the_deepest_of_them():
    tree = taxonomy_of(["cat", "lion"], PARENTS.get)
    assert tree.nodes == ("feline",)


def test_concepts_without_a_place_stay_themselves_below_anything():
    tree = taxonomy_of(["cat", "lion", "striped"], PARENTS.get)
    assert (tree.nodes, tree.strays) == (("anything", "feline"), ("striped",))
    scores = torch.tensor([[0.0, 0.0, 9.0], [5.0, 5.0, 0.0]])
    assert [name_of(tree, int(node)) for node in back_off(scores, tree, scale=1.0, mass=0.9).nodes] == [
        "striped",
        "feline",
    ]
    assert tree.grade("striped", ("cat",)) is None


def test_a_concept_that_is_above_others_has_both_levels():
    tree = taxonomy_of(["animal", "cat", "car"], PARENTS.get)
    assert tree.nodes == ("thing", "animal")
    assert holds(tree, 1, np.array([1]))
    assert holds(tree, 1, np.array([0]))
    assert not holds(tree, 1, np.array([2]))


@given(st.integers(0, 99), st.floats(0.3, 0.99), st.floats(0.5, 5))
@settings(max_examples=30, deadline=None)
def test_general_labels_follow_their_definition(seed, mass, scale):
    scores = torch.randn(6, 5, generator=torch.Generator().manual_seed(seed))
    general = back_off(scores, TREE, scale=scale, mass=mass)
    for row, node in enumerate(general.nodes.tolist()):
        shares = torch.softmax(scale * scores[row].double(), dim=0)
        masses = [float(shares[TREE.concepts_below(at)].sum()) for at in range(4)] + shares.tolist()
        bits = TREE.bits.tolist() + [np.log2(5)] * 5
        best = max(
            (at for at in range(9) if masses[at] >= mass or at == 0), key=lambda at: (round(bits[at], 6), masses[at])
        )
        assert node == best
        assert float(general.mass[row]) == pytest.approx(masses[best])
        assert float(general.bits[row]) == pytest.approx(bits[best])


def test_nearness_is_the_depth_of_the_common_ancestor():
    # thing 0, animal 1, feline 2, cat and lion 3; dog 2; vehicle 1, car 2
    assert TREE.grade("cat", ("cat",)) == 1
    assert TREE.grade("lion", ("cat",)) == pytest.approx(2 / 3)
    assert TREE.grade("dog", ("cat",)) == pytest.approx(1 / 3)
    assert TREE.grade("car", ("cat",)) == 0
    assert TREE.grade("lion", ("car", "cat")) == pytest.approx(2 / 3)
    assert TREE.grade("cat", ()) is None
    assert TREE.grade("unknown", ("cat",)) is None


def test_a_circle_is_refused_with_its_way():
    with pytest.raises(InputError, match="the hierarchy goes round: a > b > a; every name needs a way up to a root"):
        taxonomy_of(["a"], {"a": ["b"], "b": ["a"]}.get)


KINDS = "caf\u00e9,building\nbar,building\nbuilding,thing\ndog,thing\n"


@pytest.mark.parametrize(
    "data",
    [
        KINDS.encode("utf-8-sig"),
        KINDS.encode("utf-16"),
        KINDS.replace("\n", "\r").encode(),
        KINDS.replace("\n", "\n , \n").encode(),
        KINDS.replace("\u00e9", "e\u0301").encode(),
        b'"caf\xc3\xa9", "building"\n"bar", "building"\n"building", "thing"\n"dog", "thing"\n',
    ],
)
def test_a_table_is_the_same_however_it_was_saved(tmp_path, data):
    (tmp_path / "kinds.csv").write_bytes(data)
    tree = File(str(tmp_path / "kinds.csv")).taxonomy(["caf\u00e9", "bar", "dog"])
    assert (tree.nodes, tree.strays) == (("thing", "building"), ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("animal,cat\nanimal,dog\nanimal,car\n", "has no name above two of the concepts; a line is a name and"),
        ("cat,\ndog,animal\n", "line 1 of .* has 1 names in 2 cells"),
        ("cat,animal\ndog\x00,animal\n", r"line 2 holds the control character U\+0000"),
        ('"cat,animal\ndog,animal\n', "line 2 of .* is no table: unexpected end of data"),
        ("cat,k0\n" + "".join(f"k{i},k{i + 1}\n" for i in range(3000)), "has more than 60 names above 'cat'"),
        ("cat," + "a" * 200_000, "line 1 of .* is no table: field larger than field limit"),
    ],
)
def test_a_table_that_says_nothing_or_is_none_is_one_line(tmp_path, text, message):
    (tmp_path / "kinds.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        File(str(tmp_path / "kinds.csv")).taxonomy(["cat", "dog", "car"])


def test_a_table_names_what_is_above(tmp_path):
    path = tmp_path / "kinds.tsv"
    path.write_text("name\tparent\nCat\tanimal\ndog\tanimal\nanimal\tthing\n\n")
    tree = File(str(path)).taxonomy(["cat", "Dog", "car"])
    assert (tree.nodes, tree.strays) == (("anything", "animal"), ("car",))
    path.write_text("cat\tanimal\tthing\n")
    with pytest.raises(
        InputError, match=r"line 1 of hierarchy.path=.*kinds.tsv has 3 names in 3 cells, expected a name and the name"
    ):
        File(str(path)).taxonomy(["cat"])
    path.write_text("cat,animal\n")
    with pytest.raises(InputError, match=r"has none of the 1 concepts, first 'dog'"):
        File(str(path)).taxonomy(["dog"])
    with pytest.raises(InputError, match=r"hierarchy.path=.*none.csv: there is no such file"):
        File(str(tmp_path / "none.csv")).taxonomy(["dog"])


@pytest.mark.parametrize("zipped", [False, True])
def test_wordnet_is_read_from_its_files(tmp_path, zipped):
    folder = wordnet(tmp_path / "wordnet")
    if zipped:
        with zipfile.ZipFile(tmp_path / "wordnet.zip", "w") as archive:
            for path in folder.iterdir():
                archive.write(path, f"wordnet/{path.name}")
        folder = tmp_path / "wordnet.zip"
    tree = WordNet(str(folder)).taxonomy(["dogs", "Polar bear", "beast", "striped", "dog_(animal)"])
    assert (tree.nodes[:2], tree.strays) == (("anything", "animal"), ("striped",))
    assert tree.concepts_below(1).tolist() == [0, 1, 2, 4]
    assert tree.grade("dogs", ("dog_(animal)",)) == 1


def test_a_folder_without_wordnet_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no index.noun and data.noun; give WordNet's folder, or null"):
        WordNet(str(tmp_path)).taxonomy(["dog"])


def test_a_machine_without_wordnet_says_what_to_install(tmp_path, monkeypatch):
    with pytest.raises(
        InputError, match=r"install Debian's wordnet-base, or NLTK's data .*, or give hierarchy.path=FOLDER"
    ):
        read_wordnet(None, folders=(), nltk=())
    (tmp_path / "corpora").mkdir()
    wordnet(tmp_path / "corpora" / "wordnet")
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    folder = str(tmp_path / "corpora" / "wordnet")
    assert read_wordnet(None, folders=(), nltk=()) == read_wordnet(folder)
    assert WordNet(folder).taxonomy(["dog", "beast"]).nodes == ("animal",)


def test_imagenet_classes_have_their_own_synsets_and_other_lists_none():
    names = list(published_names())
    assert class_synsets(names)[0] == "n01440764"
    assert class_synsets([*names, "kite"])[-1] is None
    names[5] = "no such class"
    assert set(class_synsets(names)) == {None}
    assert class_synsets(["tench"]) == [None]


@pytest.mark.skipif(not any(Path(folder, "data.noun").is_file() for folder in FOLDERS), reason="no WordNet here")
def test_the_real_wordnet_knows_what_a_tench_is():
    names = list(published_names())
    tree = WordNet().taxonomy(names)
    assert tree.strays == ()
    assert "dog" in tree.nodes
    assert len(tree.concepts_below(tree.nodes.index("dog"))) == 118
    assert tree.grade(names[0], (names[1],)) > 0.8
    assert tree.grade(names[0], (names[656],)) < 0.3
