"""Labellers that are right for a known share of units: does the judge order them, and say when it cannot?

python -m experiments.planted_labellers.analysis RUN [--layer fc] [--labels DIR] [--floors]

A planted labeller gives a unit its true name with probability q, and otherwise the name of another unit. Of the
whitened judge, its floor and its paired test:

- ordered: are the means of eleven labellers of q = 0, .1 ... 1, each right where the one before it is right, in order?
- at its floor: does the interval over the floor hold 0 for the labeller of q = 0?
- cannot rank: does the test leave two labellers of the same q, drawn apart, untold?
- found: is a difference as large as `least_detectable` told by the test?

`--labels` writes the labels of three draws as CSV files for `python -m cd_exp.referee`. `--floors` compares floors of
one and of several shuffles instead: does the interval still hold 0, and how wide is it?
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from cd_exp.errors import InputError
from cd_exp.evaluation.judges import WhitenedJudge, WhitenedMatch, score_whitened, whiten_activations
from cd_exp.evaluation.judges.run_judge import hold_out_images, shuffle
from cd_exp.io.text import format_csv
from cd_exp.metrics.intervals import bootstrap_interval
from cd_exp.metrics.significance import compare_means, least_detectable
from experiments.against_published import say
from experiments.reopening import Run, reopen

SHARES = np.linspace(0, 1, 11)
DRAWS, TESTS, RESAMPLES = 100, 400, 999
SHUFFLES = (1, 5, 20)
EVEN = 0.5
"""The share of right labels of the two that are compared."""

Labels = Int[np.ndarray, " units"]
Table = Float[np.ndarray, "units names"]


@dataclass(frozen=True, eq=False)
class Scored:
    """What a judge says of every name for every unit of a layer, whose unit i is truly called by name i."""

    tables: Mapping[str, Table]

    @property
    def units(self) -> int:
        """How many, and as many names."""
        return len(next(iter(self.tables.values())))

    def of(self, score: str, labels: Labels) -> Float[np.ndarray, " units"]:
        """The score of each unit's label."""
        return self.tables[score][np.arange(self.units), labels]


def scores_of(run: Run, layer: str, *, seed: int) -> Scored:
    """Both scores of the whitened judge, of each unit with each unit's true name."""
    held = hold_out_images(WhitenedJudge(), replace(run.data, seed=seed))
    truth = [names[0] if names else "" for names in run.data.labels[layer].truth]
    if not truth or not all(truth):
        raise InputError(f"layer {layer} has units whose true name is not known; take one that is known whole, as fc")
    of_layer = held.features.activations[layer]
    activations = whiten_activations(of_layer[held.chosen_on], of_layer[held.scored_on])
    images = torch.nn.functional.normalize(held.features.images.double(), dim=1)
    match = WhitenedMatch.of(images[held.chosen_on], images[held.scored_on], run.embed(run.parts.concepts.names))
    columns, units = match.matches(run.embed(tuple(truth))), torch.arange(len(truth))
    rows = [
        score_whitened(activations, column[:, None], units, column=torch.zeros_like(units))
        for column in columns.unbind(dim=1)
    ]
    pairs = zip(("whitened", "which_unit"), zip(*rows, strict=True), strict=True)
    return Scored({name: torch.stack(list(values), dim=1).numpy() for name, values in pairs})


def nested(units: int, *, seed: int) -> list[Labels]:
    """The labels of eleven labellers of rising share, each right where the one before is."""
    random = np.random.default_rng([seed, 2])
    order, wrong = random.permutation(units), _others(units, random)
    return [np.where(order < round(share * units), np.arange(units), wrong) for share in SHARES]


def drawn(units: int, share: float, random: np.random.Generator) -> Labels:
    """The labels of one labeller that is right for each unit with the same probability."""
    return np.where(random.random(units) < share, np.arange(units), _others(units, random))


def _others(units: int, random: np.random.Generator) -> Labels:
    """Another unit's name for each."""
    order = random.permutation(units)
    names = np.empty(units, dtype=np.int64)
    names[order] = np.roll(order, 1)
    return names


def over_floor(
    scored: Scored, score: str, labels: Labels, *, seed: int, shuffles: int = 1
) -> Float[np.ndarray, " units"]:
    """Unit by unit, the score less that of the same labels shuffled, or the mean of several shuffles."""
    names = [str(label) for label in labels]
    orders = [np.array([int(name) for name in shuffle(names, seed=seed + 1000 * turn)]) for turn in range(shuffles)]
    return scored.of(score, labels) - np.mean([scored.of(score, order) for order in orders], axis=0)


def ordered(scored: Scored, score: str, *, draws: int = DRAWS) -> list[bool]:
    """For each draw whether the means of all labellers rise with their share."""
    return [
        bool((np.diff([scored.of(score, labels).mean() for labels in nested(scored.units, seed=seed)]) > 0).all())
        for seed in range(draws)
    ]


def intervals_at_floor(scored: Scored, score: str, *, draws: int, shuffles: int = 1) -> list[tuple[float, float]]:
    """For each draw the interval over the floor of labels that are all another unit's."""
    ends = []
    for seed in range(draws):
        values = over_floor(scored, score, nested(scored.units, seed=seed)[0], seed=seed, shuffles=shuffles)
        ends.append(bootstrap_interval(values, seed=seed, resamples=RESAMPLES) or (np.nan, np.nan))
    return ends


def holding_zero(intervals: Sequence[tuple[float, float]]) -> int:
    """How many of the intervals hold 0."""
    return sum(low <= 0 <= high for low, high in intervals)


def compare_floors(scored: Scored, *, tests: int = TESTS) -> str:
    """A row for each number of shuffles that the floor is the mean of."""
    lines = [["shuffles", *(f"{score} holds 0, half-width" for score in scored.tables)], ["---"] * 3]
    for shuffles in SHUFFLES:
        cells = []
        for score in scored.tables:
            ends = intervals_at_floor(scored, score, draws=tests, shuffles=shuffles)
            cells.append(f"{100 * holding_zero(ends) / tests:.1f} % of {tests}, {np.ptp(ends, axis=1).mean() / 2:.4f}")
        lines.append([str(shuffles), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def told(scored: Scored, score: str, shares: tuple[float, float], *, draws: int) -> tuple[list[bool], list[float]]:
    """For each draw whether two labellers of these shares are told apart, and the least detectable difference."""
    apart, least = [], []
    for seed in range(draws):
        random = np.random.default_rng([seed, 3])
        a, b = (scored.of(score, drawn(scored.units, share, random)) for share in shares)
        apart.append(compare_means(a, b, seed=seed, resamples=RESAMPLES).p < 0.05)
        least.append(least_detectable(a, b) or np.nan)
    return apart, least


def report(scored: Scored, *, draws: int = DRAWS, tests: int = TESTS) -> str:
    """A row for each score."""
    lines = [["score", "ordered", "at its floor", "equal ones: cannot rank", "least detectable", "found"], ["---"] * 6]
    for score, table in scored.tables.items():
        apart, least = told(scored, score, (EVEN, EVEN), draws=draws)
        floors = intervals_at_floor(scored, score, draws=draws)
        # A share more of right labels is worth the mean gain of the true name over another unit's.
        gain = float(np.diag(table).mean() - (table.sum() - np.trace(table)) / (table.size - len(table)))
        more = float(np.mean(least)) / gain
        share_found, _ = told(scored, score, (EVEN + more / 2, EVEN - more / 2), draws=tests)
        lines.append([
            score, f"{sum(ordered(scored, score, draws=draws))} of {draws}", f"{holding_zero(floors)} of {draws}",
            f"{draws - sum(apart)} of {draws}", f"{np.mean(least):.4f} ({100 * more:.1f} points of right labels)",
            f"{100 * np.mean(share_found):.1f} % of {tests}",
        ])  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_labels(folder: Path, names: Sequence[str], layer: str) -> None:
    """Three draws of eleven labellers each, a file for each labeller."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(3):
        for share, labels in zip(SHARES, nested(len(names), seed=seed), strict=True):
            rows = [(layer, str(unit), names[label]) for unit, label in enumerate(labels)]
            text = format_csv([("layer", "unit", "description"), *rows])
            (folder / f"seed{seed}_right{round(100 * share):03d}.csv").write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None, *, draws: int = DRAWS, tests: int = TESTS) -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run with a layer whose units are all known")
    parser.add_argument("--layer", default="fc")
    parser.add_argument("--seed", type=int, default=0, help="of the division of the images")
    parser.add_argument("--labels", type=Path, help="a folder for the labels of three draws")
    parser.add_argument("--floors", action="store_true", help="floors of one and of several shuffles instead")
    options = parser.parse_args(arguments)
    run = reopen(options.run)
    run.activations(options.layer)
    if options.labels is not None:
        write_labels(
            options.labels, [(names or ("",))[0] for names in run.data.labels[options.layer].truth], options.layer
        )
    scored = scores_of(run, options.layer, seed=options.seed)
    made = compare_floors(scored, tests=tests) if options.floors else report(scored, draws=draws, tests=tests)
    return "\n\n".join([f"{scored.units} units of {options.layer}, judge=whitened:", made])


if __name__ == "__main__":
    say(main)
