"""The one error a user can mend, and the words that help to mend it."""

import difflib
import errno
import json
import re
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any, NoReturn


class InputError(ValueError):
    """Something the user gave does not fit: the message says what came, what was expected, and the nearest choice.

    `run.py` prints it as one line and exits with `status`, 2. Every other exception is a bug and keeps its traceback.
    """

    status = 2


class KilledProcess(InputError):
    """A signal ended one of several processes of a run; the message names both, and the command that continues."""

    status = 1


class ReadOnlyFolder(InputError):
    """A folder may not be written to, by its permissions or because its disk is mounted read-only."""


class MissingTexts(InputError):
    """Precomputed embeddings lack some text; figures that only compare with that text are left out."""


NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Interrupted(BaseException):
    """The run received a signal to end; no `except Exception` on the way out holds it up."""

    def __init__(self, number: int) -> None:
        name = NAMES.get(signal.Signals(number), signal.Signals(number).name)
        super().__init__(f"stopped by {name}; the same command continues from the features stored so far")
        self.status = 128 + number


class EndsWithOther(SystemExit):
    """This process ends because another one of its run has failed, which says why itself."""


class OneLineParser(ArgumentParser):
    """A command line whose faults are one line, or JSON with `--json`, as every other error, and no usage above it."""

    as_json = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The arguments, after a look whether errors are to be JSON."""
        self.as_json = "--json" in (sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Print the line, and leave with status 2."""
        text = f"{' '.join(message.split())}; {self.prog} --help shows the flags and settings"
        if self.as_json:
            print(json.dumps({"error": text}))
            self.exit(2)
        self.exit(2, f"error: {text}\n")


REFUSALS = (
    "EACCES",
    "EPERM",
    "ENOSPC",
    "EDQUOT",
    "EROFS",
    "EMFILE",
    "ENFILE",
    "ENAMETOOLONG",
    "EIO",
    "ENOTDIR",
    "EISDIR",
)
OF_THE_MACHINE = {getattr(errno, name) for name in (*REFUSALS, "EISDIR", "ELOOP", "EFBIG", "ENOMEM")}
"""What the system refuses that a user can mend: rights, room, names."""
NO_MEMORY = ("can't allocate memory", "cannot allocate memory", "bad_alloc", "failed to map segment", "Cannot allocate")


def of_the_machine(error: BaseException) -> InputError | None:
    """The error for what the system refuses to any program, rights, room on a disk or memory; None for all else."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
        name = f"{error.filename}: " if error.filename is not None else ""
        return InputError(f"{name}{error.strerror}"[:500])
    if isinstance(error, MemoryError) or any(sign in text for sign in NO_MEMORY):
        return InputError(
            "no memory is left; give features.batch_size=N and features.workers=N lower, or the machine more: the run "
            "continues from what is stored"
        )
    return None


def as_refusal(error: InputError | OSError) -> InputError:
    """The error for what a user can mend, or what the system refuses; anything else is raised again."""
    refused = error if isinstance(error, InputError) else of_the_machine(error)
    if refused is None:
        raise error
    return refused


def unknown_name_error(kind: str, name: str, choices: Iterable[str], *, where: str = "") -> InputError:
    """The error for a name that is none of the choices, with the nearest one suggested.

    Args:
        kind: what the name should have been, as in `layer`.
        name: what came.
        choices: what would have been accepted.
        where: what the choices belong to, as in `in resnet18`.

    >>> print(unknown_name_error("layer", "layer5", ["layer4", "fc"], where="in resnet18"))
    layer 'layer5' is not in resnet18; did you mean 'layer4'?
    """
    names = sorted(choices)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    hint = f"did you mean {close[0]!r}?" if close else f"choose from {shown or 'nothing: there is none'}"
    return InputError(f"{kind} {name!r} is not {where or 'known'}; {hint}")


def describe_error(error: BaseException) -> str:
    """What went wrong in code or a file of the user's, on one line, with the line of the code that raised it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = lines[0] if lines else "no message"
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = f" ({frame.tb_frame.f_code.co_filename.rpartition('/')[2]}, line {frame.tb_lineno})" if frame else ""
    return f"{type(error).__name__}: {message[:300]}{where}"


HIDDEN = "***"
"""In place of a secret, in all that is written or shown."""
_SECRET = r"(?i:(?:\w*_)?(?:token|password|passwd|secret|api_?key|access_?key|private_?key|credentials?))|key"
_SECRET_NAME = re.compile(_SECRET)
_SECRET_VALUE = re.compile(  # values in capitals are the placeholders of advice: `token=TOKEN`
    rf"(\b(?:{_SECRET})['\"]?\s*[=:]\s*)(?!\*|[A-Z_]+\b)('[^']*'|\"[^\"]*\"|[^\s,;'\"}}\])]+)"
)
_USER_PART = re.compile(r"(\w+://)[^/@\s'\"]+@")


def is_secret_name(name: str) -> bool:
    """Whether a setting of this name holds a secret.

    >>> is_secret_name("api_key"), is_secret_name("checkpoint_key")
    (True, False)
    """
    return _SECRET_NAME.fullmatch(name) is not None


def hide_secrets(text: str) -> str:
    """Text whose secrets are hidden: values of settings named so, and who logs in at an address.

    >>> hide_secrets("probe.options.token=abc url=https://me:pw@host/x")
    'probe.options.token=*** url=https://***@host/x'
    """
    return hide_user_part(_SECRET_VALUE.sub(rf"\g<1>{HIDDEN}", text))


def hide_typed_secrets(text: str, words: Iterable[str]) -> str:
    """Text without the values of secret settings that were typed: code of a user's own may repeat one in its error.

    >>> hide_typed_secrets("no login with s3cr3t", ["probe.options.token=s3cr3t", "seed=1"])
    'no login with ***'
    """
    for word in words:
        name, _, value = word.partition("=")
        value = value.strip("'\"")
        if len(value) > SHORTEST_SECRET and is_secret_name(name.rpartition(".")[2]):
            text = text.replace(value, HIDDEN)
    return text


SHORTEST_SECRET = 3  # letters: `key=1` would hide every 1


def hide_user_part(text: str) -> str:
    """Text whose addresses do not say who logs in."""
    return _USER_PART.sub(rf"\1{HIDDEN}@", text) if "@" in text else text
