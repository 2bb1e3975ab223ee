"""Command lines that are wrong: each ends in one line that begins with `error: `, status 2, and leaves no trace."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.reading import file_states
from PIL import Image

from cd_exp.cli import entry

ROOT = Path(__file__).parents[1]

VALUES = """
top=0 | top=0 is out of range, expected a whole number from 1
top=-1 | expected a whole number from 1
top=1.5 | top=1.5 does not fit: expected a whole number from 1
top=many | top=many does not fit: expected a whole number
top=null | expected a whole number from 1
top=[1] | expected a whole number from 1
seed=-1 | seed=-1 is out of range, expected a whole number from 0
seed=nan | expected a whole number from 0
features.workers=-1 | expected a whole number from 0 to 256, or null
features.workers=1000 | expected a whole number from 0 to 256, or null
features.batch_size=0 | expected a whole number from 1, or null
features.precision=half | features.precision 'half' is not known; choose from auto, bfloat16, float16, float32
features.precision=null | expected one of auto, float32, bfloat16, float16
features.progress=maybe | features.progress=maybe does not fit: expected true or false
features.keep=all | choose from auto, dense, lists
features.dense_limit=-1 | expected a number from 0
features.dense_limit=nan | expected a number from 0
distributed.processes=0 | distributed.processes=0 is out of range, expected a whole number from 1
report.units=-1 | report.units=-1 is out of range, expected a whole number from 0
report.images=-1 | expected a whole number from 0
report.html=perhaps | expected true or false
report.explorer=page | choose from auto, folder, none, single
stability.resamples=-1 | expected a whole number from 0
stability.resamples=10001 | expected a whole number from 0 to 10000
abstain.stability=0.5 | setting abstain.stability is not known: it was removed
device=gpu | device='gpu' is out of range, expected one of auto, cpu, cuda, cuda:0
device=cuda:99999999999999999999 | expected one of auto, cpu, cuda
device=mps | has no MPS device; set device=cpu
hydra.run.dir=${nope} | hydra.run.dir: Interpolation key 'nope' not found
hydra.run.dir=${hydra.run.dir} | hydra.run.dir: Recursive interpolation detected
hydra.run.dir=${oc.env:NO_SUCH_VARIABLE} | NO_SUCH_VARIABLE
hydra.output_subdir=labels.csv | is a name that a run writes results under
hydra.output_subdir=explorer | is a name that a run writes results under
hydra.job.chdir=true | would change what relative paths mean
hydra.job.env_copy=[NO_SUCH_VARIABLE] | does not fit together (KeyError: 'NO_SUCH_VARIABLE')
seed=1e3 | seed=1e3 does not fit
device=cuda:x | expected one of auto, cpu, cuda
data_dir= | data_dir='' is empty, expected text
cache.dir=FILE | that is a file; give a folder
cache.dir=FILE/below | is a file; give a folder
cache=null | cache is no setting itself; it holds cache.dir
report=none | report is no setting itself; it holds report.when, report.html
seed=99999999999999999999 | seed=99999999999999999999 is out of range, expected a whole number from 0 below
distributed.processes=99999 | distributed.processes=99999 is out of range, expected a whole number from 1 to 256
distributed.processes=256 | distributed.processes=256: this machine does at most
hydra.run.dir='' | hydra.run.dir='' is empty, expected text
hydra.output_subdir=/tmp/elsewhere | expected the name of a folder in the run folder, or null
hydra.output_subdir=.. | expected the name of a folder in the run folder, or null
-m seed=1,2 hydra.sweeper.max_batch_size=-1 | expected a whole number from 1, or null
-m seed=1,2 hydra.sweep.dir='' | hydra.sweep.dir='' is empty, expected text
units=directions units.layer=layer4 units.path=GARBAGE | cannot be read as tensors: it is no file of torch tensors
hydra.run.dir=FILE | that is a file; give a folder
hydra.run.dir=FILE/below | is a file; give a folder
similarity.scale=nan | similarity.scale=nan is out of range, expected a number above 0
similarity.scale=inf | expected a number above 0
similarity.scale=-1 | similarity.scale=-1 is out of range, expected a number above 0
similarity.scale=ten | similarity.scale='ten' is of type str, expected a number above 0
similarity.scale=null | similarity.scale=null is empty, expected a number
similarity.top_k=0 | expected a whole number from 1
similarity.top_k=100000000000000000000 | expected a whole number from 1 to 10000000
similarity.top_k=300 probe.size=300 | takes all 300 images for the strongest of every unit; give similarity.top_k=30
similarity=wpmi similarity.top_k=28 probe.size=28 | takes all 28 images for the strongest of every unit
similarity.top_k=2.5 | similarity.top_k=2.5 is of type float, expected a whole number from 1
similarity.prior_weight=nan | expected a number
similarity.first_membership=1.5 | expected a number from 0 to 1
model.layers=[] | model.layers=[] is empty, expected a list of text
model.layers=fc | write model.layers=[fc]
model.layers=null | model.layers=null is empty, expected a list
model.layers=[1] | expected a list of text
model.layers={a:b} | model.layers
model.layers=[layer5] | layer 'layer5' is not in shapes; did you mean 'layer4'
model.final=nope | layer 'nope' is not in shapes
probe.size=0 | expected a whole number from 1
probe.size=1 | at least two are needed
probe.seed=-1 | expected a whole number from 0
probe.on_error=ignore | probe.on_error 'ignore' is not known; choose from error, skip
probe.limit=0 | expected a whole number from 1, or null
probe=folder | probe.root must be set: add probe.root=VALUE
probe=folder probe.root=nowhere | probe.root=nowhere: there is no such folder
probe=folder probe.root=FILE | there is no such folder
probe=folder probe.root=null | probe.root=null is empty, expected text
probe=folder probe.root=EMPTY | holds no image
probe=files probe.path=none.txt | none.txt: there is no such file
probe=imagenet_val | set probe.root=DIR
concepts=words | concepts.names must be set
concepts=words concepts.names=red | write concepts.names=[red]
concepts=words concepts.names=[] | concepts.names=[] is empty
concepts=words concepts.names=[1,2] | holds 1, which is no text
concepts=file concepts.path=none.txt | none.txt: there is no such file
concepts=file concepts.path=null | concepts.path=null is empty
concepts=imagenet concepts.names=all | choose from lemmas, openai, published
concepts=common_words concepts.count=0 | expected a whole number from 1
concepts.templates=x | must have exactly one {}
clip=open_clip | clip.architecture must be set
clip=precomputed clip.folder=nowhere | clip.folder=nowhere has no image_embeddings.npy
baseline=netdissect baseline.min_iou=2 | expected a number above 0 below 1
baseline=netdissect baseline.quantile=0 | expected a number above 0 below 1
baseline=published | baseline.path must be set
baseline=published baseline.path=none.csv | none.csv
baseline=published baseline.path=FILE | expected a header
baseline=published baseline.path={} | baseline.path
logger=wandb logger.project=a/b | expected a name of at most 128 characters without /
logger=wandb logger.project= | logger.project='' is empty
logger=wandb logger.mode=onlin | logger.mode 'onlin' is not known; did you mean 'online'
logger=wandb logger.units=-1 | expected a whole number from 0, or one of all
logger=wandb logger.images=-1 | expected a whole number from 0
logger=wandb logger.tags=x | write logger.tags=[x]
similarity=custom | similarity.function must be set
similarity=custom similarity.function=FILE | write FILE.py:function or package.module:function
similarity=custom similarity.function=none.py:f | there is no such file
similarity=custom similarity.function=os:path | path is of type module, expected a function
model=custom model.layers=[fc] | model.factory must be set
model=custom model.factory=none.py:f model.layers=[fc] | there is no such file
model=timm | model.architecture must be set
"""

NAMES = """
similarty=cos | setting 'similarty' is not known; did you mean 'similarity'
+similarty=cos | setting 'similarty' is not known; did you mean 'similarity'
++similarty=cos | setting 'similarty' is not known; did you mean 'similarity'
similarity.topk=3 | did you mean 'similarity.top_k'
+similarity.topk=3 | did you mean 'similarity.top_k'
++similarity.topk=3 | did you mean 'similarity.top_k'
features.workerss=2 | did you mean 'features.workers'
modell=resnet50 | did you mean 'model'
model=resnet5 | model 'resnet5' is not known; did you mean 'resnet50'
similarity=cosine | similarity 'cosine' is not known; did you mean 'cos'
experiment=tabel3 | did you mean 'table3'
logger=wanb | did you mean 'wandb'
baseline=netdisect | did you mean 'netdissect'
hydra/launcher=foo | hydra/launcher 'foo' is not known
hydra.foo=1 | setting 'hydra.foo' is not known
+hydra.foo=1 | setting 'hydra.foo' is not known
hydra.run.dirr=x | did you mean 'hydra.run.dir'
+foo=1 | setting 'foo' is not known
++foo.bar=1 | setting 'foo' is not known
+foo.bar=1 | setting 'foo' is not known
foo.bar=1 | setting 'foo.bar' is not known
model/x=y | setting 'model/x' is not known
+a/b@c=d | setting 'a/b' is not known
+probe@x=shapes | setting 'x' is not known
+probe@probe.x=shapes | setting 'probe.x' is not known
~foo | setting 'foo' is not known
~seed | seed=VALUE
~features.workers | features.workers=VALUE
~similarity | nothing is chosen for similarity; add similarity=NAME
similarity=null | nothing is chosen for similarity; add similarity=NAME
model=null | nothing is chosen for model
~model | nothing is chosen for model
~probe | nothing is chosen for probe
similarity=[cos] | similarity takes one choice
similarity={a:1} | similarity is chosen by name
"""

SYNTAX = """
a=[ | cannot be read: write KEY=VALUE
=x | cannot be read: write KEY=VALUE
seed | cannot be read: write KEY=VALUE
seed={a | cannot be read
model.layers[0]=x | cannot be read
+=3 | error
~ | cannot be read
+seed=3 | write seed=VALUE
+similarity=cos | write similarity=VALUE
similarity=cos,wpmi | add -m
similarity=choice(cos,wpmi) | add -m
top=range(1,5) | add -m
top=${nope} | top: Interpolation key 'nope' not found
probe.size=${top.x} | probe
data_dir=${oc.env:NO_SUCH_VARIABLE} | NO_SUCH_VARIABLE
top=${ | cannot be read
-q | unrecognized arguments: -q
--foo | unrecognized arguments: --foo
--config-name=nope | there is no nope.yaml
--config-dir=nowhere | there is no such folder
--config-path=nowhere | there is no such folder
--cfg=foo | invalid choice
--resolve | --resolve goes with --cfg
--run --multirun | only one of
--experimental-rerun=FILE | unpickles a file
hydra.mode=FOO | expected one of [RUN, MULTIRUN]
hydra.job_logging.root.level=FOO | did you mean 'INFO'
"""

TARGETS = """
model._target_=os.system | constructor 'os.system' is not offered for model
model._target_=torch.load | code of your own: model=custom model.factory=FILE.py:name
model._target_=cd_exp.plugins.load_function | is not offered for model
model._target_=cd_exp.io.download.shutil.copyfile | is not offered for model
similarity._target_=cd_exp.models.TimmModel | code of your own: similarity=custom similarity.function=FILE.py:name
similarity._partial_=perhaps | setting 'similarity._partial_' is not known
+similarity._args_=[1] | setting 'similarity._args_' is not known
+similarity._recursive_=false | is not known
+model.extra._target_=os.system | setting 'model.extra' is not known
+model.options.x._target_=os.system | model.options
+hydra.callbacks.x._target_=os.mkdir | is not Hydra's own
hydra.launcher._target_=os.mkdir | is not Hydra's own
hydra.sweeper._target_=os.mkdir | is not Hydra's own
+hydra.job_logging.handlers.x.class=os.mkdir | is not Hydra's own
"""

SWEEPS = """
-m similarty=cos,wpmi | did you mean 'similarity'
-m +similarty=cos,wpmi | did you mean 'similarity'
-m similarity=cos,nope | similarity 'nope' is not known
-m top=0,-1 | top=0 is out of range
-m probe.size=a,b | probe.size='a' is of type str
-m hydra.sweep.dir=FILE | that is a file; give a folder
-m +hydra.callbacks.x._target_=os.mkdir | is not Hydra's own
-m hydra/launcher=nope | hydra/launcher 'nope' is not known
-m similarity=cos,wpmi similarity.top_k=10,20 | similarity=cos has no setting top_k, which wpmi has: sweep them apart
-m similarity=wpmi,cos_cubed,cos similarity.scale=3 | similarity=cos_cubed has no setting scale, which wpmi has
-m similarity=cos,wpmi similarity.topk=10,20 | did you mean 'similarity.top_k'
-m top=range( | cannot be read
-m top=range(3,0) | make no job at all
-m top=range(0,1,0) | cannot be listed
-m top=glob(*) | make no job at all
-m similarity=glob(zzz*) | make no job at all
-m top=1,2 hydra.sweep.subdir=x | gives jobs 0 and 1 the same folder
-m top=1,1 hydra.sweep.subdir=${top} | gives jobs 0 and 1 the same folder
-m top=1,2 hydra.sweep.subdir=../x${top} | is not below hydra.sweep.dir
-m top=1,2 hydra.sweep.subdir=/x/${top} | is not below hydra.sweep.dir
-m top=1,2 hydra.sweep.subdir=${nope} | hydra.sweep.subdir=${nope}: Interpolation key 'nope' not found
"""

CASES = [tuple(line.split(" | ", 1)) for line in (VALUES + NAMES + SYNTAX + TARGETS + SWEEPS).splitlines() if line]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """A working directory with a few things in it, and a run folder of before."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "file").write_text("")
    (folder / "garbage").write_text("root:x:0:0:root:/root:/bin/bash")
    (folder / "empty").mkdir()
    (folder / "images").mkdir()
    for index in range(3):
        Image.new("RGB", (20, 20), (60 * index, 0, 0)).save(folder / "images" / f"{index}.png")
    (folder / "run" / ".hydra").mkdir(parents=True)
    (folder / "run" / "metrics.json").write_text("{}")
    (folder / "run" / ".hydra" / "config.yaml").write_text("of before")
    return folder


def words_of(line: str, workspace: Path) -> list[str]:
    for name, path in (("FILE", "file"), ("GARBAGE", "garbage"), ("EMPTY", "empty"), ("IMAGES", "images")):
        line = line.replace(f"={name}", f"={workspace / path}")
    words = line.split(" ")
    typed = {word.lstrip("+~").partition("=")[0] for word in words}
    common = ["logger=none", "features.progress=false", "stability.resamples=0", "hydra.run.dir=run"]
    return [*words, *(word for word in common if word.partition("=")[0] not in typed)]


@pytest.mark.parametrize(("line", "message"), CASES, ids=[line for line, _ in CASES])
def test_a_wrong_command_line_is_one_line_and_leaves_no_trace(line, message, workspace, monkeypatch, capsys):
    monkeypatch.chdir(workspace)
    monkeypatch.delenv("CD_EXP_CACHE", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("sys.argv", ["run.py", *words_of(line, workspace)])
    before, began = file_states(workspace), time.process_time()
    with pytest.raises(SystemExit) as left:
        entry.main()
    took, said = time.process_time() - began, capsys.readouterr().err
    assert left.value.code == 2, said
    assert said.startswith("error: "), said
    assert said.count("\n") == 1, said
    assert message in said
    assert took < 10
    assert file_states(workspace) == before


YAML = """
probe: 5 | probe=5: probe is chosen by name, probe=NAME
abstain: {stability: 0.5} | setting abstain is not known: it was removed
plan: perhaps | plan=perhaps does not fit: expected true or false
cache: {dir: [a]} | cache.dir=['a'] does not fit: expected text
similarity: {1: 2} | similarity.1
similarity: {top_k: 2024-01-01} | similarity.top_k='2024-01-01' is of type str
similarity: {top_k: yes} | similarity.top_k=True is of type bool
null: 1 | what the YAML files and the command line say does not fit together
hydra: null | what the YAML files and the command line say does not fit together
hydra: {run: {dir: "${nope}"}} | hydra.run.dir: Interpolation key 'nope' not found
hydra: {job: {chdir: true}} | would change what relative paths mean
"""


@pytest.mark.parametrize(("text", "message"), [line.split(" | ", 1) for line in YAML.splitlines() if line])
def test_a_wrong_yaml_of_the_users_is_one_line_that_tells_its_value(text, message, workspace, monkeypatch, capsys):
    own = workspace.parent / "own" / "experiment"
    own.mkdir(parents=True, exist_ok=True)
    (own / "mine.yaml").write_text(f"# @package _global_\n{text}\n")
    monkeypatch.chdir(workspace)
    monkeypatch.delenv("CD_EXP_CACHE", raising=False)
    words = ["--config-dir", str(own.parent), "experiment=mine", "cache.dir=cache", "plan=true"]
    monkeypatch.setattr("sys.argv", ["run.py", *words])
    before = file_states(workspace)
    with pytest.raises(SystemExit) as left:
        entry.main()
    said = capsys.readouterr().err
    assert left.value.code == 2, said
    assert said.startswith("error: "), said
    assert said.count("\n") == 1, said
    assert message in said
    assert file_states(workspace) == before


FILES = [
    (b"- 1\n- 2\n", "mine.yaml holds a list, expected settings, a line each: NAME: VALUE"),
    (b"3\n", "mine.yaml holds '3', expected settings"),
    (b"", "mine.yaml: an experiment begins with the line `# @package _global_`"),
    (b"top: 3\n", "mine.yaml: an experiment begins with the line `# @package _global_`"),
    (b"\xef\xbb\xbf# @package _global_\ntop: 3\n", "mine.yaml begins with a byte order mark; save it as UTF-8"),
    (b"# @package _global_\ndefaults: [nosuch]\n", "the defaults list of experiment/mine names experiment/nosuch"),
    (b"top: \xff\n", "mine.yaml is no text in UTF-8 (byte 5)"),
    (b"a: " + b"[" * 3000 + b"]" * 3000, "mine.yaml is nested too deeply"),
    (b"# @package _global_\nsimilarity: {_target_: os.system}\n", "mine.yaml)"),
]


@pytest.mark.parametrize(("data", "message"), FILES, ids=[message for _, message in FILES])
def test_a_yaml_file_that_holds_no_settings_is_named(data, message, workspace, monkeypatch, capsys):
    own = workspace.parent / "own" / "experiment"
    own.mkdir(parents=True, exist_ok=True)
    (own / "mine.yaml").write_bytes(data)
    for name in ("other", "min"):  # which nobody chose
        (own / f"{name}.yaml").write_bytes(b"\xff")
    monkeypatch.chdir(workspace)
    words = ["--config-dir", str(own.parent), "experiment=mine", "cache.dir=cache", "plan=true"]
    monkeypatch.setattr("sys.argv", ["run.py", *words])
    with pytest.raises(SystemExit) as left:
        entry.main()
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert message in said


def test_the_line_that_an_experiment_needs_makes_it_one(workspace, monkeypatch, capsys):
    own = workspace.parent / "own" / "experiment"
    own.mkdir(parents=True, exist_ok=True)
    (own / "mine.yaml").write_text("# @package _global_\ntop: 3\n")
    monkeypatch.chdir(workspace)
    monkeypatch.setattr("sys.argv", ["run.py", "--config-dir", str(own.parent), "experiment=mine", "--cfg", "job"])
    entry.main()
    assert "top: 3" in capsys.readouterr().out


def test_there_are_as_many_as_promised():
    assert len({line for line, _ in CASES}) >= 120


@pytest.mark.slow
@pytest.mark.parametrize("full", [None, "0", "1"])
@pytest.mark.parametrize(
    "line",
    [
        "similarty=cos",
        "top=0",
        "model.layers=[layer5]",
        "a=[",
        "baseline=netdissect probe=folder probe.root=IMAGES",
    ],
)
def test_the_same_in_a_process_of_its_own_whatever_the_environment_says(line, full, workspace):
    environment = {key: value for key, value in os.environ.items() if key not in ("HYDRA_FULL_ERROR", "CD_EXP_CACHE")}
    environment |= {} if full is None else {"HYDRA_FULL_ERROR": full}
    before = file_states(workspace)
    command = [sys.executable, str(ROOT / "run.py"), *words_of(line, workspace)]
    done = subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert file_states(workspace) == before
