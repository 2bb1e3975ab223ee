"""Trains the two networks of the built-in synthetic data set `shapes` on CPU, and writes the files of the package.

python experiments/shapes_world/train.py --what clip --epochs 6
python experiments/shapes_world/train.py --what resnet --epochs 8
"""

import argparse
import time
from functools import partial
from pathlib import Path

import torch

from cd_exp import shapes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=("clip", "resnet"), required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--held-out", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=shapes.resnet_weights().parent)
    args = parser.parse_args()
    args.clock = partial(_clock, time.perf_counter())
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    if args.what == "clip":
        from contrastive import train
    else:
        from classifier import train
    train(args)
    print(f"took {args.clock()}")


def _clock(started: float) -> str:
    return f"{time.perf_counter() - started:.0f} s"


if __name__ == "__main__":
    main()
