"""A grid of units with their labels and the images that excite them most, as a PNG.

python -m experiments.qualitative.grid RUN OUT.png [--layer layer4] [--units 0 5 9 | --count 12] [--images 5]
"""

import argparse
from pathlib import Path

import numpy as np

from cd_exp.errors import InputError
from cd_exp.evaluation.evaluate import list_top_images
from cd_exp.io.atomic import write_file
from cd_exp.results.image_strips import encode_png
from cd_exp.results.plots import draw_grid
from cd_exp.results.summary import ShownUnit, format_truth, is_label_right, spread_evenly
from experiments.against_published import say
from experiments.reopening import reopen


def main(arguments: list[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description="Units with their labels and top images.")
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("out", type=Path, metavar="OUT.png", help="the image to write")
    parser.add_argument("--layer", default="layer4", help="the layer to show")
    parser.add_argument("--units", type=int, nargs="+", help="which units; else --count of them, spread evenly")
    parser.add_argument("--count", type=int, default=12, help="how many units")
    parser.add_argument("--images", type=int, default=5, help="images of each")
    asked = parser.parse_args(arguments)
    run = reopen(asked.run)
    run.activations(asked.layer)
    labels = run.data.labels[asked.layer]
    units = asked.units or spread_evenly(len(labels.units), asked.count)
    if max(units) >= len(labels.units) or min(units) < 0:
        raise InputError(f"{asked.layer} has units 0 to {len(labels.units) - 1}, not {max(units)}")
    best = np.asarray(list_top_images(run.data, asked.layer, asked.images))
    shown = [
        ShownUnit(asked.layer, unit, labels.descriptions[unit], ", ".join(format_truth(labels, unit)),
              is_label_right(labels, unit),
              tuple(best[unit].tolist()))
        for unit in units
    ]  # fmt: skip
    write_file(asked.out, encode_png(draw_grid(run.parts.probe, shown)))
    return f"{len(shown)} units of {asked.layer}: {asked.out}"


if __name__ == "__main__":
    say(main)
