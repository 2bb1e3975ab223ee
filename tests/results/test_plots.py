from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cd_exp import results
from cd_exp.metrics.intervals import clopper_pearson_interval
from cd_exp.metrics.selective import risk_coverage_band
from cd_exp.records import Labels
from cd_exp.results.image_strips import make_strip, make_thumbnail
from cd_exp.results.plots import (
    COLUMN,
    DPI,
    PAGE,
    draw_grid,
    draw_vector_grid,
    plot_agreement,
    plot_confidence,
    plot_ranks,
    plot_risk_coverage,
    read_captions,
    reliability,
)
from cd_exp.results.summary import choose_units, is_label_right


def test_all_figures_are_drawn_of_a_run_with_a_baseline(outcome, tmp_path):
    paths = results.draw_figures(tmp_path, outcome, units=7, images=3)
    assert [path.name for path in paths] == [
        "accuracy.png", "confidence.png", "ranks.png", "risk_coverage.png", "units.png", "captions.md",
    ]  # fmt: skip
    for path in paths[:-1]:
        with Image.open(path) as image:
            assert min(image.size) > 200
            assert len(np.unique(np.asarray(image.convert("L")))) > 10


def test_what_cannot_be_drawn_is_left_out(outcome, tmp_path):
    layer = "layer4.1.act2"
    plain = replace(
        outcome,
        labels={layer: outcome.labels[layer]},
        metrics={layer: {"units": 60}},
        baselines={},
        baseline_metrics={},
        top_images={layer: outcome.top_images[layer]},
    )
    assert [path.name for path in results.draw_figures(tmp_path, plain)] == ["units.png", "captions.md"]
    assert results.draw_figures(tmp_path, plain, units=0) == ()


def test_the_curve_of_ranks_starts_at_top_1():
    (line,) = plot_ranks({"fc": np.array([1.0, 1.0, 4.0, 40.0])}).axes[0].get_lines()
    positions, share = line.get_data()
    assert dict(zip(positions.tolist(), share.tolist(), strict=True)) == {1: 50, 4: 75, 40: 100}


def test_risk_is_drawn_against_coverage():
    stability, right = np.array([1.0, 0.5, 0.75, 0.25]), np.array([True, False, True, False])
    axes = plot_risk_coverage({"fc": (stability, right)}).axes[0]
    coverage, risk = axes.get_lines()[0].get_data()
    assert coverage.tolist() == [25, 50, 75, 100]
    assert risk.tolist() == pytest.approx([0, 0, 100 / 3, 50])
    (band,) = axes.collections
    drawn = [y for x, y in band.get_paths()[0].vertices.tolist() if x == 100]
    for end in clopper_pearson_interval(~right):  # at full coverage all units are taken
        assert min(abs(y - end) for y in drawn) < 1e-9


def test_the_band_of_risk_is_the_exact_interval_of_the_wrong_among_the_first():
    score, right = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([True, False, True, True, False])
    low, high = risk_coverage_band(score, right)
    wanted = [clopper_pearson_interval(~right[:taken]) for taken in range(1, 6)]
    assert np.stack([low, high], axis=1) == pytest.approx(np.array(wanted))


def test_equal_scores_share_their_band():
    low, high = risk_coverage_band(np.full(4, 0.5), np.array([True, False, True, False]))
    again = risk_coverage_band(np.full(4, 0.5), np.array([False, True, False, True]))
    assert (low.tolist(), high.tolist()) == tuple(part.tolist() for part in again)


def test_confidence_by_layer_shows_the_shares_of_the_metrics(outcome):
    labels = replace(outcome.labels["fc"], stability=np.linspace(0, 1, 60), p_right=np.full(60, 0.9))
    metrics = {**outcome.metrics, "fc": {**outcome.metrics["fc"], "stable_share": 0.2, "p_right_share": 1.0}}
    both = replace(outcome, labels={**outcome.labels, "fc": labels}, metrics=metrics)
    stability, probability = plot_confidence(both).axes
    assert [text.get_text() for text in stability.texts] == ["0.20", "≥ .8"]
    assert [text.get_text() for text in probability.texts] == ["1.000", "≥ .8"]
    assert [label.get_text() for label in stability.get_yticklabels()] == ["layer4.1.act2", "fc"]
    line, box, dot = (line.get_xdata() for line in stability.get_lines())
    assert (*line, *box, *dot) == pytest.approx((0.05, 0.95, 0.25, 0.75, 0.5))


def test_every_figure_is_as_wide_as_a_column_or_a_page_and_has_its_caption(outcome, tmp_path):
    results.draw_figures(tmp_path, outcome, units=7, title="resnet18 · soft_wpmi")
    captions = read_captions(tmp_path)
    assert list(captions) == ["accuracy", "confidence", "ranks", "risk_coverage", "units"]
    assert (tmp_path / "figures" / "captions.md").read_text().startswith("# Figures of resnet18 · soft_wpmi\n")
    widths = {}
    for name, caption in captions.items():
        assert caption.endswith(".")
        with Image.open(tmp_path / "figures" / f"{name}.png") as image:
            widths[name] = image.width
    assert {name: width for name, width in widths.items() if name != "units"} == {
        "accuracy": PAGE * DPI, "confidence": COLUMN * DPI, "ranks": COLUMN * DPI, "risk_coverage": COLUMN * DPI,
    }  # fmt: skip
    assert 0.95 * PAGE * DPI < widths["units"] <= PAGE * DPI


def test_units_have_the_label_of_every_method_right_or_wrong(outcome):
    (unit,) = [unit for unit in choose_units(outcome, 60) if unit.layer == "fc"][:1]
    theirs = outcome.baselines["netdissect"]["fc"]
    row = theirs.units.tolist().index(unit.unit)
    assert unit.others == (("netdissect", theirs.descriptions[row], is_label_right(theirs, row)),)
    unit = replace(unit, others=(("netdissect", "leaf", True), ("other", "red", False)))
    with_method = np.asarray(draw_grid(outcome.probe, [unit]))
    without = np.asarray(draw_grid(outcome.probe, [replace(unit, others=())]))
    assert with_method.shape[0] > without.shape[0]
    below = with_method[-70:].reshape(-1, 3).astype(int)
    for colour in ((0, 105, 78), (163, 60, 0)):  # of a right and of a wrong label
        assert (np.abs(below - colour).sum(axis=1) < 30).any()


def test_a_card_says_the_truth_where_the_label_is_another_before_what_may_be_cut(outcome):
    unit = replace(
        choose_units(outcome, 60)[-1], truth="greenhouse", certainty=0.49, certainty_name="p(right)", others=()
    )
    wrong, right = (
        [text.get_text() for text in draw_vector_grid(outcome.probe, [replace(unit, right=verdict)]).texts]
        for verdict in (False, True)
    )
    assert f"{unit.layer} {unit.unit} · truth: greenhouse · " in wrong[1]
    assert "truth" not in right[1]


def test_probabilities_are_drawn_against_the_share_right():
    stated, right = np.array([0.91, 0.95, 0.95, 0.31]), np.array([True, True, False, False])
    axes = reliability({"fc": (stated, right)}).axes[0]
    dots = [tuple(dot.get_offsets()[0]) for dot in axes.collections if len(dot.get_offsets())]
    assert [pytest.approx(dot) for dot in dots] == [(0.31, 0.0), (2.81 / 3, 2 / 3)]
    low, high = axes.get_lines()[2].get_ydata()
    assert (low, high) == pytest.approx((0.0943, 0.9916), abs=1e-3)  # Clopper-Pearson of 2 of 3


def test_agreement_of_two_methods_is_no_figure_and_of_three_is_one(outcome, tmp_path):
    theirs = outcome.baselines["netdissect"]
    three = replace(outcome, baselines={"netdissect": theirs, "other": theirs})
    assert "agreement.png" in {path.name for path in results.draw_figures(tmp_path, three, units=0)}


def test_agreement_compares_names_by_the_documented_rule(outcome):
    def named(*names):
        return Labels("fc", np.arange(3), tuple((name,) for name in names), np.zeros(3))

    pair = replace(
        outcome,
        labels={"fc": named("bakery-shop-s", "Red", "leaf")},
        baselines={"other": {"fc": named("bakery shop", "red-c", "stone")}},
    )
    texts = [text.get_text() for text in plot_agreement(pair, ["fc"]).axes[0].texts]
    assert texts == ["67", "67"]


@pytest.mark.parametrize(("size", "wanted"), [(64, 32), (16, 48), (500, 40)])
def test_a_thumbnail_is_a_square_of_the_wanted_size(size, wanted):
    from helpers.made_outcomes import Discs

    image = make_thumbnail(Discs(3, size), 2, wanted)
    assert (image.size, image.mode) == ((wanted, wanted), "RGB")
    corner, centre = Discs(3, size)[2].getpixel((0, 0)), Discs(3, size)[2].getpixel((size // 2, size // 2))
    assert image.getpixel((0, 0)) == corner
    assert image.getpixel((wanted // 2, wanted // 2)) == centre


def test_a_strip_holds_the_images_in_their_order():
    from helpers.made_outcomes import Discs

    pixels = make_strip(Discs(9), (4, 2), 20, gap=2)
    assert pixels.size == (42, 20)
    assert pixels.getpixel((0, 0)) == Discs(9)[4].getpixel((0, 0))
    assert pixels.getpixel((22, 0)) == Discs(9)[2].getpixel((0, 0))
    assert pixels.getpixel((20, 0)) == (255, 255, 255)


@pytest.mark.slow
def test_vector_figures_are_the_same_bytes_each_time_and_keep_their_words(outcome, tmp_path):
    first = {
        path.name: path.read_bytes()
        for path in results.draw_figures(tmp_path, outcome, units=2, title="resnet18 · soft_wpmi", vector=True)
    }
    again = results.draw_figures(tmp_path / "again", outcome, units=2, title="resnet18 · soft_wpmi", vector=True)
    assert first == {path.name: path.read_bytes() for path in again}
    assert {"accuracy.png", "accuracy.pdf", "accuracy.svg", "ranks.svg", "units.pdf", "units.png"} <= set(first)
    assert first["accuracy.pdf"].startswith(b"%PDF")
    assert first["units.pdf"].startswith(b"%PDF")
    assert "netdissect" in first["accuracy.svg"].decode()
    assert "netdissect: " in first["units.svg"].decode()


def test_a_figure_of_units_stays_of_a_size_that_opens(many_units, tmp_path):
    results.draw_figures(tmp_path, many_units, units=500, images=2, most=6)
    with Image.open(tmp_path / "figures" / "units.png") as image:
        assert image.height < 1000
