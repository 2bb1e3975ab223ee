"""What holds for every similarity function, and the corpus: inputs and outputs in plain files, for any language.

`data/corpus.json` lists the cases; `data/README.md` says how they were made.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor
from torch.testing import assert_close

from cd_exp.records import ConceptActivations
from cd_exp.similarity import concept_activations, score_blocks

FOLDER = Path(__file__).parent / "data"


@dataclass(frozen=True, eq=False)
class CorpusCase:
    """One case: a function with settings, on inputs, and the scores that the formula gives.

    Attributes:
        function: the published name.
        name: of the inputs.
        says: what the case tells apart.
        settings: keyword arguments; what is not listed has its published value.
        match: cosines of images and concepts.
        activations: of the units.
        scores: expected.
        scaled: scores count up to a positive factor per unit, where the function draws at random.
        rtol: relative tolerance.
        atol: absolute tolerance.
    """

    function: str
    name: str
    says: str
    settings: Mapping[str, Any]
    match: Float[Tensor, "images concepts"]
    activations: Float[Tensor, "images neurons"]
    scores: Float[Tensor, "neurons concepts"]
    scaled: bool
    rtol: float
    atol: float


@cache
def read_corpus(function: str | None = None) -> Sequence[CorpusCase]:
    """The cases, of one function or of all.

    >>> [case.name for case in read_corpus("cos")]
    ['cosines', 'copies', 'dead', 'one_unit', 'few_images', 'negative']
    """
    listed = json.loads((FOLDER / "corpus.json").read_text(encoding="utf-8"))
    return tuple(
        CorpusCase(
            function=case["function"],
            name=case["inputs"],
            says=listed["inputs"][case["inputs"]],
            settings=case["settings"],
            match=_read(f"{case['inputs']}.match.csv"),
            activations=_read(f"{case['inputs']}.activations.csv"),
            scores=_read(f"{case['inputs']}.{case['function']}.csv").double(),
            scaled=case["scaled"],
            rtol=case["rtol"],
            atol=case["atol"],
        )
        for case in listed["cases"]
        if function in (None, case["function"])
    )


def _read(name: str) -> Tensor:
    return torch.from_numpy(np.loadtxt(FOLDER / name, delimiter=",", ndmin=2))


def check_case(function: Callable[..., Tensor], case: CorpusCase) -> None:
    """Compare a function with a case.

    Raises:
        AssertionError: names the case, what it tells apart, and the first score that differs.

    >>> from cd_exp.similarity import cos
    >>> check_case(cos, read_corpus("cos")[0])
    """
    scores = function(case.match.float(), case.activations.float(), **case.settings).double().cpu()
    expected = case.scores
    where = f"corpus case {case.function}/{case.name} ({case.says})"
    assert scores.shape == expected.shape, f"{where}: scores are {tuple(scores.shape)}, not {tuple(expected.shape)}"
    if case.scaled:
        scores, expected = (values / values.mean(dim=1, keepdim=True).abs() for values in (scores, expected))
    off = ~torch.isclose(scores, expected, rtol=case.rtol, atol=case.atol)
    if off.any():
        unit, concept = off.nonzero()[0].tolist()
        came, wanted = scores[unit, concept].item(), expected[unit, concept].item()
        raise AssertionError(
            f"{where}: {int(off.sum())} of {off.numel()} scores differ, the first of unit {unit} and concept "
            f"{concept}: {came:.6g}, expected {wanted:.6g}"
        )


Function = Callable[..., Float[Tensor, "neurons concepts"]]


def draw_world(
    images: int = 60, concepts: int = 17, units: int = 9, dim: int = 12, seed: int = 0
) -> tuple[ConceptActivations, Float[Tensor, "images units"]]:
    """A match with cosines around 0.4, and activations of which no two are equal.

    >>> match, neurons = draw_world(images=20, concepts=3, units=2)
    >>> tuple(match.images.shape), tuple(match.texts.shape), tuple(neurons.shape)
    ((20, 12), (3, 12), (20, 2))
    """
    generator = torch.Generator().manual_seed(seed)
    offset = 0.8  # added to both towers, as CLIP's embeddings lie in a cone
    embeddings = (torch.randn(count, dim, generator=generator) + offset for count in (images, concepts))
    return concept_activations(*embeddings), torch.randn(images, units, generator=generator)


class SimilarityTests:
    """Tests of one function `(match, neurons) -> scores [neurons, concepts]`; a subclass overrides `function`.

    Attributes:
        corpus: the published name whose cases the function has to give; None for a function with a formula of its own.
        close: tolerances of what must be equal but for rounding.
        refuses_nan: whether the function itself refuses activations that are not finite; a run of cd_exp does before.
        float32: whether scores are float32 whatever comes in.
    """

    corpus: ClassVar[str | None] = None
    close: ClassVar[dict[str, Any]] = {"rtol": 1e-4, "atol": 2e-4}
    refuses_nan: ClassVar[bool] = True
    float32: ClassVar[bool] = True

    @pytest.fixture
    def function(self) -> Function:
        """The function under test, its settings bound, small enough for 15 images."""
        raise NotImplementedError("override the fixture `function`")

    @pytest.fixture(params=range(4))
    def world(self, request: pytest.FixtureRequest) -> tuple[ConceptActivations, Tensor]:
        """Four worlds of other sizes; the last has as few images as a probe set of a test."""
        images, concepts, units = ((60, 17, 9), (40, 5, 3), (33, 2, 6), (15, 9, 2))[request.param]
        return draw_world(images, concepts, units, seed=request.param)

    def test_order_of_images_is_irrelevant(self, function: Function, world: Any) -> None:
        """Nor may it decide between two images that excite a unit alike."""
        match, neurons = world
        for seed in range(3):
            order = _shuffle(len(neurons), seed)
            moved = function(ConceptActivations(match.images[order], match.texts), neurons[order])
            assert_close(moved, function(match, neurons), **self.close, msg=_add_number("order of images", seed))

    def test_order_of_units_and_concepts_is_kept(self, function: Function, world: Any) -> None:
        """Row k of the scores is unit k and column t concept t."""
        match, neurons = world
        for seed in range(3):
            units, concepts = _shuffle(neurons.shape[1], seed), _shuffle(len(match.texts), seed)
            moved = function(ConceptActivations(match.images, match.texts[concepts]), neurons[:, units])
            expected = function(match, neurons)[units][:, concepts]
            assert_close(moved, expected, **self.close, msg=_add_number("order of units and concepts", seed))

    def test_factored_equals_dense(self, function: Function, world: Any) -> None:
        """The match as embeddings, and as a matrix of images x concepts."""
        match, neurons = world
        assert_close(function(match.images @ match.texts.T, neurons), function(match, neurons), **self.close)

    @pytest.mark.parametrize("units", [1, 2, 4])
    def test_chunks_of_units_are_the_whole(self, function: Function, world: Any, units: int) -> None:
        """A large layer is scored some units at a time."""
        match, neurons = world
        pieces = torch.cat([scores for _, scores in score_blocks(function, match, neurons, units=units)])
        assert_close(pieces, function(match, neurons), **self.close, msg=_add_number("chunks of units", units))

    def test_half_precision(self, function: Function, world: Any) -> None:
        """Features of a GPU come as float16; scores are float32 and finite."""
        match, neurons = world
        scores = function(ConceptActivations(match.images.half(), match.texts.half()), neurons.half())
        assert scores.dtype == torch.float32 or not self.float32
        assert scores.isfinite().all()

    def test_copies_of_images_tie(self, function: Function, world: Any) -> None:
        """Equal activations on equal images: any order of the copies gives the same scores."""
        match, neurons = world
        images, activations = match.images.repeat(2, 1), neurons.repeat(2, 1)
        order = torch.arange(2 * len(neurons)).reshape(2, -1).T.flatten()
        beside = function(ConceptActivations(images[order], match.texts), activations[order])
        assert_close(beside, function(ConceptActivations(images, match.texts), activations), **self.close)

    @pytest.mark.parametrize(
        "kind", ["one dead unit", "all dead", "constant unit", "one image", "one concept", "one unit", "negative match"]
    )
    def test_edge_cases_are_finite(self, function: Function, kind: str) -> None:
        """A score for every unit and concept, whatever the inputs have little of."""
        match, neurons = draw_world(images=1 if kind == "one image" else 30, concepts=1 if kind == "one concept" else 6)
        if kind in ("one dead unit", "all dead", "constant unit"):
            neurons[:, slice(None) if kind == "all dead" else slice(4, 5)] = 3.0 if kind == "constant unit" else 0.0
        if kind == "one unit":
            neurons = neurons[:, :1]
        if kind == "negative match":
            match = ConceptActivations(match.images, -match.texts)
        scores = function(match, neurons)
        assert scores.shape == (neurons.shape[1], len(match.texts)), kind
        assert scores.isfinite().all(), kind

    @pytest.mark.parametrize("size", [1e3, 1e6, 1e12])
    def test_large_activations_score_as_small_ones(self, function: Function, size: float) -> None:
        """A unit's scale says nothing; powers of large activations leave float32."""
        match, neurons = draw_world()
        assert_close(function(match, size * neurons), function(match, neurons), rtol=1e-3, atol=1e-4)

    def test_inputs_are_left_as_they_were(self, function: Function, world: Any) -> None:
        """Others read them too."""
        match, neurons = world
        dense = match.images @ match.texts.T
        before = [tensor.clone() for tensor in (match.images, match.texts, neurons, dense)]
        function(match, neurons)
        function(dense, neurons)
        for now, then in zip((match.images, match.texts, neurons, dense), before, strict=True):
            assert torch.equal(now, then)

    def test_what_is_not_finite_is_refused(self, function: Function) -> None:
        """NaN and infinity have no order: a label of such a unit would be chance. `refuses_nan=False` leaves it out."""
        if not self.refuses_nan:
            return
        match, neurons = draw_world()
        neurons[7, 5] = float("nan")
        with pytest.raises(ValueError, match="unit 5"):
            function(match, neurons)

    @pytest.fixture
    def corpus_function(self, function: Function) -> Function:
        """The function that takes the settings of the corpus by name; by default the same."""
        return function

    def test_corpus(self, corpus_function: Function) -> None:
        """The scores that the published formula gives; what fails is named, case by case."""
        failures = [failure for case in _cases(self.corpus) if (failure := _failure(corpus_function, case))]
        assert not failures, "\n".join(failures)


def _cases(function: str | None) -> Sequence[CorpusCase]:
    return read_corpus(function) if function else ()


def _failure(function: Function, case: CorpusCase) -> str:
    try:
        check_case(function, case)
    except AssertionError as error:
        return str(error)
    return ""


def _shuffle(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def _add_number(what: str, number: int) -> Callable[[str], str]:
    return lambda message: f"{what} (number {number}): {message}"
