"""What the machine refuses, rights, memory and names, and what tools print: one line, whatever the door."""

import ctypes
import os
import resource
import runpy
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import torchvision  # noqa: F401  as cd_exp.experiment below
from PIL import Image

import cd_exp.experiment  # noqa: F401  imported once, before the forks
from cd_exp.cli import entry, run_command_line  # noqa: F401

ROOT = Path(__file__).parents[1]
QUICK = ["probe.size=40", "similarity=cos", "model.layers=[fc]", "stability.resamples=0", "logger=none"]
QUICK += ["features.progress=false", "features.workers=0", "report.html=false", "report.figures=false"]
QUICK += ["report.explorer=none"]
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root has a way around permissions to give up")


@pytest.fixture
def refused(monkeypatch, tmp_path, capfd):
    """Type a line in a fork of this process, after some preparation: its status and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CD_EXP_CACHE", str(tmp_path / "cache"))

    def type_line(words, prepare=lambda: None):
        typed = {word.partition("=")[0] for word in words}
        common = [word for word in QUICK if word.partition("=")[0] not in typed]
        common = common[1:] if "probe" in typed else common
        child = os.fork()
        if child == 0:
            status = 0
            try:
                sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
                torch.set_num_threads(1)  # OpenMP's other threads did not come along, and waiting for them has no end
                prepare()
                sys.argv = ["run.py", *common, *words]
                entry.main()
            except SystemExit as leaving:
                status = leaving.code or 0
            except BaseException as error:
                os.write(2, f"Traceback {error!r}".encode())
                status = 1
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status), capfd.readouterr().err

    return type_line


def without_roots_way():
    """Take from this process what lets root read and write everything."""
    libc = ctypes.CDLL(None)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    for position in range(3):
        sets[position] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    assert libc.capset(header, sets) == 0


@pytest.fixture
def closed(tmp_path):
    """Files and folders of mode 000."""
    (tmp_path / "words.txt").write_text("red\nblue\n")
    (tmp_path / "mine.py").write_text("def words():\n    return ['red', 'blue']\n")
    (tmp_path / "images").mkdir()
    for index in range(3):
        Image.new("RGB", (20, 20), (60 * index, 0, 0)).save(tmp_path / "images" / f"{index}.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text("# @package _global_\ntop: 3\n")
    names = ("words.txt", "mine.py", "images", "out", "conf/experiment/mine.yaml")
    for name in names:
        (tmp_path / name).chmod(0)
    yield tmp_path
    for name in names:
        (tmp_path / name).chmod(0o700)


@root_only
@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("concepts=file concepts.path=words.txt", "words.txt"),
        ("concepts=custom concepts.factory=mine.py:words", "mine.py"),
        ("probe=folder probe.root=images", "images"),
        ("hydra.run.dir=out/run", "out"),
        ("cache.dir=out", "out"),
        ("--config-dir=conf experiment=mine", "mine.yaml"),
        ("calibration.path=words.txt", "words.txt"),
    ],
)
def test_what_may_not_be_read_or_written_is_one_line_that_names_it(line, named, closed, refused):
    status, said = refused(line.split(), without_roots_way)
    assert status == 2, said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert named in said


@pytest.mark.parametrize(
    "line",
    [
        "concepts=file concepts.path={long}.txt",
        "probe=folder probe.root={long}",
        "hydra.run.dir={long}",
        "cache.dir={long}",
        "judge=custom judge.factory={long}.py:f",
        "similarity={long}",
        "model.layers=[{long}]",
        "--config-dir={long} experiment={long}",
        "logger=wandb logger.mode=offline logger.tags=[{tag}]",
        "baseline=published baseline.path={long}.csv",
        "units=sae units.layer=layer4 units.path={long}",
    ],
)
def test_a_name_that_is_too_long_is_one_line(line, refused):
    status, said = refused([word.format(long="x" * 300, tag="t" * 65) for word in line.split()])
    assert status == 2, said
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_aliases_that_stand_for_more_than_memory_holds_are_refused_with_the_file(tmp_path, refused):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    levels = "".join(f"b{level + 1}: &b{level + 1} [{', '.join([f'*b{level}'] * 9)}]\n" for level in range(12))
    (tmp_path / "conf" / "experiment" / "bomb.yaml").write_text("# @package _global_\nb0: &b0 [x, x, x]\n" + levels)
    status, said = refused(["--config-dir=conf", "experiment=bomb"])
    assert status == 2, said
    assert "bomb.yaml: with its aliases written out it holds more than" in said
    assert said.count("\n") == 1


HELD: list[bytearray] = []


def test_an_address_space_that_is_full_is_one_line(refused):
    def limit():
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 20_000_000,) * 2)
        with suppress(MemoryError):  # what a long test process has freed would do for a small run
            while True:
                HELD.append(bytearray(1_000_000))
        del HELD[-20:]

    status, said = refused([], limit)
    assert status == 2, said
    assert said.startswith("error: no memory is left; ")
    assert said.count("\n") == 1


WARNS = """
import warnings
def words():
    warnings.warn("of a library", stacklevel=1)
    raise ValueError("mine")
"""


def test_warnings_do_not_stand_before_the_line(tmp_path, refused):
    (tmp_path / "mine.py").write_text(WARNS)
    status, said = refused(["concepts=custom", "concepts.factory=mine.py:words"])
    assert status == 2, said
    assert said.splitlines()[0].startswith("error: ")


def run_tool(tool, words, monkeypatch):
    """As `python -m cd_exp.TOOL` does, in this process."""
    monkeypatch.setattr("sys.argv", [f"python -m cd_exp.{tool}", *words])
    monkeypatch.delitem(sys.modules, f"cd_exp.{tool}.__main__", raising=False)  # runpy warns of one that is there
    monkeypatch.delitem(sys.modules, f"cd_exp.{tool}", raising=False)
    # runpy compiles past the cache of jaxtyping's import hook: stored where Python looks, every later `python -m` of
    # the tool would end in a KeyError of jaxtyping.
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    runpy.run_module(f"cd_exp.{tool}", run_name="__main__")


TOOLS = ["cache", "sweep", "report", "embed", "referee", "study", "calibrate"]


@pytest.mark.parametrize("tool", TOOLS)
def test_the_arguments_of_a_tool_are_refused_in_one_line_without_its_usage(tool, monkeypatch, capsys):
    with pytest.raises(SystemExit) as leaving:
        run_tool(tool, ["--nosuch"], monkeypatch)
    said = capsys.readouterr().err
    assert leaving.value.code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ("cache", ["list", "--dir", "x" * 300]),
        ("sweep", ["x" * 300]),
        ("report", ["x" * 300]),
        ("embed", [".", "--clip", "shapes", "--concepts", "x" * 300, "out"]),
    ],
)
def test_a_name_that_is_too_long_for_a_tool_is_one_line(tool, words, monkeypatch, capsys):
    with pytest.raises(SystemExit) as leaving:
        run_tool(tool, words, monkeypatch)
    said = capsys.readouterr().err
    assert leaving.value.code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1


@pytest.mark.slow
@root_only
def test_a_tiny_shared_memory_is_one_line_with_the_remedy(tmp_path):
    run = f"mount -t tmpfs -o size=64k none /dev/shm && {sys.executable} run.py probe.size=600 features.workers=2"
    run += f" {' '.join(QUICK[1:6])} hydra.run.dir={tmp_path}/run cache.dir={tmp_path}/cache"
    settings = {"cwd": ROOT, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "capture_output": True, "text": True}
    mounted = subprocess.run(["unshare", "-m", "bash", "-c", run], **settings, check=False)
    assert mounted.returncode == 2, mounted.stderr
    assert mounted.stderr.count("\n") == 1
    assert "features.workers=0" in mounted.stderr
    remedied = run.replace("features.workers=2", "features.workers=0")
    subprocess.run(["unshare", "-m", "bash", "-c", remedied], **settings, check=True)
