"""Code of a user's own in each group: from a folder outside the checkout, on the command line and from an own YAML."""

import csv
import json
from pathlib import Path

import pytest

from cd_exp.cli import entry

ROOT = Path(__file__).parents[1]
SMALL = ["similarity.top_k=2", "report.html=false", "report.figures=false", "report.explorer=none", "logger=none"]
QUICK = ["features.progress=false", "features.workers=0", "stability.resamples=0"]

FILES = {
    "neighbour.py": "FACTOR = 1\nWORDS = ['red circle', 'blue square', 'a dog']\n",
    "similarity.py": (
        "import neighbour\n"
        "def mine(match, neurons, *, sign=1):\n"
        "    return sign * neighbour.FACTOR * (neurons.T @ match.images) @ match.texts.T\n"
    ),
    "probe.py": (
        "import numpy as np\nfrom PIL import Image\nimport neighbour\n"
        "def mine(*, count=12, shade=0):\n"
        "    rows = np.random.default_rng(neighbour.FACTOR).integers(0, 200, (count, 40, 50, 3), dtype=np.uint8)\n"
        "    return [Image.fromarray(row + np.uint8(shade)) for row in rows]\n"
    ),
    "concepts.py": (
        "import neighbour\ndef mine(*, more=()):\n    return [*more, *neighbour.WORDS][: 2 + neighbour.FACTOR]\n"
    ),
    "clip.py": (
        "import torch, numpy as np\nimport neighbour\n"
        "class Mine:\n"
        "    def __init__(self, dim):\n"
        "        torch.manual_seed(neighbour.FACTOR)\n"
        "        self.net, self.dim = torch.nn.Linear(3 * 16, dim), dim\n"
        "    def preprocess(self, picture):\n"
        "        return torch.from_numpy(np.array(picture.resize((4, 4)), dtype=np.float32)).permute(2, 0, 1) / 255\n"
        "    def encode_image(self, batch):\n        return self.net(batch.flatten(1))\n"
        "    def encode_text(self, texts):\n"
        "        rows = [np.random.default_rng(sum(text.encode())).normal(size=self.dim) for text in texts]\n"
        "        return np.stack(rows).astype(np.float32)\n"
        "def mine(*, dim=8):\n    return Mine(dim)\n"
    ),
    "baseline.py": (
        "import numpy as np\nfrom cd_exp.records import Labels\nimport neighbour\n"
        "def mine(*, word='red'):\n"
        "    def method(run):\n"
        "        def labels(layer, units):\n"
        "            top = ((word,) * neighbour.FACTOR,) * len(units)\n"
        "            return Labels(layer=layer, units=units, top=top, similarity=np.zeros(len(units)))\n"
        "        return {layer: labels(layer, ours.units) for layer, ours in run.labels.items()}\n"
        "    return method\n"
    ),
}
FILES["odd.py"] = (
    "import numpy as np\nimport torch\nfrom PIL import Image\nfrom clip import Mine\n"
    "class Changing(list):\n"
    "    def __getitem__(self, index):\n        return Image.effect_noise((40, 40), 90)\n"
    "class Twice(list):\n    ids = ['a', 'b', 'a']\n"
    "def changing():\n    return Changing(range(12))\n"
    "def twice():\n    return Twice(Image.effect_noise((40, 40), 90) for _ in range(3))\n"
    "class Complex(Mine):\n"
    "    def encode_image(self, batch):\n        return super().encode_image(batch).to(torch.complex64)\n"
    "class Real(Complex):\n"
    "    def encode_image(self, batch):\n        return super().encode_image(batch).real\n"
    "def complex_():\n    return Complex(8)\n"
    "def real():\n    return Real(8)\n"
)
OPTIONS = {
    "similarity": "sign=-1",
    "probe": "shade=40",
    "concepts": "more=[wolf]",
    "clip": "dim=5",
    "baseline": "word=x",
}
TAKES = {"similarity": "function"}


@pytest.fixture
def folder(tmp_path):
    own = tmp_path / "own code"
    own.mkdir()
    for name, text in FILES.items():
        (own / name).write_text(text)
    return own


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run the command elsewhere: (exit status, standard error, what the run folder holds)."""

    def command(group, *words):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("CD_EXP_CACHE", str(tmp_path / "cache"))
        folder = tmp_path / f"run{len(list(tmp_path.glob('run*')))}"
        common = [word for word in SMALL if group != "similarity" or not word.startswith("similarity.")]
        size = [] if group == "probe" else ["probe.size=40"]
        monkeypatch.setattr("sys.argv", ["run.py", *common, *QUICK, *size, *words, f"hydra.run.dir={folder}"])
        status = 0
        try:
            entry.main()
        except SystemExit as leaving:
            status = leaving.code or 0
        return status, capsys.readouterr().err, folder

    return command


def labels(run_folder: Path, name: str = "labels.csv") -> list[tuple[str, ...]]:
    with (run_folder / name).open(newline="") as file:
        return [(row["layer"], row["unit"], row["description"], row["similarity"]) for row in csv.DictReader(file)]


def result(run_folder: Path, group: str) -> list[tuple[str, ...]]:
    if group != "baseline":
        return labels(run_folder)
    return labels(run_folder, "labels_custom.csv")


@pytest.mark.slow
@pytest.mark.parametrize(
    "group",
    [
        "similarity",
        "probe",
        *(pytest.param(group, marks=pytest.mark.slow) for group in ("concepts", "clip", "baseline")),
    ],
)
def test_code_of_the_users_own_runs_and_what_it_is_made_of_matters(group, folder, run):
    chosen = [f"{group}=custom", f"{group}.{TAKES.get(group, 'factory')}='{folder}/{group}.py:mine'"]
    status, err, run_folder = run(group, *chosen)
    assert status == 0, err
    first = result(run_folder, group)
    assert first

    status, err, run_folder = run(group, *chosen)
    assert status == 0, err
    assert result(run_folder, group) == first
    assert json.loads((run_folder / "manifest.json").read_text())["cache"]["made"] == []

    status, err, run_folder = run(group, *chosen, f"{group}.options.{OPTIONS[group]}")
    assert status == 0, err
    assert result(run_folder, group) != first

    conf = folder / "conf" / group
    conf.mkdir(parents=True)
    key, _, value = OPTIONS[group].partition("=")
    (conf / "mine.yaml").write_text(
        f"defaults:\n  - custom\n  - _self_\n{TAKES.get(group, 'factory')}: '{folder}/{group}.py:mine'\n"
        f"options:\n  {key}: {value}\n"
    )
    own = result(run_folder, group)
    status, err, run_folder = run(group, "--config-dir", str(folder / "conf"), f"{group}=mine")
    assert status == 0, err
    assert result(run_folder, group) == own

    (folder / "neighbour.py").write_text(FILES["neighbour.py"].replace("FACTOR = 1", "FACTOR = 0"))
    status, err, run_folder = run(group, *chosen)
    assert status == 0, err
    assert result(run_folder, group) != first


WRONG = {
    "similarity": [
        (
            "def mine(match, neurons):\n    return neurons\n",
            r"returned \(40, \d+\), expected a tensor of neurons x concepts",
        ),
        ("def mine(match, neurons):\n    return 3\n", "returned int, expected a tensor of neurons x concepts"),
        ("def mine(match):\n    return 3\n", r"takes 1 arguments, expected \(match, neurons\)"),
        ("mine = 3\n", "mine is of type int, expected a function"),
    ],
    "probe": [
        ("def mine():\n    return 3\n", "gives int, expected a torch Dataset with a length, or a list of PIL images"),
        ("def mine():\n    return ['a.png']\n", "image 0 is of type str, expected a PIL image"),
        (
            "import torch\ndef mine():\n    return torch.zeros(9, 3, 8, 8)\n",
            "image 0 is of type Tensor, expected a PIL",
        ),
        ("def mine():\n    return []\n", "has 0 image"),
    ],
    "concepts": [
        ("def mine():\n    return 'red'\n", "returned str, expected a list of names"),
        ("def mine():\n    return {'red'}\n", "returned set, expected a list of names"),
        ("def mine():\n    return [1, 2]\n", "returned a list with 1, expected a list of names"),
        ("def mine():\n    return []\n", "returned no name; at least one is needed"),
    ],
    "clip": [
        ("def mine():\n    return 3\n", "returned int without preprocess, encode_image, encode_text"),
        (
            FILES["clip.py"].replace("return self.net(batch.flatten(1))", "return None"),
            "encode_image gives NoneType for",
        ),
        (
            FILES["clip.py"].replace("self.dim)) for", "9)) for").replace("size=self.dim", "size=9"),
            "8 dimensions and texts 9",
        ),
        (FILES["clip.py"].replace(" / 255", "[0]"), "preprocess gives 2 axes"),
    ],
    "baseline": [
        ("def mine():\n    return 3\n", r"returned int, expected a method: method\(run\)"),
        ("def mine():\n    return lambda run: 3\n", r"the method gave int, expected {layer: Labels}"),
        ("def mine():\n    return lambda run: {'fc': 'red'}\n", r"the method gave dict, expected {layer: Labels}"),
    ],
}


@pytest.mark.parametrize(("group", "code", "message"), [(key, *case) for key, cases in WRONG.items() for case in cases])
def test_what_code_of_the_users_own_gives_wrongly_is_one_line(group, code, message, folder, run):
    import re

    (folder / "wrong.py").write_text(code)
    status, err, run_folder = run(
        group, f"{group}=custom", f"{group}.{TAKES.get(group, 'factory')}='{folder}/wrong.py:mine'"
    )
    assert status == 2, err
    assert re.search(message, err), err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not run_folder.exists()


@pytest.mark.slow
def test_a_probe_of_the_users_own_may_have_ids_and_masks(folder, run):
    (folder / "masked.py").write_text(
        "import numpy as np\nfrom cd_exp.records import Segmentation\nfrom PIL import Image\n"
        "class Masks:\n    concepts, categories = ('red', 'blue'), ('color', 'color')\n"
        "    def segmentation(self, index):\n        return Segmentation(np.full((1, 20, 20), index % 2, np.int32))\n"
        "class Mine(list):\n    annotations = Masks()\n    ids = [f'picture {i}' for i in range(10)]\n"
        "def mine():\n"
        "    rows = np.random.default_rng(0).integers(0, 255, (10, 20, 20, 3), dtype=np.uint8)\n"
        "    return Mine((Image.fromarray(row), 3) for row in rows)\n"
    )
    words = ["probe=custom", f"probe.factory='{folder}/masked.py:mine'", "baseline=netdissect"]
    status, err, run_folder = run("probe", *words)
    assert status == 0, err
    assert {row[2] for row in labels(run_folder, "labels_netdissect.csv")} <= {"red", "blue", ""}


@pytest.mark.slow
def test_pictures_that_differ_at_every_read_are_refused_and_ids_twice_are_said(folder, run):
    status, err, _ = run("probe", "probe=custom", f"probe.factory='{folder}/odd.py:changing'")
    assert status == 2
    assert "odd.py:changing: image 0 is another one at every read" in err
    assert err.count("\n") == 1
    odd = (folder / "odd.py").read_text()
    (folder / "odd.py").write_text(  # the remedy
        odd.replace("return Image.effect_noise((40, 40), 90)\n", "return Image.new('L', (40, 40), 9 * index)\n", 1)
    )
    status, err, _ = run("probe", "probe=custom", f"probe.factory='{folder}/odd.py:changing'")
    assert status == 0, err
    words = ["probe=custom", f"probe.factory='{folder}/odd.py:twice'", "report.html=true"]
    status, err, run_folder = run("probe", *words)
    assert status == 0, err
    assert "ids of more than one image: 1 (a)" in (run_folder / "report.html").read_text()


@pytest.mark.slow
def test_complex_embeddings_are_refused_and_their_real_part_is_taken(folder, run):
    status, err, _ = run("clip", "clip=custom", f"clip.factory='{folder}/odd.py:complex_'")
    assert status == 2
    assert "encode_image gives complex numbers, torch.complex64; give real ones, as their .real or .abs()" in err
    status, err, _ = run("clip", "clip=custom", f"clip.factory='{folder}/odd.py:real'")
    assert status == 0, err
