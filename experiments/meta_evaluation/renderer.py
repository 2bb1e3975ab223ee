"""Does the renderer tell a true label from another one? CoSy's AUC with scenes drawn for each label.

python -m experiments.meta_evaluation.renderer RUN [--scenes 50]

RUN is a finished run on the built-in synthetic data set.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cd_exp.evaluation.judges import HeldOut, ImagesJudge
from cd_exp.evaluation.judges.images import ImageScores, score_images
from cd_exp.evaluation.judges.run_judge import hold_out_images
from cd_exp.shapes import ATTRIBUTES, CLASSES
from experiments.against_published import say
from experiments.reopening import reopen

RANDOM = 5
"""Labels drawn for each unit."""


def table(
    held: HeldOut, shown: ImageScores, layer: str, labels: Sequence[str], units: Sequence[int]
) -> Float[np.ndarray, "units labels"]:
    """CoSy's AUC of every label for every unit."""
    return np.stack([score_images(held, shown, layer, label, units)["cosy_auc"] for label in labels], axis=1)


def main(arguments: Sequence[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run on the built-in synthetic data set")
    parser.add_argument("--scenes", type=int, default=50, help="for each label")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    run = reopen(options.run)
    judge = ImagesJudge(scenes=options.scenes, pairs=1)
    judge.check(run.parts.probe)
    held = hold_out_images(judge, replace(run.data, seed=options.seed))
    is_known = judge.known(held, run.parts.concepts.names)
    words = [name for name in run.parts.concepts.names if is_known[name]]
    shown = judge.show_images(held, words)
    named = np.diag(table(held, shown, "layer4", ATTRIBUTES, range(len(ATTRIBUTES))))
    classes = table(held, shown, "fc", CLASSES, range(len(CLASSES)))
    others = np.where(np.eye(len(CLASSES), dtype=bool), -np.inf, classes).max(axis=1)
    above = int((np.diag(classes) > others).sum())
    random = np.random.default_rng(options.seed)
    drawn = []
    for layer, labels in run.data.labels.items():
        every = table(held, shown, layer, words, labels.units.tolist())
        drawn.append(every[np.arange(len(every))[:, None], random.integers(0, len(words), (len(every), RANDOM))])
    mean = float(np.concatenate(drawn).mean())
    return "\n".join(
        [
            f"named units of layer4, least CoSy AUC of the true attribute: {named.min():.4f} "
            f"({ATTRIBUTES[int(named.argmin())]}), mean {named.mean():.4f}",
            f"units of fc whose true class is above every other class: {above} of {len(CLASSES)}",
            f"all units, mean CoSy AUC of random labels: {mean:.3f} over {sum(map(np.size, drawn))} labels",
        ]
    )


if __name__ == "__main__":
    say(main)
