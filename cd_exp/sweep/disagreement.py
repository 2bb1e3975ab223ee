"""Where configurations disagree: units by configurations, a letter for each label."""

from collections.abc import Sequence
from itertools import product
from string import ascii_letters
from typing import TYPE_CHECKING

from cd_exp.io.text import cut
from cd_exp.results.plots import CONSENSUS, OTHER, RIGHT, WIDEST, WRONG
from cd_exp.sweep.consensus import Vote
from cd_exp.sweep.jobs import Job, Sweep
from cd_exp.sweep.tables import ordered

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNITS = 40  # rows, those on which configurations agree least
JOBS = 40  # columns
LETTERS = ascii_letters + "+"


def disagreement(sweep: Sweep, votes: Sequence[Vote], *, title: str) -> "Figure | None":
    """Rows are units, columns configurations. The same letter in a row is the same label, `a` the consensus.

    Colour tells right from wrong labels where the truth is known, and the consensus from other labels where not.

    Args:
        sweep: the jobs.
        votes: of one layer of one model.
        title: what the layer is called.

    Returns:
        None where every configuration agrees on every unit, or there is only one.
    """
    from matplotlib.figure import Figure

    labelled = [job for job in ordered(sweep) if any(job.name in vote.labels for vote in votes)]
    differing = [vote for vote in votes if len(set(vote.kinds.values())) > 1]
    if len(labelled) < 2 or not differing:
        return None
    shown = sorted(differing, key=lambda vote: (vote.agreement, vote.unit))[:UNITS]
    shown, jobs = sorted(shown, key=lambda vote: vote.unit), _spread(labelled)
    words = [cut(sweep.place(job) or job.name, WIDEST) for job in jobs]
    width, height = 3.4 + 0.24 * len(jobs), 1.0 + 0.075 * max(map(len, words)) + 0.2 * len(shown)
    figure = Figure(figsize=(max(5.6, width), height), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    _squares(axes, shown, jobs)
    axes.set_xticks(range(len(jobs)), words, rotation=90, fontsize=7, parse_math=False)
    names = [f"{vote.truth or vote.description} · {vote.unit}" for vote in shown]
    axes.set_yticks(range(len(shown)), [cut(name, WIDEST) for name in names], fontsize=7, parse_math=False)
    heading = [f"{cut(title, WIDEST)}: configurations disagree on {len(differing)} of {len(votes)} units"]
    heading += [f"{len(shown)} with least agreement shown"] if len(shown) < len(differing) else []
    heading += [f"{len(jobs)} of {len(labelled)} configurations shown"] if len(jobs) < len(labelled) else []
    heading += [_key(shown), "same letter in a row: same label; a: the most common"]
    # Over the whole figure: above the squares alone there is too little room where jobs are few.
    figure.suptitle("\n".join(heading), x=0.01, ha="left", fontsize=8, parse_math=False)
    return figure


def _squares(axes: "Axes", votes: Sequence[Vote], jobs: Sequence[Job]) -> None:
    """A coloured square with its letter for each unit and job."""
    from matplotlib.colors import to_rgb

    cells = [[_cell(vote, job) for job in jobs] for vote in votes]
    axes.imshow([[to_rgb(colour) for _, colour in row] for row in cells], aspect="auto")
    for row, column in product(range(len(votes)), range(len(jobs))):
        letter, colour = cells[row][column]
        ink = "white" if colour == RIGHT else "black"
        axes.text(column, row, letter, ha="center", va="center", fontsize=7, color=ink)
    axes.set_xticks([column - 0.5 for column in range(1, len(jobs))], minor=True)
    axes.set_yticks([row - 0.5 for row in range(1, len(votes))], minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


def _spread(jobs: Sequence[Job]) -> list[Job]:
    """At most `JOBS` of them, evenly."""
    step = max(1.0, len(jobs) / JOBS)
    return [jobs[int(number * step)] for number in range(min(JOBS, len(jobs)))]


def _key(votes: Sequence[Vote]) -> str:
    known = any(right is not None for vote in votes for right in vote.right.values())
    return "dark blue: right, sand: wrong" if known else "blue: the consensus, grey: another label"


def _cell(vote: Vote, job: Job) -> tuple[str, str]:
    """The letter and the colour of a square; nothing where the job does not have the unit."""
    if job.name not in vote.labels:
        return "", "white"
    kind, right = vote.kinds[job.name], vote.right[job.name]
    letter = LETTERS[min(kind, len(LETTERS) - 1)] if vote.labels[job.name] else "–"
    if right is None:
        return letter, OTHER if kind else CONSENSUS
    return letter, RIGHT if right else WRONG
