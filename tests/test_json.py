"""Commands that list print one JSON document, errors too; llms.txt and these documents answer questions about a run."""

import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from helpers.reading import read_rows

from cd_exp.cli import entry

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
LLMS = ROOT / "docs/llms.txt"
SMALL = ["probe.size=200", "similarity.top_k=20", "report.figures=false", "logger=none", "features.workers=0"]


def call(module, words, capsys):
    """One command in this process: its status, its document, and what stands on standard error."""
    try:
        status = import_module(module).main(words)
    except SystemExit as leaving:
        status = leaving.code
    said = capsys.readouterr()
    return status or 0, json.loads(said.out), said.err


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run and its cache."""
    folder = tmp_path_factory.mktemp("json")
    patch = pytest.MonkeyPatch()
    words = [*SMALL, "features.progress=false", "seed=3", f"hydra.run.dir={folder}/run", f"cache.dir={folder}/cache"]
    patch.setattr("sys.argv", ["run.py", *words])
    patch.chdir(ROOT)
    entry.main()
    patch.undo()
    return folder


SCRIPT = r"""
import json, re, shlex, subprocess, sys

guide, places = open(sys.argv[1]).read(), dict(word.split("=", 1) for word in sys.argv[2:])
documents = {}

def ask(command):
    words = [sys.executable, *(places.get(word, word) for word in shlex.split(command)[1:])]
    if command not in documents:
        documents[command] = json.loads(subprocess.run(words, capture_output=True, text=True).stdout)
    return documents[command]

def walk(node, path):
    if not path:
        return node
    if path[0] == "*":
        return [walk(inner, path[1:]) for inner in (node.values() if isinstance(node, dict) else node)]
    return walk(node[int(path[0])] if isinstance(node, list) else node[path[0]], path[1:])

lines = re.findall(r"^- (.*\?) `([^`]+)` `([^`]+)`$", guide, re.M)
print(json.dumps({question: walk(ask(command), path.split(".")) for question, command, path in lines}))
"""
"""It imports nothing of ours, and knows only what llms.txt says."""


def test_a_script_that_has_only_llms_txt_answers_ten_questions(run, tmp_path):
    (tmp_path / "ask.py").write_text(SCRIPT)
    words = [str(tmp_path / "ask.py"), str(LLMS), f"RUN={run}/run", f"CACHE={run}/cache"]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    answers = list(json.loads(done.stdout).values())
    rows = read_rows(run / "run/labels.csv")
    layers = json.loads((run / "run/metrics.json").read_text())["layers"]
    assert answers == [
        next(row["description"] for row in rows if (row["layer"], row["unit"]) == ("fc", "7")),
        [sum(row["layer"] == layer for row in rows) for layer in layers],
        layers["fc"]["top1"],
        layers["fc"]["ci95"],
        [layer["stability_mean"] for layer in layers.values()],
        [sum("dead" in row["marks"].split() for row in rows if row["layer"] == layer) for layer in layers],
        "soft_wpmi",
        3,
        True,
        [path.parent.parent.name for path in sorted((run / "cache").glob("*/*/manifest.json"))],
    ]


def test_every_command_and_page_that_llms_txt_names_is_there():
    text = LLMS.read_text()
    for command in re.findall(r"`python -m (cd_exp[\w.]*)", text):
        assert (ROOT / f"{command.replace('.', '/')}.py").is_file() or (ROOT / command.replace(".", "/")).is_dir()
    assert all((ROOT / "docs" / page).is_file() for page in re.findall(r"\]\(([^)]+)\)", text))
    assert len(re.findall(r"^- .*\? `", text, re.M)) == 10


def test_a_run_is_listed_without_its_pages_made_again(run, capsys):
    before = {path: path.stat().st_mtime_ns for path in (run / "run").rglob("*")}
    status, document, err = call("cd_exp.report", [f"{run}/run", "--list", "--json"], capsys)
    assert (status, err, document["pages"]) == (0, "", [])
    assert {path: path.stat().st_mtime_ns for path in (run / "run").rglob("*")} == before
    (listed,) = document["runs"]
    assert listed["layers"] == json.loads((run / "run/metrics.json").read_text())["layers"]
    assert {"labels.csv", "metrics.json", "explorer/index.html"} <= set(listed["files"])
    assert import_module("cd_exp.report").main([f"{run}/run", "--list"]) == 0
    assert f"{run}/run: fc, 100 units, top-1 {listed['layers']['fc']['top1']:.1f} % of 100" in capsys.readouterr().out


def test_the_cache_is_listed_checked_and_pruned(run, capsys):
    cache = ["--dir", f"{run}/cache", "--json"]
    status, document, _ = call("cd_exp.cache.__main__", ["list", *cache], capsys)
    count = len(list((run / "cache").glob("*/*/manifest.json")))  # activations, images, texts, thumbnails
    assert (status, len(document["entries"])) == (0, count)
    assert all(entry["bytes"] > 0 and len(entry["key"]) == 40 for entry in document["entries"])
    status, document, _ = call("cd_exp.cache.__main__", ["verify", *cache], capsys)
    assert (status, document["entries"], document["damaged"]) == (0, count, [])
    status, document, _ = call("cd_exp.cache.__main__", ["prune", "--days", "0", *cache], capsys)
    assert (status, document) == (2, {"error": "Nothing removed yet: add --yes"})
    status, document, _ = call("cd_exp.cache.__main__", ["prune", "--days", "9", "--yes", *cache], capsys)
    assert (status, document["selected"], document["removable"]["entries"]) == (0, {"entries": 0, "bytes": 0}, count)


def test_a_plan_is_one_document(run, monkeypatch, capsys):
    words = [*SMALL, "plan=true", f"cache.dir={run}/cache", "--json"]
    monkeypatch.setattr("sys.argv", ["run.py", *words])
    entry.main()
    document = json.loads(capsys.readouterr().out)
    assert (document["images"], document["cache"]["fits"], document["downloads"]) == (200, True, [])
    assert {"what", "how", "size", "bytes"} == set(document["steps"][0])


@pytest.mark.parametrize(
    ("module", "words", "message"),
    [
        ("cd_exp.cache.__main__", ["list", "--dir", "nowhere"], "nowhere is no cache of cd_exp"),
        ("cd_exp.cache.__main__", ["lists"], "argument command: invalid choice: 'lists'"),
        ("cd_exp.sweep.__main__", ["nowhere"], "nowhere holds no jobs"),
        ("cd_exp.report", ["nowhere", "--list"], "nowhere holds no"),
        ("cd_exp.report", ["nowhere"], "nowhere holds no"),
        ("cd_exp.referee.__main__", ["nowhere", "--out", "x"], "nowhere: there is no such run or file"),
        ("cd_exp.study.__main__", ["read", "nowhere", "x"], "nowhere"),
        ("cd_exp.study.__main__", ["plan", "nowhere", "--design", "rating"], "nowhere holds no"),
        ("cd_exp.study.__main__", ["make", "nowhere"], "the following arguments are required: --design, --out"),
        ("cd_exp.verify", ["nowhere"], "nowhere is no folder"),
        ("cd_exp.convert", ["nowhere", "x", "--to", "milan"], "nowhere cannot be read"),
    ],
)
def test_errors_are_documents_too(tmp_path, monkeypatch, capsys, module, words, message):
    monkeypatch.chdir(tmp_path)
    status, document, err = call(module, [*words, "--json"], capsys)
    assert (status, list(document), err) == (2, ["error"], "")
    assert document["error"].startswith(message)
    assert "\n" not in document["error"]


@pytest.mark.parametrize("words", [["similarity=nothing"], ["--wrong"], ["plan=maybe"], []])
def test_errors_of_a_run_are_documents_too(tmp_path, monkeypatch, capsys, words):
    monkeypatch.setattr("sys.argv", ["run.py", *words, "--json", f"hydra.run.dir={tmp_path}/run"])
    with pytest.raises(SystemExit) as leaving:
        entry.main()
    said = capsys.readouterr()
    assert (leaving.value.code, list(json.loads(said.out)), said.err) == (2, ["error"], "")
    assert not (tmp_path / "run").exists()


def test_a_sweep_is_one_document(tmp_path, monkeypatch, capsys):
    words = [*SMALL, "features.progress=false", "report.explorer=none", "report.html=false", "stability.resamples=0"]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["run.py", "-m", *words, "similarity=wpmi,soft_wpmi", "model.layers=[fc]",
                                     f"hydra.sweep.dir={tmp_path}/sweep", f"cache.dir={tmp_path}/cache"])  # fmt: skip
    entry.main()
    capsys.readouterr()
    status, document, _ = call("cd_exp.sweep.__main__", [f"{tmp_path}/sweep", "--json"], capsys)
    assert (status, document["finished"], document["failed"]) == (0, 2, 0)
    assert document["axes"] == {"similarity": ["wpmi", "soft_wpmi"]}
    assert [job["values"]["similarity"] for job in document["jobs"]] == ["wpmi", "soft_wpmi"]
    assert all(job["layers"]["fc"]["units"] == 100 for job in document["jobs"])
