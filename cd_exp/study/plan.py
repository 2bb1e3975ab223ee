"""`plan`: what a study costs and what it can show, before a cent is spent.

Raters are simulated on the tasks that `make` would draw: each answer is the true one with probability 1 -
error, and otherwise any other alike. What is true is assumed: a description fits its unit with the method's quality,
and of *presence* a concept is on the images of highest match.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from cd_exp.io.atomic import write_file
from cd_exp.metrics.intervals import LEVEL
from cd_exp.metrics.significance import compare_means, holm_adjust
from cd_exp.study import scores
from cd_exp.study.designs import CANNOT_TELL, NONE, Source, Trial, deal
from cd_exp.study.make import Study, weight_of
from cd_exp.study.read import CATCH_RIGHT, StudyFolder, allowed_answers, fnv, open_study

ERRORS = (0.1, 0.23, 0.3)
SECONDS = {"rating": 12.0, "presence": 5.0, "choice": 15.0, "intruder": 12.0}
"""Assumed for one question; give your own once a pilot has measured them."""
INTRODUCTION = 90.0  # seconds of consent, instructions and practice
BEST, STEP = 0.65, 0.15  # assumed quality of the first method, and how much less each further one has
STUDIES = {"presence": 20}  # simulated; of the other designs:
MANY_STUDIES = 200
CONCEPT_SHARE = 0.02  # share of the images that show a concept, in simulated presence
TEST_RESAMPLES = 999

Chances = dict[tuple[str, int, str], float]
"""How likely a description fits, by layer, unit and description."""


@dataclass(frozen=True)
class Outlook:
    """What is expected at one rater error: of each method the half-width of its interval, of each pair the power."""

    error: float
    half_width: Mapping[str, float]
    power: Mapping[tuple[str, str], float]
    careful_dropped: float


def costs(study: Study, *, price: float, seconds: float | None = None) -> dict[str, int | float]:
    """Answers, people, minutes of one person, and money.

    Args:
        study: as drawn.
        price: of one batch, answered by one person.
        seconds: per question; None for what is assumed.
    """
    plan, submissions = study.plan, len(study.batches) * study.plan.raters
    questions = sum(map(len, study.batches)) * plan.raters
    each = SECONDS[plan.design] if seconds is None else seconds
    return {
        "units": len(study.units),
        "tasks": len(study.tasks),
        "batches": len(study.batches),
        "submissions": submissions,
        "answers": questions,
        "answers_to_tasks": len(study.tasks) * plan.raters,
        "minutes_per_batch": (INTRODUCTION + each * questions / submissions) / 60,
        "cost": price * submissions,
    }


def outlook(
    study: Study,
    source: Source,
    *,
    error: float,
    quality: Mapping[str, float],
    seed: int,
    studies: int | None = None,
) -> Outlook:
    """Simulate the study many times and count.

    Args:
        study: as drawn.
        source: what it was drawn from; *presence* reads its matches.
        error: of every rater.
        quality: of each method, how often its description fits; not used by *presence*.
        seed: of all draws.
        studies: how many are simulated; None for 200, of *presence* 20.
    """
    rng = np.random.default_rng(seed)
    count = studies or STUDIES.get(study.plan.design, MANY_STUDIES)
    design = study.plan.design
    chances = {} if design in ("presence", "intruder") else fit_chances(study, quality)
    simulated = []
    for _ in range(count):
        drawn, fitting = redraw_units(study, chances, rng)
        if design == "presence":
            simulated.append(_presence(drawn, source, error, rng))
        else:
            simulate = {"rating": _rating, "choice": _choice, "intruder": _intruder}[design]
            simulated.append(simulate(drawn, error, quality, fitting, rng))
    methods = list(simulated[0])
    half = {name: float(np.mean([half_width(drawn[name]) for drawn in simulated])) for name in methods}
    pairs = list(combinations(methods, 2))
    rejected = np.array([_reject_pairs(drawn, pairs, seed) for drawn in simulated]).reshape(count, len(pairs))
    power = dict(zip(pairs, rejected.mean(axis=0).tolist(), strict=True))
    return Outlook(error, half, power, careful_dropped(study.plan.catch, error))


def redraw_units(study: Study, chances: Chances, rng: np.random.Generator) -> tuple[Study, Chances]:
    """The study with as many units drawn with replacement from its own, each copy a unit for itself, dealt anew.

    A test over units speaks of units like these, so a simulated study has others too. With the same units in all of
    them, means vary less than the test allows for, and a pair's power hangs on which units were drawn: sets of labels
    of equal quality gave .57 and .95 for a pair that 59 % of studies tell apart.

    Args:
        study: as drawn.
        chances: that each description fits; copied with the units.
        rng: draws.
    """
    tasks_of: dict[tuple[str, int], list[Trial]] = {}
    for trial in study.tasks:
        tasks_of.setdefault((trial.key["layer"], trial.key["unit"]), []).append(trial)
    units, tasks, copied = [], [], Chances()
    for copy, index in enumerate(rng.integers(0, len(study.units), len(study.units)).tolist()):
        unit = study.units[index]
        layer = f"{copy}/{unit.layer}"
        units.append(replace(unit, layer=layer))
        for trial in tasks_of.get((unit.layer, unit.unit), []):
            tasks.append(replace(trial, id=f"{copy}-{trial.id}", key={**trial.key, "layer": layer}))
            copied |= {
                (layer, unit.unit, text): chances[unit.layer, unit.unit, text]
                for text in trial.texts
                if (unit.layer, unit.unit, text) in chances
            }
    batches = deal(tasks, (), batch=study.plan.batch, rng=rng)
    return replace(study, units=units, tasks=tasks, batches=batches), copied


def half_width(values: Float[np.ndarray, " units"]) -> float:
    """Half of the 95 % interval of a mean over units, by its standard error; NaN are units without the method."""
    from scipy.special import ndtri

    present = values[~np.isnan(values)]
    return (
        float(ndtri((1 + LEVEL) / 2) * present.std(ddof=1) / np.sqrt(len(present)))
        if len(present) > 1
        else float("nan")
    )


def _reject_pairs(values: Mapping[str, np.ndarray], pairs: Sequence[tuple[str, str]], seed: int) -> list[bool]:
    tests = []
    for first, second in pairs:
        both = ~np.isnan(values[first]) & ~np.isnan(values[second])
        test = compare_means(values[first][both], values[second][both], seed=seed, resamples=TEST_RESAMPLES)
        tests.append(test.p)
    return [p <= 1 - LEVEL for p in holm_adjust(tests)] if tests else []


def careful_dropped(catch: int, error: float) -> float:
    """How often the catch rule drops somebody who errs on catch trials as often as on tasks.

    >>> round(careful_dropped(10, 0.05), 3), round(careful_dropped(10, 0.23), 2)
    (0.012, 0.41)
    """
    from scipy.special import bdtr

    return float(bdtr(int(np.ceil(CATCH_RIGHT * catch - 1e-9)) - 1, catch, 1 - error))


def simulate_answers(
    truth: Int[np.ndarray, " tasks"], options: Int[np.ndarray, " tasks"], *, raters: int, error: float,
    rng: np.random.Generator,
) -> Int[np.ndarray, "tasks raters"]:  # fmt: skip
    """Answers that are the truth with probability 1 - error, and otherwise any other of the options alike."""
    size = (len(truth), raters)
    wrong = rng.integers(0, np.broadcast_to((options - 1)[:, None], size))
    wrong = wrong + (wrong >= truth[:, None])
    return np.where(rng.random(size) < error, wrong, truth[:, None])


def _unit_numbers(study: Study) -> dict[tuple[str, int], int]:
    return {(unit.layer, unit.unit): number for number, unit in enumerate(study.units)}


def _average_by_unit(
    study: Study, values: np.ndarray, tasks: np.ndarray, methods: Sequence[str], who: np.ndarray
) -> dict[str, Any]:
    """Values of (task, method) averaged by unit and method; NaN where a unit has none."""
    numbers = _unit_numbers(study)
    units = np.array([numbers[trial.key["layer"], trial.key["unit"]] for trial in study.tasks])[tasks]
    by_method = {}
    for number, name in enumerate(methods):
        chosen = who == number
        total = np.bincount(units[chosen], values[chosen], minlength=len(numbers))
        times = np.bincount(units[chosen], minlength=len(numbers))
        by_method[name] = np.where(times > 0, total / np.maximum(times, 1), np.nan)
    return by_method


def fit_chances(study: Study, quality: Mapping[str, float]) -> Chances:
    """How likely each description of each unit fits, so that every method's mean over units is its quality.

    Methods that agree are mostly right, and where two agree a third that says something else is mostly wrong: a
    description that several give fits as surely as their qualities allow, and the others of a method as often as is
    left for them, first in units where no such description stands against them. With one chance for all, methods
    that agree in half of the units would differ by half as much as assumed.

    Args:
        study: as drawn.
        quality: of each method.
    """
    units = len(study.units)
    givers = {
        (trial.key["layer"], trial.key["unit"], text): methods
        for trial in study.tasks
        for text, methods in zip(trial.texts, trial.key.get("options", [trial.key["methods"]]), strict=True)
    }
    shared = {m: sum(len(by) > 1 and m in by for by in givers.values()) / units for m in quality}
    chances = {key: min(min(1.0, quality[m] / shared[m]) for m in by) for key, by in givers.items() if len(by) > 1}
    left: dict[tuple[str, int], float] = {}  # how likely none of the shared descriptions fits each unit
    for (layer, unit, _), chance in chances.items():
        left[layer, unit] = max(0.0, left.get((layer, unit), 1.0) - chance)
    for method, wanted in quality.items():
        alone = [key for key, by in givers.items() if by == [method]]
        reached = sum(chance for key, chance in chances.items() if method in givers[key])
        room = np.array([left.get(key[:2], 1.0) for key in alone])
        chances |= dict(zip(alone, _fill(room, wanted * units - reached).tolist(), strict=True))
    return {key: chances.get(key, 0.0) for key in givers}


def _fill(room: Float[np.ndarray, " descriptions"], total: float) -> Float[np.ndarray, " descriptions"]:
    """Chances that add up to `total`: shares of each one's room, and beyond it shares of what is left up to 1."""
    within = float(room.sum())
    if total <= within:
        return room * max(0.0, total) / within if within else room
    beyond = float((1 - room).sum())
    return room + (1 - room) * min(1.0, (total - within) / beyond) if beyond else room


def _fits(chances: Chances, rng: np.random.Generator) -> dict[tuple[str, int, str], bool]:
    """Which descriptions fit: different ones of a unit in different studies, as far as their chances allow.

    That two methods are right in different words is rare, and to assume it often would promise too much power.
    """
    drawn: dict[tuple[str, int], float] = {}
    fits = {}
    for (layer, unit, text), chance in chances.items():
        start = drawn.setdefault((layer, unit), float(rng.random()))
        fits[layer, unit, text] = start < chance
        drawn[layer, unit] = (start - chance) % 1.0
    return fits


def _rating(
    study: Study, error: float, quality: Mapping[str, float], chances: Chances, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """A description that fits is a 5, another a 1."""
    fits = _fits(chances, rng)
    truth = np.array([4 if fits[t.key["layer"], t.key["unit"], t.texts[0]] else 0 for t in study.tasks])
    options = np.full(len(truth), 5)
    means = 1 + simulate_answers(truth, options, raters=study.plan.raters, error=error, rng=rng).mean(axis=1)
    methods = list(quality)
    pairs = [(number, methods.index(name)) for number, t in enumerate(study.tasks) for name in t.key["methods"]]
    tasks, who = np.array(pairs).T
    return _average_by_unit(study, means[tasks], tasks, methods, who)


def _choice(
    study: Study, error: float, quality: Mapping[str, float], chances: Chances, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """The true choice is any of the descriptions that fit, or none of them."""
    fits = _fits(chances, rng)
    truth = []
    for trial in study.tasks:
        good = [i for i, text in enumerate(trial.texts) if fits[trial.key["layer"], trial.key["unit"], text]]
        truth.append(int(rng.choice(good)) if good else len(trial.texts))
    options = np.array([len(trial.texts) + 1 for trial in study.tasks])
    answers = simulate_answers(np.array(truth), options, raters=study.plan.raters, error=error, rng=rng)
    methods = list(quality)
    rows = [
        (number, methods.index(name), position)
        for number, trial in enumerate(study.tasks)
        for position, names in enumerate(trial.key["options"])
        for name in names
    ]
    tasks, who, positions = np.array(rows).T
    return _average_by_unit(study, (answers[tasks] == positions[:, None]).mean(axis=1), tasks, methods, who)


def _intruder(
    study: Study, error: float, quality: Mapping[str, float], chances: Chances, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """In a share of the units, the first method's quality, the images say which one is the intruder."""
    del chances
    best = next(iter(quality.values()))
    numbers = _unit_numbers(study)
    clear = rng.random(len(numbers)) < best
    of_unit = np.array([numbers[t.key["layer"], t.key["unit"]] for t in study.tasks])
    shown = study.plan.shown
    truth = np.where(clear[of_unit], 0, rng.integers(0, shown, len(of_unit)))
    answers = simulate_answers(truth, np.full(len(truth), shown), raters=study.plan.raters, error=error, rng=rng)
    hits = (answers == 0).mean(axis=1)
    return _average_by_unit(study, hits, np.arange(len(hits)), [""], np.zeros(len(hits), dtype=int))


def _presence(study: Study, source: Source, error: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A concept is on the images whose match is among the highest `CONCEPT_SHARE`; answers pooled as `analyse` does."""
    texts = {trial.texts[0] for trial in study.tasks}
    least = {text: float(np.quantile(source.match(text), 1 - CONCEPT_SHARE)) for text in texts}
    truth = np.array([int(source.match(t.texts[0])[t.images[0]] >= least[t.texts[0]]) for t in study.tasks])
    answers = simulate_answers(truth, np.full(len(truth), 2), raters=study.plan.raters, error=error, rng=rng)
    pairs, _ = presence_scores(study, answers, images=source.images)
    units = _unit_numbers(study)
    by_method = {name: np.full(len(units), np.nan) for name in source.methods}
    methods = {(t.key["layer"], t.key["unit"], t.texts[0]): t.key["methods"] for t in study.tasks}
    for (layer, unit, text), value in pairs.items():
        for name in methods[layer, unit, text]:
            by_method[name][units[layer, unit]] = value
    return by_method


def presence_scores(
    study: Study, answers: Int[np.ndarray, "tasks raters"], *, images: int
) -> tuple[dict[tuple[str, int, str], float], float]:
    """The correlation of each unit and description from answers to all tasks, and how often raters are wrong.

    Args:
        study: of *presence*.
        answers: 1 for yes; each column of a batch is one person.
        images: how many the run has.
    """
    tasks, raters = study.tasks, answers.shape[1]
    number = {trial.id: index for index, trial in enumerate(tasks)}
    batch = np.zeros(len(tasks), dtype=np.int64)
    for index, ids in enumerate(study.batches):
        batch[[number[trial_id] for trial_id in ids if trial_id in number]] = index
    people = batch[:, None] * raters + np.arange(raters)
    votes = scores.Votes(np.repeat(np.arange(len(tasks)), raters), people.ravel(), answers.ravel(), 2)
    names = [(t.key["layer"], t.key["unit"], t.texts[0]) for t in tasks]
    place_of = {name: index for index, name in enumerate(dict.fromkeys(names))}
    columns = {name: np.array([t.key[name] for t in tasks]) for name in ("match", "activation", "count")}
    presence = scores.PresenceTasks(
        **columns,
        weight=np.array([weight_of(trial, images=images) for trial in tasks]),
        groups=np.array([place_of[name] for name in names]),
    )
    values, pooled = scores.presence_correlations(votes, presence)
    return dict(zip(place_of, values.tolist(), strict=True)), pooled.mean_error


def assume_quality(methods: Sequence[str], chosen: Sequence[float] = ()) -> dict[str, float]:
    """What is assumed where nothing is given: .65 for the first method, .15 less for each further one, at least .05."""
    return {
        name: chosen[rank] if rank < len(chosen) else max(0.05, BEST - STEP * rank) for rank, name in enumerate(methods)
    }


# A rehearsal ---------------------------------------------------------------------------------------------------------


def rehearse(
    folder: Path, out: Path, *, error: float = 0.1, quality: Mapping[str, float] | None = None, seed: int = 0
) -> list[Path]:
    """Files of answers as the page saves them, by simulated people: to try `read` and `analyse` before a study
    runs.

    What is true is made up: a description fits with its method's quality, a concept is in an image that matches
    it by more than two standard deviations, and the intruder is the intruder. Trials of known
    answer are answered with a quarter of the error.

    Args:
        folder: of the study.
        out: where the files go.
        error: of every rater.
        quality: of each method; as `plan` assumes where left out.
        seed: of all draws.
    """
    study, rng = open_study(folder), np.random.default_rng(seed)
    assumed = dict(quality or assume_quality(study.key["methods"]))
    fits: dict[tuple[str, int, str], bool] = {}
    paths = []
    for number, batch in enumerate(study.study["batches"], 1):
        for person in range(study.study["raters"]):
            answers = [_invent_answer(study, trial_id, fits, assumed, error, rng) for trial_id in batch]
            paths.append(out / f"answers-{number}-{person}.json")
            write_file(paths[-1], json.dumps(_answers_file(study, number, f"rehearsal-{number}-{person}", answers)))
    return paths


def _answers_file(study: StudyFolder, batch: int, rater: str, answers: list[dict[str, Any]]) -> dict[str, Any]:
    line = ";".join(f"{a['task']},{a['answer']},{a['position']},{a['ms']}" for a in answers)
    return {
        "schema": 1,
        "study": study.study["study"],
        "batch": batch,
        "rater": {"anonymous": rater},
        "started": f"2000-01-01T00:00:{batch % 60:02d}.000Z",
        "finished": "2000-01-01T01:00:00.000Z",
        "reloads": 0,
        "answers": answers,
        "check": f"{fnv(line):08x}",
    }


def _invent_answer(
    study: StudyFolder, trial_id: str, fits: dict[Any, bool], quality: Mapping[str, float], error: float,
    rng: np.random.Generator,
) -> dict[str, Any]:  # fmt: skip
    trial = study.trials[trial_id]
    allowed = allowed_answers(study.design, trial)
    if trial["kind"] == "catch":
        value, wrong = str(rng.choice([str(option) for option in trial["accept"]])), error / 4
    else:
        value, wrong = _invent_truth(study.design, trial, fits, quality, rng), error
    others = [option for option in allowed if option not in (value, CANNOT_TELL)]
    value = str(rng.choice(others)) if rng.random() < wrong else value
    position = int(rng.integers(len(allowed))) if study.design == "choice" else allowed.index(value)
    return {"task": trial_id, "answer": value, "position": position, "ms": int(rng.integers(2000, 9000))}


def _invent_truth(
    design: str, trial: Mapping[str, Any], fits: dict[Any, bool], quality: Mapping[str, float], rng: np.random.Generator
) -> str:
    if design == "presence":
        return "yes" if trial["match"] > 2 else "no"
    if design == "intruder":
        return str(trial["intruder"])
    good = []
    for position, (text, methods) in enumerate(
        zip(trial["texts"], trial.get("options", [trial["methods"]]), strict=True)
    ):
        key = (trial["layer"], trial["unit"], text)
        if key not in fits:
            fits[key] = bool(methods) and rng.random() < quality[methods[0]]
        good += [position] if fits[key] else []
    if design == "rating":
        return str(rng.choice([4, 5] if good else [1, 2]))
    return str(rng.choice(good)) if good else NONE
