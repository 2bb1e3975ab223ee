"""One process and one cache for all experiments: imports and features are what costs."""

from pathlib import Path

import pytest

from cd_exp.cli import entry

ROOT = Path(__file__).parents[2]
SHARED = ROOT / "../shared/real"
NO_PAGES = ("report.html=false", "report.figures=false", "report.explorer=none")
QUICK = ("logger=none", "features.progress=false", "features.workers=0", "stability.resamples=0", *NO_PAGES)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Where the cache and the runs of the session lie."""
    return tmp_path_factory.mktemp("experiments")


@pytest.fixture(autouse=True)
def cache_of_the_runs(world, monkeypatch):
    """A manifest says `CD_EXP_CACHE` and not what it was: who opens a run again has it in the environment."""
    monkeypatch.setenv("CD_EXP_CACHE", str(world / "cache"))


@pytest.fixture(scope="session")
def run(world):
    """Run the command line in this process, once for the same words, and return the folder of the run or sweep."""
    done = {}

    def command(*words):
        if words in done:
            return done[words]
        folder = world / f"{len(done):02d}"
        where = f"hydra.sweep.dir={folder}" if "-m" in words else f"hydra.run.dir={folder}"
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(ROOT)
            patch.setenv("CD_EXP_CACHE", str(world / "cache"))
            patch.setattr("sys.argv", ["run.py", *QUICK, *words, where])
            entry.main()
        done[words] = folder
        return folder

    return command


@pytest.fixture(scope="session")
def small(run):
    """The embedded default on few images, Network Dissection beside it."""
    return run("experiment=netdissect_shapes", "probe.size=500", "similarity.top_k=30")
