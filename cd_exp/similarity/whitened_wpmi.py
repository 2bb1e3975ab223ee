"""whitened_wpmi: matches and activations compared after what all concepts and all units share is removed.

A concept loses score where CLIP cannot tell it from its neighbours (`penalise_off_centre`) or where its name contains
another concept's (`name_penalty`).
"""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cd_exp.errors import InputError
from cd_exp.records import ConceptActivations
from cd_exp.similarity.match import (
    DenseOrFactored,
    check_at_least,
    check_shapes,
    concept_slices,
    match_shape,
    take_images,
    take_tile,
)
from cd_exp.similarity.registry import similarity_function
from cd_exp.similarity.whitening import check_size, normalise_rows, two_sided, weigh_images, whiten_match


def penalise_off_centre(loadings: Float[Tensor, "concepts rank"], *, width: float) -> Float[Tensor, " concepts"]:
    """How far each concept is from the middle of those that are nearly the same to CLIP.

    With C the cosines between the rows L of `loadings`, which are the correlations of the concepts' whitened matches,

        off[t] = 1 - cosine(L_t, sum_s exp((C_ts - 1) / width) L_s)

    A word that CLIP does not know, or that the images do not show, hardly moves a phrase: `red pentagon`, `dotted red`
    lie about `red`, each moved a little in a direction of its own, and `red` is their middle. A concept that has no
    other within some widths of it is its own middle, and 0 off; so is one that does not vary.

    In float32: a cosine is good to 1e-7, and one that matters is off by 1e-3.

    >>> rows = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.1, 0.0], [1.0, -0.1, 0.0], [0.0, 0.0, 1.0]])
    >>> penalise_off_centre(rows, width=0.02).mul(1000).round().int().tolist()
    [0, 2, 2, 0]
    """
    rows = normalise_rows(loadings).float()
    off = torch.empty(len(rows), device=rows.device)
    count = max(1, CELLS // len(rows))
    buffer = rows.new_empty(min(count, len(rows)), len(rows))
    for part in concept_slices(len(rows), count):
        nearness = torch.mm(rows[part], rows.T, out=buffer[: part.stop - part.start])
        middle = nearness.sub_(1).div_(width).exp_() @ rows
        off[part] = 1 - (normalise_rows(middle) * rows[part]).sum(dim=1)
    return off.where(rows.any(dim=1), 0.0).double()


def name_penalty(names: Sequence[str] | None, concepts: int, weight: float) -> Float[Tensor, " concepts"]:
    """`weight` for each concept whose name contains another's."""
    if not weight:
        return torch.zeros(concepts, dtype=torch.float64)
    if names is None or len(names) != concepts:
        count = "none" if names is None else str(len(names))
        raise InputError(f"name_weight={weight} needs the names of the {concepts} concepts as `names`, got {count}")
    return weight * torch.tensor(contains_other_name(names), dtype=torch.float64)


def contains_other_name(names: Sequence[str]) -> list[bool]:
    """Whether each name contains another one, word by word and whatever the case.

    >>> contains_other_name(["red", "red circle", "circled", "Red"])
    [False, True, False, False]
    """
    phrases = [tuple(name.casefold().split()) for name in names]
    all_phrases = set(phrases)

    def contains_another(words: tuple[str, ...]) -> bool:
        length = len(words)
        parts = ((start, stop) for start in range(length) for stop in range(start + 1, length + 1))
        return any(words[start:stop] in all_phrases for start, stop in parts if stop - start < length)

    return [contains_another(words) for words in phrases]


PRIOR_WEIGHTS = (0.0, 0.4, 0.85)
"""What `prior_weight=auto` chooses among."""

DIVISIONS = 3, 7
"""How often it divides the images into two halves: the fewer where they prefer the same weight, the more where not."""

CELLS = 2**23
"""The most images x concepts, or units x concepts, that are held besides the scores: 32 MiB."""


@dataclass(frozen=True)
class PriorChoice:
    """The prior weight of one layer under which two halves of the images agree most, and how clear that was.

    Attributes:
        weight: the chosen one of `PRIOR_WEIGHTS`.
        information: by weight, the bits per unit that two random halves of the images agree on; mean over divisions.
        agreement: by weight, the share of units to which both give the same label, likewise.
        divisions: of each division, the weight with the most bits in it.
    """

    weight: float
    information: Mapping[float, float]
    agreement: Mapping[float, float]
    divisions: tuple[float, ...]

    @property
    def settings(self) -> dict[str, float]:
        """What the choice binds."""
        return {"prior_weight": self.weight}

    @property
    def margin(self) -> float:
        """By how many bits it is above the next."""
        first, second, *_ = sorted(self.information.values(), reverse=True)
        return first - second

    @property
    def is_clear(self) -> bool:
        """Whether every division prefers the chosen weight."""
        return set(self.divisions) == {self.weight}


def prior_notes(priors: Mapping[str, PriorChoice]) -> Iterator[str]:
    """The prior of each of some layers and how clear its choice was, in one sentence; another where it was not.

    >>> shares = {0.0: 0.1, 0.4: 0.12, 0.85: 0.05}
    >>> unclear = PriorChoice(0.4, {0.0: 0.6, 0.4: 0.9, 0.85: 0.5}, shares, (0.4, 0.0, 0.4))
    >>> for note in prior_notes({"layer1": unclear}):
    ...     print(note)
    prior_weight (bits per label that two halves of the images share under 0, 0.4, 0.85): layer1 0.4 (0.60, 0.90, 0.50)
    layer1: divisions of the images prefer other priors (0.4, 0, 0.4); compare with similarity.prior_weight=0
    """
    weights = ", ".join(f"{weight:g}" for weight in next(iter(priors.values())).agreement)
    chosen = [
        f"{layer} {choice.weight:g} ({', '.join(f'{bits:.2f}' for bits in choice.information.values())})"
        for layer, choice in priors.items()
    ]
    yield f"prior_weight (bits per label that two halves of the images share under {weights}): {', '.join(chosen)}"
    for layer, choice in priors.items():
        others = [weight for weight in choice.divisions if weight != choice.weight]
        if others:
            preferred = ", ".join(f"{weight:g}" for weight in choice.divisions)
            yield (
                f"{layer}: divisions of the images prefer other priors ({preferred}); "
                f"compare with similarity.prior_weight={others[0]:g}"
            )


class _Moments(NamedTuple):
    """What standardises the rectified matches of each concept: (rectified - mean) * scale."""

    mean: Float[Tensor, " concepts"]
    scale: Float[Tensor, " concepts"]


@dataclass(frozen=True)
class _Settings:
    """The settings of `whitened_wpmi`, checked."""

    spread: float
    match_ridge: float
    leak: float
    unit_ridge: float
    few_units: float
    silence: float
    prior_weight: float | str
    half_prior_units: float
    shrinkage: float
    centre_weight: float
    centre_width: float
    name_weight: float
    names: Sequence[str] | None
    seed: int

    def __post_init__(self) -> None:
        for name in ("match_ridge", "unit_ridge", "few_units", "leak", "silence", "shrinkage", "half_prior_units"):
            check_at_least(name, getattr(self, name), 0)
        check_at_least("spread", self.spread, 1e-30)
        check_at_least("centre_width", self.centre_width, 1e-4)
        if isinstance(self.prior_weight, str) and self.prior_weight != "auto":
            raise InputError(f"prior_weight={self.prior_weight!r} is not known; give a number, or auto")


def _choose(match: DenseOrFactored, neurons: Float[Tensor, "images neurons"], **settings: Any) -> PriorChoice | None:
    """The choice of the prior where it is asked for; None under a fixed prior."""
    return None if settings["prior_weight"] != "auto" else choose_prior(match, neurons, **settings)


@similarity_function(
    whole_layer=True,
    least_units=50,
    choose=_choose,
    prepare=lambda match, neurons, **settings: _prepare(match, neurons, _Settings(**settings)),
)
def whitened_wpmi(
    match: DenseOrFactored,
    neurons: Float[Tensor, "images neurons"],
    *,
    spread: float = 2.0,
    match_ridge: float = 1.0,
    leak: float = 0.25,
    unit_ridge: float = 5.0,
    few_units: float = 50.0,
    silence: float = 0.25,
    prior_weight: float | str = "auto",
    half_prior_units: float = 5.0,
    shrinkage: float = 0.2,
    centre_weight: float = 120.0,
    centre_width: float = 0.015,
    name_weight: float = 0.0,
    names: Sequence[str] | None = None,
    seed: int = 0,
) -> Float[Tensor, "neurons concepts"]:
    """Whitened matches over the images on which the whitened activation stands out, less a prior over the layer.

    whiten(Y, ridge) is `cd_exp.similarity.whitening`'s: columns standardised and divided by the square root of their
    covariance with a ridge. off[t] is `penalise_off_centre`'s: 0 for a concept that stands alone or
    in the middle of those that are nearly the same to CLIP. share(v) is v divided by its sum, units are those of the
    layer, sd over images for X and over concepts for M.

        X[:, t]     = whiten(P, match_ridge)[:, t] sd_t / sqrt(sd_t^2 + (shrinkage median sd)^2), sd_t of t's matches
        X'[:, t]    = std(max(X, 0) + leak min(X, 0))[:, t] sd(X[:, t])
        B           = whiten(neurons, unit_ridge (1 + few_units / units))
        w[:, k]     = share(max(B - median, 0)) - silence share(max(median - B, 0)), the median that of B[:, k]
        M[k, t]     = sum_i w[i, k] X'[i, t]
        Z[k, t]     = spread (M[k, t] - mean over t of M[k]) / sd over t of M[k]
        score[k, t] = Z[k, t] - prior_weight units / (units + half_prior_units) (log mean over units of exp Z[:, t])
                      - centre_weight off[t] - name_weight nested[t]

    Derivation: in soft_wpmi the softmax over concepts of an image only subtracts a number that all concepts share, so
    what is left of a unit is a sum of matches over its images. The best linear predictors between activations and
    matches are those of a ridge-regularised canonical correlation: both sides divided by the square root of their
    covariance, which takes out what all units and all matches share. Silence says little of a unit, and a concept's
    absence little of an image, so both count a quarter. Every unit has the same spread of scores, so that one that the
    images hardly show has as much of a say in the prior as another. Concepts whose matches hardly vary are shrunk,
    because dividing by their deviation would blow up noise. Prior and ridge depend on the size of the layer, because
    the mean over a few units is no prior and their covariance says little of what units share. Concepts that CLIP
    cannot tell apart get the same score but for chance; the one in their middle is the one that adds nothing that CLIP
    does not see.

    The prior assumes that a concept belongs to few units. That holds for classes and not for every hidden layer:
    `auto` takes what two halves of the images agree on, see `choose_prior`.

    X' is no product of two factors. It is made for a slice of the concepts at a time and never held whole.

    A layer is scored as a whole: a unit's score depends on the others. A dead unit scores the negative prior.

    Args:
        match: concept activations, images x concepts, dense or factored.
        neurons: activations of a whole layer, images x neurons.
        spread: standard deviation over concepts of each unit's scores before the prior, in nats.
        match_ridge: of the matches, in means of their eigenvalues that are not zero.
        leak: what a match below a concept's mean counts, as a share of one above it.
        unit_ridge: of the activations in a large layer, in the same measure.
        few_units: how many units a layer has whose `unit_ridge` is doubled.
        silence: what images below a unit's median count, as a share of those above it.
        prior_weight: of the prior in a large layer; `auto` for one of 0, 0.4 and 0.85 by `choose_prior`.
        half_prior_units: how many units a layer has whose prior counts half of that.
        shrinkage: in medians of the concepts' standard deviations.
        centre_weight: what a concept loses, in nats, for a cosine of 0 with the middle of its neighbours.
        centre_width: 1 - correlation of two concepts at which the one counts 1/e in the other's middle.
        name_weight: what a concept loses whose name contains another concept's whole name ("red circle" has "red").
        names: of the concepts, by column; needed where `name_weight` is not 0.
        seed: of the divisions under `auto`.

    Raises:
        InputError: for activations that are not finite, images that differ, or a setting out of range; more than
            16,384 images and as many units; `auto` with fewer than 4 images.

    >>> match = torch.tensor([[0.3, 0.1], [0.1, 0.3], [0.1, 0.1], [0.1, 0.1]])
    >>> whitened_wpmi(match, torch.eye(4)[:, :2], prior_weight=0.85).argmax(dim=1)
    tensor([0, 1])

    Source: this project (docs/labeller.md); the ridge-regularised canonical correlation is Vinod, J. Econometrics 4
    (1976), the score that it starts from is CLIP-Dissect's (arXiv:2204.10965), section 3.
    """
    checked = _Settings(
        spread=spread,
        match_ridge=match_ridge,
        leak=leak,
        unit_ridge=unit_ridge,
        few_units=few_units,
        silence=silence,
        prior_weight=prior_weight,
        half_prior_units=half_prior_units,
        shrinkage=shrinkage,
        centre_weight=centre_weight,
        centre_width=centre_width,
        name_weight=name_weight,
        names=names,
        seed=seed,
    )
    if checked.prior_weight == "auto":
        checked = replace(checked, prior_weight=_chosen(match, neurons, checked).weight)
    whitened, weights, penalty = _whiten(*check_shapes(match, neurons), checked)
    return _subtract_prior(_standardise(whitened, weights, checked), penalty, checked)


def choose_prior(
    match: DenseOrFactored, neurons: Float[Tensor, "images neurons"], *, seed: int = 0, **settings: Any
) -> PriorChoice:
    """The prior weight under which two random halves of the images share most bits of a unit's label.

    information(weight) = mean over divisions, mean over units of [t1 = t2] log2(1 / share of units that have the label)

    with t1 and t2 the unit's labels from the two halves, each whitened by itself. A label that many units share is
    given again by chance and says little of any: without the logarithm a weight of 0, which gives few words to many
    units, is taken for the final layer of ResNet-18 with another list of words, where it is right for 31 % of units and
    .85 for 48. Of equal bits the larger weight is taken.

    A prior assumes that a concept belongs to few units: right for the classes of a final layer, wrong for a hidden
    layer in which many units answer to one thing. No truth is looked at. Nothing else may be chosen so: agreement rises
    with any smoothing, right or wrong.

    Args:
        match: concept activations, images x concepts, dense or factored; at least 4 images.
        neurons: activations of a whole layer, images x neurons.
        seed: of the divisions, of which there are as many as `DIVISIONS` says.
        settings: those of `whitened_wpmi`; a `prior_weight` among them is not read.

    Raises:
        InputError: as `whitened_wpmi`; fewer than 4 images.

    >>> generator = torch.Generator().manual_seed(0)
    >>> match = torch.rand(40, 6, generator=generator)
    >>> choice = choose_prior(match, match[:, :4] + 0.3 * torch.rand(40, 4, generator=generator))
    >>> choice.weight, choice.is_clear
    (0.85, True)
    """
    parameters = inspect.signature(whitened_wpmi).parameters.values()
    defaults = {item.name: item.default for item in parameters if item.kind is item.KEYWORD_ONLY}
    return _chosen(match, neurons, _Settings(**(defaults | settings | {"seed": seed, "prior_weight": 0.0})))


def _chosen(match: DenseOrFactored, neurons: Float[Tensor, "images neurons"], settings: _Settings) -> PriorChoice:
    match, neurons = check_shapes(match, neurons)
    check_size(neurons)  # halves may fit where the layer does not
    images = len(neurons)
    if images < 4:
        raise InputError(
            f"prior_weight=auto divides the images into halves and there are {images}; give at least 4 images or a "
            "number (similarity.prior_weight=0.85)"
        )
    generator = torch.Generator().manual_seed(settings.seed)
    by_content = _order_by_content(match)
    shares: list[list[float]] = []
    bits: list[list[float]] = []
    least, most = DIVISIONS
    for count in range(most):
        if count == least and len({_weight_of_most(row) for row in bits}) == 1:
            break
        order = torch.randperm(images, generator=generator).to(neurons.device)
        halves = (by_content[part.sort().values] for part in order.tensor_split([images // 2]))
        first, second = (_labels_by_prior(take_images(match, rows), neurons[rows], settings) for rows in halves)
        shares.append((first == second).double().mean(dim=1).tolist())
        bits.append([_shared_bits(*labels) for labels in zip(first, second, strict=True)])
    information, agreement = (
        [sum(column) / len(bits) for column in zip(*rows, strict=True)] for rows in (bits, shares)
    )
    return PriorChoice(
        weight=_weight_of_most(information),
        information=dict(zip(PRIOR_WEIGHTS, information, strict=True)),
        agreement=dict(zip(PRIOR_WEIGHTS, agreement, strict=True)),
        divisions=tuple(_weight_of_most(row) for row in bits),
    )


def _order_by_content(match: DenseOrFactored) -> Int[Tensor, " images"]:
    """The images by the sum of cubes of their rows, so that the divisions are the same in whatever order they come.

    Without it the choice for a layer whose divisions disagree changed with the order of the images. A sum over columns
    does not depend on the order of the concepts either; images with equal rows are the same to every function.
    """
    rows = match.images if isinstance(match, ConceptActivations) else match
    parts = concept_slices(len(rows), max(1, CELLS // rows.shape[1]))
    return torch.cat([rows[part].double().pow(3).sum(dim=1) for part in parts]).argsort(stable=True)


def _shared_bits(first: Int[Tensor, " neurons"], second: Int[Tensor, " neurons"]) -> float:
    """Bits per unit of the labels that both give: log2(1 / share of units that have the label, mean of both)."""
    frequency = torch.bincount(torch.cat([first, second])).double() / (2 * len(first))
    same = first[first == second]
    return float(-frequency[same].log2().sum() / len(first))


def _weight_of_most(values: Sequence[float]) -> float:
    """The weight with the largest value, of equal ones the larger."""
    return max(zip(values, PRIOR_WEIGHTS, strict=True), key=lambda pair: (round(pair[0], 9), pair[1]))[1]


def _labels_by_prior(
    match: DenseOrFactored, neurons: Float[Tensor, "images neurons"], settings: _Settings
) -> Int[Tensor, "priors neurons"]:
    """The best concept of each unit under each of `PRIOR_WEIGHTS`; whitening and means are computed once."""
    whitened, weights, penalty = _whiten(match, neurons, settings)
    scores = _standardise(whitened, weights, settings)
    best = torch.full((len(PRIOR_WEIGHTS), len(scores)), -math.inf, device=scores.device)
    labels = torch.zeros_like(best, dtype=torch.int64)
    for columns, prior in _priors(scores):
        for row, weight in enumerate(PRIOR_WEIGHTS):
            offset = _prior_share(weight, len(scores), settings) * prior + penalty[columns]
            values, at = (scores[:, columns] - offset).max(dim=1)
            better = values > best[row]
            best[row] = values.where(better, best[row])
            labels[row] = (at + columns.start).where(better, labels[row])
    return labels


def _prepare(
    match: DenseOrFactored, neurons: Float[Tensor, "images neurons"], settings: _Settings
) -> tuple[ConceptActivations, Float[Tensor, "images neurons"], Callable[..., Tensor]]:
    """The whitened matches as a product, the weights of the images, and what is left to do with some of the rows."""
    if settings.prior_weight == "auto":
        settings = replace(settings, prior_weight=_chosen(match, neurons, settings).weight)
    whitened, weights, penalty = _whiten(*check_shapes(match, neurons), settings)
    parts = [moments for _, _, moments in _rectify(whitened, settings.leak)]
    moments = _Moments(*(torch.cat(column) for column in zip(*parts, strict=True)))
    return whitened, weights, partial(_score_resample, settings=settings, moments=moments, penalty=penalty)


def _score_resample(
    match: ConceptActivations,
    weights: Float[Tensor, "images neurons"],
    *,
    settings: _Settings,
    moments: _Moments,
    penalty: Float[Tensor, " concepts"],
) -> Float[Tensor, "neurons concepts"]:
    """The scores from some rows of the whitened matches and of the weights, as often as they come."""
    weights = two_sided(weights, silence=settings.silence)
    return _subtract_prior(_standardise(match, weights, settings, moments), penalty, settings)


def _whiten(
    match: DenseOrFactored, neurons: Float[Tensor, "images neurons"], settings: _Settings
) -> tuple[ConceptActivations, Float[Tensor, "images neurons"], Float[Tensor, " concepts"]]:
    """X as a product, w, and what each concept loses for its place among others or for its name."""
    penalty = name_penalty(settings.names, match_shape(match)[1], settings.name_weight).to(neurons.device)
    images, loadings = whiten_match(match, ridge=settings.match_ridge, shrinkage=settings.shrinkage)
    if settings.centre_weight:
        penalty += settings.centre_weight * penalise_off_centre(loadings, width=settings.centre_width)
    ridge = settings.unit_ridge * (1 + settings.few_units / neurons.shape[1])
    weights = weigh_images(neurons, ridge=ridge, silence=settings.silence)
    return ConceptActivations(images.float(), loadings.float()), weights, penalty.float()


def _rectify(
    match: ConceptActivations, leak: float, moments: _Moments | None = None
) -> Iterator[tuple[slice, Float[Tensor, "images block"], _Moments]]:
    """X' before its mean is subtracted, a slice of the concepts at a time, and what standardises it.

    The next block is written over one that came before.
    """
    deviations = torch.linalg.vector_norm(match.texts, dim=1)  # standard deviations of the columns of X
    images, concepts = match_shape(match)
    count = max(1, CELLS // images)
    # One buffer for all blocks: with one each, what malloc kept of them took 110 to 220 MB, by chance.
    buffer = match.images.new_empty(images * min(count, concepts))
    for columns in concept_slices(concepts, count):
        cells = buffer[: images * (columns.stop - columns.start)]
        block = torch.nn.functional.leaky_relu_(take_tile(match, columns, out=cells.view(images, -1)), leak)
        if moments is None:
            spread, mean = torch.std_mean(block, dim=0, correction=0)
            yield columns, block, _Moments(mean, deviations[columns] / spread.clamp(min=1e-30))
        else:
            yield columns, block, _Moments(moments.mean[columns], moments.scale[columns])


def _standardise(
    match: ConceptActivations,
    weights: Float[Tensor, "images neurons"],
    settings: _Settings,
    moments: _Moments | None = None,
) -> Float[Tensor, "neurons concepts"]:
    """Z."""
    means = torch.empty(weights.shape[1], len(match.texts), device=weights.device)
    total = weights.sum(dim=0)
    for columns, block, (mean, scale) in _rectify(match, settings.leak, moments):
        # w'(X - mean) = w'X - sum(w) mean: the block is not copied once more.
        means[:, columns] = (weights.T @ block - total[:, None] * mean) * scale
    means.sub_(means.mean(dim=1, keepdim=True))
    # What all concepts share of a unit can be thousands of times what tells them apart, and so is its rounding.
    spread, centre = torch.std_mean(means, dim=1, correction=0, keepdim=True)
    return means.sub_(centre).mul_(settings.spread / spread.clamp(min=1e-12))


def _subtract_prior(
    scores: Float[Tensor, "neurons concepts"], penalty: Float[Tensor, " concepts"], settings: _Settings
) -> Float[Tensor, "neurons concepts"]:
    """The scores from Z, in place."""
    weight = _prior_share(float(settings.prior_weight), len(scores), settings)
    for columns, prior in _priors(scores):
        scores[:, columns] -= weight * prior + penalty[columns]
    return scores


def _priors(scores: Float[Tensor, "neurons concepts"]) -> Iterator[tuple[slice, Float[Tensor, " block"]]]:
    """Log of the mean over units of exp Z, a slice of the concepts at a time."""
    for columns in concept_slices(scores.shape[1], max(1, CELLS // len(scores))):
        yield columns, scores[:, columns].logsumexp(dim=0) - math.log(len(scores))


def _prior_share(weight: float, units: int, settings: _Settings) -> float:
    """What the prior counts in a layer of so many units."""
    return weight * units / (units + settings.half_prior_units)
