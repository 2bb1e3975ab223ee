"""What an error or a note tells to type is typed, and works; whoever adds such a message adds its line here.

A row of `fixtures/remedies.txt` is a command that is refused (or noted), words of the message, and the commands that it
tells. `test_every_message_that_says_what_to_type_is_typed` compares the rows with all messages of the package.
"""

import ast
import importlib
import json
import re
import runpy
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cd_exp import probes
from cd_exp.cli import entry
from cd_exp.config import GROUPS, setting_types
from cd_exp.errors import InputError
from cd_exp.study.plan import rehearse
from cd_exp.units.autoencoder import read_autoencoder

ROOT = Path(__file__).parents[1]


def read_rows(section: int) -> list[tuple[str, str, list[str]]]:
    """The command, the words and the commands they tell of each row of a section of `remedies.txt`."""
    text = (ROOT / "tests" / "fixtures" / "remedies.txt").read_text().split("\n# ")[section]
    rows = []
    for block in text.split("\n\n")[1:]:
        lines = [line.partition(" ")[::2] for line in block.splitlines()]
        assert [word for word, _ in lines[:3]] == ["type", "said", "then"], block
        rows.append((lines[0][1], lines[1][1], [line for _, line in lines[2:]]))
    return rows


COMPOSED, RUN, NOTES = map(read_rows, (1, 2, 3))

MINE = """
from collections import OrderedDict

import torch
from torch import nn
from torchvision.transforms.functional import pil_to_tensor

from cd_exp.similarity import cos


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches, self.extra = nn.Conv2d(3, 12, 56, 56), nn.Parameter(torch.randn(1, 1, 12))

    def forward(self, x):
        rows = self.patches(x).flatten(2).transpose(1, 2)
        return torch.cat([self.extra.expand(len(x), 1, 12), rows], 1)


class Square(nn.Module):
    def forward(self, x):
        return nn.functional.adaptive_avg_pool2d(x, 3)[:, :3] * 1.0


class Calls(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.block(self.block(x))


def named(**layers):
    return nn.Sequential(OrderedDict(layers))


def network():
    torch.manual_seed(0)
    return named(stem=nn.Conv2d(3, 10, 16, 16), head=nn.Conv2d(10, 10, 1))


def tokens():
    torch.manual_seed(0)
    return named(tokens=Tokens(), norm=nn.LayerNorm(12))


def square():
    return named(square=Square())


def calls():
    return Calls()


def compiled():
    return torch.jit.script(network())


def overflowing():
    made = network()
    made.stem.weight.data.fill_(6e4)
    return made


def odd():
    return network(), lambda picture: pil_to_tensor(picture.convert("RGB")).float()[:, :32, :32] / 300, None


def lazy():
    return named(stem=nn.LazyConv2d(10, 16, 16))


def shown():
    made = lazy()
    made(torch.zeros(1, 3, 64, 64))
    return made


def quantised():
    made = named(pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), stem=nn.Linear(3, 10))
    return torch.ao.quantization.quantize_dynamic(made, {nn.Linear})


def scans():
    from cd_exp import probes

    return list(probes.shapes(size=20))


def score(match, neurons):
    return cos(match, neurons)
"""


COMMON = ["probe.size=60", "similarity.top_k=5", "stability.resamples=0", "features.workers=0", "logger=none"]
COMMON += ["features.progress=false", "report.figures=false", "report.html=false", "report.explorer=none"]
ALONE = {"-m", "--multirun", "--cfg", "--help", "--json"}
"""Flags that go without `plan=true`."""


class World:
    """A folder with what the rows name, and a way to type a command in it."""

    def __init__(self, root: Path):
        self.root, self.count = root, 0

    def type(self, command: str, *, plan: bool = False) -> None:
        """A command in this process, as it would be typed in the folder; a last word `!1` says its status.

        Raises:
            AssertionError: it ends with another status.
        """
        tool, *words = shlex.split(command)
        status = int(words.pop()[1:]) if words[-1] == "!1" else 0
        if tool != "run":
            ended = _main_of(tool)(words)
        elif plan:
            ended = _run([*words, *([] if ALONE & set(words) else ["plan=true"])])
        else:
            ended = _run(self._with_common(words))
        assert ended == status, f"{command} ends with {ended}"

    def _with_common(self, words: list[str]) -> list[str]:
        self.count += 1
        typed = {word.lstrip("~+").partition("=")[0] for word in words}
        where = f"hydra.{'sweep' if '-m' in words else 'run'}.dir"
        common = [*COMMON, *(["probe=shapes", "clip=shapes", "concepts=shapes"] if "model" in typed else [])]
        typed |= {"probe.size"} if "probe" in typed else set()  # a setting of the built-in images alone
        kept = [word for word in common if word.partition("=")[0] not in typed]
        if typed & {"similarity", "similarity.top_k"} and not _takes_top_k(words):
            kept = [word for word in kept if "top_k" not in word]
        dropped = {f"~{word.partition('=')[0]}" for word in COMMON}
        folder = [] if where in typed else [f"{where}=made/{self.count}"]
        return [*(word for word in words if word not in dropped), *kept, *folder]


def _takes_top_k(words: list[str]) -> bool:
    chosen = [word.partition("=")[2] for word in words if word.startswith("similarity=")]
    return not chosen or chosen[0] in ("soft_wpmi", "wpmi")


def _run(words: list[str]) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["run.py", *words])
        try:
            entry.main()
        except SystemExit as left:
            return int(left.code or 0)
    return 0


@cache
def _main_of(tool: str):
    for name in (f"cd_exp.{tool}.__main__", f"cd_exp.{tool}"):
        try:
            return importlib.import_module(name).main
        except (ModuleNotFoundError, AttributeError):
            continue
    raise AssertionError(tool)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """What the rows that are settled before anything is computed name."""
    root = tmp_path_factory.mktemp("world")
    write_files(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("CD_EXP_CACHE", str(root / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.delenv("WANDB_API_KEY", raising=False)
        patch.setenv("NETRC", str(root / "none"))
        yield World(root)


def write_files(root: Path) -> None:
    import open_clip
    import timm

    (root / "mine.py").write_text(MINE)
    (root / "classes.txt").write_text("".join(f"class {number}\n" for number in range(10)))
    (root / "kinds.csv").write_text("red,colour\ngreen,colour\ncircle,form\n")
    pictures = list(probes.shapes(size=60))
    for number in range(20):
        kind = ("red", "green")[number % 2]
        for folder in ("images", f"classes/{kind}", f"of_labels/{kind}", "broken"):
            (root / folder).mkdir(parents=True, exist_ok=True)
            pictures[number].save(root / folder / f"{number:02d}.png")
    (root / "list.txt").write_text("00.png\n01.png\n")
    (root / "scans").mkdir()
    (root / "scans" / "a.dcm").write_bytes(b"")
    (root / "broken" / "99.png").write_text("no image")
    (root / "validation").mkdir()
    for name in ("ILSVRC2012_val_00000001.JPEG", "Places365_val_00000001.jpg"):
        pictures[0].save(root / "validation" / name)
    config = root / "tiny_clip.json"
    config.write_text(
        '{"embed_dim": 16,'
        ' "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},'
        ' "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}}'
    )
    open_clip.add_model_config(config)
    for name, network in (
        ("tiny", open_clip.create_model("tiny_clip", pretrained=None)),
        ("timm", timm.create_model("test_resnet")),
    ):
        save_file(
            {key: value.contiguous() for key, value in network.state_dict().items()}, root / f"{name}.safetensors"
        )


@pytest.fixture(scope="module")
def runs(world):
    """What the rows of runs and tools name besides."""
    root, draw = world.root, np.random.default_rng(0)
    ids = list(probes.shapes(size=60).ids)
    firing = np.zeros((60, 12), dtype=np.float32)
    for unit in range(12):
        firing[draw.permutation(60)[:3], unit] = (1, 2, 3)
    for name, lines, rows in (
        ("scenes", ids, draw.random((60, 12), dtype=np.float32)),
        ("ties", ids, firing),
        ("acts", [f"{number:02d}.png" for number in range(40)], draw.random((40, 12), dtype=np.float32)),
        ("tokens", [f"{number:02d}.png" for number in range(40)], draw.random((160, 12), dtype=np.float32)),
    ):
        (root / name).mkdir()
        np.save(root / name / "layer4.npy", rows)
        (root / name / "images.txt").write_text("".join(f"{line}\n" for line in lines))
    for name, most in (("deep", 4095), ("dull", 15)):
        (root / name).mkdir()
        for number in range(20):
            values = draw.integers(0, most, (64, 64)).astype(np.uint16 if most > 255 else np.uint8)
            values[0, 0] = most
            Image.fromarray(values).save(root / name / f"{number:02d}.png")
    (root / "embeddings").mkdir()
    np.save(root / "embeddings" / "image_embeddings.npy", draw.normal(size=(40, 16)).astype(np.float32))
    np.save(root / "embeddings" / "words_text.npy", draw.normal(size=(10, 16)).astype(np.float32))
    (root / "embeddings" / "words_names.txt").write_text((root / "classes.txt").read_text())
    shutil.copy(root / "acts" / "images.txt", root / "embeddings")
    weight = torch.randn(96, 64, generator=torch.Generator().manual_seed(1))
    tensors = {"W_enc": weight, "b_enc": torch.zeros(64), "W_dec": weight.T.contiguous(), "b_dec": torch.zeros(96)}
    save_file(tensors, root / "sae.safetensors", {"activation": "topk", "k": "32"})
    rows = [(unit, ("red", "circle")[unit % 2]) for unit in range(100)]
    for name, head, start in (("of_others", "layer,", "head,"), ("no_layer", "", "")):
        lines = "".join(f"{start}{unit},{label}\n" for unit, label in rows)
        (root / f"{name}.csv").write_text(f"{head}unit,description\n{lines}")
    few = "".join(f"fc,{unit},{label}\n" for unit, label in rows[:20])
    (root / "few.csv").write_text(f"layer,unit,description\n{few}")
    (root / "units.csv").write_text("layer,unit\nfc,3\nfc,50\n")
    asked = "".join(f"fc,{unit},Ours,{rater},{1 + (unit + rater) % 5},\n" for unit in range(4) for rater in (1, 2))
    (root / "table.csv").write_text(f"where,which,who,by,score,empty\n{asked}")
    (root / "table.json").write_text("{}")
    mine = runpy.run_path(str(root / "mine.py"))
    torch.save(mine["shown"]().state_dict(), root / "mine.pt")
    if keygen := shutil.which("ssh-keygen"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(root / "key")], check=True)
    _finish_runs(world)
    return world


def _finish_runs(world: World) -> None:
    root = world.root
    with_pages = "report.explorer=auto stability.resamples=3 probe.size=200 similarity.top_k=10"
    world.type(f"run {with_pages} baseline=published baseline.path=few.csv hydra.run.dir=done")
    world.type(f"run {with_pages} similarity=wpmi baseline=published baseline.path=few.csv hydra.run.dir=other")
    world.type("run hydra.run.dir=bare")
    world.type("run hydra.run.dir=unstable probe.size=200")
    world.type("run -m top=1,2 report.explorer=auto hydra.sweep.dir=sweep")
    world.type("run similarity=custom similarity.function=mine.py:score report.explorer=auto hydra.run.dir=trusted")
    shutil.copytree(root / "done", root / "touched")
    (root / "touched" / "labels.csv").write_text("edited")
    shutil.copytree(root / "done", root / "first")
    shutil.copytree(root / "cache", root / "cache2")
    for run, study in (("done", "study"), ("first", "moved")):
        world.type(f"study make {run} --design rating --units 6 --per-unit 1 --out {study}")
        rehearse(root / study, root / f"answers_{study}", error=0.1)
    world.type("study read moved answers_moved")
    (root / "first").rename(root / "copied")
    shutil.copytree(root / "moved", root / "gone")


def refuse(world: World, command: str, *, plan: bool, capsys) -> str:
    if "hydra/sweeper=optuna" in command:
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="the extra optuna is not installed")
    if "device=cuda" in command and torch.cuda.is_available():
        pytest.skip("a GPU is here")
    capsys.readouterr()
    with pytest.raises(AssertionError, match="ends with 2"):
        world.type(command, plan=plan)
    error = capsys.readouterr()
    lines = [line for line in error.err.splitlines() if line.startswith("error: ")]
    return lines[0] if lines else error.out


@pytest.mark.slow
@pytest.mark.parametrize(("wrong", "words", "right"), COMPOSED, ids=[row[0] for row in COMPOSED])
def test_what_an_error_says_before_anything_is_computed_works(world, capsys, wrong, words, right):
    assert words in refuse(world, wrong, plan=True, capsys=capsys)
    for command in right:
        world.type(command, plan=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch, that ways to compile and quantise will go
@pytest.mark.parametrize(("wrong", "words", "right"), RUN, ids=[row[0] for row in RUN])
def test_what_an_error_of_a_run_or_a_tool_says_works(runs, capsys, wrong, words, right):
    assert words in refuse(runs, wrong, plan=False, capsys=capsys)
    for command in right:
        runs.type(command)


@pytest.mark.slow
@pytest.mark.parametrize(("noted", "words", "right"), NOTES, ids=[row[0] for row in NOTES])
def test_what_a_note_says_works_and_ends_it(runs, capsys, noted, words, right):
    capsys.readouterr()
    runs.type(noted)
    shown = capsys.readouterr()
    assert words in " ".join((shown.out + shown.err).split())
    for command in right:
        runs.type(command)
    shown = capsys.readouterr()
    assert words not in " ".join((shown.out + shown.err).split())


WEIGHT = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
W = {"W_enc": WEIGHT, "b_enc": torch.zeros(10), "W_dec": WEIGHT.T.contiguous(), "b_dec": torch.ones(6)}
NO_BIAS = {name: tensor for name, tensor in W.items() if name != "b_dec"}
LINEAR = {"encoder.weight": W["W_dec"], "encoder.bias": W["b_enc"], "decoder.weight": WEIGHT, "b_dec": W["b_dec"]}
TOPK = {"activation": "topk", "centred": True}
BATCH = {"activation": "batchtopk", "centred": True}
UNITS: dict[str, tuple] = {
    "needs one; set units.k=NUMBER": (W, {}, TOPK, {"k": 3}),
    "set units.k to the one that is right": (
        {**LINEAR, "k": torch.tensor(3)}, {"trainer": {"dict_class": "AutoEncoderTopK", "k": 4}}, {}, {"k": 3},
    ),
    "set units.k to a whole number from 1 to that": (W, {}, {**TOPK, "k": 99}, {"k": 10}),
    "needs one; set units.threshold=NUMBER": (W, {}, BATCH, {"threshold": 0.1}),
    "was never set in training; set units.threshold=NUMBER": (
        {**W, "threshold": torch.tensor(-1.0)}, {}, BATCH, {"threshold": 0.1},
    ),
    "subtracts it; set units.centred=false": (
        NO_BIAS, {"architecture": "standard", "apply_b_dec_to_input": True}, {}, {"centred": False},
    ),
    "which is not read; set units.activation=": (
        W, {"activation": "softmax"}, {"centred": True}, {"activation": "relu"},
    ),
    "where it does not matter, save the file without it": (
        {**W, "odd": torch.ones(3)}, {"architecture": "standard"}, {}, "odd",
    ),
    "keep the one that is right": (W, {"architecture": "topk", "k": 3, "activation_fn_kwargs": {"k": 4}}, {}, "k"),
    "where it does not matter, take it out": (W, {"architecture": "standard", "normalize_odd": 2}, {}, "normalize_odd"),
}  # fmt: skip
"""Of a file of an autoencoder: its tensors, what the JSON beside it says, settings, and what the message says to set,
or which tensor or entry to take out."""


@pytest.mark.parametrize("words", UNITS)
def test_what_an_autoencoders_file_lacks_is_set_or_taken_out(tmp_path, words):
    tensors, said, settings, remedy = UNITS[words]
    path = tmp_path / "sae.safetensors"

    def read(out: str = "", **more):
        save_file({name: tensor for name, tensor in tensors.items() if name != out}, path)
        if said:
            (tmp_path / "cfg.json").write_text(json.dumps({name: value for name, value in said.items() if name != out}))
        return read_autoencoder(path, **{**settings, **more})

    with pytest.raises(InputError, match=re.escape(words)):
        read()
    read(remedy) if isinstance(remedy, str) else read(**remedy)


ELSEWHERE = {
    "set cache.dir to a folder of your own": "cache/test_sharing.py::"
    "test_a_second_user_adds_where_the_group_may_write_and_is_told_where_not",
    "or make room with `python -m cd_exp.cache prune": "cache/test_commands.py::"
    "test_prune_keeps_the_newest_up_to_a_size",
    "give hierarchy.path=FOLDER with index.noun": "test_hierarchy.py::"
    "test_a_machine_without_wordnet_says_what_to_install",
    "probe.root=FOLDER of theirs takes them": "probes/test_image_trees.py::"
    "test_masks_beside_photographs_are_passed_over_and_said",
    "probe.column=ENDING takes another": "probes/test_tar.py::test_a_name_with_dots_between_numbers_is_no_column",
    "choose one: probe.column=": "probes/test_tar.py::test_samples_of_several_pictures",
    "choose with probe.column=ENDING": "probes/test_tar.py::test_samples_of_several_pictures",
    "set features.workers=0, which needs none": "test_machine_limits.py::"
    "test_a_tiny_shared_memory_is_one_line_with_the_remedy",
    "nothing says which of its latents fire": "units/test_autoencoders.py::"
    "test_what_nothing_says_is_asked_for_and_the_answer_is_taken",
    "relu, topk (with units.k)": "units/test_autoencoders.py::"
    "test_what_nothing_says_is_asked_for_and_the_answer_is_taken",
    "set units.centred=true or units.centred=false": "units/test_autoencoders.py::"
    "test_what_nothing_says_is_asked_for_and_the_answer_is_taken",
    "call it 'layer', or take it out and set baseline.layer": "evaluation/baselines/test_published.py::"
    "test_a_column_of_layers_is_called_so_or_taken_out",
    "keep one, or name the column of the people with --columns": "study/test_read.py::"
    "test_people_who_answer_the_same_question_have_a_column",
    "python -m cd_exp.sweep {} --resume": "sweep/test_resuming.py::"
    "test_a_killed_sweep_that_is_resumed_equals_one_that_ran_through",
}
"""Messages whose remedy another test executes."""

NOT_HERE = {
    "Lower similarity.prior_weight to separate them": "needs some 3,000 images; a prior_weight is typed in a row",
    "draw more units with --units": "needs fewer than two descriptions of which CLIP has no doubt",
    "for photographs: clip=vit_b_16": "downloads CLIP",
    "distributed.processes=N for several processes a job": "needs torchrun; each way is typed in cluster/test_slurm.py",
    "set distributed.timeout_min higher": "needs a process that is waited for",
    "needs transformers: pip install": "installs a package",
    "needs the package: pip install": "installs a package",
    "pip install 'cd-exp[words]'": "installs a package",
    "pip install 'cd-exp[huggingface]'": "installs a package",
    "pip install 'cd-exp[pandas]'": "installs a package",
    "pip install 'cd-exp[study]'": "installs a package",
    "give features.batch_size=N and features.workers=N lower": "how low depends on the machine",
    "set features.workers lower (0 decodes in the run itself)": "needs a machine without memory; 0 is in every row",
    "features.keep=lists, or fewer model.layers": "needs a full disk; each setting is typed in other rows",
    "cache.dir for features, hydra.run.dir for results": "needs a full disk; each setting is typed in other rows",
    "logger.mode=offline needs no network": "needs a server that does not answer; it is typed in a row",
    "keep all of them (features.keep=dense)": "of a function called by itself; features.keep=dense is typed in rows",
    "keep more or all of them (features.keep=dense)": "likewise",
    "compare with similarity.prior_weight=": "no small run gives it for sure; a prior_weight is typed in a row",
    "take fewer images (probe.limit=": "needs a layer of 16,384 units",
    "give the run that was asked about with --run": "the run is compared with the study before",
    "HF_HUB_OFFLINE=1 to use what the hub's cache holds": "needs a hub; probes/test_huggingface.py reads a copy",
    "no unit is labelled by each of": "--methods with fewer is typed in a row",
    "which is not read; export the latents for units=matrix": "units=matrix is typed in rows",
    "if it belongs to something else, move it away": "units/test_autoencoders.py moves it away",
}
"""What is not typed, and why."""

NOT_TYPED = (
    "probe.split={} holds no image", "probe.split={} cannot be loaded",
    "Features stored by cd_exp", "Fit the constants of p_right", "what calibration.path was fitted for",
    "clip.architecture is {}", "which has its own weights", "one of clip.preprocess", "in concepts=imagenet",
    "requires --multirun", "whether to write report.html", "as on the command line of a run",
    "shares of the images, the first smaller", "must be at least 1", "in this run (baseline.factory={})",
    "on so few positions many labels move", "in the files of baseline.path", "compare labels of one unit, or take",
    "expected an object of a subclass of cd_exp.evaluation.judges.Judge", "as many pairs as scenes at most",
    "(model.final or model.hidden_truth)", "expected a name and the name above it", "its labels hang on",
    "what model.factory={} returned", "features.keep=lists will not do", "which downloads no archive",
    "probe.range is not applied to them", "let --query, --maps", "stability.resamples=0 for none",
    "of the study; with --columns", "--units-from {} cannot be read", "--columns answer: column",
    "--columns {}: column",
    "which calibration.path was fitted for", "of hierarchy.path={} is no table",
    "let --resume run the code", "--config-dir {}", "ssh-keygen cannot sign with it",
)  # fmt: skip
"""What names a setting, a flag or a command without saying to type it: help, subjects of other messages."""


def texts_of(path: Path) -> list[str]:
    """The texts of a module but for docstrings, with `{}` for what is filled in."""
    tree = ast.parse(path.read_text())
    loose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts, open_nodes = [], list(ast.iter_child_nodes(tree))
    while open_nodes:
        node = open_nodes.pop()
        if id(node) in loose and isinstance(getattr(node, "value", None), str):
            continue
        if isinstance(node, ast.JoinedStr):
            texts.append("".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
        else:
            open_nodes += ast.iter_child_nodes(node)
    return texts


SECTIONS = {name.partition(".")[0] for name in setting_types() if "." in name}
SETTING = "|".join(sorted({*GROUPS, *SECTIONS, "hydra"}))
TYPED = re.compile(
    rf"(?<![\w./-])(?:{SETTING})(?:/[a-z]+)?(?:\.[a-z_{{}}]+)*=[^=\s'\"]|(?<![\w./-])(?:{SETTING})\.[a-z_{{}}]+=?"
    r"|python -m cd_exp|(?<!\w)--[a-z]|pip install|[A-Z_]{5,}="
)


def tells_what_to_type(text: str) -> bool:
    """Whether a text names a setting, a flag or a command after what is wrong, or where it begins with none."""
    wrong, mark, remedy = text.partition(";")
    if not mark:
        remedy = re.sub(r"^\{?[\w.{}/]+\}?(=\{\}|=[^ :;]+)?", "", wrong, count=1)
    return " " in text and not {"<", "\n"} & set(text) and bool(TYPED.search(remedy))


def pieces(text: str) -> list[str]:
    return [piece.strip() for piece in text.split("{}") if len(piece.strip()) >= 10]


def test_every_message_that_says_what_to_type_is_typed():
    said = [row[1] for table in (COMPOSED, RUN, NOTES) for row in table]
    listed = [*said, *UNITS, *ELSEWHERE, *NOT_TYPED, *NOT_HERE]
    texts = {text for path in sorted((ROOT / "cd_exp").rglob("*.py")) for text in texts_of(path)}
    texts = {text for text in texts if tells_what_to_type(text)}
    untyped = [t for t in texts if not any(w in t or any(p in w for p in pieces(t)) for w in listed)]
    assert not untyped, "what these say to type is typed by no test; add a row: " + "\n".join(untyped)
    gone = [words for words in (*ELSEWHERE, *NOT_TYPED, *NOT_HERE) if not any(words in t for t in texts)]
    assert not gone
    for words, node in ELSEWHERE.items():
        file, _, name = node.partition("::")
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), words
