"""Published tables of scores: read as they are, and laid beside ours."""

from pathlib import Path

import numpy as np
import pytest

from cd_exp.errors import InputError
from cd_exp.metrics import metrics
from cd_exp.referee import ScoreTable, lay_beside, read_score_table
from cd_exp.referee.published_scores import SCORE, spearman, winners_agree

PUBLISHED = Path(__file__).parents[3] / "shared" / "reference" / "linear_explanations"
LABELS = 'unit,description,sim correlation,sim ablation(norm)\n1,"polka, dotted",0.5,0.1\n0,dog,-0.25,0.2\n'
SUMS = (
    "layer,unit,val correlation,weight0,concept0,weight1,concept1,bias,sim correlation\n"
    'layer3,0,0.4,1.5,"gymnasium, indoor",0.25,cat,0.1,0.3\nlayer3,1,0.2,0.75,sea,0.0,0,0.1,0.2\n'
)


def table(tmp_path, text, name="MILAN/net_layer4.csv"):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_a_table_of_labels(tmp_path):
    score_table = read_score_table(table(tmp_path, LABELS))
    assert (score_table.method, score_table.network, score_table.layer) == ("MILAN", "net", "layer4")
    assert score_table.units.tolist() == [0, 1]
    assert score_table.labels == score_table.explanations == ("dog", "polka, dotted")
    assert score_table.score.tolist() == [-0.25, 0.5]
    assert set(score_table.scores) == {SCORE, "sim ablation(norm)"}


def test_a_table_of_weighted_sums(tmp_path):
    score_table = read_score_table(table(tmp_path, SUMS, "LE_label/net_layer4.csv"))
    assert score_table.layer == "layer3"  # as the table says
    assert score_table.labels == ("gymnasium, indoor", "sea")
    assert score_table.explanations == ("1.50 gymnasium, indoor + 0.25 cat", "0.75 sea")
    labels = score_table.as_labels()
    assert labels.judged_label == score_table.explanations
    assert labels.descriptions == score_table.labels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unit,label\n0,dog\n", r"has no column 'sim correlation' but unit,label"),
        ("unit,sim correlation\n0,0.1\n", r"has no column 'concept0'"),
        (LABELS + "1,cat,0.1,0.1\n", r"lists unit 1 twice"),
        (LABELS + "2,cat,high,0.1\n", r"unit 2: sim correlation 'high' is no finite number"),
        (LABELS + "2,cat,nan,0.1\n", r"unit 2: sim correlation 'nan' is no finite number"),
        (LABELS + "1.5,cat,0.1,0.1\n", r"lists unit '1.5'; expected whole numbers from 0"),
        (LABELS + "nan,cat,0.1,0.1\n", r"lists unit 'nan'; expected whole numbers from 0"),
        (LABELS + "-1,cat,0.1,0.1\n", r"lists unit '-1'; expected whole numbers from 0"),
        (LABELS.replace("description", "unit"), r"has two columns 'unit'"),
        ("layer,unit,description,sim correlation\na,0,dog,0.1\nb,1,cat,0.1\n", r"of several layers, 'a', 'b'; give a"),
        (LABELS + "2,cat\n", r"line 4: not the 4 columns"),
        ("unit,description,sim correlation\n", r"is empty"),
    ],
)
def test_what_is_no_table_of_scores(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_score_table(table(tmp_path, text))


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published tables are not there")
@pytest.mark.parametrize(
    ("name", "mean", "shared"),
    [
        ("baselines/CLIP_Dissect", 0.1871, 0.793),
        ("baselines/NetDissect", 0.1242, 0.977),
        ("baselines/MILAN", 0.0920, 0.898),
        ("ours/LE_label", 0.2924, 0.889),
        ("ours/LE_siglip", 0.3772, 0.750),
    ],
)
def test_the_published_means_and_collision_come_out_to_the_digit(name, mean, shared):
    score_table = read_score_table(PUBLISHED / name / "resnet50_imagenet_layer4.csv")
    assert len(score_table.units) == 2048
    assert round(float(score_table.score.mean()), 4) == mean
    assert abs(metrics.shared_label(np.array(score_table.labels)) - shared) <= 0.0005 + 1e-9


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published tables are not there")
def test_every_published_table_can_be_read():
    paths = sorted(PUBLISHED.glob("*/*/*.csv"))
    assert len(paths) == 40
    for path in paths:
        score_table = read_score_table(path)
        assert np.isfinite(score_table.score).all()
        assert score_table.units.tolist() == list(range(len(score_table.units)))


def made(method, score, units=None):
    units = np.arange(len(score)) if units is None else np.array(units)
    labels = tuple(f"{method} {unit}" for unit in units)
    return ScoreTable(method, "net", "fc", units, labels, labels, {SCORE: np.asarray(score, dtype=float)})


def test_winners_that_agree_are_counted_where_there_are_any():
    first, second = np.array([0.9, 0.1, 0.5, 0.7]), np.array([0.2, 0.3, 0.5, 0.1])
    ours = np.array([0.1, 0.1, 0.9, 0.5]), np.array([0.0, 0.2, 0.1, 0.5])
    assert winners_agree((first, second), ours).tolist() == [True, True]


def test_spearman_is_that_of_scipy():
    from scipy.stats import spearmanr

    random = np.random.default_rng(0)
    a = random.normal(size=60)
    b = a + random.normal(size=60)
    value, (low, high) = spearman(a, b, seed=0)
    assert value == pytest.approx(spearmanr(a, b).statistic)
    assert low < value < high


def test_a_judge_that_agrees_by_chance_cannot_rank():
    random = np.random.default_rng(1)
    tables = [made(name, random.random(200)) for name in "ab"]
    same = {one.method: one.score for one in tables}
    by_chance = {name: random.random(200) for name in "ab"}
    verdicts = {one.statistic: one.verdict for one in lay_beside(tables, same)}
    assert verdicts == {"spearman": "related", "winner": "ranks as published"}
    (winner,) = [one for one in lay_beside(tables, by_chance) if one.statistic == "winner"]
    assert winner.verdict == "cannot rank: agreement is not beyond chance"
    assert winner.interval[0] < 0.5 < winner.interval[1]


def test_labels_that_the_judge_does_not_know_are_counted():
    tables = [made("a", [0.1, 0.9, 0.4, 0.3]), made("b", [0.2, 0.5, 0.6, 0.1], units=[1, 2, 3, 7])]
    ours = {"a": np.array([np.nan, 0.5, 0.6, 0.7]), "b": np.array([0.1, 0.2, np.nan, 0.4])}
    comparison = lay_beside(tables, ours)
    assert [(one.statistic, one.first, one.units, one.known) for one in comparison] == [
        ("spearman", "a", 3, 0.75), ("winner", "a", 2, pytest.approx(2 / 3)), ("spearman", "b", 3, 0.75)
    ]  # fmt: skip
