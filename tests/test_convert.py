"""Labels of units from one published layout into another, and back."""

import json
import math
from pathlib import Path

import pytest

from cd_exp.convert import FORMATS, UnitLabels, convert_labels, main, read_unit_labels
from cd_exp.evaluation.baselines import published

SHARED = Path(__file__).parents[1] / "../shared/reference"
WORDS = ("red circle", 'a "quoted" word', "salt; pepper", "a, b", "naïve 寿司", "line\nbreak", "=1+1", "0", "nan")
LAYERS = ("conv1", "layer4.2.relu", "encoder/12:cls", "fc@2")


def made_rows(units, *, layers=LAYERS, several=False, weights=False, score=True):
    """Labels of awkward words; one unit in nine has none."""
    rows = []
    for layer in layers:
        for unit in range(units):
            count = unit % 3 + 1 if several or weights else 1
            names = tuple(f"{WORDS[(unit + step) % len(WORDS)]} {step}" for step in range(count)) if unit % 9 else ()
            values = tuple(0.1 * (step + 1) - 1 / 3 for step in range(len(names))) if weights else ()
            number = unit / 7 if score and names and not weights else math.nan
            rows.append(UnitLabels(layer, unit, names, number, values))
    return rows


def what_is_said(rows):
    """Comparable, as NaN is not equal to itself."""
    return {(row.layer, row.unit): (row.labels, repr(row.score), row.weights) for row in rows}


def write_rows(rows, path, name):
    from cd_exp.convert import format_unit_labels

    texts = format_unit_labels(rows, name)
    for file, text in texts.items():
        (path / file if file else path).parent.mkdir(parents=True, exist_ok=True)
        (path / file if file else path).write_text(text)
    return path


HOLDS = {
    "clip_dissect": {},
    "milan": {"score": False},
    "linear_explanations": {"weights": True},
    "describe_and_dissect": {"several": True, "score": False},
    "netdissect": {},
}


@pytest.mark.parametrize("units", [90, pytest.param(9216, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", FORMATS)
def test_36864_units_come_back_from_every_format_as_they_were(tmp_path, name, units):
    rows = made_rows(units, **HOLDS[name])
    first = write_rows(rows, tmp_path / "first", name)
    done = convert_labels(first, tmp_path / "second", to=name)
    assert (sum(done["layers"].values()), done["left_out"]) == (4 * units, {})
    read, columns = read_unit_labels(tmp_path / "second")
    assert what_is_said(read) == what_is_said(rows)
    assert columns == []


@pytest.mark.parametrize("name", ["netdissect", "describe_and_dissect", "milan", "linear_explanations"])
def test_the_one_label_of_a_unit_goes_through_every_format_and_back(tmp_path, name):
    rows = made_rows(20)
    source = write_rows(rows, tmp_path / "source", "clip_dissect")
    convert_labels(source, tmp_path / "there", to=name)
    convert_labels(tmp_path / "there", tmp_path / "back", to="clip_dissect")
    back, _ = read_unit_labels(tmp_path / "back")
    assert {key: said[0] for key, said in what_is_said(back).items()} == {
        key: said[0] for key, said in what_is_said(rows).items()
    }
    if name == "netdissect":
        assert what_is_said(back) == what_is_said(rows)


@pytest.mark.parametrize(
    ("name", "made", "left_out"),
    [
        ("milan", {"several": True}, {"labels after the first": 6, "scores": 8}),
        ("clip_dissect", {"weights": True}, {"labels after the first": 6, "weights": 8}),
        ("linear_explanations", {"several": True}, {"labels after the first": 6, "scores": 8}),
        ("describe_and_dissect", {"weights": True}, {"weights": 8}),
        ("netdissect", {"weights": True}, {"labels after the first": 6, "weights": 8}),
    ],
)
def test_what_a_format_cannot_hold_is_said(tmp_path, capsys, name, made, left_out):
    held = {"several": "describe_and_dissect", "weights": "linear_explanations"}[next(iter(made))]
    from cd_exp.convert import what_is_left_out

    rows = made_rows(9, layers=["fc"], **made)
    assert what_is_left_out(rows, name) == left_out
    source = write_rows(rows, tmp_path / "source", held)
    assert main([str(source), str(tmp_path / "out"), "--to", name]) == 0
    said = capsys.readouterr().out
    assert said.startswith("9 units of fc -> ")
    for what, count in left_out.items():
        if what != "scores":  # neither of the two sources has any
            assert f"note: left out, {name} does not hold {what}: {count} units" in said


def test_a_run_folder_gives_its_five_best_and_says_which_columns_stay(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/labels.csv").write_text(
        "layer,unit,description,similarity,top5,truth\nfc,0,cat,0.5,cat; dog; a\\; b,cat\nfc,2,dog,0.25,dog; cat,\n"
    )
    assert main([str(tmp_path / "run"), str(tmp_path / "out"), "--to", "describe_and_dissect", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["left_out"] == {"scores": 2, "the columns truth": 2}
    assert (tmp_path / "out/fc.csv").read_text() == "Neuron ID,Label 1,Label 2,Label 3\n0,cat,dog,a; b\n2,dog,cat,\n"
    done = convert_labels(tmp_path / "run", tmp_path / "tally.csv", to="netdissect")
    assert done["added"] == {"units without a label": 1}
    assert done["left_out"]["the name of the layer, fc"] == 2
    assert (tmp_path / "tally.csv").read_text() == "unit,category,label,score\n1,,cat,0.5\n2,,,\n3,,dog,0.25\n"
    assert published(tmp_path / "tally.csv", layer="fc").labels()["fc"].descriptions == ("cat", "", "dog")


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.csv", "out", "--to", "milan"], "none.csv cannot be read as a file of labels: No such file"),
        (["labels.csv", "out", "--to", "milano"], "--to 'milano' is not known; did you mean 'milan'?"),
        (["labels.csv", "labels.csv", "--to", "milan"], "labels.csv is there already; give a new path"),
        (["labels.csv", "out.csv", "--to", "netdissect"], "netdissect has a file per layer, and labels.csv has a, b;"),
        (["labels.csv", "out", "--to", "milan", "--layer", "c"], "layer 'c' is not in labels.csv"),
        (["tally.csv", "out", "--to", "milan"], "tally.csv does not say which layer it labels; add --layer NAME"),
        (["twice.csv", "out", "--to", "milan"], "twice.csv labels unit 0 of a twice"),
        (["empty", "out", "--to", "milan"], "empty holds neither labels.csv nor files of labels"),
        (["labels.csv", "out"], "the following arguments are required: --to"),
    ],
)
def test_what_cannot_be_converted_is_refused(tmp_path, monkeypatch, capsys, words, message, as_json):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.csv").write_text("layer,unit,description\na,0,cat\nb,0,dog\n")
    (tmp_path / "twice.csv").write_text("layer,unit,description\na,0,cat\na,0,dog\n")
    (tmp_path / "tally.csv").write_text("unit,label,score\n1,cat,0.5\n")
    (tmp_path / "empty").mkdir()
    try:
        status = main([*words, *(["--json"] if as_json else [])])
    except SystemExit as leaving:
        status = leaving.code
    said = capsys.readouterr()
    assert status == 2
    assert not (tmp_path / "out").exists()
    text = json.loads(said.out)["error"] if as_json else said.err.removeprefix("error: ")
    assert text.startswith(message)
    assert (said.err if as_json else said.out) == ""


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/reference is not here")
@pytest.mark.parametrize(
    ("path", "name", "layer"),
    [
        ("CLIP_Dissect_results/resnet50_imagenet_broden.csv", "clip_dissect", None),
        ("MILAN_results/m_base_resnet50_imagenet.csv", "milan", None),
        ("NetDissect_results/resnet50_imagenet_layer4.csv", "netdissect", "layer4"),
        ("linear_explanations/ours/LE_label/resnet50_imagenet_layer1.csv", "linear_explanations", None),
    ],
)
def test_published_files_come_back_with_the_same_labels(tmp_path, path, name, layer):
    source, _ = read_unit_labels(SHARED / path, layer=layer)
    convert_labels(SHARED / path, tmp_path / "out", to=name, layer=layer)
    read, _ = read_unit_labels(tmp_path / "out")
    assert what_is_said(read) == what_is_said(source)
