"""Our judges, methods and probe sets pass the conformance kit."""

import numpy as np
import pytest
from PIL import Image

from cd_exp import probes
from cd_exp.evaluation.baselines import Invert, LinearExplanations
from cd_exp.evaluation.judges import AnnotationsJudge, Judge, WhitenedJudge
from cd_exp.records import Labels
from cd_exp.testing import JudgeTests, LabellerTests, ProbeTests


class TestAnnotationsJudge(JudgeTests):
    @pytest.fixture
    def judge(self):
        return AnnotationsJudge()


class TestWhitenedJudge(JudgeTests):
    @pytest.fixture
    def judge(self):
        return WhitenedJudge()


class TestInvert(LabellerTests):
    @pytest.fixture
    def method(self):
        return Invert(length=1)


class TestLinearExplanations(LabellerTests):
    @pytest.fixture
    def method(self):
        return LinearExplanations(length=2)


class TestShapes(ProbeTests):
    @pytest.fixture
    def probe(self):
        return probes.shapes(size=6)


class TestFolder(ProbeTests):
    @pytest.fixture
    def probe(self, tmp_path):
        for index, name in enumerate(("cat/a.png", "cat/b.png", "dog/c.jpg")):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            Image.new("RGB", (5 + index, 4), (40 * index, 3, 90)).save(tmp_path / name)
        return probes.folder(root=str(tmp_path))


class Ours(Judge):
    """Scores by the place of a unit among those asked: what a judge must not do."""

    def __call__(self, held, asked):
        return [{"auprc": np.arange(len(labels.units)) / 10} for labels in asked]

    def known(self, held, labels):
        return dict.fromkeys(labels, True)


def test_a_judge_that_scores_by_place_is_found(tmp_path):
    from cd_exp.testing.judges import _ask, _held_out, small_run

    held, tests = _held_out(small_run(tmp_path)), JudgeTests()
    asked = _ask(held, "fc")
    tests.test_every_label_has_a_score(Ours(), held, asked)
    for wrong in (tests.test_order_of_units_is_kept, tests.test_chunks_are_the_whole):
        with pytest.raises(AssertionError, match="auprc"):
            wrong(Ours(), held, asked)


def test_a_method_that_labels_by_place_is_found(tmp_path):
    from cd_exp.testing import small_run

    def method(run):
        names = run.concepts.names
        return {"fc": Labels("fc", np.arange(7), top=tuple((names[unit],) for unit in range(7)), similarity=np.ones(7))}

    run, tests = small_run(tmp_path), LabellerTests()
    tests.test_the_same_run_gives_the_same_labels(method, run)
    for wrong in (tests.test_order_of_units_is_kept, tests.test_order_of_concepts_is_irrelevant):
        with pytest.raises(AssertionError):
            wrong(method, run)
