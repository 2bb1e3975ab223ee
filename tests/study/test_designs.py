"""What is drawn: units from all tenths of stability, images as the formulas say, trials whose answer is certain."""

from dataclasses import replace

import numpy as np
import pytest

from cd_exp.errors import InputError
from cd_exp.records import CLIP_DISSECT, Labels
from cd_exp.study import designs
from cd_exp.study.designs import NONE, Source, Unit

UNITS, IMAGES = 40, 400
WORDS = ("red", "blue", "cat", "dog", "stripe")


def labels_of(shift, layer="fc"):
    texts = tuple((WORDS[(unit + shift) % len(WORDS)],) for unit in range(UNITS))
    return Labels(layer, np.arange(UNITS), texts, np.zeros(UNITS), stability=np.linspace(0, 1, UNITS))


@pytest.fixture(scope="module")
def source():
    rng = np.random.default_rng(0)
    shown = {word: rng.random(IMAGES) < 0.2 for word in WORDS}
    match = {word: 0.2 + 0.1 * shown[word] + 0.01 * rng.normal(size=IMAGES) for word in WORDS}
    activations = rng.random((IMAGES, UNITS))
    order = np.argsort(-activations, axis=0).T
    return Source(
        methods={CLIP_DISSECT: {"fc": labels_of(0)}, "other": {"fc": labels_of(1)}, "same": {"fc": labels_of(0)}},
        strongest=lambda layer, count: order[:, :count],
        activations=lambda layer: activations,
        match=match.__getitem__,
        annotated=lambda text, rows: shown[text][list(rows)],
        images=IMAGES,
    )


def drawn(source, design, per_unit=1, images=6, units=10):
    rng = np.random.default_rng(1)
    chosen = designs.draw_units(source, units, rng=rng)
    return designs.draw_tasks(design, source, chosen, per_unit=per_unit, images=images, rng=rng)


def test_units_come_from_every_tenth_of_stability(source):
    units = designs.draw_units(source, 20, rng=np.random.default_rng(0))
    assert len(units) == len({unit.unit for unit in units}) == 20
    tenths = [unit.unit * 10 // UNITS for unit in units]
    assert [tenths.count(tenth) for tenth in range(10)] == [2] * 10
    assert {unit.probability for unit in units} == {0.5}


def test_units_are_drawn_evenly_from_layers(source):
    two = replace(source, methods={CLIP_DISSECT: {"fc": labels_of(0), "layer4": labels_of(0, "layer4")}})
    units = designs.draw_units(two, 30, rng=np.random.default_rng(0))
    assert [sum(unit.layer == layer for unit in units) for layer in ("fc", "layer4")] == [15, 15]
    assert len(designs.draw_units(two, 1000, rng=np.random.default_rng(0))) == 2 * UNITS


def test_dead_and_unlabelled_units_are_not_asked_about(source):
    labels = labels_of(0)
    labels = replace(labels, marks=tuple(frozenset(["dead"] if unit < 20 else []) for unit in range(UNITS)))
    short = Labels("fc", np.arange(30), labels_of(1).top[:30], np.zeros(30))
    units = designs.draw_units(
        replace(source, methods={CLIP_DISSECT: {"fc": labels}, "b": {"fc": short}}), 99, rng=np.random.default_rng(0)
    )
    assert sorted(unit.unit for unit in units) == list(range(20, 30))


def test_units_of_ones_own_are_taken_whole(source):
    rng = np.random.default_rng(0)
    assert designs.draw_units(source, 1, rng=rng, among=[("fc", 7), ("fc", 3), ("fc", 7)]) == [
        Unit("fc", 7),
        Unit("fc", 3),
    ]
    with pytest.raises(InputError, match="unit 40 of 'fc' is dead, not labelled by every method, or not in the run"):
        designs.draw_units(source, 1, rng=rng, among=[("fc", 40)])


def test_a_rating_is_asked_once_for_methods_that_agree(source):
    tasks = drawn(source, "rating", per_unit=2)
    assert len(tasks) == 10 * 2 * 2
    assert {tuple(task.key["methods"]) for task in tasks} == {(CLIP_DISSECT, "same"), ("other",)}
    first, second = (
        task for task in tasks if task.key["methods"] == ["other"] and task.key["unit"] == tasks[0].key["unit"]
    )
    strongest = source.strongest("fc", 12)[tasks[0].key["unit"]].tolist()
    assert (list(first.images), list(second.images)) == (strongest[::2], strongest[1::2])


def test_choices_have_three_options_in_a_drawn_order(source):
    tasks = drawn(source, "choice", units=40)
    assert all(len(set(task.texts)) == 3 for task in tasks)
    assert all(sorted(map(len, task.key["options"])) == [0, 1, 2] for task in tasks)
    positions = [task.key["options"].index([CLIP_DISSECT, "same"]) for task in tasks]
    assert {positions.count(position) > 5 for position in range(3)} == {True}


def test_presence_images_are_drawn_by_the_product_of_activation_and_match(source):
    tasks = drawn(source, "presence", per_unit=50)
    by_pair = {}
    for task in tasks:
        by_pair.setdefault((task.key["unit"], task.texts[0]), []).append(task)
    assert len(by_pair) == 20
    (unit, text), own = next(iter(by_pair.items()))
    assert sum(task.key["count"] for task in own) == 50
    a, p = source.activations("fc")[:, unit], source.match(text)
    product = np.abs((a - a.mean()) / a.std() * (p - p.mean()) / p.std())
    wanted = 0.8 * product / product.sum() + 0.2 / IMAGES
    assert [task.key["probability"] for task in own] == pytest.approx([wanted[task.images[0]] for task in own])
    assert designs.drawing_probability(np.zeros(4), np.zeros(4)).tolist() == [0.25] * 4


def test_intruders_come_from_the_weakest_tenth(source):
    tasks = drawn(source, "intruder", per_unit=3)
    ranks = np.argsort(np.argsort(-source.activations("fc"), axis=0), axis=0)
    for task in tasks:
        tenth = ranks[list(task.images), task.key["unit"]] * 10 // IMAGES
        others = np.delete(tenth, task.key["intruder"])
        assert tenth[task.key["intruder"]] == 9
        assert set(others.tolist()) == {task.key["tenth"] - 1}
    assert {task.key["tenth"] for task in tasks} == set(range(1, 10))


@pytest.mark.parametrize("design", designs.DESIGNS)
@pytest.mark.parametrize("annotated", [True, False])
def test_known_answers_are_right(source, design, annotated):
    study_source = source if annotated else replace(source, annotated=None)
    rng = np.random.default_rng(2)
    cases, gold = designs.clear_cases(study_source, WORDS, 5, rng)
    assert gold == ("annotations" if annotated else "clip")
    trials = designs.draw_known(design, cases, 30, kind="catch", images=5, rng=rng)
    assert len({trial.id for trial in trials}) == 30
    for trial in trials:
        shares = [source.annotated(text, trial.images).mean() for text in trial.texts]
        accept = trial.key["accept"]
        if design == "rating":
            assert accept == ([4, 5] if shares == [1] else [1, 2])
            assert shares[0] == 1 or shares[0] <= 0.4
        elif design == "presence":
            assert accept == ["yes" if shares == [1] else "no"]
        elif design == "choice":
            assert accept == ([shares.index(1)] if 1 in shares else [NONE])
    answers = [str(trial.key["accept"]) for trial in trials]
    assert max(map(answers.count, answers)) <= 15  # nobody gets through with one and the same answer


def test_known_answers_need_two_descriptions(source):
    cases, _ = designs.clear_cases(source, WORDS[:1], 5, np.random.default_rng(0))
    with pytest.raises(InputError, match="need two different descriptions"):
        designs.draw_known("rating", cases, 10, kind="catch", images=5, rng=np.random.default_rng(0))


def test_batches_hold_every_task_once_and_catch_trials_among_them(source):
    tasks = drawn(source, "rating")
    cases, _ = designs.clear_cases(source, WORDS, 6, np.random.default_rng(0))
    catch = designs.draw_known("rating", cases, 30, kind="catch", images=6, rng=np.random.default_rng(0))
    batches = designs.deal(tasks, catch, batch=6, rng=np.random.default_rng(0))
    catch_ids = {trial.id for trial in catch}
    assert sorted(i for batch in batches for i in batch if i not in catch_ids) == sorted(task.id for task in tasks)
    assert [len(catch_ids & set(batch)) for batch in batches] == [10] * 4
    assert not catch_ids & set(batches[0]) & set(batches[1])
