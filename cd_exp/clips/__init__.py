"""CLIP backbones as recipes: open_clip models with any of its weights, or embeddings that somebody made already.

Like a target model, a backbone knows its key without being built, so a run whose embeddings are stored never imports
open_clip.
"""

from cd_exp.clips.base import Clip, ImageTower
from cd_exp.clips.custom import CustomClip
from cd_exp.clips.open_clip_model import OpenClip, shapes_clip
from cd_exp.clips.precomputed import Precomputed
from cd_exp.clips.transformers_model import Transformers

__all__ = ["Clip", "CustomClip", "ImageTower", "OpenClip", "Precomputed", "Transformers", "shapes_clip"]
