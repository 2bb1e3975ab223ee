"""Phrases asked for when the pages are made: images with the highest CLIP score for them, and units that match them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cd_exp import similarity as similarities
from cd_exp.dissection import RunData
from cd_exp.explorer.payload import encode_array
from cd_exp.explorer.unit_statistics import select_shown_images
from cd_exp.features import text_embeddings
from cd_exp.records import Concepts, Similarity

UNITS = 12  # best units of each layer
IMAGES = 10


@dataclass(frozen=True, eq=False)
class TextQuery:
    """Words with their images (rows of the features) and, by layer, the units in which they rank best."""

    words: str
    images: Int[np.ndarray, " shown"]
    cosines: Float[np.ndarray, " shown"]
    units: Mapping[str, Int[np.ndarray, " best"]]
    ranks: Mapping[str, Int[np.ndarray, " best"]]
    scores: Mapping[str, Float[np.ndarray, " best"]]

    def encode(self, thumbnail_of: Int[np.ndarray, " images"]) -> dict[str, Any]:
        """As the pages read it; `places`: where each image stands among the thumbnails."""
        return {
            "words": self.words,
            "pictures": encode_array(thumbnail_of[self.images]),
            "cosines": encode_array(self.cosines),
            "layers": {
                layer: {
                    "units": encode_array(units),
                    "ranks": encode_array(self.ranks[layer]),
                    "scores": encode_array(self.scores[layer]),
                }
                for layer, units in self.units.items()
            },
        }


def run_text_query(run: RunData, similarity: Similarity, words: Sequence[str]) -> list[TextQuery]:
    """Score each of the words as if it stood at the end of the concept set.

    Args:
        run: what the run has; its CLIP needs a text tower.
        similarity: the run's own function.
        words: what is asked for, in free words.
    """
    asked = Concepts(tuple(words), run.concepts.templates, name="query")
    texts = text_embeddings(run.clip, asked, store=run.store, device=run.settings.device)
    images, cosines = select_shown_images(run.features.images, texts, count=IMAGES)
    answers = []
    for number, text in enumerate(words):
        match = similarities.concept_activations(run.features.images, torch.cat([run.texts, texts[number, None]]))
        best = {
            layer: _best_units(similarities.score_blocks(similarity, match, activations))
            for layer, activations in run.features.activations.items()
        }
        units, ranks, scores = ({layer: part[i] for layer, part in best.items()} for i in range(3))
        answers.append(TextQuery(text, images[number], cosines[number], units, ranks, scores))
    return answers


def _best_units(blocks: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The units in which the last column ranks best, with its ranks and scores; of equal ranks the higher score."""
    parts: list[tuple[Tensor, Tensor]] = []
    for _, block in blocks:
        phrase_scores = block[:, -1]
        parts.append((1 + (block[:, :-1] >= phrase_scores[:, None]).sum(dim=1), phrase_scores))
    ranks, scores = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
    order = np.lexsort((-scores, ranks))[:UNITS]
    return order, ranks[order], scores[order]
