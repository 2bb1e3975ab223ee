"""A sweep gathered whole: files, figures, what is printed, and W&B."""

import json
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from helpers.reading import read_rows
from made_sweeps import begun, failed, finished, table3
from PIL import Image

from cd_exp.io.text import make_file_name
from cd_exp.results.plots import read_captions
from cd_exp.sweep import gather_sweep, read_sweep
from cd_exp.sweep.__main__ import main
from cd_exp.sweep.consensus import vote_on_units
from cd_exp.sweep.load import common_layers
from cd_exp.sweep.plots import draw_disagreement, draw_heat_map, draw_sweep_figures

HOSTILE = [
    "<script>alert(1)</script>",
    "$x^2$ [bold]red[/bold]",
    "naïve 寿司",
    "=cmd()",
    "\x1b[31mred",
    "a, b",
    '"q" & e',
]


def contents(folder: Path) -> dict[str, bytes]:
    """What gathering wrote, by path."""
    written = [*folder.glob("*.csv"), *folder.glob("*.json"), *folder.glob("figures/*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in written}


@pytest.fixture(scope="module")
def sweep15(tmp_path_factory):
    return table3(tmp_path_factory.mktemp("table3"))


def test_without_drawing_old_figures_go_and_the_command_that_draws_is_named(tmp_path, console, said):
    for number, similarity in enumerate(("cos", "wpmi")):
        finished(tmp_path, number, f"similarity={similarity}", accuracy=40.0 + number, similarity=similarity)
    gather_sweep(tmp_path, console=console)
    assert "figures/accuracy_fc.png" in contents(tmp_path)
    (tmp_path / "figures" / "mine.png").write_bytes(b"")
    tables = {name: content for name, content in contents(tmp_path).items() if not name.startswith("figures/")}
    gather_sweep(tmp_path, console=console, draw=False)
    assert contents(tmp_path) == tables | {"figures/mine.png": b""}
    assert f"pages and figures: python -m cd_exp.report {tmp_path}" in said()


@pytest.mark.slow
def test_the_table_is_complete_but_for_what_failed_and_the_reasons_are_listed(sweep15, console, said):
    paths = gather_sweep(sweep15, console=console)
    table = read_rows(sweep15 / "sweep.csv")
    assert len(table) == 13 * 2 + 2
    assert list(table[0])[:6] == ["job", "probe", "similarity", "status", "reason", "layer"]
    assert (table[0]["top1"], table[0]["ci95_low"], table[0]["judged"]) == (
        "16.666666666666668",
        "2.166666666666668",
        "24",
    )
    without = {row["job"]: row for row in table if row["status"] != "ok"}
    assert without["7"]["reason"] == "probe.root=/nowhere: there is no such folder"
    assert without["9"]["status"] == "unfinished"
    assert without["9"]["top1"] == without["9"]["layer"] == ""
    assert {job.name for job in paths.troubled} == {"7", "9"}
    text = said()
    assert "16.7 29.2 41.7 58.3 70.8 [2.2, 29.9] [14.7, 42.4] [27.2, 54.9]" in text
    assert "20.8 33.3 failed 62.5 unfinished" in text
    assert "job 7 failed (similarity=rank_reorder, probe=cifar10): probe.root=/nowhere" in text
    assert "job 9 unfinished (similarity=soft_wpmi, probe=cifar10): no metrics.json: still running" in text
    assert "13 of 15 jobs finished" in text


@pytest.mark.slow
def test_figures_are_drawn_and_gathering_again_gives_the_same_bytes(sweep15, console):
    gather_sweep(sweep15, console=console)
    first = contents(sweep15)
    names = {
        f"figures/{family}_{layer}.png" for family in ("accuracy", "heat", "disagreement") for layer in ("act", "fc")
    }
    assert set(first) == names | {"figures/captions.md", "sweep.csv", "consensus.csv", "comparisons.json", "anova.json"}
    for name in names:
        with Image.open(sweep15 / name) as image:
            assert min(image.size) > 200
    gather_sweep(sweep15, console=console)
    assert contents(sweep15) == first


@pytest.mark.slow
def test_jobs_added_later_are_gathered_as_if_they_had_been_there(tmp_path, console):
    late, whole = tmp_path / "late", tmp_path / "whole"
    for folder in (late, whole):
        finished(folder, 0, "similarity=cos", accuracy=25)
        begun(folder, 1, "similarity=wpmi")
    gather_sweep(late, console=console)
    for folder in (late, whole):
        finished(folder, 1, "similarity=wpmi", accuracy=75)
        finished(folder, 2, "similarity=cos", "clip=rn50", accuracy=50, layers=("fc", "act"))
        gather_sweep(folder, console=console)
    assert contents(late) == contents(whole)
    assert "figures/heat_fc.png" in contents(late)


def test_what_no_longer_applies_is_removed(tmp_path, console):
    finished(tmp_path, 0, "similarity=cos", accuracy=25)
    finished(tmp_path, 1, "similarity=wpmi", accuracy=75)
    gather_sweep(tmp_path, console=console)
    assert "anova.json" in contents(tmp_path)
    (tmp_path / "figures" / "mine.png").write_bytes(b"")
    shutil.rmtree(tmp_path / "1")
    (tmp_path / "0" / "metrics.json").unlink()
    gather_sweep(tmp_path, console=console)
    assert set(contents(tmp_path)) == {"sweep.csv", "figures/mine.png"}


def test_without_truth_there_is_the_consensus_and_where_configurations_disagree(tmp_path, console, said):
    finished(tmp_path, 0, "similarity=cos", judged=False)
    finished(tmp_path, 1, "similarity=wpmi", judged=False, names=["leaf", "stripe"])
    gather_sweep(tmp_path, console=console)
    assert set(contents(tmp_path)) == {
        "sweep.csv", "consensus.csv", "figures/disagreement_fc.png", "figures/captions.md",
    }  # fmt: skip
    assert "consensus: layer agreement % units" in said()
    assert "top-1" not in said()


def test_one_axis_is_a_line_for_each_job(tmp_path, console, said):
    for number, top_k in enumerate([100, 30]):
        finished(tmp_path, number, f"similarity.top_k={top_k}", accuracy=25 * number)
    gather_sweep(tmp_path, console=console)
    assert "1 30 25.0 [10.5, 38.2] 34.0 24 0 100 0.0 [0.0, 13.2]" in said()
    assert "figures/accuracy_fc.png" in contents(tmp_path)
    assert "figures/heat_fc.png" not in contents(tmp_path)


def test_three_axes_of_models_with_layers_and_names_of_any_kind(tmp_path, console, said):
    strange = "head $y_1$ [b]/\\.."
    cells = [(m, c, s) for m in ("resnet50", "vit") for c in ("rn50", "b_16") for s in ("cos", "wpmi")]
    for number, (model, clip, similarity) in enumerate(cells):
        overrides = (f"model={model}", f"clip={clip}", f"similarity={similarity}")
        layers = ("fc",) if model == "resnet50" else (strange,)
        if number == 3:
            failed(tmp_path, number, *overrides, error="[red]boom[/red] \x1b[31m $x$", kind="RuntimeError")
        else:
            finished(tmp_path, number, *overrides, accuracy=20 + 7 * number, names=HOSTILE, layers=layers)
    gather_sweep(tmp_path, console=console)
    text = said()
    assert "last judged layer: top-1 % [95 %], similarity across" in text
    assert "model · clip cos wpmi" in text
    assert "RuntimeError: [red]boom[/red] \\x1b[31m $x$" in text
    assert "\x1b" not in console.file.getvalue()
    names = {name for name in contents(tmp_path) if name.startswith("figures/")}
    assert names == {
        "figures/captions.md",
        "figures/accuracy_last_judged_layer.png",
        "figures/heat_last_judged_layer.png",
        "figures/disagreement_resnet50_fc.png",
        f"figures/disagreement_vit_{make_file_name(strange)}.png",
    }
    assert {row["truth"] for row in read_rows(tmp_path / "consensus.csv")} == set(HOSTILE)


def test_a_table_too_wide_for_the_terminal_is_a_line_for_each_job(tmp_path, said, console):
    for number in range(12):
        finished(tmp_path, number, f"similarity=function_{number % 6}", f"clip=backbone_{number // 6}")
    gather_sweep(tmp_path, console=console)
    assert "job clip similarity fc: top-1" in said()


def test_two_jobs_of_one_combination_stand_below_each_other(tmp_path, console, said):
    for number in range(4):
        finished(tmp_path, number, f"similarity={'ab'[number % 2]}", f"clip={'xy'[number // 2]}", accuracy=25)
    finished(tmp_path, 4, "similarity=a", "clip=x", accuracy=75)
    gather_sweep(tmp_path, console=console)
    assert "x 25.0 25.0 [10.5, 38.2] [10.5, 38.2] 75.0 [60.5, 88.2]" in said()


def test_baselines_have_columns_of_their_own(tmp_path, console):
    folder = finished(tmp_path, 0, "similarity=cos")
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["baselines"] = {"netdissect": {"fc": {"top1": 12.5, "ci95": [1.0, 20.0]}}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    gather_sweep(tmp_path, console=console)
    (row,) = read_rows(tmp_path / "sweep.csv")
    assert (row["netdissect/top1"], row["netdissect/ci95_high"]) == ("12.5", "20.0")


def test_layers_whose_names_are_one_as_files_have_a_figure_each(tmp_path, console):
    for number in range(2):
        finished(tmp_path, number, f"seed={number}", layers=("a/b", "a:b"), accuracy=25 * number)
    gather_sweep(tmp_path, console=console)
    drawn = [name for name in contents(tmp_path) if name.startswith("figures/accuracy_a_b-")]
    assert len(drawn) == 2


def test_a_folder_without_jobs_gives_nothing_and_stays_as_it_is(tmp_path, console):
    assert gather_sweep(tmp_path, console=console) is None
    assert gather_sweep(tmp_path / "nowhere", console=console) is None
    assert list(tmp_path.iterdir()) == []


def test_the_command_line(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path} holds no jobs; give the folder of a multirun, such as outputs/sweeps/DATE_TIME\n"
    )
    finished(tmp_path, 0, "seed=0")
    assert main([str(tmp_path)]) == 0
    failed(tmp_path, 1, "seed=1")
    assert main([str(tmp_path)]) == 1
    assert "1 of 2 jobs finished" in capsys.readouterr().out


@pytest.mark.slow
def test_a_sweep_logged_to_wandb_gets_one_summary_in_the_group_of_its_jobs(tmp_path, monkeypatch, console):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    sweep = tmp_path / "2026-01-02_03-04-05"
    logger = {"_target_": "cd_exp.results.wandb.Wandb", "project": "p", "mode": "offline"}
    for number, similarity in enumerate(["cos", "wpmi"]):
        finished(sweep, number, f"similarity={similarity}", accuracy=25 * number, logger=logger)
    gather_sweep(sweep, console=console)
    gather_sweep(sweep, console=console)
    (log,) = sweep.glob("wandb/offline-run-*/run-*.wandb")
    inspected = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(log)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=True,
    ).stdout
    records = [json.loads(line) for line in inspected.splitlines()]
    (run,) = (record["run"] for record in records if record["type"] == "run")
    assert (run["run_group"], run["job_type"], run["project"]) == (sweep.name, "summary", "p")
    assert run["config"]["update"]["axes"] == ["similarity"]
    for logged in ("sweep.table.json", "anova.table.json", "figures/accuracy_fc", "consensus.csv", "fc/best_top1"):
        assert logged in inspected
    finished(sweep, 2, "similarity=soft_wpmi", accuracy=75, logger=logger)
    gather_sweep(sweep, console=console)
    assert len([*sweep.glob("wandb/offline-run-*/run-*.wandb")]) == 2


def test_a_tracker_out_of_reach_takes_nothing_from_the_tables(tmp_path, console, said, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    logger = {"_target_": "cd_exp.results.wandb.Wandb", "mode": "online"}
    finished(tmp_path / "sweep", 0, "similarity=cos", logger=logger)
    assert gather_sweep(tmp_path / "sweep", console=console) is not None
    assert "W&B summary not made: logger.mode=online, but W&B knows no key" in said()


def test_figures_of_a_sweep_are_pdf_too_where_its_jobs_ask_for_vectors(tmp_path):
    for number, similarity in enumerate(("cos", "wpmi")):
        finished(tmp_path, number, f"similarity={similarity}", "report.vector=true", accuracy=20 + 40 * number)
    sweep = read_sweep(tmp_path)
    drawn = draw_sweep_figures(sweep, vote_on_units(sweep))
    assert drawn
    assert all(path.suffix == ".png" for path in drawn)  # what W&B is given
    for path in drawn:
        assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    assert list(read_captions(tmp_path)) == [path.stem for path in drawn]


def test_the_heat_map_goes_from_0_to_100_and_has_numbers_intervals_and_n(tmp_path):
    for number, (similarity, top_k) in enumerate(product(("cos", "wpmi"), (5, 10))):
        finished(tmp_path, number, f"similarity={similarity}", f"similarity.top_k={top_k}", accuracy=25 * number)
    sweep = read_sweep(tmp_path)
    (view,) = common_layers(sweep)
    axes, bar = draw_heat_map(sweep, view).axes
    assert axes.get_images()[0].get_clim() == (0, 100)
    assert {text.get_text() for text in axes.texts} == {view.cell(job, line="\n") for job in sweep.finished}
    assert "[" in axes.texts[0].get_text()
    counts = {metrics["judged"] for metrics in view.metrics.values()}
    assert bar.get_ylabel() == f"top-1 %, n = {counts.pop()}"


def test_disagreement_shows_the_labels_themselves_as_shares_of_the_jobs(tmp_path):
    for number, similarity in enumerate(("cos", "wpmi", "soft_wpmi")):
        finished(tmp_path, number, f"similarity={similarity}", accuracy=[25, 75, 75][number])
    votes = vote_on_units(read_sweep(tmp_path))
    figure = draw_disagreement(votes)
    differing = [vote for vote in votes if len(set(vote.kinds.values())) > 1]
    words = [text.get_text() for text in figure.axes[0].texts]
    assert differing
    assert len(words) == sum(len(set(vote.kinds.values())) for vote in differing)
    assert {vote.description for vote in differing} <= set(words)
    widths = [patch.get_width() for patch in figure.axes[0].patches]
    assert sum(widths) == pytest.approx(100 * len(differing))
