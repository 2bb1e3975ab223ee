"""The lines of a text file, unchanged; an error names the line that cannot be decoded."""

import codecs
import json
import re
from pathlib import Path

from cd_exp.errors import InputError

MARKS = (  # the longer first: UTF-32's little-endian mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff]")
"""What no name holds: control characters but for the tab, and a byte order mark within the text."""


OTHER_FORMATS = {
    re.compile(r"""(["']).*\1\s*[,;]?"""): "stands in quotes",
    re.compile(r".*[,;]"): "ends in a comma or a semicolon",
    re.compile(r"- \s*\S.*"): "begins with `- `",
    re.compile(r"n\d{8}[\s,:;].*\S.*"): "begins with a WordNet number",
}
"""What every line of a list has that was written for something else, and no name of its own."""

NUMBERED = re.compile(r"[{(]?\s*(\d+)\s*[\s.:,;)].*\S.*")


def read_list(path: str | Path, *, setting: str) -> list[str]:
    """The names in a text file, one a line, without blanks around them; blank lines are kept.

    Args:
        path: the file.
        setting: what named it, for the error.

    Raises:
        InputError: as `read_lines`; or all lines have what belongs to another format and to no name: quotes, a comma at
            the end, a running number, a WordNet number. It would be a part of every name, in silence.
    """
    names = [line.strip() for line in read_lines(path, setting=setting)]
    lines = [name for name in names if name]
    if not lines:
        return names
    what = next((what for mark, what in OTHER_FORMATS.items() if all(map(mark.fullmatch, lines))), None)
    if what is None and (_running(lines) or _running(lines[1:])):  # a table may have a heading
        what = "begins with a running number"
    if what and len(lines) > 1:
        raise InputError(
            f"{setting}={path}: every line {what}, as {lines[-1][:40]!r}; give the names alone, one a line"
        )
    if re.match(r"version https://git-lfs|<!doctype html|<html", lines[0], re.IGNORECASE):
        raise InputError(f"{setting}={path} begins with {lines[0][:40]!r} and is no list; fetch the file itself")
    return names


def _running(lines: list[str]) -> bool:
    """Whether the lines are numbered from 0 or 1; two alone may be names (`1 pound`, `2 pounds`)."""
    found = [NUMBERED.fullmatch(line) for line in lines]
    numbers = [int(match[1]) for match in found if match]
    return len(lines) > 2 and any(numbers == list(range(first, first + len(lines))) for first in (0, 1))


def read_lines(path: str | Path, *, setting: str) -> list[str]:
    """The lines of a text file without their ends, blank ones included, so that a line keeps its number.

    A line ends with a line feed, a carriage return, or both. The file is UTF-8, or UTF-16 with or without a byte order
    mark. A JSON list of strings gives its strings.

    Args:
        path: the file.
        setting: what named it, for the error.

    Raises:
        InputError: there is no such file, its text cannot be decoded, or a line holds a control character.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{setting}={path}: there is no such file (seen from {Path.cwd()})")
    text = re.sub("\r\n?", "\n", _decoded(file.read_bytes(), file))
    lines = _listed(text, file)
    for number, line in enumerate(lines, 1):
        wrong = CONTROL.search(line)
        if wrong:
            raise InputError(
                f"{file}: line {number} holds the control character U+{ord(wrong[0]):04X} "
                f"at place {wrong.start() + 1}; it is no plain text, or damaged: save it as UTF-8 without it"
            )
    return lines


def _decoded(data: bytes, file: Path) -> str:
    """The text, by its byte order mark, by where its zero bytes are, or as UTF-8."""
    encoding = next((encoding for mark, encoding in MARKS if data.startswith(mark)), None) or _unmarked(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        data, before = error.object, error.object[: error.start]  # without a byte order mark
        place = f"line {before.count(10) + 1}, byte {error.start - (before.rfind(10) + 1) + 1}"
        name = encoding.upper().removesuffix("-SIG")
        raise InputError(f"{file} is not {name}: {place} is 0x{data[error.start]:02x}; save it as UTF-8") from error


def _unmarked(data: bytes) -> str:
    """UTF-16 where the zero bytes lie on one side of the pairs: those of Latin letters and of line ends do."""
    if len(data) % 2 == 0 and b"\0" in data:
        even, odd = data[::2].count(0), data[1::2].count(0)
        if odd and not even:
            return "utf-16-le"
        if even and not odd:
            return "utf-16-be"
    return "utf-8-sig"


def _listed(text: str, file: Path) -> list[str]:
    """The lines, or the strings of a JSON list."""
    bare = text.strip()
    if (bare[:1], bare[-1:]) in {("[", "]"), ("{", "}")}:
        try:
            value = json.loads(bare)
        except json.JSONDecodeError as error:
            if bare.partition("\n")[0].strip() in ("[", "{"):  # nobody's name
                reason = f"line {error.lineno}: {error.msg}"
                raise InputError(f"{file} looks like JSON and is broken ({reason}); give one name a line") from error
        else:
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                kind = "an object" if isinstance(value, dict) else "a list that holds other things than strings"
                raise InputError(f"{file} is JSON, {kind}; give a list of strings, or one name a line")
            for number, item in enumerate(value, 1):
                if "\n" in item:
                    raise InputError(f"{file}: entry {number} of the JSON list has a line break; a name is one line")
            return value
    lines = text.split("\n")  # not splitlines(), which also splits at U+2028 and form feeds
    return lines[:-1] if lines[-1] == "" else lines
