"""Runtime: `python -m experiments.runtime.table DIR...`, seconds by stage beside the published."""

import argparse
import json
from pathlib import Path

from experiments.against_published import jobs, say

CLAIM = Path(__file__).parent


def main(arguments: list[str] | None = None) -> str:
    """One row a run; the published time is for `experiment=runtime` on other hardware, so no interval can hold it."""
    parser = argparse.ArgumentParser(description="Seconds by stage, beside the published.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folders of runs or sweeps")
    finished_jobs = jobs(parser.parse_args(arguments).folders)
    expected = json.loads((CLAIM / "expected.json").read_text(encoding="utf-8"))
    lines = [
        "| model | probe | images | units | device | made | features s | similarity s | total s | published s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for job in finished_jobs:
        manifest = json.loads((job.folder / "manifest.json").read_text(encoding="utf-8"))
        seconds = json.loads((job.folder / "metrics.json").read_text(encoding="utf-8"))["seconds"]
        units = sum(layer["units"] for layer in job.layers.values())
        published_seconds = [row["values"]["total"] for row in expected["rows"]
                 if all(job.value(axis) == value for axis, value in row["where"].items())]  # fmt: skip
        cells = [job.value("model"), job.value("probe"), manifest["images"]["used"], units, manifest["device"]]
        cells += [f"{len(manifest['cache']['made'])} entries", *(f"{seconds[name]:.1f}" for name in STAGES)]
        lines.append(f"| {' | '.join(map(str, [*cells, published_seconds[0] if published_seconds else '']))} |")
    return "\n".join([*lines, "", f"Published: {expected['source']}"])


STAGES = ("features", "similarity", "total")

if __name__ == "__main__":
    say(main)
