"""The embedded world: rendered scenes whose truth is known everywhere, their captions, and two trained networks.

Importing it loads numpy and nothing heavier, so that a configuration may name its classes and concepts for free.
"""

from cd_exp.shapes.descriptions import ANNOTATED, CATEGORIES, caption, named, segmentation, shows
from cd_exp.shapes.lexicon import ATTRIBUTES, BACKGROUNDS, CLASSES, COLOURS, CONCEPTS, EVERYDAY, SHAPES, TEXTURES
from cd_exp.shapes.networks import (
    CLIP,
    LAYER4,
    RESNET,
    clip_config,
    clip_weights,
    load_tokenizer,
    resnet_kwargs,
    resnet_weights,
    tokenizer_merges,
)
from cd_exp.shapes.render import IMAGE_SIZE, KINDS, PROBE_SEED, PROBE_SIZE, Figure, Scene, drawn, fingerprint, scene

__all__ = [
    "ANNOTATED",
    "ATTRIBUTES",
    "BACKGROUNDS",
    "CATEGORIES",
    "CLASSES",
    "CLIP",
    "COLOURS",
    "CONCEPTS",
    "EVERYDAY",
    "IMAGE_SIZE",
    "KINDS",
    "LAYER4",
    "PROBE_SEED",
    "PROBE_SIZE",
    "RESNET",
    "SHAPES",
    "TEXTURES",
    "Figure",
    "Scene",
    "caption",
    "clip_config",
    "clip_weights",
    "drawn",
    "fingerprint",
    "load_tokenizer",
    "named",
    "resnet_kwargs",
    "resnet_weights",
    "scene",
    "segmentation",
    "shows",
    "tokenizer_merges",
]
