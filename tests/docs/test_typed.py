"""The blocks of each page, typed as they stand, one after another, in a reader's folder."""

import os
import subprocess
from pathlib import Path

import pytest
from pages import PAGES, ROOT, SHELL, Block, blocks
from reader import furnish

TYPED = [page for page in PAGES if any(not block.reason and block.language != "text" for block in blocks(page))]
NEWEST = "DATE_TIME"


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """One for all pages: features are what costs."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def folder(tmp_path, cache, monkeypatch) -> Path:
    monkeypatch.setenv("CD_EXP_CACHE", str(cache))
    monkeypatch.setenv("PATH", f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return furnish(tmp_path)


def done(script: list[str], folder: Path) -> None:
    made = subprocess.run(script, cwd=folder, capture_output=True, text=True, timeout=900, stdin=subprocess.DEVNULL)
    assert made.returncode == 0, f"{script[-1]}\n{made.stdout[-2000:]}\n{made.stderr[-2000:]}"
    assert "Traceback" not in made.stderr


def shell(text: str, folder: Path) -> str:
    """The script of a block; DATE_TIME is the newest folder there is in its place."""
    if NEWEST in text:
        newest = max((folder / "outputs/sweeps").iterdir(), key=lambda path: path.stat().st_mtime)
        text = text.replace(NEWEST, newest.name)
    return f"set -eu\n{text}"


def type_in(block: Block, folder: Path) -> None:
    if block.file:
        (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
        (folder / block.file).write_text(block.body)
    if block.language in SHELL:
        done(["bash", "-c", shell(block.body, folder)], folder)
    elif block.language == "python":
        done(["python", block.file] if block.file else ["python", "-c", block.body], folder)


@pytest.mark.long
@pytest.mark.parametrize("page", TYPED, ids=lambda page: page.stem)
def test_what_the_page_shows_runs(page, folder):
    for block in blocks(page):
        if not block.reason:
            type_in(block, folder)


def test_every_page_with_code_is_typed_or_says_why_not():
    assert {page.stem for page in TYPED} >= {"README", "start", "bring_your_own", "sweeps", "units", "faithfulness"}
    assert all(len(block.reason) > 10 for page in PAGES for block in blocks(page) if block.reason)
