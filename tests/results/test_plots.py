from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cd_exp import results
from cd_exp.records import Labels
from cd_exp.results.image_strips import make_strip, make_thumbnail
from cd_exp.results.plots import plot_agreement, plot_ranks, plot_risk_coverage, reliability


def test_all_figures_are_drawn_of_a_run_with_a_baseline(outcome, tmp_path):
    paths = results.draw_figures(tmp_path, outcome, units=7, images=3)
    assert [path.name for path in paths] == [
        "accuracy.png", "ranks.png", "risk_coverage.png", "agreement.png", "units.png",
    ]  # fmt: skip
    for path in paths:
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
    assert [path.name for path in results.draw_figures(tmp_path, plain)] == ["units.png"]
    assert results.draw_figures(tmp_path, plain, units=0) == ()


def test_the_curve_of_ranks_starts_at_top_1():
    (line,) = plot_ranks({"fc": np.array([1.0, 1.0, 4.0, 40.0])}).axes[0].get_lines()
    places, share = line.get_data()
    assert dict(zip(places.tolist(), share.tolist(), strict=True)) == {1: 50, 4: 75, 40: 100}


def test_risk_is_drawn_against_coverage():
    stability, right = np.array([1.0, 0.5, 0.75, 0.25]), np.array([True, False, True, False])
    line, _ = plot_risk_coverage({"fc": (stability, right)}).axes[0].get_lines()
    coverage, risk = line.get_data()
    assert coverage.tolist() == [25, 50, 75, 100]
    assert risk.tolist() == pytest.approx([0, 0, 100 / 3, 50])


def test_probabilities_are_drawn_against_the_share_right():
    stated, right = np.array([0.91, 0.95, 0.95, 0.31]), np.array([True, True, False, False])
    axes = reliability({"fc": (stated, right)}).axes[0]
    dots = [tuple(dot.get_offsets()[0]) for dot in axes.collections if len(dot.get_offsets())]
    assert [pytest.approx(dot) for dot in dots] == [(0.31, 0.0), (2.81 / 3, 2 / 3)]
    low, high = axes.get_lines()[2].get_ydata()
    assert (low, high) == pytest.approx((0.0943, 0.9916), abs=1e-3)  # Clopper-Pearson of 2 of 3


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
    from made_outcomes import Discs

    image = make_thumbnail(Discs(3, size), 2, wanted)
    assert (image.size, image.mode) == ((wanted, wanted), "RGB")
    corner, centre = Discs(3, size)[2].getpixel((0, 0)), Discs(3, size)[2].getpixel((size // 2, size // 2))
    assert image.getpixel((0, 0)) == corner
    assert image.getpixel((wanted // 2, wanted // 2)) == centre


def test_a_strip_holds_the_images_in_their_order():
    from made_outcomes import Discs

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
    assert {"accuracy.png", "accuracy.pdf", "accuracy.svg", "ranks.svg", "agreement.pdf", "units.png"} <= set(first)
    assert "units.pdf" not in first
    assert first["accuracy.pdf"].startswith(b"%PDF")
    for name in ("accuracy", "ranks", "agreement"):
        assert "resnet18 · soft_wpmi" in first[f"{name}.svg"].decode()


def test_a_figure_of_units_stays_of_a_size_that_opens(many_units, tmp_path, monkeypatch):
    monkeypatch.setattr("cd_exp.results.plots.CARDS", 6)
    results.draw_figures(tmp_path, many_units, units=500, images=2)
    with Image.open(tmp_path / "figures" / "units.png") as image:
        assert image.height < 1000
