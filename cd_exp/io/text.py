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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cd_exp.errors import InputError

if TYPE_CHECKING:
    from rich.text import Text

SEPARATOR = "; "
"""Between the names in one cell of a CSV file."""

FEW = 5
"""How many of many a note or an error names."""

_EMPTY = "\\e"  # an empty name in a cell of several, where nothing at all means no name
_STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, invisible format, surrogates, line and paragraph separators
_JOINERS = "\u200c\u200d"  # in Persian and Indian scripts and in emoji: invisible, and part of the spelling
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # devices on Windows, with any suffix
_LONGEST = 48  # characters of a file name: at most 4 bytes each, and file systems take 255 with what is added


def escape_for_terminal(name: object) -> str:
    """The name on one line, with escapes (`\\x1b`, `\\n`, `\\u202e`) for what would steer the terminal.

    >>> escape_for_terminal("red\\x1b[31m fox")
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
    return SEPARATOR.join(map(_escape_separator, names))


@lru_cache(maxsize=2**17)  # a million units have five labels each, of 20,000 words: 20 s less
def _escape_separator(name: str) -> str:
    return re.sub(r"([\\;])", r"\\\1", name) or _EMPTY


def split_names(cell: str) -> tuple[str, ...]:
    """The names that `join_names` put into a cell.

    >>> split_names("cat; salt\\\\; pepper")
    ('cat', 'salt; pepper')
    """
    first, *others = re.findall(r"(?:\\.|[^\\;])+", cell, re.DOTALL) or ("",)
    parts = [first, *(other[1:] for other in others)] if cell else []  # without the space of the separator
    return tuple("" if part == _EMPTY else re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL) for part in parts)


def refuse_repeated(columns: Sequence[str], path: Path) -> None:
    """Refuse a table with two columns of one name, of which a reader would take the last without a word.

    Raises:
        InputError: names the first of them.
    """
    twice = next((name for at, name in enumerate(columns) if name.strip() and name in columns[:at]), None)
    if twice is not None:
        raise InputError(f"{path} has two columns {twice!r}; rename one, or take it out")


def format_csv(rows: Iterable[Sequence[object]]) -> str:
    """Rows as the text of a CSV file that every reader takes apart into the same cells.

    The csv module leaves a lone carriage return unquoted, at which its own reader fails.
    """
    return "".join((",".join(map(_quote_name, row)) or '""') + "\n" for row in rows)


def make_file_name(name: str) -> str:
    """A part of a file name that any system takes; different names give different ones.

    >>> make_file_name("layer4")
    'layer4'
    >>> make_file_name("layer4:max")
    'layer4_max-a583a4e4'
    """
    plain = re.sub(r"[^\w.-]", "_", name)[:_LONGEST]
    kept = plain == name and name.isascii() and not name.startswith(".") and not name.endswith(".")
    if kept and name and not _RESERVED.fullmatch(name) and not re.search(r"-[0-9a-f]{8}$", name):
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{plain.lstrip('.') or '_'}-{digest}"


def cut_text(text: str, most: int) -> str:
    """The text with control characters escaped, and cut where it is longer than there is room for.

    >>> cut_text("a long name", 6)
    'a lon…'
    """
    visible = escape_for_terminal(text)
    return visible if len(visible) <= most else f"{visible[: most - 1]}…"


def describe_near_miss(name: str, lines: Iterable[str]) -> str:
    """For an error about a name that no line is: the line that differs from it in blanks or encoded accents alone.

    >>> describe_near_miss("caf\\u00e9.jpg", ["cafe\\u0301.jpg"])
    "; its line 'cafe\\\\u0301.jpg' differs from 'caf\\\\xe9.jpg' in blanks or in how accents are encoded"
    """
    wanted = unicodedata.normalize("NFC", name.strip())
    twin = next((line for line in lines if unicodedata.normalize("NFC", line.strip()) == wanted), None)
    return "" if twin is None else f"; its line {twin!a} differs from {name!a} in blanks or in how accents are encoded"


def shorten_list(items: Sequence[object]) -> str:
    """The first few of many, and how many more there are.

    >>> shorten_list("abcdefg")
    'a, b, c, d, e and 2 more'
    """
    more = f" and {len(items) - FEW} more" if len(items) > FEW else ""
    return ", ".join(str(item) for item in items[:FEW]) + more


def _escape_match(character: str) -> str:
    if character in _JOINERS or unicodedata.category(character) not in _STEERING:
        return character
    return character.encode("unicode_escape").decode()


_QUOTED = re.compile(r'[,"\r\n]')


def _quote_name(cell: object) -> str:
    text = "" if cell is None else str(cell)
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text


MARKS = (  # the longer first: UTF-32's little-endian mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff]")
"""What no name holds: control characters but for the tab, and a byte order mark within the text."""


NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?%?"
CODE = (
    r"n\d{8}|[\w'-]+\.[nvasr]\.\d\d|/[mgt]/\w+|0x[0-9a-fA-F]+|(?=[a-f]*\d)[0-9a-f]{8,}|Q\d+"
    r"|\d[\d./_-]*\d|[A-Z]{1,4}[-_:]?\d[\d.]*"
)
"""WordNet's numbers and names, Wikidata's, Freebase's, digests, dates, versions, capital letters with digits."""
BY_A_MARK = re.compile(rf"(.*?\S)\s*[\t,;:|=]\s*({NUMBER}|{CODE})")
BY_A_BLANK = re.compile(
    rf"(.*?[^\s,;:|=])\s+({NUMBER}|\d{{1,3}}(?:,\d{{3}})+|n\d{{8}}|[\w'-]+\.[nvasr]\.\d\d|/[mgt]/\w+|[0-9a-f]{{12,}})"
)
PLACES = re.compile(r"/\w/([^\W\d].*?)(?:\s+(\d+))?")  # Freebase's `/m/011k07` go on with a digit
OPEN, CLOSED = "[({<", "])}>"
LONGEST = 1000  # characters; forms are searched in time that grows with the square of it
MANY = 3
"""Lines that have something in common by no accident: two alone may be names (`1 pound`, `2 pounds`)."""
DISTINCT = 0.9
"""Of names without their numbers: where fewer differ, the numbers are what tells them apart (`class 0`, `class 1`)."""

FORMATS: Mapping[str, tuple[int, str]] = {
    rf"{NUMBER}|[A-Z]?\d[\d.:/_-]*\d": (2, "is a number"),
    r"n\d{8}|[\w'-]+\.[nvasr]\.\d\d|/[mgt]/\w+|0x[0-9a-fA-F]+|(?=[a-f]*\d)[0-9a-f]{8,}|Q\d\d+": (2, "is a code"),
    r"[A-Z]{1,4}[-_:]?\d\d[\d.]*": (MANY, "is a code"),
    r"""(["'`\u201c\u2018\u00ab]).*["'`\u201d\u2019\u00bb]\s*[,;]?""": (2, "stands in quotes"),
    r".*[,;]": (2, "ends in a comma or a semicolon"),
    r"- \s*\S.*": (2, "begins with `- `"),
    r"n\d{8}[\s,:;].*\S.*": (2, "begins with a WordNet number"),
    rf"({CODE})\s*[\t,;:|=]\s*.*\S.*": (2, "begins with a code"),
    r"([\w'-]+\.[nvasr]\.\d\d|/[mgt]/\w+)\s.*\S.*": (2, "begins with a code"),
    rf"[{{(\[]?\s*{NUMBER}\s*[\t.:,;)\]|=].*\S.*": (2, "begins with a number"),
    rf"{NUMBER}\s+\S.*": (MANY, "begins with a number"),
    r"[\[({<].*[\])}>]": (2, "stands in brackets"),
    r".*\S\s*[\[({<].*[\])}>]|[\[({<].*[\])}>]\s*\S.*": (MANY, "has brackets"),
    r".*\S\s*(\t|;|\||->|=>|=|::|\s{2,})\s*\S.*": (2, "has a second column"),
    r".*\S(:\s|\s-\s|\s\u2013\s)\s*\S.*": (MANY, "has a second column"),
}
"""What every line of a list has that was written for something else, and no name of its own; from how many lines on."""


@dataclass(frozen=True)
class NameList:
    """The names of a list.

    Attributes:
        names: in the order of the file, blank ones included.
        numbers: what stood behind them, where that was a whole number in every line.
        notes: what was taken off, or put together.
    """

    names: Sequence[str]
    numbers: Sequence[int] | None = None
    notes: tuple[str, ...] = ()


def read_list(path: str | Path, *, setting: str, flatten: bool = False) -> NameList:
    """The names in a text file, one a line, without blanks around them; blank lines are kept.

    Numbers or codes that stand behind a separator in every line are taken off, with a note: `you 28787591`, `cat,12`,
    `/a/abbey 0`. A JSON dictionary of lists gives its lists one after the other, where `flatten` asks for it.

    Args:
        path: the file.
        setting: what named it, for the error.
        flatten: whether dictionaries are taken.

    Raises:
        InputError: as `read_lines`; or all lines have what belongs to another format and to no name: quotes, a
            comma at the end, brackets, a second column, a number in front. It would be a part of every name, in
            silence.
    """
    text = re.sub("\r\n?", "\n", _text(Path(path), setting))
    where = f"{setting}={path}"
    parsed = _json(text, Path(path))
    if isinstance(parsed, dict):
        return _flatten_classes(parsed, Path(path), where, flatten)
    names = [name.strip() for name in _check_lines(text.split("\n") if parsed is None else parsed, Path(path))]
    if parsed is None and names[-1] == "":
        names.pop()
    lines = [name for name in names if name]
    long = next((number for number, name in enumerate(names, 1) if len(name) > LONGEST), None)
    if long is not None:
        raise InputError(
            f"{where}: line {long} has {len(names[long - 1])} characters, of at most {LONGEST}; give one name a line"
        )
    if parsed is None:
        _refuse_other_files(lines, where)
        shorter, numbers = _without_numbers(lines)
        _refuse_formats(shorter, where)
    else:
        shorter, numbers = lines, None
        _refuse_formats(lines, where, only=("is a number", "is a code"))
    return _note_cleaning(names, lines, shorter, numbers, where)


def _note_cleaning(
    names: Sequence[str], lines: Sequence[str], shorter: Sequence[str], numbers: Sequence[int] | None, where: str
) -> NameList:
    """The list with its blank lines, and a note of what was taken off."""
    if list(shorter) == list(lines):
        return NameList(names)
    left = iter(shorter)
    note = f"{where}: what stands behind each name was taken off: {lines[0][:60]!r} -> {shorter[0][:60]!r}"
    return NameList([next(left) if name else "" for name in names], numbers, (note,))


def _without_numbers(lines: Sequence[str]) -> tuple[Sequence[str], Sequence[int] | None]:
    """The lines without the numbers and codes that stand behind a separator in all of them, and the last such numbers.

    >>> _without_numbers(["cat,3", "dog,4"])
    (['cat', 'dog'], [3, 4])
    >>> _without_numbers(["class 0", "class 1", "class 2"])
    (['class 0', 'class 1', 'class 2'], None)
    """
    listed = [PLACES.fullmatch(line) for line in lines]
    if lines and all(listed):
        numbers = [match[2] for match in listed if match]
        return [match[1] for match in listed if match], list(map(int, numbers)) if all(numbers) else None
    numbers_behind: Sequence[int] | None = None
    for form, least in ((BY_A_MARK, 2), (BY_A_BLANK, MANY)) * 4:  # a table may have several such columns
        numbered = [match for match in map(form.fullmatch, lines) if match]
        if len(numbered) < max(least, len(lines)):
            continue
        shorter, values = [match[1] for match in numbered], [match[2] for match in numbered]
        if form is BY_A_BLANK and (len({*shorter}) < DISTINCT * len({*lines}) or all(map(_is_year, values))):
            continue
        lines = shorter
        numbers_behind = [int(value) for value in values] if all(value.isdecimal() for value in values) else None
    return lines, numbers_behind


def _is_year(text: str) -> bool:
    return bool(re.fullmatch(r"(19|20)\d\d", text))


def _refuse_other_files(lines: Sequence[str], where: str) -> None:
    """Refuse a page, a pointer, a program's list, several names on the only line, and a comment above the names."""
    if not lines:
        return
    first, last = lines[0], lines[-1]
    if re.match(r"version https://git-lfs|<!doctype html|<html|<\?xml", first, re.IGNORECASE):
        raise InputError(f"{where} begins with {first[:40]!r} and is no list; fetch the file itself")
    closed = last[-1] in CLOSED and first[-1] not in CLOSED
    program: Any = first[-1] in "[({" or re.fullmatch(r"[\])}]+[,;]?", last) or (first[0] in OPEN and closed)
    if len(lines) == 1:
        program = program or re.fullmatch(r"(\w+ *= *)?[\[({].*[,'\"].*[\])}];?", first)
    if program or (len(lines) == 1 and re.search(r"[\t;|]|,.*,", first)):
        what = "is a list of a programming language" if program else "holds one line, of several names"
        raise InputError(f"{where} {what}, {first[:40]!r}; give one name a line, or a JSON list of strings")
    if re.match(r"(#|//|%)\s", first) and not all(line[0] == first[0] for line in lines):
        raise InputError(f"{where}: line 1 is a comment, {first[:40]!r}; leave it out")
    heading = [match for match in map(BY_A_MARK.fullmatch, lines[1:]) if match]
    if len(heading) == len(lines) - 1 >= 2 and not BY_A_MARK.fullmatch(first) and re.search(r"[\t,;:|=]", first):
        raise InputError(f"{where}: line 1 is the heading of a table, {first[:40]!r}; leave it out")


def _refuse_formats(lines: Sequence[str], where: str, only: Sequence[str] = ()) -> None:
    """Refuse what all lines have in common, or all but a heading, and no name of its own."""
    if not only and (_is_numbered(lines) or _is_numbered(lines[1:])):
        _refuse(where, lines, "begins with a running number")
    for shown in (lines, lines[1:] if len(lines) > MANY else ()):
        for form, (least, what) in FORMATS.items():
            wanted = not only or what in only
            if wanted and len(shown) >= least and all(re.fullmatch(form, line) for line in shown):
                _refuse(where, shown, what)
        if not only and len(shown) >= 2:
            _refuse_marks(shown, where)
    tab = next((line for line in lines if "\t" in line), None)
    if tab is not None and not only:
        raise InputError(f"{where}: a line has a second column behind a tab, {tab[:40]!r}; give the names alone")


def _refuse_marks(lines: Sequence[str], where: str) -> None:
    """Refuse one mark at the beginning or the end of all lines, and columns between commas."""
    for end, what in ((0, "begins"), (-1, "ends")):
        marks = {line[end] for line in lines}
        mark = min(marks)
        written = mark.isalnum() or unicodedata.category(mark).startswith("M")
        if len(marks) == 1 and not written and (mark not in ".!?)" or len(lines) >= MANY):
            _refuse(where, lines, f"{what} with {mark!r}" if end == 0 else f"{what} in {mark!r}")
    fields = [line.split(",") for line in lines]
    if len({len(cells) for cells in fields}) == 1 and len(fields[0]) > 1:
        tight = not any(cell.startswith(" ") for cells in fields for cell in cells[1:])
        repeated = len(lines) > MANY and len({cells[-1] for cells in fields}) <= len(lines) / 2
        if tight or repeated:
            _refuse(where, lines, "has a second column")


def _refuse(where: str, lines: Sequence[str], what: str) -> None:
    numbers = "; names that are numbers go into a list of texts in place of the file" if what == "is a number" else ""
    raise InputError(f"{where}: every line {what}, as {lines[-1][:40]!r}; give the names alone, one a line{numbers}")


def _is_numbered(lines: Sequence[str]) -> bool:
    """Whether the lines are numbered from 0 or 1; a number alone is a unit without a name.

    Two lines from 1 on may be names (`1 pound`, `2 pounds`); nobody counts those from 0.
    """
    matches = [re.fullmatch(r"[{(\[]?\s*(\d+)(?:\s*[\s.:,;)\]].*)?", line) for line in lines]
    numbers = [int(match[1]) for match in matches if match]
    named = any(not line.isdecimal() for line in lines)
    counted = next((first for first in (0, 1) if numbers == [*range(first, first + len(lines))]), None)
    return named and counted is not None and len(lines) >= (MANY if counted else 2)


def _flatten_classes(parsed: Mapping[str, Any], file: Path, where: str, flatten: bool) -> NameList:
    """The concepts of all classes of a dictionary of lists, as they are published beside concept bottlenecks."""
    lists = list(parsed.values())
    keyed_by_number = all(re.fullmatch(NUMBER, key) for key in parsed)
    if not flatten or keyed_by_number or not all(isinstance(item, list) and item for item in lists):
        raise InputError(f"{file} is JSON, an object; give a list of strings, or one name a line")
    if not all(isinstance(name, str) for item in lists for name in item):
        raise InputError(f"{file} is JSON, lists that hold other things than strings; give lists of strings")
    names = _check_lines([name for item in lists for name in item], file)
    note = f"{where}: a dictionary of {len(lists)} classes, read as one list of their {len(names)} concepts"
    return NameList([name.strip() for name in names], None, (note,))


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
    text = re.sub("\r\n?", "\n", _text(Path(path), setting))
    parsed = _json(text, Path(path))
    if isinstance(parsed, dict):
        raise InputError(f"{path} is JSON, an object; give a list of strings, or one name a line")
    if parsed is not None:
        return _check_lines(parsed, Path(path))
    lines = text.split("\n")  # not splitlines(), which also splits at U+2028 and form feeds
    return _check_lines(lines[:-1] if lines[-1] == "" else lines, Path(path))


def _text(file: Path, setting: str) -> str:
    if not file.is_file():
        raise InputError(f"{setting}={file}: there is no such file (seen from {Path.cwd()})")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{setting}={file} cannot be read: {error.strerror}") from error
    return decode_text(data, file)


def _check_lines(lines: list[str], file: Path) -> list[str]:
    """The lines, none of which holds a control character."""
    for number, line in enumerate(lines, 1):
        wrong = CONTROL.search(line)
        if wrong:
            raise InputError(
                f"{file}: line {number} holds the control character U+{ord(wrong[0]):04X} "
                f"at column {wrong.start() + 1}; it is no plain text, or damaged: save it as UTF-8 without it"
            )
    return lines


def decode_text(data: bytes, file: Path) -> str:
    """The text of a file, by its byte order mark, by where its zero bytes are, or as UTF-8.

    Raises:
        InputError: it is none of these; names the line and the byte.
    """
    encoding = next((encoding for mark, encoding in MARKS if data.startswith(mark)), None) or _guess_encoding(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        data, before = error.object, error.object[: error.start]  # without a byte order mark
        position = f"line {before.count(10) + 1}, byte {error.start - (before.rfind(10) + 1) + 1}"
        name = encoding.upper().removesuffix("-SIG")
        raise InputError(f"{file} is not {name}: {position} is 0x{data[error.start]:02x}; save it as UTF-8") from error


def _guess_encoding(data: bytes) -> str:
    """UTF-16 where the zero bytes lie on one side of the pairs: those of Latin letters and of line ends do.

    A zero byte in a file of Latin letters makes no UTF-16 of it: there, most pairs have one.
    """
    if len(data) % 2 == 0 and b"\0" in data:
        even, odd = data[::2].count(0), data[1::2].count(0)
        if (even == 0) != (odd == 0) and (4 * (even + odd) > len(data) or not _is_utf8(data)):
            return "utf-16-be" if even else "utf-16-le"
    return "utf-8-sig"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _json(text: str, file: Path) -> list[str] | dict[str, Any] | None:
    """The strings of a JSON list, or a JSON object; None for plain lines."""
    bare = text.strip()
    if (bare[:1], bare[-1:]) not in {("[", "]"), ("{", "}")}:
        return None
    try:
        value = json.loads(bare)
    except json.JSONDecodeError as error:
        if bare.partition("\n")[0].strip() in ("[", "{"):  # nobody's name
            reason = f"line {error.lineno}: {error.msg}"
            raise InputError(f"{file} looks like JSON and is broken ({reason}); give one name a line") from error
        return None
    except RecursionError as error:
        raise InputError(f"{file} is JSON nested too deeply; give a list of strings, or one name a line") from error
    if isinstance(value, dict):
        return value
    if not all(isinstance(item, str) for item in value):
        raise InputError(
            f"{file} is JSON, a list that holds other things than strings; give a list of strings, or one name a line"
        )
    for number, item in enumerate(value, 1):
        if "\n" in item:
            raise InputError(f"{file}: entry {number} of the JSON list has a line break; a name is one line")
    return value


def flatten_dict(values: Mapping[str, Any], *, separator: str = "/", drop: Sequence[str] = ()) -> dict[str, Any]:
    """Nested mappings as one, keys joined by `separator`; an interval becomes `KEY_low` and `KEY_high`.

    >>> flatten_dict({"layers": {"fc": {"top1": 40.0, "ci95": [30.0, 50.0]}}}, drop=["layers"])
    {'fc/top1': 40.0, 'fc/ci95_low': 30.0, 'fc/ci95_high': 50.0}

    Args:
        values: to any depth.
        separator: between the keys.
        drop: outermost keys that are left out of the names.
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            inner = flatten_dict(value, separator=separator)
            flat |= inner if key in drop else {f"{key}{separator}{name}": item for name, item in inner.items()}
        elif str(key).endswith("ci95"):
            flat |= {f"{key}_low": value[0], f"{key}_high": value[1]}
        else:
            flat[str(key)] = value
    return flat
