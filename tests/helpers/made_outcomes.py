"""Made-up results of a run, for tests of what is done with them."""

import colorsys
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from cd_exp.records import Labels, Probe, RunResult

HOSTILE = "<script>alert('x')</script>"


@dataclass(frozen=True)
class Discs(Probe):
    """A probe set in memory: discs of one hue each on backgrounds of another."""

    count: int
    size: int = 64
    name: str = "discs"

    @property
    def ids(self):
        return [f"discs/{index:04d} & <b>.png" for index in range(self.count)]

    @property
    def fingerprint(self):
        return f"discs-{self.count}-{self.size}"

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        def hue(turn, value):
            return tuple(int(255 * part) for part in colorsys.hsv_to_rgb(turn % 1, 0.7, value))

        image = Image.new("RGB", (self.size, self.size), hue(index * 0.37, 0.5))
        margin = self.size * (1 + index % 3) // 8
        box = (margin, margin, self.size - margin, self.size - margin)
        ImageDraw.Draw(image).ellipse(box, hue(index * 0.618, 0.95))
        return image


NAMES = (
    "red circle",
    "tench, Tinca tinca",
    HOSTILE,
    "naïve 寿司 $x^2$ [bold]",
    '"quoted" & even',
    "blue stripe",
    "leaf",
)


def made_labels(layer: str, units: int, *, judged: bool, accuracy=0.6, ranked=True, kept=5) -> Labels:
    """Made-up labels of which about `plot_accuracy` are right; the last unit is unlabelled where nothing is ranked."""
    generator = np.random.default_rng(sum(map(ord, layer)) + units)
    names = [NAMES[unit % len(NAMES)] + ("" if unit < len(NAMES) else f" {unit}") for unit in range(units)]
    right = generator.random(units) < accuracy
    ranks = np.where(right, 1.0, generator.integers(2, 400, units))
    top = []
    for unit in range(units):
        order = [names[unit], *(names[(unit + step) % units] for step in (3, 5, 7, 11))]
        top.append(tuple((order if right[unit] or not judged else order[1:] + order[:1])[:kept]))
    if not ranked:
        top[-1] = ()
    return Labels(
        layer=layer,
        units=np.arange(units),
        top=tuple(top),
        similarity=np.where([bool(row) for row in top], generator.normal(0.3, 0.1, units), np.nan),
        truth=tuple((name,) if judged else None for name in names),
        ranks=ranks if judged and ranked else None,
        **(believed(ranks, generator) if judged and ranked else {}),
    )


def believed(ranks, generator) -> dict:
    """Stability, higher where the label is right; below one half a unit is always on."""
    stability = np.round(np.clip(0.4 + 0.3 * (ranks == 1) + generator.normal(0, 0.2, len(ranks)), 0, 1), 2)
    return {"stability": stability, "marks": tuple(frozenset(["always_on"] if s < 0.5 else []) for s in stability)}


def judged_metrics(units: int, top1: float, **more) -> dict:
    metrics = {"units": units, "judged": units, "top1": top1, "ci95": [top1 - 6.25, top1 + 5.5], "top1_published": top1}
    return metrics | more


def make_outcome(units: int = 60, images: int = 40, size: int = 64) -> RunResult:
    """An outcome as a run with Network Dissection as baseline leaves it, with every name that could break a page."""
    ours = {
        "layer4.1.act2": made_labels("layer4.1.act2", units, judged=False),
        "fc": made_labels("fc", units, judged=True),
    }
    theirs = {"fc": made_labels("fc", units, judged=True, accuracy=0.4, ranked=False, kept=1)}
    generator = np.random.default_rng(0)
    cosines = {"clip_cosine": 0.8123, "clip_cosine_ci95": [0.79, 0.83], "cosine_units": units}
    return RunResult(
        labels=ours,
        metrics={
            "layer4.1.act2": {"units": units},
            "fc": judged_metrics(units, 58.333333333333336, top5=81.5, top5_ci95=[75.0, 88.0], mean_rank=13.63,
                                 mean_rank_ci95=[9.1, 18.2], median_rank=3.0, auc=0.6673, **cosines),
        },
        seconds={"features": 12.25, "similarity": 0.5, "total": 13.125},
        top_images={layer: generator.integers(0, images, (units, 6)) for layer in ours},
        probe=Discs(images, size),
        baselines={"netdissect": theirs},
        baseline_metrics={"netdissect": {"fc": judged_metrics(units, 43.7) | {"top1_published": 41.0}}},
        comparisons=[
            {"layer": "fc", "first": "clip_dissect", "second": "netdissect", "judged": units, "top1_difference": 14.6,
             "top1_difference_ci95": [2.5, 26.0], "top1_p": 0.0213, "top1_p_adjusted": 0.0213, "top1_n": units,
             "clip_cosine_difference": 0.051, "clip_cosine_difference_ci95": [0.01, 0.09], "clip_cosine_p": 0.0004,
             "clip_cosine_p_adjusted": 0.0008, "clip_cosine_n": units - 1}
        ],
        notes=["2 units of fc never fire: 3, 7"],
    )  # fmt: skip


MANIFEST = {
    "config": {"model": {"name": "resnet18", "weights": None}, "similarity": {"top_k": 100}, "layers": ["fc"]},
    "seed": 0,
    "images": "3f<9a>",
}
