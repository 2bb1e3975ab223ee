"""Our launcher configs: they extend the plugins' own, and are at work."""

import csv
import json
import re
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra_plugins.hydra_joblib_launcher.config import JobLibLauncherConf
from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf
from omegaconf import OmegaConf

from cd_exp.cli.run_command_line import objective, run_command_line
from cd_exp.config import construct
from cd_exp.errors import InputError
from cd_exp.sweep.__main__ import main

APP = """
import os, sys
from pathlib import Path
import hydra
from hydra.core.hydra_config import HydraConfig

@hydra.main(version_base="1.3", config_path={conf!r}, config_name=None)
def job(settings):
    Path(HydraConfig.get().runtime.output_dir, "pid").write_text(str(os.getpid()))
    if HydraConfig.get().job.num == 0:
        raise ValueError("boom")

if __name__ == "__main__":
    job()
"""


@pytest.mark.parametrize(
    ("name", "schema", "set_here"),
    [
        ("processes", JobLibLauncherConf, {"n_jobs": 2, "batch_size": "1"}),
        ("slurm", SlurmQueueConf, {"timeout_min": 240, "gpus_per_node": 1, "stderr_to_stdout": True}),
    ],
    ids=["processes", "slurm"],
)
def test_ours_extends_the_config_of_the_plugin_and_builds_its_launcher(name, schema, set_here):
    with initialize_config_dir(str(construct.config_folder()), version_base="1.3"):
        launcher = compose(overrides=[f"hydra/launcher={name}"], return_hydra_config=True).hydra.launcher
    theirs = OmegaConf.structured(schema)
    assert set(launcher) == set(theirs)
    assert launcher._target_ == theirs._target_
    assert {key: launcher[key] for key in set_here} == set_here
    for key in {"submitit_folder", "name"} & set(launcher):
        launcher[key] = key  # these are made from the names of the sweep and its job, which only a multirun has
    assert isinstance(Plugins.instance()._instantiate(launcher), Launcher)


@pytest.mark.parametrize("name", ["joblib", "submitit_slurm", "basic"])
def test_the_launchers_of_the_plugins_compose_beside_ours(name):
    with initialize_config_dir(str(construct.config_folder()), version_base="1.3"):
        composed = compose(overrides=[f"hydra/launcher={name}"], return_hydra_config=True)
    assert "_target_" in composed.hydra.launcher


@pytest.mark.slow
def test_processes_run_two_jobs_at_once_and_a_failing_one_hides_no_other(tmp_path):
    app = tmp_path / "app.py"
    app.write_text(APP.format(conf=str(construct.config_folder())))
    done = subprocess.run(
        [sys.executable, str(app), "-m", "hydra/launcher=processes", f"hydra.sweep.dir={tmp_path}/sweep", "+x=1,2,3"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode != 0
    assert "boom" in done.stderr
    assert len({(tmp_path / "sweep" / name / "pid").read_text() for name in "012"}) == 2


RUN = ["logger=none", "probe.size=300", "stability.resamples=0", "features.progress=false", "features.workers=0"]
RUN += ["report.html=false", "report.figures=false", "report.explorer=none", "model.layers=[fc]"]


def swept(tmp_path, monkeypatch, *words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CD_EXP_CACHE", str(tmp_path / "cache"))
    run_command_line(["-m", *words, *RUN])


@pytest.mark.slow
def test_choices_with_settings_of_their_own_are_swept_as_the_error_says(tmp_path, monkeypatch):
    with pytest.raises(InputError) as refused:
        swept(tmp_path, monkeypatch, "similarity=cos,wpmi", "similarity.top_k=10,20")
    commands = re.findall(r"-m (\S+ .*?hydra.sweep.dir=DIR/\d)", str(refused.value))
    assert len(commands) == 2
    for command in commands:
        swept(tmp_path, monkeypatch, *command.replace("DIR", "all").split())
    assert "python -m cd_exp.sweep DIR" in str(refused.value)
    main(["all"])
    with (tmp_path / "all" / "sweep.csv").open(newline="") as file:
        rows = {(row["similarity"], row["similarity.top_k"], row["status"]) for row in csv.DictReader(file)}
    assert rows == {("cos", "-", "ok"), ("wpmi", "10", "ok"), ("wpmi", "20", "ok")}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the plugin's own libraries
def test_optuna_searches_for_the_highest_accuracy(tmp_path, monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="the extra optuna is not installed")
    words = ["hydra/sweeper=optuna", "similarity=wpmi,cos_cubed", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1"]
    with pytest.raises(
        InputError, match=r"would search for the worst labels.*hydra.sweeper.direction=maximize"
    ) as refused:
        swept(tmp_path, monkeypatch, *words)
    remedy = str(refused.value).rpartition(" ")[2]
    for sampler in ("tpe", "random"):
        sweep_dir = f"hydra.sweep.dir={sampler}"
        swept(tmp_path, monkeypatch, *words, remedy, f"hydra/sweeper/sampler={sampler}", sweep_dir)
        best = OmegaConf.load(tmp_path / sampler / "optimization_results.yaml")
        runs = [json.loads(path.read_text()) for path in tmp_path.glob(f"{sampler}/*/metrics.json")]
        top1 = [run["layers"]["fc"]["top1"] for run in runs]
        assert best.best_value == max(top1)
    with pytest.raises(InputError, match=r"custom_search_space would call code by its name"):
        swept(tmp_path, monkeypatch, *words, remedy, "hydra.sweeper.custom_search_space=os.mkdir")
    with pytest.raises(InputError, match=r"hydra.sweeper.sampler._target_=os.mkdir is not Hydra's own"):
        swept(tmp_path, monkeypatch, *words, remedy, "hydra.sweeper.sampler._target_=os.mkdir")


def test_what_a_search_goes_by(tmp_path):
    def of(**layers):
        (tmp_path / "metrics.json").write_text(json.dumps({"layers": layers}))
        return objective(tmp_path)

    assert of(fc={"top1": 80.0, "stability_mean": 0.5}, conv={"stability_mean": 0.9}) == 80.0
    assert of(fc={"stability_mean": 0.5}, conv={"stability_mean": 0.75}) == 62.5
    assert of(fc={}) is None
