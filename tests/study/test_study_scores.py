"""The numbers of a study against literal re-implementations and other people's libraries."""

import itertools

import numpy as np
import pytest
from scipy import optimize, stats
from statsmodels.stats.inter_rater import cohens_kappa

from cd_exp.study import scores
from cd_exp.study.scores import Votes

NAN = np.nan
KRIPPENDORFF = np.array([  # the example of Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section C
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
])  # fmt: skip


def literal_alpha(table, distance):
    """Observed over expected disagreement, pair by pair."""
    units = [column[~np.isnan(column)] for column in table.T]
    units = [unit for unit in units if len(unit) > 1]
    values = np.concatenate(units)
    observed = sum(
        distance(a, b) / (len(unit) - 1) for unit in units for a, b in itertools.permutations(unit.tolist(), 2)
    ) / len(values)
    expected = sum(distance(a, b) for a, b in itertools.permutations(values.tolist(), 2))
    return 1 - observed / (expected / (len(values) * (len(values) - 1)))


def votes_of(table, classes):
    """A table of raters by tasks, answers from 0, in long form."""
    raters, tasks = np.nonzero(~np.isnan(table))
    return Votes(tasks, raters, table[raters, tasks].astype(int), classes)


def alpha_of(table, level):
    votes = votes_of(table - 1, 5)
    return scores.alpha(scores.answer_counts(votes, count=table.shape[1]), np.arange(1.0, 6), level=level)


def test_alpha_is_that_of_the_literature():
    assert alpha_of(KRIPPENDORFF, "nominal") == pytest.approx(0.743, abs=5e-4)
    assert alpha_of(KRIPPENDORFF, "ordinal") == pytest.approx(0.815, abs=5e-4)
    assert alpha_of(KRIPPENDORFF, "interval") == pytest.approx(0.849, abs=5e-4)


@pytest.mark.parametrize(
    ("level", "distance"), [("nominal", lambda a, b: a != b), ("interval", lambda a, b: (a - b) ** 2)]
)
def test_alpha_is_observed_over_expected_disagreement(level, distance):
    table = np.random.default_rng(0).integers(1, 5, (3, 30)).astype(float)
    table[0, :9] = NAN
    assert alpha_of(table, level) == pytest.approx(literal_alpha(table, distance))


def test_alpha_of_equal_answers_is_unknown():
    assert alpha_of(np.ones((2, 5)), "nominal") is None


def test_share_equal_counts_pairs():
    table = np.random.default_rng(1).integers(0, 3, (4, 20)).astype(float)
    table[2, 5:] = NAN
    pairs = [a == b for column in table.T for a, b in itertools.combinations(column[~np.isnan(column)].tolist(), 2)]
    assert scores.share_equal(scores.answer_counts(votes_of(table, 3), count=20)) == pytest.approx(np.mean(pairs))
    assert scores.share_equal(np.array([[1.0, 0.0]])) is None


def test_kappa_of_two_raters_is_cohens():
    table = np.random.default_rng(2).integers(0, 3, (2, 40)).astype(float)
    table[1, :20] = table[0, :20]
    square = np.zeros((3, 3))
    for a, b in table.T.astype(int):
        square[a, b] += 1
    assert scores.pairwise_kappa(votes_of(table, 3)) == pytest.approx(cohens_kappa(square, return_results=False))
    assert scores.pairwise_kappa(votes_of(table[:, :5], 3)) is None


def test_kappa_of_three_raters_is_the_mean_over_pairs():
    table = np.random.default_rng(3).integers(0, 2, (3, 30)).astype(float)
    pairs = [scores.pairwise_kappa(votes_of(table[[a, b]], 2)) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert scores.pairwise_kappa(votes_of(table, 2)) == pytest.approx(np.mean(pairs))


def literal_dawid_skene(votes, count, steps=200):
    """The same model written out: no arrays over answers, no shortcuts."""
    classes, answers = votes.classes, list(zip(votes.tasks, votes.raters, votes.answers, strict=True))
    posterior = [[1 / classes] * classes for _ in range(count)]
    for task in range(count):
        own = [answer for t, _, answer in answers if t == task]
        posterior[task] = [(own.count(k) + 1 / classes) / (len(own) + 1) for k in range(classes)]
    for _ in range(steps):
        wrong = [1 - posterior[t][a] for t, _, a in answers]
        mean = min(sum(wrong) / len(wrong), (classes - 1) / classes)
        error = {}
        for rater in set(votes.raters.tolist()):
            mine = [w for w, (_, r, _) in zip(wrong, answers, strict=True) if r == rater]
            error[rater] = (sum(mine) + scores.SHRINK * mean) / (len(mine) + scores.SHRINK)
        share = [sum(row[k] for row in posterior) / count for k in range(classes)]
        for task in range(count):
            likelihood = []
            for k in range(classes):
                value = share[k]
                for t, r, a in answers:
                    if t == task:
                        value *= 1 - error[r] if a == k else error[r] / (classes - 1)
                likelihood.append(value)
            posterior[task] = [value / sum(likelihood) for value in likelihood]
    return np.array(posterior), error


def simulated(count, raters, classes, error, rng):
    truth = rng.integers(0, classes, count)
    answers = np.where(
        rng.random((count, raters)) < error,
        (truth[:, None] + rng.integers(1, classes, (count, raters))) % classes,
        truth[:, None],
    )
    return truth, Votes(
        np.repeat(np.arange(count), raters), np.tile(np.arange(raters), count), answers.ravel(), classes
    )


def test_dawid_skene_is_the_model_written_out():
    _, votes = simulated(12, 4, 3, 0.3, np.random.default_rng(0))
    wanted, error = literal_dawid_skene(votes, 12)
    estimate = scores.dawid_skene(votes, count=12)
    assert estimate.posterior == pytest.approx(wanted, abs=1e-3)
    assert estimate.error.tolist() == pytest.approx([error[rater] for rater in range(4)], abs=1e-3)


@pytest.mark.parametrize("error", [0.05, 0.23, 0.35])
def test_dawid_skene_finds_the_error(error):
    truth, votes = simulated(600, 3, 2, error, np.random.default_rng(3))
    estimate = scores.dawid_skene(votes, count=600)
    assert estimate.mean_error == pytest.approx(error, abs=0.03)
    assert (estimate.posterior.argmax(axis=1) == truth).mean() > 0.95 - error**2 * 3


def test_known_answers_stay_known():
    _, votes = simulated(20, 3, 2, 0.4, np.random.default_rng(4))
    truth = np.full(20, -1)
    truth[:5] = 1
    posterior = scores.dawid_skene(votes, count=20, true_classes=truth).posterior
    assert (posterior[:5] == [0, 1]).all()
    assert (posterior[5:] < 1).all()


def test_a_spammer_is_believed_less():
    rng = np.random.default_rng(5)
    _, votes = simulated(200, 5, 2, 0.1, rng)
    answers = votes.answers.copy()
    answers[votes.raters == 4] = rng.integers(0, 2, 200)
    error = scores.dawid_skene(Votes(votes.tasks, votes.raters, answers, 2), count=200).error
    assert error[4] > 0.4
    assert (error[:4] < 0.15).all()


def test_the_correlation_is_that_of_all_images_where_all_are_drawn_evenly():
    rng = np.random.default_rng(6)
    activation = rng.normal(size=500)
    activation = (activation - activation.mean()) / activation.std()
    presence = (activation + rng.normal(size=500) > 1.5).astype(float)
    estimate = scores.weighted_correlation(activation, presence, np.ones(500), np.ones(500, dtype=int))
    assert estimate == pytest.approx(
        np.corrcoef(activation, presence)[0, 1], rel=0.01
    )  # the jackknife takes its bias off


def test_the_correlation_of_uneven_draws_is_that_of_all_images_on_average():
    rng = np.random.default_rng(7)
    activation = rng.normal(size=400) ** 3
    activation = (activation - activation.mean()) / activation.std()
    presence = (activation + rng.normal(size=400) > 1).astype(float)
    probability = 0.8 * np.abs(activation) / np.abs(activation).sum() + 0.2 / 400
    items = []
    for _ in range(300):
        rows = rng.choice(400, 100, p=probability)
        rows, count = np.unique(rows, return_counts=True)
        weight = 1 / (400 * probability[rows])
        items.append(scores.weighted_correlation(activation[rows], presence[rows], weight, count))
    assert np.mean(items) == pytest.approx(np.corrcoef(activation, presence)[0, 1], abs=0.01)


def test_an_image_drawn_twice_is_two_draws():
    activation, presence, weight = (
        np.array([2.0, 2.0, -1.0, 0.3]),
        np.array([0.9, 0.9, 0.2, 0.0]),
        np.array([0.3, 0.3, 2, 1.4]),
    )
    twice = scores.weighted_correlation(activation, presence, weight, np.ones(4, dtype=int))
    once = scores.weighted_correlation(activation[1:], presence[1:], weight[1:], np.array([2, 1, 1]))
    assert once == pytest.approx(twice)


def test_nothing_present_or_everything_has_no_correlation():
    ones, times = np.ones(3), np.ones(3, dtype=int)
    assert scores.weighted_correlation(ones, 0 * ones, ones, times) == 0
    assert scores.weighted_correlation(ones, ones, ones, times) == 0


def test_the_prior_learns_from_answers_where_concepts_are():
    rng = np.random.default_rng(8)
    match = rng.normal(size=900)
    truth = (rng.random(900) < 1 / (1 + np.exp(3 - 2 * match))).astype(int)
    groups = np.repeat([0, 1, 2], 300)
    wrong = rng.random((900, 3)) < 0.23
    votes = Votes(
        np.repeat(np.arange(900), 3), np.tile([0, 1, 2], 900), (truth[:, None] ^ wrong).ravel().astype(int), 2
    )
    prior = scores.presence_prior(match, np.zeros(900), groups)
    pooled = scores.dawid_skene(votes, count=900, prior=prior)
    plain = scores.dawid_skene(votes, count=900)
    assert np.mean((pooled.posterior[:, 1] - truth) ** 2) < 0.8 * np.mean((plain.posterior[:, 1] - truth) ** 2)
    fitted = prior(np.stack([1 - truth, truth], axis=1).astype(float))[:, 1]
    assert np.corrcoef(fitted, 1 / (1 + np.exp(3 - 2 * match)))[0, 1] > 0.98


def test_strengths_are_the_most_likely_ones():
    rng = np.random.default_rng(9)
    wanted = np.array([1.0, 0.2, -0.4, -0.8])
    choices = []
    for _ in range(400):
        options = rng.permutation(4)[:3]
        weights = np.exp(wanted[options])
        taken = int(rng.choice(options, p=weights / weights.sum()))
        choices.append((taken, tuple(int(other) for other in options if other != taken)))

    def loss(free):
        s = np.concatenate([[0], free])
        return -sum(s[taken] - np.log(sum(np.exp(s[other]) for other in (taken, *others))) for taken, others in choices)

    best = np.concatenate([[0], optimize.minimize(loss, np.zeros(3)).x])
    estimate = scores.choice_strengths(choices, count=4)
    assert estimate == pytest.approx(best - best.mean(), abs=0.02)
    assert estimate.mean() == pytest.approx(0)


def test_an_item_that_is_never_chosen_has_a_finite_strength():
    assert np.isfinite(scores.choice_strengths([(0, (1, 2)), (1, (0, 2))], count=3)).all()


def test_the_bootstrap_of_a_constant_is_the_constant():
    values = np.ones((5, 2))
    assert scores.bootstrap_rows(values, lambda v: v.mean((1, 2)), seed=0) == (1, 1)
    assert scores.bootstrap_rows(values, lambda v: np.full(len(v), np.nan), seed=0) is None


def test_orders_of_many_samples_are_those_of_each():
    pairs = np.random.default_rng(3).normal(size=(4, 12, 3, 2))
    pairs[0, 2, 1, 0] = np.nan
    together = scores.mean_rank_correlation(pairs)
    for sample, value in zip(pairs, together, strict=True):
        whole = [split[~np.isnan(split).any(axis=1)].T for split in sample.swapaxes(0, 1)]
        assert value == pytest.approx(np.mean([stats.spearmanr(*split)[0] for split in whole]))
    assert np.isnan(scores.mean_rank_correlation(np.ones((5, 1, 2))))


def test_strengths_of_counts_are_those_of_the_choices():
    rng, samples = np.random.default_rng(10), []
    kinds = [(0, (1, 2)), (1, (0, 2)), (2, (0, 1)), (0, (3,)), (3, (0,)), (1, (3,)), (3, (1,))]
    offered = np.array([[item in (taken, *others) for item in range(4)] for taken, others in kinds])
    counts = rng.integers(5, 60, (3, len(kinds))).astype(float)
    for row in counts.astype(int):
        samples.append(scores.choice_strengths([k for k, n in zip(kinds, row, strict=True) for _ in range(n)], count=4))
    values = scores.strengths_of_counts(counts, np.array([taken for taken, _ in kinds]), offered)
    assert values == pytest.approx(np.array(samples), abs=0.01)
