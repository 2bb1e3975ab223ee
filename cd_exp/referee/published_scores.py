"""Scores that others published of each unit's explanation: read from their tables, and laid beside ours.

| table | columns needed |
| --- | --- |
| of labels | `unit`, `description`, `sim correlation` |
| of weighted sums | `unit`, `concept0`, `weight0`, ..., `sim correlation` |

Other columns that begin with `sim` are scores too. Units count from 0. A table is called as its folder, and its layer
is what its column `layer` says, or else the last part of its name: `MILAN/resnet50_imagenet_layer4.csv`.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from cd_exp.errors import InputError
from cd_exp.io.text import decode_text, refuse_repeated
from cd_exp.metrics.intervals import clopper_pearson_interval
from cd_exp.metrics.significance import rank_correlations
from cd_exp.records import Labels

SCORE = "sim correlation"
"""The published simulation correlation, which every table has."""
LEVELS = (0.025, 0.975)
RESAMPLES, AT_ONCE = 2000, 200


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """One published table of one layer, in unit order.

    Attributes:
        method: as its folder is called.
        network: the first part of the file's name.
        layer: of the units.
        units: counted from 0.
        labels: of each unit; of a weighted sum its first concept, which has the largest weight.
        explanations: of each unit, a weighted sum as `0.73 dog + 0.20 cat`.
        scores: by column.
    """

    method: str
    network: str
    layer: str
    units: Int[np.ndarray, " units"]
    labels: tuple[str, ...]
    explanations: tuple[str, ...]
    scores: Mapping[str, Float[np.ndarray, " units"]]

    @property
    def score(self) -> Float[np.ndarray, " units"]:
        """The simulation correlation."""
        return self.scores[SCORE]

    def as_labels(self) -> Labels:
        """The labels as those of any method; what explains a unit is its whole sum."""
        tops = tuple((label,) if label else () for label in self.labels)
        return Labels(self.layer, self.units, tops, self.score, judged_label=self.explanations)


def read_score_table(path: Path) -> ScoreTable:
    """A table as published with arXiv:2405.06855.

    Raises:
        InputError: it cannot be read, lacks a column, lists a unit twice, or holds what is no number.
    """
    try:
        text = decode_text(path.read_bytes(), path)
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows = list(reader)
    except (OSError, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read as a table of scores: {getattr(error, 'strerror', None) or error}"
        ) from error
    header = list(reader.fieldnames or ())
    refuse_repeated(header, path)
    sums = "description" not in header
    for name in ("unit", SCORE, "concept0" if sums else "description"):
        if name not in header:
            raise InputError(
                f"{path} has no column {name!r} but {','.join(header[:6])}; expected unit, description or concept0, "
                f"weight0, ..., and {SCORE}"
            )
    if not rows:
        raise InputError(f"{path} is empty; expected a header and one line per unit")
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise InputError(f"{path}, line {number}: not the {len(header)} columns of the header")
    units = _sort_units(path, rows)
    layers = dict.fromkeys(row.get("layer", "").strip() for row in rows)
    if len(layers) > 1:
        raise InputError(f"{path} is of several layers, {', '.join(map(repr, layers))}; give a table of each")
    terms = [_terms(path, row) if sums else [(1.0, row["description"].strip())] for row in rows]
    network, _, layer = path.stem.rpartition("_")
    return ScoreTable(
        method=path.resolve().parent.name,
        network=network,
        layer=next(iter(layers)) or layer or path.stem,
        units=units,
        labels=tuple(own[0][1] if own else "" for own in terms),
        explanations=tuple(" + ".join(f"{w:.2f} {name}" for w, name in own) if sums else own[0][1] for own in terms),
        scores={
            name: np.array([_number(path, row, name) for row in rows]) for name in header if name.startswith("sim ")
        },
    )


def _sort_units(path: Path, rows: list[dict[str, str]]) -> Int[np.ndarray, " units"]:
    """Put the rows in unit order, each unit once."""
    wrong = next((row["unit"] for row in rows if not row["unit"].strip().isdecimal()), None)
    if wrong is not None:
        raise InputError(f"{path} lists unit {wrong!r}; expected whole numbers from 0")
    rows.sort(key=lambda row: int(row["unit"]))
    units = np.array([int(row["unit"]) for row in rows])
    twice = units[1:][np.diff(units) == 0]
    if len(twice):
        raise InputError(f"{path} lists unit {twice[0]} twice; each stands once")
    return units


def _terms(path: Path, row: Mapping[str, str]) -> list[tuple[float, str]]:
    """The weighted concepts of a sum; unused columns hold 0."""
    terms = []
    for index in range(len(row)):
        name = row.get(f"concept{index}", "0")
        if name.strip() in ("0", ""):
            break
        terms.append((_number(path, row, f"weight{index}"), name.strip()))
    return terms


def _number(path: Path, row: Mapping[str, str], column: str) -> float:
    try:
        value = float(row[column])
    except (ValueError, KeyError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{path}, unit {row.get('unit', '?')}: {column} {row.get(column)!r} is no finite number")
    return value


@dataclass(frozen=True)
class Agreement:
    """Published scores beside ours, over the units that have both.

    Attributes:
        first: the method of the published table.
        second: another one, where winners are compared.
        statistic: `spearman`, of the two scores over units; `winner`, the share of units in which the same of two
            methods scores higher by both.
        value: of the statistic.
        interval: its 95 % interval.
        units: how many have both scores; units in which one of the two scores is equal for both methods have no winner.
        known: the share of units whose labels our judge can score.
    """

    layer: str
    first: str
    second: str
    statistic: str
    value: float
    interval: tuple[float, float]
    units: int
    known: float

    @property
    def verdict(self) -> str:
        """What it says of our judge on these data."""
        low, high = self.interval
        if self.statistic == "winner":
            if low <= 0.5 <= high:
                return "cannot rank: agreement is not beyond chance"
            return "ranks as published" if low > 0.5 else "ranks against the published scores"
        return "unrelated within chance" if low <= 0 <= high else "related" if low > 0 else "related the other way"


def spearman(
    published: Float[np.ndarray, " units"], ours: Float[np.ndarray, " units"], *, seed: int
) -> tuple[float, tuple[float, float]]:
    """Spearman's correlation of two scores over units, with its percentile bootstrap interval.

    >>> round(spearman(np.arange(9.0), np.arange(9.0) ** 2, seed=0)[0], 6)
    1.0
    """
    random, drawn = np.random.default_rng(seed), []
    for _ in range(RESAMPLES // AT_ONCE):
        rows = random.integers(0, len(ours), (AT_ONCE, len(ours)))
        drawn.append(np.nan_to_num(rank_correlations(published[rows], ours[rows])))
    low, high = np.quantile(np.concatenate(drawn), LEVELS)
    return float(np.nan_to_num(rank_correlations(published, ours))), (float(low), float(high))


def winners_agree(
    published: tuple[np.ndarray, np.ndarray], ours: tuple[np.ndarray, np.ndarray]
) -> Bool[np.ndarray, " units"]:
    """For each unit with a winner by both scores, whether it is the same one of two methods.

    >>> one, other = np.array([0.9, 0.1, 0.5]), np.array([0.2, 0.3, 0.5])
    >>> winners_agree((one, other), (one, one[::-1])).tolist()
    [True]
    """
    signs = [np.sign(first - second) for first, second in (published, ours)]
    decided = (signs[0] != 0) & (signs[1] != 0)
    return signs[0][decided] == signs[1][decided]


def lay_beside(
    tables: Sequence[ScoreTable], ours: Mapping[str, Float[np.ndarray, " units"]], *, seed: int = 0
) -> list[Agreement]:
    """Published scores of some methods on one layer beside our judge's scores of the same labels.

    Args:
        tables: of one layer, a method each.
        ours: by method, our score of each unit in the table's order, NaN where the judge cannot score the label.
        seed: of the bootstrap.
    """
    agreements = []
    for number, table in enumerate(tables):
        scored = ~np.isnan(ours[table.method])
        if scored.sum() >= 3:
            value, interval = spearman(table.score[scored], ours[table.method][scored], seed=seed)
            agreements.append(Agreement(table.layer, table.method, "", "spearman", value, interval, int(scored.sum()),
                                   float(scored.mean())))  # fmt: skip
        for other in tables[number + 1 :]:
            _, rows, others = np.intersect1d(table.units, other.units, assume_unique=True, return_indices=True)
            pair = ours[table.method][rows], ours[other.method][others]
            both = ~np.isnan(pair[0]) & ~np.isnan(pair[1])
            same = winners_agree((table.score[rows][both], other.score[others][both]), (pair[0][both], pair[1][both]))
            if len(same):
                low, high = clopper_pearson_interval(same)
                agreements.append(Agreement(table.layer, table.method, other.method, "winner", float(same.mean()),
                                       (low / 100, high / 100), len(same), float(both.mean())))  # fmt: skip
    return agreements
