"""Names of units, layers, concepts and images as each place that shows or stores them can carry them.

A name may be any text: it comes from concept files, checkpoints, folders and users' own code. Here alone it is decided
what becomes of it in a terminal, in a cell of `labels.csv`, and in the name of a file.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

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


def for_terminal(name: object) -> str:
    """The name on one line, with escapes (`\\x1b`, `\\n`, `\\u202e`) for what would steer the terminal.

    >>> for_terminal("red\\x1b[31m fox")
    'red\\\\x1b[31m fox'
    """
    return "".join(_escaped(character) for character in str(name))


def terminal_text(name: object, style: str = "") -> "Text":
    """The same as text that rich shows as it is: brackets in a plain string would be read as its markup."""
    from rich.text import Text

    return Text(for_terminal(name), style=style)


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


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as the text of a CSV file that every reader takes apart into the same cells.

    The csv module leaves a lone carriage return unquoted, at which its own reader fails.
    """
    return "".join((",".join(map(_quoted, row)) or '""') + "\n" for row in rows)


def file_name(name: str) -> str:
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


def cut(text: str, most: int) -> str:
    """The text with control characters escaped, and cut where it is longer than there is room for."""
    visible = for_terminal(text)
    return visible if len(visible) <= most else f"{visible[: most - 1]}…"


def shortened(items: Sequence[object]) -> str:
    """The first few of many, and how many more there are.

    >>> shortened("abcdefg")
    'a, b, c, d, e and 2 more'
    """
    more = f" and {len(items) - FEW} more" if len(items) > FEW else ""
    return ", ".join(str(item) for item in items[:FEW]) + more


def _escaped(character: str) -> str:
    if character in _JOINERS or unicodedata.category(character) not in _STEERING:
        return character
    return character.encode("unicode_escape").decode()


def _quoted(cell: object) -> str:
    text = "" if cell is None else str(cell)
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text
