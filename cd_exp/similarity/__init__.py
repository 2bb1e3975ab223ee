"""How well each concept tells what a unit responds to: scores of neurons x concepts.

Every function takes `(match, neurons, *, settings)`, and its published settings are its defaults. `cos`, `cos_cubed`,
`rank_reorder`, `wpmi` and `soft_wpmi` keep the published arithmetic; the others have names of their own. None holds the
images x concepts matrix when the match is factored. Outputs are float32, on the device of the inputs.

A function in a file of its own name needs no registration: `cd_exp/similarity/NAME.py` and
`conf/similarity/NAME.yaml` are all that a new one needs.

>>> import torch
>>> match = concept_activations(torch.eye(3), torch.eye(3)[:2])  # images 0 and 1 show concepts 0 and 1
>>> neurons = torch.tensor([[0.0, 2.0], [3.0, 0.0], [0.1, 0.1]])  # unit 0 responds to image 1, unit 1 to image 0
>>> soft_wpmi(match, neurons, top_k=1).argmax(dim=1)
tensor([1, 0])
"""

from cd_exp.similarity.cos import cos
from cd_exp.similarity.cos_cubed import cos_cubed
from cd_exp.similarity.custom import custom
from cd_exp.similarity.match import DenseOrFactored, concept_activations
from cd_exp.similarity.mean_embedding import mean_embedding
from cd_exp.similarity.rank_reorder import rank_reorder
from cd_exp.similarity.registry import (
    BoundSimilarity,
    Inputs,
    RankSum,
    bind,
    find_by_file_name,
    similarity_function,
)
from cd_exp.similarity.scoring import score_best, score_blocks, score_layers
from cd_exp.similarity.soft_wpmi import soft_wpmi
from cd_exp.similarity.whitened_wpmi import PriorChoice, choose_prior, whitened_wpmi
from cd_exp.similarity.wpmi import wpmi

__all__ = [
    "BoundSimilarity",
    "DenseOrFactored",
    "Inputs",
    "PriorChoice",
    "RankSum",
    "bind",
    "choose_prior",
    "concept_activations",
    "cos",
    "cos_cubed",
    "custom",
    "mean_embedding",
    "rank_reorder",
    "score_best",
    "score_blocks",
    "score_layers",
    "similarity_function",
    "soft_wpmi",
    "whitened_wpmi",
    "wpmi",
]

globals().update(find_by_file_name())
