"""From the folder of a multirun to its table, files, figures and record."""

from pathlib import Path
from typing import TYPE_CHECKING

from cd_exp.errors import InputError
from cd_exp.sweep.jobs import Sweep
from cd_exp.sweep.reading import read

if TYPE_CHECKING:
    from rich.console import Console


def gather(folder: Path, *, console: "Console | None" = None) -> Sweep | None:
    """Gather the jobs of a multirun, finished or not; again whenever jobs were added, with the same bytes for the same.

    Writes `sweep.csv` (one row a job and layer), `consensus.csv`, `anova.json` and `figures/`, prints tables, and logs
    one W&B run in the group of the jobs where they were logged. What no longer applies is removed.

    Args:
        folder: `hydra.sweep.dir` of the multirun.
        console: where the tables go; standard output where none is given.

    Returns:
        The sweep, or None where the folder holds no jobs; nothing is written then.
    """
    sweep = read(folder)
    if not sweep.jobs:
        return None
    from rich.console import Console

    from cd_exp.results.run_folder import as_json
    from cd_exp.sweep import consensus, figures, pages, record, rows, tables, variance

    console = Console() if console is None else console
    _put(folder / "sweep.csv", rows.as_csv(*rows.table(sweep)))
    votes = consensus.consensus(sweep)
    _put(folder / "consensus.csv", rows.as_csv(*consensus.table(votes)) if votes else None)
    explained = variance.explained(sweep)
    _put(folder / "anova.json", as_json(explained, "anova.json") if explained else None)
    drawn = figures.figures(sweep, votes)
    agreed = [(*key, consensus.accuracy(found)) for key, found in consensus.by_layer(votes).items()]
    page = pages.gather_pages(sweep, folder)
    tables.show(console, sweep, explained=explained, agreed=agreed)
    try:
        record_place = record.summarise(sweep, explained=explained, figures=drawn)
        said = f"W&B: {record_place}" if record_place else ""
    except InputError as error:  # the tables are made; a tracker out of reach takes nothing from them
        said = f"W&B summary not made: {error}"
    if page:
        console.print(f"page: {page}", markup=False, highlight=False, soft_wrap=True)
    if said:
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    return sweep


def _put(path: Path, text: str | None) -> None:
    """Write the file whole or not at all; without text, there is to be none."""
    from cd_exp.io.atomic import write as write_file

    if text is None:
        path.unlink(missing_ok=True)
    else:
        write_file(path, text)
