"""The built-in synthetic data set `shapes`: scenes whose truth is known everywhere, captions, and two trained networks.

Importing it loads numpy and nothing heavier, so that a configuration may name its classes and concepts for free.
"""

from cd_exp.shapes.descriptions import ANNOTATED, CATEGORIES, caption_scene, named_attributes, segment_scene, shows_name
from cd_exp.shapes.lexicon import ATTRIBUTES, BACKGROUNDS, CLASSES, COLOURS, CONCEPTS, EVERYDAY, SHAPES, TEXTURES
from cd_exp.shapes.networks import (
    CLIP,
    LAYER4,
    RESNET,
    clip_config,
    clip_weights,
    load_tokenizer,
    resnet_arguments,
    resnet_weights,
    tokenizer_merges,
)
from cd_exp.shapes.render import (
    IMAGE_SIZE,
    KINDS,
    PROBE_SEED,
    PROBE_SIZE,
    Scene,
    SceneFigure,
    draw_scene,
    make_scene,
    shapes_fingerprint,
)

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
    "Scene",
    "SceneFigure",
    "caption_scene",
    "clip_config",
    "clip_weights",
    "draw_scene",
    "load_tokenizer",
    "make_scene",
    "named_attributes",
    "resnet_arguments",
    "resnet_weights",
    "segment_scene",
    "shapes_fingerprint",
    "shows_name",
    "tokenizer_merges",
]
