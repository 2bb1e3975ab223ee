"""Simulated human studies on the built-in synthetic data set, whose masks tell the true answer to every question.

python -m experiments.human_study.simulate RUN presence|methods|spammers [--studies N]

RUN is a finished run on `shapes`. Raters give the true answer with probability 1 - error, otherwise any other alike.

- presence: the correlation of presence and activation from 540 answers per unit and label, against the truth and even
  draws with majority votes; how often intervals over units cover; how well the raters' error is found.
- methods: three methods whose labels are right in .8, .65 and .5 of the units, by *rating* and *choice*: their order,
  power and half-widths against what `plan` said.
- spammers: one of five people per batch answers at random, always the same, or always yes: the shift of a score.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from cd_exp.metrics.intervals import bootstrap_interval
from cd_exp.records import CLIP_DISSECT, Labels
from cd_exp.study import plan as planning
from cd_exp.study import scores
from cd_exp.study.analyse import FIRST, SCORES, Answered, differences, method_table, unit_scores
from cd_exp.study.designs import (
    CANNOT_TELL,
    NONE,
    QUESTIONS,
    Source,
    Trial,
    deal,
    draw_tasks,
    draw_units,
    drawing_probability,
    standardise,
)
from cd_exp.study.make import Plan, Study, draw, open_run, weight_of
from cd_exp.study.read import Answer, StudyFolder, Submission, allowed_answers, judge_submissions

ERROR = 0.23
CATCH_ERROR = 0.05  # error rate of careful raters: trials of known answer are chosen to be clear
RARE = 0.05
IMAGES, RATERS = 180, 3  # 540 answers per unit and label
UNITS = 50
QUALITY = {"first": 0.8, "second": 0.65, "third": 0.5}
METHOD_UNITS = 150
TRIALS = {"rating": 1, "choice": 3}  # per unit: where several descriptions fit, a choice among them says little
PLANNED = 20  # studies that `plan` is asked about: which methods agree differs from one to the next
TOP = 27  # strongest images that planted labels are right or wrong on
SPAM = ("random", "constant", "always yes")


@dataclass(frozen=True, eq=False)
class World:
    """A run with the truth of every label in every image: `shows[text]` is Bool["images"]."""

    source: Source
    shows: Mapping[str, np.ndarray]

    @property
    def labels(self) -> Mapping[str, Labels]:
        return self.source.methods[CLIP_DISSECT]


def opened(folder: Path) -> World:
    run = open_run(folder, (CLIP_DISSECT,), strongest=None)
    rows = list(range(run.source.images))
    texts = {text for labels in run.source.methods[CLIP_DISSECT].values() for text in labels.descriptions}
    presence_of = {text: run.source.annotated(text, rows) for text in sorted(texts)}
    shows = {text: value for text, value in presence_of.items() if value is not None and value.any()}
    activations = {layer: run.source.activations(layer) for layer in run.source.methods[CLIP_DISSECT]}
    strongest = {layer: run.source.strongest(layer, TOP) for layer in activations}
    source = replace(
        run.source,
        annotated=lambda text, chosen: shows[text][list(chosen)] if text in shows else None,
        activations=activations.__getitem__,
        strongest=lambda layer, count: strongest[layer][:, :count],
    )
    return World(source, shows)


# Presence ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RareUnit:
    """A unit whose label is rare: `shows`, and as `make` has them its activation, match and drawing probability.

    Computed once for all studies: standardising anew for each took half of the time.
    """

    correlation: float
    shows: np.ndarray
    raw: np.ndarray
    activation: np.ndarray
    match: np.ndarray
    probability: np.ndarray

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The rows drawn for one study, with replacement, and how often each was."""
        return np.unique(rng.choice(len(self.shows), IMAGES, p=self.probability), return_counts=True)


def rare_units(world: World) -> list[RareUnit]:
    """Units whose label is on at most 5 % of the images."""
    units = []
    for layer, labels in world.labels.items():
        activations = world.source.activations(layer)
        for unit, text in zip(labels.units.tolist(), labels.descriptions, strict=True):
            shown, raw = world.shows.get(text), activations[:, unit]
            if shown is not None and 0 < shown.mean() <= RARE:
                activation, match = standardise(raw), standardise(world.source.match(text))
                correlation = float(np.corrcoef(raw, shown)[0, 1])
                probability = drawing_probability(activation, match)
                units.append(RareUnit(correlation, shown, raw, activation, match, probability))
    return units


def presence_study(
    units: Sequence[RareUnit], error: float, rng: np.random.Generator
) -> tuple[np.ndarray, float, float]:
    """One study of these units (a unit may come twice): what `make` draws, answered, and what `analyse` computes.

    Returns:
        The correlation of each unit, the estimated error of the raters, and answers per unit.
    """
    drawn = [unit.draw(rng) for unit in units]
    groups = np.repeat(np.arange(len(units)), [len(rows) for rows, _ in drawn])

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(unit, name)[rows] for unit, (rows, _) in zip(units, drawn, strict=True)])

    weight = 1 / (len(units[0].shows) * column("probability"))
    count = np.concatenate([times for _, times in drawn])
    tasks = scores.PresenceTasks(column("match"), column("activation"), weight, count, groups)
    answers = simulate_presence(column("shows"), error, rng)
    batch = rng.permutation(len(groups)) // 15
    people = batch[:, None] * RATERS + np.arange(RATERS)
    votes = scores.Votes(np.repeat(np.arange(len(groups)), RATERS), people.ravel(), answers.ravel(), 2)
    values, pooled = scores.presence_correlations(votes, tasks)
    return values, pooled.mean_error, len(votes) / len(units)


def simulate_presence(shows: np.ndarray, error: float, rng: np.random.Generator) -> np.ndarray:
    """The answers of `RATERS` people to each image, 1 for yes."""
    return planning.simulate_answers(shows.astype(int), np.full(len(shows), 2), raters=RATERS, error=error, rng=rng)


def even_majority(units: Sequence[RareUnit], error: float, rng: np.random.Generator) -> np.ndarray:
    """The same number of answers about evenly drawn images, pooled by the majority of three."""
    values = []
    for unit in units:
        rows = rng.integers(0, len(unit.shows), IMAGES)
        said = (simulate_presence(unit.shows[rows], error, rng).mean(axis=1) > 0.5).astype(float)
        varies = said.std() > 0 and unit.raw[rows].std() > 0
        values.append(float(np.corrcoef(said, unit.raw[rows])[0, 1]) if varies else 0.0)
    return np.array(values)


def presence(world: World, studies: int, seed: int) -> dict[str, float]:
    units = rare_units(world)
    population = float(np.mean([unit.correlation for unit in units]))
    rng, rows = np.random.default_rng(seed), []
    for number in range(studies):
        chosen = [units[index] for index in rng.integers(0, len(units), UNITS)]  # a sample of a population
        wanted = np.array([unit.correlation for unit in chosen])
        values, error, answers = presence_study(chosen, ERROR, rng)
        interval = bootstrap_interval(values, seed=number, resamples=1999)
        row = {
            "error": np.mean(np.abs(values - wanted) / np.abs(wanted)),
            "bias": np.mean(values - wanted),
            "rater_error": error,
            "covered": interval[0] <= population <= interval[1],
            "half": (interval[1] - interval[0]) / 2,
            "answers": answers,
        }
        if number < 200:
            even = even_majority(chosen, ERROR, rng)
            row["even_error"] = np.mean(np.abs(even - wanted) / np.abs(wanted))
        rows.append(row)
        if number + 1 in (20, 200) or (number + 1) % 250 == 0:
            print(number + 1, summary(rows), flush=True)
    return {"units": len(units), "mean truth": population, **summary(rows)}


def summary(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    first = rows[:200]
    numbers = {
        name: float(np.mean([row[name] for row in rows])) for name in rows[0] if name not in ("error", "even_error")
    }
    return numbers | {name: float(np.mean([row[name] for row in first])) for name in ("error", "even_error")}


# Methods -------------------------------------------------------------------------------------------------------------


def planted(world: World, rng: np.random.Generator) -> Source:
    """Methods whose label is right with their quality: on 8 in 9 of a unit's strongest images, otherwise on none."""
    by_method: dict[str, dict[str, Labels]] = {name: {} for name in QUALITY}
    names = sorted(world.shows)
    for layer, labels in world.labels.items():
        top = world.source.strongest(layer, TOP)
        share = np.stack([world.shows[name][top].mean(axis=1) for name in names], axis=1)
        kept = [row for row in range(len(top)) if share[row].max() >= 8 / 9]
        for method, quality in QUALITY.items():
            texts = []
            for row in kept:
                right = rng.random() < quality
                choice = share[row] == share[row].max() if right else share[row] == 0
                texts.append((names[int(rng.choice(np.flatnonzero(choice)))],))
            by_method[method][layer] = Labels(layer, labels.units[kept], tuple(texts), np.zeros(len(kept)))
    return replace(world.source, methods=by_method)


def true_answer(world: World, design: str, trial: Trial, rng: np.random.Generator) -> str:
    """What somebody who never errs answers."""
    if trial.kind == "catch":
        return str(rng.choice(trial.key["accept"]))
    rows = list(trial.images)
    if design == "rating":
        return str(1 + round(4 * float(world.shows[trial.texts[0]][rows].mean())))
    if design == "presence":
        return "yes" if world.shows[trial.texts[0]][rows[0]] else "no"
    share = [float(world.shows[text][rows].mean()) for text in trial.texts]
    best = [index for index, value in enumerate(share) if value == max(share)]
    return NONE if max(share) < 0.5 else str(rng.choice(best))


def spam(kind: str, allowed: Sequence[str], rng: np.random.Generator) -> tuple[str, int]:
    """The answer of somebody who does not look, and where it stands on the screen."""
    if kind == "random":
        index = int(rng.integers(len(allowed)))
    else:
        index = 0 if kind == "always yes" and "yes" in allowed else 4 if kind == "always yes" and "5" in allowed else 1
    return allowed[index], index


def files_of(world: World, study: Study) -> StudyFolder:
    """What `make` would write of a study, in memory."""
    trials = {t.id: {"kind": t.kind, "texts": t.texts, "images": t.images, **t.key} for t in study.trials}
    weights = {t.id: weight_of(t, images=world.source.images) for t in study.tasks if study.plan.design == "presence"}
    about = {"design": study.plan.design, "weights": weights, "seed": 0}
    return StudyFolder(Path(), about, {"trials": trials, "salt": "", "methods": list(QUALITY)})


def answered(
    world: World, study: Study, rng: np.random.Generator, *, people: Sequence[int], catch_error: float,
    spammer: str | None = None,
) -> list[Submission]:  # fmt: skip
    """One submission per batch and person: of careful people, or of spammers."""
    design, trials = study.plan.design, {trial.id: trial for trial in study.trials}
    submissions = []
    for number, batch in enumerate(study.batches, 1):
        for person in people:
            answers = []
            for trial in (trials[trial_id] for trial_id in batch):
                allowed = allowed_answers(design, {"texts": trial.texts, "images": trial.images})
                if spammer is not None:
                    value, index = spam(spammer, allowed, rng)
                else:
                    value = true_answer(world, design, trial, rng)
                    error = catch_error if trial.kind == "catch" else ERROR
                    if rng.random() < error:
                        options = [one for one in allowed if one not in (value, CANNOT_TELL)]
                        value = options[rng.integers(len(options))]
                    index = int(rng.integers(len(allowed))) if design == "choice" else allowed.index(value)
                answers.append(Answer(trial.id, value, index, 5000))
            submissions.append(Submission(f"{number}-{person}", number, "", tuple(answers), ""))
    return submissions


def tasks_alone(source: Source, plan: Plan) -> Study:
    """What `make` draws, without trials of known answer: nobody is dropped here, and these cost most of the time."""
    rng = np.random.default_rng(plan.seed)
    units = draw_units(source, plan.units, rng=rng)
    tasks = draw_tasks(plan.design, source, units, per_unit=plan.trials, images=plan.shown, rng=rng)
    return Study(plan, units, tasks, (), (), deal(tasks, (), batch=plan.batch, rng=rng), "")


def methods(world: World, studies: int, seed: int, design: str) -> dict[str, Any]:
    """Order, power and half-widths over many studies, beside the mean of what `plan` says of the first of them."""
    rng, names = np.random.default_rng(seed), list(QUALITY)
    pairs = list(combinations(names, 2))
    order, power, halves, errors, planned = [], [], [], [], []
    for number in range(studies):
        source = planted(world, rng)
        study = tasks_alone(
            source, Plan(design, units=METHOD_UNITS, per_unit=TRIALS[design], seed=1000 * seed + number)
        )
        if number < PLANNED:
            planned.append(planning.outlook(study, source, error=ERROR, quality=QUALITY, seed=seed + number))
        submissions = answered(world, study, rng, people=range(RATERS), catch_error=CATCH_ERROR)
        of_all = Answered.of(files_of(world, study), submissions)
        values = unit_scores(of_all)[FIRST[design]]
        table = [row for row in method_table({FIRST[design]: values}, names, seed=number) if not row["layer"]]
        means = [row["mean"] for row in table]
        order.append(means[0] > means[1] > means[2])
        halves.append([(row["ci95"][1] - row["ci95"][0]) / 2 for row in table])
        power.append([row["difference_p_adjusted"] <= 0.05 for row in differences(values, names, seed=number)])
        tasks, votes = of_all.votes()
        errors.append(scores.dawid_skene(votes, count=len(tasks)).mean_error)
    powers = np.array([list(outlook.power.values()) for outlook in planned])
    half_widths = np.array([list(outlook.half_width.values()) for outlook in planned])
    return {
        "units": len(study.units),
        "right order": float(np.mean(order)),
        "power": _named(pairs, np.mean(power, axis=0)),
        "power by plan": _named(pairs, powers.mean(axis=0)),
        "of single plans": [_named(pairs, powers.min(axis=0)), _named(pairs, powers.max(axis=0))],
        "half-width": _named(names, np.mean(halves, axis=0)),
        "half-width by plan": _named(names, half_widths.mean(axis=0)),
        "rater error": float(np.mean(errors)),
    }


def _named(names: Sequence[Any], values: np.ndarray) -> dict[Any, float]:
    return dict(zip(names, values.round(4).tolist(), strict=True))


# Spammers ------------------------------------------------------------------------------------------------------------


def spammers(world: World, studies: int, seed: int, design: str, catch_error: float) -> dict[str, Any]:
    """The mean shift of the first method's scores that one spammer among five makes, without rules and after them."""
    rng = np.random.default_rng(seed)
    shifts: dict[str, list[Any]] = {kind: [] for kind in SPAM}
    dropped: dict[str, list[float]] = {kind: [] for kind in (*SPAM, "careful")}
    for number in range(studies):
        if design == "presence":  # small studies: it is the rules that are tried
            source = replace(world.source, methods={"first": known_labels(world)})
            plan = Plan("presence", units=10, raters=5, per_unit=30, seed=seed + number)
        else:
            source, plan = planted(world, rng), Plan(design, units=30, raters=5, seed=seed + number)
        study = draw(source, plan)
        files = files_of(world, study)
        careful = judge_submissions(files, answered(world, study, rng, people=range(5), catch_error=catch_error))
        dropped["careful"].append(np.mean([bool(one.dropped) for one in careful]))
        wanted = means_of(files, careful)
        others = [one for one in careful if one.batch and not _is_last(careful, one)]
        for kind in SPAM:
            spam_rows = judge_submissions(
                files, answered(world, study, rng, people=[9], catch_error=catch_error, spammer=kind)
            )
            without = means_of(files, [*others, *spam_rows])
            after = means_of(files, [one for one in (*others, *spam_rows) if not one.dropped])
            shifts[kind].append([[without[name] - wanted[name], after[name] - wanted[name]] for name in wanted])
            dropped[kind].append(np.mean([bool(one.dropped) for one in spam_rows]))
        if (number + 1) % 50 == 0:
            print(
                design,
                number + 1,
                {kind: np.mean(rows, axis=0).round(4).tolist() for kind, rows in shifts.items()},
                flush=True,
            )
    numbers: dict[str, Any] = {"dropped": {kind: float(np.mean(values)) for kind, values in dropped.items()}}
    for kind, rows in shifts.items():
        mean, error = np.mean(rows, axis=0), np.std(rows, axis=0) / np.sqrt(studies)
        for index, name in enumerate(SCORES[design]):
            numbers[f"{kind}, {name}"] = {"no rules": mean[index][0], "after": mean[index][1], "se": error[index][1]}
    return numbers


def _is_last(submissions: Sequence[Submission], one: Submission) -> bool:
    """Whether it is the fifth of its batch, whose place the spammer takes."""
    return [other for other in submissions if other.batch == one.batch][-1] is one


def known_labels(world: World) -> dict[str, Labels]:
    """The run's own labels of the units whose label the masks know."""
    by_design = {}
    for layer, labels in world.labels.items():
        kept = [row for row, text in enumerate(labels.descriptions) if text in world.shows]
        by_design[layer] = Labels(
            layer, labels.units[kept], tuple(labels.top[row] for row in kept), labels.similarity[kept]
        )
    return by_design


def means_of(files: StudyFolder, submissions: Sequence[Submission]) -> dict[str, float]:
    """The first method's mean of each score."""
    values = unit_scores(Answered.of(files, submissions))
    return {
        name: float(np.mean([v for key, v in by_key.items() if key[2] == "first"])) for name, by_key in values.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("what", choices=("presence", "methods", "spammers"))
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--design", choices=tuple(QUESTIONS))
    parser.add_argument("--catch-error", type=float, default=CATCH_ERROR)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    world = opened(options.run)
    work: dict[str, Callable[..., dict[str, Any]]] = {"methods": methods, "spammers": spammers}
    if options.what == "presence":
        print(presence(world, options.studies, options.seed))
        return
    more = (options.catch_error,) if options.what == "spammers" else ()
    for design in [options.design] if options.design else ["rating", "choice", *(["presence"] if more else [])]:
        print(design, work[options.what](world, options.studies, options.seed, design, *more), flush=True)


if __name__ == "__main__":
    main()
