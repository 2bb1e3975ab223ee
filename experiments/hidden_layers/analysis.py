"""Hidden units of real networks whose class is known: is the class among a unit's labels?

A unit of a hidden layer separates a class of CIFAR-10 where its activation tells the images of that class from all
others (AUC of at least .85, and of no second class). Its truth is that class; the words are LVIS's 1,203 names. The
same on the built-in scenes, where attributes are exact. With --truth a table of published labels is the truth instead.

python -m experiments.hidden_layers.analysis PHOTOGRAPHS [SHAPES] [--layers layer2 layer3 layer4]
python -m experiments.hidden_layers.analysis RUN --truth TABLE --layers layer4
"""

import argparse
import csv
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata
from torch import Tensor

from cd_exp import similarity
from cd_exp.errors import InputError
from cd_exp.metrics import accepted_columns
from cd_exp.probes.shapes import Shapes
from cd_exp.records import ConceptActivations, Similarity
from cd_exp.shapes import ATTRIBUTES
from cd_exp.similarity import PriorChoice, choose_prior, concept_activations
from cd_exp.similarity.whitened_wpmi import PRIOR_WEIGHTS
from experiments.against_published import say
from experiments.directions.analysis import attributes_of
from experiments.labeller.cases import read_lvis, share
from experiments.labeller.first_form import first_form
from experiments.labeller.rules import pearson
from experiments.reopening import Run, reopen

SEPARATES = 0.85
"""AUC from which a unit's activation separates a class."""

WORDS = {"automobile": "car_(automobile)", "ship": "boat"}
"""LVIS's names of classes that it calls otherwise."""

RESAMPLES = 9999

AUTO = "whitened_wpmi"
FUNCTIONS: Mapping[str, Similarity] = {
    "soft_wpmi": similarity.soft_wpmi,
    "wpmi": similarity.wpmi,
    "cos": similarity.cos,
    "cos_cubed": similarity.cos_cubed,
    "rank_reorder": similarity.rank_reorder,
    "mean_embedding": similarity.mean_embedding,
    "pearson": pearson,
    "whitened_wpmi, first form": first_form,
    "whitened_wpmi, first form, prior 0": partial(first_form, prior_weight=0.0),
    **{f"{AUTO}, prior {weight:g}": partial(similarity.whitened_wpmi, prior_weight=weight) for weight in PRIOR_WEIGHTS},
}
"""Beside these, `whitened_wpmi` with the prior that it chooses."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A whole layer on some images, and the units whose truth is known: their concepts, and the class of each."""

    name: str
    match: ConceptActivations
    neurons: Float[Tensor, "images neurons"]
    units: Int[np.ndarray, " judged"]
    columns: tuple[Int[Tensor, " accepted"], ...]
    classes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Result:
    """One function on the judged units of one or several layers; ties count as shares, ranks are their mean."""

    top1: Float[np.ndarray, " judged"]
    top5: Float[np.ndarray, " judged"]
    rank: Float[np.ndarray, " judged"]
    classes: tuple[str, ...]

    @staticmethod
    def joined(parts: Sequence["Result"]) -> "Result":
        top1, top5, rank = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("top1", "top5", "rank")
        )
        return Result(top1, top5, rank, tuple(name for part in parts for name in part.classes))


def auc_of_classes(
    activations: Float[np.ndarray, "images neurons"], shown: Bool[np.ndarray, "images classes"]
) -> Float[np.ndarray, "classes neurons"]:
    """The AUC of each unit's activation for each class against all other images; equal activations count half."""
    ranks = rankdata(activations, axis=0)
    inside = shown.sum(axis=0)[:, None].astype(float)
    outside = len(shown) - inside
    return (shown.T.astype(float) @ ranks - inside * (inside + 1) / 2) / (inside * outside)


def separating(
    auc: Float[np.ndarray, "classes neurons"],
) -> tuple[Int[np.ndarray, " units"], Int[np.ndarray, " units"]]:
    """The units that separate one class, and that class of each."""
    first, second = np.sort(auc, axis=0)[::-1][:2]
    units = np.flatnonzero((first >= SEPARATES) & (second < SEPARATES))
    return units, auc[:, units].argmax(axis=0)


def cifar_layers(run: Run, layers: Sequence[str], classes_of: Path) -> Iterator[Layer]:
    """The layers on the CIFAR images of the run."""
    with classes_of.open(newline="", encoding="utf-8") as file:
        class_of = dict(csv.reader(file, delimiter="\t"))
    ids = [run.parts.probe.ids[index] for index in run.data.features.kept]  # type: ignore[attr-defined]
    rows = torch.tensor([row for row, name in enumerate(ids) if name in class_of])
    if not len(rows):
        raise InputError(f"no image of the run is in {classes_of}; give a run with experiment=real_photos")
    classes = sorted(set(class_of.values()))
    shown = np.array([[class_of[ids[row]] == name for name in classes] for row in rows.tolist()])
    lvis = read_lvis(run)
    match = concept_activations(run.data.features.images[rows], run.embed(lvis))
    for layer in layers:
        neurons = run.activations(layer)[rows]
        units, best = separating(auc_of_classes(neurons.numpy(), shown))
        names = tuple(classes[number] for number in best)
        columns = tuple(torch.tensor([lvis.index(WORDS.get(name, name))]) for name in names)
        yield Layer(layer, match, neurons, units, columns, names)


def shapes_layers(run: Run) -> Iterator[Layer]:
    """The hidden layers of the built-in network, its units that separate one attribute."""
    if not isinstance(run.parts.probe, Shapes):
        raise InputError(f"the second run has probe {run.parts.probe.name}; give a run of the built-in scenes")
    shown = attributes_of(run.parts.probe).numpy() > 0
    for layer in run.data.labels:
        if layer == run.final:
            continue
        neurons = run.activations(layer)
        units, best = separating(auc_of_classes(neurons.numpy(), shown))
        names = tuple(ATTRIBUTES[number] for number in best)
        columns = tuple(torch.tensor([run.parts.concepts.names.index(name)]) for name in names)
        yield Layer(f"shapes {layer}", run.match(), neurons, units, columns, names)


def published_layers(run: Run, layers: Sequence[str], table: Path) -> Iterator[Layer]:
    """The layers on all images of the run, with the first concept of each unit in a published table as its truth.

    The table has the columns `unit` and `concept0` or `description`, and `layer` where it is about several.
    """
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    column = next((name for name in ("concept0", "description") if rows and name in rows[0]), None)
    if column is None or "unit" not in rows[0]:
        raise InputError(f"{table} needs the columns unit and concept0 or description, as LE_label's tables have")
    names = run.parts.concepts.names
    for layer in layers:
        truth = {int(row["unit"]): row[column] for row in rows if row.get("layer", layer) == layer}
        neurons = run.activations(layer)
        if truth and max(truth) >= neurons.shape[1]:
            raise InputError(
                f"{table} has unit {max(truth)} of {layer}, which has {neurons.shape[1]} units here; give a run of the "
                "network that the table is about"
            )
        accepted = accepted_columns([(name,) for name in truth.values()], names)
        truths = {
            unit: torch.as_tensor(own)
            for unit, own in zip(truth, accepted, strict=True)
            if own is not None and len(own)
        }
        classes = tuple(truth[unit] for unit in truths)
        yield Layer(layer, run.match(), neurons, np.array(list(truths)), tuple(truths.values()), classes)


def evaluate(function: Similarity, layer: Layer) -> Result:
    """Where the function puts the truth of each judged unit; it is given the whole layer."""
    scores = function(layer.match, layer.neurons)
    top1, top5, ranks = [], [], []
    for unit, own in zip(layer.units.tolist(), layer.columns, strict=True):
        row, best = scores[unit], scores[unit][own].max()
        top1.append(share(row, own, within=1))
        top5.append(share(row, own, within=5))
        ranks.append(1 + int((row > best).sum()) + (int((row == best).sum()) - int((row[own] == best).sum())) / 2)
    return Result(np.array(top1), np.array(top5), np.array(ranks), layer.classes)


def interval(values: Float[np.ndarray, " units"], groups: Sequence[str] | None = None) -> str:
    """The mean in per cent with its 95 % bootstrap interval over units, or over groups of units drawn whole."""
    rng = np.random.default_rng(0)
    _, number = np.unique(groups if groups is not None else np.arange(len(values)), return_inverse=True)
    counts, sums = np.bincount(number), np.bincount(number, weights=values)
    drawn = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), RESAMPLES)
    low, high = np.percentile(100 * (drawn @ sums) / (drawn @ counts), [2.5, 97.5])
    return f"[{low:+.1f}, {high:+.1f}]"


def results(layers: Sequence[Layer]) -> tuple[dict[str, list[Result]], dict[str, tuple[PriorChoice, float]]]:
    """Every function on every layer, and the prior that was chosen for each with its seconds."""
    by_function: dict[str, list[Result]] = {name: [] for name in (*FUNCTIONS, AUTO)}
    choices = {}
    for layer in layers:
        for name, function in FUNCTIONS.items():
            by_function[name].append(evaluate(function, layer))
        began = time.process_time()
        choice = choose_prior(layer.match, layer.neurons)
        choices[layer.name] = choice, time.process_time() - began
        by_function[AUTO].append(by_function[f"{AUTO}, prior {choice.weight:g}"][-1])
    return by_function, choices


def main_table(layers: Sequence[Layer], by_function: Mapping[str, Sequence[Result]]) -> Iterator[str]:
    """A row for each function: all layers together, then the top-5 share of each."""
    sizes = [f"{layer.name} ({len(layer.units)})" for layer in layers]
    yield (
        "| function | top-1 % | top-5 % | median rank | top-5 − soft_wpmi, over units | over classes | "
        + " | ".join(f"top-5 %, {size}" for size in sizes)
        + " |"
    )
    yield "| --- " * (6 + len(sizes)) + "|"
    base = Result.joined(by_function["soft_wpmi"])
    for name, parts in by_function.items():
        whole = Result.joined(parts)
        difference = whole.top5 - base.top5
        cells = [name, f"{100 * whole.top1.mean():.1f}", f"{100 * whole.top5.mean():.1f}", f"{np.median(whole.rank):g}"]
        cells += [f"{100 * difference.mean():+.1f} {interval(difference)}", interval(difference, whole.classes)]
        cells += [f"{100 * part.top5.mean():.1f}" if len(part.top5) else "" for part in parts]
        yield f"| {' | '.join(cells)} |"


def choice_table(
    by_function: Mapping[str, Sequence[Result]], choices: Mapping[str, tuple[PriorChoice, float]]
) -> Iterator[str]:
    """The prior of each layer with its bits; the differences to prior 0 fixed and to the first form."""
    yield "| layer | prior chosen | bits shared under 0 / 0.4 / 0.85 | labels shared, % | of divisions | CPU seconds |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for layer, (choice, seconds) in choices.items():
        shares = " / ".join(f"{100 * share:.1f}" for share in choice.agreement.values())
        bits = " / ".join(f"{value:.2f}" for value in choice.information.values())
        preferred = ", ".join(f"{weight:g}" for weight in choice.divisions)
        yield f"| {layer} | {choice.weight:g} | {bits} | {shares} | {preferred} | {seconds:.1f} |"
    chosen = Result.joined(by_function[AUTO])
    for name in (f"{AUTO}, prior 0", f"{AUTO}, first form"):
        difference = chosen.top5 - Result.joined(by_function[name]).top5
        yield ""
        yield (
            f"Top-5 with the chosen prior − {name.removeprefix(AUTO).strip(', ')}: {100 * difference.mean():+.1f} "
            f"points, {interval(difference)} over units, {interval(difference, chosen.classes)} over classes."
        )


def section(title: str, layers: Sequence[Layer]) -> str:
    judged = [layer for layer in layers if len(layer.units)]
    if not judged:
        return f"## {title}\n\nNo unit of these layers has a known truth."
    by_function, choices = results(judged)
    units, classes = sum(len(layer.units) for layer in judged), len({name for one in judged for name in one.classes})
    lines = [f"## {title}", "", f"{units} units of {classes} classes.", "", *main_table(judged, by_function), ""]
    return "\n".join([*lines, *choice_table(by_function, choices)])


def main(arguments: Sequence[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run, with experiment=real_photos where --truth is not given")
    parser.add_argument("shapes", type=Path, nargs="?", help="a finished run of the built-in scenes")
    parser.add_argument("--layers", nargs="+", default=["layer2", "layer3", "layer4"])
    parser.add_argument("--truth", type=Path, help="a table of published labels: their first concept is the truth")
    options = parser.parse_args(arguments)
    run = reopen(options.run)
    if options.truth:
        return section(
            f"published labels: {options.truth.name}", list(published_layers(run, options.layers, options.truth))
        )
    classes_of = Path(run.parts.probe.root) / "cifar10_classes.tsv"  # type: ignore[attr-defined]
    parts = [section("CIFAR-10 classes", list(cifar_layers(run, options.layers, classes_of)))]
    if options.shapes:
        parts.append(section("attributes of scenes", list(shapes_layers(reopen(options.shapes)))))
    return "\n\n".join(parts)


if __name__ == "__main__":
    say(main)
