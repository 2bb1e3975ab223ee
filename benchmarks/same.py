"""`make same BEFORE=DIR [ONLY=TEXT]`: what two checkouts write for the same command lines, compared byte for byte.

A move or a rename changes no result, and this shows it: about thirty command lines run in this checkout and in another
one, each with its own `run.py` and its own cache, and every table, metric, comparison and fingerprint must be equal.
Columns and keys that one of the two lacks are named, and the others compared. Only command lines are typed, so the two
checkouts may be laid out differently inside. Not compared are seconds, versions, the commit, pages and images.

Each checkout has one process, which loads torch and the like once and forks for each command line: begun anew, every
one of them would spend 3 CPU seconds on imports, 3 minutes in all.
"""

import argparse
import csv
import difflib
import io
import json
import os
import pkgutil
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT / "../shared/real"
SHOWN = 12  # lines of each difference
EVERY = (
    *("logger=none", "features.progress=false", "features.workers=0", "report.html=false", "report.figures=false"),
    *("report.explorer=none", "stability.resamples=5", "device=cpu"),
)
SMALL = ("probe.size=250",)
TWO_WORLDS = (
    *("probe=concat", "~probe.probes.imagenet_val", "~probe.probes.broden", "+probe@probe.probes.a=shapes"),
    *("+probe@probe.probes.b=shapes", "probe.probes.a.size=300", "probe.probes.b.size=200", "probe.probes.b.seed=7"),
)
PHOTOGRAPHS = ("experiment=real_photos", f"data_dir={REAL}", "model.layers=[fc]", "probe.limit=60", "probe.seed=1")
MATRIX = (
    *("units=matrix", "units.path=../files/matrix", "probe=ids", "probe.path=../files/matrix/images.txt"),
    *("clip=precomputed", f"clip.folder={REAL}/clip_vit_b_32", "concepts=file", "concepts.path=../files/words.txt"),
)
SAE = ("units=sae", "units.layer=layer3", "units.weights=../files/sae.npz")
LINES = {
    "cos": ("similarity=cos", *SMALL),
    "cos_cubed": ("similarity=cos_cubed", *SMALL),
    "rank_reorder": ("similarity=rank_reorder", *SMALL),
    "wpmi": ("similarity=wpmi", *SMALL),
    "soft_wpmi": ("stability.resamples=40", *SMALL),
    "mean_embedding": ("similarity=mean_embedding", *SMALL),
    "whitened_wpmi": ("similarity=whitened_wpmi", *SMALL),
    "whitened_wpmi_names": ("similarity=whitened_wpmi_names", *SMALL),
    "custom": ("similarity=custom", "similarity.function=../files/own.py:own", *SMALL),
    "judge_annotations": ("judge=annotations", *SMALL),
    "judge_clip": ("judge=clip", "judge.clip=shapes", *SMALL),
    "judge_images": ("judge=images", "judge.scenes=2", "judge.pairs=1", "similarity=wpmi", "model.layers=[fc]", *SMALL),
    "netdissect": ("baseline=netdissect", "judge=annotations", "model.layers=[layer4]", "probe.size=120"),
    "invert": ("baseline=invert", "baseline.beam=2", *SMALL),
    "linear_explanations": ("baseline=linear_explanations", "model.layers=[fc]", *SMALL),
    "published": ("baseline=published", "baseline.path=../soft_wpmi/run/labels.csv", "similarity=cos", *SMALL),
    "limit": ("judge=annotations", "probe.limit=300", "probe.size=400"),
    "limit_drawn": ("baseline=netdissect", "probe.size=200", "probe.limit=100", "model.layers=[layer4]"),
    "concat": ("judge=annotations", *TWO_WORLDS),
    "concat_limit": ("judge=annotations", "probe.limit=350", "probe.seed=3", *TWO_WORLDS),
    "two_objects": ("probe.objects=2", "judge=annotations", "probe.size=300"),
    "folder": ("probe=folder", "probe.root=../files/pictures", "probe.limit=40", "judge=annotations"),
    "sae": (*SAE, "units.activation=topk", "units.k=8", *SMALL),
    "directions": ("units=directions", "units.layer=layer3", "units.path=../files/directions.npy", *SMALL),
    "matrix": MATRIX,
    "lists": ("features.keep=lists", *SMALL),
    "words": ("concepts=words", "concepts.names=[red,circle,dots,blue star]", "seed=5", "top=3", *SMALL),
    "pages": ("report.html=true", "report.explorer=folder", "report.units=4", *SMALL),
    "photographs": PHOTOGRAPHS,
    "photographs_circular": (*PHOTOGRAPHS, "judge=clip", "judge.clip=precomputed", "similarity=cos"),
    "sweep": ("-m", "similarity=cos,soft_wpmi", "seed=0,1", "probe.size=300"),
    "two_processes": ("distributed.processes=2", "cache.dir=../cache_of_two", "probe.size=300", "judge=annotations"),
}  # fmt: skip
"""By name, what is typed behind `run.py`; the working folder is the line's own."""
TABLES = ("*.csv", "comparisons.json", "metrics.json", "manifest.json")


def run(before: Path, only: str) -> bool:
    """Whether two checkouts write the same; shows what differs.

    Args:
        before: the other checkout.
        only: part of the names of the command lines to run; empty for all.
    """
    chosen = [name for name in LINES if only in name or (name == "soft_wpmi" and only and only in "published")]
    if not chosen:
        sys.exit(f"error: no command line is called {only!r}; choose from {', '.join(LINES)}")
    if not (before / "run.py").is_file():
        sys.exit(f"error: BEFORE={before} holds no run.py; give the folder of another checkout")
    if not REAL.is_dir():
        chosen = [name for name in chosen if str(REAL) not in " ".join(LINES[name])]
    folder = Path(tempfile.mkdtemp(prefix="cd_exp_same_"))
    sides = {"before": before.resolve(), "after": ROOT}
    running = [_begin(folder / side, checkout, chosen) for side, checkout in sides.items()]
    equal = True
    for name in chosen:
        said = [json.loads(process.stdout.readline() or '{"status": "ended", "seconds": 0}') for process in running]  # type: ignore[union-attr]
        shown = [*_differences(folder, name, [one["status"] for one in said])]
        equal = equal and not shown
        seconds = ", ".join(f"{one['seconds']:.1f} s" for one in said)
        print(f"{'same     ' if not shown else 'DIFFERENT'} {name} ({seconds})", *shown, sep="\n    ", flush=True)
    for process in running:
        process.wait()
    if equal:
        shutil.rmtree(folder)
        print(f"{len(chosen)} command lines, the same in {sides['before']} and {ROOT}")
    else:
        print(f"what both wrote lies in {folder}")
    return equal


def _begin(folder: Path, checkout: Path, names: list[str]) -> "subprocess.Popen[str]":
    """The process of a checkout: -P keeps this file's folder, whose modules are this checkout's, out of its path."""
    _write_files(folder / "files")
    environment = {**os.environ, "PYTHONPATH": str(checkout), "CD_EXP_CACHE": str(folder / "cache")}
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MPLBACKEND": "agg", "COLUMNS": "200"}
    command = [sys.executable, "-P", __file__, "--checkout", str(checkout), "--folder", str(folder), *names]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def _write_files(folder: Path) -> None:
    """What the command lines read: an encoder, directions, activations, images, words and a function of one's own."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    (folder / "matrix").mkdir(parents=True)
    width, latents = 192, 32
    np.savez(folder / "sae.npz", W_enc=random.standard_normal((width, latents), np.float32),
             b_enc=np.zeros(latents, np.float32), W_dec=random.standard_normal((latents, width), np.float32),
             b_dec=np.zeros(width, np.float32))  # fmt: skip
    np.save(folder / "directions.npy", random.standard_normal((12, width), np.float32))
    if REAL.is_dir():
        ids = (REAL / "clip_vit_b_32/images.txt").read_text()
        (folder / "matrix/images.txt").write_text(ids)
        np.save(folder / "matrix/made.npy", random.standard_normal((len(ids.split("\n")) - 1, 20), np.float32))
        words = (REAL / "clip_vit_b_32/imagenet_names.txt").read_text().splitlines()[:300]
        (folder / "words.txt").write_text("\n".join(dict.fromkeys(words)) + "\n")
    for number in range(60):
        kind = ("red", "blue", "stripes")[number % 3]
        (folder / "pictures" / kind).mkdir(parents=True, exist_ok=True)
        pixels = (
            random.integers(0, 256, (48, 48, 3)) * {"red": [1, 0, 0], "blue": [0, 0, 1], "stripes": [1, 1, 1]}[kind]
        )
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "pictures" / kind / f"{number:03d}.png")
    (folder / "own.py").write_text("def own(match, neurons):\n    return neurons.T @ (match.images @ match.texts.T)\n")


def _differences(folder: Path, name: str, statuses: list[Any]) -> Iterator[str]:
    """Lines that say what differs between what the two checkouts wrote for one command line."""
    before, after = (folder / side / name for side in ("before", "after"))
    for side, status in zip((before, after), statuses, strict=True):
        if status != 0:
            yield f"{side.parent.name}: exit status {status}"
            yield from (side / "said.txt").read_text(errors="replace").splitlines()[-6:]
    compared = [_compared(side) for side in (before, after)]
    if not any(compared):
        yield "neither wrote anything that can be compared"
    for path in sorted({*compared[0], *compared[1]}):
        texts = [one.get(path) for one in compared]
        if texts[0] is None or texts[1] is None:
            yield f"{path}: only {'after' if texts[0] is None else 'before'}"
        elif texts[0] != texts[1]:
            yield from _text_differences(path, texts[0], texts[1])


def _text_differences(path: str, before: str, after: str) -> Iterator[str]:
    """Columns and keys that one side lacks, by name; then the lines that differ in what both have."""
    split = _table_columns if path.endswith(".csv") else _json_values
    parts = split(before), split(after)
    for one, other, side in ((parts[0], parts[1], "before"), (parts[1], parts[0], "after")):
        alone = dict.fromkeys(key.rpartition("/")[2] for key in one if key not in other)
        if alone:
            yield f"{path}: only {side}: {', '.join(alone)}"
    shared = [key for key in parts[0] if key in parts[1]]
    texts = [[line for key in shared for line in _lines(key, part[key])] for part in parts]
    lines = list(difflib.unified_diff(*texts, "before", "after", "", "", 0, ""))
    if lines:
        yield f"{path}: {sum(line[0] in '+-' for line in lines[2:])} lines differ"
        yield from (line[:160] for line in lines[2 : 2 + SHOWN])


def _lines(key: str, value: Any) -> list[str]:
    """A cell or a value per line, behind the name of its column or key."""
    return [f"{key} {cell}" for cell in value] if isinstance(value, list) else [f"{key} {value}"]


def _table_columns(text: str) -> dict[str, Any]:
    """The cells of each column, each behind its row's layer and unit, or its number."""
    header, *rows = csv.reader(io.StringIO(text))
    names = [" ".join(row[:2]) if header[:2] == ["layer", "unit"] else str(n) for n, row in enumerate(rows, 1)]
    columns = zip(header, zip(*rows, strict=True), strict=True) if rows else ((name, ()) for name in header)
    return {column: [f"{name} {cell}" for name, cell in zip(names, cells, strict=False)] for column, cells in columns}


def _json_values(text: str) -> dict[str, Any]:
    """The values by their path of keys; a list of plain values is one value."""

    def walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict):
            for key, part in value.items():
                yield from walk(part, f"{path}/{key}" if path else key)
        elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
            for number, part in enumerate(value):
                yield from walk(part, f"{path}/{number}")
        else:
            yield path, json.dumps(value)

    return dict(walk(json.loads(text), ""))


def _compared(folder: Path) -> dict[str, str]:
    """The text of each file that is compared, by its path in the folder, without what may differ."""
    texts = {}
    for path in {path for pattern in TABLES for path in folder.rglob(pattern)}:
        text = path.read_bytes().decode(errors="surrogateescape")
        if path.name == "metrics.json":
            text = json.dumps({key: part for key, part in json.loads(text).items() if key != "seconds"}, indent=1)
        if path.name == "manifest.json":
            text = json.dumps({key: json.loads(text)[key] for key in ("fingerprints", "images", "layers")}, indent=1)
        texts[path.relative_to(folder).as_posix()] = _without_seconds(text) if "sweep" in folder.name else text
    return texts


def _without_seconds(text: str) -> str:
    """A sweep's tables have a column of seconds."""
    header, _, _ = text.partition("\n")
    columns = [number for number, cell in enumerate(header.split(",")) if "second" in cell or cell in ("folder", "job")]
    if "," not in header or not columns:
        return text
    return "\n".join(
        ",".join(c for n, c in enumerate(line.split(",")) if n not in columns) for line in text.split("\n")
    )


def serve(checkout: Path, folder: Path, names: list[str]) -> None:
    """Run the command lines in turn, each in a fork, and print a line of JSON after each."""
    import time

    import cd_exp  # the checkout's, before torch: it says how the threads of OpenMP wait

    for module in ("torch", "torchvision", "timm", "open_clip", "scipy.stats", "hydra.main", "matplotlib.pyplot"):
        __import__(module)
    for submodule in pkgutil.walk_packages(cd_exp.__path__, "cd_exp."):  # whatever its modules are called
        if not submodule.name.endswith("__main__"):
            with suppress(ImportError):  # the extra is not installed
                __import__(submodule.name)
    assert Path(cd_exp.__file__).parents[1] == checkout, f"{cd_exp.__file__} is not of {checkout}"
    for name in names:
        where = folder / name
        where.mkdir()
        began = time.perf_counter()
        child = os.fork()
        if not child:
            _obey(checkout, where, LINES[name])
        _, status = os.waitpid(child, 0)
        record = {"status": os.waitstatus_to_exitcode(status), "seconds": time.perf_counter() - began}
        print(json.dumps(record), flush=True)


def _obey(checkout: Path, where: Path, line: tuple[str, ...]) -> None:
    """One command line in the fork of its own, which ends here."""
    os.chdir(where)
    said = os.open("said.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1)
    os.dup2(said, 2)
    folder = "hydra.sweep.dir=run" if "-m" in line else "hydra.run.dir=run"
    keys = {setting.partition("=")[0] for setting in line}
    every = [setting for setting in EVERY if setting.partition("=")[0] not in keys]
    sys.argv = ["run.py", *every, folder, *line]
    status: Any = 1
    try:
        runpy.run_path(str(checkout / "run.py"), run_name="__main__")
        status = 0
    except SystemExit as error:
        status = error.code or 0
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--checkout", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("names", nargs="*")
    asked = parser.parse_args()
    serve(asked.checkout, asked.folder, asked.names)
