"""The command line: `python run.py` in a checkout, `cd-exp` where installed. It composes, then hands over to main."""

import atexit
import gc
import json
import os
import sys
import threading
import warnings

from cd_exp import distributed
from cd_exp.errors import InputError, Interrupted, hide_secrets, hide_typed_secrets, of_the_machine
from cd_exp.io.text import escape_for_terminal


def run_program() -> None:
    """`main` in a process of its own, which ends at once when everything is written."""
    try:
        main()
    except SystemExit as leaving:
        if leaving.code is not None and not isinstance(leaving.code, int):
            raise  # a message, which Python prints
        leave_process(leaving.code or 0)
        raise
    leave_process(0)


def leave_process(status: int) -> None:
    """End the process without taking the interpreter apart, which takes 0.6 to 0.8 CPU seconds where torch is loaded.

    What Python does before that is done: threads end, the functions of atexit are called (W&B, logging, workers,
    temporary files), stdout and stderr are flushed. Memory is left to the kernel. Returns, so that Python takes its own
    way out, under a debugger, profiler or coverage, and where the output cannot be flushed.
    """
    tools = getattr(sys, "monitoring", None)  # Python 3.12 lets tools watch by it without a trace function
    watched = tools is not None and any(tools.get_tool(number) for number in range(6))
    if watched or sys.gettrace() or sys.getprofile() or sys.flags.inspect:
        return
    try:
        sys.stdout.flush()
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # a closed pipe: Python says so, with a status of its own
        return
    os._exit(status)


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
    for warning in caught:  # warnings of libraries do not stand above the line of an error
        shown(*warning)  # type: ignore[arg-type]


def _exit_with(message: str, status: int) -> None:
    line = hide_secrets(hide_typed_secrets(" ".join(message.split()), sys.argv[1:]))
    if line and "--json" in sys.argv[1:]:
        print(json.dumps({"error": line}))
    elif line:
        print(f"error: {escape_for_terminal(line)}", file=sys.stderr)
    raise SystemExit(status)  # not sys.exit, which code of the user's may have replaced


if __name__ == "__main__":
    run_program()
