"""`judge=clip`: a CLIP backbone, preferably not the one that chose the labels, tells which images show a concept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cd_exp.cache import Store
from cd_exp.clips import Clip
from cd_exp.errors import MissingTexts
from cd_exp.evaluation.judges.base import SHARE, HeldOut, Judge, LabelsToScore, Scores
from cd_exp.evaluation.judges.scores import have_values, score_labels
from cd_exp.features import text_embeddings
from cd_exp.features.other_passes import embed_held_images
from cd_exp.metrics.label_expressions import Values, list_concepts
from cd_exp.records import Concepts


def read_concept_values(
    scored: Float[Tensor, "images dim"],
    texts: Float[Tensor, "concepts dim"],
    *,
    scale: float,
    bias: float | None,
    calibration: Float[Tensor, "others dim"],
) -> Float[Tensor, "images concepts"]:
    """How probable each concept is in each image.

    sigmoid(scale cos + bias), with the backbone's own bias where it was trained with one (SigLIP). CLIP has none: there
    bias_c = -log mean exp(scale cos) over the calibration images, so that a concept is present (1/2) where its
    likelihood is the mean one, which is where its pointwise mutual information with the image is 0.

    Args:
        scored: image embeddings.
        texts: of the concepts.
        scale: of the cosine.
        bias: added; None where the backbone has none.
        calibration: embeddings of other images, for the bias.

    Source: Oikarinen and Weng, ICML 2024 (arXiv:2405.06855), section 3; the bias for CLIP is ours.
    """
    normalise = torch.nn.functional.normalize
    texts = normalise(texts.double(), dim=1)
    logits = scale * normalise(scored.double(), dim=1) @ texts.T
    if bias is not None:
        return torch.sigmoid(logits + bias)
    others = scale * normalise(calibration.double(), dim=1) @ texts.T
    return torch.sigmoid(logits - (others.logsumexp(dim=0) - np.log(len(others))))


@dataclass(frozen=True, eq=False)
class ClipJudge(Judge):
    """Settings of `judge=clip`.

    Args:
        clip: the backbone's recipe.
        held_out: share of the images that labels are scored on, and not chosen on.
        share: share of the held-out images in which a unit counts as active; None takes the label's own base rate.
        scale: of the cosine; by default the backbone's own, 100 where it has none.
        bias: the same; where there is none, the mean likelihood of each concept decides.
        untrained: whether our labels of the same network with random weights are scored as a reference.
    """

    clip: Clip
    held_out: float = SHARE
    share: float | None = None
    scale: float | None = None
    bias: float | None = None
    untrained: bool = False
    note: ClassVar[str] = (
        "judge=clip does not rank methods: on 1,000 units whose truth is known its order of eight methods has a rank "
        "correlation of .45 with the truth; compare labels of one unit, or take judge=whitened (.91)"
    )

    def __call__(self, held: HeldOut, asked: Sequence[LabelsToScore]) -> list[Scores]:
        """The scores of every label, in the order asked."""
        values = self._values(held, [label for request in asked for label in request.labels])
        return [
            score_labels(held.activations(request.layer)[:, request.units], request.labels, values, share=self.share)
            for request in asked
        ]

    def known(self, held: HeldOut, labels: Sequence[str]) -> Mapping[str, bool]:
        """Of each label whether the backbone has its texts: all, but for finished embeddings."""
        return have_values(labels, self._values(held, labels))

    def circular(self, clip: Clip) -> bool:
        """Whether the labels were chosen by this very backbone."""
        return clip.key == self.clip.key

    def _values(self, held: HeldOut, labels: Sequence[str]) -> Values:
        names = dict.fromkeys(name for label in labels for name in list_concepts(label) if name)
        texts = embed_names(self.clip, held, tuple(names))
        if not texts:
            return lambda _: None
        if self.circular(held.clip):
            images = held.features.images
        else:
            images = embed_held_images(self.clip, held.probe, store=held.store, settings=held.settings)
            images = images[torch.as_tensor(np.asarray(held.features.kept))]
        scale, bias = as_logits(self.clip, held.store)
        matrix = read_concept_values(
            images[torch.as_tensor(held.scored_on)],
            torch.stack(list(texts.values())),
            scale=scale if self.scale is None else self.scale,
            bias=bias if self.bias is None else self.bias,
            calibration=images[torch.as_tensor(held.chosen_on)],
        )
        columns = dict(zip(texts, matrix.unbind(dim=1), strict=True))
        return columns.get


def embed_names(clip: Clip, held: HeldOut, names: tuple[str, ...]) -> dict[str, Tensor]:
    """A backbone's embedding of each name, with the run's prompts; finished embeddings may lack some."""

    def embed(some: tuple[str, ...]) -> Tensor:
        concepts = Concepts(some, held.concepts.templates, name="judged")
        return text_embeddings(clip, concepts, store=held.store, device=held.settings.device)

    try:
        return dict(zip(names, embed(names), strict=True)) if names else {}
    except MissingTexts:
        vectors = {}
        for name in names:
            try:
                vectors[name] = clip.embed(Concepts((name,), held.concepts.templates), device=torch.device("cpu"))[0]
            except MissingTexts:
                continue
        return vectors


def as_logits(clip: Clip, store: Store) -> tuple[float, float | None]:
    """A backbone's own scale and bias of the cosine, remembered; 100 and none where it does not tell."""
    scale_and_bias: tuple[float, float | None] = store.remember("logits", {"clip": clip.key}, clip.logits, tuple)
    return scale_and_bias
