"""Hydra's errors in one line each, with a remedy that works.

Hydra says `+key` of a key it does not know, which would silence the error and change nothing.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import MissingConfigException, OverrideParseException

from cd_exp import config
from cd_exp.config.validate import unknown_key_error
from cd_exp.errors import InputError, unknown_name_error

WRITE = (
    "write KEY=VALUE, a list as KEY=[a,b], and quotes around a text with commas, spaces, brackets or accents: "
    "\"KEY='a, b'\""
)


def explain_hydra_error(
    error: Exception, overrides: Sequence[str], *, setting_names: Callable[[], list[str]]
) -> InputError:
    """What was typed wrongly.

    Args:
        error: as Hydra raised it.
        overrides: what was typed.
        setting_names: gives the names of all settings; asked only where one is misspelt.
    """
    if isinstance(error, OverrideParseException):
        return InputError(f"{error.override!r} cannot be read: {WRITE}")
    if isinstance(error, MissingConfigException):
        return _explain_missing_choice(error)
    text = "\n".join(map(str, _error_chain(error)))
    for form, answer in FORMS.items():
        match = re.search(form, text)
        if match:
            return answer(match, setting_names)
    wrong = next((link for link in _error_chain(error) if getattr(link, "full_key", None)), error)
    return _explain_wrong_value(str(getattr(wrong, "full_key", "") or ""), wrong, overrides)


def _explain_missing_choice(error: MissingConfigException) -> InputError:
    group, _, choice = str(error.missing_cfg_file).removesuffix(".yaml").rpartition("/")
    if not group:
        return InputError(f"--config-name {choice}: there is no {choice}.yaml in the folders of YAML files")
    if not error.options:  # the name stands in a file's own list; Hydra looks beside the file and lists nothing
        named = re.match(r"In '([^']+)'", str(error))
        return InputError(
            f"the defaults list of {named.group(1) if named else 'a YAML file'} names {group}/{choice}, and there is "
            f"no {choice}.yaml in the folders of YAML files; correct the name"
        )
    return unknown_name_error(group, choice, error.options, where="known")


def _explain_misspelt_key(match: re.Match[str], setting_names: Callable[[], list[str]]) -> InputError:
    key = match.group(1)
    if not key:
        return InputError(f"a setting without a name cannot be read: {WRITE}")
    names = setting_names()
    if key in names and key not in config.GROUPS:
        return InputError(f"{key} cannot be removed or replaced, only set: {key}=VALUE")
    if key in config.GROUPS:
        return InputError(f"{key} is chosen by name, {key}=NAME, and its settings one by one: {key}.KEY=VALUE")
    return unknown_key_error(key, names)


def _explain_duplicate(match: re.Match[str], setting_names: Callable[[], list[str]]) -> InputError:
    return InputError(f"{match.group(1)} exists already: drop the + and write {match.group(1)}=VALUE")


def _explain_sweep_value(match: re.Match[str], setting_names: Callable[[], list[str]]) -> InputError:
    return InputError(f"{match.group(1)} has several values: add -m for a run with each, or write a list as KEY=[a,b]")


def _explain_failed_delete(match: re.Match[str], setting_names: Callable[[], list[str]]) -> InputError:
    return InputError(f"~{match.group(1)}={match.group(3)} takes nothing out: its value is {match.group(2)}")


FORMS: Mapping[str, Callable[[re.Match[str], Callable[[], list[str]]], InputError]] = {
    r"Ambiguous value for argument '([^']*)'": _explain_sweep_value,
    r"Sweep parameters '([^']*)' requires --multirun": _explain_sweep_value,
    r"An item is already at '([^']*)'": _explain_duplicate,
    r"Multiple values for ([^.]*)\.": _explain_duplicate,
    r"The value of '([^']*)' is (.*) and not (.*)\.": _explain_failed_delete,
    r"Could not delete from config\. '([^']*)' does not exist": _explain_misspelt_key,
    r"Could not (?:override|append|delete)[^']*'([^']*)'": _explain_misspelt_key,
    r"config group '([^']*)' does not exist": _explain_misspelt_key,
    r"Key '[^']*' not in '[^']*'\s+full_key: (\S*)": _explain_misspelt_key,
}
"""What Hydra says, and what is said instead."""


def _explain_wrong_value(key: str, error: BaseException, overrides: Sequence[str]) -> InputError:
    kinds = config.setting_types()
    typed = next((text.partition("=")[2] for text in overrides if text.lstrip("+~").partition("=")[0] == key), "")
    if key in kinds:
        quoted = re.search(r"(?:[Vv]alue|string:) '(.*?)'(?: |$)", str(error).splitlines()[0])
        came = (
            quoted[1] if quoted and quoted[1] != _match_message(typed) else typed
        )  # the mistake is in a YAML file, whatever was typed
        shown = f"{key}={came}" if came else f"what a YAML file gives for {key}"
        return InputError(f"{shown} does not fit: expected {config.describe_type(kinds[key])}")
    inner = [name for name in kinds if name.startswith(f"{key}.")]
    if inner:
        return InputError(f"{key} is no setting itself; it holds {', '.join(inner)}")
    message = " ".join(str(error).split("full_key")[0].split())
    if isinstance(error, AttributeError | TypeError | AssertionError | KeyError) or not message:
        kind = ": ".join(filter(None, [type(error).__name__, message]))
        message = f"what the YAML files and the command line say does not fit together ({kind})"
    return InputError(f"{key}{': ' * bool(key)}{message}")


def _match_message(typed: str) -> str:
    """What Hydra makes of a value that was typed, as its errors show it."""
    try:
        return str(OverridesParser.create().parse_override(f"value={typed}").value())
    except OverrideParseException:
        return typed


def _error_chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
