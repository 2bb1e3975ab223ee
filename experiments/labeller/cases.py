"""What rules are compared on: a layer with its truth, some of its images and units, and a concept set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import comb
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cd_exp.dissection import bind_names
from cd_exp.io.text import read_lines
from cd_exp.metrics import accepted_columns
from cd_exp.records import Accepted, ConceptActivations, Similarity
from cd_exp.similarity import concept_activations
from experiments.reopening import Run

SEED = 100


@dataclass(frozen=True, eq=False)
class Case:
    """A layer; `units` are the ones given to a rule, as columns of `neurons`, all where it is empty."""

    name: str
    match: ConceptActivations
    neurons: Float[Tensor, "images neurons"]
    names: tuple[str, ...]
    truth: Sequence[Accepted]
    groups: tuple[Int[Tensor, " some"], ...] = ()  # units that a rule gets together; none, all of them

    def of_images(self, name: str, rows: Tensor) -> "Case":
        """The same on some of the images."""
        return replace(
            self,
            name=name,
            match=ConceptActivations(self.match.images[rows], self.match.texts),
            neurons=self.neurons[rows],
        )

    def in_groups(self, size: int, *, seed: int) -> "Case":
        """The units divided by chance into layers of this size; what is left over makes no layer."""
        order = torch.randperm(self.neurons.shape[1], generator=torch.Generator().manual_seed(seed))
        groups = tuple(part for part in order.split(size) if len(part) == size)
        return replace(self, name=f"{self.name}, layers of {size}", groups=groups)


@dataclass(frozen=True, eq=False)
class Right:
    """Of the judged units, by their number in the layer: the share of orders of equal scores that make them right."""

    units: Int[np.ndarray, " judged"]
    top1: Float[np.ndarray, " judged"]
    top5: Float[np.ndarray, " judged"]

    def part(self, odd: int) -> "Right":
        """The even units, or the odd ones."""
        kept = self.units % 2 == odd
        return Right(self.units[kept], self.top1[kept], self.top5[kept])


def right(rule: Similarity, case: Case, *, seed: int = 0) -> Right:
    """What the rule gets right, its concepts in random order and equal scores counted as shares."""
    order = torch.randperm(len(case.names), generator=torch.Generator().manual_seed(seed))
    match = ConceptActivations(case.match.images, case.match.texts[order])
    names = tuple(case.names[column] for column in order.tolist())
    rank_of = order.argsort()  # where each concept went
    columns = [
        None if own is None else rank_of[torch.as_tensor(own)] for own in accepted_columns(case.truth, case.names)
    ]
    units, first, five = [], [], []
    for group in case.groups or (torch.arange(case.neurons.shape[1]),):
        scores = bind_names(rule, names)(match, case.neurons[:, group])
        for row, unit in zip(scores, group.tolist(), strict=True):
            own = columns[unit] if unit < len(columns) else None
            if own is not None and len(own):
                units.append(unit)
                first.append(share(row, own, within=1))
                five.append(share(row, own, within=5))
    return Right(np.array(units), np.array(first), np.array(five))


def share(row: Float[Tensor, " concepts"], accepted: Int[Tensor, " own"], *, within: int) -> float:
    """How likely a right concept is among the first `within` where equal scores are put in random order."""
    best = row[accepted].max()
    above, equal = int((row > best).sum()), int((row == best).sum())
    own = int((row[accepted] == best).sum())
    ranks = min(within - above, equal)
    return 1 - comb(equal - own, ranks) / comb(equal, ranks) if ranks > 0 else 0.0


def photographs(run: Run, *, seed: int) -> Iterator[Case]:
    """ResNet-18 `fc`: all images, parts of them, and other concept sets."""
    truth = run.data.labels[run.final].truth
    whole = Case("photographs fc", run.match(), run.activations(run.final), run.parts.concepts.names, truth)
    yield whole
    ids = [run.parts.probe.ids[index] for index in run.data.features.kept]  # type: ignore[attr-defined]
    small = torch.tensor([name.startswith("cifar") for name in ids])
    yield whole.of_images(f"{int((~small).sum())} photographs alone", (~small).nonzero().flatten())
    yield whole.of_images(f"{int(small.sum())} CIFAR images alone", small.nonzero().flatten())
    generator = torch.Generator().manual_seed(seed)
    some = torch.randperm(len(ids), generator=generator)[: len(ids) // 3]
    yield whole.of_images(f"{len(some)} images by chance", some.sort().values)
    lvis = read_lvis(run)
    for name, names in (("LVIS's names", lvis), ("both sets of names", (*whole.names, *lvis))):
        texts = torch.cat([whole.match.texts, run.embed(lvis)]) if len(names) > len(lvis) else run.embed(lvis)
        yield replace(whole, name=name, match=concept_activations(whole.match.images, texts), names=names)


def unseen(run: Run) -> Iterator[Case]:
    """The final layer with parts of the other concept set and of its units: what no way of choosing a prior was fitted
    on. Drawn anew from one seed for each kind."""
    whole, lvis = next(photographs(run, seed=0)), read_lvis(run)
    texts, own = run.embed(lvis), whole.match.texts

    def with_words(name: str, rows: np.ndarray, more: np.ndarray) -> Case:
        names = (*(lvis[row] for row in rows), *(whole.names[row] for row in more))
        words = torch.cat([texts[torch.as_tensor(rows)], own[torch.as_tensor(more)]])
        return replace(whole, name=name, match=concept_activations(whole.match.images, words), names=names)

    every, none = np.arange(len(lvis)), np.arange(0)
    yield with_words("LVIS's words", every, none)
    random = np.random.default_rng(SEED)
    for turn in range(3):
        yield with_words(f"half of LVIS's words, {turn}", np.sort(random.permutation(len(lvis))[:600]), none)
    random = np.random.default_rng(SEED)
    for turn in range(3):
        more = np.sort(random.permutation(len(own))[:200])
        yield with_words(f"LVIS's and 200 of ImageNet's words, {turn}", every, more)
    random, case = np.random.default_rng(SEED), with_words("", every, none)
    for count in (100, 300):
        for turn in range(2):
            units = torch.as_tensor(np.sort(random.permutation(len(own))[:count]))
            yield replace(case, name=f"LVIS's words, {count} units, {turn}", groups=(units,))
    named = [
        unit for unit, columns in enumerate(accepted_columns(case.truth, lvis)) if columns is not None and len(columns)
    ]
    yield replace(case, name="LVIS's words, the units that they name", groups=(torch.tensor(named),))


def read_lvis(run: Run) -> tuple[str, ...]:
    """The other concept set beside the embeddings."""
    folder = Path(run.parts.clip.folder)  # type: ignore[attr-defined]
    return tuple(read_lines(folder / "lvis_names.txt", setting="clip.folder"))


def shapes(run: Run) -> Iterator[Case]:
    """The layers of the built-in synthetic data set of which something is known."""
    for layer, labels in run.data.labels.items():
        yield Case(f"shapes {layer}", run.match(), run.activations(layer), run.parts.concepts.names, labels.truth)
