"""Text in and out: the lines of a file, unchanged, and names as each reader can carry them.

A name may be any text: it comes from concept files, checkpoints, folders and users' own code. It is decided here alone
what becomes of it in a terminal, in a cell of `labels.csv` and in the name of a file. An error about a file names the
line that cannot be decoded.
"""

import codecs
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cd_exp.errors import InputError

if TYPE_CHECKING:
    from rich.text import Text

SEPARATOR = "; "
"""Between the names in one cell of a CSV file."""

FEW = 5
"""How many of many a note or an error names."""

_EMPTY = "\\e"  # an empty name in a cell of several, where nothing at all means no name
_STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, invisible format, surrogates, line and paragraph separators
_JOINERS = "\u200c\u200d"  # of Persian and Indian scripts and of emoji: invisible, and part of the spelling
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # devices on Windows, with any suffix
_LONGEST = 48  # characters of a file name: at most 4 bytes each, and file systems take 255 with what is added


def escape_for_terminal(name: object) -> str:
    """The name on one line, with escapes (`\\x1b`, `\\n`, `\\u202e`) for what would steer the terminal.

    >>> for_terminal("red\\x1b[31m fox")
    'red\\\\x1b[31m fox'
    """
    return "".join(_escape_match(character) for character in str(name))


def as_terminal_text(name: object, style: str = "") -> "Text":
    """The same as text that rich shows as it is: brackets in a plain string would be read as its markup."""
    from rich.text import Text

    return Text(escape_for_terminal(name), style=style)


def join_names(names: Iterable[str]) -> str:
    """Several names in one cell, with `;` and the backslash inside a name escaped; `split_names` gives them back.

    >>> join_names(["cat", "salt; pepper"])
    'cat; salt\\\\; pepper'
    """
    return SEPARATOR.join(re.sub(r"([\\;])", r"\\\1", name) or _EMPTY for name in names)


def split_names(cell: str) -> tuple[str, ...]:
    """The names that `join_names` put into a cell.

    >>> split_names("cat; salt\\\\; pepper")
    ('cat', 'salt; pepper')
    """
    first, *others = re.findall(r"(?:\\.|[^\\;])+", cell, re.DOTALL) or ("",)
    parts = [first, *(other[1:] for other in others)] if cell else []  # without the space of the separator
    return tuple("" if part == _EMPTY else re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL) for part in parts)


def format_csv(rows: Iterable[Sequence[object]]) -> str:
    """Rows as the text of a CSV file that every reader takes apart into the same cells.

    The csv module leaves a lone carriage return unquoted, at which its own reader fails.
    """
    return "".join((",".join(map(_quote_name, row)) or '""') + "\n" for row in rows)


def make_file_name(name: str) -> str:
    """A part of a file name that any system takes; different names give different ones.

    >>> file_name("layer4")
    'layer4'
    >>> file_name("layer4:max")
    'layer4_max-a583a4e4'
    """
    plain = re.sub(r"[^\w.-]", "_", name)[:_LONGEST]
    kept = plain == name and name.isascii() and not name.startswith(".") and not name.endswith(".")
    if kept and name and not _RESERVED.fullmatch(name) and not re.search(r"-[0-9a-f]{8}$", name):
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{plain.lstrip('.') or '_'}-{digest}"


def cut_text(text: str, most: int) -> str:
    """The text with control characters escaped, and cut where it is longer than there is room for."""
    visible = escape_for_terminal(text)
    return visible if len(visible) <= most else f"{visible[: most - 1]}…"


def shorten_list(items: Sequence[object]) -> str:
    """The first few of many, and how many more there are.

    >>> shortened("abcdefg")
    'a, b, c, d, e and 2 more'
    """
    more = f" and {len(items) - FEW} more" if len(items) > FEW else ""
    return ", ".join(str(item) for item in items[:FEW]) + more


def _escape_match(character: str) -> str:
    if character in _JOINERS or unicodedata.category(character) not in _STEERING:
        return character
    return character.encode("unicode_escape").decode()


def _quote_name(cell: object) -> str:
    text = "" if cell is None else str(cell)
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text


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
        InputError: as `read_label_lines`; or all lines have what belongs to another format and to no name: quotes, a
            comma at the end, a running number, a WordNet number. It would be a part of every name, in silence.
    """
    names = [line.strip() for line in read_lines(path, setting=setting)]
    lines = [name for name in names if name]
    if not lines:
        return names
    what = next((what for mark, what in OTHER_FORMATS.items() if all(map(mark.fullmatch, lines))), None)
    if what is None and (_is_numbered(lines) or _is_numbered(lines[1:])):  # a table may have a heading
        what = "begins with a running number"
    if what and len(lines) > 1:
        raise InputError(
            f"{setting}={path}: every line {what}, as {lines[-1][:40]!r}; give the names alone, one a line"
        )
    if re.match(r"version https://git-lfs|<!doctype html|<html", lines[0], re.IGNORECASE):
        raise InputError(f"{setting}={path} begins with {lines[0][:40]!r} and is no list; fetch the file itself")
    return names


def _is_numbered(lines: list[str]) -> bool:
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
    text = re.sub("\r\n?", "\n", _decode_text(file.read_bytes(), file))
    lines = _read_json_list(text, file)
    for number, line in enumerate(lines, 1):
        wrong = CONTROL.search(line)
        if wrong:
            raise InputError(
                f"{file}: line {number} holds the control character U+{ord(wrong[0]):04X} "
                f"at place {wrong.start() + 1}; it is no plain text, or damaged: save it as UTF-8 without it"
            )
    return lines


def _decode_text(data: bytes, file: Path) -> str:
    """The text, by its byte order mark, by where its zero bytes are, or as UTF-8."""
    encoding = next((encoding for mark, encoding in MARKS if data.startswith(mark)), None) or _strip_byte_mark(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        data, before = error.object, error.object[: error.start]  # without a byte order mark
        place = f"line {before.count(10) + 1}, byte {error.start - (before.rfind(10) + 1) + 1}"
        name = encoding.upper().removesuffix("-SIG")
        raise InputError(f"{file} is not {name}: {place} is 0x{data[error.start]:02x}; save it as UTF-8") from error


def _strip_byte_mark(data: bytes) -> str:
    """UTF-16 where the zero bytes lie on one side of the pairs: those of Latin letters and of line ends do."""
    if len(data) % 2 == 0 and b"\0" in data:
        even, odd = data[::2].count(0), data[1::2].count(0)
        if odd and not even:
            return "utf-16-le"
        if even and not odd:
            return "utf-16-be"
    return "utf-8-sig"


def _read_json_list(text: str, file: Path) -> list[str]:
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
