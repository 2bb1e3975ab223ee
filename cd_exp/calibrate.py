"""`python -m cd_exp.calibrate RUN --layer NAME --out FILE`: constants of p_right fitted on a run of your own."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cd_exp.calibration import RUN_SPECIFIC, calibration_error, error_of_perfect, fit, p_right
from cd_exp.errors import InputError, OneLineParser, as_refusal, unknown_name_error
from cd_exp.io.atomic import write_file as write_file
from cd_exp.io.text import escape_for_terminal
from cd_exp.metrics.selective import auc
from cd_exp.records import Labels
from cd_exp.results.labels_csv import read_labels_csv
from cd_exp.results.load_run import read_manifest_file


def calibrate(folder: Path, layer: str) -> dict[str, Any]:
    """The constants of one layer of a finished run whose truth is known, with what they are worth.

    The constants are fitted on all units; the errors beside them (`held_out`) on every second unit, with constants of
    the others. A layer whose half cannot be fitted has none.

    Raises:
        InputError: no such run or layer, no stability or truth in it, or too few units.
    """
    manifest = read_manifest_file(folder)
    layers = read_labels_csv(folder / "labels.csv")
    if layer not in layers:
        raise unknown_name_error("layer", layer, layers, where=f"in {folder}")
    stability, margin, right = _known_units(layers[layer], folder)
    return {
        **_function(manifest, layer),
        "p_right": asdict(fit(stability, margin, right)),
        "fitted_on": {
            "layer": layer,
            "units": len(right),
            "right": float(right.mean()),
            "choices": manifest.get("choices", {}),
        },
        **_held_out(stability, margin, right),
    }


def _held_out(stability: np.ndarray, margin: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """What constants of one half are worth on the other; nothing where they cannot be fitted."""
    even = np.arange(len(right)) % 2 == 0
    try:
        constants = fit(stability[even], margin[even], right[even])
    except InputError:
        return {}
    odd = ~even
    shares = p_right(stability[odd], margin[odd], constants)
    areas = {"auc": auc(shares, right[odd]), "auc_of_stability": auc(stability[odd], right[odd])}
    return {
        "held_out": {
            "units": int(odd.sum()),
            "mean": float(shares.mean()),
            "right": float(right[odd].mean()),
            "calibration_error": calibration_error(shares, right[odd]),
            "calibration_error_of_perfect": error_of_perfect(shares),
            **{name: area for name, area in areas.items() if area is not None},
        }
    }


def _known_units(labels: Labels, folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stability, margin and verdict of the units whose truth is known."""
    if labels.stability is None or labels.margin is None:
        raise InputError(f"{labels.layer} of {folder} has no stability; run it again with stability.resamples=40")
    if labels.ranks is None:
        raise InputError(f"{labels.layer} of {folder} has no known truth; give a layer whose units are classes")
    has_truth = ~np.isnan(labels.ranks)
    return labels.stability[has_truth], labels.margin[has_truth], labels.ranks[has_truth] == 1


def _function(manifest: Mapping[str, Any], layer: str) -> dict[str, Any]:
    """The similarity function of the run, with the prior that it chose for the layer."""
    node = dict(manifest.get("config", {}).get("similarity") or {})
    name = str(node.pop("_target_", "")).rpartition(".")[2]
    settings = {key: value for key, value in node.items() if key != "_partial_" and key not in RUN_SPECIFIC}
    if settings.get("prior_weight") == "auto":
        settings["prior_weight"] = manifest["priors"][layer]["prior_weight"]
    return {"similarity": name, "settings": settings}


def main(arguments: list[str] | None = None) -> int:
    """Fit the constants that the command line asks for.

    Returns:
        The exit status: 0, or 2 for what the user can mend.
    """
    parser = OneLineParser(
        prog="python -m cd_exp.calibrate",
        description="Fit the constants of p_right, the probability that a label is right, on a layer of a finished run "
        "whose truth is known. Other runs take them with calibration.path=FILE.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--layer", required=True, help="a layer whose truth is known, such as fc")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="where the constants go, as JSON")
    parser.add_argument("--json", action="store_true", help="print what is written in place of a summary")
    options = parser.parse_args(arguments)
    try:
        constants = calibrate(options.run, options.layer)
        text = json.dumps(constants, indent=2) + "\n"
        write_file(options.out, text)
    except (InputError, OSError) as error:
        print(f"error: {escape_for_terminal(as_refusal(error))}", file=sys.stderr)
        return 2
    print(text if options.json else _summary(constants, options.out), end="")
    return 0


FEW = 10
"""Below so many right or wrong units, the constants hang on each of them."""


def _summary(constants: Mapping[str, Any], out: Path) -> str:
    held, own = constants.get("held_out"), constants["fitted_on"]
    right = round(own["units"] * own["right"])
    lines = [f"fitted on {own['units']} units of {own['layer']}, {100 * own['right']:.1f} % right"]
    if held is None:
        lines.append("too few right or wrong units to check the constants of one half on the other")
    else:
        area = f", AUC {held['auc']:.3f} (stability alone {held['auc_of_stability']:.3f})" if "auc" in held else ""
        lines.append(
            f"one half with constants of the other: mean p {held['mean']:.3f}, right {held['right']:.3f}, calibration "
            f"error {held['calibration_error']:.3f} (a perfect p: {held['calibration_error_of_perfect']:.3f}){area}"
        )
    for count, kind in ((right, "right"), (own["units"] - right, "wrong")):
        if count < FEW:
            lines.append(f"note: only {count} {kind}: the constants hang on {'it' if count == 1 else 'these'}")
    return "\n".join([*lines, f"use it: calibration.path={out}", ""])


if __name__ == "__main__":
    sys.exit(main())
