"""What published scores of five methods say: means with intervals, collision, which differences are beyond chance.

python -m experiments.published_scores.analysis DIR [--layer resnet50_imagenet_layer4]

The folder holds `*/METHOD/NETWORK_LAYER.csv`, one line per unit with its simulation correlation.
"""

import argparse
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from cd_exp.errors import InputError, unknown_name_error
from cd_exp.metrics import adjust_p_values, describe_ranking, metrics
from cd_exp.metrics.intervals import bootstrap_interval
from cd_exp.metrics.significance import compare_means, least_detectable
from cd_exp.referee.published_scores import ScoreTable, read_score_table
from experiments.against_published import say

RESAMPLES = 9999
KEY = "correlation"


def tables_in(folder: Path) -> dict[str, list[ScoreTable]]:
    """The tables of each network's layers."""
    paths = sorted(folder.glob("*/*/*.csv"))
    if not paths:
        raise InputError(f"{folder} holds no */METHOD/NETWORK_LAYER.csv; give the folder of the published tables")
    tables: dict[str, list[ScoreTable]] = {}
    for path in paths:
        tables.setdefault(path.stem, []).append(read_score_table(path))
    return tables


def means(tables: Sequence[ScoreTable]) -> str:
    """A row for each method: its mean score and how its labels collide."""
    heads = ["method", "mean correlation [95 %]", "units", "distinct labels", "shared label", "label bits", "commonest"]
    lines = [heads, ["---"] * len(heads)]
    for table in tables:
        low, high = bootstrap_interval(table.score, seed=0, resamples=RESAMPLES) or (np.nan, np.nan)
        names = np.array([label for label in table.labels if label])
        commonest = f"{metrics.commonest_label(names)} ({metrics.commonest_share(names):.3f})"
        lines.append([
            table.method, f"{table.score.mean():.4f} [{low:.4f}, {high:.4f}]", str(len(table.units)),
            f"{metrics.distinct_labels(names):.3f}", f"{metrics.shared_label(names):.3f}",
            f"{metrics.label_bits(names):.2f}", commonest,
        ])  # fmt: skip
    return _rows(lines)


def differences(tables: Sequence[ScoreTable]) -> tuple[str, list[str]]:
    """A row for each two methods, and the sentence that says which differ beyond chance."""
    compared = []
    for first, second in combinations(sorted(tables, key=lambda table: -table.score.mean()), 2):
        _, rows, others = np.intersect1d(first.units, second.units, assume_unique=True, return_indices=True)
        a, b = first.score[rows], second.score[others]
        difference = compare_means(a, b, seed=0, resamples=RESAMPLES)
        compared.append({
            "layer": f"{first.network} {first.layer}", "first": first.method, "second": second.method,
            f"{KEY}_difference": difference.value, f"{KEY}_ci95": difference.interval, f"{KEY}_p": difference.p,
            f"{KEY}_least_detectable": least_detectable(a, b), "units": len(a),
        })  # fmt: skip
    heads = ["first", "second", "difference [95 %]", "p", "p, Holm", "least detectable", "units"]
    lines = [heads, ["---"] * len(heads)]
    for row in (rows := adjust_p_values(compared)):
        low, high = row[f"{KEY}_ci95"] or (np.nan, np.nan)
        lines.append([
            row["first"], row["second"], f"{row[f'{KEY}_difference']:+.4f} [{low:+.4f}, {high:+.4f}]",
            f"{row[f'{KEY}_p']:.2g}", f"{row[f'{KEY}_p_adjusted']:.2g}", f"{row[f'{KEY}_least_detectable']:.4f}",
            str(row["units"]),
        ])  # fmt: skip
    return _rows(lines), describe_ranking(rows, KEY)


def _rows(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the published tables")
    parser.add_argument("--layer", help="NETWORK_LAYER; all where not given")
    options = parser.parse_args(arguments)
    tables = tables_in(options.folder)
    if options.layer is not None and options.layer not in tables:
        raise unknown_name_error("layer", options.layer, tables, where=f"in {options.folder}")
    texts = []
    for layer in [options.layer] if options.layer else tables:
        table, sentences = differences(tables[layer])
        texts += [f"{layer}:", means(tables[layer]), table, *sentences]
    return "\n\n".join(texts)


if __name__ == "__main__":
    say(main)
