"""`report.when`: pages with each job, after a sweep's last, or made later from the cache."""

import json
from pathlib import Path

import pytest

from cd_exp import explorer
from cd_exp.cli import entry
from cd_exp.report import main as make_pages

ROOT = Path(__file__).parents[1]
PAGES = ("report.html", "figures/ranks.png", "explorer/index.html")
SMALL = ("probe.size=120", "similarity.top_k=10", "logger=none", "features.progress=false", "features.workers=0")
SMALL += ("model.layers=[fc]", "stability.resamples=5", "similarity.scale=5.5,9.5")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Run a sweep of two jobs in this process; they share a cache."""
    folder = tmp_path_factory.mktemp("when")

    def command(name: str, *words: str) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(ROOT)
            patch.setenv("CD_EXP_CACHE", str(folder / "cache"))
            patch.setattr("sys.argv", ["run.py", "-m", *SMALL, *words, f"hydra.sweep.dir={folder / name}"])
            entry.main()
        return folder / name

    return command


def read(job: Path) -> explorer.PageContent:
    return next(iter(explorer.list_runs(explorer.read_pages(job)).values()))


def made(job: Path) -> list[bool]:
    return [(job / page).is_file() for page in PAGES]


@pytest.mark.long
def test_a_sweep_makes_its_pages_after_the_last_job(sweep):
    folder = sweep("end")
    assert made(folder / "0") == made(folder / "1") == [True] * 3
    last = (folder / "1" / "metrics.json").stat().st_mtime_ns
    assert all((folder / "0" / page).stat().st_mtime_ns > last for page in PAGES)
    assert set(PAGES) <= set(json.loads((folder / "0" / "digests.json").read_text())["files"])
    assert (folder / "explorer" / "index.html").is_file()  # of the sweep, made of those of its jobs


@pytest.mark.slow
def test_with_each_job_they_are_there_before_the_next_begins(sweep):
    folder = sweep("job", "report.when=job")
    last = (folder / "1" / "metrics.json").stat().st_mtime_ns
    assert all((folder / "0" / page).stat().st_mtime_ns < last for page in PAGES)


@pytest.mark.long
def test_never_makes_none_and_the_command_makes_the_same_from_the_cache(sweep, monkeypatch, capsys):
    folder, other = sweep("never", "report.when=never"), sweep("job", "report.when=job")
    assert made(folder / "0") == made(folder / "1") == [False] * 3
    assert not (folder / "figures").exists()
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("CD_EXP_CACHE", str(folder.parent / "empty"))
    assert make_pages([str(folder / "0")]) == 0
    assert "have labels and no images: the cache" in capsys.readouterr().err
    assert read(folder / "0").sheets == {}

    monkeypatch.setenv("CD_EXP_CACHE", str(folder.parent / "cache"))
    assert make_pages([str(folder)]) == 0
    assert made(folder / "0") == made(folder / "1") == [True] * 3
    assert list((folder / "figures").glob("*.png"))
    assert (folder / "explorer" / "index.html").is_file()
    for job in "01":
        ours, expected = read(folder / job), read(other / job)
        assert ours.sheets == expected.sheets
        assert ours.parts["run"]["layers"] == expected.parts["run"]["layers"]
        for key in ("values", "histogram", "nearest", "excited"):
            assert ours.parts["layer-0"][key] == expected.parts["layer-0"][key]

    sweep("job", "report.when=never")  # in the folder of an earlier run: no pages beside other labels
    assert made(other / "0") == [False] * 3
