"""Concept sets that are the classes of a network, kept as they stand."""

from collections.abc import Iterable
from typing import Any

from cd_exp.concepts.prompts import Templates, prompts
from cd_exp.errors import InputError, unknown
from cd_exp.imagenet import NAMES
from cd_exp.io.text import shortened
from cd_exp.records import Concepts


def model_classes(*, model: Any, templates: Templates = None) -> Concepts:
    """The target model's own classes, in their order, equal names included.

    Args:
        model: a recipe of `cd_exp.models`, with `name` and `classes`.
        templates: prompts.

    Raises:
        InputError: nothing is known of the model's classes.
    """
    if not model.classes:
        raise InputError(
            f"the classes of model {model.name} are not known; set model.class_names=FILE, or another concepts="
        )
    return _classes(model.classes, f"{model.name} classes", templates)


def imagenet(*, names: str = "published", templates: Templates = None) -> Concepts:
    """The 1,000 classes of ImageNet in the order of ILSVRC.

    Args:
        names: `published`, the synonyms of each class as CLIP-Dissect used them; `lemmas`, the same from timm as they
            are, where both cranes are called "crane"; `openai`, the names that OpenAI chose for CLIP.
        templates: prompts.

    Raises:
        InputError: there is no such list of names.
    """
    if names not in NAMES:
        raise unknown("list of names", names, NAMES, where="in concepts=imagenet")
    return _classes(NAMES[names](), "imagenet", templates)


def _classes(listed: Iterable[str], name: str, templates: Templates) -> Concepts:
    """A list of classes as it stands; equal names are noted."""
    names = tuple(listed)
    first = {word: place for place, word in reversed(list(enumerate(names)))}
    twice = [repr(word) for place, word in enumerate(names) if first[word] != place]
    note = f"{name}: names that an earlier class has too, and kept: {len(twice)} ({shortened(twice)})"
    notes = (note,) if twice else ()
    return Concepts(names, prompts(templates), name, notes)
