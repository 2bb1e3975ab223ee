"""Do units feed the classes whose names are like their own descriptions?

r between weight[c, u] and the CLIP text cosine of unit u's description and class c, over all pairs, with an interval by
bootstrap over units; and r between a unit's similarity score and its largest outgoing weight.

python -m experiments.weights_and_similarity.analysis RUN [--layer layer4]
"""

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import Float

from experiments.against_published import published_values, say
from experiments.reopening import reopen


def correlation(
    a: Float[np.ndarray, "classes neurons"], b: Float[np.ndarray, "classes neurons"], *, resamples: int, seed: int
) -> tuple[float, tuple[float, float]]:
    """Pearson's r over all pairs, and its 95 % percentile interval with whole units resampled."""
    # Of each unit only these sums matter, so that a resample is a sum of sums.
    sums = np.stack([np.full(a.shape[1], float(len(a))), *(x.sum(0) for x in (a, b, a * a, b * b, a * b))])

    def r(total: Float[np.ndarray, "6 ..."]) -> Float[np.ndarray, "..."]:
        n, x, y, xx, yy, xy = total
        return (n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y))

    drawn = np.random.default_rng(seed).multinomial(a.shape[1], np.full(a.shape[1], 1 / a.shape[1]), size=resamples)
    low, high = np.quantile(r(sums @ drawn.T), [0.025, 0.975])
    return float(r(sums.sum(1))), (float(low), float(high))


def main(arguments: list[str] | None = None) -> str:
    from scipy import stats

    parser = argparse.ArgumentParser(description="Weights of the final layer against the similarity of names.")
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run with the hidden and the final layer")
    parser.add_argument("--layer", default="layer4", help="the layer whose average feeds the final one")
    asked = parser.parse_args(arguments)
    run = reopen(asked.run)
    run.activations(asked.layer)
    labels = run.data.labels[asked.layer]
    weight = run.weight().double().cpu().numpy()
    distinct = tuple(dict.fromkeys((*labels.descriptions, *run.classes)))
    texts = dict(zip(distinct, run.embed(distinct).double().numpy(), strict=True))
    units, classes = (np.stack([texts[name] for name in names]) for names in (labels.descriptions, run.classes))
    r, (low, high) = correlation(weight, classes @ units.T, resamples=2000, seed=0)
    largest = stats.pearsonr(labels.similarity, weight.max(axis=0))
    bounds = largest.confidence_interval()
    return "\n".join(
        [
            "| what | n | r [95 %] |",
            "| --- | --- | --- |",
            f"| weight, CLIP cosine of unit's and class's name | {weight.size} | {r:.4f} [{low:.4f}, {high:.4f}] |",
            f"| similarity of the unit's label, its largest weight | {weight.shape[1]} | "
            f"{largest.statistic:.4f} [{bounds.low:.4f}, {bounds.high:.4f}] |",
            "",
            published_values(Path(__file__).parent),
        ]
    )


if __name__ == "__main__":
    say(main)
