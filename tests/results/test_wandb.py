import csv
import json
import os
import pty
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from PIL import Image

from cd_exp import results
from cd_exp.errors import InputError
from cd_exp.io.text import flatten_dict
from cd_exp.results.wandb import NoLogger, RunInfo, Wandb

CONF = Path(__file__).parents[2] / "conf" / "logger"
CONFIG = {
    "model": {"name": "resnet18"},
    "similarity": {"_target_": "cd_exp.similarity.soft_wpmi", "top_k": 100},
    "seed": 0,
}


def records(folder: Path, which: int = -1) -> list[dict]:
    """What the last run file says, read back by W&B's own reader."""
    path = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))[which]
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    shown = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in shown.stdout.splitlines()]


def of(kind: str, history: list[dict]) -> list[dict]:
    return [record[kind] for record in history if record["type"] == kind]


def summary_of(history: list[dict]) -> dict:
    values: dict = {}
    for record in of("summary", history):
        values |= record["update"]
    return values


def files_of(folder: Path) -> dict[str, Path]:
    """What the last run's artifacts hold: name in the artifact -> staged file."""
    return {
        entry["path"]: Path(entry["local_path"])
        for artifact in of("artifact", records(folder))
        for entry in artifact["manifest"]["contents"]
    }


def logged(outcome, folder, logger, about=None):
    """Record a finished run whose files lie in the folder."""
    with logger.begin(folder, about or RunInfo(config={})) as record:
        return record.finish(outcome, folder=folder)


@pytest.fixture
def written(outcome, manifest, tmp_path):
    results.write_run_files(tmp_path, outcome, manifest={**manifest, "baselines": list(outcome.baselines)})
    return tmp_path


@pytest.fixture
def no_key(monkeypatch, tmp_path):
    """A machine on which nobody has logged in to W&B."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.mark.slow
def test_an_offline_run_says_what_the_files_say(outcome, written, capfd):
    about = RunInfo(config=CONFIG, group="sweep 1", job_type="dissect", name="job 3")
    said = logged(outcome, written, Wandb(project="tests", tags=["a"], units=7, images=3), about)
    assert capfd.readouterr() == ("", "")
    history = records(written)
    (run,) = of("run", history)[:1]
    assert (run["project"], run["run_group"], run["job_type"], run["display_name"], run["tags"]) == (
        "tests", "sweep 1", "dissect", "job 3", ["a"],
    )  # fmt: skip
    assert {key: run["config"]["update"][key] for key in CONFIG} == CONFIG
    assert said.startswith("wandb sync ")
    assert Path(said.removeprefix("wandb sync ")).parent == written / "wandb"
    assert not [key for record in of("run", history) for key in ("host", "git") if key in record]
    assert of("run", history)[-1]["notes"] == "2 units of fc never fire: 3, 7"
    metrics, summary = json.loads((written / "metrics.json").read_text()), summary_of(history)
    assert summary["fc/top1"] == metrics["layers"]["fc"]["top1"]
    assert [summary["fc/ci95_low"], summary["fc/ci95_high"]] == metrics["layers"]["fc"]["ci95"]
    assert summary["layer4.1.act2/units"] == 60
    assert summary["baselines/netdissect/fc/top1"] == metrics["baselines"]["netdissect"]["fc"]["top1"]
    assert summary["seconds/total"] == metrics["seconds"]["total"]
    assert {key: summary[key] for key in flatten_dict(metrics, drop=["layers"])} == flatten_dict(
        metrics, drop=["layers"]
    )
    assert of("exit", history)[-1]["exit_code"] == 0


def test_the_table_and_the_files_stay_in_the_run_folder(outcome, written):
    logged(outcome, written, Wandb(units=7, images=3))
    staged = files_of(written)
    assert all(path.is_relative_to(written / "wandb") for path in staged.values())
    for name in ("labels.csv", "labels_netdissect.csv", "metrics.json"):
        assert staged[name].read_bytes() == (written / name).read_bytes()
    assert "comparisons.table.json" in staged
    table = json.loads(staged["labels.table.json"].read_text())
    with (written / "labels.csv").open(newline="") as file:
        rows = {(row["layer"], row["unit"]): row for row in csv.DictReader(file)}
    assert len(table["data"]) == 7
    assert table["columns"] == [*next(iter(rows.values())), "images"]
    for layer, unit, description, similarity, _, _, rank, *_, image in table["data"]:
        row = rows[layer, str(unit)]
        assert (description, similarity) == (row["description"], float(row["similarity"]))
        assert rank == (float(row["rank_of_truth"]) if row["rank_of_truth"] else None)
        assert image["caption"] == row["description"]
        with Image.open(staged[image["path"]]) as picture:
            assert picture.size == (3 * 96, 96)


def test_the_environment_is_left_as_it_was(outcome, written, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "false")
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    before = dict(os.environ)
    logged(outcome, written, Wandb(units=0))
    assert {**os.environ, "WANDB_SERVICE": ""} == {**before, "WANDB_SERVICE": ""}  # of a W&B process that still runs


@pytest.mark.slow
def test_a_run_that_fails_is_finished_and_marked_and_the_next_has_its_own_config(tmp_path):
    first, second = tmp_path / "0", tmp_path / "1"
    first.mkdir()
    second.mkdir()
    with pytest.raises(RuntimeError, match="in the middle"), Wandb().begin(first, RunInfo(config={"job": 0, "old": 1})):
        raise RuntimeError("in the middle")
    with Wandb().run(folder=second, about=RunInfo(config={"job": 1})) as run:
        run.summary["x"] = 2
    failed, good = records(first), records(second)
    assert of("exit", failed)[-1]["exit_code"] == 1
    assert summary_of(failed)["error"] == "RuntimeError: in the middle"
    assert of("exit", good)[-1]["exit_code"] == 0
    config = of("run", good)[0]["config"]["update"]
    assert (config["job"], "old" in config) == (1, False)


@pytest.mark.slow
def test_a_run_begun_again_in_its_folder_goes_on_under_its_id_and_another_project_has_another(outcome, written):
    logged(outcome, written, Wandb(units=0))
    time.sleep(1.1)  # W&B names its folders by the second
    logged(outcome, written, Wandb(units=0))
    ids = [of("run", records(written, which))[0]["run_id"] for which in (0, 1)]
    assert ids[0] == ids[1]
    time.sleep(1.1)
    logged(outcome, written, Wandb(units=0, project="other"))
    assert of("run", records(written))[0]["run_id"] != ids[0]


def test_the_table_may_hold_every_unit(outcome, written):
    logged(outcome, written, Wandb(units="all", images=1))
    staged = files_of(written)
    assert len(json.loads(staged["labels.table.json"].read_text())["data"]) == sum(
        len(labels.units) for labels in outcome.labels.values()
    )


def test_the_artifact_has_page_and_figures_and_no_file_of_others(outcome, written):
    (written / "figures").mkdir()
    for name in ("report.html", "figures/accuracy.png", "labels_of_others.csv"):
        (written / name).write_text(name)
    logged(outcome, written, Wandb(units=0))
    staged = files_of(written)
    assert {"report.html", "figures/accuracy.png", "labels.csv", "manifest.json"} <= staged.keys()
    assert "labels_of_others.csv" not in staged


@pytest.mark.slow
def test_system_metrics_are_sampled_unless_they_are_turned_off(tmp_path):
    for wanted in (True, False):
        folder = tmp_path / str(wanted)
        folder.mkdir()
        with Wandb(system_metrics=wanted).run(folder=folder, about=RunInfo(config={})):
            time.sleep(3)
        history = records(folder)
        assert bool(of("stats", history)) is wanted
        assert "environment" not in {record["type"] for record in history}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_offline_looks_nothing_up(tmp_path):
    code = f"""
from pathlib import Path
from cd_exp.results.wandb import RunInfo, Wandb
with Wandb().run(folder=Path({str(tmp_path)!r}), about=RunInfo(config={{}})) as run:
    run.summary["x"] = 1
"""
    trace = tmp_path / "trace"
    watched = ["strace", "-f", "-e", "trace=connect,sendto,sendmsg", "-o", str(trace), sys.executable, "-c", code]
    subprocess.run(watched, check=True, capture_output=True, env={**os.environ, "WANDB_MODE": "online"})
    assert "exited with 0" in trace.read_text()
    assert not [line for line in trace.read_text().splitlines() if "AF_INET" in line]


def test_online_without_a_key_is_an_error_and_no_menu(outcome, written, no_key):
    began = time.monotonic()
    with pytest.raises(InputError, match=r"logger.mode=online, but W&B knows no key: .*use logger.mode=offline"):
        logged(outcome, written, Wandb(mode="online"))
    assert time.monotonic() - began < 10
    assert not (written / "wandb" / "latest-run").exists()


@pytest.mark.slow
def test_on_a_terminal_no_menu_waits_and_without_a_network_an_error_comes_in_bounded_time(tmp_path, no_key):
    """In a process of its own: W&B keeps the address of its server for the life of a process."""
    code = f"""
import os, time
from pathlib import Path
import wandb
from cd_exp.errors import InputError
from cd_exp.results.wandb import RunInfo, Wandb
for key in (None, "a" * 40):
    if key:
        os.environ["WANDB_API_KEY"] = key
    began = time.monotonic()
    try:
        with Wandb(mode="online", init_timeout=2).begin(Path({str(tmp_path)!r}), RunInfo(config={{}})): pass
    except InputError as error:
        print(f"{{time.monotonic() - began:.2f}} {{error}}")
"""
    leader, follower = pty.openpty()
    with socket.socket() as bound, os.fdopen(leader, "rb", buffering=0) as terminal:
        bound.bind(("127.0.0.1", 0))  # not listening: every connection is refused
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        streams = {"stdin": follower, "stdout": follower, "stderr": follower}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"WANDB_BASE_URL": address},
            timeout=120,
            check=False,
            **streams,
        )
        os.close(follower)
        lines = terminal.read(8192).decode().splitlines()
    assert (done.returncode, len(lines)) == (0, 2), lines
    (first, no_key_known), (second, no_answer) = (line.split(" ", 1) for line in lines)
    assert float(first) < 10 > float(second)
    assert no_key_known.startswith("logger.mode=online, but W&B knows no key: run `wandb login`")
    assert no_answer.startswith("W&B did not begin a run with logger.mode=online: ")
    assert no_answer.endswith("; logger.mode=offline needs no network")


def test_a_key_of_the_wrong_form_is_an_error(outcome, written, no_key, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "abc")
    with pytest.raises(InputError, match=r"did not begin a run with logger.mode=online: WANDB_API_KEY invalid"):
        logged(outcome, written, Wandb(mode="online"))


def test_an_unknown_mode_is_an_error_with_the_nearest_one():
    with pytest.raises(InputError, match=r"logger.mode 'ofline' is not known; did you mean 'offline'\?"):
        Wandb(mode="ofline")


def test_disabled_and_none_log_nothing(outcome, written):
    assert logged(outcome, written, Wandb(mode="disabled")) is None
    assert logged(outcome, written, NoLogger()) is None
    assert not (written / "wandb").exists()


def test_nothing_heavy_is_imported_before_it_is_needed():
    code = """
import sys
from cd_exp import results as report; from cd_exp.results import wandb as tracking
with tracking.NoLogger().begin(None, None) as record: record.finish(None, folder=None)
with tracking.Wandb(mode="disabled").begin(None, None) as record: record.finish(None, folder=None)
early = {"wandb", "matplotlib", "jinja2", "scipy.stats", "timm", "open_clip", "torchvision"} & set(sys.modules)
assert not early, early
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_choices_of_the_group_bind(monkeypatch):
    from hydra.utils import instantiate

    monkeypatch.delenv("WANDB_MODE", raising=False)
    settings = instantiate(OmegaConf.load(CONF / "wandb.yaml"), _convert_="all")
    assert settings == Wandb(tags=[])
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert instantiate(OmegaConf.load(CONF / "wandb.yaml"), _convert_="all").mode == "disabled"
    assert instantiate(OmegaConf.load(CONF / "none.yaml"), _convert_="all") == NoLogger()


def test_names_are_joined_by_slashes_and_intervals_have_two():
    nested = {"layers": {"fc": {"top1": 1.0, "ci95": [0.5, 2.0]}}, "seconds": {"total": 3.0}}
    assert flatten_dict(nested, drop=["layers"]) == {
        "fc/top1": 1.0,
        "fc/ci95_low": 0.5,
        "fc/ci95_high": 2.0,
        "seconds/total": 3.0,
    }


def test_a_table_without_pictures(outcome, written):
    logged(outcome, written, Wandb(project="p", mode="offline", images=0))
    table = next(path for name, path in files_of(written).items() if name.endswith("labels.table.json"))
    held = json.loads(table.read_text())
    assert "images" not in held["columns"]
    assert held["data"]
