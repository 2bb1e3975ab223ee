"""Made-up runs of any size for the explorer: real recipes, random activations, names that could break a page."""

from collections.abc import Mapping

import numpy as np
import torch
from helpers.made_outcomes import HOSTILE, Discs

from cd_exp.cache import Store
from cd_exp.clips import shapes_clip
from cd_exp.dissection import RunData
from cd_exp.explorer import PageContent, collect_pages
from cd_exp.features import ExtractionSettings, Features
from cd_exp.models import shapes_model
from cd_exp.records import Concepts, Labels, RunResult

NAMES = ("red circle", "tench, Tinca tinca", HOSTILE, '"quoted" & even', "=1+1", "blue stripe", "cat", "caterpillar")


def names_of(count: int) -> tuple[str, ...]:
    """Distinct concept names, the awkward ones first."""
    return tuple(NAMES[i] if i < len(NAMES) else f"{NAMES[i % 2]} {i}" for i in range(count))


def made_layer(layer: str, scores: torch.Tensor, names: tuple[str, ...], *, judged: bool) -> Labels:
    """Labels of random scores; every tenth unit always on, every hundredth dead."""
    units = len(scores)
    values, columns = scores.topk(5, dim=1)
    truth = tuple((names[unit % len(names)],) for unit in range(units)) if judged else ()
    ranks = 1 + (scores > scores[torch.arange(units), torch.arange(units) % len(names), None]).sum(1).numpy()
    marks = tuple(
        frozenset(mark for mark, every in (("dead", 100), ("always_on", 10)) if unit % every == every - 1)
        for unit in range(units)
    )
    return Labels(
        layer=layer,
        units=np.arange(units),
        top=tuple(tuple(names[column] for column in row) for row in columns.tolist()),
        similarity=values[:, 0].numpy(),
        truth=truth,
        ranks=ranks.astype(float) if judged else None,
        top_scores=values.numpy(),
        margin=(values[:, 0] - values[:, 1]).numpy(),
        stability=np.linspace(0, 1, units),
        stable_set=tuple((names[column[0]], names[column[1]]) for column in columns.tolist()),
        marks=marks,
    )


def made_run(
    layers: Mapping[str, int], folder, *, images: int = 60, concepts: int = 40, seed: int = 0
) -> tuple[RunData, RunResult]:
    """A run whose last layer is judged and labelled by a second method too."""
    generator = torch.Generator().manual_seed(seed)
    names = names_of(concepts)
    activations = {layer: torch.rand(images, units, generator=generator) for layer, units in layers.items()}
    embeddings, texts = torch.randn(images, 8, generator=generator), torch.randn(concepts, 8, generator=generator)
    texts[NAMES.index("blue stripe")] = (
        1.01 * texts[NAMES.index("cat")]
    )  # "cat" has a concept of nearly the same meaning
    last = list(layers)[-1]
    labels = {
        layer: made_layer(layer, torch.rand(units, concepts, generator=generator), names, judged=layer == last)
        for layer, units in layers.items()
    }
    other = {last: made_layer(last, torch.rand(layers[last], concepts, generator=generator), names, judged=True)}
    features = Features(activations, embeddings, range(images), ())
    run = RunData(
        model=shapes_model(layers=list(layers), final="fc"),
        probe=Discs(images, 48),
        concepts=Concepts(names, name="made"),
        clip=shapes_clip(),
        features=features,
        texts=texts,
        labels=labels,
        seconds={},
        store=Store(folder / "cache"),
        settings=ExtractionSettings(),
    )
    metrics = {layer: {"units": units} for layer, units in layers.items()}
    metrics[last] |= {"judged": layers[last], "top1": 12.5, "ci95": [10.0, 15.0]}
    outcome = RunResult(
        labels=labels,
        metrics=metrics,
        seconds={"total": 1.0},
        top_images={},
        probe=run.probe,
        baselines={"netdissect": other},
        baseline_metrics={"netdissect": {last: metrics[last]}},
        comparisons=[{"layer": last, "first": "clip_dissect", "second": "netdissect", "judged": layers[last],
                      "top1_difference": 1.0, "top1_difference_ci95": [-2.0, 4.0], "top1_p": 0.4, "top1_n": 8}],
        notes=[f"a note about {HOSTILE}"],
    )  # fmt: skip
    return run, outcome


MANIFEST = {
    "choices": {"model": "shapes", "similarity": "cos"},
    "overrides": ["similarity=cos", f"probe.name={HOSTILE}"],
}


def made_content(layers: Mapping[str, int], folder, **settings) -> PageContent:
    run, outcome = made_run(layers, folder, **settings)
    return collect_pages(run, outcome, manifest=MANIFEST, title=f"made {HOSTILE}")
