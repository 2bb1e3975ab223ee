"""`python -m benchmarks [name ...] [--quick]`: run benchmarks and write outputs/benchmarks/NAME.json.

A benchmark is a module of this package with `run_experiment(quick: bool, only: Sequence[str], runs: int) -> dict`;
name it below.
`python -m benchmarks same --before DIR [--only TEXT]` measures nothing: it compares what two checkouts write.
"""

import argparse
import datetime
import importlib
import json
import platform
import sys
from pathlib import Path

import torch

BENCHMARKS = (
    "similarity",
    "netdissect",
    "features",
    "cached_run",
    "sweep",
    "kill",
    "lists",
    "scale",
    "hub",
    "units",
    "labeller",
    "explorer",
    "many_units",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measured speed and memory.")
    parser.add_argument("names", nargs="*", help=f"which, all when not given: {', '.join(BENCHMARKS)}")
    parser.add_argument("--only", nargs="*", default=(), help="parts of a benchmark, as in --only soft_wpmi")
    parser.add_argument("--runs", type=int, default=5, help="runs that a median is taken of")
    parser.add_argument("--quick", action="store_true", help="an eighth of each size: does it run?")
    parser.add_argument("--folder", type=Path, default=Path("outputs/benchmarks"))
    parser.add_argument("--before", type=Path, help="with `are_same_name`: the other checkout")
    chosen = parser.parse_args()
    if chosen.names == ["same"]:
        from benchmarks import same

        sys.exit(0 if same.run(chosen.before or parser.error("same needs --before DIR"), "".join(chosen.only)) else 1)
    unknown = sorted(set(chosen.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; choose from {', '.join(BENCHMARKS)}")
    for name in chosen.names or BENCHMARKS:
        print(f"{name}: {machine()}", flush=True)
        record = importlib.import_module(f"benchmarks.{name}").run(chosen.quick, chosen.only, chosen.runs)
        chosen.folder.mkdir(parents=True, exist_ok=True)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        record = {"benchmark": name, "date": now, "machine": machine(), **record}
        (chosen.folder / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
        print(f"written to {chosen.folder / name}.json", flush=True)


def machine() -> str:
    models = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    cpu = models[0] if models else platform.processor() or platform.machine()
    return f"{cpu}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    main()
