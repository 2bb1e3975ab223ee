"""When two names are the same: one rule for every table, and beside it the rule that the paper's numbers were made by.

The rule. Names are equal when they share a normal form. A name has one for each of its parts between commas (a line of
the ImageNet classes lists synonyms: `tench, Tinca tinca`). In each, case and the way an accent is encoded are ignored,
and `-`, `_`, `/` and spaces are one separator. Three spellings belong to certain lists, so the list decides
(`NameMatcher.of`):

- Broden marks scenes with `-s` and colours with `-c`. The marks are dropped in a list in which at least one name in
  twenty carries one and no other name ends in `-c`: `red-c` is red there, and `vitamin-c` is never vitamin.
- LVIS tells homonyms apart in brackets. `tractor_(farm_equipment)` is also a tractor, unless another name of the list
  is one too: `crab_(animal)` and `crab_(food)` are no synonyms.
- A line of Places365, `/b/bakery/shop 23`, is read without its initial and its number.

Plurals and spelling variants are different names. Homonyms are the same: 19 normal forms belong to more than one
ImageNet class (`cardigan` is a dog and a garment).

The published rule. The paper's notebooks drop `-s`, take `_` for a space and otherwise compare letter by letter. The
truth is a Broden scene whose hyphens were turned into slashes, while labels keep theirs, so `bakery-shop-s` is never
right for `bakery/shop`. Of the 268 Places365 classes that are Broden scenes 61 are so written and cannot be right;
Network Dissection named 24 of them.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int

from cd_exp.records import Accepted

_SEPARATORS = re.compile(r"[-_/\s]+")
_MARK = re.compile(r"-[sc]$", re.IGNORECASE)
_COLOURS = [
    "black",
    "blue",
    "brown",
    "green",
    "grey",
    "orange",
    "pink",
    "purple",
    "red",
    "white",
    "yellow",
]  # those that Broden marks
_MARKED = re.compile(rf"(-s|^({'|'.join(_COLOURS)})-c)$", re.IGNORECASE)
_SOME = 20  # among so many names of Broden at least one is marked; two in five are
_BRACKETS = re.compile(r"(.*[^\s_])[\s_]*\([^()]*\)", re.DOTALL)
_PLACES = re.compile(r"^/[a-z]/(\S+)(?:\s+\d+)?$")


@dataclass(frozen=True)
class NameMatcher:
    """How the names of a list are read.

    Attributes:
        broden: whether `-s` and `-c` mark scenes and colours.
        ambiguous: words that several names of the list stand for, once brackets are left out.
    """

    broden: bool = False
    ambiguous: frozenset[str] = frozenset()

    @staticmethod
    def of(names: Iterable[str]) -> "NameMatcher":
        """The naming of a list, such as a concept set, the classes of a network or the labels of a file."""
        return _make_matcher(tuple(dict.fromkeys(names)))

    def plain(self, name: str) -> str:
        """The name as a text encoder should read it: without Broden's marks, or the dressing of a Places365 line.

        >>> NameMatcher(broden=True).plain("bakery-shop-s")
        'bakery-shop'
        """
        undressed = _PLACES.sub(r"\1", name.strip())
        return _MARK.sub("", undressed) if self.broden and _MARKED.search(undressed) else undressed

    def normal_forms(self, name: str) -> frozenset[str]:
        """What a name is compared by; names are the same when they share one.

        >>> sorted(NameMatcher().normal_forms("tractor_(farm_equipment), Traction-Engine"))
        ['traction engine', 'tractor', 'tractor (farm equipment)']
        """
        forms = set()
        for part in map(self.plain, name.split(",")):
            forms.add(_normal_form(part))
            bare = _BRACKETS.fullmatch(part)
            if bare and _normal_form(bare[1]) not in self.ambiguous:
                forms.add(_normal_form(bare[1]))
        return frozenset(forms - {""} or {""})


@lru_cache(maxsize=8)  # the concept set is looked at for every layer
def _make_matcher(listed: tuple[str, ...]) -> NameMatcher:
    parts = [part.strip() for name in listed for part in name.split(",")]
    marked = [part for part in parts if _MARK.search(part)]
    alien = any(part.lower().endswith("-c") and not _MARKED.search(part) for part in marked)
    broden = bool(marked) and not alien and _SOME * len(marked) >= len(listed)
    plain_words = NameMatcher(broden)
    words = Counter(word for name in listed for word in plain_words.normal_forms(name))
    return NameMatcher(broden, frozenset(word for word, count in words.items() if count > 1))


def _normal_form(part: str) -> str:
    composed = part if part.isascii() else unicodedata.normalize("NFC", part)  # macOS writes e and an accent for \u00e9
    return _SEPARATORS.sub(" ", composed).strip().casefold()


def plain_name(name: str) -> str:
    """`NameMatcher.plain` of a name whose list is not known.

    >>> plain_name("/b/bakery/shop 23")
    'bakery/shop'
    """
    return NameMatcher.of([name]).plain(name)


def are_same_name(a: str, b: str, *, first: NameMatcher | None = None, second: NameMatcher | None = None) -> bool:
    """Whether two names are equal by the rule of this module.

    >>> are_same_name("Bakery Shop", "bakery-shop-s"), are_same_name("vitamin-c", "vitamin")
    (True, False)

    Args:
        a: a name.
        b: another one.
        first: the naming of the list that `a` is from; that of `a` alone where not known.
        second: the same of `b`.
    """
    first, second = first or NameMatcher.of([a]), second or NameMatcher.of([b])
    return not first.normal_forms(a).isdisjoint(second.normal_forms(b))


def are_same_as_published(label: str, truth: str) -> bool:
    """Whether a label is right by the rule of the paper's comparison on Places365.

    Not symmetric: a truth written as Broden writes its scenes (`bakery-shop-s`) gets slashes for hyphens, a label does
    not. Places365 writes the slash itself.

    >>> are_same_as_published("bakery/shop", "bakery-shop-s"), are_same_as_published("bakery-shop", "bakery/shop")
    (True, False)

    Source: CLIP-Dissect's published notebook of table 2, and `get_places_id_to_broden_label` of its `data_utils.py`.
    """
    label, truth = (_PLACES.sub(r"\1", name) for name in (label, truth))
    if truth.endswith("-s"):
        truth = truth.removesuffix("-s").replace("-", "/")
    return label.removesuffix("-s").replace("_", " ") == truth.replace("_", " ")


def read_places_classes(lines: Iterable[str]) -> tuple[str, ...]:
    """The class names of a Places365 list, `/b/bakery/shop 23` a line, ordered by the number where there is one.

    Blank lines are dropped. The names keep Places365's own spelling: `bakery/shop`, `airplane_cabin`.

    >>> read_places_classes(["/b/bakery/shop 1", "/a/airfield 0"])
    ('airfield', 'bakery/shop')
    """
    numbered = []
    for index, line in enumerate(line.strip() for line in lines if line.strip()):
        name, _, number = line.rpartition(" ")
        numbered.append(
            (int(number), _without_markup(name)) if name and number.isdigit() else (index, _without_markup(line))
        )
    return tuple(name for _, name in sorted(numbered, key=lambda pair: pair[0]))


def _without_markup(name: str) -> str:
    return _PLACES.sub(r"\1", name.strip())


def matcher_for(truth: Sequence[Accepted]) -> NameMatcher:
    """The naming of the true names of some units."""
    return NameMatcher.of(", ".join(accepted) for accepted in truth if accepted)


def find_in_names(truth: Sequence[Accepted], names: Collection[str]) -> tuple[bool, ...]:
    """For each unit whether any of its right names is among `names`; False where nothing is known of it.

    >>> find_in_names([("Red",), ("dog", "hound"), None], ["red", "hound"])
    (True, True, False)
    """
    listed, true = NameMatcher.of(names), matcher_for(truth)
    forms = frozenset().union(*map(listed.normal_forms, names))
    return tuple(any(not forms.isdisjoint(true.normal_forms(name)) for name in accepted or ()) for accepted in truth)


def accepted_columns(truth: Sequence[Accepted], names: Sequence[str]) -> tuple[Int[np.ndarray, " _"] | None, ...]:
    """For each unit the concepts that are right for it, as columns of the concept set, ascending.

    Where the concept set is the class list itself, in order, unit i is right with column i alone, although another
    class may be called the same (ImageNet has two cranes). Otherwise every concept is right whose name is the same as
    one of the unit's by the rule of this module.

    Returns:
        None for a unit of which nothing is known; an empty array for one that no concept names.

    >>> accepted_columns([("red",), None, ("wolf",)], ["dog", "Red", "red"])
    (array([1, 2]), None, array([], dtype=int64))
    """
    if len(truth) == len(names) and all(
        accepted is not None and ", ".join(accepted) == name for accepted, name in zip(truth, names, strict=True)
    ):
        return tuple(np.array([column]) for column in range(len(names)))
    if all(accepted is None for accepted in truth):
        return (None,) * len(truth)
    columns, true = _columns_of(tuple(names)), matcher_for(truth)

    def right(accepted: Sequence[str]) -> Int[np.ndarray, " _"]:
        matches = (columns.get(form, set()) for name in accepted for form in true.normal_forms(name))
        return np.array(sorted(set().union(*matches)), dtype=np.int64)

    return tuple(None if accepted is None else right(accepted) for accepted in truth)


@lru_cache(maxsize=4)
def _columns_of(names: tuple[str, ...]) -> dict[str, set[int]]:
    """The columns of the names of each form."""
    columns, listed = defaultdict(set), NameMatcher.of(names)
    for column, name in enumerate(names):
        for form in listed.normal_forms(name):
            columns[form].add(column)
    return dict(columns)
