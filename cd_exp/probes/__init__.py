"""Probe sets: the images that both networks look at, in a fixed order, each opened when it is asked for."""

from cd_exp.probes.broden import broden
from cd_exp.probes.cifar import cifar10, cifar100
from cd_exp.probes.custom import custom
from cd_exp.probes.folder import folder
from cd_exp.probes.huggingface import huggingface
from cd_exp.probes.ids import ids
from cd_exp.probes.image_files import files
from cd_exp.probes.photo_sets import dtd, imagenet_val, places365
from cd_exp.probes.shapes import shapes
from cd_exp.probes.tar import tar
from cd_exp.probes.wrappers import concat, note_pixels, subset, with_common_settings

__all__ = [
    "broden",
    "cifar10",
    "cifar100",
    "concat",
    "custom",
    "dtd",
    "files",
    "folder",
    "huggingface",
    "ids",
    "imagenet_val",
    "note_pixels",
    "places365",
    "shapes",
    "subset",
    "tar",
    "with_common_settings",
]
