"""Concept sets: the words a unit may be named with, in order, and the prompts around them.

A list that is somebody's vocabulary loses blank lines and duplicates, and says so in its notes. A list of
classes keeps everything: its concepts are judged by their index.
"""

from cd_exp.concepts.concept_sets import (
    broden,
    common_words,
    custom,
    file,
    find_truth,
    imagenet,
    merge,
    model_classes,
    place_classes,
    read_names,
    shapes,
    words,
)

__all__ = [
    "broden",
    "common_words",
    "custom",
    "file",
    "find_truth",
    "imagenet",
    "merge",
    "model_classes",
    "place_classes",
    "read_names",
    "shapes",
    "words",
]
