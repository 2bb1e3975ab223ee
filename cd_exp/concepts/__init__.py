"""Concept sets: the words a unit may be named with, in order, and the prompts around them.

A list that is somebody's vocabulary loses blank lines and duplicates, and says so in `notes`. A list of classes keeps
everything: its words are judged by their place.
"""

from cd_exp.concepts.classes import imagenet, model_classes
from cd_exp.concepts.custom import custom
from cd_exp.concepts.vocabularies import broden, common_words, file, merge, shapes, words

__all__ = ["broden", "common_words", "custom", "file", "imagenet", "merge", "model_classes", "shapes", "words"]
