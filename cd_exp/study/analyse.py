"""`analyse`: what the answers say of each method and unit, with intervals, under each exclusion rule beside none.

And the figures of it: methods with their intervals, and what orders units as people do.
"""

import base64
import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from cd_exp.errors import InputError
from cd_exp.io.atomic import write_file
from cd_exp.io.digests import update_digests
from cd_exp.io.text import cut_text, format_csv, make_file_name
from cd_exp.metrics import adjust_p_values
from cd_exp.metrics.intervals import bootstrap_interval
from cd_exp.metrics.significance import compare_means
from cd_exp.records import CLIP_DISSECT
from cd_exp.results.image_strips import encode_png, render_figure
from cd_exp.results.plots import COLOURS, GRID, WIDEST, new_plot
from cd_exp.study import scores
from cd_exp.study.designs import CANNOT_TELL, NONE
from cd_exp.study.read import RULES, StudyFolder, Submission, allowed_answers, catch_right
from cd_exp.study.scores import Votes

Key = tuple[str, int, str]
"""Layer, unit and method; the method is empty where a score belongs to the unit alone (*intruder*)."""
UnitScores = dict[str, dict[Key, float]]
"""By the name of the score."""

SCORES = {
    "rating": {"rating": "mean rating, 1 to 5", "fits": "share of ratings of at least 4"},
    "presence": {"presence": "correlation of presence and activation"},
    "choice": {"chosen": "share of choices"},
    "intruder": {"intruder": "share of intruders recognised"},
}
FIRST = {design: next(iter(names)) for design, names in SCORES.items()}
"""The score of each design that tests and orders are made of."""
LEVELS: dict[str, tuple[scores.Level, ...]] = {
    "rating": ("interval", "ordinal"),
    "presence": ("nominal",),
    "choice": ("nominal",),
    "intruder": ("nominal",),
}
FITS = 4
RESAMPLES = 9999
SPLITS = {"presence": 4}  # splits of the raters into halves; of other designs, whose scores cost nothing:
MANY_SPLITS = 25
OF_NOTHING = ("none of them", "another unit's")
"""What a choice may fall on beside methods."""


@dataclass(frozen=True)
class Answered:
    """All kept answers to tasks: `(submission, task, answer)`, submissions counted from 0."""

    study: StudyFolder
    rows: Sequence[tuple[int, str, str]]

    @staticmethod
    def of(study: StudyFolder, submissions: Sequence[Submission]) -> "Answered":
        """Those of these submissions; one submission is one rater, who may have sent several."""
        raters = {
            name: number for number, name in enumerate(dict.fromkeys(submission.rater for submission in submissions))
        }
        rows = [
            (raters[submission.rater], answer.task, answer.answer)
            for submission in submissions
            for answer in submission.answers
            if study.trials[answer.task]["kind"] == "task"
        ]
        return Answered(study, rows)

    @property
    def tasks(self) -> list[str]:
        """The tasks that were answered, in the order of first answers."""
        return list(dict.fromkeys(task for _, task, _ in self.rows))

    def votes(self) -> tuple[list[str], Votes]:
        """The answers as classes; `cannot_tell` is no answer."""
        answered = [row for row in self.rows if row[2] != CANNOT_TELL]
        tasks = list(dict.fromkeys(task for _, task, _ in answered))
        number = {task: index for index, task in enumerate(tasks)}
        classes = {task: _classes(self.study, task) for task in tasks}
        return tasks, Votes(
            np.array([number[task] for _, task, _ in answered], dtype=np.int64),
            np.array([rater for rater, _, _ in answered], dtype=np.int64),
            np.array([classes[task].index(answer) for _, task, answer in answered], dtype=np.int64),
            max(map(len, classes.values()), default=2),
        )


def _classes(study: StudyFolder, task: str) -> list[str]:
    if study.design == "presence":
        return ["no", "yes"]
    return [value for value in allowed_answers(study.design, study.trials[task]) if value != CANNOT_TELL]


# Scores of units -----------------------------------------------------------------------------------------------------


def unit_scores(answered: Answered) -> UnitScores:
    """Every score of every unit and method; tasks of a unit count alike, and so do the answers to a task."""
    make = {"rating": _rating, "presence": _presence, "choice": _choice, "intruder": _intruder}
    return make[answered.study.design](answered)


def _means(pairs: Iterable[tuple[str, Key, float]]) -> dict[Key, float]:
    """The mean over the tasks of each key, of the mean over the answers to each task."""
    by_task: dict[tuple[Key, str], list[float]] = {}
    for task, key, value in pairs:
        by_task.setdefault((key, task), []).append(value)
    by_key: dict[Key, list[float]] = {}
    for (key, _), values in by_task.items():
        by_key.setdefault(key, []).append(sum(values) / len(values))
    return {key: sum(values) / len(values) for key, values in by_key.items()}


def _keys(trial: Mapping[str, Any]) -> list[Key]:
    return [(trial["layer"], trial["unit"], method) for method in trial["methods"]]


def _rating(answered: Answered) -> UnitScores:
    ratings = [(task, float(answer)) for _, task, answer in answered.rows if answer != CANNOT_TELL]
    each = [(task, key, value) for task, value in ratings for key in _keys(answered.study.trials[task])]
    return {"rating": _means(each), "fits": _means((task, key, float(value >= FITS)) for task, key, value in each)}


def _choice(answered: Answered) -> UnitScores:
    trials = answered.study.trials
    each = []
    for _, task, answer in answered.rows:
        taken = [] if answer == NONE else trials[task]["options"][int(answer)]
        for option in trials[task]["options"]:
            for method in option:
                key = (trials[task]["layer"], trials[task]["unit"], method)
                each.append((task, key, float(method in taken)))
    return {"chosen": _means(each)}


def _intruder(answered: Answered) -> UnitScores:
    trials = answered.study.trials
    each = [
        (task, (trials[task]["layer"], trials[task]["unit"], ""), float(answer == str(trials[task]["intruder"])))
        for _, task, answer in answered.rows
    ]
    return {"intruder": _means(each)}


def _presence(answered: Answered) -> UnitScores:
    values, _, _ = pooled_presence(answered)
    return {"presence": values}


def pooled_presence(answered: Answered) -> tuple[dict[Key, float], dict[str, float], float]:
    """The correlation of presence and activation of every unit and method, from all answers pooled.

    Returns:
        The correlations; how likely each task's concept is in its image; and how often raters are wrong.
    """
    tasks, votes = answered.votes()
    trials = [answered.study.trials[task] for task in tasks]
    weights: Mapping[str, float] = answered.study.study["weights"]
    names = [(trial["layer"], trial["unit"], trial["texts"][0]) for trial in trials]
    groups = {name: number for number, name in enumerate(dict.fromkeys(names))}
    columns = {name: np.array([trial[name] for trial in trials]) for name in ("match", "activation", "count")}
    presence = scores.PresenceTasks(
        **columns,
        weight=np.array([weights[task] for task in tasks]),
        groups=np.array([groups[name] for name in names], dtype=np.int64),
    )
    correlations, pooled = scores.presence_correlations(votes, presence)
    methods_of = {name: _keys(trial) for name, trial in zip(names, trials, strict=True)}
    by_key = {key: float(correlations[number]) for name, number in groups.items() for key in methods_of[name]}
    return by_key, dict(zip(tasks, pooled.posterior[:, 1].tolist(), strict=True)), pooled.mean_error


# Methods -------------------------------------------------------------------------------------------------------------


def method_table(by_method: UnitScores, methods: Sequence[str], *, seed: int) -> list[dict[str, Any]]:
    """One row per score, layer and method: the mean over units with its interval; the empty layer is all of them."""
    rows = []
    for name, values in by_method.items():
        layers = ["", *dict.fromkeys(key[0] for key in values)]
        for layer in layers if len(layers) > 2 else layers[:1]:
            for method in methods:
                of_method = np.array([v for (where, _, m), v in values.items() if m == method and layer in ("", where)])
                if len(of_method):
                    interval = bootstrap_interval(of_method, seed=seed, resamples=RESAMPLES)
                    rows.append({"score": name, "layer": layer, "method": method, "units": len(of_method),
                                 "mean": float(of_method.mean()),
                                 **({"ci95": list(interval)} if interval else {})})  # fmt: skip
    return rows


def differences(values: Mapping[Key, float], methods: Sequence[str], *, seed: int) -> list[dict[str, Any]]:
    """Each pair of methods on the units that both label: the mean difference, its test, and Holm's p over all pairs."""
    rows = []
    for first, second in combinations(methods, 2):
        common = sorted({k[:2] for k in values if k[2] == first} & {k[:2] for k in values if k[2] == second})
        if common:
            a, b = (np.array([values[(*unit, method)] for unit in common]) for method in (first, second))
            test = compare_means(a, b, seed=seed, resamples=RESAMPLES)
            rows.append({"first": first, "second": second, "units": len(common), "difference": test.value,
                         **({"ci95": list(test.interval)} if test.interval else {}),
                         "difference_p": test.p})  # fmt: skip
    return adjust_p_values(rows)


def strengths(answered: Answered, methods: Sequence[str], *, seed: int, resamples: int = 999) -> list[dict[str, Any]]:
    """Bradley-Terry strengths of methods, of `none of them` and of descriptions of other units, from all choices.

    A description that several methods gave is a choice of each of them over all others.
    """
    items = [*methods, *OF_NOTHING]
    by_unit: dict[tuple[str, int], list[tuple[int, tuple[int, ...]]]] = {}
    for _, task, answer in answered.rows:
        trial = answered.study.trials[task]
        options = [[items.index(m) for m in option] or [len(methods) + 1] for option in trial["options"]]
        options.append([len(methods)])
        taken = options[-1 if answer == NONE else int(answer)]
        others = tuple(sorted({item for option in options for item in option} - set(taken)))
        by_unit.setdefault((trial["layer"], trial["unit"]), []).extend((item, others) for item in taken)
    units = list(by_unit.values())
    value = scores.choice_strengths([choice for unit in units for choice in unit], count=len(items))
    kinds = {kind: number for number, kind in enumerate(dict.fromkeys(choice for unit in units for choice in unit))}
    counts = np.zeros((len(units), len(kinds)))
    np.add.at(counts, tuple(np.array([(row, kinds[c]) for row, unit in enumerate(units) for c in unit]).T), 1)
    drawn_units = np.random.default_rng(seed).multinomial(len(units), [1 / len(units)] * len(units), resamples)
    offered = np.zeros((len(kinds), len(items)), dtype=bool)
    for number, (item, others) in enumerate(kinds):
        offered[number, [item, *others]] = True
    winners = np.array([item for item, _ in kinds])
    drawn = scores.strengths_of_counts(drawn_units @ counts, winners, offered)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    shown = {item for unit in units for taken, others in unit for item in (taken, *others)}
    return [
        {"method": name, "strength": float(value[i]), "ci95": [float(low[i]), float(high[i])]}
        for i, name in enumerate(items)
        if i in shown
    ]


def by_tenth(answered: Answered, *, seed: int) -> list[dict[str, Any]]:
    """The share of intruders recognised, by the tenth of activation of the other images; chance is 1 / images."""
    each: dict[int, dict[tuple[str, int], list[float]]] = {}
    for _, task, answer in answered.rows:
        trial = answered.study.trials[task]
        right = float(answer == str(trial["intruder"]))
        each.setdefault(trial["tenth"], {}).setdefault((trial["layer"], trial["unit"]), []).append(right)
    rows = []
    for tenth, units in sorted(each.items()):
        values = np.array([float(np.mean(right)) for right in units.values()])
        interval = bootstrap_interval(values, seed=seed, resamples=RESAMPLES)
        rows.append({"tenth": tenth, "units": len(values), "mean": float(values.mean()),
                     **({"ci95": list(interval)} if interval else {})})  # fmt: skip
    return rows


# Raters --------------------------------------------------------------------------------------------------------------


def agreement(answered: Answered) -> dict[str, Any]:
    """Krippendorff's alpha, the share of equal pairs of answers, Cohen's kappa, and how often raters are wrong."""
    tasks, votes = answered.votes()
    counts = scores.answer_counts(votes, count=len(tasks))
    values = np.arange(votes.classes) + (1.0 if answered.study.design == "rating" else 0.0)
    summary: dict[str, Any] = {
        f"alpha_{level}": scores.alpha(counts, values, level=level) for level in LEVELS[answered.study.design]
    }
    summary |= {"share_equal": scores.share_equal(counts), "kappa": scores.pairwise_kappa(votes)}
    if answered.study.design == "presence":
        summary["rater_error"] = pooled_presence(answered)[2]
    else:
        summary["rater_error"] = scores.dawid_skene(votes, count=len(tasks)).mean_error
    return {name: value for name, value in summary.items() if value is not None}


def gold_error(study: StudyFolder, submissions: Sequence[Submission]) -> float | None:
    """The share of trials of known answer that were answered wrongly; these are clearer than tasks."""
    right = [share for submission in submissions if (share := catch_right(study, submission.answers)) is not None]
    return 1 - float(np.mean(right)) if right else None


def people_with_people(answered: Answered, *, seed: int) -> dict[str, Any] | None:
    """Spearman's correlation over units and methods of the scores by one half of the raters and by the other.

    The answers to each task are divided at random, anew for each of several splits; their mean, with the bootstrap
    interval over units. Two halves agree less than all raters would with as many others.
    """
    rng = np.random.default_rng(seed)
    columns: list[np.ndarray] = []
    name = FIRST[answered.study.design]
    keys = sorted(unit_scores(answered)[name])
    for _ in range(SPLITS.get(answered.study.design, MANY_SPLITS)):
        by_task: dict[str, list[int]] = {}
        for row in rng.permutation(len(answered.rows)).tolist():
            by_task.setdefault(answered.rows[row][1], []).append(row)
        halves: list[list[int]] = [[], []]
        for task_rows in by_task.values():
            for turn, row in enumerate(task_rows):
                halves[turn % 2].append(row)
        if not halves[1]:
            return None
        both = [unit_scores(Answered(answered.study, [answered.rows[i] for i in half]))[name] for half in halves]
        columns.append(np.array([[half.get(key, np.nan) for key in keys] for half in both]).T)
    return _order(np.stack(columns, axis=1), seed)


def _order(pairs: Float[np.ndarray, "units splits 2"], seed: int) -> dict[str, Any] | None:
    """How far two numbers of each unit order the units alike, with the interval; None where that is undefined."""
    value = float(scores.mean_rank_correlation(pairs))
    if np.isnan(value):
        return None
    interval = scores.bootstrap_rows(pairs, scores.mean_rank_correlation, seed=seed)
    return {"spearman": value, "units": len(pairs), **({"ci95": list(interval)} if interval else {})}


def orders(values: Mapping[Key, float], run: Path, *, seed: int) -> list[dict[str, Any]]:
    """Which number of a run's label files orders units as people do: Spearman's correlation with its interval.

    A score of the unit alone (*intruder*) is compared with our own labels' numbers.
    """
    rows = []
    for method in dict.fromkeys(key[2] for key in values):
        path = label_file(run, method)
        if not path.is_file():
            continue
        table = {(row["layer"], int(row["unit"])): row for row in _label_rows(path)[1]}
        units = [key for key in values if key[2] == method and key[:2] in table]
        people = np.array([values[key] for key in units])
        for name in next(iter(table.values()), {}):
            if name in ("layer", "unit") or name.startswith("human_"):
                continue
            numbers = _numbers([table[key[:2]][name] for key in units])
            if numbers is None:
                continue
            both = np.stack([people, numbers], axis=1)[:, None]
            row = _order(both[~np.isnan(numbers)], seed)
            if row is not None:
                rows.append({"method": method or CLIP_DISSECT, "score": name, **row})
    return sorted(rows, key=lambda row: -abs(row["spearman"]))


def _numbers(cells: Sequence[str]) -> np.ndarray | None:
    try:
        values = np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError:
        return None
    return values if (~np.isnan(values)).sum() > 2 else None


# All of it -----------------------------------------------------------------------------------------------------------


def results(
    study: StudyFolder, submissions: Sequence[Submission], *, run: Path | None
) -> tuple[dict[str, Any], UnitScores]:
    """Everything that `analyse` reports, and the scores of units under all rules.

    Args:
        study: what was asked.
        submissions: as `read` left them.
        run: the run's folder, for its automatic scores; None where it is not there.

    Raises:
        InputError: nobody is left under the rules, or a package of the extra `study` is missing.
    """
    seed = study.study["seed"]
    methods = [""] if study.design == "intruder" else study.key["methods"]
    kept = {"none": list(submissions)}
    kept |= {rule: [submission for submission in submissions if rule not in submission.dropped] for rule in RULES}
    kept["all"] = [submission for submission in submissions if not submission.dropped]
    if not kept["all"]:
        raise InputError(
            f"all {len(submissions)} submissions are dropped by the rules; see raters.csv, and collect more"
        )
    under: dict[tuple[Submission, ...], dict[str, Any]] = {}  # most rules leave the same submissions
    for left in map(tuple, kept.values()):
        under[left] = under.get(left) or _under(study, left, methods, run=run, seed=seed)
    outcome = {
        "schema": 1,
        "study": study.study["study"],
        "design": study.design,
        "meaning": SCORES[study.design],
        "submissions": len(submissions),
        "raters": len({submission.rater for submission in submissions}),
        "dropped": {rule: sum(rule in submission.dropped for submission in submissions) for rule in RULES},
        "rules": {rule: under[tuple(left)] for rule, left in kept.items()},
    }
    return outcome, unit_scores(Answered.of(study, kept["all"]))


def _under(
    study: StudyFolder, submissions: Sequence[Submission], methods: Sequence[str], *, run: Path | None, seed: int
) -> dict[str, Any]:
    """All that is said of the submissions that one rule leaves."""
    answered = Answered.of(study, submissions)
    if not answered.rows:
        return {"submissions": len(submissions), "answers": 0}
    values = unit_scores(answered)
    first, error = values[FIRST[study.design]], gold_error(study, submissions)
    people = people_with_people(answered, seed=seed)
    return {
        "submissions": len(submissions),
        "answers": len(answered.rows),
        "cannot_tell": sum(answer == CANNOT_TELL for _, _, answer in answered.rows),
        "scores": method_table(values, methods, seed=seed),
        "differences": differences(first, methods, seed=seed),
        "agreement": agreement(answered) | ({} if error is None else {"rater_error_gold": error}),
        **({"strengths": strengths(answered, methods, seed=seed)} if study.design == "choice" else {}),
        **({"tenths": by_tenth(answered, seed=seed)} if study.design == "intruder" else {}),
        **({"people_with_people": people} if people else {}),
        "orders": orders(first, run, seed=seed) if run is not None else [],
    }


# Files ---------------------------------------------------------------------------------------------------------------


def write_results(folder: Path, outcome: Mapping[str, Any], values: UnitScores) -> list[Path]:
    """`results.json`, `results.csv`, `human.csv`, `results.html` and `figures/`."""
    write_file(folder / "results.json", json.dumps(outcome, indent=1, ensure_ascii=False) + "\n")
    header = ["rule", "score", "layer", "method", "units", "mean", "low", "high"]
    rows = [
        [rule, row["score"], row["layer"], row["method"], row["units"], f"{row['mean']:.6g}",
         *(f"{end:.6g}" for end in row.get("ci95", ()))]
        for rule, under in outcome["rules"].items() for row in under.get("scores", ())
    ]  # fmt: skip
    write_file(folder / "results.csv", format_csv([header, *([*row, "", ""][: len(header)] for row in rows)]))
    write_file(folder / "human.csv", human_csv(values))
    drawn = figures(outcome)
    for name, content in drawn.items():
        write_file(folder / "figures" / f"{name}.png", content)
    write_file(folder / "results.html", results_page(outcome, drawn))
    return [folder / name for name in ("results.json", "results.csv", "human.csv", "results.html")]


def human_csv(values: UnitScores) -> str:
    """One row per unit and method under `layer,unit,method,human_NAME...`; no method for a unit's own score."""
    keys = sorted({key for of_name in values.values() for key in of_name})
    rows = [[*key, *(_cell(of_name.get(key)) for of_name in values.values())] for key in keys]
    return format_csv([["layer", "unit", "method", *(f"human_{name}" for name in values)], *rows])


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def results_page(outcome: Mapping[str, Any], drawn: Mapping[str, bytes]) -> str:
    """The results as one file with its figures inside."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("cd_exp.study", "assets")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    images = {n: f"data:image/png;base64,{base64.b64encode(c).decode('ascii')}" for n, c in drawn.items()}
    return environment.get_template("results.html").render(found=outcome, figures=images, all=outcome["rules"]["all"])


def label_file(run: Path, method: str) -> Path:
    """The label file of a method in a run folder."""
    return run / ("labels.csv" if method in ("", CLIP_DISSECT) else f"labels_{make_file_name(method)}.csv")


def _label_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
        return list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}); take the file that the run wrote") from error


def join(run: Path, values: UnitScores) -> list[Path]:
    """Put `human_NAME` into the run's label files, before `marks`, and into its explorer; earlier ones of that
    name go.

    Args:
        run: the run's folder.
        values: as `results` gives them.

    Returns:
        The files that changed.

    Raises:
        InputError: the folder holds no labels of a method.
    """
    changed = []
    methods = dict.fromkeys(key[2] for of_name in values.values() for key in of_name)
    missing = [method for method in methods if not label_file(run, method).is_file()]
    if missing:
        raise InputError(f"{run} has no labels of {missing[0]!r} to join; give the run that was asked about with --run")
    for method in methods:
        path = label_file(run, method)
        header, rows = _label_rows(path)
        names = {f"human_{name}": of_name for name, of_name in values.items()}
        kept = [name for name in header if name not in names]
        column = kept.index("marks") if "marks" in kept else len(kept)
        columns = [*kept[:column], *names, *kept[column:]]
        for row in rows:
            row |= {name: _cell(v.get((row["layer"], int(row["unit"]), method))) for name, v in names.items()}
        write_file(path, format_csv([columns, *([row[name] for name in columns] for row in rows)]))
        changed.append(path)
    if (run / "explorer" / "index.html").is_file():
        changed.append(_join_explorer(run, values))
    update_digests(run, [*changed, run / "explorer"])
    return changed


def _join_explorer(run: Path, values: UnitScores) -> Path:
    """The numbers `human.NAME` in the explorer's tables of units; a score of the unit alone stands with all methods."""
    from cd_exp import explorer
    from cd_exp.explorer.payload import decode_array, encode_array

    content = explorer.read_pages(run)
    for about in content.parts["page"]["runs"]:
        for method in content.parts[about["part"]]["methods"]:
            for layer, columns in method["layers"].items():
                units = decode_array(columns["units"]).tolist()
                for name, of_name in values.items():
                    numbers = [
                        of_name.get((layer, u, method["name"]), of_name.get((layer, u, ""), np.nan)) for u in units
                    ]
                    if not np.isnan(numbers).all():
                        columns["numbers"][f"human.{name}"] = encode_array(np.array(numbers, dtype=np.float32))
    return explorer.write_pages(run, content)


def figures(outcome: Mapping[str, Any]) -> dict[str, bytes]:
    """PNG files by name."""
    everything = outcome["rules"]["all"]
    rows = [row for row in everything["scores"] if not row["layer"]]
    drawn = {}
    for name, meaning in outcome["meaning"].items():
        of_name = [row for row in rows if row["score"] == name and row["method"]]
        if of_name:
            drawn[name] = _dots([(row["method"], row["mean"], row.get("ci95")) for row in of_name], meaning)
    if everything.get("tenths"):
        tenths = [(f"tenth {row['tenth']}", row["mean"], row.get("ci95")) for row in everything["tenths"]]
        drawn["tenths"] = _dots(tenths, "share of intruders recognised; tenth 1 is the strongest")
    if everything["orders"]:
        people = everything.get("people_with_people")
        best = [
            (f"{row['score']}, {row['method']}", row["spearman"], row.get("ci95")) for row in everything["orders"][:12]
        ]
        first = [("people with people", people["spearman"], people.get("ci95"))] if people else []
        drawn["orders"] = _dots([*first, *best], "Spearman's correlation with people over units")
    return drawn


def _dots(rows: Sequence[tuple[str, float, Sequence[float] | None]], label: str) -> bytes:
    figure, axes = new_plot(6.4, 1.1 + 0.34 * len(rows))
    for height, (_, value, interval) in enumerate(rows):
        if interval:
            axes.plot(interval, [height, height], color=COLOURS[0], linewidth=2, solid_capstyle="round")
        axes.plot([value], [height], "o", color=COLOURS[0], markersize=6)
    axes.set_yticks(range(len(rows)), [cut_text(name, WIDEST) for name, _, _ in rows], parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"{label}\nlines: 95 % intervals")  # in one line it is cut beside long names
    return encode_png(render_figure(figure))
