"""Concept sets: lists of words without blanks and duplicates, and classes of a network, kept as they stand.

What was dropped from a list of words is noted with its line number. Prompt templates hold one `{}` each.
"""

import csv
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cd_exp import shapes as world
from cd_exp.concepts.imagenet import NAMES, published_names
from cd_exp.errors import InputError, unknown_name_error
from cd_exp.io.download import BRODEN, Archive, locate_archive
from cd_exp.io.text import NameList, read_lines, read_list, shorten_list
from cd_exp.plugins import load_function
from cd_exp.records import Accepted, Concepts, TargetModel

Templates = str | Sequence[Any] | None
"""Prompts with one `{}` each: one, several, None for the bare word, or `imagenet_80`; YAML may give no text at all."""


def check_templates(templates: Templates) -> tuple[str, ...]:
    """The templates as they are used: at least one, each with exactly one `{}`.

    Raises:
        InputError: one of them has none, or several.
    """
    if templates == "imagenet_80":
        from open_clip import OPENAI_IMAGENET_TEMPLATES

        return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
    checked = (templates,) if isinstance(templates, str) else tuple(templates or ("{}",))
    for template in checked:
        if not isinstance(template, str) or not template.count("{") == template.count("}") == template.count("{}") == 1:
            raise InputError(
                f"the template {template!r} must have exactly one {{}}, where the concept goes (concepts.templates)"
            )
    return checked


def file(*, path: str, templates: Templates = None) -> Concepts:
    """The lines of a text file.

    Args:
        path: one concept per line, in UTF-8; or JSON, a list, or a dictionary of classes with a list each.
        templates: prompts.

    Raises:
        InputError: there is no such file, it is not UTF-8, or it holds no word.
    """
    listed = read_list(path, setting="concepts.path", flatten=True)
    made = _make_vocabulary(listed.names, Path(path).stem, templates, where=path, unit="lines")
    return replace(made, notes=(*listed.notes, *made.notes))


def words(*, names: Sequence[Any], name: str = "words", templates: Templates = None) -> Concepts:
    """A list in the config itself.

    Args:
        names: the concepts.
        name: how the set is called in tables.
        templates: prompts.

    Raises:
        InputError: the list holds no word.
    """
    return _make_vocabulary(names, name, templates, where="concepts.names", unit="entries")


def common_words(*, count: int = 20_000, templates: Templates = None) -> Concepts:
    """The most frequent English words, most frequent first; needs the extra `words`.

    The paper took 3,000, 10,000 and 20,000 words of other lists, which share 63, 79 and 80 % of their words with these.

    Args:
        count: how many.
        templates: prompts.

    Raises:
        InputError: wordfreq is not installed, or the count leaves no word.
    """
    try:
        from wordfreq import top_n_list
    except ImportError as error:
        raise InputError("concepts=common_words needs the extra: pip install 'cd-exp[words]'") from error
    if count < 1:
        raise InputError(f"concepts.count={count} leaves no word; give a number of words")
    return _make_vocabulary(
        top_n_list("en", count), f"common_words_{count}", templates, where="wordfreq", unit="entries"
    )


def broden(
    *,
    root: str | None = None,
    data_dir: str = "data",
    clean: bool = True,
    url: str = BRODEN.url,
    checksum: str | None = BRODEN.checksum,
    templates: Templates = None,
) -> Concepts:
    """The labels of Broden, from its `label.csv`.

    Args:
        root: the unpacked archive, the folder with `label.csv`; by default it is downloaded.
        data_dir: directory to download into.
        clean: as words, without the marks of scenes and colours: `wine_cellar-bottle_storage-s` becomes
            `wine cellar-bottle storage`, `red-c` becomes `red`. (The published list kept `-c`.)
        url: the archive, or a mirror of it.
        checksum: what it must have.
        templates: prompts.

    Raises:
        InputError: it is not on this disk and cannot be downloaded.
    """
    archive = Archive(url, checksum, "label.csv")
    table = locate_archive(archive, root=root, data_dir=data_dir, setting="concepts.root") / "label.csv"
    rows = list(csv.DictReader(read_lines(table, setting="concepts.root")))
    if not rows or "name" not in rows[0]:
        raise InputError(f"{table} has no rows with a column name; it is not Broden's label.csv")
    labels = [row["name"] for row in rows]
    if clean:
        labels = [label.removesuffix("-s").removesuffix("-c").replace("_", " ") for label in labels]
    return _make_vocabulary(labels, "broden", templates, where=str(table), unit="rows")


def shapes(*, templates: Templates = None) -> Concepts:
    """The words of the built-in synthetic data set: what it renders, and as many that it never does.

    Args:
        templates: prompts.
    """
    return _make_vocabulary(world.CONCEPTS, "shapes", templates, where="shapes", unit="entries")


def merge(*, sets: Mapping[str, Concepts] | Sequence[Concepts], templates: Templates = None) -> Concepts:
    """Several sets as one, in their order; what an earlier set has is dropped from a later one, and noted.

    Args:
        sets: the sets, as a list or by any names.
        templates: prompts; by default those of the sets, which must then be the same.

    Raises:
        InputError: there is no set, or they differ in their prompts.
    """
    members = tuple(sets.values() if isinstance(sets, Mapping) else sets)
    if templates is None and len({member.templates for member in members}) > 1:
        raise InputError("the merged concept sets differ in their prompts; set concepts.templates for all of them")
    default_templates = members[0].templates if members else None
    joined = list(itertools.chain.from_iterable(member.names for member in members))
    name = "+".join(member.name for member in members)
    made = _make_vocabulary(joined, name, templates or default_templates, where="concepts.sets", unit="entries")
    notes = (*itertools.chain.from_iterable(member.notes for member in members), *made.notes)
    return Concepts(made.names, made.templates, made.name, notes)


def _make_vocabulary(listed: Iterable[Any], name: str, templates: Templates, *, where: str, unit: str) -> Concepts:
    """A set without blanks and duplicates, which are noted by their number in the list."""
    names: dict[str, None] = {}
    blank, twice = [], []
    for number, entry in enumerate(listed, 1):
        if not isinstance(entry, str):  # YAML reads no, on and 7 as other things than words
            raise InputError(f"{where} holds {entry!r}, which is no text; put it in quotes")
        if not entry.isascii() and re.search("[\ud800-\udfff]", entry):  # half a character: no tokenizer takes it
            raise InputError(f"{where} holds {entry!a}, which no encoding can carry; leave it out")
        word = entry.strip()
        if not word:
            blank.append(number)
        elif word in names:
            twice.append(number)
        else:
            names[word] = None
    if not names:
        raise InputError(f"{where} holds no concept; at least one word is needed")
    notes = tuple(
        f"{where}: {kind} {unit} left out: {len(numbers)} ({shorten_list(numbers)})"
        for kind, numbers in (("blank", blank), ("duplicate", twice))
        if numbers
    )
    return Concepts(tuple(names), check_templates(templates), name, notes)


def model_classes(*, model: Any, templates: Templates = None) -> Concepts:
    """The target model's own classes, in their order, equal names included.

    Args:
        model: a recipe of `cd_exp.models`, with `name` and `classes`.
        templates: prompts.

    Raises:
        InputError: nothing is known of the model's classes.
    """
    if not model.classes:
        raise InputError(
            f"the classes of model {model.name} are not known; set model.class_names=FILE, or another concepts="
        )
    return _make_class_list(model.classes, f"{model.name} classes", templates)


def imagenet(*, names: str = "published", templates: Templates = None) -> Concepts:
    """The 1,000 classes of ImageNet in the order of ILSVRC.

    Args:
        names: `published`, the synonyms of each class as CLIP-Dissect used them; `lemmas`, the same from
            timm as they are, where both cranes are called "crane"; `openai`, the names that OpenAI chose for
            CLIP.
        templates: prompts.

    Raises:
        InputError: there is no such list of names.
    """
    if names not in NAMES:
        raise unknown_name_error("list of names", names, NAMES, where="in concepts=imagenet")
    return _make_class_list(NAMES[names](), "imagenet", templates)


def _make_class_list(listed: Iterable[str], name: str, templates: Templates) -> Concepts:
    """A list of classes as it stands; equal names are noted."""
    names = tuple(listed)
    first = {word: index for index, word in reversed(list(enumerate(names)))}
    twice = [repr(word) for index, word in enumerate(names) if first[word] != index]
    occur = "class name occurs twice" if len(twice) == 1 else "class names occur twice"
    note = f"{name}: {len(twice)} {occur} ({shorten_list(twice)}); all are kept"
    notes = (note,) if twice else ()
    return Concepts(names, check_templates(templates), name, notes)


def custom(
    *, factory: str, options: Mapping[str, Any] | None = None, name: str = "custom", templates: Templates = None
) -> Concepts:
    """The names that a function of the user's own lists.

    Args:
        factory: `FILE.py:function` or `package.module:function`.
        options: its keywords.
        name: how the set is called in tables.
        templates: prompts.

    Raises:
        InputError: there is no such function, or it returns no list of names.
    """
    made = load_function(factory, setting="concepts.factory")(options or {})
    if isinstance(made, str) or not isinstance(made, Sequence):
        raise InputError(f"concepts.factory={factory} returned {type(made).__name__}, expected a list of names")
    other = next((entry for entry in made if not isinstance(entry, str)), None)
    if other is not None:
        raise InputError(f"concepts.factory={factory} returned a list with {other!r}, expected a list of names")
    if not any(entry.strip() for entry in made):
        raise InputError(f"concepts.factory={factory} returned no name; at least one is needed")
    return words(names=list(made), name=name, templates=templates)


def read_names(names: str | Sequence[str], *, setting: str = "model.class_names") -> tuple[str, ...]:
    """Names of units from a list, a file (one a line, or the lines of `categories_places365.txt`), or `imagenet`.

    A blank line is a unit of which nothing is known. Lines that all end in their numbers are put in that order.
    `imagenet` gives the lines of synonyms that the paper used.

    Raises:
        InputError: the list holds what is no text, or no name at all; as `read_list`.
    """
    if isinstance(names, str):
        read = published_names() if names == "imagenet" else _in_order(read_list(names, setting=setting))
    elif isinstance(names, Sequence):
        other = next((name for name in names if not isinstance(name, str)), "")
        if other != "":  # YAML reads null, no and 7 as other things than names
            raise InputError(
                f"{setting} holds {other!r}, which is no text; put it in quotes, or '' where nothing is known of a unit"
            )
        read = tuple(name.strip() for name in names)
    else:
        raise InputError(f"{setting} is of type {type(names).__name__}; expected a file, or a list of names in order")
    if not read or (isinstance(names, str) and not any(read)):
        where = f"{setting}={names}" if isinstance(names, str) else setting
        raise InputError(f"{where} holds no name; give one per unit, or leave {setting} out where nothing is known")
    return read


def _in_order(listed: NameList) -> tuple[str, ...]:
    """The names in the order of the numbers behind them, where these count the units; one without a line is blank."""
    numbers, names = listed.numbers, [name for name in listed.names if name]
    if numbers is None or len({*numbers}) < len(numbers) or max(numbers) >= 2 * len(numbers):
        return tuple(listed.names)
    first = 0 if 0 in numbers else 1
    by_number = dict(zip(numbers, names, strict=True))
    return tuple(by_number.get(number, "") for number in range(first, max(by_number) + 1))


def place_classes(
    model: TargetModel, units: Mapping[str, int]
) -> tuple[Mapping[str, tuple[Accepted, ...]], tuple[str, ...]]:
    """The truth of the layer that the class names fit, where the model's final layer is not named; and a note of it.

    Args:
        model: the target network's recipe.
        units: how many units each layer has.
    """
    classes = model.classes if model.final is None else None
    if not classes:
        return {}, ()
    fits = [layer for layer, count in units.items() if count == len(classes) and not model.truth.get(layer)]
    if len({layer.partition(":")[0] for layer in fits}) == 1:
        names = tuple((name,) if name else None for name in classes)
        taken = f"{fits[0]}: its {len(classes)} units are taken for the classes of {model.name}"
        return dict.fromkeys(fits, names), (f"{taken}; model.final=LAYER says another",)
    which = f"{', '.join(fits)} have" if fits else "no layer of the run has"
    count = f"as many units as {model.name} has classes, {len(classes)}"
    return {}, (f"{which} {count}: model.final=LAYER says which they are",)


def find_truth(model: TargetModel, layer: str, *, units: int) -> tuple[Accepted, ...]:
    """The accepted names of each unit of a layer, empty where the layer's truth is unknown.

    Args:
        model: the target network's recipe.
        layer: as a run reports it; a pooling in its name does not matter.
        units: how many units the layer has.

    Raises:
        InputError: there is not one line per unit.
    """
    plain = layer.partition(":")[0]
    names = model.truth.get(plain, ())
    if names and not any(names[units:]):
        names = names[:units]  # blank lines at the end of a file
    if names and len(names) != units:
        setting = "model.class_names" if plain == model.final else f"model.hidden_truth.{plain}"
        raise InputError(
            f"{setting} has {len(names)} names and layer {plain!r} of {model.name} has {units} units; give one line a "
            f"unit, a blank one where nothing is known, or set {setting}=null"
        )
    return names
