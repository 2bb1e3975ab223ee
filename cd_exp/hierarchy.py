"""Concepts in a hierarchy: a label backed off to the most informative word that is likely to be right.

`wordnet` and `file` make a `Taxonomy` of the concept set: what each concept is a kind of. `back_off` then names each
unit with the narrowest node whose share of the unit's likelihood reaches a threshold.

Source: hedging, Deng et al., CVPR 2012 (maximum information at a fixed accuracy).
"""

import csv
import math
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cd_exp.calibration import BackOff, constants_of, general_p
from cd_exp.concepts.imagenet import class_synsets
from cd_exp.errors import InputError
from cd_exp.io.text import read_lines
from cd_exp.records import Labels, Similarity

ANYTHING = "anything"
"""The node above everything, where concepts that are not in the hierarchy leave it without a root of its own."""

FOLDERS = (
    "/usr/share/wordnet",
    "/usr/local/share/wordnet",
    "/usr/local/WordNet-3.0/dict",
    "/opt/homebrew/share/wordnet",
)
"""Where WordNet's own files lie, Debian's first."""

NLTK = ("~/nltk_data", "/usr/share/nltk_data", "/usr/local/share/nltk_data", "/usr/lib/nltk_data")

DEEPEST = 60
"""Names above each other: Python's stack ends at a thousand calls; WordNet's nouns have 20."""

Parents = Callable[[str], Sequence[str]]


@dataclass(frozen=True, eq=False)
class Taxonomy:
    """A concept set with the nodes above it.

    Attributes:
        concepts: the names, by column.
        nodes: the names of the nodes above at least two concepts, the widest first.
        below: which concepts are below each node, in pairs.
        ancestors: of each concept, the keys of all nodes above it and its own.
        depth: of each key, the length of its longest way up to a root.
        strays: concepts that the hierarchy does not have: each stays itself.
    """

    concepts: tuple[str, ...]
    nodes: tuple[str, ...]
    below: Int[Tensor, "2 pairs"]  # nodes, concepts
    ancestors: tuple[frozenset[str], ...]
    depth: Mapping[str, int]
    strays: tuple[str, ...] = ()

    @cached_property
    def widths(self) -> Int[Tensor, " nodes"]:
        """How many concepts are below each node."""
        return torch.bincount(self.below[0], minlength=len(self.nodes))

    @cached_property
    def bits(self) -> Float[Tensor, " nodes"]:
        """What each node says: log2(concepts / concepts below it), 0 for one above everything."""
        return math.log2(len(self.concepts)) - self.widths.double().log2()

    def concepts_below(self, node: int) -> Int[Tensor, " concepts"]:
        """The columns of the concepts below a node."""
        return self.below[1, self.below[0] == node]

    def grade(self, label: str, truth: Sequence[str]) -> float | None:
        """How near a label is to the truth: depth of the deepest common ancestor, as a share of the deeper one's depth.

        1 for the truth itself, 0 where only a root is common; the best of several true names. None where the label or
        every true name is no concept of the hierarchy.
        """
        own = self._ancestors_by_name.get(label)
        others = [self._ancestors_by_name[name] for name in truth if name in self._ancestors_by_name]
        if own is None or not others:
            return None
        return max(self._nearness(own, other) for other in others)

    def _nearness(self, first: frozenset[str], second: frozenset[str]) -> float:
        if first == second:
            return 1.0
        common = max((self.depth[key] for key in first & second), default=0)
        return common / max(max(self.depth[key] for key in own) for own in (first, second))

    @cached_property
    def _ancestors_by_name(self) -> Mapping[str, frozenset[str]]:
        placed = set(self.concepts) - set(self.strays)
        return {name: own for name, own in zip(self.concepts, self.ancestors, strict=True) if name in placed}


@dataclass(frozen=True, eq=False)
class BackedOff:
    """The node of each unit: numbers below `len(taxonomy.nodes)` are nodes, those from there on single concepts."""

    nodes: Int[Tensor, " neurons"]
    mass: Float[Tensor, " neurons"]
    bits: Float[Tensor, " neurons"]


def back_off(scores: Float[Tensor, "neurons concepts"], taxonomy: Taxonomy, *, scale: float, mass: float) -> BackedOff:
    """For each unit the most informative node whose mass reaches a threshold.

    p = softmax(scale score) over concepts; the mass of a node is the sum of p over the concepts below it, its bits are
    log2(concepts / concepts below it). Of equal bits the greater mass is taken. Where no node reaches the threshold the
    unit gets the node above everything: 0 bits.

    It assumes that the softmax tells relative likelihoods; `scale` and `mass` belong to one similarity function at its
    settings (`cd_exp.calibration`). It fails where wrong labels are confident, and where the hierarchy puts what looks
    alike far apart: a toy and what it depicts share no more than "object".

    Args:
        scores: of a block of units; rows are independent.
        taxonomy: of the concepts, by column.
        scale: of the softmax.
        mass: what a node must reach.

    >>> animals = taxonomy_of(["cat", "dog", "car"], {"cat": ["animal"], "dog": ["animal"]}.get)
    >>> general = back_off(torch.tensor([[2.0, 1.9, 0.0], [0.0, 0.0, 9.0]]), animals, scale=3.0, mass=0.8)
    >>> [name_of(animals, int(node)) for node in general.nodes], general.bits.round(decimals=2).tolist()
    (['animal', 'car'], [0.58, 1.58])
    """
    shares = (scale * scores.double()).softmax(dim=1)
    pairs = taxonomy.below.to(scores.device)
    ones = torch.ones(pairs.shape[1], dtype=shares.dtype, device=shares.device)
    size = (len(taxonomy.nodes), len(taxonomy.concepts))
    members = torch.sparse_coo_tensor(pairs, ones, size, check_invariants=False)  # said, or torch warns
    masses = torch.cat([torch.sparse.mm(members, shares.T).T, shares], dim=1)
    alone = torch.full((len(taxonomy.concepts),), math.log2(len(taxonomy.concepts)), dtype=torch.float64)
    bits = torch.cat([taxonomy.bits, alone]).to(scores.device)
    eligible = masses >= mass
    eligible[:, 0] = True  # the node above everything
    best = (bits + 1e-7 * masses).where(eligible, -math.inf).argmax(dim=1)
    return BackedOff(best, masses.gather(1, best[:, None])[:, 0], bits[best])


def name_of(taxonomy: Taxonomy, node: int) -> str:
    """The name of a node, or of the single concept that it is."""
    return taxonomy.nodes[node] if node < len(taxonomy.nodes) else taxonomy.concepts[node - len(taxonomy.nodes)]


def holds(taxonomy: Taxonomy, node: int, accepted: Int[np.ndarray, " columns"]) -> bool:
    """Whether one of the accepted concepts is below a node, or is the single concept that it is."""
    if node >= len(taxonomy.nodes):
        return bool((accepted == node - len(taxonomy.nodes)).any())
    return bool(np.isin(accepted, taxonomy.concepts_below(node).numpy()).any())


@dataclass(frozen=True, eq=False)
class Hedging:
    """How general labels are given: a hierarchy, and the share of them that shall be right."""

    taxonomy: Taxonomy
    precision: float

    def back_off(self, scores: Float[Tensor, "block concepts"], function: Similarity) -> BackedOff:
        """The node of each unit from its scores under a function that has constants."""
        constants = _constants(function)
        general = back_off(scores, self.taxonomy, scale=constants.scale, mass=constants.mass(self.precision))
        return BackedOff(general.nodes.cpu(), general.mass.cpu(), general.bits.cpu())

    def labels(
        self,
        labels: Labels,
        blocks: Sequence[BackedOff],
        function: Similarity,
        accepted: Sequence[Int[np.ndarray, " columns"] | None],
    ) -> Labels:
        """The labels of a layer with its general ones, each right where an accepted concept is below it."""
        nodes = torch.cat([block.nodes for block in blocks]).tolist()
        columns = [own if own is not None and len(own) else None for own in accepted] or [None] * len(nodes)
        verdicts = [
            np.nan if own is None else float(holds(self.taxonomy, node, own))
            for node, own in zip(nodes, columns, strict=True)
        ]
        return replace(
            labels,
            general_label=tuple(name_of(self.taxonomy, node) for node in nodes),
            general_p=general_p(torch.cat([block.mass for block in blocks]).numpy(), _constants(function)),
            general_bits=torch.cat([block.bits for block in blocks]).numpy(),
            general_right=np.array(verdicts),
        )

    def notes(self) -> list[str]:
        """How many concepts the hierarchy does not have, where there are some."""
        strays, concepts = self.taxonomy.strays, self.taxonomy.concepts
        first = ", ".join(repr(name) for name in strays[:3])
        return [f"hierarchy: {len(strays)} of {len(concepts)} concepts are not in it, first {first}"] if strays else []


def _constants(function: Similarity) -> BackOff:
    constants = constants_of(function)
    if constants is None:
        raise ValueError("general labels of a function without constants: a run refuses these before")
    return constants.back_off


def taxonomy_of(
    concepts: Sequence[str],
    parents: Callable[[str], Sequence[str] | None],
    *,
    keys: Sequence[str | None] | None = None,
    name: Callable[[str], str] = str,
) -> Taxonomy:
    """The hierarchy above a concept set. Nodes above the same concepts are one, the deepest of them.

    Args:
        concepts: the names.
        parents: of a key; none or None of a root.
        keys: the key of each concept in the hierarchy, None for one that it does not have; the names where not given.
        name: of a key, for readers.

    Raises:
        InputError: a hierarchy that goes round.
    """
    keys = [*concepts] if keys is None else [*keys]
    if keys == [*concepts]:
        keys = [key if parents(key) else None for key in concepts]
        above_some = {parent for key in keys if key for parent in parents(key) or ()}
        keys = [key or (name if name in above_some else None) for key, name in zip(keys, concepts, strict=True)]
    depth: dict[str, int] = {}
    closed: dict[str, frozenset[str]] = {}
    alone = (frozenset((f"{column} alone",)) for column in range(len(keys)))  # a stray is above and below nothing
    above = [_climb(key, parents, closed, depth) if key else own for key, own in zip(keys, alone, strict=True)]
    below: dict[str, list[int]] = {}
    for column, own in enumerate(above):
        for key in own:
            below.setdefault(key, []).append(column)
    groups: dict[tuple[int, ...], str] = {}
    for key in sorted(below, key=lambda key: depth.get(key, 0)):  # the deepest is written last
        if len(below[key]) > 1:
            groups[tuple(below[key])] = key
    everything = tuple(range(len(concepts)))
    ordered = sorted(groups.items(), key=lambda item: (-len(item[0]), item[0]))
    named = [(columns, name(key)) for columns, key in ordered if columns != everything]
    named.insert(0, (everything, name(groups[everything]) if everything in groups else ANYTHING))
    pairs = [(node, column) for node, (columns, _) in enumerate(named) for column in columns]
    return Taxonomy(
        concepts=tuple(concepts),
        nodes=tuple(text for _, text in named),
        below=torch.tensor(pairs).T,
        ancestors=tuple(above),
        depth=depth,
        strays=tuple(text for text, key in zip(concepts, keys, strict=True) if key is None),
    )


def _climb(
    key: str,
    parents: Callable[[str], Sequence[str] | None],
    above: dict[str, frozenset[str]],
    depth: dict[str, int],
    way: tuple[str, ...] = (),
) -> frozenset[str]:
    """The key and all above it; every key is looked at once."""
    if key in way:
        circle = " > ".join([*way[way.index(key) :], key])
        raise InputError(f"the hierarchy goes round: {circle}; every name needs a way up to a root")
    if len(way) > DEEPEST:
        raise InputError(f"the hierarchy has more than {DEEPEST} names above {way[0]!r}; leave some out")
    if key not in above:
        own = [_climb(parent, parents, above, depth, (*way, key)) for parent in parents(key) or ()]
        above[key] = frozenset((key,)).union(*own)
        depth[key] = 1 + max((depth[parent] for parent in parents(key) or ()), default=-1)
    return above[key]


@dataclass(frozen=True)
class WordNet:
    """`hierarchy=wordnet`: WordNet 3's nouns, from the files of Debian's wordnet-base or of NLTK's data.

    The 1,000 classes of ImageNet in their order take timm's synsets; every other name its first noun sense, a plural
    that of its singular. What has none stays itself.

    Args:
        path: the folder with `index.noun` and `data.noun`, or NLTK's `wordnet.zip`; null looks where these are usual.
        precision: the share of general labels that shall be right.
    """

    path: str | None = None
    precision: float = 0.9

    def taxonomy(self, concepts: Sequence[str]) -> Taxonomy:
        """The hierarchy above a concept set.

        Raises:
            InputError: WordNet is not there.
        """
        nouns = _Nouns(read_wordnet(self.path))
        synsets = class_synsets(concepts)
        pairs = zip(concepts, synsets, strict=True)
        keys = [synset[1:] if synset else nouns.first_sense(name) for name, synset in pairs]
        return taxonomy_of(concepts, nouns.parents, keys=keys, name=nouns.name)


@dataclass(frozen=True)
class File:
    """`hierarchy=file`: a table of a name and the name above it, with a comma or a tab between them.

    Args:
        path: the table; a name may have several lines.
        precision: the share of general labels that shall be right.
    """

    path: str
    precision: float = 0.9

    def taxonomy(self, concepts: Sequence[str]) -> Taxonomy:
        """The hierarchy above a concept set; names are compared whatever their case.

        Raises:
            InputError: the table cannot be read, has a line of another form, or goes round.
        """
        above: dict[str, list[str]] = {}
        spelled: dict[str, str] = {}
        for name, parent in self._pairs():
            above.setdefault(_fold(name), []).append(_fold(parent))
            spelled |= {_fold(name): name, _fold(parent): parent}
        keys = [_fold(name) if _fold(name) in spelled else None for name in concepts]
        if not any(keys):
            raise InputError(
                f"hierarchy.path={self.path} has none of the {len(concepts)} concepts, first {concepts[0]!r}"
            )
        made = taxonomy_of(concepts, lambda key: above.get(key, ()), keys=keys, name=lambda key: spelled.get(key, key))
        if len(concepts) > 1 and made.nodes == (ANYTHING,):
            raise InputError(
                f"hierarchy.path={self.path} has no name above two of the concepts; a line is a name and the name "
                "above it, in this order"
            )
        return made

    def _pairs(self) -> Iterator[tuple[str, str]]:
        lines = read_lines(Path(self.path).expanduser(), setting="hierarchy.path")
        tabs = any("\t" in line for line in lines)
        reader = csv.reader(lines, delimiter="\t" if tabs else ",", skipinitialspace=True, strict=True)
        try:
            for cells in reader:
                stripped = [cell.strip() for cell in cells]
                if [cell.casefold() for cell in stripped] == ["name", "parent"] or not any(stripped):
                    continue
                if len(cells) != 2 or not all(stripped):
                    raise InputError(
                        f"line {reader.line_num} of hierarchy.path={self.path} has {sum(map(bool, stripped))} names in "
                        f"{len(cells)} cells, expected a name and the name above it, with a comma or a tab between them"
                    )
                yield stripped[0], stripped[1]
        except csv.Error as error:
            raise InputError(f"line {reader.line_num} of hierarchy.path={self.path} is no table: {error}") from error


def _fold(name: str) -> str:
    """What names are compared by: whatever their case, and however their accents are encoded."""
    return unicodedata.normalize("NFC", name).casefold()


Hierarchy = WordNet | File


def build_hedging(hierarchy: Hierarchy | None, concepts: Sequence[str]) -> Hedging | None:
    """The hierarchy above a concept set, at its precision; None without one."""
    return None if hierarchy is None else Hedging(hierarchy.taxonomy(concepts), hierarchy.precision)


class _Nouns:
    """WordNet's nouns: synsets by their offset in `data.noun`, eight digits, as in ImageNet's n02084071."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._data = files["data.noun"]
        self._senses: dict[str, str] = {}
        for line in files["index.noun"].decode("ascii", errors="replace").splitlines():
            cells = line.split()
            if line[:1] != " ":
                self._senses[cells[0]] = cells[-int(cells[2])]  # lemma, pos, synsets, ..., the offset of each synset
        self._exceptions = dict(
            line.split()[:2] for line in files.get("noun.exc", b"").decode("ascii", errors="replace").splitlines()
        )
        self._lines: dict[str, list[str]] = {}

    def first_sense(self, name: str) -> str | None:
        """The commonest sense of a name; of `car_(automobile)`, that of `car`."""
        lemma = "_".join(name.partition("(")[0].casefold().replace("_", " ").split())
        return next((self._senses[form] for form in self._forms(lemma) if form in self._senses), None)

    def _forms(self, lemma: str) -> Iterator[str]:
        yield lemma
        yield lemma.replace("-", "_")
        if lemma in self._exceptions:
            yield self._exceptions[lemma]
        for end, singular in (("ies", "y"), ("es", ""), ("s", "")):
            if lemma.endswith(end) and len(lemma) > len(end) + 2:
                yield lemma.removesuffix(end) + singular

    def _cells(self, key: str) -> list[str]:
        if key not in self._lines:
            start = int(key)
            self._lines[key] = (
                self._data[start : self._data.index(b"\n", start)].decode("ascii", errors="replace").split()
            )
        return self._lines[key]

    def name(self, key: str) -> str:
        """The first word of a synset."""
        return self._cells(key)[4].replace("_", " ")

    def parents(self, key: str) -> tuple[str, ...]:
        """Its hypernyms, those of an instance too."""
        cells = self._cells(key)
        first = 4 + 2 * int(cells[3], 16)  # words and their numbers, then the count of pointers, each of four cells
        pointers = [cells[first + 1 + 4 * at : first + 5 + 4 * at] for at in range(int(cells[first]))]
        return tuple(offset for symbol, offset, *_ in pointers if symbol in ("@", "@i"))


def read_wordnet(path: str | None, *, folders: Sequence[str] = FOLDERS, nltk: Sequence[str] = NLTK) -> dict[str, bytes]:
    """The files of WordNet's nouns by name: of the path, or of the first folder that has them."""
    import os

    data = [*os.environ.get("NLTK_DATA", "").split(os.pathsep), *nltk]
    usual = [*folders, *(f"{folder}/corpora/wordnet{end}" for folder in data if folder for end in ("", ".zip"))]
    for folder in [path] if path else usual:
        files = _read(Path(folder).expanduser())
        if files:
            return files
    if path:
        raise InputError(f"hierarchy.path={path} has no index.noun and data.noun; give WordNet's folder, or null")
    raise InputError(
        "hierarchy=wordnet finds no WordNet: install Debian's wordnet-base, or NLTK's data (python -m nltk.downloader "
        "wordnet), or give hierarchy.path=FOLDER with index.noun and data.noun"
    )


def _read(path: Path) -> dict[str, bytes] | None:
    names = ("index.noun", "data.noun", "noun.exc")
    if path.is_dir() and all((path / name).is_file() for name in names[:2]):
        return {name: (path / name).read_bytes() for name in names if (path / name).is_file()}
    if path.suffix == ".zip" and path.is_file():
        with zipfile.ZipFile(path) as archive:
            held = {Path(name).name: name for name in archive.namelist()}
            if all(name in held for name in names[:2]):
                return {name: archive.read(held[name]) for name in names if name in held}
    return None
