"""What the configurations of a sweep agree on: for every unit the label that most of them give.

And the best job against the others on the same units: the numbers that terminal, file, page and W&B show.
"""

import csv
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from cd_exp.io.text import split_names
from cd_exp.sweep.load import Job, Sweep

COLUMNS = ("layer", "unit", "description", "agreement", "n", "distinct", "truth", "right", "model")

Row = Mapping[str, str]
"""A line of `labels.csv`."""


@dataclass(frozen=True, eq=False)
class Vote:
    """One unit of one model across the jobs that labelled it.

    `labels` and `right` are by the job's name; `right` is None where the truth is unknown
    or no concept names it.
    `kinds` numbers the labels that are not the same by the rule of `cd_exp.metrics.are_same_name`: 0 is the
    consensus.
    """

    model: str
    layer: str
    unit: int
    description: str
    agreement: float
    labels: Mapping[str, str]
    kinds: Mapping[str, int]
    right: Mapping[str, bool | None]
    truth: str

    @property
    def judged(self) -> bool | None:
        """Whether the consensus is right; None where no job's label of the unit is judged."""
        verdicts = [right for right in self.right.values() if right is not None]
        if not verdicts:
            return None
        return any(self.right[job] for job, label in self.labels.items() if label == self.description)


def vote_on_units(sweep: Sweep) -> tuple[Vote, ...]:
    """The vote on every unit of every model. An unlabelled unit counts among `n`, never as a label.

    Among labels with equally many votes the one wins that more jobs have among their five best; then the one of the
    earlier job.
    """
    from cd_exp.metrics import NameMatcher, are_same_name

    names = _name_models(sweep)
    rows: dict[tuple[str, str, int], dict[str, Row]] = defaultdict(dict)
    for job in sweep.finished:
        for row in _read_labels(job):
            rows[names[job.name], row["layer"], int(row["unit"])][job.name] = row
    naming = NameMatcher.of(row["description"] for by_job in rows.values() for row in by_job.values())
    alike = lru_cache(maxsize=None)(partial(are_same_name, first=naming, second=naming))
    order = {key: position for position, key in enumerate(dict.fromkeys(key[:2] for key in rows))}
    ordered = sorted(rows.items(), key=lambda item: (order[item[0][:2]], item[0][2]))
    return tuple(_count_votes(*key, by_job, alike) for key, by_job in ordered)


def consensus_table(votes: Sequence[Vote]) -> tuple[list[str], list[list[Any]]]:
    """The header and rows of `consensus.csv`. `agreement` is the share of the `n` configurations with this
    label.
    """
    return list(COLUMNS), [
        [
            vote.layer,
            vote.unit,
            vote.description,
            round(vote.agreement, 4),
            len(vote.labels),
            len({vote.kinds[job] for job, label in vote.labels.items() if label}),
            vote.truth,
            None if vote.judged is None else int(vote.judged),
            vote.model,
        ]
        for vote in votes
    ]


def consensus_accuracy(votes: Sequence[Vote]) -> dict[str, Any]:
    """Of one layer: mean `agreement` in per cent and, where units are judged, `top1` with `ci95` over
    `judged`.
    """
    from cd_exp.metrics.intervals import clopper_pearson_interval

    summary: dict[str, Any] = {
        "units": len(votes),
        "agreement": 100 * float(np.mean([vote.agreement for vote in votes])),
    }
    right = np.array([vote.judged for vote in votes if vote.judged is not None], dtype=bool)
    if len(right):
        low, high = clopper_pearson_interval(right)
        summary |= {"judged": len(right), "top1": 100 * float(right.mean()), "ci95": [low, high]}
    return summary


def votes_by_layer(votes: Sequence[Vote]) -> dict[tuple[str, str], list[Vote]]:
    """The votes of each model and layer, in order."""
    by_layer: dict[tuple[str, str], list[Vote]] = defaultdict(list)
    for vote in votes:
        by_layer[vote.model, vote.layer].append(vote)
    return dict(by_layer)


def _count_votes(
    model: str, layer: str, unit: int, by_job: Mapping[str, Row], alike: Callable[[str, str], bool]
) -> Vote:
    labels = {job: row["description"] for job, row in by_job.items()}
    distinct = [name for name in dict.fromkeys(labels.values()) if name]
    votes = {name: sum(bool(label) and alike(name, label) for label in labels.values()) for name in distinct}
    nearly = {name: sum(name in split_names(row.get("top5", "")) for row in by_job.values()) for name in distinct}
    winner = max(distinct, key=lambda name: (votes[name], nearly[name]), default="")
    groups = [winner]  # what is alike counts as one label; a label alike to two groups joins the first
    kinds = {}
    for job, label in labels.items():
        group = next((number for number, name in enumerate(groups) if _are_equal(label, name, alike)), len(groups))
        groups += [label] if group == len(groups) else []
        kinds[job] = group
    return Vote(
        model=model,
        layer=layer,
        unit=unit,
        description=winner,
        agreement=votes[winner] / len(labels) if winner else 0.0,
        labels=labels,
        kinds=kinds,
        right={job: _is_row_right(row) for job, row in by_job.items()},
        truth=next((row["truth"] for row in by_job.values() if row.get("truth")), ""),
    )


def _are_equal(a: str, b: str, alike: Callable[[str, str], bool]) -> bool:
    return a == b or bool(a and b and alike(a, b))


def _is_row_right(row: Row) -> bool | None:
    rank = row.get("rank_of_truth")
    return int(rank) == 1 if rank else None


def _read_labels(job: Job) -> Iterator[Row]:
    path = job.folder / "labels.csv"
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)


def _name_models(sweep: Sweep) -> dict[str, str]:
    """What the model of each job is called: its choice, with a number where that alone names several models."""
    called: dict[str, list[str]] = defaultdict(list)
    names = {}
    for job in sweep.finished:
        name = job.choices.get("model", "model")
        if job.model not in called[name]:
            called[name].append(job.model)
        number = called[name].index(job.model) + 1
        names[job.name] = name if number == 1 else f"{name} ({number})"
    return names


SELECTED = "the best job was chosen on the units it is compared on, so its lead over jobs close to it is overestimated"


def compare_with_best_job(sweep: Sweep, votes: Sequence[Vote]) -> list[dict[str, Any]]:
    """For each model and layer of known truth, paired tests of the job of highest top-1 minus each other job.

    Args:
        sweep: the jobs.
        votes: of `consensus.vote_on_units`.

    Returns:
        Rows as in `comparisons.json` of a run: `layer`, `first` (the best job), `second`, `judged`, `top1_difference`,
        its interval, p, and p by Holm over all rows. `model` is there where the jobs have several.
    """
    from cd_exp.metrics import adjust_p_values, compare_methods

    by_layer = votes_by_layer(votes)
    several = len({model for model, _ in by_layer}) > 1
    rows: list[dict[str, Any]] = []
    for (model, layer), layer_votes in by_layer.items():
        results = _results_of_jobs(layer_votes)
        ordered = [job for job in sweep.finished if job.name in results]
        if len(ordered) < 2:
            continue
        best = max(ordered, key=lambda job: (results[job.name].top1.mean(), -ordered.index(job))).name
        for job in ordered:
            if job.name != best:
                about = {"layer": layer, **({"model": model} if several else {}), "first": best, "second": job.name}
                rows.append(about | compare_methods(results[best], results[job.name]))
    return adjust_p_values(rows)


def _results_of_jobs(votes: Sequence[Vote]) -> Mapping[str, Any]:
    """What each job labelled right, on the units where that is known."""
    import numpy as np

    from cd_exp.records import UnitResults

    right: dict[str, dict[int, bool]] = {}
    for vote in votes:
        for job, verdict in vote.right.items():
            if verdict is not None:
                right.setdefault(job, {})[vote.unit] = verdict
    return {
        job: UnitResults(units=np.array(list(units)), top1=np.array(list(units.values())))
        for job, units in right.items()
    }
