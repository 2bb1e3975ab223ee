"""The conformance kit: our functions and the published ones pass, wrong ones fail with the case named."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "similarity"))
sys.path.insert(0, str(Path(__file__).parent))
from make_corpus import expected_scores, write_corpus
from torch.testing import assert_close

from cd_exp import similarity
from cd_exp.records import ConceptActivations
from cd_exp.testing import SimilarityTests, check_case, read_corpus
from cd_exp.testing.similarities import FOLDER

OURS = {
    "cos": {},
    "cos_cubed": {},
    "rank_reorder": {"top_fraction": 0.5},
    "wpmi": {"top_k": 7},
    "soft_wpmi": {"top_k": 11},
    "mean_embedding": {"top_k": 5},
}


def published(name, match, neurons, **settings):
    """A formula of the paper, written out one pair at a time, as a function on tensors."""
    dense = match.images @ match.texts.T if isinstance(match, ConceptActivations) else match
    if name == "rank_reorder":
        settings = {"top_fraction": 0.5, "power": 3, "scale_power": 0.5} | settings
    scores = expected_scores(name, dense.numpy(), neurons.numpy(), settings)
    return torch.from_numpy(scores).float()


class PublishedTests(SimilarityTests):
    """The published code leaves what is not finite to its caller, and overflows only beyond 1e100."""

    refuses_nan = False

    @pytest.fixture
    def function(self):
        def score(match, neurons, **settings):
            return published(self.corpus, match, neurons, **OURS[self.corpus] | settings)

        return similarity.similarity_function(whole_layer="wpmi" in self.corpus)(score)


class TestPublishedCos(PublishedTests):
    corpus = "cos"


class TestPublishedCosCubed(PublishedTests):
    corpus = "cos_cubed"


class TestPublishedWpmi(PublishedTests):
    corpus = "wpmi"


class TestPublishedSoftWpmi(PublishedTests):
    corpus = "soft_wpmi"


class TestPublishedRankReorder(PublishedTests):
    corpus = "rank_reorder"


@pytest.mark.shared
@pytest.mark.parametrize("name", ["cos", "cos_cubed", "wpmi", "soft_wpmi"])
def test_the_references_give_what_the_published_code_gave(name):
    path = Path(__file__).parents[2] / "../shared/golden/similarity.npz"
    if not path.exists():
        pytest.skip("the golden values of ../shared are not here")
    with np.load(path) as golden:
        match = similarity.concept_activations(
            *(torch.from_numpy(golden[f"{t}_embeddings"]) for t in ("image", "text"))
        )
        neurons, expected = torch.from_numpy(golden["activations"]), torch.from_numpy(golden[name])
    assert_close(published(name, match, neurons), expected, rtol=1e-4, atol=2e-3 if "wpmi" in name else 1e-4)


def divided_cosines(match, neurons, *, top_k=100, scale=10.0, **_):
    """As found in the wild: the softmax of cosines divided by 10, and the mean of its probabilities."""
    probability = (scale * match / 10).softmax(dim=1)
    likelihood = torch.stack([probability[column.argsort(descending=True)[:top_k]].mean(dim=0) for column in neurons.T])
    return likelihood.log() - likelihood.log().logsumexp(dim=0) + np.log(len(likelihood))


def without_prior(match, neurons, **settings):
    return published("soft_wpmi", match, neurons, **settings | {"prior_weight": 0.0})


def strictly_above(match, neurons, *, top_k=100, first_membership=0.998, last_membership=0.97, **settings):
    """Only images above the K-th strongest activation, instead of all that reach it."""
    rows = []
    for column in neurons.T:
        kept = (column > column.topk(min(top_k, len(column))).values[-1]).nonzero().flatten()
        kept = kept[column[kept].argsort(descending=True)]
        member = first_membership - torch.arange(len(kept))[:, None] / top_k * (first_membership - last_membership)
        probability = (settings["scale"] * match[kept]).softmax(dim=1)
        rows.append((1 + member * (probability - 1) + settings["min_probability"]).log().sum(dim=0))
    likelihood = torch.stack(rows)
    return likelihood - settings["prior_weight"] * (likelihood.logsumexp(dim=0) - np.log(len(likelihood)))


@pytest.mark.parametrize(
    ("wrong", "fails"),
    [
        (divided_cosines, {"cosines", "copies", "few_images", "negative"}),
        (without_prior, {"cosines", "copies", "dead", "few_images", "negative", "one_unit"}),
        (strictly_above, {"cosines", "copies", "dead", "few_images", "negative"}),
    ],
)
def test_a_wrong_variant_fails_with_the_case_named(wrong, fails):
    failed = {}
    for case in read_corpus("soft_wpmi"):
        try:
            check_case(wrong, case)
        except AssertionError as error:
            failed[case.name] = str(error)
    assert set(failed) == fails
    for name, message in failed.items():
        assert f"corpus case soft_wpmi/{name} (" in message
        assert "the first of unit 0 and concept" in message or name == "dead"


def test_the_corpus_is_what_the_references_give(tmp_path):
    write_corpus(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in FOLDER.iterdir()}
    for path in tmp_path.iterdir():
        stored = (FOLDER / path.name).read_text()
        if path.suffix == ".csv":
            read = (np.loadtxt(text.splitlines(), delimiter=",", ndmin=2) for text in (path.read_text(), stored))
            np.testing.assert_allclose(*read, rtol=1e-7, atol=1e-9)
        else:
            assert path.read_text() == stored
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 200_000


class WrongTests(SimilarityTests):
    """Not collected: run below."""

    corpus = "soft_wpmi"
    __test__ = False


@pytest.mark.parametrize("wrong", [divided_cosines, without_prior, strictly_above])
def test_the_class_names_every_case_that_fails(wrong):
    with pytest.raises(AssertionError, match=r"(?s)case soft_wpmi/cosines .*case soft_wpmi/copies .*soft_wpmi/few_im"):
        WrongTests().test_corpus(wrong)


@pytest.mark.parametrize("case", read_corpus(), ids=lambda case: f"{case.function}-{case.name}")
def test_our_functions_give_the_corpus(case):
    check_case(getattr(similarity, case.function), case)
