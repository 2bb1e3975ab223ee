"""Concept sets: the words a unit may be named with, in order, and the prompts around them.

A list that is somebody's vocabulary loses blank lines and duplicates, and says so in `collect_notes`. A list of
classes keeps
everything: its words are judged by their place.
"""

from cd_exp.concepts.concept_sets import (
    broden,
    common_words,
    custom,
    file,
    imagenet,
    merge,
    model_classes,
    shapes,
    words,
)

__all__ = ["broden", "common_words", "custom", "file", "imagenet", "merge", "model_classes", "shapes", "words"]
