"""Scoring of activations from files (`units=matrix`) beside the product of images and texts that it cannot do without.

Random numbers, as in `similarity`. `together` scores all layers as one set, `one by one` each by itself. Wall seconds
are those that a run reports as `seconds.similarity`; CPU seconds are of the same steps, all threads. The product is
taken in turn with them, so that what else the machine does falls on both.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from benchmarks.similarity import DIM, inputs
from cd_exp import similarity
from cd_exp.cache import Store
from cd_exp.clips import Precomputed
from cd_exp.dissection import RunData, RunInputs, dissect_layers
from cd_exp.features import ExtractionSettings
from cd_exp.models import CustomModel
from cd_exp.probes.ids import Ids
from cd_exp.records import Concepts
from cd_exp.units import ActivationMatrix


@dataclass(frozen=True)
class Work:
    """Layers of so many units each."""

    name: str
    layers: tuple[int, ...]
    images: int
    concepts: int
    at_most: float | None = None  # times the product alone, for soft_wpmi


WORK = (
    Work("five layers", (64, 256, 512, 1_024, 2_048), 20_000, 20_000, 3.5),
    Work("one layer", (2_048,), 20_000, 20_000, 3.0),
    Work("ViT-B/16", (3_072,) * 12, 10_000, 10_000),
)
FUNCTIONS = ("soft_wpmi", "wpmi", "cos", "cos_cubed")
ROWS = 2_048
"""Images of the product at a time, so that it needs no more memory than the functions do."""


def run(quick: bool = False, only: Sequence[str] = (), runs: int = 5) -> dict[str, Any]:
    """Measure, print a line as soon as it is known, and return what belongs into the record."""
    results: dict[str, Any] = {"quick": quick, "dim": DIM}
    for work in WORK:
        if not only or work.name in only:
            smaller = _smaller(work, 8 if quick else 1)
            functions = FUNCTIONS[:1] if work.name == "ViT-B/16" else FUNCTIONS
            results[work.name] = [_measured(smaller, name, runs) for name in functions]
    if not only or "sparse" in only:
        results["sparse"] = sparse_and_dense()
    return results


def _smaller(work: Work, shrink: int) -> Work:
    layers = tuple(units // shrink for units in work.layers)
    return Work(work.name, layers, work.images // shrink, work.concepts // shrink, work.at_most)


class Clocked(Precomputed):
    """Texts are the last of what a run calls features: the clock of CPU seconds starts there."""

    started = 0.0

    def embed(self, concepts: Concepts, *, device: torch.device) -> Tensor:
        embeddings = super().embed(concepts, device=device)
        vars(self)["started"] = time.process_time()
        return embeddings


def _measured(work: Work, name: str, runs: int) -> dict[str, Any]:
    function = getattr(similarity, name)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        world(folder, work.layers, images=work.images, concepts=work.concepts)
        images, texts = (_rows(folder / f"{kind}.npy") for kind in ("image_embeddings", "words_text"))
        columns: dict[str, list[float]] = {}
        for _ in range(runs):
            taken = {"product": _timed(partial(_product, images, texts)), "together": scored(folder, function)}
            if name == "soft_wpmi" and len(work.layers) > 1:
                taken["one by one"] = _one_by_one(folder, function)
            for kind, pair in taken.items():
                for clock, seconds in zip(("wall", "cpu"), pair, strict=True):
                    columns.setdefault(f"{kind}, {clock}", []).append(seconds)
    medians = {kind: median(seconds) for kind, seconds in columns.items()}
    ratios = {clock: medians[f"together, {clock}"] / medians[f"product, {clock}"] for clock in ("wall", "cpu")}
    wanted = f" (at most {work.at_most:g})" if work.at_most and name == "soft_wpmi" else ""
    print(
        f"{work.name:>11} {name:>10}   " + "   ".join(f"{kind} {value:.2f} s" for kind, value in medians.items())
        + f"   together / product: wall {ratios['wall']:.2f}, CPU {ratios['cpu']:.2f}{wanted}, medians of {runs}",
        flush=True,
    )  # fmt: skip
    return {"function": name, **medians, **{f"ratio, {clock}": value for clock, value in ratios.items()}}


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def _product(images: Tensor, texts: Tensor) -> None:
    out = torch.empty(min(ROWS, len(images)), len(texts))
    for part in images.split(ROWS):
        torch.mm(part, texts.T, out=out[: len(part)])


def scored(folder: Path, function: Callable[..., Tensor], *, path: str = "acts") -> tuple[float, float]:
    """Wall and CPU seconds of the scoring of a folder of activations."""
    clip = Clocked(str(folder))
    seconds = labelled(folder, function, clip, path=path).seconds["similarity"]
    return seconds, time.process_time() - clip.started


def _one_by_one(folder: Path, function: Callable[..., Tensor]) -> tuple[float, float]:
    taken = [scored(folder, function, path=f"acts/{file.name}") for file in sorted((folder / "acts").glob("*.np?"))]
    wall, cpu = zip(*taken, strict=True)
    return sum(wall), sum(cpu)


def labelled(folder: Path, function: Callable[..., Tensor], clip: Precomputed, *, path: str = "acts") -> RunData:
    """What a run with `units=matrix`, `probe=ids` and `clip=precomputed` does up to its labels."""
    ids = (folder / "images.txt").read_text().splitlines()
    words = Concepts(tuple((folder / "words_names.txt").read_text().splitlines()), name="words")
    unused = CustomModel(name="none", factory="none.py:none", layers=[])
    with tempfile.TemporaryDirectory() as cache:
        inputs = RunInputs(
            model=unused,
            units=ActivationMatrix(str(folder / path)),
            probe=Ids(name="ids", ids=ids),
            concepts=words,
            clip=clip,
            store=Store(cache),
            settings=ExtractionSettings(device="cpu", progress=False),
        )
        return dissect_layers(inputs, function, top=5, shown=5)


def world(folder: Path, layers: Sequence[int], *, images: int, concepts: int) -> None:
    """Embeddings of images and words, and the activations of each layer."""
    shown, texts, _ = inputs(images, concepts, 1)
    _written(folder, {"image_embeddings": shown, "words_text": texts})
    names = [str(number) for number in range(images)]
    (folder / "words_names.txt").write_text("\n".join(f"word {number}" for number in range(concepts)))
    (folder / "acts").mkdir(exist_ok=True)
    for parent in (folder, folder / "acts"):
        (parent / "images.txt").write_text("\n".join(names))
    for number, units in enumerate(layers):
        _written(folder / "acts", {f"layer{number:02d}": torch.randn(images, units).relu_()})


def _written(folder: Path, arrays: Mapping[str, Tensor]) -> None:
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values.numpy())


def _rows(path: Path) -> Tensor:
    return torch.from_numpy(np.load(path))


def sparse_and_dense() -> dict[str, bool]:
    """Whether CSR and dense files of the same numbers give the same labels and scores."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        world(folder, (64, 128), images=2_000, concepts=1_000)
        (folder / "sparse").mkdir()
        (folder / "sparse" / "images.txt").write_text((folder / "images.txt").read_text())
        for file in (folder / "acts").glob("*.npy"):
            sparse.save_npz(folder / "sparse" / f"{file.stem}.npz", sparse.csr_array(np.load(file)))
        one, other = (
            labelled(folder, similarity.soft_wpmi, Precomputed(str(folder)), path=path).labels
            for path in ("acts", "sparse")
        )
    same = all(
        one[layer].top == other[layer].top and bool((one[layer].similarity == other[layer].similarity).all())
        for layer in one
    )
    print(f"CSR and dense give the same labels and scores: {same}", flush=True)
    return {"same": same}
