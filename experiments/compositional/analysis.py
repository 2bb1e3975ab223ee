"""Two words instead of one: pairs built from a unit's best concepts, rescored beside the words themselves.

The run's single words (concepts without a space) label each unit. Of a unit's best `--top` words all pairs are built,
the better word first, and the unit is scored against its words and its pairs together, by the run's own similarity
function; a function with a prior takes that of the whole layer. So what a unit gets does not depend on which others are
asked for, nor on how they are streamed. On the final layer of the built-in synthetic data set the truth is a pair
("red circle") that no single word names.

python -m experiments.compositional.analysis RUN [--layer fc] [--top 100] [--units 0 1 2]
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.clips import Clip
from cd_exp.errors import InputError
from cd_exp.labels import alphabetical_order, best_concepts
from cd_exp.metrics.intervals import clopper_pearson_interval
from cd_exp.records import Concepts, Similarity
from cd_exp.similarity import DenseOrFactored, bind, concept_activations
from experiments.against_published import say
from experiments.reopening import Run, reopen

TOP = 100
"""Words a unit's pairs are built from, the paper's number: 4,950 pairs."""

TEXTS = 100_000
"""About as many embeddings are held at a time: 200 MB of 512 dimensions."""


def composed(
    run: Run, layer: str, *, top: int = TOP, units: Sequence[int] | None = None, limit: int = TEXTS
) -> list[tuple[str, ...]]:
    """The words and pairs of each unit, or of some, best first, five of them; about `limit` are embedded at a time."""
    words = tuple(dict.fromkeys(name for name in run.parts.concepts.names if " " not in name))
    if len(words) < 2:
        raise InputError("the run's concept set has fewer than two single words, so there is no pair to build")
    neurons = run.activations(layer)
    asked = range(neurons.shape[1]) if units is None else units
    wrong = [unit for unit in asked if not 0 <= unit < neurons.shape[1]]
    if wrong:
        raise InputError(f"{layer} has units 0 to {neurons.shape[1] - 1}, not {wrong[0]}")
    chosen = best_concepts(
        run.parts.similarity(run.match(words), neurons), alphabetical_order(words), k=min(top, len(words))
    )[1]
    candidates = [with_pairs([words[column] for column in chosen[unit].tolist()]) for unit in asked]
    images = run.data.features.images.to(run.device)
    streamed = embedded(run.parts.clip, candidates, run.parts.concepts.templates, device=run.device, limit=limit)
    expressions = []
    for unit, (names, texts) in zip(asked, streamed, strict=True):
        match = concept_activations(images, texts.to(run.device))
        own = scores(run.parts.similarity, match, neurons, unit)[None]
        order = best_concepts(own, alphabetical_order(names), k=min(5, len(names)))[1][0]
        expressions.append(tuple(names[index] for index in order.tolist()))
    return expressions


def with_pairs(words: Sequence[str]) -> tuple[str, ...]:
    """The words, best first, and all pairs of them, the better word first."""
    return (*words, *(" ".join(pair) for pair in combinations(words, 2)))


def embedded(
    clip: Clip,
    candidates: Sequence[Sequence[str]],
    templates: Sequence[str],
    *,
    device: torch.device,
    limit: int = TEXTS,
) -> Iterator[tuple[Sequence[str], Float[Tensor, "concepts dim"]]]:
    """The names of each unit with their text embeddings; what units share is embedded once, while about `limit` last.

    Nothing goes to the cache: the pairs of a layer may be millions.
    """
    start = 0
    while start < len(candidates):
        names: dict[str, int] = {}
        stop = start
        while stop < len(candidates) and (stop == start or len(names) < limit):
            for name in candidates[stop]:
                names.setdefault(name, len(names))
            stop += 1
        texts = clip.embed(Concepts(tuple(names), tuple(templates)), device=device)
        for own in candidates[start:stop]:
            yield own, texts[[names[name] for name in own]]
        start = stop


def scores(
    similarity: Similarity, match: DenseOrFactored, neurons: Float[Tensor, "images neurons"], unit: int
) -> Float[Tensor, " concepts"]:
    """Those of one unit; all units are scored only where the function has a prior over the layer."""
    if "prior" in bind(similarity).parameters:
        return similarity(match, neurons)[unit]
    return similarity(match, neurons[:, unit : unit + 1])[0]


def main(arguments: list[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description="Compositional concepts: pairs of a unit's best words.")
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run whose CLIP embeds texts")
    parser.add_argument("--layer", default="fc", help="the layer to label")
    parser.add_argument("--top", type=int, default=TOP, help="words a unit's pairs are built from")
    parser.add_argument("--units", type=int, nargs="+", help="only these; all when not given")
    asked = parser.parse_args(arguments)
    run = reopen(asked.run)
    tops = composed(run, asked.layer, top=asked.top, units=asked.units)
    units = asked.units or range(len(tops))
    pairs = np.array([" " in row[0] for row in tops])
    lines = [f"{pairs.sum()} of {len(tops)} units of {asked.layer} get a pair ({100 * pairs.mean():.1f} %)."]
    truth = run.data.labels[asked.layer].truth
    judged = [(row, truth[unit][0]) for unit, row in zip(units, tops, strict=True)
              if truth and truth[unit] and " " in truth[unit][0]]  # fmt: skip
    for count in (1, 5) if judged else ():
        right = np.array([any(sorted(name.split()) == sorted(name_of.split()) for name in row[:count])
                          for row, name_of in judged])  # fmt: skip
        low, high = clopper_pearson_interval(right)
        lines.append(f"top-{count}, either order of the two words: {100 * right.mean():.1f} % [{low:.1f}, {high:.1f}] "
                     f"of {len(right)} units whose truth is two words; single words could give none.")  # fmt: skip
    shown = list(zip(units, tops, strict=True))[:5]
    return "\n".join([*lines, *(f"{asked.layer} {unit}: {', '.join(row)}" for unit, row in shown)])


if __name__ == "__main__":
    say(main)
