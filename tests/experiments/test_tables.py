"""The shapes twins of the paper's tables, run and put beside the published numbers."""

import json
from pathlib import Path

import pytest

from cd_exp.errors import InputError
from experiments.against_published import Number, jobs
from experiments.runtime import table as runtime
from experiments.table1 import table as table1
from experiments.table2 import table as table2
from experiments.table3 import table as table3
from experiments.vit import table as vit

SHARED = Path(__file__).parents[2] / "../shared/real"


def axes(**values):
    """The axes of an experiment's sweep, made smaller."""
    return "hydra.sweeper.params={" + ",".join(f"{key}:'{value}'" for key, value in values.items()) + "}"


@pytest.mark.long
def test_table3_has_a_row_a_job_and_features_once_a_probe_set(run):
    folder = run("-m", "experiment=table3_shapes",
                 axes(**{"probe.size": "300,200", "similarity": "cos,rank_reorder,soft_wpmi"}))  # fmt: skip
    text = table3.main([str(folder)])
    assert text.count("| fc |") == 6
    assert text.count("rank_reorder | fc") == 2
    assert "No published number" in text
    manifests = [json.loads((job.folder / "manifest.json").read_text()) for job in jobs([folder])]
    made = [name for about in manifests for name in about["cache"]["made"] if not name.startswith("texts/")]
    assert len(made) == len(set(made)) == 2 * 3  # two layers and the image embeddings of each probe set
    assert all(about["cache"]["read"] or about["cache"]["made"] for about in manifests)
    assert (folder / "sweep.csv").exists()


@pytest.mark.slow
def test_table1_tells_concept_sets_apart(run):
    text = table1.main(
        [str(run("-m", "experiment=table1_shapes", axes(**{"concepts": "shapes,classes", "probe.size": "300"})))]
    )
    assert "| classes | fc |" in text
    assert "| shapes | fc |" in text


def test_table2_has_both_methods(small):
    text = table2.main([str(small)])
    assert "clip_dissect" in text
    assert "netdissect" in text


@pytest.mark.slow
def test_runtime_says_every_stage(run):
    text = runtime.main([str(run("experiment=runtime_shapes", "probe.size=300"))])
    assert "| shapes | shapes | 300 |" in text
    assert "in just 4 minutes" in text


@pytest.mark.slow
def test_vit_labels_hidden_units_of_blocks(run):
    folder = run("experiment=vit_shapes", "probe.size=100", "similarity.top_k=20")
    layers = json.loads((folder / "metrics.json").read_text())["layers"]
    assert {name.split(".")[0] for name in layers} == {"blocks", "norm"}
    with pytest.raises(InputError, match="have no figure of labels with a known truth"):
        vit.main([str(folder)])


@pytest.mark.long
@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/real is not here")
def test_table3_on_real_photos_holds_every_known_number(run):
    text = table3.main([str(run("-m", "experiment=table3_real", f"data_dir={SHARED}"))])
    assert "16 of 16 published numbers hold" in text
    assert "rank_reorder" in text


@pytest.mark.parametrize(
    ("number", "holds"),
    [
        (Number(10.0, (8.0, 12.0), 11.9), True),
        (Number(10.0, (8.0, 12.0), 12.1), False),
        (Number(10.0, (8.0, 12.0), 10.4, tolerance=0.3), False),
        (Number(10.0, None, 10.2, tolerance=0.3), True),
        (Number(10.0, (8.0, 12.0)), None),
        (Number(0.6, None, 0.7), None),
        (Number(80.0, (70.0, 90.0), 86.0, caveat="counts duplicates"), None),
    ],
)
def test_what_it_means_to_hold(number, holds):
    assert number.holds is holds


def test_a_folder_without_runs_is_one_line(tmp_path):
    with pytest.raises(InputError, match="holds no finished run; give the folder of a run or of a sweep"):
        jobs([tmp_path])


@pytest.mark.parametrize("claim", ["table1", "table2", "table3", "vit", "runtime"])
def test_expected_numbers_have_a_source(claim):
    expected = json.loads((Path(__file__).parents[2] / "experiments" / claim / "expected.json").read_text())
    assert expected["source"]
    assert all(row["where"] and row["values"] for row in expected["rows"])
