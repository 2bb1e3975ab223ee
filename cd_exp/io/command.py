"""What every command prints: one JSON document on standard output where `--json` asks for it, errors too."""

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cd_exp.errors import InputError, of_the_machine
from cd_exp.io.text import escape_for_terminal


def print_json(document: Mapping[str, Any]) -> None:
    """One document on standard output; numbers that JSON lacks are null, paths text."""
    print(json.dumps(_plain(document), indent=1))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def report_error(error: Exception, *, as_json: bool) -> int:
    """Say an error that a user can mend, as `{"error": ...}` on standard output where JSON was asked for.

    Returns:
        The exit status of it, 2; whatever is a bug is raised again.
    """
    refused = error if isinstance(error, InputError) else of_the_machine(error)
    if refused is None:
        raise error
    message = str(refused)
    if as_json:
        print(json.dumps({"error": message}))
    else:
        print(f"error: {escape_for_terminal(message)}", file=sys.stderr)
    return refused.status
