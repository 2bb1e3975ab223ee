"""The numbers of a human study as pure functions: who errs how often, what the answers pool to, what a label scores.

Every function takes arrays and gives arrays; files, tables and words are elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from cd_exp.metrics.intervals import percentile_interval
from cd_exp.metrics.significance import rank_correlations

SHRINK = 10.0
"""Answers that the error of all raters together counts for in the error of one: 15 answers alone are noise of .11."""
RIDGE = 0.05
"""Of the study's coefficients in `presence_prior`: with no present image at all they would run away to infinity."""
STEPS = 60
Level = Literal["nominal", "ordinal", "interval"]
TOLERANCE = 1e-5
FIT_STEPS = 2000  # strengths far apart settle slowly
BATCH_VALUES = 2**20  # resampled at once: 8 MB

Prior = Callable[[Float[np.ndarray, "tasks classes"]], Float[np.ndarray, "tasks classes"]]
"""What is believed of each task before its answers, given what is believed after them."""


@dataclass(frozen=True, eq=False)
class Votes:
    """Answers in long form: `answers[n]` is the class that `raters[n]` gave to `tasks[n]`; all count from 0."""

    tasks: Int[np.ndarray, " answers"]
    raters: Int[np.ndarray, " answers"]
    answers: Int[np.ndarray, " answers"]
    classes: int

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def cells(self) -> Int[np.ndarray, " answers"]:
        """The place of each answer in a table of tasks and classes, row after row."""
        return self.tasks * self.classes + self.answers


@dataclass(frozen=True, eq=False)
class Pooled:
    """`posterior[t, k]`: how likely class k is the true one of task t; `error[r]`: how often rater r is wrong."""

    posterior: Float[np.ndarray, "tasks classes"]
    error: Float[np.ndarray, " raters"]
    mean_error: float


def dawid_skene(
    votes: Votes,
    *,
    count: int,
    prior: Prior | None = None,
    true_classes: Int[np.ndarray, " tasks"] | None = None,
) -> Pooled:
    """The true class of each task and the error of each rater, estimated together by expectation and maximisation.

    One coin per rater: rater r is right with 1 - e_r, and otherwise gives each of the other K - 1 classes alike. (The
    full model has K (K - 1) numbers per rater, which 15 answers cannot hold.) Given e, with y the answers of a task,

        posterior[t, k] ~ prior[t, k] prod_r (1 - e_r if y_r = k else e_r / (K - 1))

    and given the posterior, e_r is the mean of 1 - posterior[t, y_r], with `SHRINK` answers at the error of all raters
    added. At most 1 - 1 / K, where answers say nothing.

    >>> votes = Votes(np.array([0, 0, 0, 1, 1, 1]), np.array([0, 1, 2] * 2), np.array([1, 1, 0, 0, 0, 0]), 2)
    >>> pooled = dawid_skene(votes, count=2)
    >>> pooled.posterior.argmax(axis=1).tolist(), bool(pooled.error[2] > pooled.error[0])
    ([1, 0], True)

    Args:
        votes: the answers.
        count: how many tasks there are.
        prior: by default the share of each class, the same for all tasks.
        true_classes: the true class of tasks whose answer is known, -1 for the others.

    Source: Dawid and Skene, Applied Statistics 28 (1979); one coin: Zhang et al., JMLR 17 (2016), section 2.
    """
    raters, others = int(votes.raters.max(initial=-1)) + 1, votes.classes - 1
    counts = answer_counts(votes, count=count)
    posterior = (counts + 1 / votes.classes) / (counts + 1 / votes.classes).sum(axis=1, keepdims=True)
    posterior = _fix_known(posterior, true_classes)
    answered, cells = np.bincount(votes.raters, minlength=raters), votes.cells
    error, mean = np.zeros(raters), 0.0
    for _ in range(STEPS):
        wrong = 1 - posterior[votes.tasks, votes.answers]
        mean = min(float(wrong.mean()), others / votes.classes) if len(votes) else 0.0
        error = (np.bincount(votes.raters, wrong, minlength=raters) + SHRINK * mean) / (answered + SHRINK)
        error = error.clip(1e-4, others / votes.classes)
        before = posterior.mean(axis=0, keepdims=True) if prior is None else prior(posterior)
        gain = np.log((1 - error) * others / error)
        added = np.bincount(cells, gain[votes.raters], minlength=posterior.size)
        logits = np.log(before.clip(1e-12)) + added.reshape(posterior.shape)
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        new = _fix_known(raised / raised.sum(axis=1, keepdims=True), true_classes)
        change, posterior = float(np.abs(new - posterior).max(initial=0)), new
        if change < TOLERANCE:
            break
    return Pooled(posterior, error, mean)


def _fix_known(posterior: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
    """The posterior with certainty where the class is known."""
    if classes is None:
        return posterior
    fixed = posterior.copy()
    fixed[classes >= 0] = np.eye(posterior.shape[1])[classes[classes >= 0]]
    return fixed


def presence_prior(
    match: Float[np.ndarray, " tasks"], activation: Float[np.ndarray, " tasks"], groups: Int[np.ndarray, " tasks"]
) -> Prior:
    """What is believed of the presence of a label in an image before anybody answers: a logistic curve.

    p = 1 / (1 + exp(-(b0 + c0_g + (b1 + c1_g) match + b2 activation))), with b for the whole study and c for each group
    (a unit's label), the latter with a ridge of one; both are fitted to the posterior anew in every step.

    Images drawn evenly stand for hundreds of others and seldom show the concept. One prevalence for all would make
    every second wrong yes about them a presence; a curve per group alone still overstates them, since 36 even draws
    cannot tell 1 % from 3 %. Mean relative error of the correlation, 180 images, three raters wrong in 23 %: .80 with
    one prevalence, .18 with a curve per group, .11 with this one; .106 if presence were known.

    Args:
        match: of the image and the label, standardised over all images.
        activation: of the unit, likewise.
        groups: the number of the unit and label.
    """
    number = int(groups.max(initial=-1)) + 1
    columns = np.stack([np.ones(len(match)), match, activation], axis=1)
    shared, by_group = np.zeros(3), np.zeros((2, number))

    def curve() -> Float[np.ndarray, " tasks"]:
        return 1 / (1 + np.exp(-(columns @ shared + by_group[0][groups] + by_group[1][groups] * match).clip(-40, 40)))

    def total(values: Float[np.ndarray, " tasks"]) -> Float[np.ndarray, " groups"]:
        return np.bincount(groups, values, minlength=number)

    def prior(posterior: Float[np.ndarray, "tasks classes"]) -> Float[np.ndarray, "tasks classes"]:
        for _ in range(2):  # Newton's steps, from the coefficients of the step before
            p = curve()
            hessian = (columns * (p * (1 - p))[:, None]).T @ columns + RIDGE * np.eye(3)
            gradient = columns.T @ (posterior[:, 1] - p) - RIDGE * shared
            shared[:] += np.linalg.solve(hessian, gradient).clip(-2, 2)
            p = curve()
            rest, spread = posterior[:, 1] - p, p * (1 - p)
            g0, g1 = total(rest) - by_group[0], total(rest * match) - by_group[1]
            h00, h01, h11 = total(spread) + 1, total(spread * match), total(spread * match**2) + 1
            determinant = h00 * h11 - h01**2
            by_group[0] += ((h11 * g0 - h01 * g1) / determinant).clip(-2, 2)
            by_group[1] += ((h00 * g1 - h01 * g0) / determinant).clip(-2, 2)
        p = curve()
        return np.stack([1 - p, p], axis=1)

    return prior


def weighted_correlation(
    activation: Float[np.ndarray, " images"],
    presence: Float[np.ndarray, " images"],
    weight: Float[np.ndarray, " images"],
    count: Int[np.ndarray, " images"],
) -> float:
    """The correlation of activation and presence over all images, from images drawn with unequal probability.

    With w the weight, c the presence, a the activation, n how often an image was drawn and all sums over drawn images,

        m = sum(n w c) / sum(n);  r = sum(n w c a) / sum(n) / sqrt(m (1 - m))

    less its bias by the jackknife over draws: sum(n) r - (sum(n) - 1) (mean of r without one draw). c is how likely the
    concept is present, so its mean square is its mean. The mean 0 and deviation 1 of the activation are known of all
    images and not estimated. 0 where m is 0 or 1; at most 1 in size.

    Without the jackknife the square root of an estimate makes r of rare concepts 1 % too small (.0034 of .32),
    which intervals over 50 units cannot afford.

    >>> ones = np.ones(4, dtype=int)
    >>> round(weighted_correlation(np.array([1.7, -0.6, -0.6, -0.5]), np.array([1.0, 0, 0, 0]), ones * 1.0, ones), 3)
    1.0

    Args:
        activation: standardised over all images.
        presence: how likely the concept is in the image.
        weight: 1 / (images x probability of drawing it).
        count: how often it was drawn.

    Source: Quenouille, Biometrika 43 (1956), for the jackknife.
    """
    draws, share = count.sum(), weight * presence
    mean, together = float((count * share).sum() / draws), float((count * share * activation).sum() / draws)
    if not 0 < mean < 1:
        return 0.0
    value = together / np.sqrt(mean * (1 - mean))
    if draws > 1:
        means = ((draws * mean - share) / (draws - 1)).clip(1e-12, 1 - 1e-12)
        without = (draws * together - share * activation) / (draws - 1) / np.sqrt(means * (1 - means))
        # A draw that holds nearly all of the presence leaves a correlation of next to nothing, of any size.
        value = draws * value - (draws - 1) * float((count * without.clip(-1, 1)).sum() / draws)
    return float(np.clip(value, -1, 1))


@dataclass(frozen=True, eq=False)
class PresenceTasks:
    """What is known of each task of *presence* beside its answers.

    Attributes:
        match: of its image and description, standardised over all images.
        activation: of its unit on its image, likewise.
        weight: 1 / (images x probability of drawing the image).
        count: how often the image was drawn.
        groups: the number of its unit and description.
    """

    match: Float[np.ndarray, " tasks"]
    activation: Float[np.ndarray, " tasks"]
    weight: Float[np.ndarray, " tasks"]
    count: Int[np.ndarray, " tasks"]
    groups: Int[np.ndarray, " tasks"]


def presence_correlations(votes: Votes, tasks: PresenceTasks) -> tuple[Float[np.ndarray, " groups"], Pooled]:
    """The correlation of presence and activation of every unit and description, from all answers of a study together.

    Args:
        votes: class 1 is yes.
        tasks: in the order that the votes count them.

    Returns:
        One correlation per group, and what the answers pool to.
    """
    prior = presence_prior(tasks.match, tasks.activation, tasks.groups)
    pooled = dawid_skene(votes, count=len(tasks.groups), prior=prior)
    order = np.argsort(tasks.groups, kind="stable")
    rows_of = np.split(order, np.cumsum(np.bincount(tasks.groups))[:-1])
    values = [
        weighted_correlation(tasks.activation[rows], pooled.posterior[rows, 1], tasks.weight[rows], tasks.count[rows])
        for rows in rows_of
    ]
    return np.array(values), pooled


# Agreement -----------------------------------------------------------------------------------------------------------


def answer_counts(votes: Votes, *, count: int) -> Float[np.ndarray, "tasks classes"]:
    """How often each class was the answer to each task."""
    return np.bincount(votes.cells, minlength=count * votes.classes).reshape(count, votes.classes).astype(np.float64)


def alpha(
    counts: Float[np.ndarray, "tasks classes"], values: Float[np.ndarray, " classes"], *, level: Level
) -> float | None:
    """Krippendorff's alpha: 1 where all agree, 0 where they agree as by chance; None where nothing can disagree.

    Args:
        counts: how often each value was the answer to each task.
        values: what the columns stand for, in order.
        level: `nominal`, `ordinal` or `interval`.

    Raises:
        ModuleNotFoundError: the extra `study` is not installed.
    """
    import krippendorff

    shared = counts[counts.sum(axis=1) > 1]
    used = shared.sum(axis=0) > 0
    if used.sum() < 2:
        return None
    value = krippendorff.alpha(value_counts=shared[:, used], value_domain=values[used], level_of_measurement=level)
    return float(value)


def share_equal(counts: Float[np.ndarray, "tasks classes"]) -> float | None:
    """The share of pairs of answers to the same task that are equal; None where no task has two answers.

    >>> share_equal(np.array([[3.0, 0.0], [2.0, 1.0], [0.0, 2.0]]))
    0.7142857142857143
    """
    asked = counts.sum(axis=1)
    pairs = float((asked * (asked - 1) / 2).sum())
    return float((counts * (counts - 1) / 2).sum() / pairs) if pairs else None


def pairwise_kappa(votes: Votes, *, fewest: int = 10) -> float | None:
    """Cohen's kappa, the mean over all pairs of raters with `fewest` tasks in common, weighted by their number.

    kappa = (p - c) / (1 - c), p the share of equal answers and c the share expected from both raters' own answers.

    Source: Cohen, Educational and Psychological Measurement 20 (1960).
    """
    by_task: dict[int, list[tuple[int, int]]] = {}
    for task, rater, answer in zip(votes.tasks.tolist(), votes.raters.tolist(), votes.answers.tolist(), strict=True):
        by_task.setdefault(task, []).append((rater, answer))
    squares: dict[tuple[int, int], np.ndarray] = {}
    for answers in by_task.values():
        for (a, x), (b, y) in combinations(sorted(answers), 2):
            squares.setdefault((a, b), np.zeros((votes.classes, votes.classes)))[x, y] += 1
    kappas, weights = [], []
    for square in squares.values():
        number = square.sum()
        chance = float((square.sum(axis=1) * square.sum(axis=0)).sum() / number**2)
        if number >= fewest and chance < 1:
            kappas.append((float(np.trace(square) / number) - chance) / (1 - chance))
            weights.append(float(number))
    return float(np.average(kappas, weights=weights)) if kappas else None


# Choices and orders --------------------------------------------------------------------------------------------------


def choice_strengths(chosen: list[tuple[int, tuple[int, ...]]], *, count: int) -> Float[np.ndarray, " items"]:
    """Bradley-Terry strengths from choices of one among several (Luce's model): logarithms with mean 0.

    P(item i from a set S) = exp(s_i) / sum over S of exp(s_j). A hundredth of a choice in both directions between any
    two items keeps strengths finite where one is never, or always, chosen.

    Args:
        chosen: the item taken and those skipped, of each choice.
        count: how many items there are.

    Raises:
        ModuleNotFoundError: the extra `study` is not installed.

    Source: Luce, Individual Choice Behavior (1959); Maystre and Grossglauser, NeurIPS 2015, for the algorithm.
    """
    import choix

    strengths = np.asarray(choix.ilsr_top1(count, chosen, alpha=0.01))
    return strengths - strengths.mean()


def strengths_of_counts(
    counts: Float[np.ndarray, "samples kinds"],
    taken: Int[np.ndarray, " kinds"],
    offered: Bool[np.ndarray, "kinds items"],
) -> Float[np.ndarray, "samples items"]:
    """The same model as `choice_strengths` of many samples at once, by minorisation and maximisation.

    A bootstrap needs a fit per sample: `choix` takes .25 s for 900 choices, this less for 999 of them, since few
    kinds of choice differ. The hundredth of a choice is a pair of pseudo-choices here.

    Args:
        counts: how often each kind of choice was made in each sample.
        taken: the item taken.
        offered: the items of the set, the one taken among them.

    Source: Hunter, The Annals of Statistics 32 (2004).
    """
    items, pseudo = offered.shape[1], 0.01
    sets = offered.astype(np.float64)
    wins = counts @ np.eye(items)[taken] + pseudo * (items - 1)
    strength = np.ones_like(wins)
    for _ in range(FIT_STEPS):
        pairs = 2 * pseudo / (strength[:, :, None] + strength[:, None, :])
        total = (counts / (strength @ sets.T)) @ sets + pairs.sum(-1) - pseudo / strength
        new = wins / total
        new /= np.exp(np.log(new).mean(axis=1, keepdims=True))
        change, strength = float(np.abs(np.log(new / strength)).max()), new
        if change < TOLERANCE:
            break
    return np.log(strength)


def mean_rank_correlation(pairs: Float[np.ndarray, "*rows units splits 2"]) -> Float[np.ndarray, "*rows"]:
    """Spearman's correlation over units of the two numbers of each, the mean over splits; NaN where none is defined.

    >>> mean_rank_correlation(np.array([[[1.0, 2.0]], [[2.0, 4.0]], [[3.0, 3.0]]])).tolist()
    0.5
    """
    each = rank_correlations(*np.moveaxis(pairs, -1, 0).swapaxes(-1, -2))
    decided = ~np.isnan(each)
    number = decided.sum(-1)
    return np.where(number > 0, np.where(decided, each, 0).sum(-1) / np.maximum(number, 1), np.nan)


def bootstrap_rows(
    values: Float[np.ndarray, "units *columns"],
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    seed: int,
    resamples: int = 999,
) -> tuple[float, float] | None:
    """The 95 % percentile interval over units of a statistic that needs several numbers of each; None where unknown.

    Args:
        values: one row per unit.
        statistic: of `samples x units x columns` at once, one number per sample, NaN where it is undefined.
        seed: of the resampling.
        resamples: how many samples are drawn.
    """
    indices = np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))
    at_once = max(1, BATCH_VALUES // max(1, values.size))
    drawn = np.concatenate([statistic(values[rows]) for rows in np.split(indices, range(at_once, resamples, at_once))])
    defined = drawn[~np.isnan(drawn)]
    return percentile_interval(defined) if len(defined) >= resamples / 2 else None
