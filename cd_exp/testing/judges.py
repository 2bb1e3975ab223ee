"""What holds for every labeller and every judge, on a small run that no network is run for."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from cd_exp import clips, models, probes
from cd_exp.cache import Store
from cd_exp.dissection import RunData
from cd_exp.evaluation.baselines import Method
from cd_exp.evaluation.baselines.method import MethodResult
from cd_exp.evaluation.judges import HeldOut, Judge, LabelsToScore, split_images
from cd_exp.features import ExtractionSettings, Features
from cd_exp.labels import label_layer
from cd_exp.models import TargetModel
from cd_exp.records import Concepts, Labels, Probe
from cd_exp.similarity import concept_activations, cos, score_blocks

Labeller = Method | Callable[[RunData], Mapping[str, Labels] | MethodResult]
LAYERS = ("layer4", "fc")
DEAD, ALWAYS_ON = 2, 4
"""Units of every layer of a small run: one is always 0, one always 3."""


def small_run(folder: Path, *, units: int = 7, images: int = 80, seed: int = 0) -> RunData:
    """A run of two layers on scenes with masks: each unit follows a concept of the scenes, with noise.

    Activations and embeddings are made up; the probe set, the concepts and the recipes are real. Unit 2 of a layer is
    dead and unit 4 constant, where there are so many.

    Args:
        folder: of the cache.
        units: of each layer.
        images: of the probe set.
        seed: of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    probe, names, shown, texts = _scenes(images)
    activations = {layer: _activations(shown, units, generator) for layer in LAYERS}
    embeddings = (shown + 0.5) @ texts + 0.05 * torch.randn(images, texts.shape[1], generator=generator)
    features = Features(activations, torch.nn.functional.normalize(embeddings), range(images), ())
    match = concept_activations(features.images, texts)
    labels = {layer: label_layer(score_blocks(cos, match, activations[layer]), names, layer=layer) for layer in LAYERS}
    return RunData(
        model=cast(TargetModel, models.shapes_model(layers=list(LAYERS), final="fc")),
        probe=probe,
        concepts=Concepts(names, name="small"),
        clip=clips.shapes_clip(),
        store=Store(folder),
        settings=ExtractionSettings(progress=False),
        seed=seed,
        features=features,
        texts=texts,
        labels=labels,
        seconds={},
    )


@cache
def _scenes(images: int) -> tuple[Probe, tuple[str, ...], Tensor, Tensor]:
    """A probe set, concepts that it shows neither always nor hardly ever, where it shows each, and their embeddings."""
    probe = probes.shapes(size=images)
    names = tuple(name for name in dict.fromkeys(probe.concepts) if _share(probe, name) > 0.1)[:12]
    shown = torch.tensor(np.stack([_read_presence(probe, name) for name in names], axis=1), dtype=torch.float32)
    texts = clips.shapes_clip().embed(Concepts(names), device=torch.device("cpu")).float()
    return probe, names, shown, torch.nn.functional.normalize(texts)


def _read_presence(probe: Probe, name: str) -> np.ndarray:
    shown = probe.shows(name, range(len(probe)))
    assert shown is not None
    return shown


def _share(probe: Probe, name: str) -> float:
    return float(min(_read_presence(probe, name).mean(), 1 - _read_presence(probe, name).mean()))


def _activations(shown: Tensor, units: int, generator: torch.Generator) -> Tensor:
    columns = torch.arange(units) % shown.shape[1]
    values = (2 * shown[:, columns] + 0.3 * torch.randn(len(shown), units, generator=generator)).clamp(min=0)
    values += 1e-3 * torch.rand(values.shape, generator=generator)  # no two alike but of the units below
    for unit, value in ((DEAD, 0.0), (ALWAYS_ON, 3.0)):
        values[:, unit : unit + 1] = value
    return values


def _with_units(run: RunData, order: Tensor) -> RunData:
    """The same run with the units of every layer in another order, or fewer of them."""
    activations = {layer: values[:, order] for layer, values in run.features.activations.items()}
    features = Features(activations, run.features.images, run.features.kept, ())
    return replace(run, features=features, labels={layer: _take(run.labels[layer], order) for layer in run.labels})


def _take(labels: Labels, order: Tensor) -> Labels:
    chosen = order.tolist()
    return Labels(
        labels.layer,
        np.arange(len(chosen)),
        top=tuple(labels.top[unit] for unit in chosen),
        similarity=labels.similarity[chosen],
        truth=tuple(labels.truth[unit] for unit in chosen) if labels.truth else (),
    )


def _with_images(run: RunData, order: Tensor) -> RunData:
    """The same run with the rows of its features in another order."""
    activations = {layer: values[order] for layer, values in run.features.activations.items()}
    kept = [run.features.kept[row] for row in order.tolist()]
    return replace(run, features=Features(activations, run.features.images[order], kept, ()))


def _with_concepts(run: RunData, order: Tensor) -> RunData:
    names = tuple(run.concepts.names[column] for column in order.tolist())
    return replace(run, concepts=replace(run.concepts, names=names), texts=run.texts[order])


def _shuffle(count: int, seed: int = 0) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


class LabellerTests:
    """Tests of another method, `method(run) -> {layer: Labels}`; a subclass overrides `method`."""

    @pytest.fixture
    def method(self) -> Labeller:
        """The method under test."""
        raise NotImplementedError("override the fixture `method`")

    @pytest.fixture
    def run(self, tmp_path: Path) -> RunData:
        """What it labels."""
        return small_run(tmp_path)

    def test_every_unit_has_a_row(self, method: Labeller, run: RunData) -> None:
        """Of each layer that is labelled, all units in order; a dead unit may have an empty label."""
        if isinstance(method, Method):
            method.check(run.probe)
        labels = _labels_of(method, run)
        assert labels, "no layer is labelled"
        for layer, tops in labels.items():
            assert layer in run.labels
            assert len(tops) == run.features.units(layer)
            assert all(isinstance(name, str) and name.strip() for top in tops for name in top[:1])

    def test_the_same_run_gives_the_same_labels(self, method: Labeller, run: RunData) -> None:
        """What is drawn at random is drawn by the run's seed."""
        assert _labels_of(method, run) == _labels_of(method, run)

    def test_order_of_units_is_kept(self, method: Labeller, run: RunData) -> None:
        """Labels follow their units."""
        order = _shuffle(run.features.units(LAYERS[0]))
        before, after = _labels_of(method, run), _labels_of(method, _with_units(run, order))
        for layer, tops in before.items():
            alive = [(row, unit) for row, unit in enumerate(order.tolist()) if unit not in (DEAD, ALWAYS_ON)]
            assert [after[layer][row] for row, _ in alive] == [tops[unit] for _, unit in alive]

    def test_order_of_images_is_irrelevant(self, method: Labeller, run: RunData) -> None:
        """Nor does it decide a tie."""
        after = _labels_of(method, _with_images(run, _shuffle(len(run.features.kept))))
        assert _alive(after) == _alive(_labels_of(method, run))

    def test_order_of_concepts_is_irrelevant(self, method: Labeller, run: RunData) -> None:
        """The first word of the list is no better than another."""
        after = _labels_of(method, _with_concepts(run, _shuffle(len(run.texts))))
        assert [top[:1] for tops in _alive(after).values() for top in tops] == [
            top[:1] for tops in _alive(_labels_of(method, run)).values() for top in tops
        ]

    def test_one_unit_is_a_layer(self, method: Labeller, run: RunData) -> None:
        """Statistics over the units of a layer have one value then."""
        labels = _labels_of(method, _with_units(run, torch.tensor([0])))
        assert all(len(tops) == 1 for tops in labels.values())

    def test_the_run_is_left_as_it_was(self, method: Labeller, run: RunData) -> None:
        """Others read it too."""
        before = [values.clone() for values in (*run.features.activations.values(), run.features.images, run.texts)]
        method(run)
        now = (*run.features.activations.values(), run.features.images, run.texts)
        assert all(torch.equal(values, then) for values, then in zip(now, before, strict=True))


def _labels_of(method: Labeller, run: RunData) -> dict[str, list[tuple[str, ...]]]:
    """The names of every unit of each layer; none for a unit that the method leaves out."""
    made: dict[str, list[tuple[str, ...]]] = {}
    result = method(run)
    for layer, labels in (result.labels if isinstance(result, MethodResult) else result).items():
        made[layer] = [()] * run.features.units(layer)
        for unit, top in zip(labels.units.tolist(), labels.top, strict=True):
            made[layer][unit] = top
    return made


def _alive(labels: Mapping[str, list[tuple[str, ...]]]) -> dict[str, list[tuple[str, ...]]]:
    return {
        layer: [top for unit, top in enumerate(tops) if unit not in (DEAD, ALWAYS_ON)] for layer, tops in labels.items()
    }


class JudgeTests:
    """Tests of a judge, `judge(held, asked) -> scores`; a subclass overrides `judge`.

    Attributes:
        close: tolerances of what must be equal but for rounding.
    """

    close: ClassVar[dict[str, Any]] = {"rtol": 1e-4, "atol": 1e-5}

    @pytest.fixture
    def judge(self) -> Judge:
        """The judge under test."""
        raise NotImplementedError("override the fixture `judge`")

    @pytest.fixture
    def held(self, tmp_path: Path) -> HeldOut:
        """The run, and which of its images labels are scored on."""
        return _held_out(small_run(tmp_path))

    @pytest.fixture
    def asked(self, held: HeldOut) -> LabelsToScore:
        """The labels of one layer."""
        return _ask(held, LAYERS[0])

    def test_every_label_has_a_score(self, judge: Judge, held: HeldOut, asked: LabelsToScore) -> None:
        """By metric one number per unit; none infinite, and some known."""
        judge.check(held.probe)
        (scores,) = judge(held, [asked])
        assert scores, "no metric"
        for name, values in scores.items():
            assert np.shape(values) == np.shape(asked.units), name
            assert not np.isinf(values).any(), name
        assert any(np.isfinite(values).any() for values in scores.values())

    def test_what_it_knows_is_said_of_every_label(self, judge: Judge, held: HeldOut, asked: LabelsToScore) -> None:
        """True or False, also for a label of which nobody has heard."""
        answers = judge.known(held, [*asked.labels, "a label of no set"])
        assert set(answers) == {*asked.labels, "a label of no set"}
        assert {type(value) for value in answers.values()} <= {bool, np.bool_}

    def test_the_same_question_has_the_same_answer(self, judge: Judge, held: HeldOut, asked: LabelsToScore) -> None:
        """What is drawn at random is drawn by the run's seed."""
        self._compare(judge(held, [asked])[0], judge(held, [asked])[0])

    def test_order_of_units_is_kept(self, judge: Judge, held: HeldOut, asked: LabelsToScore) -> None:
        """Scores follow their units."""
        order = _shuffle(len(asked.units)).tolist()
        moved = LabelsToScore(asked.layer, asked.units[order], [asked.labels[row] for row in order])
        before = {name: np.asarray(values)[order] for name, values in judge(held, [asked])[0].items()}
        self._compare(judge(held, [moved])[0], before)

    def test_chunks_are_the_whole(self, judge: Judge, held: HeldOut, asked: LabelsToScore) -> None:
        """Units asked in two parts, or in another layer's company, score as together."""
        halves = [
            LabelsToScore(asked.layer, asked.units[part], asked.labels[part]) for part in (slice(0, 3), slice(3, None))
        ]
        first, second, _ = judge(held, [*halves, _ask(held, LAYERS[1])])
        whole = judge(held, [asked])[0]
        self._compare({name: np.concatenate([first[name], second[name]]) for name in whole}, whole)

    def test_order_of_images_is_irrelevant(self, judge: Judge, held: HeldOut, asked: LabelsToScore) -> None:
        """The images that are scored on, in any order."""
        order = _shuffle(len(held.features.kept))
        moved = replace(held, **_reorder_images(held, order))
        self._compare(judge(moved, [asked])[0], judge(held, [asked])[0])

    def test_dead_units_have_no_high_score(self, judge: Judge, held: HeldOut, asked: LabelsToScore) -> None:
        """A unit that never changes is predicted by nothing: no correlation above 0, or no score."""
        (scores,) = judge(held, [asked])
        for name in ("pearson", "whitened"):
            if name in scores:
                values = np.asarray(scores[name])[[DEAD, ALWAYS_ON]]
                assert not (values > 1e-6).any(), name

    def test_the_run_is_left_as_it_was(self, judge: Judge, held: HeldOut, asked: LabelsToScore) -> None:
        """Others read it too."""
        before = [values.clone() for values in (*held.features.activations.values(), held.features.images)]
        judge(held, [asked])
        now = (*held.features.activations.values(), held.features.images)
        assert all(torch.equal(values, then) for values, then in zip(now, before, strict=True))

    def _compare(self, scores: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
        assert set(scores) == set(expected)
        for name, values in scores.items():
            np.testing.assert_allclose(values, expected[name], **self.close, equal_nan=True, err_msg=name)


def _held_out(run: RunData) -> HeldOut:
    images = [f"{row:04d}" for row in run.features.kept]
    chosen_on, scored_on = split_images(images, seed=0, share=0.4)
    return HeldOut.of(run, chosen_on=chosen_on, scored_on=scored_on)


def _reorder_images(held: HeldOut, order: Tensor) -> dict[str, Any]:
    """The features of a run with its rows in another order, and where its two parts of the images are now."""
    rank = torch.argsort(order).numpy()
    activations = {layer: values[order] for layer, values in held.features.activations.items()}
    kept = [held.features.kept[row] for row in order.tolist()]
    features = Features(activations, held.features.images[order], kept, ())
    return {
        "features": features,
        "chosen_on": np.sort(rank[held.chosen_on]),
        "scored_on": np.sort(rank[held.scored_on]),
    }


def _ask(held: HeldOut, layer: str) -> LabelsToScore:
    labels = held.labels[layer]
    return LabelsToScore(layer, labels.units, list(labels.descriptions))
