"""The command line: `python run.py` in a checkout, `cd-exp` where installed. It composes, then hands over to main."""

import gc
import sys
import warnings

from cd_exp import distributed
from cd_exp.errors import InputError, Interrupted, hide_secrets, of_the_machine
from cd_exp.io.text import escape_for_terminal


def main() -> None:
    """Run, and show what a user can mend as one line with exit status 2; everything else keeps its traceback."""
    gc.set_threshold(200_000, 50, 100)  # what imports make stays: going over it at every 700 objects costs a run 0.7 s
    if distributed.is_launched():
        distributed.end_with_parent()
    caught: list[tuple[object, ...]] = []
    shown, warnings.showwarning = warnings.showwarning, lambda *warning: caught.append(warning)
    try:
        with distributed.handle_signals():
            from cd_exp.cli.run_command_line import run_command_line  # Hydra comes with it

            run_command_line(sys.argv[1:])
    except InputError as error:
        _exit_with(str(error), error.status)
    except Interrupted as stopped:
        _exit_with("" if distributed.is_launched() else str(stopped), stopped.status)
    except Exception as error:
        refused = of_the_machine(error)
        if refused is None:
            raise
        _exit_with(str(refused), refused.status)
    finally:
        warnings.showwarning = shown
    for warning in caught:  # of libraries: not above the line of an error
        shown(*warning)  # type: ignore[arg-type]


def _exit_with(message: str, status: int) -> None:
    if message:
        print(f"error: {escape_for_terminal(hide_secrets(' '.join(message.split())))}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
