"""The corpus: inputs and outputs of the similarity functions in plain files, for programs in any language.

`data/corpus.json` lists the cases; `data/README.md` says how they were made. What this module does not know: functions.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

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
