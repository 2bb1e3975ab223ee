"""Collision against counts by hand, and the published figures."""

import csv
from collections import Counter
from math import log2
from pathlib import Path

import numpy as np
import pytest

from cd_exp.metrics import metrics
from cd_exp.metrics.metrics import BY_KEY, metric_values
from cd_exp.records import UnitResults

PUBLISHED = Path(__file__).parents[3] / "shared" / "reference" / "linear_explanations"


@pytest.mark.parametrize(
    "labels", [["red"], ["red", "red"], ["sea", "red", "a dog"], ["sea", "red", "sea", "red", "a dog", "blue", "sea"]]
)
def test_collision_is_counted_as_by_hand(labels):
    names, counts = np.array(labels), Counter(labels)
    assert metrics.distinct_labels(names) == len(counts) / len(labels)
    assert metrics.shared_label(names) == pytest.approx(np.mean([counts[label] > 1 for label in labels]))
    bits = -sum(count / len(labels) * log2(count / len(labels)) for count in counts.values())
    assert metrics.label_bits(names) == pytest.approx(bits, abs=1e-12)
    most = max(counts.values())
    assert metrics.commonest_label(names) == min(label for label, count in counts.items() if count == most)
    assert metrics.commonest_share(names) == pytest.approx(most / len(labels))


def test_units_without_a_label_are_left_out():
    judgement = UnitResults(labelled=np.arange(4), names=np.array(["red", "", "red", ""]))
    for key in ("distinct_labels", "shared_label", "label_bits", "commonest_label", "commonest_share"):
        (names,) = metric_values(BY_KEY[key], judgement)
        assert names.tolist() == ["red", "red"]


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published tables are not there")
@pytest.mark.parametrize(("folder", "expected"), [("CLIP_Dissect", 0.793), ("NetDissect", 0.977), ("MILAN", 0.898)])
def test_the_published_labels_of_a_layer_collide(folder, expected):
    with (PUBLISHED / "baselines" / folder / "resnet50_imagenet_layer4.csv").open(newline="") as file:
        names = np.array([row["description"] for row in csv.DictReader(file)])
    assert metrics.shared_label(names) == pytest.approx(expected, abs=6e-4)
