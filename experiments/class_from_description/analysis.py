"""Is the class of an image the description of the unit that contributes most to it?

For each image the predicted class c and, of a hidden layer that feeds the final one, the unit u with the largest
contribution weight[c, u] * activation[u]. Its description is compared with the predicted class and,
where it is known, the true one.

python -m experiments.class_from_description.analysis RUN [--layer layer4]
"""

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from cd_exp.errors import InputError
from cd_exp.metrics import are_same_name
from cd_exp.metrics.intervals import clopper_pearson_interval
from experiments.against_published import published_values, say
from experiments.reopening import reopen


def contributing(
    activations: Float[Tensor, "images neurons"],
    weight: Float[Tensor, "classes neurons"],
    predicted: Int[Tensor, " images"],
) -> Int[Tensor, " images"]:
    """The unit that adds most to the predicted class of each image."""
    return (activations * weight[predicted]).argmax(dim=1)


def main(arguments: list[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description="The class of an image from the description of one hidden unit.")
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run with the hidden and the final layer")
    parser.add_argument("--layer", default="layer4", help="the layer whose average feeds the final one")
    asked = parser.parse_args(arguments)
    run = reopen(asked.run)
    activations, weight = run.activations(asked.layer), run.weight()
    if activations.shape[1] != weight.shape[1]:
        raise InputError(f"{asked.layer} has {activations.shape[1]} units, {run.final} takes {weight.shape[1]}")
    predicted = run.activations(run.final).argmax(dim=1)
    unit = contributing(activations, weight, predicted).cpu().numpy()
    descriptions = np.array(run.data.labels[asked.layer].descriptions, dtype=object)
    classes = {"predicted": [run.classes[c] for c in predicted.tolist()], "true": run.true_classes()}
    # What equal names would come to by chance: the same descriptions, dealt out to other units.
    shuffled = np.random.default_rng(0).permutation(descriptions)
    lines = [
        "| class | images | equal % [95 %] | with descriptions shuffled over units % |",
        "| --- | --- | --- | --- |",
    ]
    for kind, names in classes.items():
        if names is None:
            continue
        right = np.array([are_same_name(a, b) for a, b in zip(descriptions[unit], names, strict=True)])
        chance = np.array([are_same_name(a, b) for a, b in zip(shuffled[unit], names, strict=True)])
        low, high = clopper_pearson_interval(right)
        share, guess = 100 * right.mean(), 100 * chance.mean()
        lines.append(f"| {kind} | {len(right)} | {share:.2f} [{low:.2f}, {high:.2f}] | {guess:.2f} |")
    used = f"{len(set(unit.tolist()))} of {len(descriptions)} units of {asked.layer} contribute most to some image."
    return "\n".join([*lines, "", used, published_values(Path(__file__).parent)])


if __name__ == "__main__":
    say(main)
