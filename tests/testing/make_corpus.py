"""Writes the corpus of `cd_exp.testing` with the literal references: `python tests/testing/make_corpus.py [FOLDER]`."""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "similarity"))
import literal_similarity as literal

FOLDER = Path(__file__).parents[2] / "cd_exp/testing/data"
README = """# Inputs and outputs of the similarity functions

Made by the slow literal references of cd_exp's tests (`tests/similarity/literal_similarity.py`, float64, one unit and
concept at a time), not by the published code and not by the functions they test: `python tests/testing/make_corpus.py`.
The references agree with what the published code of CLIP-Dissect gave on other inputs (`tests/testing/test_kit.py`).

`corpus.json` lists the cases: `function`, `inputs`, `settings`, tolerances. For each inputs NAME:

- `NAME.match.csv`: cosine of image (row) and concept (column);
- `NAME.activations.csv`: activation of unit (column) on image (row);
- `NAME.FUNCTION.csv`: expected score of unit (row) and concept (column).

Numbers of the inputs are exact in float32. `scaled` is true where the function draws at random: its scores are compared
after dividing each row by the size of its mean; the file has the expectation over all orders. Apache-2.0, as cd_exp.
"""
SAYS = {
    "cosines": "ordinary cosines: what the softmax temperature, the prior and the order of images do",
    "copies": "every image twice: ties among the strongest images, in or out together",
    "dead": "a unit that is 0 and one that is constant beside three others; all images count",
    "one_unit": "a layer of one unit",
    "few_images": "fewer images than are asked for",
    "negative": "cosines of both signs",
}
SOFT = {"top_k": 100, "scale": 10.0, "prior_weight": 1.0, "first_membership": 0.998, "last_membership": 0.97,
        "min_probability": 1e-7}  # fmt: skip
SETTINGS = {
    "cos": {},
    "cos_cubed": {"min_norm": 1e-3},
    "rank_reorder": {"top_fraction": 0.1, "power": 3.0, "scale_power": 0.5},
    "wpmi": {"top_k": 28, "scale": 2.0, "prior_weight": 0.6, "min_probability": 1e-7},
    "soft_wpmi": SOFT,
    "mean_embedding": {"top_k": 30},
}
OTHERWISE = {
    ("rank_reorder", "dead"): {"top_fraction": 1.0},
    ("rank_reorder", "few_images"): {"top_fraction": 1.0},
    ("soft_wpmi", "dead"): {"last_membership": 0.998},  # ranks among equal activations are arbitrary
}


def make_inputs(name):
    random = np.random.default_rng(sorted(SAYS).index(name))
    images, units = {"dead": (20, 5), "few_images": (12, 4), "one_unit": (120, 1)}.get(name, (120, 4))
    match = random.normal(0.25, 0.05, size=(images, 6))
    if name == "negative":
        match = random.normal(0.02, 0.2, size=(images, 6))
        match[:, 3] = -np.abs(match[:, 3])
    activations = random.normal(0.5, 1.0, size=(images, units))
    if name == "dead":
        activations[:, 1], activations[:, 3] = 0.0, 2.0
    if name == "copies":
        match[1::2], activations[1::2] = match[::2], activations[::2]
        # the strongest two of each unit are far above the others, so that a cut between two levels shows
        activations[:2] += 3
    return match.astype(np.float32), activations.astype(np.float32)


def by_expectation(match, neurons, top_fraction, power, scale_power):
    """rank_reorder with the error by chance as its expectation over all orders, not as a mean over five."""
    count = max(1, int(len(neurons) * top_fraction))
    orders = [np.roll(np.arange(count), step) for step in range(count)]  # each value at each rank, equally often
    return literal.rank_reorder(match, neurons, orders, top_fraction, power, scale_power)


def expected_scores(function, match, neurons, settings):
    match, neurons = match.astype(np.float64), neurons.astype(np.float64)
    if function == "rank_reorder":
        return by_expectation(match, neurons, **settings)
    names = {"first_membership": "first", "last_membership": "last"}
    return getattr(literal, function)(match, neurons, **{names.get(key, key): settings[key] for key in settings})


def write_corpus(folder):
    folder.mkdir(parents=True, exist_ok=True)
    cases = []
    for name in SAYS:
        match, activations = make_inputs(name)
        np.savetxt(folder / f"{name}.match.csv", match, delimiter=",", fmt="%.9g")
        np.savetxt(folder / f"{name}.activations.csv", activations, delimiter=",", fmt="%.9g")
        for function, published in SETTINGS.items():
            settings = published | OTHERWISE.get((function, name), {})
            scores = expected_scores(function, match, activations, settings)
            np.savetxt(folder / f"{name}.{function}.csv", scores, delimiter=",", fmt="%.9g")
            cases.append(
                {"function": function, "inputs": name, "settings": settings, "scaled": function == "rank_reorder",
                 "rtol": 1e-3 if function == "rank_reorder" else 1e-4, "atol": 1e-3 if "wpmi" in function else 1e-5}
            )  # fmt: skip
    text = json.dumps({"version": 1, "inputs": SAYS, "cases": cases}, indent=1)
    (folder / "corpus.json").write_text(f"{text}\n", encoding="utf-8")
    (folder / "README.md").write_text(README, encoding="utf-8")


if __name__ == "__main__":
    write_corpus(Path(*sys.argv[1:2] or [FOLDER]))
