"""Does a score notice that a concept has changed a lot? The test that a score of labels has to pass first.

Missing labels: each image with the concept keeps it with probability one half. Extra labels: as many images as have the
concept get it beside them. The unit stays as it is. A unit's score has fallen where the difference, divided by the
length of the score's range, is below -0.001; a score passes a setting where at least 90 % of the units fall in both.

python -m experiments.metric_sanity.analysis [RUN] [--images 1000000] [--units 10]

RUN is a finished run on the built-in synthetic data set; without it the test is that of ideal units alone.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cd_exp.errors import InputError
from cd_exp.evaluation.judges import base_rate
from cd_exp.probes.shapes import Shapes
from experiments.against_published import say
from experiments.metric_sanity.metrics import METRICS, Metric
from experiments.reopening import reopen

BASE_RATES = (0.499, 0.1, 0.01, 0.001, 0.0001)
POSITIVES, FEWEST = 10_000, 100_000
"""An ideal unit has so many images with its concept, as far as --images lets it, and so many images at least."""
FALL = -0.001
PASS = 0.9


@dataclass(frozen=True, eq=False)
class Fall:
    """Of one score in one setting: each unit's difference over the range, missing and extra labels."""

    missing: Float[np.ndarray, " units"]
    extra: Float[np.ndarray, " units"]

    @property
    def shares(self) -> tuple[float, float]:
        """The units that fall in each test."""
        return float((self.missing < FALL).mean()), float((self.extra < FALL).mean())


def missing(concept: Bool[Tensor, "images units"], generator: torch.Generator) -> Bool[Tensor, "images units"]:
    """Each image with the concept keeps it with probability one half; a concept left with none keeps its first."""
    kept = concept & (torch.rand(concept.shape, generator=generator) < 0.5)
    kept[concept.int().argmax(0), torch.arange(concept.shape[1])] |= ~kept.any(0) & concept.any(0)
    return kept


def extra(concept: Bool[Tensor, "images units"], generator: torch.Generator) -> Bool[Tensor, "images units"]:
    """As many images as have the concept, or all others where they are fewer, get it beside them."""
    changed = concept.clone()
    for unit, column in enumerate(concept.T):
        others = (~column).nonzero()[:, 0]
        order = torch.randperm(len(others), generator=generator)
        changed[others[order[: int(column.sum())]], unit] = True
    return changed


def falls(
    metrics: Sequence[Metric],
    activations: Float[Tensor, "images units"],
    concept: Bool[Tensor, "images units"],
    *,
    seed: int,
) -> dict[str, Fall]:
    """The change of every score; the unit stays active on the share of images that the unchanged concept has."""
    generator = torch.Generator().manual_seed(seed)
    share = base_rate(concept.float())
    fewer, more = (change(concept, generator).float() for change in (missing, extra))
    falls_by_metric = {}
    for metric in metrics:
        before = _by_unit(metric, activations, concept.float(), share)
        after = [_by_unit(metric, activations, changed, share) - before for changed in (fewer, more)]
        span = metric.span or before.abs().clamp(min=1)  # no range: a fall is measured against the score itself
        falls_by_metric[metric.name] = Fall(*((difference / span).numpy() for difference in after))
    return falls_by_metric


def _by_unit(
    metric: Metric, activations: Float[Tensor, "images units"], concept: Float[Tensor, "images units"], share: Tensor
) -> Float[Tensor, " units"]:
    """The score of one unit after the other.

    A column of a million images is small enough for the allocator to use its memory again: less than half the
    processor time of ten at once, most of which went into fresh pages (5.2 s instead of 12.2 s for all scores).
    """
    columns = zip(activations.split(1, dim=1), concept.split(1, dim=1), share.split(1), strict=True)
    return torch.cat(
        [metric.score(own.contiguous(), label_values.contiguous(), of) for own, label_values, of in columns]
    )


def ideal(rate: float, *, images: int, units: int, seed: int) -> Bool[Tensor, "images units"]:
    """Units that are their concept, present in exactly that share of images, drawn anew for each."""
    order = torch.rand(images, units, generator=torch.Generator().manual_seed(seed)).argsort(dim=0)
    return order < round(rate * images)


def closed_forms(rate: float) -> dict[str, tuple[float, float]]:
    """What an ideal unit loses, missing and extra labels, divided by the range."""
    turn = (1 / math.sqrt(2) - 1) / 2
    return {
        "F1": (-1 / 3, -1 / 3),
        "IoU": (-1 / 2, -1 / 2),
        "cosine": (turn, turn),
        "AUPRC": (-(1 - rate) / 2, -1 / 2),
        "AUC": (-1 / 4, -rate / (2 * (1 - rate))),
    }


def known_units(folder: Path) -> tuple[Float[Tensor, "images units"], Bool[Tensor, "images units"]]:
    """The units of a run on the built-in synthetic data set whose concept is known, and the concept in each image."""
    run = reopen(folder)
    probe, columns, truths = run.parts.probe, [], []
    if not isinstance(probe, Shapes):
        raise InputError(
            f"{folder} is no run on the built-in synthetic data set, whose units are known; give one with probe=shapes"
        )
    for layer, labels in run.data.labels.items():
        units = [unit for unit, truth in enumerate(labels.truth) if truth]
        columns.append(run.activations(layer).cpu()[:, units])
        truths += [names[0] for names in labels.truth if names]
    scenes = [probe.segmentation(index) for index in run.data.features.kept]
    index_of = {name: number for number, name in enumerate(probe.concepts)}
    present = torch.zeros(len(scenes), len(probe.concepts), dtype=torch.bool)
    for row, seen in enumerate(scenes):
        present[row, np.unique(seen.maps[seen.maps >= 0])] = True
    return torch.cat(columns, dim=1), present[:, [index_of[name] for name in truths]]


def verdict(settings: Sequence[Fall]) -> bool:
    """Whether at least 90 % of the units fall in both tests, in every setting."""
    return all(min(fall.shares) >= PASS for fall in settings)


def table(by_setting: Mapping[str, Mapping[str, Fall]]) -> str:
    """A row a score: the mean fall of missing / extra labels, the settings it fails in brackets, and the verdicts."""
    lines = [["score", *by_setting, "ours", "published"], ["---"] * (len(by_setting) + 3)]
    says = {True: "passes", False: "fails", None: "not given"}
    for metric in METRICS:
        cells = [_cell(falls_of[metric.name]) for falls_of in by_setting.values()]
        passes = verdict([falls_of[metric.name] for falls_of in by_setting.values()])
        lines.append([metric.name, *cells, says[passes], says[metric.published]])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(fall: Fall) -> str:
    text = f"{fall.missing.mean():+.4f} / {fall.extra.mean():+.4f}"
    low = [f"{100 * share:.0f} %" for share in fall.shares]
    return text if min(fall.shares) >= PASS else f"{text} ({' / '.join(low)} fall)"


def deviations(by_rate: Mapping[float, Mapping[str, Fall]]) -> str:
    """How far the measured falls of ideal units are from the closed forms."""
    lines = ["| base rate | " + " | ".join(closed_forms(0.1)) + " |", "| --- | --- | --- | --- | --- | --- |"]
    for rate, falls_of in by_rate.items():
        far = [
            max(abs(falls_of[name].missing.mean() - form[0]), abs(falls_of[name].extra.mean() - form[1]))
            for name, form in closed_forms(rate).items()
        ]
        lines.append(f"| {rate} | " + " | ".join(f"{value:.4f}" for value in far) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="a finished run on the built-in synthetic data set")
    parser.add_argument("--images", type=int, default=1_000_000, help="of the ideal units, at most")
    parser.add_argument("--units", type=int, default=10, help="ideal units at each base rate")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    if asked.images * min(BASE_RATES) < 1:
        raise InputError(f"--images {asked.images}: at least {round(1 / min(BASE_RATES))} are needed for one positive")
    by_rate = {}
    for number, rate in enumerate(BASE_RATES):
        images = min(asked.images, max(FEWEST, round(POSITIVES / rate)))
        concept = ideal(rate, images=images, units=asked.units, seed=asked.seed + number)
        by_rate[rate] = falls(METRICS, concept.float(), concept, seed=asked.seed + 100 + number)
    settings = {f"ideal, {rate}": falls_of for rate, falls_of in by_rate.items()}
    if asked.run:
        settings["known units"] = falls(METRICS, *known_units(asked.run), seed=asked.seed)
    return "\n\n".join([table(settings), "Largest distance from the closed forms:", deviations(by_rate)])


if __name__ == "__main__":
    say(main)
