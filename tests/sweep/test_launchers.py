"""Our launcher configs: they extend the plugins' own, and are at work."""

import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra_plugins.hydra_joblib_launcher.config import JobLibLauncherConf
from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf
from omegaconf import OmegaConf

from cd_exp.config import construct

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
