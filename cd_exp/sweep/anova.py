"""How much of the accuracy each axis of a sweep explains.

The main effects of all axes together are fitted to one accuracy a job by least squares. An axis' part is what it adds
to the others (sums of squares of type II); in a balanced sweep the parts and the residual add up to the total. Its F
test holds the part against the residual.

What this cannot say. With one run per combination, interactions of axes cannot be separated from noise:
a small F may mean noise or a strong interaction. Jobs judge the same units of a model, so p speaks of differences
between these configurations, not of units that were not judged. An accuracy is a share: near 0 and 100 % its spread
shrinks, which the test takes no account of.

Source: R. A. Fisher, Statistical Methods for Research Workers, 1925; F. Yates, J. Amer. Statist. Assoc. 29 (1934).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from cd_exp.sweep.load import LayerAcrossJobs, Sweep, common_layers

if TYPE_CHECKING:
    from jaxtyping import Float

EXACT = 1e-12  # share of the squares themselves: a smaller sum is rounding, and no F is taken from it
JUDGED_UNITS = "p compares these settings on these units only; it does not generalise to other units"
INTERACTION = "One run per combination, so interactions cannot be separated from noise."
UNBALANCED = "not every combination is there equally often: each axis' part is what it adds to the others"
SATURATED = "no run is left over for a residual, so there is no F test"
CONFOUNDED = "{axes} not separable: the runs change them together with others, so their effects cannot be separated"
EQUAL = "every job has the same accuracy: there is nothing to explain"


def explain_axes(sweep: Sweep) -> dict[str, Any]:
    """For each layer with a truth (see `common_layers`) what `partition_variance` finds; without at least two jobs,
    nothing.
    """
    return {
        view.title: _explain_view(sweep, view) for view in common_layers(sweep) if len(view.metrics) > 1 and sweep.axes
    }


def drop_untestable(explained: Mapping[str, Any]) -> dict[str, Any]:
    """What is shown of it: without a residual an axis explains all by arithmetic alone, which stays in `anova.json`."""
    return {title: analysis for title, analysis in explained.items() if analysis["residual"]["df"]}


def _explain_view(sweep: Sweep, view: LayerAcrossJobs) -> dict[str, Any]:
    jobs = [job for job in sweep.finished if job.name in view.metrics]
    accuracy = np.array([view.metrics[job.name]["top1"] for job in jobs])
    return partition_variance(accuracy, {axis: [str(job.value(axis)) for job in jobs] for axis in sweep.axes})


def partition_variance(accuracy: "Float[np.ndarray, ' runs']", axes: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Split the sum of squares of the accuracies into the parts of the axes and a residual.

    Args:
        accuracy: one a run, in per cent.
        axes: for each axis the value that each run has.

    Returns:
        `runs`, `balanced` (every combination equally often), `total` and `residual` with `df` and `ss`,
        `notes`, and in
        `axes` for each axis `levels`, `df`, `separable`, `ss`, `eta_squared` (share of the total), `f`, `p` and
        `p_adjusted` (Holm's, over the axes). What cannot be had is absent: of an axis that is not separable, since it
        varies together with others, all but the first three; `eta_squared` where all accuracies are equal; `f` and `p`
        without a residual.
    """
    from cd_exp.metrics.significance import holm_adjust  # brings torch with it

    runs = len(accuracy)
    total = float(np.square(accuracy - accuracy.mean()).sum())
    rounding = EXACT * float(np.square(accuracy).sum())
    total = total if total > rounding else 0.0
    rest, rank = _residual_squares(accuracy, list(axes.values()))
    rest = rest if rest > rounding else 0.0
    parts = {axis: _axis_part(accuracy, axis, axes, total, rest, rank) for axis in axes}
    tested = [part for part in parts.values() if "p" in part]
    for part, p in zip(tested, holm_adjust([part["p"] for part in tested]), strict=True):
        part["p_adjusted"] = p
    residual = {"df": runs - rank, "ss": rest} | ({"eta_squared": rest / total} if total else {})
    cells = Counter(zip(*axes.values(), strict=True))
    balanced = len(cells) == prod(len(set(values)) for values in axes.values()) and len(set(cells.values())) == 1
    notes = [] if total else [EQUAL]
    notes += [SATURATED] if runs == rank else [INTERACTION] if len(axes) > 1 and max(cells.values()) == 1 else []
    notes += [] if balanced else [UNBALANCED]
    mixed = [axis for axis, part in parts.items() if not part["separable"]]
    notes += [CONFOUNDED.format(axes=", ".join(mixed))] if mixed else []
    return {
        "runs": runs,
        "balanced": balanced,
        "total": {"df": runs - 1, "ss": total},
        "axes": parts,
        "residual": residual,
        "notes": [*notes, JUDGED_UNITS],
    }


def _axis_part(
    accuracy: "Float[np.ndarray, ' runs']",
    axis: str,
    axes: Mapping[str, Sequence[str]],
    total: float,
    rest: float,
    rank: int,
) -> dict[str, Any]:
    from scipy.special import fdtrc  # what scipy.stats.f.sf calls; importing that costs a sweep .9 s

    without, rank_without = _residual_squares(accuracy, [values for name, values in axes.items() if name != axis])
    df, spare = rank - rank_without, len(accuracy) - rank
    levels = len(set(axes[axis]))
    # Fewer degrees of freedom than levels call for: other axes' columns span some of this one's.
    entry: dict[str, Any] = {"levels": levels, "df": df, "separable": df == levels - 1}
    if not entry["separable"]:
        return entry
    entry["ss"] = max(0.0, without - rest) if df and total else 0.0
    if total:
        entry["eta_squared"] = entry["ss"] / total
    if df and spare and rest:
        entry["f"] = (entry["ss"] / df) / (rest / spare)
        entry["p"] = float(fdtrc(df, spare, entry["f"]))
    return entry


def _residual_squares(accuracy: "Float[np.ndarray, ' runs']", axes: Sequence[Sequence[str]]) -> tuple[float, int]:
    """The sum of squares that the main effects leave, and the rank of their design."""
    columns = [np.ones(len(accuracy))]
    for values in axes:
        levels = list(dict.fromkeys(values))
        columns += [np.array([value == level for value in values], dtype=float) for level in levels[1:]]
    design = np.stack(columns, axis=1)
    fitted, _, rank, _ = np.linalg.lstsq(design, accuracy)
    return float(np.square(accuracy - design @ fitted).sum()), int(rank)
