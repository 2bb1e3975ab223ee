"""Which score tells the truth: over units with a known one, does it put right labels above wrong ones?

Every similarity function labels the units on the larger part of the images; a judge scores these labels, the true ones
and random ones on the other. Three questions:

- right above wrong: for a unit, how often is the score of its true label above that of a wrong label that some function
  gave it, or that was drawn at random (equal ones count half)? The mean over units.
- told apart: over all units and functions, the area under the ROC curve of the score for "this label is right".
- order of methods: Spearman's correlation, over the functions, of the mean score with the share that is right.
- true name first: for how many units, in per cent, does no other concept have a higher score than the true one (not for
  `images`, which would draw them all)? Equal ones share the first place.

python -m experiments.meta_evaluation.analysis RUN --judge annotations|images|clip|whitened [--layers fc]

`clip` and `whitened` ask the run's own backbone, which is circular. Beside every similarity function that the package
offers stands soft_wpmi at scale 30, which is better than the published 10 on few images.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from cd_exp import similarity
from cd_exp.config import config_folder
from cd_exp.errors import InputError, unknown_name_error
from cd_exp.evaluation.judges import (
    AnnotationsJudge,
    ClipJudge,
    HeldOut,
    ImagesJudge,
    Judge,
    LabelsToScore,
    WhitenedJudge,
)
from cd_exp.evaluation.judges.run_judge import OwnLabels, hold_out_images, label_from_part
from cd_exp.metrics.selective import auc
from cd_exp.records import Labels, Similarity
from cd_exp.similarity.registry import find_by_file_name
from experiments.against_published import say
from experiments.reopening import Run, reopen

FUNCTIONS = tuple(
    sorted(path.stem for path in (config_folder() / "similarity").glob("*.yaml") if path.stem in find_by_file_name())
)
"""Every similarity function that the package offers, with its default settings."""
METHODS: Mapping[str, Similarity] = {name: getattr(similarity, name) for name in FUNCTIONS} | {
    "soft_wpmi scale=30": partial(similarity.soft_wpmi, scale=30.0)
}
RANDOM = 5
"""Labels drawn for each unit."""
RESAMPLES = 2000


@dataclass(frozen=True, eq=False)
class Scored:
    """The known units of all layers together: which labels are right, and what every score says of each.

    Rows are units; columns of `is_label_right` and of the scores are the functions, then the true and the random
    labels. `first` is 1 for a unit whose true label no other concept outdoes.
    """

    functions: tuple[str, ...]
    right: Bool[np.ndarray, "units labels"]
    scores: Mapping[str, Float[np.ndarray, "units labels"]]
    first: Mapping[str, Float[np.ndarray, " units"]] = field(default_factory=dict)

    def take(self, rows: np.ndarray) -> "Scored":
        """The same of some of the units."""
        scores, first = ({name: values[rows] for name, values in each.items()} for each in (self.scores, self.first))
        return Scored(self.functions, self.right[rows], scores, first)


def right_above_wrong(scored: Scored, metric: str) -> float:
    """How often the true label's score is above a wrong label's of the same unit; NaN scores are left out."""
    values = scored.scores[metric]
    true = values[:, len(scored.functions), None]
    is_wrong = ~scored.right & ~np.isnan(values) & ~np.isnan(true)
    wins = np.where(is_wrong, (true > values) + (true == values) / 2, 0)
    pairs = is_wrong.sum(axis=1)
    with_pairs = pairs > 0
    return float((wins.sum(axis=1)[with_pairs] / pairs[with_pairs]).mean()) if with_pairs.any() else float("nan")


def told_apart(scored: Scored, metric: str) -> float:
    """The area under the ROC curve of the score for whether a label is right, over units and functions."""
    values = scored.scores[metric][:, : len(scored.functions)].ravel()
    is_scored = ~np.isnan(values)
    area = auc(values[is_scored], scored.right[:, : len(scored.functions)].ravel()[is_scored])
    return float("nan") if area is None else area


def order_of_methods(scored: Scored, metric: str) -> float:
    """Spearman's correlation of mean score and accuracy over the functions."""
    values = scored.scores[metric][:, : len(scored.functions)]
    some = ~np.isnan(values).all(axis=0)
    means = np.array([np.nanmean(column) for column in values[:, some].T])
    ranks = [rankdata(means), rankdata(scored.right[:, : len(scored.functions)].mean(axis=0)[some])]
    if len(means) < 3 or min(np.ptp(rank) for rank in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def true_name_first(scored: Scored, metric: str) -> float:
    """For how many units, in per cent, the true name scores highest of all concepts; NaN where that was not asked."""
    return 100 * float(scored.first[metric].mean()) if metric in scored.first else float("nan")


QUESTIONS: Mapping[str, Callable[[Scored, str], float]] = {
    "right above wrong": right_above_wrong,
    "told apart": told_apart,
    "order of methods": order_of_methods,
    "true name first %": true_name_first,
}


Question = Callable[[Scored, str], float]


def interval(
    scored: Scored, metric: str, question: Question, *, seed: int, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """The 95 % percentile bootstrap over units."""
    rng, units = np.random.default_rng(seed), len(scored.right)
    drawn = [question(scored.take(rng.integers(0, units, units)), metric) for _ in range(resamples)]
    if np.isnan(drawn).all():
        return float("nan"), float("nan")
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def first_of_all(
    judge: Judge, held: HeldOut, layer: str, units: np.ndarray, truths: Sequence[str], words: Sequence[str]
) -> dict[str, np.ndarray]:
    """By score, for each unit the chance that its true name is drawn first where equal scores are drawn at random."""
    names = list(dict.fromkeys([*words, *truths]))
    judged = judge(held, [LabelsToScore(layer, units, (name,) * len(units)) for name in names])
    rows, shares = [names.index(truth) for truth in truths], {}
    for metric in judged[0]:
        scores = np.stack([one[metric] for one in judged])
        own = scores[rows, np.arange(len(units))]
        shares[metric] = np.where((scores > own).any(axis=0), 0.0, 1 / np.maximum((scores == own).sum(axis=0), 1))
    return shares


def gathered(run: Run, judge: Judge, *, layers: Sequence[str], seed: int) -> Scored:
    """Every function's labels of the known units, scored."""
    own = replace(run.data, seed=seed)
    held = hold_out_images(judge, own)
    part = label_from_part(own, held)
    by_function = {name: OwnLabels(function)(part) for name, function in METHODS.items()}
    is_known = judge.known(held, run.parts.concepts.names)
    words = [name for name in run.parts.concepts.names if is_known[name]]
    random = np.random.default_rng(seed)
    right, scores, first = [], dict[str, list[np.ndarray]](), dict[str, list[np.ndarray]]()
    for layer in layers:
        labels = {name: by_layer[layer] for name, by_layer in by_function.items()}
        rows = _judged(labels[FUNCTIONS[0]])
        if not len(rows):
            continue
        accepted = [run.data.labels[layer].truth[row] or () for row in rows]
        columns = [[own.descriptions[row] for row in rows] for own in labels.values()]
        columns.append([names[0] for names in accepted])
        columns += [[words[index] for index in random.integers(0, len(words), len(rows))] for _ in range(RANDOM)]
        good = [_ranks(own)[rows] == 1 for own in labels.values()]
        for column in columns[len(good) :]:
            good.append(np.array([label in names for label, names in zip(column, accepted, strict=True)]))
        right.append(np.stack(good, axis=1))
        units = run.data.labels[layer].units[rows]
        judged = judge(held, [LabelsToScore(layer, units, tuple(column)) for column in columns])
        for metric in judged[0]:
            scores.setdefault(metric, []).append(np.stack([one[metric] for one in judged], axis=1))
        if not isinstance(judge, ImagesJudge):
            outdone = first_of_all(judge, held, layer, units, columns[len(by_function)], words)
            for metric, values in outdone.items():
                first.setdefault(metric, []).append(values)
    if not right:
        raise InputError(
            f"nothing is known of the units of {', '.join(layers)}; the scores can be compared with nothing"
        )
    joined = [{name: np.concatenate(own) for name, own in each.items()} for each in (scores, first)]
    return Scored(tuple(by_function), np.concatenate(right), *joined)


def _ranks(labels: Labels) -> Float[np.ndarray, " units"]:
    return np.full(len(labels.units), np.nan) if labels.ranks is None else labels.ranks


def _judged(labels: Labels) -> np.ndarray:
    return np.flatnonzero(~np.isnan(_ranks(labels)))


def accuracies(scored: Scored) -> str:
    """A row a function: per cent right, and the mean of every score."""
    lines = [["function", "right %", *scored.scores], ["---"] * (2 + len(scored.scores))]
    for column, name in enumerate(scored.functions):
        means = [f"{np.nanmean(values[:, column]):.3f}" for values in scored.scores.values()]
        lines.append([name, f"{100 * scored.right[:, column].mean():.1f}", *means])
    for offset, name in enumerate(("true label", "random label")):
        part = slice(len(scored.functions) + offset, None if offset else len(scored.functions) + 1)
        lines.append([name, "", *(f"{np.nanmean(values[:, part]):.3f}" for values in scored.scores.values())])
    return _rows(lines)


def answers(scored: Scored, *, seed: int, resamples: int = RESAMPLES) -> str:
    """A row a score: the three answers with their intervals."""
    lines = [["score", *QUESTIONS], ["---"] * (1 + len(QUESTIONS))]
    for metric in scored.scores:
        cells = []
        for question in QUESTIONS.values():
            value = question(scored, metric)
            low, high = interval(scored, metric, question, seed=seed, resamples=resamples)
            digits = ".1f" if question is true_name_first else ".3f"
            cells.append("" if np.isnan(value) else f"{value:{digits}} [{low:{digits}}, {high:{digits}}]")
        lines.append([metric, *cells])
    return _rows(lines)


def _rows(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: Sequence[str] | None = None, *, resamples: int = RESAMPLES) -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run whose units are known in part")
    parser.add_argument("--judge", choices=("annotations", "images", "clip", "whitened"), required=True)
    parser.add_argument("--layers", nargs="+", help="all that something is known of, where not given")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    run = reopen(options.run)
    judges: dict[str, Judge] = {
        "annotations": AnnotationsJudge(),
        "images": ImagesJudge(),
        "clip": ClipJudge(run.parts.clip),
        "whitened": WhitenedJudge(),
    }
    judge = judges[options.judge]
    judge.check(run.parts.probe)
    for layer in options.layers or ():
        if layer not in run.data.labels:
            raise unknown_name_error("layer", layer, run.data.labels, where="in this run")
    layers = options.layers or [layer for layer, labels in run.data.labels.items() if labels.truth]
    scored = gathered(run, judge, layers=layers, seed=options.seed)
    head = f"{len(scored.right)} units of {', '.join(layers)}, judge={options.judge}:"
    return "\n\n".join([head, accuracies(scored), answers(scored, seed=options.seed, resamples=resamples)])


if __name__ == "__main__":
    say(main)
