"""Latents of a sparse autoencoder named, judged against exact attributes, beside the layer's own neurons.

python -m experiments.sae.analysis [--layer layer3] [--out outputs/sae]
"""

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cd_exp import clips, concepts, models, probes, shapes, similarity
from cd_exp.cache import Store
from cd_exp.dissection import RunInputs, dissect_layers
from cd_exp.features import ExtractionSettings
from cd_exp.metrics.intervals import clopper_pearson_interval
from cd_exp.records import Concepts
from cd_exp.units import Layers, Units, sae
from experiments.against_published import say
from experiments.sae.attributes import best_attributes
from experiments.sae.autoencoder import positions, trained, untrained

GOOD = 0.5
"""From this F1 on a unit is taken to be about its best attribute."""

TRAINING_SEED = 7


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    training: int = 3000
    probe: int = 10_000
    masks: int = 1500
    latents: int = 384
    k: int = 8
    steps: int = 1500
    top_k: int = 100


def table(layer: str, out: Path, store: Store, sizes: Sizes, settings: ExtractionSettings) -> str:
    """The rows: neurons, latents of the trained and of an untrained autoencoder."""
    model = models.shapes_model(layers=[layer])
    data = positions(
        model, probes.shapes(size=sizes.training, seed=TRAINING_SEED), layer=layer, store=store, settings=settings
    )
    autoencoder, explained = trained(data, latents=sizes.latents, k=sizes.k, steps=sizes.steps, seed=0)
    chance = untrained(data, latents=sizes.latents, k=sizes.k, seed=0)
    out.mkdir(parents=True, exist_ok=True)
    files = {
        "trained": autoencoder.save(out / "trained.safetensors"),
        "untrained": chance.save(out / "untrained.safetensors"),
    }
    kinds: dict[str, tuple[Units, str]] = {"neurons": (Layers([layer]), layer)}
    for name, path in files.items():
        kinds[f"latents, {name}"] = (sae(layer=layer, weights=str(path), activation="topk"), f"{layer}.sae")
    lines = [
        f"{layer} of shapes: {sizes.latents} latents, {sizes.k} fire at a position; the trained autoencoder explains "
        f"{100 * explained:.1f} % of the variance.",
        "",
        f"| units | number | mean best F1 | best F1 >= {GOOD} | named by that attribute, of 28 words, % [95 %] "
        "| of 565 words, % [95 %] |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, (units, title) in kinds.items():
        lines.append(row(name, units, title, model, store, sizes, settings))
    return "\n".join(lines)


def row(
    name: str,
    units: Units,
    title: str,
    model: models.TargetModel,
    store: Store,
    sizes: Sizes,
    settings: ExtractionSettings,
) -> str:
    """One kind of units: how well attributes describe them, and how often the label is the best attribute."""
    best, scores = best_attributes(
        model, probes.shapes(size=sizes.masks), units, layer=title, store=store, settings=settings
    )
    good = scores >= GOOD
    cells = [name, str(len(best)), f"{scores.mean():.3f}", str(int(good.sum()))]
    for words in (Concepts(shapes.ATTRIBUTES, name="attributes"), concepts.shapes()):
        inputs = RunInputs(
            model=model,
            units=units,
            probe=probes.shapes(size=sizes.probe),
            concepts=words,
            clip=clips.shapes_clip(),
            store=store,
            settings=settings,
        )
        score = partial(similarity.soft_wpmi, top_k=sizes.top_k)
        labels = dissect_layers(inputs, score, top=1).labels[title]
        right = np.array([label == attribute for label, attribute in zip(labels.descriptions, best, strict=True)])
        cells.append(_share(right[good]))
    return f"| {' | '.join(cells)} |"


def _share(right: np.ndarray) -> str:
    if not len(right):
        return "none"
    low, high = clopper_pearson_interval(right)
    return f"{100 * right.mean():.1f} [{low:.1f}, {high:.1f}]"


def main(arguments: list[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description="Latents of a sparse autoencoder against exact attributes.")
    parser.add_argument("--layer", default="layer3", help="the hidden layer")
    parser.add_argument("--out", type=Path, default=Path("outputs/sae"), help="folder for the autoencoders")
    parser.add_argument("--cache", type=Path, default=Path("outputs/cache"), help="folder of stored features")
    asked = parser.parse_args(arguments)
    return table(asked.layer, asked.out, Store(asked.cache), Sizes(), ExtractionSettings())


if __name__ == "__main__":
    say(main)
