"""The only loops over images: each is decoded once for both networks, and what they give streams to the cache.

Features are cut into shards of fixed images, so a killed run continues where it stopped, several processes share the
work, and neither changes a number.
"""

from cd_exp.features.dataloader import ExtractionSettings
from cd_exp.features.extract import extract
from cd_exp.features.features import Features, hash_features
from cd_exp.features.layers import find_layers
from cd_exp.features.other_passes import read_maps
from cd_exp.features.texts import check_texts, note_long_prompts, text_embeddings

__all__ = [
    "ExtractionSettings",
    "Features",
    "check_texts",
    "extract",
    "find_layers",
    "hash_features",
    "note_long_prompts",
    "read_maps",
    "text_embeddings",
]
