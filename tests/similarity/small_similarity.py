"""The functions with settings for a small world, and that world."""

import inspect
from functools import partial
from pathlib import Path

from hydra.utils import get_object
from omegaconf import OmegaConf

from cd_exp import similarity
from cd_exp.similarity.match import match_shape
from cd_exp.testing import draw_world

SHARED = Path(__file__).parents[2] / "../shared"
FOLDER = Path(__file__).parents[2] / "conf/similarity"
CHOICES = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "custom")

SMALL = {
    "rank_reorder": {"top_fraction": 0.5},
    "wpmi": {"top_k": 7},
    "soft_wpmi": {"top_k": 11},
    "mean_embedding": {"top_k": 5},
    "whitened_wpmi": {"prior_weight": 0.85},
    "whitened_wpmi_names": {"prior_weight": 0.85},
}
"""Settings small enough for a world of 60 images; a prior that does not depend on how they are divided."""


def choice(name):
    """A config choice as the function and the settings that it binds."""
    config = OmegaConf.create({"seed": 0, "similarity": OmegaConf.load(FOLDER / f"{name}.yaml")})
    settings = OmegaConf.to_container(config.similarity, resolve=True)
    assert settings.pop("_partial_") is True
    return settings.pop("_target_"), settings


def small(name):
    """Every choice is tested by itself, without a line here. Names are those of the concepts of any small world."""
    target, settings = choice(name)
    function, settings = get_object(target), settings | SMALL.get(name, {})
    if "names" not in inspect.signature(function).parameters:
        return partial(function, **settings)

    def named(match, neurons, **more):
        names = [str(column) for column in range(match_shape(match)[1])]
        return function(match, neurons, names=names, **settings, **more)

    return similarity.similarity_function(whole_layer=similarity.bind(function).spec.whole_layer)(named)


draw = draw_world
FUNCTIONS = {name: small(name) for name in CHOICES}
