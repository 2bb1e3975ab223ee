"""The command line: `python run.py` in a checkout, `cd-exp` where installed. It composes, then hands over to main."""

import gc
import sys

from cd_exp import distributed
from cd_exp.errors import InputError
from cd_exp.io.text import for_terminal


def main() -> None:
    """Run, and show what a user can mend as one line with exit status 2; everything else keeps its traceback."""
    gc.set_threshold(200_000, 50, 100)  # what imports make stays: going over it at every 700 objects costs a run 0.7 s
    if distributed.launched():
        distributed.end_with_parent()
    try:
        with distributed.heeded():
            from cd_exp.cli.run_command_line import obey  # Hydra comes with it

            obey(sys.argv[1:])
    except InputError as error:
        _leave(str(error), error.status)
    except distributed.Stopped as stopped:
        _leave("" if distributed.launched() else str(stopped), stopped.status)


def _leave(message: str, status: int) -> None:
    if message:
        print(f"error: {for_terminal(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
