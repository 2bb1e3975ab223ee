"""An installed package offers choices of the groups: the example is installed beside the environment and run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/cd_exp_example"
ALL = [
    "model=colour_channels",
    "probe=colour_patches",
    "concepts=colour_names",
    "clip=mean_colour",
    "similarity=sharpened",
]
ALL += ["baseline=brightest", "judge=correlation", "similarity.power=2", "probe.count=60", "model.gain=2"]
SMALL = ["logger=none", "report.html=false", "report.figures=false", "report.explorer=none", "features.workers=0"]
slow = pytest.mark.slow  # a process that imports torch


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that the example is installed in, as an installer does it."""
    folder = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("source") / "example")  # a build leaves files beside it
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    uv = [shutil.which("uv", path=beside) or "uv", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*uv, "--python", sys.executable, "--target", folder, source], check=True, capture_output=True)
    return folder


def command(installed, *words, cwd=ROOT):
    paths = [ROOT, *([installed] if installed else [])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "cd_exp", *words], cwd=cwd, env=environment, capture_output=True, text=True
    )


def offered(text):
    return {
        line.partition(":")[0]: line.partition(":")[2].strip().split(", ") for line in text.splitlines() if ":" in line
    }


@pytest.mark.slow
def test_help_lists_what_is_installed_and_nothing_else(installed):
    groups = offered(command(installed, "--help").stdout)
    for word in ALL[:7]:
        group, _, name = word.partition("=")
        assert name in groups[group]
    assert "sharpened" not in offered(command(None, "--help").stdout)["similarity"]


@pytest.mark.slow
@slow
def test_one_plugin_of_each_kind_runs_with_its_settings(installed, tmp_path):
    run, cache = tmp_path / "run", tmp_path / "cache"
    done = command(installed, *ALL, *SMALL, f"hydra.run.dir={run}", f"cache.dir={cache}", "features.progress=false")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["layers"]["1"]["top1"] == 100
    assert metrics["baselines"]["brightest"]["1"]["units"] == 3
    assert metrics["layers"]["1"]["faithfulness.pearson"] > 0.5
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["versions"]["cd-exp-example"] == "0.1.0"
    assert manifest["config"]["similarity"] == {"_target_": "cd_exp_example.sharpened", "power": 2}
    assert manifest["config"]["probe"]["count"] == 60


@pytest.mark.parametrize(
    ("word", "message"),
    [
        pytest.param("similarity.power=x", "similarity.power='x' is of type str, expected a number", marks=slow),
        ("similarity.sharpness=2", "setting 'similarity.sharpness' is not known"),
        ("similarity.options={power:2}", "similarity.options"),
        pytest.param("similarity._target_=os.system", "constructor 'os.system' is not offered", marks=slow),
        ("similarity=sharpend", "did you mean 'sharpened'?"),
    ],
)
def test_a_wrong_setting_of_a_plugin_is_one_line(installed, tmp_path, word, message):
    done = command(installed, "similarity=sharpened", word, *SMALL, f"hydra.run.dir={tmp_path}/run")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("points", "files", "message"),
    [
        ("cos = mine:f", ["conf/similarity/cos.yaml"], "mine offers similarity=cos, but cd-exp has that name already"),
        ("new = mine:f", [], "mine offers similarity=new, but there is no "),
        pytest.param("new = mine:g", ["conf/similarity/new.yaml"], "mine.g of the package mine cannot be", marks=slow),
        pytest.param("new = mine:f", ["conf/similarity/new.yaml"], "returned float, expected a tensor", marks=slow),
    ],
)
def test_a_plugin_that_does_not_hold_the_contract_is_refused(tmp_path, points, files, message):
    package, about = tmp_path / "mine", tmp_path / "mine-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[cd_exp.similarity]\n{points}\n")
    package.mkdir()
    (package / "__init__.py").write_text("def f(match, neurons):\n    return 1.0\n")
    for name in files:
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("{}\n")
    words = ["similarity=new"] if points.startswith("new") else []
    more = ["probe.size=20", "model.layers=[fc]", f"cache.dir={tmp_path}/cache", "features.progress=false"]
    done = command(tmp_path, *words, *SMALL, *more, f"hydra.run.dir={tmp_path}/run")
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert not (tmp_path / "run/labels.csv").exists()


def test_the_whole_contract_is_a_file_of_at_most_80_lines():
    text = (ROOT / "cd_exp/config/plugin_packages.py").read_text()
    assert len(text.splitlines()) <= 80
    points = (EXAMPLE / "pyproject.toml").read_text()
    for group in ("similarity", "probes", "concepts", "clips", "models", "baselines", "judges"):
        assert f'"cd_exp.{group}"' in text
        assert f'entry-points."cd_exp.{group}"' in points
