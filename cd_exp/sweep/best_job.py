"""The best job of a sweep against the others, on the same units: the numbers that terminal, file, page and W&B show."""

from collections.abc import Mapping, Sequence
from typing import Any

from cd_exp.sweep.consensus import Vote, votes_by_layer
from cd_exp.sweep.load import Sweep

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
