"""Our own labeller against the published one: images, units, concept sets, terms, constants, order, held-out images.

Constants were chosen on units of even number; the odd ones are reported. Concepts are in random order throughout, and
equal scores count as shares.

python -m experiments.labeller.analysis PHOTOGRAPHS SHAPES [--only rules layers terms constants order heldout priors]
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from cd_exp.dissection import bind_names
from cd_exp.evaluation.judges import ClipJudge, LabelsToScore
from cd_exp.evaluation.judges.run_judge import hold_out_images, label_from_part
from cd_exp.labels import label_layer
from cd_exp.metrics.intervals import bootstrap_interval, clopper_pearson_interval
from cd_exp.metrics.significance import compare_means
from cd_exp.records import ConceptActivations, Similarity
from cd_exp.similarity import choose_prior, concept_activations, whitened_wpmi
from cd_exp.similarity.whitened_wpmi import PRIOR_WEIGHTS
from experiments.against_published import say
from experiments.labeller.cases import Case, Right, photographs, right, shapes, unseen
from experiments.labeller.rules import ABLATIONS, RULES, VALUES
from experiments.reopening import Run, reopen

RESAMPLES = 9999


@dataclass(frozen=True)
class Scope:
    """What is compared, and how often.

    Attributes:
        rules: what labels; `terms`, `constants` and `priors` have their own.
        ablations: of `terms`.
        values: of `constants`.
        sizes: units of a layer in `layers`.
        orders: of concepts and images in `order`.
        resamples: of every interval and test.
    """

    rules: Mapping[str, Similarity] = field(default_factory=lambda: RULES)
    ablations: Mapping[str, Similarity] = field(default_factory=lambda: ABLATIONS)
    values: Mapping[str, Sequence[float]] = field(default_factory=lambda: VALUES)
    sizes: tuple[int, ...] = (5, 20, 100, 200)
    orders: int = 3
    resamples: int = RESAMPLES


def percent(values: np.ndarray, *, resamples: int = RESAMPLES) -> str:
    """A share in per cent with its 95 % interval over units."""
    whole = bool(((values == 0) | (values == 1)).all())
    low, high = clopper_pearson_interval(values == 1) if whole else _bootstrap(100 * values, resamples)
    return f"{100 * values.mean():.1f} [{low:.1f}, {high:.1f}]"


def _bootstrap(values: np.ndarray, resamples: int) -> tuple[float, float]:
    return bootstrap_interval(values, seed=0, resamples=resamples) or (float("nan"), float("nan"))


def against(own: Right, other: Right, *, resamples: int = RESAMPLES) -> str:
    """The paired difference in points, its 95 % interval and p."""
    difference = compare_means(100 * own.top1, 100 * other.top1, seed=0, resamples=resamples)
    ends = "" if difference.interval is None else f" [{difference.interval[0]:+.1f}, {difference.interval[1]:+.1f}]"
    return f"{difference.value:+.1f}{ends}, p {difference.p:.2g}"


def rules(real: Run, world: Run, scope: Scope) -> str:
    """Every rule on every case, even units and odd ones."""
    lines = [["case", "rule", "n odd", "top-1 % even", "top-1 % odd", "top-5 % odd", "all, top-1/5", "odd - soft_wpmi"]]
    for case in (*photographs(real, seed=0), *shapes(world)):
        by_rule = {name: right(rule, case) for name, rule in scope.rules.items()}
        base = by_rule["soft_wpmi"].part(1)
        for name, own in by_rule.items():
            even, odd = own.part(0), own.part(1)
            whole = f"{100 * own.top1.mean():.1f} / {100 * own.top5.mean():.1f}"
            shares = [percent(hits, resamples=scope.resamples) for hits in (even.top1, odd.top1, odd.top5)]
            difference = against(odd, base, resamples=scope.resamples)
            lines.append([case.name, name, str(len(odd.units)), *shares, whole, difference])
    return table(lines)


def layers(real: Run, world: Run, scope: Scope) -> str:
    """Layers of few units, drawn by chance so that each unit is in one of them."""
    lines = [["case", "n", *scope.rules, "whitened_wpmi - soft_wpmi"]]
    for whole in (next(photographs(real, seed=0)), *shapes(world)):
        for size in (size for size in scope.sizes if size < whole.neurons.shape[1]):
            case = whole.in_groups(size, seed=0)
            by_rule = {name: right(rule, case) for name, rule in scope.rules.items()}
            shares = [f"{100 * own.top1.mean():.1f}" for own in by_rule.values()]
            difference = against(by_rule["whitened_wpmi"], by_rule["soft_wpmi"], resamples=scope.resamples)
            lines.append([case.name, str(len(by_rule["soft_wpmi"].units)), *shares, difference])
    return table(lines)


def _main_cases(real: Run, world: Run) -> tuple[Case, ...]:
    return next(photographs(real, seed=0)), *shapes(world)


def terms(real: Run, world: Run, scope: Scope) -> str:
    """Odd units with each term taken away, against the rule itself, and small layers for what depends on their size."""
    cases = _main_cases(real, world)
    small = next(case for case in cases if case.name == "shapes fc").in_groups(20, seed=0)
    lines = [["rule", *(case.name for case in cases), small.name]]
    by_term: dict[str, list[Right]] = {}
    for name, rule in scope.ablations.items():
        by_term[name] = [*(right(rule, case).part(1) for case in cases), right(rule, small)]
        pairs = zip(by_term[name], by_term["whitened_wpmi"], strict=True)
        cells = [
            f"{100 * own.top1.mean():.1f} ({against(own, base, resamples=scope.resamples)})" for own, base in pairs
        ]
        lines.append([name, *cells])
    return table(lines)


def constants(real: Run, world: Run, scope: Scope) -> str:
    """One constant varied at a time; even and odd units."""
    cases = _main_cases(real, world)
    lines = [["constant", "value", *(f"{case.name}, even / odd" for case in cases)]]
    for name, values in scope.values.items():
        for value in values:
            verdicts = [right(partial(whitened_wpmi, **{name: value}), case) for case in cases]
            shares = [f"{100 * own.part(0).top1.mean():.1f} / {100 * own.part(1).top1.mean():.1f}" for own in verdicts]
            lines.append([name, f"{value:g}", *shares])
    return table(lines)


def order(real: Run, world: Run, scope: Scope) -> str:
    """Labels that change where concepts are shuffled, and where images are reordered."""
    lines = [["layer", "units", "rule", "labels changed, concepts shuffled", "images reordered"]]
    generator = torch.Generator().manual_seed(0)
    for name, run in (("photographs", real), ("shapes", world)):
        match, names = run.match(), run.parts.concepts.names
        for layer in run.data.labels:
            neurons = run.activations(layer)
            for rule in ("soft_wpmi", "whitened_wpmi", "whitened_wpmi_names"):
                function = scope.rules[rule]
                first = labels(function, match, neurons, names)
                changed = [[0], [0]]
                for _ in range(scope.orders):
                    columns = torch.randperm(len(names), generator=generator)
                    rows = torch.randperm(len(neurons), generator=generator)
                    words = tuple(names[column] for column in columns.tolist())
                    other_words = ConceptActivations(match.images, match.texts[columns])
                    shuffled = labels(function, other_words, neurons, words)
                    other_images = ConceptActivations(match.images[rows], match.texts)
                    reordered = labels(function, other_images, neurons[rows], names)
                    for counts, other in zip(changed, (shuffled, reordered), strict=True):
                        counts.append(sum(a != b for a, b in zip(first, other, strict=True)))
                most = [f"{max(counts)}" for counts in changed]
                lines.append([f"{name} {layer}", str(len(first)), rule, *most])
    return f"Most of {scope.orders} orders:\n\n" + table(lines)


def labels(
    rule: Similarity, match: ConceptActivations, neurons: torch.Tensor, names: tuple[str, ...]
) -> tuple[str, ...]:
    """The labels as a run gives them."""
    return label_layer(bind_names(rule, names)(match, neurons), names, layer="layer").descriptions


def heldout(real: Run, world: Run, scope: Scope) -> str:
    """How well labels predict their units on images they were not chosen on; CLIP itself is the judge."""
    headings = [f"{name}, mean correlation [95 %]" for name in scope.rules]
    lines = [["layer", "units", *headings, "whitened_wpmi - soft_wpmi"]]
    for name, run in (("photographs", real), ("shapes", world)):
        own, judge = replace(run.data, seed=0), ClipJudge(run.parts.clip)
        held = hold_out_images(judge, own)
        part = label_from_part(own, held)
        match, names = concept_activations(part.features.images, run.data.texts), run.parts.concepts.names
        for layer, neurons in part.features.activations.items():
            asked = [
                LabelsToScore(layer, own.labels[layer].units, labels(rule, match, neurons, names))
                for rule in scope.rules.values()
            ]
            correlations = [np.nan_to_num(scores["pearson"]) for scores in judge(held, asked)]
            by_rule = dict(zip(scope.rules, correlations, strict=True))
            means = [f"{values.mean():.3f} [{_ends(values, scope.resamples)}]" for values in by_rule.values()]
            gain = compare_means(by_rule["whitened_wpmi"], by_rule["soft_wpmi"], seed=0, resamples=scope.resamples)
            ends = "" if gain.interval is None else f" [{gain.interval[0]:+.3f}, {gain.interval[1]:+.3f}]"
            lines.append([f"{name} {layer}", str(neurons.shape[1]), *means, f"{gain.value:+.3f}{ends}"])
    return table(lines)


def _ends(values: np.ndarray, resamples: int) -> str:
    return ", ".join(f"{end:.3f}" for end in _bootstrap(values, resamples))


def table(lines: Sequence[Sequence[str]]) -> str:
    """Markdown; the first line is the head."""
    rows = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in rows)


def priors(real: Run, world: Run, scope: Scope) -> str:
    """The prior of most bits that two halves share beside that of most equal labels, and what is right under each."""
    lines = [["case", "judged", "most bits", "top-1 %", "most equal labels", "top-1 %", "top-1 % under 0 / .4 / .85"]]
    for case in (*unseen(real), *shapes(world)):
        (units,) = case.groups or (torch.arange(case.neurons.shape[1]),)
        choice = choose_prior(case.match, case.neurons[:, units])
        by_weight = {weight: right(partial(whitened_wpmi, prior_weight=weight), case) for weight in PRIOR_WEIGHTS}
        shares = {weight: f"{100 * own.top1.mean():.1f}" for weight, own in by_weight.items()}
        equal = max(PRIOR_WEIGHTS, key=lambda weight: (round(choice.agreement[weight], 9), weight))
        judged = str(len(by_weight[equal].units))
        lines.append(
            [case.name, judged, f"{choice.weight:g}", shares[choice.weight], f"{equal:g}", shares[equal],
             " / ".join(shares.values())]
        )  # fmt: skip
    return table(lines)


PARTS: dict[str, Callable[[Run, Run, Scope], str]] = {
    "rules": rules,
    "layers": layers,
    "terms": terms,
    "constants": constants,
    "order": order,
    "heldout": heldout,
    "priors": priors,
}


def main(arguments: Sequence[str] | None = None, *, scope: Scope | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="a finished run with experiment=real_photos")
    parser.add_argument("shapes", type=Path, help="a finished run of the built-in synthetic data set")
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), help="all where not given")
    options = parser.parse_args(arguments)
    real, world = reopen(options.photographs), reopen(options.shapes)
    return "\n\n".join(f"## {name}\n\n{PARTS[name](real, world, scope or Scope())}" for name in options.only)


if __name__ == "__main__":
    say(main)
