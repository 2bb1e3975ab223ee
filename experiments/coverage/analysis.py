"""How often do our intervals hold the truth, and our tests reject where nothing is to be found? Nothing is drawn: every
outcome is gone through with its probability.

python -m experiments.coverage.analysis [--units 10 28 100] [--tests 2 6 20]
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special, stats

from cd_exp.metrics.intervals import LEVEL, clopper_pearson_interval
from cd_exp.metrics.significance import compare_shares, mcnemar, tango_interval
from experiments.against_published import say

SHARES = np.round(np.arange(0.05, 0.951, 0.05), 2)
AGREEMENT = (0.0, 0.25, 0.5, 0.75, 0.9)
"""Of two methods: 0 where they are right independently, 1 where the better one is right wherever the other is."""
BESIDE = 1e-9
"""Coverage jumps where a share crosses an end of an interval: it is looked at this far on both sides."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Every way for two methods to differ on so many units: who alone is right how often, the p and the interval."""

    units: int
    only_a: Int[np.ndarray, " outcomes"]
    only_b: Int[np.ndarray, " outcomes"]
    p: Float[np.ndarray, " outcomes"]
    low: Float[np.ndarray, " outcomes"]
    high: Float[np.ndarray, " outcomes"]

    @staticmethod
    def of(units: int) -> "Outcomes":
        """What `compare_shares` gives for each, all at once."""
        only_a, only_b = np.array([(b, c) for b, c in product(range(units + 1), repeat=2) if b + c <= units]).T
        p = mcnemar(only_a, only_b)
        low, high = tango_interval(only_a, only_b, units=units)
        kept = p > 1 - LEVEL
        low, high = np.where(kept, np.minimum(low, 0), low), np.where(kept, np.maximum(high, 0), high)
        return Outcomes(units, only_a, only_b, p, low, high)

    def probability(self, share_a: float, share_b: float, agreement: float) -> Float[np.ndarray, " outcomes"]:
        """Of each outcome, where the methods are right so often."""
        independent = share_a * share_b
        both = independent + agreement * (min(share_a, share_b) - independent)
        rest = self.units - self.only_a - self.only_b
        counts = special.gammaln([self.only_a + 1, self.only_b + 1, rest + 1]).sum(axis=0)
        logs = special.xlogy(self.only_a, share_a - both) + special.xlogy(self.only_b, share_b - both)
        return np.exp(
            special.gammaln(self.units + 1) - counts + logs + special.xlogy(rest, 1 - share_a - share_b + 2 * both)
        )

    def covers(self, difference: float) -> Bool[np.ndarray, " outcomes"]:
        """Whether each outcome's interval holds the difference."""
        return (self.low - BESIDE <= difference) & (difference <= self.high + BESIDE)


def least_share_coverage(units: int) -> tuple[float, float]:
    """The least probability, over all true shares, that the interval of a share holds it; and the share where it is.

    Between the ends of the intervals it has no minimum of its own, so that both sides of each end are enough.
    """
    hits = np.arange(units + 1)
    bounds = np.array([clopper_pearson_interval(np.arange(units) < k) for k in hits]) / 100
    ends = np.unique(bounds)
    shares = np.concatenate([ends - BESIDE, ends + BESIDE, np.arange(1, 1000) / 1000])
    shares = shares[(shares > 0) & (shares < 1)]
    inside = (bounds[:, :1] <= shares) & (shares <= bounds[:, 1:])
    covered = (stats.binom.pmf(hits[:, None], units, shares) * inside).sum(axis=0)
    return float(covered.min()), float(shares[covered.argmin()])


def settings() -> Iterator[tuple[float, float, float]]:
    """The shares of both methods, and how far they agree."""
    yield from product(SHARES.tolist(), SHARES.tolist(), AGREEMENT)


def difference_coverage(outcomes: Outcomes) -> Float[np.ndarray, " settings"]:
    """The probability that the interval of a difference holds it, in every setting."""
    return np.array([outcomes.probability(*own)[outcomes.covers(own[0] - own[1])].sum() for own in settings()])


def size(outcomes: Outcomes, level: float) -> float:
    """The highest probability, over all settings without a difference, that the test rejects at a level."""
    null = [own for own in settings() if own[0] == own[1]]
    return max(float(outcomes.probability(*own)[outcomes.p <= level].sum()) for own in null)


def disagreements(outcomes: Outcomes) -> int:
    """Outcomes in which the interval leaves 0 out and the test does not reject, or the other way round."""
    agree = ((outcomes.low > 0) | (outcomes.high < 0)) == (outcomes.p <= 1 - LEVEL)
    for row in np.random.default_rng(0).integers(0, len(agree), 20):  # the package's own function gives the same
        b, c = int(outcomes.only_a[row]), int(outcomes.only_b[row])
        right = np.repeat([[True, False], [False, True], [False, False]], [b, c, outcomes.units - b - c], axis=0)
        difference = compare_shares(right[:, 0], right[:, 1])
        assert difference.interval is not None
        assert np.allclose(difference.interval, (100 * outcomes.low[row], 100 * outcomes.high[row]))
    return int((~agree).sum())


def family_wise(outcomes: Outcomes, tests: int) -> float:
    """The probability that Holm's procedure rejects any of so many independent tests where there is nothing.

    It rejects any exactly where the smallest p is at most 5 % divided by the number of tests.
    """
    return 1 - (1 - size(outcomes, (1 - LEVEL) / tests)) ** tests


def tables(units: Sequence[int], tests: Sequence[int]) -> str:
    """A row a number of units: shares, then differences, then tables of tests; per cent."""
    shares = ["| units | share: least coverage | at a true share of |", "| --- | --- | --- |"]
    heads = ("difference: least", "mean", "most", "settings from 93 to 98")
    heads = (*heads, "test rejects under the null, at most", "outcomes where interval and test disagree")
    pairs = [f"| units | {' | '.join(heads)} |", "| --- " * 7 + "|"]
    families = [f"| units | {' | '.join(f'any of {number} tests rejected' for number in tests)} |"]
    families.append("| --- " * (len(tests) + 1) + "|")
    for count in units:
        least, where = least_share_coverage(count)
        shares.append(f"| {count} | {100 * least:.2f} | {where:.4f} |")
        outcomes = Outcomes.of(count)
        covered = difference_coverage(outcomes)
        between = ((covered >= 0.93) & (covered <= 0.98)).mean()
        cells = [100 * value for value in (covered.min(), covered.mean(), covered.max(), between, size(outcomes, 0.05))]
        shown = " | ".join(f"{cell:.1f}" for cell in cells)
        pairs.append(f"| {count} | {shown} | {disagreements(outcomes)} of {len(outcomes.p)} |")
        families.append(f"| {count} | {' | '.join(f'{100 * family_wise(outcomes, number):.1f}' for number in tests)} |")
    return "\n\n".join("\n".join(lines) for lines in (shares, pairs, families))


def main(arguments: Sequence[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description="Coverage of intervals and errors of tests, by enumeration.")
    parser.add_argument("--units", type=int, nargs="+", default=[10, 28, 100])
    parser.add_argument("--tests", type=int, nargs="+", default=[2, 6, 20], help="in a table")
    asked = parser.parse_args(arguments)
    return tables(asked.units, asked.tests)


if __name__ == "__main__":
    say(main)
