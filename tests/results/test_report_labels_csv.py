from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd_exp.errors import InputError
from cd_exp.explorer.payload import NameTable, decode_array, describe_table
from cd_exp.records import FLAGS, Labels
from cd_exp.results.labels_csv import (
    COLUMNS,
    Column,
    format_labels,
    label_columns,
    make_frame,
    read_judged,
    read_labels_csv,
)

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
numbers = st.one_of(st.just(np.nan), st.floats(-1e6, 1e6).map(lambda value: float(f"{value:.6g}")))


@st.composite
def made(draw, layer="fc"):
    """What `Labels` is made of: any names and numbers, every field either there or not."""
    units = draw(st.integers(1, 5))

    def each(of):
        return draw(st.one_of(st.just(()), st.lists(of, min_size=units, max_size=units).map(tuple)))

    def array():
        labels = each(numbers)
        return np.array(labels) if labels and not np.isnan(labels).all() else None

    ranks, general = array(), each(names)
    return {  # beartype draws random numbers of its own when a record is made
        "layer": layer,
        "units": np.arange(units),
        "top": draw(st.lists(st.lists(names, max_size=5).map(tuple), min_size=units, max_size=units).map(tuple)),
        "similarity": np.array(draw(st.lists(numbers, min_size=units, max_size=units))),
        "truth": each(st.one_of(st.none(), st.lists(names, min_size=1, max_size=3).map(tuple))),
        "ranks": None if ranks is None else np.abs(ranks).round(),
        "margin": array(),
        "stability": array(),
        "stable_set": each(st.lists(names, min_size=1, max_size=3).map(tuple)),
        "p_right": array(),
        "general_label": general,
        "general_p": array() if general else None,
        "general_bits": array() if general else None,
        "marks": each(st.sets(st.sampled_from(FLAGS)).map(frozenset)),
        "judged_label": each(names),
        "faithfulness": {name: labels for name in ("pearson", "my own") if (labels := array()) is not None},
    }


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(made("fc"), made("layer4; x,\n"))
def test_what_is_written_is_read_back(tmp_path_factory, first, second):
    first, second = Labels(**first), Labels(**second)
    path = tmp_path_factory.mktemp("run") / "labels.csv"
    path.write_bytes(format_labels({first.layer: first, second.layer: second}).encode())
    read_labels = read_labels_csv(path)
    for labels in (first, second):
        for entry in fields(Labels):
            written, read = getattr(labels, entry.name), getattr(read_labels[labels.layer], entry.name)
            if entry.name == "faithfulness":
                assert written.keys() == read.keys()
                assert all(written[name] == pytest.approx(read[name], nan_ok=True) for name in written)
            elif isinstance(written, np.ndarray):
                assert read == pytest.approx(written, nan_ok=True)
            elif entry.name in ("truth", "marks") and not any(written):
                assert not any(read or ())  # nothing known of any unit
            else:
                assert read == written, entry.name


def test_the_columns_of_a_judge_stand_before_the_marks_where_there_is_one():
    plain = Labels("fc", np.arange(2), (("a",), ()), np.array([0.5, np.nan]))
    assert label_columns({"fc": plain})[-4:] == ("margin", "stability", "stable_set", "marks")
    scored = replace(plain, layer="layer4", judged_label=("a", "b"), faithfulness={"f1": np.array([0.25, np.nan])},
                     marks=(frozenset(["dead", "circular"]), frozenset()))  # fmt: skip
    header = label_columns({"fc": plain, "layer4": scored})
    assert header[7:] == ("margin", "stability", "stable_set", "judged_label", "faithfulness_f1", "marks")
    assert format_labels({"fc": plain, "layer4": scored}).splitlines()[1:] == [
        "fc,0,a,0.5,a,,,,,,,,",
        "fc,1,,,,,,,,,,,",
        "layer4,0,a,0.5,a,,,,,,a,0.25,dead circular",
        "layer4,1,,,,,,,,,b,,",
    ]


def test_probabilities_and_general_labels_stand_after_the_stable_set_where_some_layer_has_them():
    plain = Labels("fc", np.arange(2), (("a",), ()), np.array([0.5, np.nan]))
    likely = replace(plain, layer="layer4", p_right=np.array([0.25, np.nan]))
    assert label_columns({"fc": plain, "layer4": likely})[-3:] == ("stable_set", "p_right", "marks")
    general = replace(
        likely, general_label=("thing", "b"), general_p=np.array([1, 0.5]), general_bits=np.array([0, 2.0])
    )
    header = label_columns({"fc": plain, "layer4": general})
    assert header[9:] == ("stable_set", "p_right", "general_label", "general_p", "general_bits", "marks")
    assert format_labels({"layer4": general}).splitlines()[1:] == [
        "layer4,0,a,0.5,a,,,,,,0.25,thing,1,0,",
        "layer4,1,,,,,,,,,,b,0.5,2,",
    ]


def test_a_column_of_numbers_stands_in_the_file_the_frame_and_the_explorer(monkeypatch):
    share = Column("share", lambda labels: labels.margin / labels.similarity)
    monkeypatch.setattr("cd_exp.results.labels_csv.COLUMNS", (*COLUMNS, share))
    labels = Labels("fc", np.arange(2), (("a",), ("b",)), np.array([0.5, 0.25]), margin=np.array([0.125, 0.25]))
    assert [row.split(",")[-2] for row in format_labels({"fc": labels}).splitlines()] == ["share", "0.25", "1"]
    assert make_frame(labels)["share"].tolist() == [0.25, 1.0]
    numbers = describe_table(labels, NameTable())["numbers"]
    assert decode_array(numbers["share"]).tolist() == [0.25, 1.0]


def test_probabilities_are_numbers_in_the_frame():
    labels = Labels("fc", np.arange(1), (("a",),), np.ones(1), p_right=np.array([0.25]), general_p=np.array([0.5]))
    frame = make_frame(labels)
    assert (frame["p_right"][0], frame["general_p"][0]) == (0.25, 0.5)


def test_names_with_the_separator_in_them_stay_one_name(tmp_path):
    labels = Labels("fc", np.arange(1), (("salt; pepper", 'the "x", y'),), np.zeros(1), stable_set=(("a;b", "c\\"),))
    (tmp_path / "labels.csv").write_text(format_labels({"fc": labels}))
    read_labels = read_labels_csv(tmp_path / "labels.csv")["fc"]
    assert (read_labels.top, read_labels.stable_set, read_labels.descriptions) == (
        labels.top,
        labels.stable_set,
        ("salt; pepper",),
    )


def test_what_is_no_file_of_a_run_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"labels.csv cannot be read: No such file.*give the folder of a finished run"):
        read_labels_csv(tmp_path / "labels.csv")
    (tmp_path / "labels.csv").write_text("layer,unit\nfc,0\n")
    with pytest.raises(InputError, match=r"labels.csv has no column 'description'; expected layer, unit, description"):
        read_labels_csv(tmp_path / "labels.csv")


def judged_labels():
    return {"clip_dissect": {"fc": Labels(layer="fc", units=np.arange(2), top=(("a",), ("b",)), similarity=np.ones(2))}}


def test_verdicts_are_read_of_a_file_that_a_spreadsheet_saved(tmp_path):
    path = tmp_path / "judged.csv"
    path.write_text("layer,unit,method,right\nfc,1,clip_dissect,1\n", encoding="utf-8-sig")
    assert read_judged(path, judged_labels())["clip_dissect"]["fc"].verdicts.tolist() == [-1, 1]


@pytest.mark.parametrize(
    "rows", ["fc,2,clip_dissect,1", "fc,01,clip_dissect,1", "fc,0,other,1", "fc,0,clip_dissect,1\nfc,0,clip_dissect,0"]
)
def test_verdicts_of_no_unit_or_twice_of_one_are_refused(tmp_path, rows):
    path = tmp_path / "judged.csv"
    path.write_text(f"layer,unit,method,right\n{rows}\n")
    with pytest.raises(InputError, match=r"judged\.csv judges a unit twice, or one that no table of labels has"):
        read_judged(path, judged_labels())


def test_two_columns_of_one_name_are_refused(tmp_path):
    header = "layer,unit,description,similarity,top5,description"
    (tmp_path / "labels.csv").write_text(f"{header}\nfc,0,cat,1,cat,dog\n")
    with pytest.raises(InputError, match=r"labels\.csv has two columns 'description'; rename one, or take it out"):
        read_labels_csv(tmp_path / "labels.csv")


@pytest.mark.parametrize("top5", ["dog; cat", "", "Cat"])
def test_a_label_that_was_edited_in_one_of_its_columns_is_refused(tmp_path, top5):
    columns = "layer,unit,description,similarity,top5,truth,rank_of_truth,marks"
    (tmp_path / "labels.csv").write_text(f"{columns}\nfc,0,cat,1,{top5},,,\n")
    with pytest.raises(InputError, match=r"unit 0 of fc is called 'cat', and the first of its top5 is another; it was"):
        read_labels_csv(tmp_path / "labels.csv")
