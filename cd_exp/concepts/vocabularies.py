"""Concept sets that are lists of words: no blanks, no duplicates, and a note of what was dropped."""

import csv
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cd_exp import shapes as world
from cd_exp.concepts.prompts import Templates, prompts
from cd_exp.errors import InputError
from cd_exp.io.download import BRODEN, Archive, locate
from cd_exp.io.text import read_lines, read_list, shortened
from cd_exp.records import Concepts


def file(*, path: str, templates: Templates = None) -> Concepts:
    """The lines of a text file.

    Args:
        path: one concept a line, in UTF-8.
        templates: prompts.

    Raises:
        InputError: there is no such file, it is not UTF-8, or it holds no word.
    """
    return _vocabulary(read_list(path, setting="concepts.path"), Path(path).stem, templates, where=path, unit="lines")


def words(*, names: Sequence[Any], name: str = "words", templates: Templates = None) -> Concepts:
    """A list given in the config itself.

    Args:
        names: the concepts.
        name: how the set is called in tables.
        templates: prompts.

    Raises:
        InputError: the list holds no word.
    """
    return _vocabulary(names, name, templates, where="concepts.names", unit="entries")


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
    return _vocabulary(top_n_list("en", count), f"common_words_{count}", templates, where="wordfreq", unit="entries")


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
        InputError: it is not found locally and cannot be downloaded.
    """
    archive = Archive(url, checksum, "label.csv")
    table = locate(archive, root=root, data_dir=data_dir, setting="concepts.root") / "label.csv"
    rows = list(csv.DictReader(read_lines(table, setting="concepts.root")))
    if not rows or "name" not in rows[0]:
        raise InputError(f"{table} has no rows with a column name; it is not Broden's label.csv")
    labels = [row["name"] for row in rows]
    if clean:
        labels = [label.removesuffix("-s").removesuffix("-c").replace("_", " ") for label in labels]
    return _vocabulary(labels, "broden", templates, where=str(table), unit="rows")


def shapes(*, templates: Templates = None) -> Concepts:
    """The words of the embedded world: what it renders, and as many that it never does.

    Args:
        templates: prompts.
    """
    return _vocabulary(world.CONCEPTS, "shapes", templates, where="shapes", unit="entries")


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
    own = members[0].templates if members else None
    joined = list(itertools.chain.from_iterable(member.names for member in members))
    name = "+".join(member.name for member in members)
    made = _vocabulary(joined, name, templates or own, where="concepts.sets", unit="entries")
    notes = (*itertools.chain.from_iterable(member.notes for member in members), *made.notes)
    return Concepts(made.names, made.templates, made.name, notes)


def _vocabulary(listed: Iterable[Any], name: str, templates: Templates, *, where: str, unit: str) -> Concepts:
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
        f"{where}: {kind} {unit} left out: {len(numbers)} ({shortened(numbers)})"
        for kind, numbers in (("blank", blank), ("duplicate", twice))
        if numbers
    )
    return Concepts(tuple(names), prompts(templates), name, notes)
