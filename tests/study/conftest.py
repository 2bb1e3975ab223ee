"""One small run of the built-in synthetic data set for all tests of studies, and studies drawn from it."""

from pathlib import Path

import pytest

from cd_exp.cli import entry
from cd_exp.study.__main__ import main
from cd_exp.study.plan import rehearse

ROOT = Path(__file__).parents[2]
QUICK = ("logger=none", "features.progress=false", "features.workers=0", "report.html=false", "report.figures=false")


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(autouse=True)
def cache_of_the_run(world, monkeypatch):
    """A manifest says `CD_EXP_CACHE` and not what it was: who opens a run again has it in the environment."""
    monkeypatch.setenv("CD_EXP_CACHE", str(world / "cache"))


@pytest.fixture(scope="session")
def run(world):
    """A finished run with Network Dissection beside our own labels, and its explorer."""
    folder = world / "run"
    words = ("experiment=netdissect_shapes", "probe.size=500", "similarity.top_k=30", "stability.resamples=20")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("CD_EXP_CACHE", str(world / "cache"))
        patch.setattr("sys.argv", ["run.py", *QUICK, *words, f"hydra.run.dir={folder}"])
        entry.main()
    return folder


@pytest.fixture(scope="session")
def made(run, world):
    """`made(design)` is the folder of a study of 12 units, drawn once, with answers of simulated people beside it."""
    done = {}

    def of(design):
        if design not in done:
            folder = world / design
            words = ["make", str(run), "--design", design, "--units", "12", "--out", str(folder), "--batch", "8"]
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("CD_EXP_CACHE", str(world / "cache"))
                assert main([*words, *(["--per-unit", "20"] if design == "presence" else [])]) == 0
            rehearse(folder, world / f"{design}_answers", error=0.1)
            done[design] = folder
        return done[design]

    return of


@pytest.fixture
def answers(world, made):
    """`answers(design)` is the folder of files of answers to that study."""
    return lambda design: (made(design), world / f"{design}_answers")[1]
