"""The schemas: valid themselves, in step with the code, and every file of every kind of run held to them."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
from check_files import check_folder, close, faults_of_json, faults_of_table
from helpers.finished_runs import run_small
from jsonschema import Draft202012Validator

from cd_exp.errors import InputError
from cd_exp.explorer.payload import SCHEMA as EXPLORER_SCHEMA
from cd_exp.io.digests import SCHEMA as DIGESTS_SCHEMA
from cd_exp.metrics import METRICS
from cd_exp.report import main as report
from cd_exp.results.labels_csv import COLUMNS, JUDGED_COLUMNS, MARKS
from cd_exp.schema import list_schemas, read_schema
from cd_exp.schema.__main__ import main
from cd_exp.study.make import SCHEMA as STUDY_SCHEMA

OF_0_2_0 = Path(__file__).parents[1] / "fixtures" / "of_0_2_0"


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return tmp_path_factory.mktemp("world")


def held(folder: Path) -> set[str]:
    """The names of the schemas of all files below a folder, each of which holds."""
    checked = [*check_folder(folder)]
    assert {path: faults for path, _, faults in checked if faults} == {}
    return {name for _, name, _ in checked}


@pytest.mark.parametrize("name", list_schemas())
def test_a_schema_is_one(name):
    schema = read_schema(name)
    assert schema["version"] == 1
    assert schema["files"]
    assert schema["description"].endswith(".")
    if "fields" not in schema:
        Draft202012Validator.check_schema(schema)
        Draft202012Validator.check_schema(close(schema))
        assert schema["$id"] == f"urn:cd_exp:schema:{name}:1"
    else:
        assert all(
            field["description"] and field["type"] in ("string", "integer", "number") for field in schema["fields"]
        )


def test_schemas_are_in_step_with_the_code():
    columns = [field["name"] for field in read_schema("labels")["fields"]]
    assert columns == [column.name for column in (*COLUMNS, MARKS)]
    assert [field["name"] for field in read_schema("judged")["fields"]] == [*JUDGED_COLUMNS]
    layer = read_schema("metrics")["$defs"]["layer"]["properties"]
    swept = {field["name"]: field["description"] for field in read_schema("sweep")["fields"]}
    for metric in METRICS:
        assert layer[metric.key]["description"] == metric.meaning == swept[metric.key]
    assert {DIGESTS_SCHEMA, EXPLORER_SCHEMA, STUDY_SCHEMA} == {1}


def test_what_is_not_as_a_run_writes_it_is_seen(tmp_path):
    table = tmp_path / "judged.csv"
    table.write_text("layer,unit,method,right\nfc,0,clip_dissect,1\nfc,x,clip_dissect,2\nfc,0,clip_dissect,1\n")
    assert faults_of_table(table, "judged") == [
        "row 2, unit: 'x' is no integer", "row 2, right: '2' is none of [0, 1]", "a row of the same key stands twice"
    ]  # fmt: skip
    table.write_text("unit,layer,more\n0,fc,1\n")
    assert len(faults_of_table(table, "judged")) == 4
    assert faults_of_json({"layers": {"fc": {"units": 3, "top_1": 3.0, "auc": None}}}, "metrics")
    assert not faults_of_json({"layers": {"fc": {"units": 3}}, "seconds": {"total": 1.0}}, "metrics")


def test_the_command_lists_and_prints(capsys):
    assert main([]) == 0
    assert "labels           1  labels.csv, labels_NAME.csv\n" in capsys.readouterr().out
    assert main(["--json"]) == 0
    assert json.loads(capsys.readouterr().out)["digests"]["files"] == ["digests.json"]
    assert main(["labels"]) == 0
    assert json.loads(capsys.readouterr().out) == read_schema("labels")
    assert main(["label"]) == 2
    assert capsys.readouterr().err == "error: schema 'label' is not known; did you mean 'labels'?\n"
    assert main(["label", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"].startswith("schema 'label'")
    with pytest.raises(InputError, match="schema 'x' is not known"):
        read_schema("x")


def test_a_run_is_held_to_its_schemas(world):
    run = run_small(world / "default")
    assert held(run) == {"labels", "judged", "metrics", "manifest", "digests", "explorer"}


KINDS = {
    "methods_and_a_judge": ("baseline=netdissect", "judge=annotations"),
    "a_clip_as_judge": ("judge=clip", "judge.clip=shapes", "judge.untrained=true", "report.explorer=folder"),
    "our_function": ("similarity=whitened_wpmi", "~similarity.top_k", "judge=whitened", "report.maps=true"),
    "published_table": ("similarity=rank_reorder", "~similarity.top_k", "model.layers=[fc]"),
    "linear": ("baseline=linear_explanations", "model.layers=[fc]"),
    "names": ("similarity=mean_embedding", "concepts=words", "concepts.names=[red,blue]", "stability.resamples=0"),
    "tracked": ("logger=wandb", "similarity=cos", "~similarity.top_k"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_files_of_other_runs_are_held_to_their_schemas(world, kind):
    assert {"labels", "metrics", "manifest", "digests", "explorer"} <= held(run_small(world / kind, *KINDS[kind]))


@pytest.mark.slow
def test_files_of_sweeps_and_commands_are_held_to_their_schemas(world):
    from cd_exp.referee.__main__ import main as referee

    words = ("similarity=soft_wpmi,wpmi", "similarity.top_k=5,7", "model.layers=[fc]")
    assert {"sweep", "consensus", "anova", "explorer"} <= held(run_small(world / "sweep", "-m", *words))
    jobs = [str(world / "sweep" / name) for name in ("0", "3")]
    assert referee([*jobs, "--out", str(world / "referee")]) == 0
    assert held(world / "referee") == {"referee"}
    assert report([*jobs, "--out", str(world / "compared")]) == 0
    assert held(world / "compared") == {"explorer"}
    assert report([jobs[0], "--query", "something round"]) == 0
    assert "explorer" in held(world / "sweep")


@pytest.mark.long
@pytest.mark.parametrize("design", ["rating", "choice", "presence", "intruder"])
def test_files_of_studies_are_held_to_their_schemas(world, design):
    from cd_exp.study.__main__ import main as study
    from cd_exp.study.plan import rehearse

    run = world / "asked"
    if not run.exists():
        run_small(run, "probe.size=120", "baseline=invert", "model.layers=[fc]", "similarity.top_k=12")
    folder, answers = world / design, world / f"answers_of_{design}"
    assert study(["make", str(run), "--design", design, "--units", "4", "--out", str(folder), "--batch", "8"]) == 0
    rehearse(folder, answers, error=0.1)
    assert study(["read", str(folder), str(answers)]) == 0
    assert study(["analyse", str(folder), "--join"]) == 0
    assert held(folder) == {"study", "key", "study_answers", "study_results"}
    assert held(answers) == {"answers"}
    assert "labels" in held(run)


def test_files_of_0_2_0_are_held_to_the_schemas():
    names = {"labels", "metrics", "manifest", "comparisons", "sweep", "consensus", "anova"}
    assert held(OF_0_2_0) == names


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A copy of what 0.2.0 wrote, in a working directory that has its relative paths."""
    monkeypatch.chdir(tmp_path)
    for path in (folder := shutil.copytree(OF_0_2_0, tmp_path / "old")).rglob("*.yaml"):
        path.write_text(path.read_text().replace("/home/ada/work", str(folder)))
    return folder


@pytest.mark.slow
def test_a_run_of_0_2_0_is_reported_and_asked(old):
    assert report([str(old / "run")]) == 0
    assert report([str(old / "run"), "--query", "something round"]) == 0
    assert "something round" in (old / "run" / "explorer" / "index.html").read_text()
    assert held(old / "run") >= {"explorer"}


@pytest.mark.slow
def test_a_sweep_of_0_2_0_is_gathered_and_resumed(old, monkeypatch):
    from cd_exp.cli import entry

    before = (old / "sweep" / "1" / "labels.csv").read_text()
    shutil.rmtree(old / "sweep" / "1")
    monkeypatch.setattr("sys.argv", ["run.py", "--resume", str(old / "sweep")])
    entry.main()
    cells = [line.split(",")[:3] for line in (old / "sweep" / "1" / "labels.csv").read_text().splitlines()]
    assert cells == [line.split(",")[:3] for line in before.splitlines()]
    assert {"sweep", "digests"} <= held(old / "sweep")


def test_the_version_that_wrote_a_run_stands_in_its_manifest(world):
    manifest = json.loads((OF_0_2_0 / "run" / "manifest.json").read_text())
    assert manifest["versions"]["cd-exp"] == "0.2.0"
    assert "schema" not in manifest
    assert version("cd-exp")
