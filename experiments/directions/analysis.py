"""Attribute directions of the built-in synthetic data set, found by linear probes, and random ones: are they named?

python -m experiments.directions.analysis [--layer layer3] [--out outputs/directions]
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp import clips, models, probes, shapes, similarity
from cd_exp.cache import Store
from cd_exp.dissection import RunInputs, dissect_layers
from cd_exp.evaluation.evaluate import judge_labels
from cd_exp.features import ExtractionSettings, extract
from cd_exp.metrics.intervals import clopper_pearson_interval
from cd_exp.probes.shapes import Shapes
from cd_exp.records import Concepts
from cd_exp.units import directions
from experiments.against_published import say

TRAINING_SEED = 7
RIDGE = 1e-2  # share of the mean squared activation


def linear_probes(
    activations: Float[Tensor, "images width"], present: Float[Tensor, "images attributes"]
) -> Float[Tensor, "attributes width"]:
    """Ridge regression of each attribute's presence on the activations, without the intercept."""
    centred = (activations - activations.mean(dim=0)).double()
    target = (present - present.mean(dim=0)).double()
    gram = centred.T @ centred
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    return torch.linalg.solve(gram, centred.T @ target).T.float()


def attributes_of(probe: Shapes) -> Float[Tensor, "images attributes"]:
    """1 where a scene shows an attribute."""
    rows = np.zeros((len(probe), len(shapes.ATTRIBUTES)), dtype=np.float32)
    for index in range(len(probe)):
        rows[index, list(probe.scene(index).attributes)] = 1
    return torch.from_numpy(rows)


def table(
    layer: str, out: Path, store: Store, settings: ExtractionSettings, *, training: int = 4000, size: int = 10_000
) -> str:
    """The rows: directions of linear probes, and random ones held to the same names."""
    model, clip = models.shapes_model(layers=[layer]), clips.shapes_clip()
    seen = probes.shapes(size=training, seed=TRAINING_SEED)
    activations = extract(model, seen, clip, layers=[layer], store=store, settings=settings).activations[layer]
    probes_of_layer = linear_probes(activations, attributes_of(seen))
    chance = torch.randn(probes_of_layer.shape, generator=torch.Generator().manual_seed(0))
    out.mkdir(parents=True, exist_ok=True)
    lines = ["| directions | number | named by their attribute, of 28 words, % [95 %] | of 565 words, % [95 %] |"]
    lines.append("| --- | --- | --- | --- |")
    for name, matrix in (("linear probes", probes_of_layer), ("random", chance)):
        path = out / f"{name.replace(' ', '_')}.npy"
        np.save(path, matrix.numpy())
        units = directions(layer=layer, path=str(path), truth={f"{layer}.directions": shapes.ATTRIBUTES})
        cells = [name, str(len(matrix))]
        for words in (shapes.ATTRIBUTES, shapes.CONCEPTS):
            inputs = RunInputs(
                model=model,
                units=units,
                probe=probes.shapes(size=size),
                concepts=Concepts(tuple(words)),
                clip=clip,
                store=store,
                settings=settings,
            )
            labels = dissect_layers(inputs, partial(similarity.soft_wpmi, top_k=100), top=5).labels[
                f"{layer}.directions"
            ]
            judged = judge_labels(labels)
            assert judged is not None
            low, high = clopper_pearson_interval(judged.top1)
            cells.append(f"{100 * judged.top1.mean():.1f} [{low:.1f}, {high:.1f}]")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description="Attribute directions of the built-in synthetic data set, named.")
    parser.add_argument("--layer", default="layer3", help="the hidden layer")
    parser.add_argument("--out", type=Path, default=Path("outputs/directions"), help="folder for the directions")
    parser.add_argument("--cache", type=Path, default=Path("outputs/cache"), help="folder of stored features")
    asked = parser.parse_args(arguments)
    return table(asked.layer, asked.out, Store(asked.cache), ExtractionSettings())


if __name__ == "__main__":
    say(main)
