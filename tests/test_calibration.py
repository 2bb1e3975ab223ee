"""The probability that a label is right: constants, their fit, a user's own, and what it does to a run."""

import json
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd_exp import similarity
from cd_exp.calibrate import calibrate, main
from cd_exp.calibration import (
    CONSTANTS,
    Belief,
    Fitted,
    belief_of,
    calibration_error,
    constants_of,
    error_of_perfect,
    fit,
    general_p,
    has_back_off,
    p_right,
)
from cd_exp.errors import InputError

HEAD = "layer,unit,description,similarity,top5,truth,rank_of_truth,margin,stability,stable_set,marks\n"


@pytest.mark.parametrize(("function", "has_constants"), [
    (similarity.soft_wpmi, True),
    (partial(similarity.soft_wpmi, scale=10.0), True),
    (partial(similarity.soft_wpmi, scale=30.0), False),
    (partial(similarity.whitened_wpmi, prior_weight=0.4, names=["a"], seed=3), True),
    (partial(similarity.whitened_wpmi, prior_weight=0.0), True),
    (partial(similarity.whitened_wpmi, prior_weight=0.5), False),
    (partial(similarity.whitened_wpmi, prior_weight=0.85, name_weight=0.2), False),
    (similarity.cos, False),
])  # fmt: skip
def test_constants_belong_to_a_function_at_its_default_settings(function, has_constants):
    assert (constants_of(function) is not None) == has_constants
    assert has_back_off(function) == has_constants


def test_a_function_that_chooses_its_prior_has_constants_for_each():
    assert has_back_off(similarity.whitened_wpmi)
    own = {
        weight: belief_of(partial(similarity.whitened_wpmi, prior_weight=weight), None) for weight in (0.0, 0.4, 0.85)
    }
    assert len(set(own.values())) == 3


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 20), st.floats(0, 20))
def test_more_stable_and_clearer_is_likelier(stability, other, margin, wider):
    stable, margins = np.sort([stability, other]), np.sort([margin, wider])
    for constants in CONSTANTS.values():
        less, more = p_right(stable, margins, constants.belief)
        assert 0 < less <= more < 1


@pytest.mark.parametrize("name", CONSTANTS)
def test_the_mass_of_a_precision_is_between_those_that_were_fitted(name):
    own = CONSTANTS[name].back_off
    assert own.mass(0.9) == own.masses[0.9]
    assert own.masses[0.8] < own.mass(0.85) < own.masses[0.9]
    assert np.all(np.diff(general_p(np.linspace(0, 1, 20), own)) >= 0)


def test_calibration_errors():
    assert calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0
    assert calibration_error(np.array([0.2, 0.9]), np.array([True, True])) == pytest.approx(0.45)
    shares = np.random.default_rng(0).random(500)
    assert 0.03 < error_of_perfect(shares) < 0.06


def test_a_fit_needs_right_and_wrong_units():
    few = np.ones(30)
    with pytest.raises(InputError, match="30 units with a truth, 30 of them right, tell nothing of probabilities"):
        fit(few, few, few > 0)
    separated = fit(np.arange(40) / 40, np.ones(40), np.arange(40) >= 20)  # no finite maximum without the ridge
    assert np.isfinite(list(vars(separated).values())).all()


def stored(folder, *, stability=True, truth=True, units=60):
    rng = np.random.default_rng(0)
    folder.mkdir()
    rows = ""
    for unit in range(units):
        stable, margin = rng.random(), rng.random()
        rank = 1 if rng.random() < stable else 4
        cells = ["fc", unit, "a", 1, "a; b", "a" if truth else "", rank if truth else "", margin]
        rows += ",".join(map(str, [*cells, stable if stability else "", "", ""])) + "\n"
    (folder / "labels.csv").write_text(HEAD + rows)
    (folder / "metrics.json").write_text('{"layers": {}}')
    node = {
        "_target_": "cd_exp.similarity.whitened_wpmi",
        "_partial_": True,
        "spread": 2.0,
        "prior_weight": "auto",
        "seed": 0,
    }
    manifest = {"config": {"similarity": node}, "choices": {"model": "mine"}, "priors": {"fc": {"prior_weight": 0.4}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_user_fits_their_own_and_a_run_takes_them(tmp_path, capsys):
    run, out = stored(tmp_path / "run"), tmp_path / "own.json"
    assert main([str(run), "--layer", "fc", "--out", str(out)]) == 0
    assert "use it: calibration.path=" in capsys.readouterr().out
    held = json.loads(out.read_text())
    assert held["settings"] == {"spread": 2.0, "prior_weight": 0.4}
    assert held["p_right"]["stability"] > 0
    assert held["held_out"]["units"] == 30
    fitted = Fitted.read(str(out))
    fitted.check(similarity.whitened_wpmi)
    assert belief_of(partial(similarity.whitened_wpmi, prior_weight=0.4), fitted) == fitted.belief
    other = partial(similarity.whitened_wpmi, prior_weight=0.85)
    assert belief_of(other, fitted) == CONSTANTS["whitened_wpmi, prior_weight 0.85"].belief
    with pytest.raises(InputError, match=r"similarity 'cos' is not what calibration.path was fitted for"):
        fitted.check(similarity.cos)
    with pytest.raises(InputError, match=r"was fitted for similarity.spread=2.0 and the run has 3.0; fit it again"):
        fitted.check(partial(similarity.whitened_wpmi, spread=3.0))


def test_a_small_layer_is_fitted_whole_and_says_what_it_hangs_on(tmp_path, capsys):
    """Of 30 units each half has 15, too few to be fitted."""
    assert main([str(stored(tmp_path / "run", units=30)), "--layer", "fc", "--out", str(tmp_path / "own.json")]) == 0
    assert "held_out" not in json.loads((tmp_path / "own.json").read_text())
    text = capsys.readouterr().out
    assert text.startswith("fitted on 30 units of fc, ")
    assert "too few right or wrong units to check the constants of one half on the other" in text
    few = stored(tmp_path / "few", units=40)
    table = (few / "labels.csv").read_text().splitlines()
    rows = [line.split(",") for line in table[1:]]
    rows = [",".join([*cells[:6], "1" if row else "4", *cells[7:]]) for row, cells in enumerate(rows)]
    (few / "labels.csv").write_text("\n".join([table[0], *rows]) + "\n")
    assert main([str(few), "--layer", "fc", "--out", str(tmp_path / "own.json")]) == 0
    assert "note: only 1 wrong: the constants hang on it" in capsys.readouterr().out


def test_what_cannot_be_fitted_is_one_line(tmp_path, capsys):
    run = stored(tmp_path / "run")
    assert main([str(run), "--layer", "fcc", "--out", str(tmp_path / "x")]) == 2
    assert "error: layer 'fcc' is not in" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"has no stability; run it again with stability.resamples=40"):
        calibrate(stored(tmp_path / "a", stability=False), "fc")
    with pytest.raises(InputError, match=r"has no known truth; give a layer whose units are classes"):
        calibrate(stored(tmp_path / "b", truth=False), "fc")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prior_weight": 0.4}, r"similarity.prior_weight=0.4 and the run has 0.85; fit it again"),
        ({"prior_weight": "0.85"}, r"similarity.prior_weight=0.85 and the run has 0.85"),
        ({"prior_weight": None}, r"similarity.prior_weight=None and the run has 0.85"),
        ({}, "does not say for which prior_weight it was fitted"),
        ({"prior_weight": 0.85, "spraed": 2.0}, "setting 'spraed' is not which calibration.path was fitted for"),
    ],
)
def test_constants_of_another_prior_are_refused_where_the_run_has_its_own(settings, message):
    fitted = Fitted("whitened_wpmi", settings, Belief(0.0, 1.0, 1.0))
    with pytest.raises(InputError, match=message):
        fitted.check(partial(similarity.whitened_wpmi, prior_weight=0.85))
    Fitted("whitened_wpmi", {"prior_weight": 0.4}, fitted.belief).check(similarity.whitened_wpmi)  # chosen by layer


@pytest.mark.parametrize("value", ["true", '"0.5"', "null", "1e999"])
def test_a_constant_is_a_number(tmp_path, value):
    path = tmp_path / "own.json"
    constants = f'{{"intercept": 1, "stability": {value}, "log_margin": 1}}'
    path.write_text(f'{{"similarity": "cos", "settings": {{}}, "p_right": {constants}}}')
    with pytest.raises(InputError, match=r"cannot be read as constants \(stability is .*, no finite number\)"):
        Fitted.read(str(path))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"similarity": null, "settings": {}, "p_right": {}}', "", "{}",
                                  '{"similarity": "cos", "settings": {}, "p_right": {"intercept": 1}}', "[1]",
                                  '{"similarity": "cos", "settings": {}, "p_right": '
                                  '{"intercept": NaN, "stability": 1, "log_margin": 1}}'])  # fmt: skip
def test_a_file_that_is_none_is_refused(tmp_path, text):
    path = tmp_path / "own.json"
    path.write_text(text)
    with pytest.raises(
        InputError, match=r"cannot be read as constants .*; give the file that python -m cd_exp.calibrate"
    ):
        Fitted.read(str(path))


def test_beliefs_are_no_more_than_three_numbers():
    assert p_right(np.array([0.5]), np.array([0.95]), Belief(0.0, 1.0, 0.0))[0] == pytest.approx(1 / (1 + np.exp(-0.5)))
