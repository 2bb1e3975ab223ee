"""What the README and the pages in docs/ tell a reader to type: every command composes, every setting is one."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.composing_lines import composes, known_settings
from pages import INLINE, LANGUAGES, PAGES, READMES, ROOT, SHELL, blocks, commands, indented, inline, of_run

ALL = [*PAGES, *READMES]
SETTING = re.compile(r"`([a-z_]+(?:\.[a-z_]+)+)=")
OF_HYDRA = {"hydra"}


def shown(page: Path) -> list[list[str]]:
    """All commands of a page, in blocks and in sentences."""
    texts = [*(block.body for block in blocks(page) if block.language in SHELL), *indented(page)]
    return [*(words for text in texts for words in commands(text)), *inline(page)]


RUNS = {  # a line of several pages once, wherever it writes to: composing takes .2 s
    tuple(word for word in words if not word.startswith("hydra.run.dir=")): (page, words)
    for page in reversed(ALL)
    for command in shown(page)
    if (words := of_run(command)) is not None
}.values()
MODULES = [(page, command) for page in ALL for command in shown(page) if command[:2] == ["python", "-m"]]


def name(value) -> str:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else " ".join(value)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_blocks_have_a_language_and_a_fence(page):
    assert {block.language for block in blocks(page)} <= LANGUAGES
    assert not indented(page)


@pytest.mark.slow
@pytest.mark.parametrize(("page", "words"), RUNS, ids=name)
def test_every_run_composes(page, words, monkeypatch):
    if "--config-dir" in words or "[group=choice" in words:
        pytest.skip("needs a folder of the reader's, and is run; or shows the form alone")
    monkeypatch.setenv("IMAGENET_VAL", "DIR")
    monkeypatch.chdir(ROOT)
    composes(*words)


@pytest.mark.parametrize(("page", "words"), MODULES, ids=name)
def test_every_module_is_there_with_the_options_shown(page, words, monkeypatch):
    monkeypatch.chdir(ROOT)
    spec = find_spec(words[2])
    assert spec
    if spec.submodule_search_locations:
        spec = find_spec(f"{words[2]}.__main__")
    assert spec
    assert spec.origin
    sources = "".join(path.read_text() for path in Path(spec.origin).parent.glob("*.py"))
    assert not [word for word in words[3:] if word.startswith("--") and f'"{word}"' not in sources]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_setting_is_one(page):
    names, wrong = known_settings(), []
    for setting in SETTING.findall(re.sub(INLINE, "", page.read_text())):
        first = ".".join(setting.split(".")[:2])
        if first not in names and setting.split(".")[0] not in OF_HYDRA:
            wrong.append(setting)
    assert not wrong


def test_there_is_something_to_check():
    assert len(RUNS) > 40
    assert len(MODULES) > 30
