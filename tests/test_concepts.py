import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd_exp import concepts
from cd_exp import shapes as world
from cd_exp.concepts.concept_sets import check_templates
from cd_exp.errors import InputError

REFERENCE = Path(__file__).parents[1] / "../shared/reference"


@dataclass(frozen=True)
class Recipe:
    """What a concept set needs to know of a model."""

    classes: tuple[str, ...] | None
    name: str = "resnet18"


def test_a_file_without_blanks_and_duplicates_and_a_note_of_each(tmp_path):
    path = tmp_path / "my words.txt"
    path.write_text("dog\n\n  hot dog \ndog\nnaïve 寿司\n   \nDog\nhot dog\n\n", encoding="utf-8")
    concept_set = concepts.file(path=str(path))
    assert concept_set.names == ("dog", "hot dog", "naïve 寿司", "Dog")
    assert concept_set.notes == (
        f"{path}: blank lines left out: 3 (2, 6, 9)",
        f"{path}: duplicate lines left out: 2 (4, 8)",
    )
    assert (concept_set.name, concept_set.templates) == ("my words", ("{}",))


def test_a_clean_file_needs_no_note(tmp_path):
    (tmp_path / "words.txt").write_bytes(b"\xef\xbb\xbfdog\r\ncat")
    concept_set = concepts.file(path=str(tmp_path / "words.txt"))
    assert (concept_set.names, concept_set.notes) == (("dog", "cat"), ())


@given(lines=st.lists(st.sampled_from(["", " ", "a", "b", "a b", " a"]), max_size=12))
@settings(max_examples=100, deadline=None)
def test_what_is_kept_is_what_a_slow_reading_keeps(lines):
    expected = []
    for line in lines:
        if line.strip() and line.strip() not in expected:
            expected.append(line.strip())
    if not expected:
        with pytest.raises(InputError, match=r"concepts.names holds no concept"):
            concepts.words(names=lines)
        return
    concept_set = concepts.words(names=lines)
    assert list(concept_set.names) == expected
    dropped = sum(int(note.split("left out: ")[1].split(" ")[0]) for note in concept_set.notes)
    assert dropped + len(expected) == len(lines)


@pytest.mark.parametrize("content", [b"", b"\n \n\t\n"])
def test_an_empty_file_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "words.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"words.txt holds no concept; at least one word is needed"):
        concepts.file(path=str(tmp_path / "words.txt"))


def test_unreadable_files(tmp_path):
    with pytest.raises(InputError, match=r"concepts.path=.*words.txt: there is no such file"):
        concepts.file(path=str(tmp_path / "words.txt"))
    (tmp_path / "words.txt").write_bytes(b"dog\nna\xefve\n")
    with pytest.raises(InputError, match=r"words.txt is not UTF-8: line 2, byte 3 is 0xef"):
        concepts.file(path=str(tmp_path / "words.txt"))


def test_words_of_the_config_must_be_text():
    assert concepts.words(names=["dog", "cat"], name="pets").name == "pets"
    with pytest.raises(InputError, match=r"concepts.names holds False, which is no text; put it in quotes"):
        concepts.words(names=["yes", False])


def test_model_classes_keep_everything_in_order():
    concept_set = concepts.model_classes(model=Recipe(("crane", "tench", "", "crane")))
    assert concept_set.names == ("crane", "tench", "", "crane")
    assert concept_set.notes == ("resnet18 classes: 1 class name occurs twice ('crane'); all are kept",)
    assert concepts.model_classes(model=Recipe(("a", "b"))).notes == ()


def test_model_classes_that_are_not_known():
    with pytest.raises(
        InputError, match=r"the classes of model resnet18 are not known; set model.class_names=FILE, or"
    ):
        concepts.model_classes(model=Recipe(None))


def test_imagenet():
    published, lemmas = concepts.imagenet(), concepts.imagenet(names="lemmas")
    assert len(published.names) == len(set(published.names)) == 1000
    assert published.notes == ()
    assert [i for i in range(1000) if published.names[i] != lemmas.names[i]] == [134, 517]
    assert lemmas.notes == ("imagenet: 1 class name occurs twice ('crane'); all are kept",)
    openai = concepts.imagenet(names="openai")
    assert (openai.names[0], len(openai.names)) == ("tench", 1000)
    assert openai.notes == ("imagenet: 2 class names occur twice ('missile', 'sunglasses'); all are kept",)


@pytest.mark.shared
def test_imagenet_is_the_papers_list():
    file = REFERENCE / "imagenet_labels.txt"
    if not file.is_file():
        pytest.skip("../shared/reference is not here")
    assert concepts.imagenet().names == concepts.file(path=str(file)).names


def test_imagenet_names_that_do_not_exist():
    with pytest.raises(InputError, match=r"list of names 'lemma' is not in concepts=imagenet; did you mean 'lemmas'\?"):
        concepts.imagenet(names="lemma")


def test_common_words():
    concept_set = concepts.common_words(count=3000)
    assert len(concept_set.names) == len(set(concept_set.names)) == 3000
    assert concept_set.names[:3] == ("the", "to", "and")
    assert (concept_set.name, concept_set.notes) == ("common_words_3000", ())
    assert concepts.common_words().names[:3000] == concept_set.names
    with pytest.raises(InputError, match=r"concepts.count=0 leaves no word"):
        concepts.common_words(count=0)


def test_common_words_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "wordfreq", None)  # as where it is not installed
    with pytest.raises(InputError, match=r"concepts=common_words needs the extra: pip install 'cd-exp\[words\]'"):
        concepts.common_words()


def test_broden(tmp_path):
    labels = ("red-c", "wine_cellar-bottle_storage-s", "fence", "fence-s")
    rows = [f"{number},{label},any(1),1,1,\n" for number, label in enumerate(labels, 1)]
    (tmp_path / "label.csv").write_text("number,name,category,frequency,coverage,syns\n" + "".join(rows))
    assert concepts.broden(root=str(tmp_path)).names == ("red", "wine cellar-bottle storage", "fence")
    assert concepts.broden(root=str(tmp_path)).notes == (f"{tmp_path}/label.csv: duplicate rows left out: 1 (4)",)
    assert concepts.broden(root=str(tmp_path), clean=False).names[1] == "wine_cellar-bottle_storage-s"


def test_broden_errors(tmp_path):
    with pytest.raises(
        InputError, match=r"broden1_227.zip is not in .* cannot be had \(no connection\); set concepts.root=DIR"
    ):
        concepts.broden(data_dir=str(tmp_path / "data"), url="http://127.0.0.1:9/broden1_227.zip")
    with pytest.raises(
        InputError, match=r"holds no label.csv, as broden1_227.zip has; concepts.root must be the folder"
    ):
        concepts.broden(root=str(tmp_path))
    (tmp_path / "label.csv").write_text("word\nred\n")
    with pytest.raises(InputError, match=r"label.csv has no rows with a column name"):
        concepts.broden(root=str(tmp_path))


def test_shapes():
    concept_set = concepts.shapes()
    assert concept_set.names == world.CONCEPTS
    assert concept_set.notes == ()


def test_merge_keeps_the_first_and_notes_the_rest():
    first, second = concepts.words(names=["a", "b", "a"], name="x"), concepts.words(names=["b", "c"], name="y")
    concept_set = concepts.merge(sets={"one": first, "two": second})
    assert (concept_set.names, concept_set.name) == (("a", "b", "c"), "x+y")
    assert concept_set.notes == (*first.notes, "concepts.sets: duplicate entries left out: 1 (3)")
    assert concepts.merge(sets=[second, first]).names == ("b", "c", "a")


def test_merge_and_prompts():
    first, second = concepts.words(names=["a"], templates="a photo of a {}"), concepts.words(names=["b"])
    assert concepts.merge(sets=[first, first]).templates == ("a photo of a {}",)
    assert concepts.merge(sets=[first, second], templates=["{}!"]).templates == ("{}!",)
    with pytest.raises(InputError, match=r"the merged concept sets differ in their prompts; set concepts.templates"):
        concepts.merge(sets=[first, second])
    with pytest.raises(InputError, match=r"concepts.sets holds no concept"):
        concepts.merge(sets=[])


def test_prompts():
    assert check_templates(None) == check_templates([]) == ("{}",)
    assert check_templates("a {}") == ("a {}",)
    assert check_templates(["a {}", "the {}"]) == ("a {}", "the {}")


@pytest.mark.parametrize("template", ["a photo", "{} and {}", "{name}", "{0}", "{{}}", "{} }", 7])
def test_a_template_has_one_place_for_the_concept(template):
    with pytest.raises(
        InputError, match=r"the template .* must have exactly one \{\}, where the concept goes \(concepts.templates\)"
    ):
        check_templates([template])


def test_the_eighty_prompts_of_imagenet():
    templates = concepts.words(names=["a"], templates="imagenet_80").templates
    assert len(set(templates)) == 80
    assert templates[0] == "a bad photo of a {}."
    assert check_templates(templates) == templates


def test_importing_the_sets_loads_nothing_heavy():
    script = (
        "import sys, cd_exp.concepts, cd_exp.probes\n"
        "heavy = {'timm', 'open_clip', 'wordfreq', 'datasets', 'torchvision', 'requests', 'hydra'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_half_a_character_is_refused_and_shown_by_its_escape():
    with pytest.raises(
        InputError, match=r"concepts.names holds 'a\\ud800b', which no encoding can carry; leave it out"
    ):
        concepts.words(names=["red", "a\ud800b"])
