import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.reading import file_states

from cd_exp.errors import InputError
from cd_exp.results import run_folder

ROOT = Path(__file__).parents[2]


def begin(folder: Path) -> None:
    """What Hydra does at the beginning of a run."""
    (folder / ".hydra").mkdir(exist_ok=True)
    for name in run_folder.BEGUN:
        (folder / name).write_text("new")


def fails(folder, error, **files):
    with own(folder) as run_path:
        begin(run_path)
        for name, text in files.items():
            (run_path / name.replace("_", ".")).write_text(text)
        raise error


def own(folder, *, timed=False):
    return run_folder.open_run_folder(folder, setting="hydra.run.dir", timed=timed)


@pytest.mark.parametrize("error", [InputError("no"), KeyboardInterrupt(), SystemExit(2)])
def test_a_refused_run_leaves_no_folder(tmp_path, error):
    with pytest.raises(type(error)):
        fails(tmp_path / "a" / "b" / "run", error)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_run_leaves_what_was_there_as_it_was(tmp_path):
    folder = tmp_path / "run"
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text("old")
    (folder / "metrics.json").write_text("{}")
    (folder / "mine.txt").write_text("a user's own")
    before = file_states(folder)
    with pytest.raises(InputError):
        fails(folder, InputError("no"))
    assert file_states(folder) == before


def test_an_empty_folder_of_the_users_stays(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(InputError):
        fails(tmp_path / "run", InputError("no"))
    assert list((tmp_path / "run").iterdir()) == []


def test_what_somebody_put_into_a_new_folder_stays(tmp_path):
    with pytest.raises(InputError):
        fails(tmp_path / "run", InputError("no"), mine_txt="a user's own")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_a_bug_leaves_its_traces_and_so_does_a_run_with_results(tmp_path):
    with pytest.raises(TypeError):
        fails(tmp_path / "bug", TypeError("ours"))
    assert (tmp_path / "bug" / "run.log").is_file()
    with pytest.raises(InputError):
        fails(tmp_path / "late", InputError("the tracker does not answer"), metrics_json="{}")
    assert (tmp_path / "late" / ".hydra" / "config.yaml").is_file()


def test_runs_begun_at_once_have_a_folder_each(tmp_path):
    def begun(_):
        with own(tmp_path / "2026-01-01_00-00-00", timed=True) as run_path:
            return run_path.name

    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(begun, range(8)))
    assert len(set(names)) == 8
    assert {"2026-01-01_00-00-00", "2026-01-01_00-00-00_2", "2026-01-01_00-00-00_8"} <= set(names)


def test_two_runs_do_not_work_in_one_folder_at_once_but_one_after_the_other(tmp_path):
    busy = pytest.raises(InputError, match=r"another run is at work in .*run; give this one its own hydra.run.dir")
    with own(tmp_path / "run"), busy, own(tmp_path / "run"):
        pass
    with own(tmp_path / "run") as run_path:
        assert list(run_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="names of devices")
def test_a_folder_that_cannot_be_made_is_said():
    refused = pytest.raises(InputError, match=r"hydra.run.dir=/proc/none/run cannot be made: .*; give another folder")
    with refused, own(Path("/proc/none/run")):
        pass


@pytest.mark.slow
def test_three_runs_of_the_same_second_keep_their_results_apart(tmp_path):
    code = (
        "import sys\nfrom hydra.core.utils import setup_globals\nimport hydra.core.utils as utils\n"
        "class Now:\n    @staticmethod\n    def now():\n        import datetime\n"
        "        return datetime.datetime(2026, 1, 1)\n"
        "utils.datetime = Now\nsys.argv[0] = 'run.py'\nfrom cd_exp.cli.entry import main\nmain()\n"
    )
    words = ["probe.size=40", "similarity.top_k=5", "report.html=false", "report.figures=false", "logger=none"]
    words += ["features.progress=false", "features.workers=0", "stability.resamples=0", "report.explorer=none"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "CD_EXP_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    running = [
        subprocess.Popen([sys.executable, "-c", code, *words, f"top={top}"], cwd=tmp_path, env=environment)
        for top in (1, 2, 3)
    ]
    assert [process.wait() for process in running] == [0, 0, 0]
    folders = sorted((tmp_path / "outputs" / "runs").iterdir())
    assert len(folders) == 3
    tops = {len((folder / "labels.csv").read_text().splitlines()[1].split(",")[4].split("; ")) for folder in folders}
    assert tops == {1, 2, 3}
