"""`python -m cd_exp.referee RUN... [LABELS.csv...] --out DIR [--published TABLE...]`: labellers in one table."""

import sys
from pathlib import Path

from rich.console import Console

from cd_exp.errors import InputError, OneLineParser
from cd_exp.io.command import report_error
from cd_exp.referee import output
from cd_exp.referee.referee import referee
from cd_exp.results.run_folder import format_json


def main(arguments: list[str] | None = None) -> int:
    """Put the labellers named on the command line in one table.

    Returns:
        The exit status: 0, or 2 for what the user can mend.
    """
    parser = OneLineParser(
        prog="python -m cd_exp.referee",
        description="Score the labels of runs, and those in files of others, on the same units and images; say which "
        "labellers differ. Writes referee.csv, referee.json and index.html.",
    )
    parser.add_argument(
        "labellers", nargs="+", type=Path, metavar="RUN|LABELS.csv",
        help="folders of finished runs on the same units, the first with its features in the cache; files of labels",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the files go")
    parser.add_argument(
        "--published", nargs="+", type=Path, default=[], metavar="TABLE",
        help="tables METHOD/NETWORK_LAYER.csv of scores per unit that were published for these units",
    )  # fmt: skip
    parser.add_argument("--layer", help="the only layer to look at; needed for files that name none")
    parser.add_argument("--trust", action="store_true", help="let the code run that the first run's folder names")
    parser.add_argument("--json", action="store_true", help="print referee.json in place of the tables")
    options = parser.parse_args(arguments)
    runs = [path for path in options.labellers if path.is_dir()]
    files = [path for path in options.labellers if not path.is_dir()]
    try:
        for path in files:
            if not path.is_file():
                raise InputError(f"{path}: there is no such run or file (seen from {Path.cwd()})")
        if any((options.out / name).exists() for name in ("metrics.json", "multirun.yaml")):
            raise InputError(f"--out {options.out} is the folder of a run or sweep; give another")
        result = referee(runs, files, options.published, layer=options.layer, trust=options.trust)
        output.write(result, options.out)
    except InputError as error:
        return report_error(error, as_json=options.json)
    if options.json:
        print(format_json(output.as_plain(result), "referee.json"), end="")
    else:
        output.show(result, options.out, Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
