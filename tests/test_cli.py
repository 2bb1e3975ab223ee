"""The command line as users type it: in one process where errors are looked at, in processes of their own where not."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.reading import read_metrics
from PIL import Image

from cd_exp import __version__
from cd_exp.cli import entry

ROOT = Path(__file__).parents[1]
SHARED = ROOT / "../shared/real"
shared = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/real is not here")
SMALL = ["probe.size=300", "similarity.top_k=20", "report.html=false", "report.figures=false", "logger=none"]
QUICK = ["features.progress=false", "features.workers=0"]


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run the command in this process: (exit status, standard output, standard error, run folder)."""

    def command(*words, folder="run"):
        monkeypatch.chdir(ROOT)
        monkeypatch.setenv("CD_EXP_CACHE", str(tmp_path / "cache"))
        path = tmp_path / folder
        sweep = "-m" in words
        where = [f"hydra.sweep.dir={path}" if sweep else f"hydra.run.dir={path}"]
        monkeypatch.setattr("sys.argv", ["run.py", *words, *where])
        status = 0
        try:
            entry.main()
        except SystemExit as leaving:
            status = leaving.code or 0
        out, err = capsys.readouterr()
        return status, out, err, path

    return command


def test_help_teaches_and_is_quick():
    took = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        shown = subprocess.run(
            [sys.executable, "run.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    for word in ("model=resnet50 similarity=soft_wpmi", "clip: ", "vit_b_16", "similarity: cos, cos_cubed"):
        assert word in shown.stdout
    assert min(took) < 1.5  # of the processor: other tests run beside this one


@pytest.mark.parametrize(
    ("file", "name"),
    [("run.py", "python run.py"), ("/x/bin/cd-exp", "cd-exp"), ("/x/cd_exp/__main__.py", "python -m cd_exp")],
)
def test_help_and_version_say_how_it_was_started(monkeypatch, capsys, file, name):
    monkeypatch.setattr("sys.argv", [file, "--version"])
    with pytest.raises(SystemExit):
        entry.main()
    assert capsys.readouterr().out == f"cd_exp {__version__}\n"
    monkeypatch.setattr("sys.argv", [file, "--help"])
    entry.main()
    assert f"  {name} baseline=netdissect" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", [file, "--wrong"])
    with pytest.raises(SystemExit):
        entry.main()
    wanted = f"error: unrecognized arguments: --wrong; {name} --help shows the flags and settings\n"
    assert capsys.readouterr().err == wanted


def test_the_package_is_a_command():
    shown = subprocess.run([sys.executable, "-m", "cd_exp", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, f"cd_exp {__version__}\n", "")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['run.py', '--help']\n"
        "from cd_exp.cli.entry import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'timm', 'open_clip', 'wandb', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


def test_the_embedded_world_end_to_end(run):
    status, out, _, folder = run(*SMALL, *QUICK)
    assert status == 0
    metrics = read_metrics(folder)
    assert set(metrics["layers"]) == {"layer4", "fc"}
    final = metrics["layers"]["fc"]
    assert final["units"] == final["judged"] == 100
    assert 0 < final["top1"] <= 100
    assert final["ci95"][0] <= final["top1"] <= final["ci95"][1]
    lines = (folder / "labels.csv").read_text().splitlines()
    assert lines[0].startswith("layer,unit,description,similarity,top5,truth,rank_of_truth")
    assert len(lines) == 1 + sum(layer["units"] for layer in metrics["layers"].values())
    manifest = json.loads((folder / "manifest.json").read_text())
    assert len(manifest["cache"]["made"]) == 5  # the maps of layer4 too
    assert manifest["choices"]["similarity"] == "soft_wpmi"
    assert "fc" in out
    assert str(folder.name) in out.replace("\n", "")

    status, _, _, again = run(
        *[word for word in SMALL if "top_k" not in word], *QUICK, "similarity=cos", folder="again"
    )
    assert status == 0
    cache = json.loads((again / "manifest.json").read_text())["cache"]
    assert cache["made"] == []
    assert len(cache["read"]) == 4

    status, _, _, same = run(*SMALL, *QUICK, folder="same")
    assert (same / "labels.csv").read_bytes() == (folder / "labels.csv").read_bytes()


@pytest.mark.slow
def test_network_dissection_beside_our_labels(run):
    status, out, _, folder = run(*SMALL, *QUICK, "baseline=netdissect")
    assert status == 0
    assert set(read_metrics(folder)["baselines"]["netdissect"]) == {"layer4", "fc"}
    assert (folder / "tally_layer4.csv").is_file()
    assert (folder / "labels_netdissect.csv").is_file()
    assert all(heading in out for heading in ("clip_dissect − netdissect", "identical labels"))

    tally = folder / "tally_layer4.csv"
    published = ["baseline=published", f"baseline.path={tally}", "baseline.layer=layer4"]
    status, _, _, other = run(*SMALL, *QUICK, *published, folder="published")
    assert status == 0
    ours, theirs = read_metrics(folder)["baselines"]["netdissect"], read_metrics(other)["baselines"]["published"]
    assert theirs["layer4"]["top1"] == pytest.approx(ours["layer4"]["top1"])

    status, *_ = run(*SMALL, *QUICK)  # into the folder of the first
    assert status == 0
    assert not [*folder.glob("labels_*.csv"), *folder.glob("tally_*.csv"), *folder.glob("comparisons.json")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["modell=resnet50"], "modell"),
        (["model=resnet5"], "resnet5"),
        (["similarity.top_kk=3"], "top_kk"),
        (["seed=many"], "seed"),
        (["similarity.top_k=many"], "similarity.top_k='many' is of type str, expected a whole number from 1"),
        (["model.layers=[layer5]"], "layer 'layer5' is not in shapes; did you mean 'layer"),
        (["concepts=file", "concepts.path=none.txt"], "none.txt: there is no such file"),
        (["concepts=file"], "concepts.path must be set"),
        (["probe=folder", "probe.root=nowhere"], "nowhere"),
        (["probe.size=1"], "has 1 image; at least two are needed"),
        (["device=cuda:99"], "cuda"),
        (["features.precision=half"], "features.precision 'half' is not known; choose from auto, bfloat16"),
        (["logger.mode=onlin"], "did you mean 'online'"),
        (["model._target_=os.system"], "constructor 'os.system' is not offered for model"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_status_2(run, words, message):
    common = [word for word in SMALL if word.split("=")[0] not in {part.split("=")[0] for part in words}]
    if any(word.startswith("similarity.top_kk") for word in words):
        common = [word for word in common if "top_k" not in word]
    if any(word.startswith("probe=") for word in words):
        common = [word for word in common if not word.startswith("probe.size")]
    if any(word.startswith("logger.") for word in words):
        common.remove("logger=none")
    status, out, err, folder = run(*common, *QUICK, *words)
    assert status == 2, (out, err)
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not (folder / "metrics.json").exists()
    assert not (folder / "labels.csv").exists()


def test_an_empty_concept_set_is_named(run, tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n")
    status, _, err, _ = run(*SMALL, *QUICK, "concepts=file", f"concepts.path={tmp_path / 'empty.txt'}")
    assert status == 2
    assert "empty.txt" in err


@pytest.mark.slow
def test_a_probe_smaller_than_top_k_is_a_defined_result(run):
    default = [word for word in SMALL if "top_k" not in word]
    status, out, _, folder = run(*default, *QUICK, "probe.size=30")
    assert status == 0
    assert "similarity.top_k=100 reads all 30 images" in " ".join(out.split())
    assert "similarity.top_k=3 fits" in " ".join(out.split())
    assert read_metrics(folder)["layers"]["fc"]["judged"] == 100


def test_own_images_words_and_network(run, tmp_path):
    for index in range(6):
        pixels = np.random.default_rng(index).integers(0, 255, (20, 30, 3), dtype=np.uint8)
        (tmp_path / "images" / "sub").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / "sub" / f"{index}.png")
    (tmp_path / "images" / "bad.png").write_bytes(b"not an image")
    (tmp_path / "words.txt").write_text('red circle\n\nblue, "square"\nred circle\n<blink>\n')
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\nfrom torchvision.transforms import v2\n"
        "def make():\n    torch.manual_seed(0)\n"
        "    shape = v2.Compose([v2.Resize((8, 8)), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])\n"
        "    layers = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 3)\n"
        "    return nn.Sequential(*layers), shape, None\n"
    )
    words = [
        "model=custom",
        f"model.factory={tmp_path}/mine.py:make",
        'model.layers=["0","3"]',
        "probe=folder",
        f"probe.root={tmp_path}/images",
        "concepts=file",
        f"concepts.path={tmp_path}/words.txt",
        "clip=shapes",
        "similarity.top_k=3",
        "logger=none",
    ]
    status, _, err, _ = run(*words, *QUICK)
    assert status == 2
    assert "1 of 7 images" in err
    assert "bad.png" in err
    status, out, _, folder = run(*words, *QUICK, "probe.on_error=skip", folder="skipped")
    assert status == 0
    assert [layer["units"] for layer in read_metrics(folder)["layers"].values()] == [4, 3]
    assert "top1" not in read_metrics(folder)["layers"]["0"]
    assert json.loads((folder / "manifest.json").read_text())["images"]["skipped"] == ["bad.png"]
    assert "<blink>" not in (folder / "report.html").read_text()
    assert "unreadable" in out


@pytest.mark.slow
def test_a_sweep_has_a_folder_each_and_a_failed_job_hides_no_other(run):
    status, _, err, folder = run("-m", *SMALL, *QUICK, "similarity.top_k=20,0")
    assert status != 0
    assert (folder / "0" / "metrics.json").is_file()
    assert "top_k" in json.loads((folder / "1" / "error.json").read_text())["error"]
    table = (folder / "sweep.csv").read_text()
    assert "failed" in table
    assert "top_k" in err


@pytest.mark.slow
def test_wandb_offline_has_the_numbers_of_metrics_json(run):
    status, _, _, folder = run(*[word for word in SMALL if word != "logger=none"], *QUICK)
    assert status == 0
    record = next(folder.glob("wandb/offline-run-*/run-*.wandb"))
    read = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(record)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    summary = {}
    for record in map(json.loads, read.splitlines()):
        summary |= record["summary"]["update"] if record["type"] == "summary" else {}
    for layer, metrics in read_metrics(folder)["layers"].items():
        for name in ("top1", "top5", "mean_rank", "clip_cosine"):
            assert summary[f"{layer}/{name}"] == pytest.approx(metrics[name])


@pytest.mark.slow
def test_without_a_network_the_papers_setting_says_what_to_do_within_ten_seconds(tmp_path):
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    began = time.monotonic()
    command = [sys.executable, "run.py", "model=resnet50", "similarity=soft_wpmi", f"hydra.run.dir={tmp_path}/run"]
    command.append(f"data_dir={tmp_path}")
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    took = time.monotonic() - began
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert "set" in ended.stderr
    assert took < 10 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


REAL = {
    "cos": (5.6, 20.7, 75.38, 29),
    "cos_cubed": (12.6, 36.2, 47.39, 11),
    "wpmi": (12.4, 34.2, 49.22, 12),
    "soft_wpmi": (22.1, 48.4, 33.61, 6),
}
"""top-1, top-5, mean rank and median rank that the published functions give on these inputs."""


@pytest.mark.long
@shared
@pytest.mark.shared
def test_the_real_photographs_give_the_published_numbers(run):
    for name, (top1, top5, mean, median) in REAL.items():
        status, _, err, folder = run(
            "experiment=real_photos",
            f"data_dir={SHARED}",
            f"similarity={name}",
            "logger=none",
            "report.html=false",
            "report.figures=false",
            "report.explorer=none",
            "stability.resamples=0",
            "features.progress=false",
            folder=name,
        )
        assert status == 0, err
        layers = read_metrics(folder)["layers"]
        assert list(layers) == ["layer1", "layer2", "layer3", "layer4", "fc"]
        assert layers["fc"]["top1"] == pytest.approx(top1, abs=0.3)
        assert layers["fc"]["top5"] == pytest.approx(top5, abs=0.3)
        assert layers["fc"]["mean_rank"] == pytest.approx(mean, rel=0.01)
        assert layers["fc"]["median_rank"] == pytest.approx(median, abs=1)


def test_a_run_ends_at_once_and_loses_nothing(tmp_path):
    """What Python does at exit is done, output is whole, and the status is kept."""
    code = (
        "import atexit, sys, threading, time\n"
        "from cd_exp.cli import entry\n"
        "class Slow:\n    def __del__(self): print('taken apart')\n"
        "kept = Slow()\n"
        "atexit.register(lambda: print('at exit'))\n"
        "def work():\n    time.sleep(.2)\n    print('thread')\n"
        "entry.main = lambda: (threading.Thread(target=work).start(), print('x' * 100_000), {END})\n"
        "entry.run_program()\n"
    )
    for end, status in (("None", 0), ("sys.exit(3)", 3), ("sys.exit()", 0)):
        path = tmp_path / "out.txt"
        with path.open("w") as file:
            command = [sys.executable, "-c", code.replace("{END}", end)]
            assert subprocess.run(command, cwd=ROOT, stdout=file, check=False).returncode == status
        assert path.read_text().split() == ["x" * 100_000, "thread", "at", "exit"]


@pytest.mark.parametrize("watch", [("cProfile", "-o", "watched"), ("trace", "--count", "-C", ".", "-f", "watched")])
def test_under_a_profiler_or_coverage_a_run_ends_as_python_does(tmp_path, watch):
    script = tmp_path / "script.py"
    script.write_text("from cd_exp.cli import entry\nentry.main = lambda: None\nentry.run_program()\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", *watch, str(script)], cwd=tmp_path, check=True, env=environment)
    assert (tmp_path / "watched").is_file()  # written at the very end


def test_a_closed_pipe_is_reported_as_python_does():
    code = "from cd_exp.cli import entry\nentry.main = lambda: print('x')\nentry.run_program()\n"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        run.stdout.close()
        assert run.stderr.read().count(b"BrokenPipeError") == 1
    assert run.returncode == 120
