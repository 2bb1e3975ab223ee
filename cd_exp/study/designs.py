"""What raters are asked: units, images and descriptions drawn from a run, and trials whose answer is known.

Four designs. *rating*: does a description fit a unit's strongest images, 1 to 5? *presence*: is it in one image?
*choice*: which of several descriptions fits the strongest images? *intruder*: which image does not belong?
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from cd_exp.errors import InputError, MissingTexts

if TYPE_CHECKING:
    from cd_exp.records import Labels

Design = Literal["rating", "presence", "choice", "intruder"]
DESIGNS: tuple[Design, ...] = ("rating", "presence", "choice", "intruder")
QUESTIONS = {
    "rating": "How well does the description fit these images?",
    "presence": "Is this in the image?",
    "choice": "Which description fits these images best?",
    "intruder": "Which image does not belong with the others?",
}
PER_UNIT = {"rating": 1, "presence": 60, "choice": 1, "intruder": 2}
"""Trials per unit; of *presence*, images per unit and description."""
IMAGES = {"rating": 9, "presence": 1, "choice": 9, "intruder": 6}
"""Images of one trial."""
CANNOT_TELL, NONE = "cannot_tell", "none"
FEWEST_OPTIONS = 3  # options of a choice: with fewer, other units' descriptions are added
CATCH, PRACTICE = 10, 4
CATCH_SETS = 3  # batches take them in turn, so that who answers two batches seldom meets a trial again
UNIFORM = 0.2
"""Share of presence images drawn uniformly: no image stands for more than 1 / .2 = 5 times its even share."""
TENTHS = 10
UNUSABLE = frozenset(("dead",))
CLIP_TEXTS, CLIP_CASES = 400, 12  # descriptions that trials of known answer are sought among, and are made of
CLIP_IMAGES = 20_000  # looked through for them
ANNOTATED_IMAGES = 2000  # looked through for trials of known answer: enough for 20 images of a concept on 1 % of them


@dataclass(frozen=True)
class Unit:
    """A drawn unit, with the probability with which its tenth of stability gave it."""

    layer: str
    unit: int
    probability: float = 1.0


@dataclass(frozen=True)
class Trial:
    """One question. Raters see `images` and `texts`; `key` stays with whoever runs the study.

    Attributes:
        id: says nothing.
        images: rows of the features, in the order shown.
        texts: the description (*rating*, *presence*), the options (*choice*), or none (*intruder*).
        kind: `task`, or with a known answer `catch` and `practice`.
        key: of a task `layer`, `unit`, `methods` and what its design needs; of the others `accept`, the right answers.
    """

    id: str
    images: tuple[int, ...]
    texts: tuple[str, ...]
    kind: Literal["task", "catch", "practice"]
    key: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Source:
    """What trials are drawn from.

    Attributes:
        methods: the labels by method and layer.
        strongest: `(layer, count) -> Int["units count"]`, the rows of the strongest images of every unit.
        activations: `layer -> Float["images units"]`.
        match: `description -> Float["images"]`, the cosine of each image with it.
        annotated: `(description, rows) -> Bool["rows"]` by the probe's masks or classes, None for a description they
            know nothing of; None where there are none.
        images: how many there are.
    """

    methods: "Mapping[str, Mapping[str, Labels]]"
    strongest: Callable[[str, int], Int[np.ndarray, "units count"]]
    activations: Callable[[str], Float[np.ndarray, "images units"]]
    match: Callable[[str], Float[np.ndarray, " images"]]
    annotated: Callable[[str, Sequence[int]], Bool[np.ndarray, " rows"] | None] | None
    images: int

    def description(self, method: str, unit: Unit) -> str:
        """What a method calls a unit; empty where it leaves it unlabelled."""
        labels = self.methods[method].get(unit.layer)
        if labels is None:
            return ""
        row = np.flatnonzero(labels.units == unit.unit)
        return labels.descriptions[row[0]] if len(row) else ""

    def descriptions(self, unit: Unit) -> dict[str, list[str]]:
        """The distinct descriptions of a unit, each with the methods that give it."""
        methods_of: dict[str, list[str]] = {}
        for method in self.methods:
            methods_of.setdefault(self.description(method, unit), []).append(method)
        return methods_of


def draw_units(
    source: Source, count: int, *, rng: np.random.Generator, among: Sequence[tuple[str, int]] | None = None
) -> list[Unit]:
    """Units drawn evenly from the layers and, within a layer, from the tenths of stability.

    Dead units, and units that some method leaves unlabelled, cannot be asked about. Where stability is unknown a layer
    is one tenth.

    Args:
        source: the labels.
        count: how many; all where there are fewer.
        rng: draws within each tenth.
        among: restricts the units, and is taken whole, in its order, where it is given.

    Raises:
        InputError: a unit of `among` is not in the run, or no unit is labelled by every method.
    """
    usable = {layer: _usable(source, layer) for layer in source.methods[next(iter(source.methods))]}
    if among is not None:
        wrong = [pair for pair in among if pair[1] not in usable.get(pair[0], {})]
        if wrong:
            raise InputError(
                f"--units-from: unit {wrong[0][1]} of {wrong[0][0]!r} is dead, not labelled by every method, or not in "
                f"the run ({len(wrong)} of {len(among)} units); leave it out, or give fewer --methods"
            )
        return [Unit(layer, unit) for layer, unit in dict.fromkeys(among)]
    tenths = {layer: _tenths(units) for layer, units in usable.items() if units}
    if not tenths:
        raise InputError(f"no unit is labelled by each of {', '.join(source.methods)}; give fewer --methods")
    quota = _shares(count, {layer: sum(map(len, groups)) for layer, groups in tenths.items()})
    drawn = []
    for layer, groups in tenths.items():
        for number, wanted in _shares(quota[layer], dict(enumerate(map(len, groups)))).items():
            chosen = rng.choice(groups[number], wanted, replace=False)
            drawn += [Unit(layer, int(unit), wanted / len(groups[number])) for unit in sorted(chosen)]
    return drawn


def _usable(source: Source, layer: str) -> dict[int, float]:
    """The stability of each unit that every method labels; NaN where it is unknown."""
    from cd_exp.records import CLIP_DISSECT  # with torch, which `read` and `--help` do without

    first = source.methods.get(CLIP_DISSECT, next(iter(source.methods.values())))[layer]
    marks = first.marks or (frozenset(),) * len(first.units)
    stability = np.full(len(first.units), np.nan) if first.stability is None else first.stability
    return {
        int(unit): float(value)
        for unit, value, mark in zip(first.units, stability, marks, strict=True)
        if not mark & UNUSABLE and all(source.description(name, Unit(layer, int(unit))) for name in source.methods)
    }


def _tenths(units: Mapping[int, float]) -> list[np.ndarray]:
    ordered = sorted((value, unit) for unit, value in units.items() if value == value)
    unknown = np.array([unit for unit, value in units.items() if value != value], dtype=int)
    groups = np.array_split(np.array([unit for _, unit in ordered], dtype=int), TENTHS)
    return [group for group in (*groups, unknown) if len(group)]


def _shares(count: int, sizes: Mapping[Any, int]) -> dict[Any, int]:
    """`count` shared out as evenly as the sizes allow."""
    shares = dict.fromkeys(sizes, 0)
    while sum(shares.values()) < min(count, sum(sizes.values())):
        open_keys = sorted((key for key in sizes if shares[key] < sizes[key]), key=lambda key: shares[key])
        shares[open_keys[0]] += 1
    return shares


def draw_tasks(
    design: Design, source: Source, units: Sequence[Unit], *, per_unit: int, images: int, rng: np.random.Generator
) -> list[Trial]:
    """The tasks of all units, without ids that tell of their order.

    Args:
        design: which question.
        source: labels, images, activations.
        units: as drawn.
        per_unit: trials per unit; of *presence*, images per unit and description.
        images: of one trial.
        rng: draws images and orders.
    """
    draw = {"rating": _ratings, "presence": _presences, "choice": _choices, "intruder": _intruders}[design]
    trials = list(draw(source, units, per_unit, images, rng))
    ids = trial_ids(len(trials), rng)
    return [Trial(ids[number], rows, texts, "task", key) for number, (rows, texts, key) in enumerate(trials)]


def trial_ids(count: int, rng: np.random.Generator) -> list[str]:
    """Distinct ids of eight hexadecimal digits."""
    ids: dict[str, None] = {}
    while len(ids) < count:
        ids[f"{rng.integers(2**32):08x}"] = None
    return list(ids)


def _of(unit: Unit, methods: Sequence[str], **more: Any) -> dict[str, Any]:
    return {"layer": unit.layer, "unit": unit.unit, "methods": list(methods), **more}


def _strongest(source: Source, unit: Unit, trial: int, per_unit: int, images: int) -> tuple[int, ...]:
    """Each trial's own of the strongest images: every `per_unit`-th, so that all trials are alike strong."""
    return tuple(source.strongest(unit.layer, per_unit * images)[unit.unit, trial::per_unit].tolist())


Drawn = Iterator[tuple[tuple[int, ...], tuple[str, ...], dict[str, Any]]]


def _ratings(source: Source, units: Sequence[Unit], per_unit: int, images: int, rng: np.random.Generator) -> Drawn:
    """One question per unit and distinct description: methods that agree share its answers."""
    del rng
    for unit in units:
        for text, methods in source.descriptions(unit).items():
            for trial in range(per_unit):
                yield _strongest(source, unit, trial, per_unit, images), (text,), _of(unit, methods)


def _choices(source: Source, units: Sequence[Unit], per_unit: int, images: int, rng: np.random.Generator) -> Drawn:
    every = sorted({text for unit in units for text in source.descriptions(unit)})
    for unit in units:
        described = source.descriptions(unit)
        others = [text for text in rng.permutation(every).tolist() if text not in described]
        options = {**described, **{text: [] for text in others[: max(0, FEWEST_OPTIONS - len(described))]}}
        for trial in range(per_unit):
            texts = tuple(rng.permutation(list(options)).tolist())
            key = _of(unit, [], options=[options[text] for text in texts])
            yield _strongest(source, unit, trial, per_unit, images), texts, key


def _presences(source: Source, units: Sequence[Unit], per_unit: int, images: int, rng: np.random.Generator) -> Drawn:
    """Images drawn with replacement; one that is drawn n times is asked once and counts n times."""
    del images
    for unit in units:
        activation = standardise(source.activations(unit.layer)[:, unit.unit])
        for text, methods in source.descriptions(unit).items():
            match = standardise(source.match(text))
            probability = drawing_probability(activation, match)
            rows, times = np.unique(rng.choice(len(match), per_unit, p=probability), return_counts=True)
            for row, count in zip(rows.tolist(), times.tolist(), strict=True):
                yield (
                    (row,),
                    (text,),
                    _of(
                        unit,
                        methods,
                        count=count,
                        probability=float(probability[row]),
                        activation=float(activation[row]),
                        match=float(match[row]),
                    ),
                )


def _intruders(source: Source, units: Sequence[Unit], per_unit: int, images: int, rng: np.random.Generator) -> Drawn:
    """The first trial of a unit shows its strongest tenth of the images, the others weaker tenths in turn.

    The intruder comes from the weakest tenth. Images on which a unit is equally active (0, after a ReLU) are ordered
    at random, so weak tenths may be no different from the intruder's.
    """
    turn = 0
    for unit in units:
        activation = source.activations(unit.layer)[:, unit.unit]
        order = np.lexsort((rng.random(len(activation)), -activation))
        groups = np.array_split(order, TENTHS)
        for trial in range(per_unit):
            tenth = 0 if trial == 0 else 1 + turn % (TENTHS - 2)
            turn += trial > 0
            members = groups[tenth][: images - 1] if tenth == 0 else rng.choice(groups[tenth], images - 1, False)
            position = int(rng.integers(images))
            shown = np.insert(rng.permutation(members), position, rng.choice(groups[-1]))
            yield tuple(shown.tolist()), (), _of(unit, [], intruder=position, tenth=tenth + 1)


def standardise(values: Float[np.ndarray, " images"]) -> Float[np.ndarray, " images"]:
    """Mean 0 and standard deviation 1 in double; zeros where nothing varies.

    >>> standardise(np.array([1.0, 3.0])).tolist()
    [-1.0, 1.0]
    """
    centred = np.asarray(values, dtype=np.float64) - np.mean(values, dtype=np.float64)
    deviation = float(centred.std())
    return centred / deviation if deviation > 0 else centred


def drawing_probability(
    activation: Float[np.ndarray, " images"], match: Float[np.ndarray, " images"]
) -> Float[np.ndarray, " images"]:
    """How likely each image is drawn: .8 q + .2 / images, q proportional to the absolute product of the two.

    The variance of a correlation weighted by 1 / probability is least where the probability follows the product of
    activation and presence; the match stands for the presence, which nobody knows yet. The even part keeps every
    weight below 5.

    >>> drawing_probability(np.array([1.0, -1.0]), np.array([3.0, 1.0])).round(3).tolist()
    [0.7, 0.3]

    Args:
        activation: standardised over the images.
        match: likewise.

    Source: arXiv:2506.07985, section on importance sampling.
    """
    product = np.abs(activation * match)
    total, even = float(product.sum()), 1 / len(product)
    share = product / total if total > 0 else np.full(len(product), even)
    return (1 - UNIFORM) * share + UNIFORM * even


# Trials whose answer is known ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Clear:
    """A description with rows that certainly show what it says, and rows that certainly do not.

    `match` is its standardised match with all images where CLIP is all there is to go by.
    """

    text: str
    shows: np.ndarray
    lacks: np.ndarray
    match: np.ndarray | None = None

    def likeness(self, rows: np.ndarray) -> float:
        """How far the description is on these rows; for a trial that wants one that is not, the lower the better."""
        if self.match is not None:
            return float(self.match[rows].mean())
        shows, lacks = self._row_sets
        numbers = rows.tolist()
        return sum(row in shows for row in numbers) / len(rows) - sum(row in lacks for row in numbers) / len(rows)

    @cached_property
    def _row_sets(self) -> tuple[frozenset[int], frozenset[int]]:
        """Both sides for look-ups: `np.isin` sorts all rows each time, 80 % of the time of drawing a *choice*."""
        return frozenset(self.shows.tolist()), frozenset(self.lacks.tolist())


def clear_cases(
    source: Source, texts: Sequence[str], images: int, rng: np.random.Generator, *, more: Sequence[str] = ()
) -> tuple[list[Clear], str]:
    """Descriptions whose presence is known: by the probe's annotations, or else where CLIP has no doubt.

    Of CLIP's, the clearest are taken: each is the best description of at least `images` images, and the last of these
    matches it well, in standard deviations.

    Args:
        source: the annotations, or the matches.
        texts: the descriptions of the study.
        images: how many rows each case must have on either side.
        rng: draws among annotated images.
        more: other descriptions of the run, from which CLIP's clearest are chosen too.

    Returns:
        The cases, and what they rest on: `annotations` or `clip`. People have not looked at those of CLIP: look before
        you send them out.
    """
    rows = np.sort(rng.permutation(source.images)[:ANNOTATED_IMAGES])
    cases = []
    for text in texts if source.annotated is not None else ():
        shown = source.annotated(text, rows.tolist()) if source.annotated is not None else None
        if shown is not None and shown.sum() >= images and (~shown).sum() >= images:
            cases.append(Clear(text, rng.permutation(rows[shown]), rng.permutation(rows[~shown])))
    if len(cases) > 1:
        return cases, "annotations"
    pool = list(dict.fromkeys((*texts, *rng.permutation(list(more)).tolist())))[:CLIP_TEXTS]
    return _clear_for_clip(source, [text for text in pool if _is_matched(source, text)], images, rng), "clip"


def _clear_for_clip(source: Source, pool: Sequence[str], images: int, rng: np.random.Generator) -> list[Clear]:
    """The descriptions that are the best of all for enough images.

    By its own matches alone, every description of things in streets would have the same street scenes.
    """
    rows = np.sort(rng.permutation(source.images)[:CLIP_IMAGES])
    matches = np.stack([standardise(source.match(text))[rows] for text in pool]).astype(np.float32)
    for best in (1, 5, len(pool)):
        ranks = np.argsort(np.argsort(-matches, axis=0), axis=0) if best > 1 else None
        among = matches == matches.max(axis=0) if ranks is None else ranks < best
        clear: list[tuple[float, Clear]] = []
        for number, text in enumerate(pool):
            order = np.argsort(-np.where(among[number], matches[number], -np.inf), kind="stable")[:images]
            if len(order) == images and among[number][order[-1]]:
                weakest = np.argsort(matches[number])[: max(images, len(rows) // 50)]
                matches_here = np.full(source.images, np.nan, dtype=np.float32)
                matches_here[rows] = matches[number]
                case = Clear(text, rows[order], rng.permutation(rows[weakest]), matches_here)
                clear.append((float(matches[number][order[-1]]), case))
        if len(clear) > 1:
            break
    return [case for _, case in sorted(clear, key=lambda pair: -pair[0])[:CLIP_CASES]]


def _is_matched(source: Source, text: str) -> bool:
    """Whether the match of a description is known: finished embeddings may lack what another method says."""
    try:
        source.match(text)
    except MissingTexts:
        return False
    return True


def draw_known(
    design: Design, cases: Sequence[Clear], count: int, *, kind: Literal["catch", "practice"], images: int,
    rng: np.random.Generator,
) -> list[Trial]:  # fmt: skip
    """Trials with a known answer, half of them a yes, in a drawn order; they look like tasks.

    Raises:
        InputError: fewer than two descriptions to make them of.
    """
    if len(cases) < 2:
        raise InputError("trials of known answer need two different descriptions; draw more units with --units")
    makers = {
        "rating": _known_rating,
        "presence": _known_presence,
        "choice": _known_choice,
        "intruder": _known_intruder,
    }
    trials = []
    for number, trial_id in enumerate(trial_ids(count, rng)):
        turn = number % len(cases)
        if turn == 0:
            cases = [cases[number_of] for number_of in rng.permutation(len(cases))]
        shown, texts, accept = makers[design](cases[turn], cases, number % 2 == 0, images, rng)
        trials.append(Trial(trial_id, tuple(int(row) for row in shown), texts, kind, {"accept": accept}))
    return [trials[number_of] for number_of in rng.permutation(count)]


def _other(case: Clear, cases: Sequence[Clear], rows: np.ndarray, rng: np.random.Generator) -> Clear:
    """Another description that is on none of the rows where that is known, and otherwise on fewest of them.

    Of CLIP's, one of the least like them: a fifth, so that it is not always the same.
    """
    others = [other for other in cases if other.text != case.text]
    likeness = np.array([other.likeness(rows) for other in others])
    level = likeness.min() if case.match is None else np.quantile(likeness, 0.2)
    return others[int(rng.choice(np.flatnonzero(likeness <= level)))]


def _known_rating(case, cases, fits, images, rng):
    rows = case.shows[:images]
    text = case.text if fits else _other(case, cases, rows, rng).text
    return rows, (text,), [4, 5] if fits else [1, 2]


def _known_presence(case, cases, fits, images, rng):
    del cases, images
    return [rng.choice(case.shows if fits else case.lacks)], (case.text,), ["yes" if fits else "no"]


def _known_choice(case, cases, fits, images, rng):
    """Half of them have the right description among the options, the others none."""
    rows, texts = case.shows[:images], [case.text] if fits else []
    left = list(cases)
    while len(texts) < FEWEST_OPTIONS and len(left) > 1 and any(other.text != case.text for other in left):
        other = _other(case, left, rows, rng)
        left = [candidate for candidate in left if candidate.text != other.text]
        texts.append(other.text)
    order = rng.permutation(len(texts)).tolist()
    accept = [order.index(0)] if fits else [NONE]
    return rows, tuple(texts[index] for index in order), accept


def _known_intruder(case, cases, fits, images, rng):
    del cases, fits
    position = int(rng.integers(images))
    return np.insert(case.shows[: images - 1], position, rng.choice(case.lacks)), (), [position]


def deal(tasks: Sequence[Trial], catch: Sequence[Trial], *, batch: int, rng: np.random.Generator) -> list[list[str]]:
    """Batches of task ids in a drawn order, with a set of catch trials at drawn places among each.

    Args:
        tasks: of all units.
        catch: `CATCH_SETS` sets of equal size.
        batch: tasks of one batch; the last may have fewer.
        rng: draws.
    """
    order = [tasks[index].id for index in rng.permutation(len(tasks))]
    size = len(catch) // CATCH_SETS
    batches = []
    for number, start in enumerate(range(0, len(order), batch)):
        first = number % CATCH_SETS * size
        ids = [*order[start : start + batch], *(trial.id for trial in catch[first : first + size])]
        batches.append([ids[index] for index in rng.permutation(len(ids))])
    return batches
