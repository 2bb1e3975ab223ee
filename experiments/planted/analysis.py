"""Units that were made to mean one thing: what each method calls them, and what each score says of the right name.

From the masks of the built-in synthetic data set, for each of its 28 attributes:

- exact: 1 where the attribute is shown, 0 elsewhere;
- shifted: the same and 5, as of a unit that never falls silent;
- noisy: the same with Gaussian noise of standard deviation 0.5;
- negated: 1 where the attribute is absent;
- double: for each of the 378 pairs, the larger of the two noisy units after each is z-scored.

python -m experiments.planted.analysis RUN

RUN is a finished run on the built-in synthetic data set: its images, CLIP embeddings and concept set are used, never
its network.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp import similarity
from cd_exp.dissection import RunData
from cd_exp.errors import InputError
from cd_exp.evaluation.baselines import Invert, LinearExplanations, Method, run_method
from cd_exp.evaluation.judges import concept_presence, score_labels
from cd_exp.evaluation.judges.run_judge import OwnLabels
from cd_exp.metrics.intervals import clopper_pearson_interval
from cd_exp.probes.shapes import Shapes
from cd_exp.records import Labels
from cd_exp.shapes import ATTRIBUTES, SHAPES
from experiments.against_published import say
from experiments.meta_evaluation.analysis import FUNCTIONS
from experiments.reopening import Run, reopen

SHIFT, NOISE = 5.0, 0.5
PAIRS = tuple(combinations(range(len(ATTRIBUTES)), 2))
FAMILIES = ("exact", "shifted", "noisy", "negated")
CATEGORIES = ("color", "object", "texture", "scene")

Units = Mapping[str, Float[Tensor, "images units"]]


def planted(attributes: Float[Tensor, "images attributes"], *, seed: int) -> dict[str, Tensor]:
    """The units of every kind, made from where each attribute is shown."""
    generator = torch.Generator().manual_seed(seed)
    noisy = attributes + NOISE * torch.randn(attributes.shape, generator=generator)
    scored = (noisy - noisy.mean(0)) / noisy.std(0)
    first, second = (list(side) for side in zip(*PAIRS, strict=True))
    return {
        "exact": attributes,
        "shifted": attributes + SHIFT,
        "noisy": noisy,
        "negated": 1 - attributes,
        "double": torch.maximum(scored[:, first], scored[:, second]),
    }


def methods() -> dict[str, Method]:
    """Our own similarity functions as methods, and the other methods that need no activation maps."""
    by_name: dict[str, Method] = {name: OwnLabels(getattr(similarity, name)) for name in FUNCTIONS}
    by_name["invert, 1 atom"] = Invert(length=1, categories=CATEGORIES, max_share=0.95)
    by_name["invert, 2 atoms"] = Invert(categories=CATEGORIES, max_share=0.95)
    by_name["linear explanations, CLIP"] = LinearExplanations()
    by_name["linear explanations, masks"] = LinearExplanations(source="annotations")
    return by_name


def truths() -> dict[str, tuple[tuple[str, ...], ...]]:
    """The names that are right: of a negated unit NOT with the attribute; of a double one there is no single one."""
    right = tuple((name,) for name in ATTRIBUTES)
    return {**dict.fromkeys(FAMILIES, right), "negated": tuple((f"NOT {name}",) for name in ATTRIBUTES)}


def asked(run: Run, units: Units, *, seed: int) -> RunData:
    """What a method has when it labels these units in place of the network's."""
    true_labels = truths()
    labels = {
        family: Labels(
            layer=family,
            units=np.arange(values.shape[1]),
            top=((),) * values.shape[1],
            similarity=np.full(values.shape[1], np.nan),
            truth=true_labels.get(family, ()),
        )
        for family, values in units.items()
    }
    return replace(run.data, features=replace(run.data.features, activations=units), labels=labels, seed=seed)


def accuracy(labels: Labels, right: Sequence[tuple[str, ...]]) -> tuple[float, tuple[float, float]]:
    """Per cent of units whose first label is right, with its interval."""
    good = np.array([label in names for label, names in zip(labels.descriptions, right, strict=True)])
    return 100 * float(good.mean()), clopper_pearson_interval(good)


def both(labels: Labels) -> dict[str, np.ndarray]:
    """Of double units: whether the first label is one of the two words, one is among five, and both are."""
    pairs = [{ATTRIBUTES[first], ATTRIBUTES[second]} for first, second in PAIRS]
    words = [{word for name in top[:5] for word in _words(name)} for top in labels.top]
    firsts = [set(_words(top[0])) if top else set() for top in labels.top]
    return {
        "first label": np.array([bool(first & pair) for first, pair in zip(firsts, pairs, strict=True)]),
        "one among five": np.array([bool(own & pair) for own, pair in zip(words, pairs, strict=True)]),
        "both among five": np.array([pair <= own for own, pair in zip(words, pairs, strict=True)]),
    }


def _words(name: str) -> tuple[str, ...]:
    """The attributes that a label is, or is a formula of: `red OR circle`, never the pair `red circle`."""
    parts = name.replace("AND NOT ", "AND ").replace(" OR ", " AND ").split(" AND ")
    return tuple(part for part in parts if part in ATTRIBUTES)


def scores(units: Units, values: Callable[[str], Tensor | None]) -> dict[str, dict[str, np.ndarray]]:
    """By score and family, units x attributes: the score of every attribute's name for every planted unit."""
    by_method: dict[str, dict[str, np.ndarray]] = {}
    for family in FAMILIES:
        columns = []
        for name in ATTRIBUTES:
            label = f"NOT {name}" if family == "negated" else name
            columns.append(score_labels(units[family], [label] * len(ATTRIBUTES), values))
        for metric in columns[0]:
            by_method.setdefault(metric, {})[family] = np.stack([column[metric] for column in columns], axis=1)
    return by_method


def method_table(by_method: Mapping[str, Mapping[str, Labels]]) -> str:
    """A row a method: per cent of units rightly named, by family."""
    right = truths()
    lines = [["method", *FAMILIES], ["---"] * (1 + len(FAMILIES))]
    for method, families in by_method.items():
        cells = [_interval(*accuracy(families[family], right[family])) for family in FAMILIES]
        lines.append([method, *cells])
    return _rows(lines)


def double_table(by_method: Mapping[str, Mapping[str, Labels]]) -> str:
    """A row a method: of 378 double units, per cent whose words are named."""
    lines = [["method", "first label is one of the two", "one among five", "both among five"], ["---"] * 4]
    for method, families in by_method.items():
        shares = both(families["double"])
        lines.append(
            [method, *(_interval(100 * float(own.mean()), clopper_pearson_interval(own)) for own in shares.values())]
        )
    return _rows(lines)


def score_table(by_method: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """A row a score: its mean for the right name, for the best wrong one, and the units with the right one on top."""
    lines = [["score", *FAMILIES], ["---"] * (1 + len(FAMILIES))]
    for metric, families in by_method.items():
        cells = []
        for values in families.values():
            right = np.diag(values)
            wrong = np.where(np.eye(len(values), dtype=bool), -np.inf, values).max(axis=1)
            cells.append(f"{right.mean():.3f} / {wrong.mean():.3f}, {int((right > wrong).sum())} of {len(right)}")
        lines.append([metric, *cells])
    return _rows(lines)


def _interval(value: float, bounds: tuple[float, float]) -> str:
    return f"{value:.1f} [{bounds[0]:.1f}, {bounds[1]:.1f}]"


def _rows(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run on the built-in synthetic data set")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    run = reopen(options.run)
    probe = run.parts.probe
    if not isinstance(probe, Shapes) or not set(SHAPES) <= set(run.parts.concepts.names):
        raise InputError(
            f"{options.run} is no run on the built-in synthetic data set with its concept set, as python run.py makes"
        )
    values = concept_presence(probe, run.data.features.kept)
    attributes = torch.stack([_shown(values, name) for name in ATTRIBUTES], dim=1)
    units = planted(attributes, seed=options.seed)
    own = asked(run, units, seed=options.seed)
    by_method = {name: run_method(method, own).labels for name, method in methods().items()}
    return "\n\n".join(
        [
            "Per cent of 28 units rightly named [95 %]:",
            method_table(by_method),
            "378 double units, per cent [95 %]:",
            double_table(by_method),
            "Scores: right name / best wrong name, and units whose right name is above all others:",
            score_table(scores(units, values)),
        ]
    )


def _shown(values: Callable[[str], Tensor | None], name: str) -> Float[Tensor, " images"]:
    numbers = values(name)
    assert numbers is not None
    return numbers


if __name__ == "__main__":
    say(main)
