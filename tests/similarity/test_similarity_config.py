"""Every config choice is a function of its own name, and says each of its settings with the default."""

import inspect

import pytest
from small_similarity import CHOICES, choice

from cd_exp import similarity

VARIANTS = {"whitened_wpmi_names": ("whitened_wpmi", {"name_weight": 0.2})}
"""A choice that is another function with some settings changed: a row of its own in every table."""
GIVEN = ("prior", "names", "layers", "columns")
"""What the program hands to a function that asks for it."""


def test_the_published_functions_and_ours_are_offered():
    expected = {"cos", "cos_cubed", "mean_embedding", "rank_reorder", "soft_wpmi", "whitened_wpmi", "wpmi"}
    assert expected | set(VARIANTS) <= set(CHOICES)


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_binds_every_setting_at_its_default(name):
    target, settings = choice(name)
    function, changed = VARIANTS.get(name, (name, {}))
    assert target == f"cd_exp.similarity.{function}"
    parameters = inspect.signature(getattr(similarity, function)).parameters.values()
    defaults = {item.name: item.default for item in parameters if item.kind is item.KEYWORD_ONLY}
    assert settings == {name: value for name, value in defaults.items() if name not in GIVEN} | changed
