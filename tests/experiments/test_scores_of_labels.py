"""The experiments on planted units and on what scores are worth, on few images; their arithmetic on small cases."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from cd_exp.errors import InputError
from cd_exp.records import Labels
from cd_exp.shapes import ATTRIBUTES
from experiments.meta_evaluation import analysis as meta_evaluation
from experiments.meta_evaluation import renderer
from experiments.planted import analysis as planted
from experiments.planted_labellers import analysis as planted_labellers
from experiments.published_scores import analysis as published_scores


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Paths in a manifest are seen from where the run was started."""
    monkeypatch.chdir(__file__.rpartition("/tests/")[0])


def attributes(images=400):
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(images, len(ATTRIBUTES), generator=generator) < 0.2).float()


def test_planted_units_are_what_they_are_called():
    shown = attributes()
    units = planted.planted(shown, seed=0)
    assert {name: values.shape[1] for name, values in units.items()} == {
        **dict.fromkeys(planted.FAMILIES, 28),
        "double": 378,
    }
    assert torch.equal(units["exact"], shown)
    assert torch.equal(units["shifted"] - 5, shown)
    assert torch.equal(units["negated"], 1 - shown)
    noise = units["noisy"] - shown
    assert noise.std().item() == pytest.approx(0.5, abs=0.01)
    first, second = planted.PAIRS[100]
    pair = units["noisy"][:, [first, second]]
    scored = (pair - pair.mean(0)) / pair.std(0)
    torch.testing.assert_close(units["double"][:, 100], scored.amax(dim=1))


def test_both_words_of_a_double_unit():
    top = [("octagon",)] * len(planted.PAIRS)
    top[0] = ("red", "octagon", "orange", "sea", "sky")  # the pair of red and orange
    top[1] = ("red OR yellow",)  # and of red and yellow
    top[2] = ("octagon", "green")
    labels = Labels("double", np.arange(len(top)), tuple(top), np.zeros(len(top)))
    scores = planted.both(labels)
    assert scores["both among five"].nonzero()[0].tolist() == [0, 1]
    assert scores["one among five"].nonzero()[0].tolist() == [0, 1, 2]
    assert scores["first label"].nonzero()[0].tolist() == [0, 1]


@pytest.mark.long
def test_planted_units_on_shapes(small):
    text = planted.main([str(small)])
    first, last = (part.splitlines() for part in (text.split("\n\n")[1], text.split("\n\n")[5]))
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in (*first, *last)}
    assert lines["invert, 1 atom"].split(" | ")[1].startswith("100.0")  # exact units, 28 of 28
    assert lines["invert, 1 atom"].split(" | ")[4].startswith("100.0")  # and negated ones
    assert "28 of 28" in lines["f1"].split(" | ")[1]
    with pytest.raises(InputError, match=r"holds no metrics"):
        planted.main([str(small / "nowhere")])


def scored(right, values):
    """One function, then the true label and one random one."""
    right = np.array(right)
    return meta_evaluation.Scored(("a", "b", "c"), right, {"f1": np.array(values, dtype=float)})


def test_the_three_questions_on_a_case_to_see_through():
    case = scored(
        [[True, False, False, True, False], [False, False, True, True, False]],
        [[0.9, 0.5, 0.9, 0.9, 0.1], [0.4, 0.8, 0.7, 0.7, np.nan]],
    )
    # unit 0: above .5 and .1, equal to .9; unit 1: above .4, below .8; nothing is known of the random one
    assert meta_evaluation.right_above_wrong(case, "f1") == pytest.approx(((2.5 / 3) + (1 / 2)) / 2)
    # right .9 and .7; wrong .5, .9, .4, .8
    assert meta_evaluation.told_apart(case, "f1") == pytest.approx((3.5 + 2) / 8)
    # mean scores .65, .65, .8; right 50 %, 0 %, 50 %
    ranks = np.corrcoef([1.5, 1.5, 3], [2.5, 1, 2.5])[0, 1]
    assert meta_evaluation.order_of_methods(case, "f1") == pytest.approx(ranks)
    low, high = meta_evaluation.interval(case, "f1", meta_evaluation.right_above_wrong, seed=0)
    assert low == pytest.approx(0.5)
    assert high == pytest.approx(2.5 / 3)


@pytest.mark.slow
@pytest.mark.parametrize(("judge", "layers", "units"), [
    ("annotations", ["layer4", "fc"], 128), ("clip", ["fc"], 100), ("whitened", ["fc"], 100),
])  # fmt: skip
def test_meta_evaluation_on_shapes(small, judge, layers, units):
    text = meta_evaluation.main([str(small), "--judge", judge, "--layers", *layers], resamples=20)
    assert f"{units} units of {', '.join(layers)}" in text
    answers = text.split("\n\n")[2]
    for line in answers.splitlines()[2:]:
        assert float(line.split(" | ")[1].split(" ")[0]) > 0.6


def test_a_layer_of_which_nothing_is_known(small):
    with pytest.raises(InputError, match="layer 'layer3' is not in this run"):
        meta_evaluation.main([str(small), "--judge", "annotations", "--layers", "layer3"])


@pytest.mark.slow
def test_the_renderer_tells_true_labels_from_others(small, monkeypatch):
    """Of the words that can be drawn, the attributes and classes alone: a quarter of the scenes."""
    words = {*renderer.ATTRIBUTES, *renderer.CLASSES}
    monkeypatch.setattr(
        renderer.ImagesJudge, "known", lambda judge, held, names: {name: name in words for name in names}
    )
    text = renderer.main([str(small), "--scenes", "8"])
    lines = dict(line.split(": ") for line in text.splitlines())
    assert float(lines["named units of layer4, least CoSy AUC of the true attribute"].split(" ")[0]) > 0.95
    assert 0.4 < float(lines["all units, mean CoSy AUC of random labels"].split(" ")[0]) < 0.6
    assert int(lines["units of fc whose true class is above every other class"].split(" of ")[0]) > 90


def test_planted_labellers_are_nested_and_right_as_often_as_they_say():
    labels = planted_labellers.nested(200, seed=3)
    right = [own == np.arange(200) for own in labels]
    assert [int(own.sum()) for own in right] == [round(20 * tenth) for tenth in range(11)]
    assert all((more | ~less).all() for less, more in pairwise(right))
    random = np.random.default_rng(0)
    assert abs((planted_labellers.drawn(20000, 0.3, random) == np.arange(20000)).mean() - 0.3) < 0.02


def test_a_judge_that_knows_tells_planted_labellers_apart_and_one_that_does_not_says_so():
    random = np.random.default_rng(0)
    noise = random.normal(size=(60, 60))
    seeing = planted_labellers.Scored({"whitened": noise + 5 * np.eye(60)})
    blind = planted_labellers.Scored({"whitened": noise})
    assert np.mean(planted_labellers.ordered(seeing, "whitened")) > 0.9
    assert np.mean(planted_labellers.ordered(blind, "whitened")) < 0.1
    one, several = (
        planted_labellers.intervals_at_floor(seeing, "whitened", draws=60, shuffles=count) for count in (1, 8)
    )
    assert planted_labellers.holding_zero(one) > 0.85 * 60
    assert np.ptp(several, axis=1).mean() < 0.9 * np.ptp(one, axis=1).mean()  # sqrt((1 + 1/8) / 2) = .75
    apart, least = planted_labellers.told(seeing, "whitened", (0.9, 0.2), draws=10)
    assert all(apart)
    assert 0 < np.mean(least) < 3
    assert np.mean(planted_labellers.told(seeing, "whitened", (0.5, 0.5), draws=60)[0]) < 0.15


@pytest.mark.slow
def test_planted_labellers_on_shapes(small, tmp_path):
    text = planted_labellers.main([str(small), "--labels", str(tmp_path / "labels")], draws=10, tests=20)
    assert text.startswith("100 units of fc, judge=whitened:")
    assert "| whitened | 10 of 10 |" in text
    assert len(list((tmp_path / "labels").glob("*.csv"))) == 33
    with pytest.raises(InputError, match="layer layer4 has units whose true name is not known"):
        planted_labellers.main([str(small), "--layer", "layer4"])


def test_published_scores_say_what_is_beyond_chance(tmp_path):
    random = np.random.default_rng(0)
    for method, mean in (("A", 0.3), ("B", 0.3), ("C", 0.6)):
        folder = tmp_path / "baselines" / method
        folder.mkdir(parents=True)
        lines = [f"{unit},dog,{value:.4f}\n" for unit, value in enumerate(random.normal(mean, 0.1, 50))]
        (folder / "net_fc.csv").write_text("unit,description,sim correlation\n" + "".join(lines))
    text = published_scores.main([str(tmp_path)])
    assert "| C | 0.6" in text
    assert "| 0.020 | 1.000 | 0.00 | dog (1.000) |" in text
    assert "C is above A" in text
    assert "cannot rank" in text
    with pytest.raises(InputError, match=r"holds no \*/METHOD/NETWORK_LAYER\.csv"):
        published_scores.main([str(tmp_path / "baselines")])
