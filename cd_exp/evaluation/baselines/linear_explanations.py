"""Linear explanations: a weighted sum of a few concepts that predicts the whole activation of a unit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cd_exp.dissection import RunData
from cd_exp.errors import InputError
from cd_exp.evaluation.baselines.method import Method, MethodResult
from cd_exp.evaluation.judges import held_out_split, list_base_concepts, read_concept_values, read_image_classes
from cd_exp.evaluation.judges.clip import as_logits
from cd_exp.features import text_embeddings
from cd_exp.io.text import format_csv, make_file_name
from cd_exp.records import Labels, Probe

VALIDATION = 0.2
"""Of the images: those that decide which concept comes next, and when to stop."""
REPORTED = 0.2
"""Of the images: those that only the correlation beside a sum is from. On the images that chose and stopped it, it is
.58 where these give .47 (200 units of a ResNet-18's `fc`, 904 photographs)."""
STEPS = 300
"""Of the elastic net."""
MOST_CONCEPTS = 4096
"""In the elastic net: those with the highest correlation with some unit; their Gram matrix takes 130 MB."""


@dataclass(frozen=True)
class LinearExplanations(Method):
    """Settings of `baseline=linear_explanations`.

    Args:
        source: where a concept's values come from: `clip`, the run's backbone and concept set, or `annotations`, the
            masks and classes of the probe.
        gain: the least gain in validation correlation for which a further concept is taken.
        length: the most concepts in a sum.
        candidates: how many concepts the elastic net leaves for the greedy step.
        penalty: of the elastic net, as a share of the least one that leaves no concept.
        lasso: share of the penalty on absolute rather than squared weights.
        solver: `least_squares` tries each candidate with least squares; `published_names` does as the published
            code, with its penalty (.05, absolute), its ten candidates at a time and its concepts: those that some
            image shows.

    Raises:
        InputError: for a setting out of its range.

    Source: Oikarinen and Weng, ICML 2024 (arXiv:2405.06855), section 3.
    """

    source: str = "clip"
    gain: float = 0.02
    length: int = 10
    candidates: int = 30
    penalty: float = 0.1
    lasso: float = 0.99
    solver: str = "least_squares"

    def __post_init__(self) -> None:
        if self.source not in ("clip", "annotations"):
            raise InputError(f"baseline.source={self.source}: expected clip or annotations")
        if self.solver not in ("least_squares", "published"):
            raise InputError(f"baseline.solver={self.solver}: expected least_squares or published")

    @property
    def uses_clip(self) -> bool:
        """Whether the run's backbone chooses the labels."""
        return self.source == "clip"

    @property
    def reads_activations(self) -> bool:
        """Yes: each unit's strongest images alone are not enough."""
        return True

    def check(self, probe: Probe) -> None:
        """Refuse annotations of a probe that has none."""
        if self.source == "annotations" and not probe.has_masks:
            read_image_classes(probe)

    def __call__(self, run: RunData) -> MethodResult:
        """The concepts of each unit in the order they were taken, and the weighted sum as what explains it."""
        parts = thirds(run)
        names, values = self._concepts(run, parts.fitted)
        labels, files = {}, {}
        for layer in run.features.layers:
            sums = self._sums(run.features.activations[layer], values, parts, seed=run.seed)
            labels[layer] = Labels(
                layer=layer,
                units=np.arange(len(sums)),
                top=tuple(tuple(names[column] for column in explanation.columns) for explanation in sums),
                similarity=np.array(
                    [explanation.correlation if explanation.columns else np.nan for explanation in sums]
                ),
                truth=run.labels[layer].truth,
                candidates=len(names),
                judged_label=tuple(format_explanation(explanation, names) for explanation in sums),
            )
            files[f"linear_explanations_{make_file_name(layer)}.csv"] = _format_table(sums, names)
        return MethodResult(labels, files)

    def _sums(
        self, activations: Float[Tensor, "images neurons"], values: Float[Tensor, "images concepts"], parts: "Parts", *,
        seed: int,
    ) -> "list[Sum]":  # fmt: skip
        if self.solver == "published":
            return explain_as_published(activations, values, parts, gain=self.gain, length=self.length, seed=seed)
        return explain_units(
            activations,
            values,
            parts,
            gain=self.gain,
            length=self.length,
            candidates=self.candidates,
            penalty=self.penalty,
            lasso=self.lasso,
        )

    def _concepts(
        self, run: RunData, fitted: Int[np.ndarray, " fitted"]
    ) -> tuple[tuple[str, ...], Float[Tensor, "images concepts"]]:
        if self.source == "annotations":
            names, _, present = list_base_concepts(run.probe, [int(index) for index in run.features.kept])
            return names, torch.from_numpy(present).double()
        texts = text_embeddings(run.clip, run.concepts, store=run.store, device=run.settings.device)
        scale, bias = as_logits(run.clip, run.store)
        images = run.features.images
        values = read_concept_values(images, texts, scale=scale, bias=bias, calibration=images[torch.as_tensor(fitted)])
        return run.concepts.names, values


@dataclass(frozen=True)
class Sum:
    """A weighted sum: columns of the concepts in the order they were taken, their weights, and how well it predicts.

    `drop_null_settings` is the correlation on the images that chose its concepts and stopped it, `correlation` that
    on others.
    """

    columns: tuple[int, ...]
    weights: tuple[float, ...]
    checked: float
    correlation: float = 0.0


@dataclass(frozen=True, eq=False)
class Parts:
    """Three parts of the images: for the weights, for which concept comes next and when to stop, and for neither."""

    fitted: Int[np.ndarray, " fitted"]
    checked: Int[np.ndarray, " checked"]
    reported: Int[np.ndarray, " reported"]


def thirds(run: RunData) -> Parts:
    """The images of a run in three parts by their content; not the judge's own division, of which this is one part."""
    kept = np.asarray(run.features.kept)
    rest, reported = held_out_split(run.probe, kept.tolist(), store=run.store, seed=run.seed + 1, share=REPORTED)
    share = VALIDATION / (1 - REPORTED)
    fitted, checked = held_out_split(run.probe, kept[rest].tolist(), store=run.store, seed=run.seed + 2, share=share)
    return Parts(rest[fitted], rest[checked], reported)


def explain_units(
    activations: Float[Tensor, "images neurons"],
    values: Float[Tensor, "images concepts"],
    parts: Parts,
    *,
    gain: float,
    length: int,
    candidates: int,
    penalty: float,
    lasso: float,
) -> list[Sum]:
    """A weighted sum of concepts for each unit: the elastic net proposes, then the best next one is taken.

    On the fitted images the elastic net picks the candidates of each unit. Of these the one is taken, again and again,
    with which the least-squares sum of the fitted images has the highest correlation with the unit on the checked ones,
    while that gains at least `gain`. The first is taken whatever it gains, unless none varies with the unit. The
    correlation of each sum is that on the reported images.

    Args:
        activations: of the units.
        values: of the concepts.
        parts: of the images.
        gain: the least for which a further concept is taken.
        length: the most concepts in a sum.
        candidates: how many concepts the elastic net leaves.
        penalty: of the elastic net.
        lasso: share of it on absolute weights.
    """
    best = _correlate(values, activations, MOST_CONCEPTS)
    part = values[:, best].double()
    first, second, third = (
        _Moments.of(part[rows], activations[rows].double()) for rows in (parts.fitted, parts.checked, parts.reported)
    )
    weights = fit_elastic_net(first.gram, first.cross, penalty=penalty, lasso=lasso)
    sums = []
    for unit in range(activations.shape[1]):
        size = weights[:, unit].abs()
        order = size.sort(descending=True, stable=True).indices[:candidates]
        chosen = _select_greedily(first, second, unit, order[size[order] > 0], gain=gain, length=length)
        sums.append(_report_correlation(chosen, third, unit, best))
    return sums


def _report_correlation(own: Sum, third: "_Moments", unit: int, columns: Int[Tensor, " concepts"]) -> Sum:
    """The sum with its correlation on the reported images, its concepts as numbers of `image_columns`."""
    taken = torch.tensor([own.columns], dtype=torch.int64)
    weights = torch.tensor([own.weights], dtype=torch.float64)
    reached = float(_correlations(third, taken, weights * third.spread[taken], unit)) if own.columns else 0.0
    return Sum(tuple(int(columns[column]) for column in own.columns), own.weights, own.checked, reached)


@dataclass(frozen=True, eq=False)
class _Moments:
    """All that least squares and correlations need of some images; concepts and units are centred and scaled."""

    gram: Float[Tensor, "concepts concepts"]
    cross: Float[Tensor, "concepts neurons"]
    spread: Float[Tensor, " concepts"]

    @classmethod
    def of(cls, values: Float[Tensor, "images concepts"], activations: Float[Tensor, "images neurons"]) -> "_Moments":
        scaled, spread = _standardise(values)
        wanted, _ = _standardise(activations)
        return cls(scaled.T @ scaled / len(values), scaled.T @ wanted / len(values), spread)


def _standardise(values: Float[Tensor, "images columns"]) -> tuple[Float[Tensor, "images columns"], Tensor]:
    """Centred, and divided by the standard deviation; a column that does not vary is zero."""
    varies = values.amax(dim=0) > values.amin(dim=0)
    centred = (values - values.mean(dim=0)) * varies
    spread = torch.where(varies, centred.square().mean(dim=0).sqrt(), 1)
    return centred / spread, spread


def fit_elastic_net(
    gram: Float[Tensor, "concepts concepts"],
    cross: Float[Tensor, "concepts neurons"],
    *,
    penalty: float | Float[Tensor, " neurons"],
    lasso: float,
    steps: int = STEPS,
) -> Float[Tensor, "concepts neurons"]:
    """The weights of least squares with a penalty, of all units at once, by accelerated proximal steps.

    min over w of |y - X w|^2 / 2n + s (lasso |w|_1 + (1 - lasso) |w|^2 / 2), with s = penalty * max |X'y / n| / lasso,
    of which a penalty of 1 leaves no weight.

    Args:
        gram: X'X / n of standardised concepts.
        cross: X'y / n.
        penalty: share of the least that leaves no concept, for all units or for each.
        lasso: share of the penalty on absolute weights.
        steps: how many.

    Source: Zou and Hastie 2005; Beck and Teboulle 2009 for the steps.
    """
    strength = penalty * cross.abs().amax(dim=0) / lasso
    smooth = torch.linalg.eigvalsh(gram)[-1] + strength.amax() * (1 - lasso)
    weights, ahead, momentum = torch.zeros_like(cross), torch.zeros_like(cross), 1.0
    for _ in range(steps):
        slope = gram @ ahead - cross + strength * (1 - lasso) * ahead
        moved = ahead - slope / smooth
        stepped = moved.sign() * (moved.abs() - strength * lasso / smooth).clamp(min=0)
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = stepped + (momentum - 1) / following * (stepped - weights)
        weights, momentum = stepped, following
    return weights


def _select_greedily(
    first: _Moments, second: _Moments, unit: int, candidates: Int[Tensor, " candidates"], *, gain: float, length: int
) -> Sum:
    """Concepts one by one, each tried with those taken before by least squares; weights are per unit of the concept."""
    taken: list[int] = []
    weights, best = torch.zeros(0, dtype=torch.float64), 0.0
    left = candidates.tolist()
    while left and len(taken) < length:
        tried = torch.tensor([[*taken, column] for column in left])
        gram = first.gram[tried[:, :, None], tried[:, None, :]]
        ridge = 1e-9 * torch.eye(gram.shape[1], dtype=gram.dtype)  # for concepts that are the same on these images
        solved = torch.linalg.solve(gram + ridge, first.cross[tried, unit][..., None])[..., 0]
        reached = _correlations(second, tried, solved / first.spread[tried] * second.spread[tried], unit)
        index = int(reached.argmax())
        if not reached[index] > best or (taken and reached[index] - best < gain):
            break
        best, weights = float(reached[index]), solved[index] / first.spread[tried[index]]
        taken.append(left.pop(index))
    return Sum(tuple(taken), tuple(weights.tolist()), best)


PUBLISHED_PENALTY, PUBLISHED_LASSO, PUBLISHED_STEPS = 0.05, 0.99, 500
WIDTH = 10
"""How many concepts are tried at each step of the published search."""
ADAM_STEPS, ADAM_RATE = 100, 0.3


def explain_as_published(
    activations: Float[Tensor, "images neurons"],
    values: Float[Tensor, "images concepts"],
    parts: Parts,
    *,
    gain: float,
    length: int,
    seed: int,
) -> list[Sum]:
    """The weighted sums that the published search finds, of concepts that some images show.

    Concepts whose five highest values have a mean of at least 1/2 take part. The elastic net (penalty .05, absolute)
    orders them by their signed weight; the search tries the next ten that were never refused, fits each with those
    taken by 100 steps of Adam from a random start, refuses for good what gains less than `gain`, and takes the best.
    The concept of the largest weight comes first, so it is the label.

    The elastic net is solved to the end here, by full steps; the published code stops a stochastic solver early. Of a
    sum that reaches `length`, the published code names the last concept tried as its last one, not the one taken.

    Args:
        activations: of the units.
        values: of the concepts, in [0, 1].
        parts: of the images.
        gain: the least for which a further concept is taken.
        length: the most concepts in a sum.
        seed: of the random starts.

    Source: the code published with arXiv:2405.06855, `explain_neurons.py` and `linear_explanation.py`.
    """
    shown = values.topk(min(5, len(values)), dim=0).values.mean(dim=0) >= 0.5
    columns = (shown & (values.std(dim=0) >= 1e-5)).nonzero().flatten()
    part = values[:, columns].double()
    first, second, third = (
        _Moments.of(part[rows], activations[rows].double()) for rows in (parts.fitted, parts.checked, parts.reported)
    )
    # The published target is standardised over fitted and checked images together; ours over the fitted ones.
    order = _published_order(first)
    mean = part[parts.fitted].mean(dim=0)
    draws, sums = torch.Generator().manual_seed(seed), []
    for unit in range(activations.shape[1]):
        target = activations[parts.fitted, unit].double()
        level, spread = float(target.mean()), float(target.std(correction=0))
        own = _published_search(first, second, mean, unit, order[unit], (level, spread), gain, length, draws)
        sums.append(_report_correlation(own, third, unit, columns))
    return sums


def _published_order(first: _Moments) -> list[list[int]]:
    """The concepts of each unit by their signed weight in the elastic net, the largest first."""
    strongest = first.cross.abs().amax(dim=0).clamp(min=1e-30)
    penalty = PUBLISHED_PENALTY * PUBLISHED_LASSO / strongest
    weights = fit_elastic_net(first.gram, first.cross, penalty=penalty, lasso=PUBLISHED_LASSO, steps=PUBLISHED_STEPS)
    orders: list[list[int]] = weights.T.sort(dim=1, descending=True, stable=True).indices.tolist()
    return orders


def _published_search(
    first: _Moments, second: _Moments, mean: Float[Tensor, " concepts"], unit: int, order: Sequence[int],
    scale: tuple[float, float], gain: float, length: int, draws: torch.Generator,
) -> Sum:  # fmt: skip
    taken: list[int] = []
    refused: set[int] = set()
    weights, best = torch.zeros(0, dtype=torch.float64), 0.0
    while len(taken) < length:
        left = [column for column in order if column not in refused and column not in taken][:WIDTH]
        if not left:
            break
        tried = torch.tensor([[*taken, column] for column in left])
        fits = _adam(first, mean, tried, unit, scale, draws)
        reached = _correlations(second, tried, fits * second.spread[tried], unit)
        if taken:
            refused |= {column for column, value in zip(left, reached.tolist(), strict=True) if value - best < gain}
        open_to_all = torch.tensor([column not in refused for column in left])
        index = int(reached.where(open_to_all, -torch.inf).argmax())
        if not open_to_all[index] or not reached[index] > best:
            break
        best, weights = float(reached[index]), fits[index]
        taken.append(left[index])
    rows = weights.argsort(descending=True, stable=True).tolist()
    return Sum(tuple(taken[row] for row in rows), tuple(weights[rows].tolist()), best)


def _adam(
    first: _Moments, mean: Float[Tensor, " concepts"], tried: Int[Tensor, "tried taken"], unit: int,
    scale: tuple[float, float], draws: torch.Generator,
) -> Float[Tensor, "tried taken"]:  # fmt: skip
    """The weights after 100 steps of Adam on the mean squared error, from the moments alone.

    The error's slope needs the mean products of concepts, not centred, with each other, with 1 and with the target.
    """
    level, deviation = scale
    spread, middle = first.spread[tried], mean[tried]
    count, size = tried.shape
    products = torch.empty(count, size + 1, size + 1, dtype=torch.float64)
    gram = first.gram[tried[:, :, None], tried[:, None, :]]
    products[:, :size, :size] = gram * spread[:, :, None] * spread[:, None, :] + middle[:, :, None] * middle[:, None, :]
    products[:, :size, size] = products[:, size, :size] = middle
    products[:, size, size] = 1
    target = torch.cat([first.cross[tried, unit] * spread * deviation + middle * level,
                        torch.full((count, 1), level, dtype=torch.float64)], dim=1)  # fmt: skip
    bound = size**-0.5  # torch draws the weights of a linear layer uniformly within it
    weights = (2 * torch.rand(count, size + 1, generator=draws, dtype=torch.float64) - 1) * bound
    moment, square = torch.zeros_like(weights), torch.zeros_like(weights)
    for step in range(1, ADAM_STEPS + 1):
        slope = 2 * (torch.einsum("tij,tj->ti", products, weights) - target)
        moment = 0.9 * moment + 0.1 * slope
        square = 0.999 * square + 0.001 * slope.square()
        corrected = (square / (1 - 0.999**step)).sqrt() + 1e-8
        weights = weights - ADAM_RATE * moment / (1 - 0.9**step) / corrected
    return weights[:, :size]


def _correlations(
    moments: _Moments, columns: Int[Tensor, "tried taken"], weights: Float[Tensor, "tried taken"], unit: int
) -> Float[Tensor, " tried"]:
    """Of the weighted sums with the unit, from the moments alone."""
    gram = moments.gram[columns[:, :, None], columns[:, None, :]]
    spread = torch.einsum("ti,tij,tj->t", weights, gram, weights).clamp(min=0).sqrt()
    together = (weights * moments.cross[columns, unit]).sum(dim=1)
    return torch.where(spread > 0, together / torch.where(spread > 0, spread, 1), 0)


def _correlate(
    values: Float[Tensor, "images concepts"], activations: Float[Tensor, "images neurons"], most: int
) -> Int[Tensor, " concepts"]:
    """The columns with the highest correlation with some unit, in their order."""
    if values.shape[1] <= most:
        return torch.arange(values.shape[1])
    wanted, _ = _standardise(activations.float())
    blocks = [(_standardise(block.float())[0].T @ wanted).abs().amax(dim=1) for block in values.split(most, dim=1)]
    return torch.cat(blocks).topk(most).indices.sort().values


def format_explanation(explanation: Sum, names: Sequence[str]) -> str:
    """The sum as text, its largest weight as 1: a correlation does not ask for the scale."""
    largest = max((abs(weight) for weight in explanation.weights), default=1.0)
    terms = [
        f"{weight / largest:.2f} {names[column]}"
        for column, weight in zip(explanation.columns, explanation.weights, strict=True)
    ]
    return " + ".join(terms)


def _format_table(sums: Sequence[Sum], names: Sequence[str]) -> str:
    rows = [
        (
            str(unit),
            format_explanation(explanation, names),
            f"{explanation.correlation:.6f}",
            f"{explanation.checked:.6f}",
        )
        for unit, explanation in enumerate(sums)
    ]
    return format_csv([("unit", "explanation", "correlation", "correlation_of_choice"), *rows])
