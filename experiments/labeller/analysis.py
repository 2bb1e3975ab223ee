"""Our own labeller against the published one: images, units, concept sets, terms, constants, order, held-out images.

Constants were chosen on units of even number; the odd ones are reported. Concepts are in random order throughout, and
equal scores count as shares.

python -m experiments.labeller.analysis PHOTOGRAPHS SHAPES [--only rules layers terms constants order heldout priors]
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
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
from cd_exp.records import ConceptActivations
from cd_exp.similarity import choose_prior, concept_activations, whitened_wpmi
from cd_exp.similarity.whitened_wpmi import PRIOR_WEIGHTS
from experiments.against_published import say
from experiments.labeller.cases import Case, Right, photographs, right, shapes, unseen
from experiments.labeller.rules import ABLATIONS, RULES, VALUES
from experiments.reopening import Run, reopen

SIZES = (5, 20, 100, 200)
ORDERS = 3
RESAMPLES = 9999


def percent(values: np.ndarray) -> str:
    """A share in per cent with its 95 % interval over units."""
    whole = bool(((values == 0) | (values == 1)).all())
    low, high = clopper_pearson_interval(values == 1) if whole else _bootstrap(100 * values)
    return f"{100 * values.mean():.1f} [{low:.1f}, {high:.1f}]"


def _bootstrap(values: np.ndarray) -> tuple[float, float]:
    return bootstrap_interval(values, seed=0, resamples=RESAMPLES) or (float("nan"), float("nan"))


def against(own: Right, other: Right) -> str:
    """The paired difference in points, its 95 % interval and p."""
    difference = compare_means(100 * own.top1, 100 * other.top1, seed=0, resamples=RESAMPLES)
    ends = "" if difference.interval is None else f" [{difference.interval[0]:+.1f}, {difference.interval[1]:+.1f}]"
    return f"{difference.value:+.1f}{ends}, p {difference.p:.2g}"


def rules(real: Run, world: Run) -> str:
    """Every rule on every case, even units and odd ones."""
    lines = [["case", "rule", "n odd", "top-1 % even", "top-1 % odd", "top-5 % odd", "all, top-1/5", "odd - soft_wpmi"]]
    for case in (*photographs(real, seed=0), *shapes(world)):
        by_rule = {name: right(rule, case) for name, rule in RULES.items()}
        base = by_rule["soft_wpmi"].part(1)
        for name, own in by_rule.items():
            even, odd = own.part(0), own.part(1)
            whole = f"{100 * own.top1.mean():.1f} / {100 * own.top5.mean():.1f}"
            shares = (percent(even.top1), percent(odd.top1), percent(odd.top5), whole)
            lines.append([case.name, name, str(len(odd.units)), *shares, against(odd, base)])
    return table(lines)


def layers(real: Run, world: Run) -> str:
    """Layers of few units, drawn by chance so that each unit is in one of them."""
    lines = [["case", "n", *RULES, "whitened_wpmi - soft_wpmi"]]
    for whole in (next(photographs(real, seed=0)), *shapes(world)):
        for size in (size for size in SIZES if size < whole.neurons.shape[1]):
            case = whole.in_groups(size, seed=0)
            by_rule = {name: right(rule, case) for name, rule in RULES.items()}
            shares = [f"{100 * own.top1.mean():.1f}" for own in by_rule.values()]
            difference = against(by_rule["whitened_wpmi"], by_rule["soft_wpmi"])
            lines.append([case.name, str(len(by_rule["soft_wpmi"].units)), *shares, difference])
    return table(lines)


def _main_cases(real: Run, world: Run) -> tuple[Case, ...]:
    return next(photographs(real, seed=0)), *shapes(world)


def terms(real: Run, world: Run) -> str:
    """Odd units with each term taken away, against the rule itself, and small layers for what depends on their size."""
    cases = _main_cases(real, world)
    small = next(case for case in cases if case.name == "shapes fc").in_groups(20, seed=0)
    lines = [["rule", *(case.name for case in cases), small.name]]
    by_term: dict[str, list[Right]] = {}
    for name, rule in ABLATIONS.items():
        by_term[name] = [*(right(rule, case).part(1) for case in cases), right(rule, small)]
        pairs = zip(by_term[name], by_term["whitened_wpmi"], strict=True)
        lines.append([name, *(f"{100 * own.top1.mean():.1f} ({against(own, base)})" for own, base in pairs)])
    return table(lines)


def constants(real: Run, world: Run) -> str:
    """One constant varied at a time; even and odd units."""
    cases = _main_cases(real, world)
    lines = [["constant", "value", *(f"{case.name}, even / odd" for case in cases)]]
    for name, values in VALUES.items():
        for value in values:
            verdicts = [right(partial(whitened_wpmi, **{name: value}), case) for case in cases]
            shares = [f"{100 * own.part(0).top1.mean():.1f} / {100 * own.part(1).top1.mean():.1f}" for own in verdicts]
            lines.append([name, f"{value:g}", *shares])
    return table(lines)


def order(real: Run, world: Run) -> str:
    """Labels that change where concepts are shuffled, and where images are reordered."""
    lines = [["layer", "units", "rule", "labels changed, concepts shuffled", "images reordered"]]
    generator = torch.Generator().manual_seed(0)
    for name, run in (("photographs", real), ("shapes", world)):
        match, names = run.match(), run.parts.concepts.names
        for layer in run.data.labels:
            neurons = run.activations(layer)
            for rule in ("soft_wpmi", "whitened_wpmi", "whitened_wpmi_names"):
                first = labels(rule, match, neurons, names)
                changed = [[0], [0]]
                for _ in range(ORDERS):
                    columns = torch.randperm(len(names), generator=generator)
                    rows = torch.randperm(len(neurons), generator=generator)
                    words = tuple(names[column] for column in columns.tolist())
                    shuffled = labels(rule, ConceptActivations(match.images, match.texts[columns]), neurons, words)
                    reordered = labels(rule, ConceptActivations(match.images[rows], match.texts), neurons[rows], names)
                    for counts, other in zip(changed, (shuffled, reordered), strict=True):
                        counts.append(sum(a != b for a, b in zip(first, other, strict=True)))
                most = [f"{max(counts)}" for counts in changed]
                lines.append([f"{name} {layer}", str(len(first)), rule, *most])
    return f"Most of {ORDERS} orders:\n\n" + table(lines)


def labels(rule: str, match: ConceptActivations, neurons: torch.Tensor, names: tuple[str, ...]) -> tuple[str, ...]:
    """The labels as a run gives them."""
    return label_layer(bind_names(RULES[rule], names)(match, neurons), names, layer="layer").descriptions


def heldout(real: Run, world: Run) -> str:
    """How well labels predict their units on images they were not chosen on; CLIP itself is the judge."""
    lines = [["layer", "units", *(f"{name}, mean correlation [95 %]" for name in RULES), "whitened_wpmi - soft_wpmi"]]
    for name, run in (("photographs", real), ("shapes", world)):
        own, judge = replace(run.data, seed=0), ClipJudge(run.parts.clip)
        held = hold_out_images(judge, own)
        part = label_from_part(own, held)
        match, names = concept_activations(part.features.images, run.data.texts), run.parts.concepts.names
        for layer, neurons in part.features.activations.items():
            asked = [
                LabelsToScore(layer, own.labels[layer].units, labels(rule, match, neurons, names)) for rule in RULES
            ]
            by_rule = dict(zip(RULES, (np.nan_to_num(scores["pearson"]) for scores in judge(held, asked)), strict=True))
            means = [f"{values.mean():.3f} [{_ends(values)}]" for values in by_rule.values()]
            gain = compare_means(by_rule["whitened_wpmi"], by_rule["soft_wpmi"], seed=0, resamples=RESAMPLES)
            ends = "" if gain.interval is None else f" [{gain.interval[0]:+.3f}, {gain.interval[1]:+.3f}]"
            lines.append([f"{name} {layer}", str(neurons.shape[1]), *means, f"{gain.value:+.3f}{ends}"])
    return table(lines)


def _ends(values: np.ndarray) -> str:
    return ", ".join(f"{end:.3f}" for end in _bootstrap(values))


def table(lines: Sequence[Sequence[str]]) -> str:
    """Markdown; the first line is the head."""
    rows = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in rows)


def priors(real: Run, world: Run) -> str:
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


PARTS: dict[str, Callable[[Run, Run], str]] = {
    "rules": rules,
    "layers": layers,
    "terms": terms,
    "constants": constants,
    "order": order,
    "heldout": heldout,
    "priors": priors,
}


def main(arguments: Sequence[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="a finished run with experiment=real_photos")
    parser.add_argument("shapes", type=Path, help="a finished run of the built-in synthetic data set")
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), help="all where not given")
    options = parser.parse_args(arguments)
    real, world = reopen(options.photographs), reopen(options.shapes)
    return "\n\n".join(f"## {name}\n\n{PARTS[name](real, world)}" for name in options.only)


if __name__ == "__main__":
    say(main)
