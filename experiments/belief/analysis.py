"""Which labels to believe, and at what level: the constants of `cd_exp.calibration`, fitted and held to other units.

Constants are fitted on even units of the final layer of a run with experiment=real_photos and looked at on odd ones, on
LVIS's words, on hidden units that separate one CIFAR-10 class, and on the built-in scenes.

python -m experiments.belief.analysis PHOTOGRAPHS [SHAPES] [--only probability general]
"""

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from cd_exp.calibration import (
    BackOff,
    Belief,
    calibration_error,
    constants_of,
    error_of_perfect,
    fit,
    general_p,
    logistic,
    p_right,
)
from cd_exp.dissection import label_units
from cd_exp.hierarchy import Taxonomy, WordNet
from cd_exp.metrics.selective import auc, auc_difference, auc_difference_interval
from cd_exp.records import Accepted, ConceptActivations, Labels, Similarity
from cd_exp.similarity import concept_activations, soft_wpmi, whitened_wpmi, wpmi
from cd_exp.stability import with_stability
from experiments.against_published import say
from experiments.hidden_layers.analysis import WORDS, cifar_layers
from experiments.labeller.cases import read_lvis
from experiments.reopening import Run, reopen

RESAMPLES = 40
HEAD_OF_P = "| function | constants | units | n | mean p | right | error | of a perfect p | AUC | − stability's |"
HEAD_OF_GENERAL = (
    "| function | scale | wanted | mass | right, even | right, odd | bits, odd | under one bit | mean p | error "
    "| abstaining: named | right | bits |"
)
PRECISIONS = (0.7, 0.8, 0.9, 0.95)
MASSES = np.arange(0.05, 0.991, 0.01)
FUNCTIONS: Mapping[str, Similarity] = {
    **{f"whitened_wpmi, prior {weight:g}": partial(whitened_wpmi, prior_weight=weight) for weight in (0.85, 0.4, 0.0)},
    "soft_wpmi": soft_wpmi,
    "wpmi": wpmi,
}
SCALES = {"whitened_wpmi, prior 0.85": 2.5, "whitened_wpmi, prior 0.4": 2.0, "whitened_wpmi, prior 0": 1.5}
"""Of the softmax; 4 for the others. Of 1 to 3 (soft_wpmi, wpmi: 0.5 to 6) those with the most bits at .9."""


@dataclass(frozen=True, eq=False)
class Units:
    """Units of known truth: stability and margin of their labels, and whether these are right."""

    numbers: np.ndarray
    stability: np.ndarray
    margin: np.ndarray
    right: np.ndarray

    @staticmethod
    def of(layers: Sequence[Labels]) -> "Units":
        has_truth = [~np.isnan(labels.ranks) for labels in layers]  # type: ignore[arg-type]
        columns = [
            np.concatenate(
                [np.asarray(getattr(labels, name))[own] for labels, own in zip(layers, has_truth, strict=True)]
            )
            for name in ("units", "stability", "margin", "ranks")
        ]
        return Units(*columns[:3], columns[3] == 1)

    def part(self, odd: int) -> "Units":
        kept = self.numbers % 2 == odd
        return Units(*(values[kept] for values in (self.numbers, self.stability, self.margin, self.right)))


def labels_of(
    function: Similarity, match: ConceptActivations, layers: Mapping[str, torch.Tensor], names: Sequence[str],
    truth: Mapping[str, Sequence[Accepted]],
) -> list[Labels]:  # fmt: skip
    """The labels as a run gives them, with their stability."""
    scored = label_units(function, match, layers, names, truth=truth, top=5, resamples=RESAMPLES)
    stable_labels = with_stability(
        scored.labels, scored.candidates, function, match, layers, names, resamples=RESAMPLES, seed=0
    )
    return list(stable_labels.values())


def cases(run: Run, world: Run | None, function: Similarity) -> Iterator[tuple[str, Units]]:
    """Units of other words, hidden units, and units of the built-in scenes."""
    final, truth = run.final, run.data.labels[run.final].truth
    lvis = read_lvis(run)
    match = concept_activations(run.data.features.images, run.embed(lvis))
    layers = {final: run.activations(final)}
    yield "LVIS's words, fc", Units.of(labels_of(function, match, layers, lvis, {final: truth}))
    hidden = list(
        cifar_layers(run, ["layer2", "layer3", "layer4"], Path(run.parts.probe.root) / "cifar10_classes.tsv")  # type: ignore[attr-defined]
    )
    class_of = {layer.name: dict(zip(layer.units.tolist(), layer.classes, strict=True)) for layer in hidden}
    accepted = {
        layer.name: tuple(
            (WORDS.get(class_of[layer.name][unit], class_of[layer.name][unit]),)
            if unit in class_of[layer.name]
            else None
            for unit in range(layer.neurons.shape[1])
        )
        for layer in hidden
    }
    neurons = {layer.name: layer.neurons for layer in hidden}
    yield "hidden units of one class", Units.of(labels_of(function, hidden[0].match, neurons, lvis, accepted))
    if world is None:
        return
    for layer, labels in world.data.labels.items():
        own = {layer: world.activations(layer)}
        names = world.parts.concepts.names
        yield f"shapes {layer}", Units.of(labels_of(function, world.match(), own, names, {layer: labels.truth}))


def probability(run: Run, world: Run | None) -> str:
    """Constants fitted on even units, and what they give elsewhere."""
    lines = [HEAD_OF_P, "| --- " * 10 + "|"]
    for name, function in FUNCTIONS.items():
        layers = {run.final: run.activations(run.final)}
        truth = {run.final: run.data.labels[run.final].truth}
        whole = Units.of(labels_of(function, run.match(), layers, run.parts.concepts.names, truth))
        even = whole.part(0)
        belief = fit(even.stability, even.margin, even.right)
        for case, units in (("fc, odd units", whole.part(1)), *cases(run, world, function)):
            lines.append(_row(name, case, units, belief))
    return "\n".join(lines)


def _row(name: str, case: str, units: Units, belief: Belief) -> str:
    stated = p_right(units.stability, units.margin, belief)
    area, gain = auc(stated, units.right), auc_difference(stated, units.stability, units.right)
    ends = auc_difference_interval(stated, units.stability, units.right)
    constants = ", ".join(f"{value:.3f}" for value in vars(belief).values())
    cells = [name, constants, case, str(len(units.right))]
    cells += [f"{stated.mean():.3f}", f"{units.right.mean():.3f}", f"{calibration_error(stated, units.right):.3f}"]
    cells += [f"{error_of_perfect(stated):.3f}", "" if area is None else f"{area:.3f}"]
    cells += ["" if gain is None or ends is None else f"{gain:+.3f} [{ends[0]:+.3f}, {ends[1]:+.3f}]"]
    return f"| {' | '.join(cells)} |"


def general(run: Run, world: Run | None) -> str:
    """Back-off fitted on even units: share right and bits on odd ones, beside abstaining at the same share right."""
    taxonomy = WordNet().taxonomy(run.parts.concepts.names)
    lines = [HEAD_OF_GENERAL, "| --- " * 13 + "|"]
    for name, function in FUNCTIONS.items():
        scores = function(run.match(), run.activations(run.final))
        swept = Swept.of(scores, taxonomy, SCALES.get(name, 4.0))
        chosen = {wanted: swept.mass_of(wanted) for wanted in PRECISIONS}
        intercept, slope = swept.calibrated([at for at in chosen.values() if at is not None])
        constants = constants_of(function)
        assert constants is not None
        for wanted, at in chosen.items():
            if at is not None:
                cells = swept.row(at, BackOff(constants.back_off.scale, {}, intercept, slope))
                head = f"{name} | {SCALES.get(name, 4.0):g} | {wanted}"
                lines.append(f"| {head} | {cells} | {_abstained(run, function, wanted)} |")
        lines.append(f"| {name} | | | general_p: {intercept:.3f} + {slope:.3f} logit(mass) " + "| " * 10 + "|")
    return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Swept:
    """The general labels of the units of a final layer under every threshold on mass: unit i is concept i."""

    right: Float[np.ndarray, "masses units"]
    bits: Float[np.ndarray, "masses units"]
    mass: Float[np.ndarray, "masses units"]

    @staticmethod
    def of(scores: torch.Tensor, taxonomy: Taxonomy, scale: float) -> "Swept":
        nodes, concepts = len(taxonomy.nodes), len(taxonomy.concepts)
        members = torch.zeros(nodes + concepts, concepts, dtype=torch.float64)
        members[taxonomy.below[0], taxonomy.below[1]] = 1
        members[nodes:] = torch.eye(concepts)
        bits = math.log2(concepts) - members.sum(dim=1).log2()
        masses = (scale * scores.double()).softmax(dim=1) @ members.T
        units, rows = torch.arange(len(scores)), []
        for least in MASSES:
            eligible = masses >= least
            eligible[:, 0] = True
            best = (bits + 1e-7 * masses).where(eligible, -math.inf).argmax(dim=1)
            rows.append((members[best, units].numpy(), bits[best].numpy(), masses[units, best].numpy()))
        return Swept(*(np.array(column) for column in zip(*rows, strict=True)))

    @property
    def even(self) -> np.ndarray:
        return np.arange(self.right.shape[1]) % 2 == 0

    def mass_of(self, wanted: float) -> int | None:
        """The threshold with the most bits on even units of which the wanted share is right."""
        shares = self.right[:, self.even].mean(axis=1)
        fitting = np.flatnonzero(shares >= wanted)
        gains = (self.right * self.bits)[:, self.even].mean(axis=1)
        return int(fitting[gains[fitting].argmax()]) if len(fitting) else None

    def calibrated(self, thresholds: Sequence[int]) -> tuple[float, float]:
        """Logistic regression of right on the logit of the mass, over the even units at these thresholds."""
        mass = np.clip(self.mass[thresholds][:, self.even].ravel(), 1e-6, 1 - 1e-6)
        rows = np.stack([np.ones(len(mass)), np.log(mass / (1 - mass))], axis=1)
        right = self.right[thresholds][:, self.even].ravel()
        coefficients = np.zeros(2)
        for _ in range(50):
            shares = logistic(rows @ coefficients)
            coefficients += np.linalg.solve(
                rows.T @ (rows * (shares * (1 - shares))[:, None]), rows.T @ (right - shares)
            )
        return float(coefficients[0]), float(coefficients[1])

    def row(self, at: int, constants: BackOff) -> str:
        odd = ~self.even
        right, bits = self.right[at], self.bits[at]
        stated = general_p(self.mass[at][odd], constants)
        cells = [f"{MASSES[at]:.2f}", f"{right[self.even].mean():.3f}", f"{right[odd].mean():.3f}"]
        cells += [f"{(right * bits)[odd].mean():.2f}", f"{(bits[odd] < 1).mean():.3f}", f"{stated.mean():.3f}"]
        return " | ".join([*cells, f"{calibration_error(stated, right[odd] > 0):.3f}"])


def _abstained(run: Run, function: Similarity, wanted: float) -> str:
    """Units named by their flat label where p_right is high enough, its threshold chosen on even units."""
    labels = _final_labels(run, function)
    constants = constants_of(function)
    assert constants is not None
    stated = p_right(labels.stability, labels.margin, constants.belief)
    even = labels.numbers % 2 == 0
    order = np.sort(stated[even])
    least = next((value for value in order if labels.right[even & (stated >= value)].mean() >= wanted), None)
    if least is None:
        return "0.000 | | 0.00"
    odd = ~even
    named = stated >= least
    bits = math.log2(len(run.parts.concepts.names)) * (labels.right & named)[odd].mean()
    return f"{named[odd].mean():.3f} | {labels.right[odd & named].mean():.3f} | {bits:.2f}"


_kept: dict[str, Units] = {}


def _final_labels(run: Run, function: Similarity) -> Units:
    key = repr(function)
    if key not in _kept:
        final, truth = run.final, run.data.labels[run.final].truth
        layers = {final: run.activations(final)}
        _kept[key] = Units.of(labels_of(function, run.match(), layers, run.parts.concepts.names, {final: truth}))
    return _kept[key]


PARTS = {"probability": probability, "general": general}


def main(arguments: Sequence[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="a finished run with experiment=real_photos")
    parser.add_argument("shapes", type=Path, nargs="?", help="a finished run of the built-in scenes")
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), help="all where not given")
    options = parser.parse_args(arguments)
    run, world = reopen(options.photographs), reopen(options.shapes) if options.shapes else None
    return "\n\n".join(f"## {name}\n\n{PARTS[name](run, world)}" for name in options.only)


if __name__ == "__main__":
    say(main)
