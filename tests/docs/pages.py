"""The code blocks of the README and of the pages in docs/, with what stands before them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
MADE = {ROOT / "docs/settings.md", ROOT / "docs/dependencies.md"}
"""By `make docs`, from the declarations of the settings and from the installed packages."""

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted({*(ROOT / "docs").glob("*.md")} - MADE)]
READMES = sorted((ROOT / "experiments").glob("*/README.md"))
SHELL = {"bash", "console"}
LANGUAGES = SHELL | {"python", "yaml", "text"}
FENCED = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<language>[^\n]*)\n(?P<body>.*?)^```$", re.M | re.S
)
INDENTED = re.compile(r"(?<=\n\n)(?: {4}\S.*\n)+")
INLINE = re.compile(r"`(python (?:run\.py|-m)[^`]*)`", re.S)
FILE = re.compile(r"# (?P<name>[\w./]+\.(?:py|yaml))\b.*\n")


@dataclass(frozen=True)
class Block:
    """One block of code.

    Attributes:
        page: it stands on.
        line: of the page, from 1.
        language: as written.
        body: without a prompt.
        reason: why it is not run, empty where it is.
    """

    page: Path
    line: int
    language: str
    body: str
    reason: str

    @property
    def file(self) -> str:
        """The file that a reader saves the block as: its first line says so; empty where it is none."""
        match = FILE.match(self.body)
        return match["name"] if match else ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order, but for directives of the site."""
    text = page.read_text()
    items = []
    for match in FENCED.finditer(text):
        language = match["language"].strip()
        if not language.startswith("{"):
            body = re.sub(r"^\$ ", "", match["body"], flags=re.M) if language == "console" else match["body"]
            line = text.count("\n", 0, match.start("language")) + 1
            items.append(Block(page, line, language, body, match["reason"] or ""))
    return items


def indented(page: Path) -> list[str]:
    """Blocks of code without a fence."""
    return INDENTED.findall(re.sub(FENCED, "", page.read_text()))


def commands(text: str) -> list[list[str]]:
    """The words of each command, comments and continuations resolved."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def inline(page: Path) -> list[list[str]]:
    """Commands that stand in a sentence or a table."""
    text = re.sub(FENCED, "", page.read_text())
    return [shlex.split(" ".join(command.split())) for command in INLINE.findall(text)]


def of_run(words: list[str]) -> list[str] | None:
    """What is given to `run.py`, None for another command."""
    words = [word.replace("similarity=NAME", "similarity=cos") for word in words if word != "..."]
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    return words[2:] if words[:2] == ["python", "run.py"] else None
