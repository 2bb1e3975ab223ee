"""What a unit is called by images further down: the strongest ones are skipped, and the next ones name it.

The similarity function sees a unit's activations with the strongest share of its images set to its least; `wpmi` and
`soft_wpmi` then take the next `top_k` images. Functions that look at all images are refused.

python -m experiments.activation_range.analysis RUN [--layer fc] [--skip 0 0.002 0.005 0.01 0.05]
"""

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from cd_exp import similarity as similarities
from cd_exp.errors import InputError
from cd_exp.evaluation.evaluate import accepted_columns
from cd_exp.labels import label_layer
from cd_exp.metrics import are_same_name
from cd_exp.metrics.intervals import clopper_pearson_interval
from experiments.against_published import say
from experiments.reopening import reopen


def passed_over(neurons: Float[Tensor, "images neurons"], *, share: float) -> Float[Tensor, "images neurons"]:
    """The activations with each unit's strongest share of images set to the unit's least activation."""
    count = round(share * len(neurons))
    strongest = neurons.topk(count, dim=0).indices
    least = neurons.min(dim=0).values.expand(count, -1)
    return neurons.scatter(0, strongest, least)


def main(arguments: list[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description="Labels from a larger range of activating images.")
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run with wpmi or soft_wpmi")
    parser.add_argument("--layer", default="fc", help="the layer to label")
    parser.add_argument("--skip", type=float, nargs="+", default=[0, 0.002, 0.005, 0.01, 0.05], help="shares skipped")
    asked = parser.parse_args(arguments)
    run = reopen(asked.run)
    if "top_k" not in run.parts.similarity.settings:
        raise InputError("the run's similarity function looks at all images; choose a run with wpmi or soft_wpmi")
    names, neurons, match = run.parts.concepts.names, run.activations(asked.layer), run.match()
    first = run.data.labels[asked.layer]
    accepted = accepted_columns(first.truth, names) if first.truth else ()
    lines = ["| strongest images skipped % | top-1 % [95 %] | same label as without % |", "| --- | --- | --- |"]
    for share in asked.skip:
        scores = similarities.score_blocks(run.parts.similarity, match, passed_over(neurons, share=share))
        labels = label_layer(scores, names, layer=asked.layer, accepted=accepted)
        right = "not known"
        if labels.ranks is not None and not np.isnan(labels.ranks).all():
            hits = labels.ranks[~np.isnan(labels.ranks)] == 1
            low, high = clopper_pearson_interval(hits)
            right = f"{100 * hits.mean():.1f} [{low:.1f}, {high:.1f}]"
        alike = np.mean([are_same_name(a, b) for a, b in zip(first.descriptions, labels.descriptions, strict=True)])
        lines.append(f"| {100 * share:g} | {right} | {100 * alike:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    say(main)
