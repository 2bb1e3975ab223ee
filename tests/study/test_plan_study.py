"""What a study would take and show, told beforehand."""

import json

import numpy as np
import pytest

from cd_exp.study import plan as planning
from cd_exp.study.__main__ import main
from cd_exp.study.designs import Trial, Unit, deal
from cd_exp.study.make import Plan, Study, draw, open_run, strongest_needed


@pytest.fixture(scope="module")
def opened(run, world):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CD_EXP_CACHE", str(world / "cache"))
        yield open_run(run, (), strongest=None)


def test_costs_count_people_answers_and_money(opened):
    study = draw(opened.source, Plan("rating", units=12, raters=4, batch=5))
    estimate = planning.costs(study, price=0.5)
    batches = -(-len(study.tasks) // 5)
    assert estimate["batches"] == batches
    assert estimate["submissions"] == 4 * batches
    assert estimate["cost"] == pytest.approx(0.5 * 4 * batches)
    assert estimate["answers"] == 4 * (len(study.tasks) + 10 * batches)
    assert estimate["minutes_per_batch"] == pytest.approx((90 + 12 * (len(study.tasks) / batches + 10)) / 60)


def test_simulated_answers_err_as_often_as_told():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 5000)
    answers = planning.simulate_answers(truth, np.full(5000, 4), raters=3, error=0.3, rng=rng)
    wrong = answers != truth[:, None]
    assert wrong.mean() == pytest.approx(0.3, abs=0.015)  # three standard errors
    assert answers.min() == 0
    assert answers.max() == 3
    moved = ((answers - truth[:, None]) % 4)[wrong]
    assert np.bincount(moved, minlength=4)[1:] / len(moved) == pytest.approx([1 / 3] * 3, abs=0.03)


@pytest.mark.parametrize("design", ["rating", "choice", "intruder"])
def test_power_grows_with_care_and_with_the_difference(opened, design):
    study = draw(opened.source, Plan(design, units=60))
    near, far = {"clip_dissect": 0.55, "netdissect": 0.5}, {"clip_dissect": 0.9, "netdissect": 0.3}

    def at(error, quality):
        return planning.outlook(study, opened.source, error=error, quality=quality, seed=0, studies=30)

    careful, careless = at(0.1, far), at(0.3, far)
    if design == "intruder":
        assert set(careful.half_width) == {""}
        assert careful.power == {}
    else:
        pair = ("clip_dissect", "netdissect")
        assert careful.power[pair] >= careless.power[pair]
        assert careful.power[pair] > at(0.1, near).power[pair]
    assert all(0 < half < 1 for half in careful.half_width.values())
    assert careful.careful_dropped < careless.careful_dropped


@pytest.mark.parametrize("design", ["rating", "choice"])
@pytest.mark.parametrize("quality", [(0.8, 0.65), (0.3, 0.1), (0.95, 0.9)])
def test_methods_fit_as_often_as_assumed_however_often_they_agree(opened, design, quality):
    study = draw(opened.source, Plan(design, units=60))
    wanted = dict(zip(("clip_dissect", "netdissect"), quality, strict=True))
    chances = planning.fit_chances(study, wanted)
    for method, share in wanted.items():
        own = [chances[unit.layer, unit.unit, opened.source.description(method, unit)] for unit in study.units]
        assert np.mean(own) == pytest.approx(share)
    same = [opened.source.description(method, unit) for unit in study.units for method in wanted]
    assert any(a == b for a, b in zip(same[::2], same[1::2], strict=True))


def test_different_descriptions_fit_in_turn_and_as_often_as_they_should():
    chances = {("fc", 0, "a"): 0.5, ("fc", 0, "b"): 0.3, ("fc", 1, "a"): 0.9, ("fc", 1, "b"): 0.4}
    rng = np.random.default_rng(0)
    drawn = [planning._fits(chances, rng) for _ in range(4000)]
    assert [np.mean([one[key] for one in drawn]) for key in chances] == pytest.approx(list(chances.values()), abs=0.03)
    assert not any(one["fc", 0, "a"] and one["fc", 0, "b"] for one in drawn)
    assert np.mean([one["fc", 1, "a"] and one["fc", 1, "b"] for one in drawn]) == pytest.approx(0.3, abs=0.03)


def hand_made(descriptions):
    """A *rating* study of three methods; each unit's descriptions as given."""
    units, tasks = [], []
    for number, texts in enumerate(descriptions):
        units.append(Unit("fc", number))
        for text in dict.fromkeys(texts):
            methods = [name for name, other in zip("abc", texts, strict=False) if other == text]
            key = {"layer": "fc", "unit": number, "methods": methods}
            tasks.append(Trial(f"{number}-{text}", (0,), (text,), "task", key))
    return Study(Plan("rating"), units, tasks, (), (), deal(tasks, (), batch=15, rng=np.random.default_rng(0)), "")


def test_who_contradicts_two_that_agree_fits_only_where_it_must():
    study = hand_made([("x", "x", "y")] * 5 + [("x", "y", "z")] * 5)
    chances = planning.fit_chances(study, {"a": 0.6, "b": 0.6, "c": 0.3})
    assert {key[2]: value for key, value in chances.items() if key[1] == 0} == {"x": 1.0, "y": 0.0}
    assert {key[2]: value for key, value in chances.items() if key[1] == 9} == pytest.approx(
        {"x": 0.2, "y": 0.2, "z": 0.6}
    )
    often = planning.fit_chances(study, {"a": 0.6, "b": 0.6, "c": 0.8})
    assert [often["fc", unit, text] for unit, text in ((0, "y"), (9, "z"))] == pytest.approx([0.6, 1.0])


def test_a_simulated_study_has_other_units_each_copy_for_itself():
    study = hand_made([("x", "y"), ("x", "x"), ("z", "y")])
    chances = planning.fit_chances(study, {"a": 0.6, "b": 0.5})
    drawn, copied = planning.redraw_units(study, chances, np.random.default_rng(2))
    assert len(drawn.units) == len({unit.layer for unit in drawn.units}) == 3
    assert len({unit.unit for unit in drawn.units}) < 3  # drawn with replacement
    assert sorted(copied) == sorted((t.key["layer"], t.key["unit"], t.texts[0]) for t in drawn.tasks)
    assert sorted(trial for batch in drawn.batches for trial in batch) == sorted(trial.id for trial in drawn.tasks)


def test_power_allows_for_other_units_than_those_drawn(opened):
    # a always fits, b in the half of the units where it says the same: p <= .05 from 6 units that differ on. Among the
    # drawn units there are just 6; of other units 6 or more in P(Binomial(12, 1/2) >= 6) = .61.
    study = hand_made([("x", "x")] * 6 + [("x", "y")] * 6)
    quality = {"a": 1.0, "b": 0.5}
    outlook = planning.outlook(study, opened.source, error=1e-9, quality=quality, seed=0, studies=300)
    assert outlook.power["a", "b"] == pytest.approx(0.61, abs=0.09)  # three standard errors


def test_presence_is_planned_on_its_own_matches(opened):
    study = draw(opened.source, Plan("presence", units=6, per_unit=20))
    estimate = planning.outlook(study, opened.source, error=0.1, quality={}, seed=0, studies=3)
    assert set(estimate.half_width) == {"clip_dissect", "netdissect"}
    assert all(0 < half < 0.5 for half in estimate.half_width.values())


@pytest.mark.slow
def test_the_command_says_it_all(run, capsys):
    words = ["plan", str(run), "--design", "rating", "--units", "12", "--price", "0.8"]
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["error"] for row in document["outlook"]] == [0.1, 0.23, 0.3]
    assert document["quality"] == {"clip_dissect": 0.65, "netdissect": 0.5}
    assert main([*words, "--quality", ".9,.2"]) == 0
    said = capsys.readouterr().out
    assert "clip_dissect 0.90, netdissect 0.20" in said
    assert "clip_dissect - netdissect: power" in said
    assert main([*words, "--quality", "2"]) == 2
    assert "outside 0 to 1" in capsys.readouterr().err
    assert main([*words, "--quality", "high"]) == 2
    assert strongest_needed(Plan("rating")) == 9
