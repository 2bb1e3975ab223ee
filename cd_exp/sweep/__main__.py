"""`python -m cd_exp.sweep DIR [--resume]`: gather a sweep, as is done by itself at the end of a multirun."""

import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

from cd_exp.errors import InputError, OneLineParser, as_refusal
from cd_exp.io.command import print_json, report_error
from cd_exp.io.text import escape_for_terminal
from cd_exp.sweep.gather import gather_sweep
from cd_exp.sweep.load import describe_finished_sweep
from cd_exp.sweep.multirun import check_code, missing_jobs


def main(arguments: list[str] | None = None) -> int:
    """Gather the folder named on the command line.

    Returns:
        The exit status: 0 where every job is finished, 1 where one failed or is not finished, 2 for a folder that
        holds none.
    """
    parser = OneLineParser(
        prog="python -m cd_exp.sweep",
        description="Gather the jobs of a multirun into sweep.csv, consensus.csv, anova.json, figures and a table.",
        epilog="Exit status: 0 all jobs are finished, 1 some failed or are unfinished, 2 there is nothing to gather.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="hydra.sweep.dir of the multirun")
    parser.add_argument("--resume", action="store_true", help="first run the jobs that are missing or failed")
    parser.add_argument("--json", action="store_true", help="print the jobs with their metrics as JSON, and no table")
    parser.add_argument("--trust", action="store_true", help="let --resume run the code that the folder names")
    options = parser.parse_args(arguments)
    folder = options.folder
    try:
        if options.resume and missing_jobs(folder):
            for note in check_code(folder, trust=options.trust):
                print(f"note: {escape_for_terminal(note)}", file=sys.stderr)
            # It gathers at its end, however that is.
            words = [sys.executable, "-m", "cd_exp.cli.entry", "--resume", str(folder), "--trust"]
            status = subprocess.run(words, check=False, stdout=sys.stderr if options.json else None).returncode
            if not options.json:
                return status
        with redirect_stdout(sys.stderr if options.json else sys.stdout):
            sweep = gather_sweep(folder)
        if sweep is None:
            raise InputError(f"{folder} holds no jobs; give the folder of a multirun, such as outputs/sweeps/DATE_TIME")
    except (InputError, OSError) as error:
        return report_error(as_refusal(error), as_json=options.json)
    if options.json:
        print_json(describe_finished_sweep(sweep))
    return 1 if sweep.troubled else 0


if __name__ == "__main__":
    sys.exit(main())
