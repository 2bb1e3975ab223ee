"""Fixtures that several folders of tests share."""

import gc
import os
import signal
from pathlib import Path

import pytest
from helpers.browsing import browser
from hypothesis import settings
from jaxtyping import install_import_hook

ROOT = Path(__file__).resolve().parents[1]

# Every call of a module that annotates arrays is held to its annotations, shapes with them. Not in the other modules:
# mypy reads those, and checking each call of `io.text` and `config` as well took a fifth of the suite's time.
install_import_hook(
    [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "cd_exp").rglob("*.py"))
        if "from jaxtyping import" in path.read_text()
    ],
    "beartype.beartype",
)

from helpers.made_outcomes import MANIFEST, make_outcome  # noqa: E402 (they import what is to be checked)

from cd_exp.records import RunResult  # noqa: E402

# CI tries the same examples every time, so that a change is judged and not the draw; a laptop goes on looking.
settings.register_profile("ci", derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_collection_finish() -> None:
    """What is loaded by now stays: looking through it for rubbish again and again is a tenth of the suite's time."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_sessionfinish() -> None:
    """Else libraries that look for what they leaked complain at the end."""
    gc.unfreeze()


@pytest.fixture
def outcome() -> RunResult:
    return make_outcome()


@pytest.fixture
def many_units() -> RunResult:
    return make_outcome(units=500, images=200)


@pytest.fixture
def manifest() -> dict:
    return MANIFEST


@pytest.fixture(scope="session")
def opened_browser(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def window(opened_browser):
    """Every browser test begins with a laptop's window in light colours."""
    opened_browser.size(1280, 860)
    opened_browser.scheme("light")
    opened_browser.complaints()
    return opened_browser


@pytest.fixture(autouse=True)
def signals_as_they_were():
    """The command line leaves signals unheeded: there the process is at its end, here it goes on."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) != handler:
            signal.signal(number, handler)
