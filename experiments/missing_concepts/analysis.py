"""What a unit is called when the probe set holds no image of its concept.

Classes are dealt into folds; for each fold every image of its classes is taken out of the probe set, and the units of
those classes are labelled from what is left. An image's class is its true one where the probe set knows it, else the
predicted one.

python -m experiments.missing_concepts.analysis RUN [--folds 5]
"""

import argparse
from math import nan
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from cd_exp import similarity as similarities
from cd_exp.evaluation.evaluate import accepted_columns
from cd_exp.labels import label_layer
from cd_exp.metrics.intervals import bootstrap_interval, clopper_pearson_interval
from experiments.against_published import say
from experiments.reopening import Run, reopen


def image_classes(run: Run) -> tuple[Int[np.ndarray, " images"], str]:
    """The class of each image, and how it is known."""
    true_classes = run.true_classes()
    if true_classes is not None:
        index_of = {name: index for index, name in enumerate(run.classes)}
        return np.array([index_of[name] for name in true_classes]), "true class"
    return run.activations(run.final).argmax(dim=1).cpu().numpy(), "predicted class"


def without(run: Run, classes: Int[np.ndarray, " images"], *, folds: int) -> dict[str, Float[np.ndarray, " classes"]]:
    """Rank of the truth and cosine between label and truth of each class's unit, its own images taken out."""
    names, match, neurons = run.parts.concepts.names, run.match(), run.activations(run.final)
    accepted = accepted_columns(tuple((name,) for name in run.classes), names)
    texts = dict(zip(names, torch.nn.functional.normalize(run.data.texts, dim=1), strict=True))
    truths = run.embed(run.classes)
    ranks, cosines = np.full(len(run.classes), np.nan), np.full(len(run.classes), np.nan)
    for fold in range(folds):
        units = np.arange(fold, len(run.classes), folds)
        kept = torch.from_numpy(np.flatnonzero(~np.isin(classes, units)))
        fewer = type(match)(match.images[kept], match.texts)
        scores = similarities.score_blocks(run.parts.similarity, fewer, neurons[kept])
        labels = label_layer(scores, names, layer=run.final,
                      accepted=accepted)  # fmt: skip
        ranks[units] = labels.ranks[units]
        cosines[units] = [float(texts[labels.descriptions[unit]] @ truths[unit]) for unit in units]
    return {"rank": ranks, "cosine": cosines}


def main(arguments: list[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description="Labels of class units without any image of the class.")
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run with the final layer")
    parser.add_argument("--folds", type=int, default=5, help="more folds take fewer images out at a time")
    asked = parser.parse_args(arguments)
    run = reopen(asked.run)
    classes, how = image_classes(run)
    results = {
        "all images": without(run, np.full(len(classes), -1), folds=1),
        f"none of its {how}": without(run, classes, folds=asked.folds),
    }
    lines = ["| probe set | top-1 % [95 %] | top-5 % [95 %] | median rank | CLIP cosine [95 %] |",
             "| --- | --- | --- | --- | --- |"]  # fmt: skip
    for name, result in results.items():
        ranks = result["rank"][~np.isnan(result["rank"])]
        shares = []
        for right in (ranks <= 1, ranks <= 5):
            low, high = clopper_pearson_interval(right)
            shares.append(f"{100 * right.mean():.1f} [{low:.1f}, {high:.1f}]")
        low, high = bootstrap_interval(result["cosine"], seed=0, resamples=9999) or (nan, nan)
        cosine = f"{result['cosine'].mean():.3f} [{low:.3f}, {high:.3f}]"
        lines.append(f"| {name} | {' | '.join(shares)} | {np.median(ranks):g} | {cosine} |")
    return "\n".join([*lines, "", f"{len(ranks)} units of {run.final} with a concept of their name."])


if __name__ == "__main__":
    say(main)
