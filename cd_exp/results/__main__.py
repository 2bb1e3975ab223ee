"""`python -m cd_exp.report FOLDER... [--out DIR]`: the pages of stored runs, made again."""

import argparse
import sys
from pathlib import Path

from cd_exp.errors import InputError
from cd_exp.io.text import escape_for_terminal
from cd_exp.report import rebuild_pages


def main(arguments: list[str] | None = None) -> int:
    """Make the pages of the folders named on the command line.

    Returns:
        The exit status: 0, or 2 for what the user can mend.
    """
    parser = argparse.ArgumentParser(
        prog="python -m cd_exp.report",
        description="Make report.html, figures/ and explorer/ of a stored run again; of a sweep, the pages of its jobs "
        "and one of them all; of several runs, one page that compares them.",
    )
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="FOLDER", help="of a run, of a sweep, or several of runs"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the pages go; needed for several runs")
    parser.add_argument(
        "--query",
        action="append",
        default=[],
        metavar="WORDS",
        help="free words to look for: the pictures that CLIP thinks show them, and the units that answer to them; "
        "features come from the cache, and what is missing there is computed",
    )
    given = parser.parse_args(arguments)
    try:
        for page in rebuild_pages(given.folders, out=given.out, queries=given.query):
            print(page)
    except InputError as error:
        print(f"error: {escape_for_terminal(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
